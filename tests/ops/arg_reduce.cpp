// SPDX-License-Identifier: Apache-2.0
// ArgMax and ArgMin along every axis against a search element by element, with many equal elements and NaN.
#include "edgert/cpu/ops/arg_reduce.h"

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

TEST_CASE("ArgReduce: every axis, type and layout") {
  std::mt19937 random(61);
  const Dims dims = {3, 11, 4, 300};
  for (const DType type : {DType::F32, DType::F16, DType::F64, DType::I8, DType::U64, DType::Bool}) {
    for (std::int32_t axis = 0; axis < 4; ++axis) {
      for (const Order order : {Order::RowMajor, Order::ChannelsLast}) {
        for (int flags = 0; flags < 4; ++flags) {
          Tensor x(type, dims, order);
          x.fill(random, 0, type == DType::Bool ? 2 : 9);
          for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, std::floor(x.get(i)));
          Dims out = dims;
          out[static_cast<std::size_t>(axis)] = 1;
          Tensor y(DType::I64, out);
          const bool minimum = (flags & 1) != 0, last = (flags & 2) != 0;
          run_everywhere<cpu::ArgReduce>({x.view()}, y, {axis, minimum, last, {}}, [&] {
            for (std::int64_t i = 0; i < y.elements(); i += 7) {
              Dims at = unravel(i, out);
              std::int64_t best = 0;
              for (std::int64_t k = 0; k < dims[static_cast<std::size_t>(axis)]; ++k) {
                at[static_cast<std::size_t>(axis)] = k;
                const double value = x.get(ravel(at, dims));
                at[static_cast<std::size_t>(axis)] = best;
                const double current = x.get(ravel(at, dims));
                if ((minimum ? value < current : value > current) || (last && value == current)) best = k;
              }
              REQUIRE(y.get_int(i) == best);
            }
          });
        }
      }
    }
  }
}

TEST_CASE("ArgReduce: NaN wins") {
  Tensor x(DType::F32, {4});
  Tensor y(DType::I64, {1});
  const double values[] = {1, NAN, 5, NAN};
  for (int i = 0; i < 4; ++i) x.set(i, values[i]);
  run_everywhere<cpu::ArgReduce>({x.view()}, y, {0, 0, 0, {}}, [&] { CHECK(y.get_int(0) == 1); });
  run_everywhere<cpu::ArgReduce>({x.view()}, y, {0, 1, 1, {}}, [&] { CHECK(y.get_int(0) == 3); });
}

TEST_CASE("ArgReduce: check refuses") {
  const Tensor x(DType::F32, {2, 3});
  const Tensor y(DType::I64, {2, 1});
  CHECK(check<cpu::ArgReduce>({x.view()}, y.view(), {1, 0, 0, {}}) == nullptr);
  CHECK(check<cpu::ArgReduce>({x.view()}, y.view(), {0, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::ArgReduce>({x.view()}, y.view(), {2, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::ArgReduce>({x.view()}, y.view(), {-1, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::ArgReduce>({x.view()}, Tensor(DType::I32, {2, 1}).view(), {1, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::ArgReduce>({x.view()}, Tensor(DType::I64, {2}).view(), {1, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::ArgReduce>({Tensor(DType::F32, {2, 0}).view()}, y.view(), {1, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::ArgReduce>({Tensor(DType::F32, {}).view()}, Tensor(DType::I64, {}).view(), {0, 0, 0, {}}) !=
        nullptr);
}

TEST_CASE("ArgReduce: random operands and attributes stay inside") {
  survive_random_operands<cpu::ArgReduce>(1, {0, 0, 0, {}}, 20000);
}
