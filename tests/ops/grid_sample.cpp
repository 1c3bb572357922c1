// SPDX-License-Identifier: Apache-2.0
// GridSample against the definition of interpolation, one output element at a time, in double.
#include "edgert/cpu/ops/grid_sample.h"

#include <algorithm>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;
using cpu::GridCoordinates;
using cpu::GridMode;
using cpu::GridPadding;

namespace {

/// Reflects step by step, as often as needed.
double mirror(double x, double low, double high) {
  if (high <= low) return low;
  while (x < low || x > high) x = x < low ? 2 * low - x : 2 * high - x;
  return x;
}

struct Reference {
  const Tensor& x;
  Dims dims;
  cpu::GridSampleAttributes attributes;

  double low() const { return attributes.coordinates == GridCoordinates::HalfPixel ? -0.5 : 0.0; }
  double high(std::size_t axis) const { return static_cast<double>(dims[axis]) - 1 - low(); }

  double coordinate(double n, std::size_t axis) const {
    const double extent = static_cast<double>(dims[axis]);
    double at = n;
    if (attributes.coordinates == GridCoordinates::HalfPixel) at = ((n + 1) * extent - 1) / 2;
    if (attributes.coordinates == GridCoordinates::AlignCorners) at = (n + 1) / 2 * (extent - 1);
    at = static_cast<double>(static_cast<float>(at));
    if (attributes.mode == GridMode::Nearest) at = std::nearbyint(at);
    if (at >= low() && at <= high(axis)) return at;
    if (attributes.padding == GridPadding::Border) return std::min(std::max(at, 0.0), extent - 1);
    if (attributes.padding == GridPadding::Reflection) return mirror(at, low(), high(axis));
    return at;
  }

  /// x[n, c] at whole coordinates, inside or not.
  double pixel(Dims at) const {
    for (std::size_t axis = 2; axis < dims.size(); ++axis) {
      const std::int64_t last = dims[axis] - 1;
      if (attributes.padding == GridPadding::Zeros && (at[axis] < 0 || at[axis] > last)) return 0;
      if (attributes.padding == GridPadding::Reflection) {
        at[axis] = static_cast<std::int64_t>(mirror(static_cast<double>(at[axis]), low(), high(axis)));
      }
      at[axis] = std::min(std::max<std::int64_t>(at[axis], 0), last);
    }
    return x.get(ravel(at, dims));
  }

  double interpolate(Dims& at, const std::vector<double>& where, std::size_t axis) const {
    if (axis == dims.size()) return pixel(at);
    const double base = std::floor(where[axis - 2]);
    const double t = where[axis - 2] - base;
    const auto term = [&](double offset, double weight) {
      at[axis] = static_cast<std::int64_t>(base + offset);
      return weight * interpolate(at, where, axis + 1);
    };
    if (attributes.mode == GridMode::Nearest) return term(0, 1);
    if (attributes.mode == GridMode::Linear) return term(0, 1 - t) + term(1, t);
    double sum = 0;
    for (int k = -1; k <= 2; ++k) {
      const double d = std::abs(t - k);
      const double a = -0.75;
      const double weight = d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
      sum += term(k, weight);
    }
    return sum;
  }
};

}  // namespace

