// SPDX-License-Identifier: Apache-2.0
// Resampling with an antialiasing filter is linear along each axis: the builder makes the matrix, a product applies it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace edgert::ops {

/// One axis of ONNX Resize, mode linear or cubic.
struct Resampling {
  std::int64_t in = 1;
  std::int64_t out = 1;
  double scale = 1;
  bool cubic = false;
  double cubic_coefficient = -0.75;
  bool exclude_outside = false;

  /// The filter at distance `x`, in units of the coarser grid.
  double filter(double x) const {
    x = std::abs(x);
    if (!cubic) return std::max(0.0, 1 - x);
    const double a = cubic_coefficient;
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
  }
};

/// Row-major [in, out]: column o holds the weights of output element o. `coordinate(o)` is where it lies in the input.
template <class Coordinate>
std::vector<float> resampling_matrix(const Resampling& axis, Coordinate coordinate) {
  std::vector<float> matrix(static_cast<std::size_t>(axis.in * axis.out), 0.0f);
  const double shrink = std::min(axis.scale, 1.0);
  const auto first = static_cast<std::int64_t>(std::floor((axis.cubic ? -2 : -1) / shrink)) + 1;
  const std::int64_t last = 1 - first;
  std::vector<double> weights(static_cast<std::size_t>(last - first + 1));
  for (std::int64_t o = 0; o < axis.out; ++o) {
    const double position = coordinate(o);
    const auto base = static_cast<std::int64_t>(std::ceil(position)) - 1;
    double sum = 0;
    for (std::int64_t i = first; i <= last; ++i) {
      const bool outside = base + i < 0 || base + i >= axis.in;
      const double weight =
          outside && axis.exclude_outside ? 0 : axis.filter((static_cast<double>(base + i) - position) * shrink);
      weights[static_cast<std::size_t>(i - first)] = weight;
      sum += weight;
    }
    for (std::int64_t i = first; i <= last; ++i) {
      const std::int64_t source = std::clamp<std::int64_t>(base + i, 0, axis.in - 1);
      const double weight = sum != 0 ? weights[static_cast<std::size_t>(i - first)] / sum : 0;
      matrix[static_cast<std::size_t>(source * axis.out + o)] += static_cast<float>(weight);
    }
  }
  return matrix;
}

}  // namespace edgert::ops
