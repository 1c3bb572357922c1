// SPDX-License-Identifier: Apache-2.0
// Resize against the definition in the ONNX specification: one axis after the other, in double.
#include "edgert/cpu/ops/resize.h"

#include <algorithm>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;
using cpu::ResizeCoordinates;
using cpu::ResizeMode;
using cpu::ResizeNearest;

namespace {

double position(const cpu::ResizeAttributes& a, std::size_t axis, double o, double in, double out) {
  const double scale = static_cast<double>(a.scale[axis]);
  switch (a.coordinates) {
    case ResizeCoordinates::HalfPixel: return (o + 0.5) / scale - 0.5;
    case ResizeCoordinates::Asymmetric: return o / scale;
    case ResizeCoordinates::AlignCorners: return out == 1 ? 0 : o * (in - 1) / (out - 1);
    case ResizeCoordinates::PytorchHalfPixel: return out > 1 ? (o + 0.5) / scale - 0.5 : 0;
    case ResizeCoordinates::HalfPixelSymmetric: return in / 2 * (1 - out / (scale * in)) + (o + 0.5) / scale - 0.5;
    case ResizeCoordinates::TfCropAndResize: {
      const double begin = static_cast<double>(a.roi_begin[axis]), end = static_cast<double>(a.roi_end[axis]);
      return out > 1 ? begin * (in - 1) + o * (end - begin) * (in - 1) / (out - 1) : 0.5 * (begin + end) * (in - 1);
    }
  }
  return 0;
}

/// The value at position x of a line of numbers.
double interpolate(const cpu::ResizeAttributes& a, const std::vector<double>& line, double x) {
  const double n = static_cast<double>(line.size());
  if (a.coordinates == ResizeCoordinates::TfCropAndResize && (x < 0 || x > n - 1)) {
    return static_cast<double>(a.extrapolation_value);
  }
  const auto at = [&](double i) { return line[static_cast<std::size_t>(std::clamp(i, 0.0, n - 1))]; };
  const double base = std::floor(x), t = x - base;
  if (a.mode == ResizeMode::Nearest) {
    const double nearest = a.nearest == ResizeNearest::RoundPreferFloor  ? (t <= 0.5 ? base : base + 1)
                           : a.nearest == ResizeNearest::RoundPreferCeil ? (t < 0.5 ? base : base + 1)
                           : a.nearest == ResizeNearest::Floor           ? base
                                                                         : std::ceil(x);
    return at(nearest);
  }
  std::vector<double> weights = {1 - t, t};
  double first = base;
  if (a.mode == ResizeMode::Cubic) {
    const double c = static_cast<double>(a.cubic_coefficient);
    weights = {((c * (t + 1) - 5 * c) * (t + 1) + 8 * c) * (t + 1) - 4 * c, ((c + 2) * t - (c + 3)) * t * t + 1,
               ((c + 2) * (1 - t) - (c + 3)) * (1 - t) * (1 - t) + 1,
               ((c * (2 - t) - 5 * c) * (2 - t) + 8 * c) * (2 - t) - 4 * c};
    first = base - 1;
  }
  double sum = 0, total = 0;
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const double i = first + static_cast<double>(k);
    if (a.exclude_outside != 0 && (i < 0 || i > n - 1)) weights[k] = 0;
    total += weights[k];
    sum += weights[k] * at(i);
  }
  return a.exclude_outside != 0 ? sum / total : sum;
}

std::vector<double> reference(const Tensor& x, Dims dims, const Dims& out, const cpu::ResizeAttributes& a) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < x.elements(); ++i) values.push_back(x.get(i));
  for (std::size_t axis = 0; axis < dims.size(); ++axis) {
    Dims next = dims;
    next[axis] = out[axis];
    std::int64_t count = 1;
    for (const std::int64_t extent : next) count *= extent;
    std::vector<double> result(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      Dims at = unravel(i, next);
      const double o = static_cast<double>(at[axis]);
      std::vector<double> line;
      for (at[axis] = 0; at[axis] < dims[axis]; ++at[axis])
        line.push_back(values[static_cast<std::size_t>(ravel(at, dims))]);
      const double in = static_cast<double>(dims[axis]);
      result[static_cast<std::size_t>(i)] =
          interpolate(a, line, position(a, axis, o, in, static_cast<double>(out[axis])));
    }
    dims = next;
    values = result;
  }
  return values;
}