TEST_CASE("GridSample: modes, paddings, coordinates, one to three axes, any layout") {
  std::mt19937 random(401);
  for (int trial = 0; trial < 162; ++trial) {
    CAPTURE(trial);
    const std::size_t axes = 1 + static_cast<std::size_t>(trial) / 54;
    cpu::GridSampleAttributes a{};
    a.mode = static_cast<GridMode>(trial % 3);
    a.padding = static_cast<GridPadding>(trial / 3 % 3);
    a.coordinates = static_cast<GridCoordinates>(trial / 9 % 3);
    const auto pick = [&](int low, int high) {
      return static_cast<std::int64_t>(low) + static_cast<std::int64_t>(random() % static_cast<unsigned>(high - low + 1));
    };
    Dims x_dims{pick(1, 2), pick(1, 5)};
    Dims grid_dims{x_dims[0]};
    Dims y_dims = x_dims;
    for (std::size_t i = 0; i < axes; ++i) {
      x_dims.push_back(pick(1, 6));
      grid_dims.push_back(pick(1, 5));
      y_dims.push_back(grid_dims.back());
    }
    grid_dims.push_back(static_cast<std::int64_t>(axes));
    const auto order = [&] { return random() % 2 == 0 ? Order::RowMajor : Order::ChannelsLast; };
    Tensor x(DType::F32, x_dims, order());
    Tensor grid(DType::F32, grid_dims, order());
    Tensor y(DType::F32, y_dims, order());
    x.fill(random, -1, 1);
    const double reach = a.coordinates == GridCoordinates::Pixels ? 9 : 2.5;
    grid.fill(random, -reach, reach);
    const Reference reference{x, x_dims, a};
    run_everywhere<cpu::GridSample>({x.view(), grid.view()}, y, a, [&] {
      for (std::int64_t i = 0; i < y.elements(); ++i) {
        Dims at = unravel(i, y_dims);
        std::vector<double> where;
        for (std::size_t axis = 0; axis < axes; ++axis) {
          Dims place{at[0]};
          place.insert(place.end(), at.begin() + 2, at.end());
          place.push_back(static_cast<std::int64_t>(axes - 1 - axis));
          where.push_back(reference.coordinate(grid.get(ravel(place, grid_dims)), axis + 2));
        }
        REQUIRE(close(y.get(i), reference.interpolate(at, where, 2), 2e-5, 2e-5));
      }
    });
  }
}

TEST_CASE("GridSample: positions that are no numbers or far away stay inside") {
  const double far[] = {NAN, INFINITY, -INFINITY, 1e30, -1e30, 3e9, -3e9, 1e-40};
  std::mt19937 random(402);
  Tensor x(DType::F32, {1, 2, 4, 5});
  x.fill(random, -1, 1);
  Tensor grid(DType::F32, {1, 1, 8, 2});
  for (std::int64_t i = 0; i < 8; ++i) {
    grid.set(2 * i, far[i]);
    grid.set(2 * i + 1, far[(i + 3) % 8]);
  }
  for (int mode = 0; mode < 27; ++mode) {
    const cpu::GridSampleAttributes a{static_cast<GridMode>(mode % 3), static_cast<GridPadding>(mode / 3 % 3),
                                      static_cast<GridCoordinates>(mode / 9), 0};
    Tensor y(DType::F32, {1, 2, 1, 8});
    run_everywhere<cpu::GridSample>({x.view(), grid.view()}, y, a, [&] {
      for (std::int64_t i = 0; i < y.elements(); ++i) CHECK(std::isfinite(y.get(i)));
    });
  }
}

TEST_CASE("GridSample: check refuses") {
  const Tensor x(DType::F32, {2, 3, 4, 5});
  const Tensor grid(DType::F32, {2, 6, 7, 2});
  const Tensor y(DType::F32, {2, 3, 6, 7});
  const cpu::GridSampleAttributes a{};
  const auto verdict = [&](const Tensor& image, const Tensor& places, const Tensor& out) {
    return check<cpu::GridSample>({image.view(), places.view()}, out.view(), a);
  };
  CHECK(verdict(x, grid, y) == nullptr);
  CHECK(verdict(Tensor(DType::F64, {2, 3, 4, 5}), grid, y) != nullptr);
  CHECK(verdict(x, Tensor(DType::F32, {2, 6, 7, 3}), y) != nullptr);
  CHECK(verdict(x, Tensor(DType::F32, {1, 6, 7, 2}), y) != nullptr);
  CHECK(verdict(x, grid, Tensor(DType::F32, {2, 3, 7, 6})) != nullptr);
  CHECK(verdict(x, grid, Tensor(DType::F32, {2, 4, 6, 7})) != nullptr);
  CHECK(verdict(Tensor(DType::F32, {2, 3, 0, 5}), grid, y) != nullptr);
  CHECK(check<cpu::GridSample>({x.view(), grid.view()}, y.view(), {static_cast<GridMode>(3), {}, {}, 0}) != nullptr);
  CHECK(check<cpu::GridSample>({x.view(), grid.view()}, y.view(), {{}, static_cast<GridPadding>(3), {}, 0}) != nullptr);
}

TEST_CASE("GridSample: changed operands and attributes stay inside") {
  std::mt19937 random(403);
  const Tensor x(DType::F32, {2, 3, 4, 5}), grid(DType::F32, {2, 6, 7, 2}), y(DType::F32, {2, 3, 6, 7});
  const int ran = survive_changed_operands<cpu::GridSample>(random, {x.view(), grid.view()}, {y.view()}, {}, 3000);
  CHECK(ran > 300);
}
