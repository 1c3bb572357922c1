// SPDX-License-Identifier: Apache-2.0
// Softmax and LogSoftmax along every axis, against long double.
#include "edgert/cpu/ops/softmax.h"

#include <algorithm>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

void check_softmax(DType type, const Dims& dims, std::int32_t axis, bool logarithm, Order from, Order to, double range,
                   double tolerance) {
  std::mt19937 random(71);
  Tensor x(type, dims, from, from == to ? 0 : 1);
  Tensor y(type, dims, to);
  x.fill(random, -range, range);
  const std::int64_t extent = dims[static_cast<std::size_t>(axis)];
  run_everywhere<cpu::Softmax>({x.view()}, y, {axis, logarithm, 0, {}}, [&] {
    for (std::int64_t i = 0; i < y.elements(); ++i) {
      Dims at = unravel(i, dims);
      if (at[static_cast<std::size_t>(axis)] != 0) continue;
      long double maximum = -INFINITY, sum = 0;
      const auto element = [&](std::int64_t k) {
        at[static_cast<std::size_t>(axis)] = k;
        return ravel(at, dims);
      };
      for (std::int64_t k = 0; k < extent; ++k)
        maximum = std::max(maximum, static_cast<long double>(x.get(element(k))));
      for (std::int64_t k = 0; k < extent; ++k) sum += std::exp(x.get(element(k)) - maximum);
      for (std::int64_t k = 0; k < extent; ++k) {
        const long double shifted = x.get(element(k)) - maximum;
        const double expected = static_cast<double>(logarithm ? shifted - std::log(sum) : std::exp(shifted) / sum);
        // The subtraction of the maximum rounds, which the exponential turns into a relative error.
        const double error = tolerance * (1 + static_cast<double>(-shifted) / 10);
        const double absolute = logarithm ? 2 * error + tolerance * 8 : type == DType::F16 ? 1e-7 : 1e-42;
        REQUIRE(close(y.get(element(k)), expected, absolute, error));
      }
    }
  });
}

}  // namespace

TEST_CASE("Softmax: every axis and layout in float") {
  for (const bool logarithm : {false, true}) {
    for (const Dims& dims : {Dims{2, 5, 3, 70}, Dims{3, 200, 4, 4}, Dims{1, 7, 1, 9}}) {
      for (std::int32_t axis = 0; axis < 4; ++axis) {
        for (const Order from : {Order::RowMajor, Order::ChannelsLast, Order::Reversed}) {
          for (const Order to : {Order::RowMajor, Order::ChannelsLast}) {
            check_softmax(DType::F32, dims, axis, logarithm, from, to, 30, 2e-6);
          }
        }
      }
    }
    check_softmax(DType::F32, {2, 5000}, 1, logarithm, Order::RowMajor, Order::RowMajor, 5, 2e-6);
    check_softmax(DType::F32, {5000, 3}, 0, logarithm, Order::RowMajor, Order::RowMajor, 5, 2e-6);
    check_softmax(DType::F64, {4, 300, 3}, 1, logarithm, Order::RowMajor, Order::Reversed, 30, 1e-14);
    check_softmax(DType::F64, {4, 3, 300}, 2, logarithm, Order::RowMajor, Order::RowMajor, 30, 1e-14);
    check_softmax(DType::F16, {4, 3, 300}, 2, logarithm, Order::RowMajor, Order::RowMajor, 3, 2e-3);
    check_softmax(DType::BF16, {4, 30, 3}, 1, logarithm, Order::ChannelsLast, Order::RowMajor, 3, 1e-2);
  }
}

TEST_CASE("Softmax: in place, and with masked elements") {
  std::mt19937 random(72);
  for (const std::int32_t axis : {0, 1}) {
    Tensor x(DType::F32, {40, 100});
    x.fill(random, -4, 4);
    for (std::int64_t i = 0; i < 4000; i += 3) x.set(i, -INFINITY);
    for (const cpu::Isa isa : supported_isas()) {
      Tensor apart(DType::F32, {40, 100});
      Tensor y = x.clone();
      REQUIRE(run<cpu::Softmax>({x.view()}, apart.view(), {axis, 0, 0, {}}, isa, 1).ok());
      REQUIRE(run<cpu::Softmax>({y.view()}, y.view(), {axis, 0, 0, {}}, isa, 2).ok());
      CHECK(y.same_bytes(apart));
      for (std::int64_t i = 0; i < 4000; i += 3) CHECK(y.get(i) == 0.0);
    }
  }
}

TEST_CASE("Softmax: where everything is hidden, zeros if asked for") {
  for (const DType type : {DType::F32, DType::F64, DType::F16}) {
    for (const std::int32_t axis : {0, 1}) {
      std::mt19937 random(73);
      Tensor x(type, {30, 30});
      Tensor y(type, {30, 30});
      x.fill(random, -4, 4);
      for (std::int64_t i = 0; i < 30; ++i) x.set(axis == 0 ? i * 30 + 7 : 7 * 30 + i, -INFINITY);
      for (const std::uint8_t zero_hidden : {std::uint8_t{0}, std::uint8_t{1}}) {
        run_everywhere<cpu::Softmax>({x.view()}, y, {axis, 0, zero_hidden, {}}, [&] {
          for (std::int64_t i = 0; i < 30; ++i) {
            const double hidden = y.get(axis == 0 ? i * 30 + 7 : 7 * 30 + i);
            CHECK((zero_hidden != 0 ? hidden == 0.0 : std::isnan(hidden)));
            CHECK(y.get(axis == 0 ? i * 30 + 8 : 8 * 30 + i) > 0.0);
          }
        });
      }
    }
  }
}

TEST_CASE("Softmax: check refuses") {
  const Tensor x(DType::F32, {2, 3});
  const Tensor y(DType::F32, {2, 3});
  CHECK(check<cpu::Softmax>({x.view()}, y.view(), {1, 0, 0, {}}) == nullptr);
  CHECK(check<cpu::Softmax>({x.view()}, y.view(), {2, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::Softmax>({x.view()}, y.view(), {-1, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::Softmax>({x.view()}, Tensor(DType::F32, {3, 2}).view(), {1, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::Softmax>({x.view()}, Tensor(DType::F64, {2, 3}).view(), {1, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::Softmax>({x.view()}, Tensor(DType::F32, {2, 3}, Order::RowMajor, 0, 1).view(), {1, 0, 0, {}}) !=
        nullptr);
  const Tensor n(DType::I32, {2, 3});
  CHECK(check<cpu::Softmax>({n.view()}, n.view(), {1, 0, 0, {}}) != nullptr);
  CHECK(check<cpu::Softmax>({Tensor(DType::F32, {}).view()}, Tensor(DType::F32, {}).view(), {0, 0, 0, {}}) != nullptr);
}

TEST_CASE("Softmax: random operands and attributes stay inside") {
  survive_random_operands<cpu::Softmax>(1, {1, 0, 0, {}}, 20000);
}