cpu::ResizeAttributes attributes_of(const Dims& dims, const Dims& out) {
  cpu::ResizeAttributes attributes{};
  for (std::size_t d = 0; d < dims.size(); ++d) {
    attributes.scale[d] = static_cast<float>(out[d]) / static_cast<float>(dims[d]);
    attributes.roi_end[d] = 1;
  }
  attributes.cubic_coefficient = -0.75f;
  attributes.extrapolation_value = 10;
  return attributes;
}

}  // namespace

TEST_CASE("Resize: every mode, coordinate mode, rounding and layout") {
  std::mt19937 random(101);
  const std::pair<Dims, Dims> shapes[] = {{{2, 20, 4, 6}, {2, 20, 8, 12}}, {{1, 3, 8, 4}, {1, 3, 4, 2}},
                                          {{1, 2, 4, 8}, {1, 2, 1, 16}},   {{3, 4}, {6, 16}},
                                          {{2, 40, 2, 2}, {4, 40, 4, 8}},  {{4}, {4}}};
  for (const auto& shape : shapes) {
    const Dims& dims = shape.first;
    const Dims& out = shape.second;
    for (int coordinates = 0; coordinates < 6; ++coordinates) {
      for (int mode = 0; mode < 6; ++mode) {
        for (const Order order : {Order::RowMajor, Order::ChannelsLast}) {
          cpu::ResizeAttributes a = attributes_of(dims, out);
          a.coordinates = static_cast<ResizeCoordinates>(coordinates);
          a.mode = static_cast<ResizeMode>(mode < 4 ? 0 : mode - 3);
          a.nearest = static_cast<ResizeNearest>(mode < 4 ? mode : 0);
          a.exclude_outside = static_cast<std::uint8_t>(mode == 5 && random() % 2);
          if (a.coordinates == ResizeCoordinates::TfCropAndResize) {
            for (std::size_t d = 0; d < dims.size(); ++d) {
              if (dims[d] == out[d]) continue;
              a.roi_begin[d] = -0.25f;
              a.roi_end[d] = 0.75f;
            }
          }
          CAPTURE(coordinates);
          CAPTURE(mode);
          Tensor x(DType::F32, dims, order);
          Tensor y(DType::F32, out, order, 1);
          x.fill(random, -10, 10);
          const std::vector<double> expected = reference(x, dims, out, a);
          run_everywhere<cpu::Resize>({x.view()}, y, a, [&] {
            for (std::int64_t i = 0; i < y.elements(); ++i) {
              REQUIRE(close(y.get(i), expected[static_cast<std::size_t>(i)], 3e-5, 1e-6));
            }
          });
        }
      }
    }
  }
}

TEST_CASE("Resize: nearest keeps every type's bits") {
  std::mt19937 random(102);
  const Dims dims = {1, 5, 3, 4};
  const Dims out = {1, 5, 6, 8};
  for (const DType type : {DType::U8, DType::F16, DType::I32, DType::F64}) {
    for (const Order order : {Order::RowMajor, Order::ChannelsLast}) {
      Tensor x(type, dims, order);
      Tensor y(type, out, order);
      x.fill_bits(random);
      cpu::ResizeAttributes a = attributes_of(dims, out);
      a.coordinates = ResizeCoordinates::Asymmetric;
      a.nearest = ResizeNearest::Floor;
      run_everywhere<cpu::Resize>({x.view()}, y, a, [&] {
        for (std::int64_t i = 0; i < y.elements(); ++i) {
          const Dims at = unravel(i, out);
          REQUIRE(y.get_int(i) == x.get_int(ravel({at[0], at[1], at[2] / 2, at[3] / 2}, dims)));
        }
      });
    }
  }
}

