// SPDX-License-Identifier: Apache-2.0
// Max and average pooling against a loop over every element of every window.
#include "edgert/cpu/ops/pool.h"

#include <algorithm>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

double reference(const Tensor& x, const Dims& dims, const cpu::PoolAttributes& a, const Dims& at, double lowest) {
  double best = lowest, sum = 0;
  int inside = 0, padded = 0;
  for (std::int64_t i = 0; i < a.kernel[0]; ++i) {
    for (std::int64_t j = 0; j < a.kernel[1]; ++j) {
      const std::int64_t h = at[2] * a.stride[0] + i * a.dilation[0] - a.pad_begin[0];
      const std::int64_t w = at[3] * a.stride[1] + j * a.dilation[1] - a.pad_begin[1];
      padded += h < dims[2] + a.pad_end[0] && w < dims[3] + a.pad_end[1];
      if (h < 0 || h >= dims[2] || w < 0 || w >= dims[3]) continue;
      const double value = x.get(ravel({at[0], at[1], h, w}, dims));
      best = std::max(best, value);
      sum += value;
      ++inside;
    }
  }
  if (a.kind == cpu::PoolKind::Max) return best;
  const int divisor = a.count_include_pad != 0 ? padded : inside;
  return divisor == 0 ? 0 : sum / divisor;
}

}  // namespace

TEST_CASE("Pool: kernels, strides, dilations, padding, layouts and types") {
  std::mt19937 random(91);
  for (int trial = 0; trial < 240; ++trial) {
    const auto pick = [&](int low, int high) {
      return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
    };
    cpu::PoolAttributes a{};
    a.kind = trial % 2 == 0 ? cpu::PoolKind::Max : cpu::PoolKind::Average;
    a.count_include_pad = static_cast<std::uint8_t>(random() % 2);
    Dims dims = {pick(1, 2), pick(1, 3) == 1 ? pick(60, 150) : pick(1, 20), pick(1, 12), pick(1, 12)};
    Dims out = dims;
    for (int axis = 0; axis < 2; ++axis) {
      const std::size_t d = static_cast<std::size_t>(2 + axis);
      a.kernel[axis] = pick(1, 4);
      a.stride[axis] = pick(1, 3);
      a.dilation[axis] = pick(1, 2);
      a.pad_begin[axis] = pick(0, 3);
      a.pad_end[axis] = pick(0, 3);
      out[d] = std::max<std::int64_t>(
          1, (dims[d] + a.pad_begin[axis] + a.pad_end[axis] - (a.kernel[axis] - 1) * a.dilation[axis] - 1) /
                     a.stride[axis] +
                 1 + pick(0, 1));
    }
    const DType types[] = {DType::F32, DType::F32, DType::F32, DType::F64,
                           DType::F16, DType::I8,  DType::U8,  DType::I32};
    const DType type = types[random() % (a.kind == cpu::PoolKind::Max ? 8u : 5u)];
    const Order orders[] = {Order::RowMajor, Order::ChannelsLast, Order::ChannelsLast, Order::Reversed};
    Tensor x(type, dims, orders[random() % 4], static_cast<std::int64_t>(random() % 2));
    Tensor y(type, out, orders[random() % 3]);
    x.fill(random, type == DType::U8 ? 0 : -100, 100);
    const double lowest = type == DType::I8 ? -128 : type == DType::U8 ? 0 : type == DType::I32 ? INT32_MIN : -INFINITY;
    run_everywhere<cpu::Pool>({x.view()}, y, a, [&] {
      for (std::int64_t i = 0; i < y.elements(); ++i) {
        const double expected = reference(x, dims, a, unravel(i, out), lowest);
        const double tolerance = a.kind == cpu::PoolKind::Max ? 0 : type == DType::F16 ? 1e-3 : 2e-6;
        REQUIRE(close(y.get(i), expected, tolerance * 100, tolerance));
      }
    });
  }
}

TEST_CASE("Pool: check refuses") {
  const Tensor x(DType::F32, {1, 2, 5, 5});
  const Tensor y(DType::F32, {1, 2, 3, 3});
  const cpu::PoolAttributes good{{3, 3}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, cpu::PoolKind::Average, 0, 0, 0};
  CHECK(check<cpu::Pool>({x.view()}, y.view(), good) == nullptr);
  const auto refused = [&](auto&& change) {
    cpu::PoolAttributes attributes = good;
    change(attributes);
    return check<cpu::Pool>({x.view()}, y.view(), attributes) != nullptr;
  };
  for (const std::int32_t bad : {0, -1, INT32_MIN}) {
    CHECK(refused([&](cpu::PoolAttributes& a) { a.kernel[0] = bad; }));
    CHECK(refused([&](cpu::PoolAttributes& a) { a.stride[1] = bad; }));
    CHECK(refused([&](cpu::PoolAttributes& a) { a.dilation[0] = bad; }));
  }
  CHECK(refused([&](cpu::PoolAttributes& a) { a.pad_begin[1] = -1; }));
  CHECK(refused([&](cpu::PoolAttributes& a) { a.pad_end[0] = -1; }));
  CHECK(refused([&](cpu::PoolAttributes& a) { a.kernel[0] = INT32_MAX, a.dilation[0] = INT32_MAX; }));
  CHECK(refused([&](cpu::PoolAttributes& a) { a.kind = static_cast<cpu::PoolKind>(2); }));
  CHECK(check<cpu::Pool>({x.view()}, Tensor(DType::F32, {1, 3, 3, 3}).view(), good) != nullptr);
  CHECK(check<cpu::Pool>({x.view()}, Tensor(DType::F32, {1, 2, 9}).view(), good) != nullptr);
  CHECK(check<cpu::Pool>({x.view()}, Tensor(DType::F64, {1, 2, 3, 3}).view(), good) != nullptr);
  CHECK(check<cpu::Pool>({x.view()}, Tensor(DType::F32, {1, 2, 3, 3}, Order::RowMajor, 0, 2).view(), good) != nullptr);
  const Tensor n(DType::I8, {1, 2, 5, 5});
  CHECK(check<cpu::Pool>({n.view()}, Tensor(DType::I8, {1, 2, 3, 3}).view(), good) != nullptr);
  CHECK(check<cpu::Pool>({absent()}, y.view(), good) != nullptr);
}

TEST_CASE("Pool: enormous windows and strides stay inside the image") {
  Tensor x(DType::F32, {1, 1, 2, 2});
  for (int i = 0; i < 4; ++i) x.set(i, i + 1.0);
  Tensor y(DType::F32, {1, 1, 2, 2});
  const std::int32_t big = INT32_MAX;
  const cpu::PoolAttributes attributes{{big, big},         {big, big}, {1, 1}, {big, big}, {big, big},
                                       cpu::PoolKind::Max, 1,          0,      0};
  run_everywhere<cpu::Pool>({x.view()}, y, attributes, [&] { CHECK(y.get(3) == 4.0); });
}

TEST_CASE("Pool: random operands and attributes stay inside") {
  survive_random_operands<cpu::Pool>(1, {{2, 3}, {1, 2}, {1, 1}, {1, 0}, {1, 1}, cpu::PoolKind::Max, 0, 0, 0}, 20000);
}
