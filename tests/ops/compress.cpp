// SPDX-License-Identifier: Apache-2.0
// Compress along every axis against picking slices element by element.
#include "edgert/cpu/ops/compress.h"

#include "several_outputs.h"

using namespace edgert;
using namespace edgert::test;

TEST_CASE("Compress: every axis, type and layout") {
  std::mt19937 random(6);
  const Dims dims = {4, 5, 3};
  for (const DType type : {DType::U8, DType::F16, DType::F32, DType::I64}) {
    for (std::int32_t axis = 0; axis < 3; ++axis) {
      for (const std::int64_t shorter : {0, 1}) {
        const auto a = static_cast<std::size_t>(axis);
        Tensor x(type, dims, Order::Reversed, 1);
        x.fill_bits(random);
        Tensor condition(DType::Bool, {dims[a] - shorter});
        std::vector<std::int64_t> kept;
        for (std::int64_t i = 0; i < condition.elements(); ++i) {
          condition.set_int(i, random() % 2);
          if (condition.get_int(i) != 0) kept.push_back(i);
        }
        Dims most = dims;
        most[a] = condition.elements();
        Tensor y(type, most);
        Tensor count(DType::I64, {});
        REQUIRE(run_several<cpu::Compress>({x.view(), condition.view()}, {y.view(), count.view()}, {axis, 0}, 2).ok());
        REQUIRE(count.get_int(0) == static_cast<std::int64_t>(kept.size()));
        for (std::int64_t i = 0; i < y.elements(); ++i) {
          Dims at = unravel(i, most);
          if (at[a] >= static_cast<std::int64_t>(kept.size())) continue;
          at[a] = kept[static_cast<std::size_t>(at[a])];
          REQUIRE(y.get_int(i) == x.get_int(ravel(at, dims)));
        }
      }
    }
  }
}

TEST_CASE("Compress: a condition that is true beyond the end is an error, one that is false is not") {
  const Tensor x(DType::F32, {2});
  Tensor condition(DType::Bool, {3});
  Tensor y(DType::F32, {2});
  Tensor count(DType::I64, {});
  for (int i = 0; i < 3; ++i) condition.set_int(i, i == 0);
  CHECK(run_several<cpu::Compress>({x.view(), condition.view()}, {y.view(), count.view()}, {0, 0}).ok());
  condition.set_int(2, 1);
  CHECK(run_several<cpu::Compress>({x.view(), condition.view()}, {y.view(), count.view()}, {0, 0}).error() == Error::IndexOutOfRange);
}

TEST_CASE("Compress: check refuses") {
  const Tensor x(DType::F32, {2, 3});
  const Tensor condition(DType::Bool, {3});
  const Tensor y(DType::F32, {2, 3});
  const Tensor count(DType::I64, {});
  const auto wrong = [&](const TensorView& a, const TensorView& b, const TensorView& c, const TensorView& d, std::int32_t axis) {
    return check_several<cpu::Compress>({a, b}, {c, d}, {axis, 0}) != nullptr;
  };
  CHECK_FALSE(wrong(x.view(), condition.view(), y.view(), count.view(), 1));
  CHECK(wrong(x.view(), condition.view(), y.view(), count.view(), 2));
  CHECK(wrong(x.view(), condition.view(), y.view(), count.view(), -1));
  CHECK(wrong(x.view(), Tensor(DType::U8, {3}).view(), y.view(), count.view(), 1));
  CHECK(wrong(x.view(), Tensor(DType::Bool, {3, 1}).view(), y.view(), count.view(), 1));
  CHECK(wrong(x.view(), condition.view(), Tensor(DType::F32, {2, 2}).view(), count.view(), 1));
  CHECK(wrong(x.view(), condition.view(), Tensor(DType::F32, {1, 3}).view(), count.view(), 1));
  CHECK(wrong(x.view(), condition.view(), Tensor(DType::I32, {2, 3}).view(), count.view(), 1));
  CHECK(wrong(x.view(), condition.view(), y.view(), Tensor(DType::I32, {}).view(), 1));
}

TEST_CASE("Compress: random operands stay inside") {
  survive_random<cpu::Compress>({Tensor(DType::F32, {2, 3}).view(), Tensor(DType::Bool, {3}).view()},
                                {Tensor(DType::F32, {2, 3}).view(), Tensor(DType::I64, {}).view()}, {1, 0}, 5000);
}