TEST_CASE("Resize: check refuses") {
  const Tensor x(DType::F32, {2, 4});
  const Tensor y(DType::F32, {2, 8});
  const cpu::ResizeAttributes good = attributes_of({2, 4}, {2, 8});
  CHECK(check<cpu::Resize>({x.view()}, y.view(), good) == nullptr);
  const auto refused = [&](auto&& change) {
    cpu::ResizeAttributes attributes = good;
    change(attributes);
    return check<cpu::Resize>({x.view()}, y.view(), attributes) != nullptr;
  };
  CHECK(refused([](cpu::ResizeAttributes& a) { a.mode = static_cast<ResizeMode>(3); }));
  CHECK(refused([](cpu::ResizeAttributes& a) { a.coordinates = static_cast<ResizeCoordinates>(6); }));
  CHECK(refused([](cpu::ResizeAttributes& a) { a.nearest = static_cast<ResizeNearest>(4); }));
  for (const float scale : {0.0f, -1.0f, NAN, INFINITY}) {
    CHECK(refused([&](cpu::ResizeAttributes& a) { a.scale[1] = scale; }));
  }
  CHECK(check<cpu::Resize>({x.view()}, Tensor(DType::F32, {2, 8, 1}).view(), good) != nullptr);
  CHECK(check<cpu::Resize>({x.view()}, Tensor(DType::F64, {2, 8}).view(), good) != nullptr);
  CHECK(check<cpu::Resize>({Tensor(DType::F32, {2, 0}).view()}, y.view(), good) != nullptr);
  CHECK(check<cpu::Resize>({x.view()}, Tensor(DType::F32, {2, 8}, Order::RowMajor, 0, 1).view(), good) != nullptr);
  cpu::ResizeAttributes linear = good;
  linear.mode = ResizeMode::Linear;
  const Tensor n(DType::U8, {2, 4});
  CHECK(check<cpu::Resize>({n.view()}, Tensor(DType::U8, {2, 8}).view(), good) == nullptr);
  CHECK(check<cpu::Resize>({n.view()}, Tensor(DType::U8, {2, 8}).view(), linear) != nullptr);
  cpu::ResizeAttributes cubic = attributes_of({1, 1, 1, 1}, {2, 2, 2, 2});
  cubic.mode = ResizeMode::Cubic;
  CHECK(check<cpu::Resize>({Tensor(DType::F32, {1, 1, 1, 1}).view()}, Tensor(DType::F32, {2, 2, 2, 2}).view(), cubic) !=
        nullptr);
}

TEST_CASE("Resize: strange numbers in the attributes do no harm") {
  Tensor x(DType::F32, {3, 3});
  for (int i = 0; i < 9; ++i) x.set(i, i);
  Tensor y(DType::F32, {5, 5});
  for (int mode = 0; mode < 3; ++mode) {
    cpu::ResizeAttributes a = attributes_of({3, 3}, {5, 5});
    a.mode = static_cast<ResizeMode>(mode);
    a.exclude_outside = 1;
    a.scale[0] = 1e-30f;
    a.cubic_coefficient = NAN;
    CHECK(run<cpu::Resize>({x.view()}, y.view(), a, cpu::Isa::Baseline, 1).ok());
    a.coordinates = ResizeCoordinates::TfCropAndResize;
    a.roi_begin[0] = NAN;
    a.roi_end[1] = INFINITY;
    CHECK(run<cpu::Resize>({x.view()}, y.view(), a, cpu::Isa::Baseline, 1).ok());
  }
}

TEST_CASE("Resize: random operands and attributes stay inside") {
  survive_random_operands<cpu::Resize>(1, attributes_of({1, 1, 1, 1}, {1, 1, 1, 1}), 20000);
}
