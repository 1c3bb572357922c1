// SPDX-License-Identifier: Apache-2.0
// TopK along every axis against a stable sort; the number of parts does not matter.
#include "edgert/cpu/ops/top_k.h"

#include <algorithm>
#include <numeric>

#include "several_outputs.h"

using namespace edgert;
using namespace edgert::test;

TEST_CASE("TopK: every axis, type and layout") {
  std::mt19937 random(8);
  const Dims dims = {3, 17, 4};
  for (const DType type : {DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::U64, DType::I64}) {
    for (std::int32_t axis = 0; axis < 3; ++axis) {
      const auto a = static_cast<std::size_t>(axis);
      for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, std::int64_t{3}, dims[a]}) {
        for (const bool smallest : {false, true}) {
          for (const std::uint32_t parts : {1u, 5u}) {
            Tensor x(type, dims, axis == 0 ? Order::Reversed : Order::RowMajor, 1);
            for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, random() % 6);
            Dims out = dims;
            out[a] = std::min(k, dims[a]);
            Tensor values(type, out), indices(DType::I64, out, Order::Reversed);
            REQUIRE(run_several<cpu::TopK>({x.view()}, {values.view(), indices.view()}, {axis, smallest, out[a]}, parts).ok());
            for (std::int64_t i = 0; i < values.elements(); ++i) {
              Dims at = unravel(i, out);
              const std::int64_t rank = at[a];
              const auto value = [&](std::int64_t position) {
                Dims from = at;
                from[a] = position;
                return x.get(ravel(from, dims));
              };
              std::vector<std::int64_t> order(static_cast<std::size_t>(dims[a]));
              std::iota(order.begin(), order.end(), 0);
              std::stable_sort(order.begin(), order.end(), [&](std::int64_t p, std::int64_t q) {
                return smallest ? value(p) < value(q) : value(p) > value(q);
              });
              const std::int64_t expected = order[static_cast<std::size_t>(rank)];
              REQUIRE(indices.get_int(i) == expected);
              REQUIRE(values.get(i) == value(expected));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("TopK: a k of the run must be the one that was built for; NaN is the largest") {
  Tensor x(DType::F32, {4});
  const double numbers[] = {1, NAN, 5, 2};
  for (int i = 0; i < 4; ++i) x.set(i, numbers[i]);
  Tensor values(DType::F32, {2}), indices(DType::I64, {2}), k(DType::I64, {1});
  k.set_int(0, 2);
  REQUIRE(run_several<cpu::TopK>({x.view(), k.view()}, {values.view(), indices.view()}, {0, 0, 2}).ok());
  CHECK(indices.get_int(0) == 1);
  CHECK(indices.get_int(1) == 2);
  for (const std::int64_t other : {std::int64_t{1}, std::int64_t{3}, std::int64_t{-1}, INT64_MIN}) {
    k.set_int(0, other);
    CHECK(run_several<cpu::TopK>({x.view(), k.view()}, {values.view(), indices.view()}, {0, 0, 2}).error() == Error::ExtentMismatch);
  }
}

TEST_CASE("TopK: check refuses") {
  const Tensor x(DType::F32, {2, 4});
  const Tensor values(DType::F32, {2, 3});
  const Tensor indices(DType::I64, {2, 3});
  const auto wrong = [](const TensorView& a, const TensorView& b, const TensorView& c, const cpu::TopKAttributes& attributes) {
    return check_several<cpu::TopK>({a}, {b, c}, attributes) != nullptr;
  };
  CHECK_FALSE(wrong(x.view(), values.view(), indices.view(), {1, 0, 3}));
  CHECK(wrong(x.view(), values.view(), indices.view(), {1, 0, 2}));
  CHECK(wrong(x.view(), values.view(), indices.view(), {0, 0, 3}));
  CHECK(wrong(x.view(), values.view(), indices.view(), {2, 0, 3}));
  CHECK(wrong(x.view(), Tensor(DType::F64, {2, 3}).view(), indices.view(), {1, 0, 3}));
  CHECK(wrong(x.view(), values.view(), Tensor(DType::I32, {2, 3}).view(), {1, 0, 3}));
  CHECK(wrong(Tensor(DType::F32, {2, 2}).view(), values.view(), indices.view(), {1, 0, 3}));
}

TEST_CASE("TopK: random operands stay inside") {
  survive_random<cpu::TopK>({Tensor(DType::F32, {2, 4}).view(), Tensor(DType::I64, {1}).view()},
                            {Tensor(DType::F32, {2, 3}).view(), Tensor(DType::I64, {2, 3}).view()}, {1, 0, 3}, 10000);
}
