// SPDX-License-Identifier: Apache-2.0
// ONNX GridSample: y[n, c, o...] is x[n, c] at the position grid[n, o...], between pixels or at the nearest one.
// Inputs: x [N, C, D1 .. Dk]; grid [N, O1 .. Ok, k], k = 1 to 3, whose last dimension counts x's dimensions from the
//   last one on (column, row, slice). Outputs: y [N, C, O1 .. Ok]. Any strides. Types: f32.
// Positions are between -1 and 1, at the centres (AlignCorners) or the outer edges (HalfPixel) of the first and the
// last pixel; or count pixels. A position that is no number is outside, far before the first pixel.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/dense_operands.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

enum class GridMode : std::uint8_t { Nearest = 0, Linear = 1, Cubic = 2 };
enum class GridPadding : std::uint8_t { Zeros = 0, Border = 1, Reflection = 2 };
enum class GridCoordinates : std::uint8_t { HalfPixel = 0, AlignCorners = 1, Pixels = 2 };
struct GridSampleAttributes {
  GridMode mode;
  GridPadding padding;
  GridCoordinates coordinates;  ///< Reflection takes Pixels as AlignCorners
  std::uint8_t reserved;
};

namespace grid_sample_detail {

inline constexpr int kMaxAxes = 3;
inline constexpr int kMaxTaps = 4;
inline constexpr int kMaxTerms = kMaxTaps * kMaxTaps * kMaxTaps;

/// One axis of x, and the pixels that a position draws from there.
struct Axis {
  std::int64_t extent;
  std::int64_t stride;
  double low, high;  ///< what Reflection mirrors at
};

/// Input elements with weights; those outside are left out.
struct Terms {
  int count;
  std::int64_t offset[kMaxTerms];
  float weight[kMaxTerms];
};

constexpr int taps_of(GridMode mode) noexcept {
  return mode == GridMode::Nearest ? 1 : mode == GridMode::Linear ? 2 : kMaxTaps;
}

/// Brings x between the axis' mirrors; a number that cannot be mirrored becomes the lower one.
inline double reflect(double x, const Axis& axis) noexcept {
  const double range = axis.high - axis.low;
  if (x >= axis.low && x <= axis.high) return x;
  if (!(range > 0.0)) return axis.low;
  const double distance = x < axis.low ? axis.low - x : x - axis.high;
  const double turns = scalar::floor(distance / range);
  const double rest = distance - turns * range;
  const bool even = turns - 2.0 * scalar::floor(turns / 2.0) == 0.0;
  const double mirrored = (x < axis.low) == even ? axis.low + rest : axis.high - rest;
  return mirrored >= axis.low && mirrored <= axis.high ? mirrored : axis.low;
}

/// The pixel that stands for pixel `index`, -1 when none does.
inline std::int64_t resolve(double index, const Axis& axis, GridPadding padding) noexcept {
  const double last = static_cast<double>(axis.extent - 1);
  if (padding == GridPadding::Reflection) {
    // Toward zero, so that the outer half of an edge pixel is that pixel.
    index = reflect(index, axis);
    index = index < 0.0 ? scalar::ceil(index) : scalar::floor(index);
  }
  if (padding == GridPadding::Zeros && !(index >= 0.0 && index <= last)) return -1;
  return static_cast<std::int64_t>(!(index > 0.0) ? 0.0 : index > last ? last : index);
}

/// Keys' cubic convolution, a = -0.75, for distances t + 1, t, 1 - t and 2 - t.
inline void cubic_weights(double t, double (&weights)[kMaxTaps]) noexcept {
  constexpr double a = -0.75;
  const auto inner = [](double d) { return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0; };
  const auto outer = [](double d) { return ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a; };
  weights[0] = outer(t + 1.0);
  weights[1] = inner(t);
  weights[2] = inner(1.0 - t);
  weights[3] = outer(2.0 - t);
}

/// One part's positions.
class Sampler {
 public:
  explicit Sampler(const Work& work) noexcept
      : work_(work), attributes_(work.as<GridSampleAttributes>()), x_(work.in(0)), grid_(work.in(1)), y_(work.out(0)),
        axes_(x_.rank - 2u) {
    for (std::uint32_t i = 0; i < axes_; ++i) {
      const double extent = static_cast<double>(x_.dims[i + 2]);
      const bool edges = attributes_.coordinates == GridCoordinates::HalfPixel;
      axis_[i] = {x_.dims[i + 2], x_.strides[i + 2], edges ? -0.5 : 0.0, edges ? extent - 0.5 : extent - 1.0};
    }
    places_.append(y_.dims[0], {y_.strides[0], grid_.strides[0], x_.strides[0]});
    for (std::uint32_t i = 0; i < axes_; ++i) {
      places_.append(y_.dims[i + 2], {y_.strides[i + 2], grid_.strides[i + 1], 0});
    }
  }

  void run() noexcept {
    const PartRange range = part_range(places_.count, work_.part, work_.parts);
    Cursor<3> cursor(places_, places_.rank, range.begin);
    for (std::int64_t item = range.begin; item < range.end; ++item, cursor.advance()) {
      Terms terms;
      terms.count = 1;
      terms.offset[0] = 0;
      terms.weight[0] = 1.0f;
      const float* const position = grid_.as<const float>() + cursor.offset(1);
      for (std::uint32_t i = 0; i < axes_; ++i) {
        multiply(terms, axis_[i], position[(axes_ - 1 - i) * grid_.strides[axes_ + 1]]);
      }
      draw(terms, y_.as<float>() + cursor.offset(0), x_.as<const float>() + cursor.offset(2));
    }
  }

 private:
  /// Where on the axis, in pixels, a coordinate of the grid lies.
  double pixel_of(float coordinate, const Axis& axis) const noexcept {
    const double n = static_cast<double>(coordinate);
    const double extent = static_cast<double>(axis.extent);
    double x = n;
    if (attributes_.coordinates == GridCoordinates::HalfPixel) x = ((n + 1.0) * extent - 1.0) / 2.0;
    if (attributes_.coordinates == GridCoordinates::AlignCorners) x = (n + 1.0) / 2.0 * (extent - 1.0);
    x = static_cast<double>(static_cast<float>(x));
    if (attributes_.mode == GridMode::Nearest) x = scalar::round(x);
    if (attributes_.padding == GridPadding::Border && !(x >= axis.low && x <= axis.high)) {
      x = !(x > 0.0) ? 0.0 : x > extent - 1.0 ? extent - 1.0 : x;
    }
    if (attributes_.padding == GridPadding::Reflection) x = reflect(x, axis);
    // Further out nothing changes any more; this also takes NaN and numbers that no index holds.
    return !(x > -4.0) ? -4.0 : x > extent + 4.0 ? extent + 4.0 : x;
  }

  /// Each term so far times each tap of the axis.
  void multiply(Terms& terms, const Axis& axis, float coordinate) const noexcept {
    const double x = pixel_of(coordinate, axis);
    const double base = scalar::floor(x);
    const int taps = taps_of(attributes_.mode);
    double weights[kMaxTaps] = {1.0};
    double first = attributes_.mode == GridMode::Nearest ? x : base;
    if (attributes_.mode == GridMode::Linear) {
      weights[0] = 1.0 - (x - base);
      weights[1] = x - base;
    } else if (attributes_.mode == GridMode::Cubic) {
      cubic_weights(x - base, weights);
      first = base - 1.0;
    }
    struct {
      std::int64_t offset;
      float weight;
    } inside[kMaxTaps];
    int count = 0;
    for (int t = 0; t < taps; ++t) {
      const std::int64_t index = resolve(first + t, axis, attributes_.padding);
      if (index >= 0) inside[count++] = {index * axis.stride, static_cast<float>(weights[t])};
    }
    const int before = terms.count;
    for (int t = count - 1; t >= 0; --t) {  // the first tap last, in place
      for (int k = 0; k < before; ++k) {
        terms.offset[t * before + k] = terms.offset[k] + inside[t].offset;
        terms.weight[t * before + k] = terms.weight[k] * inside[t].weight;
      }
    }
    terms.count = before * count;
  }

  void draw(const Terms& terms, float* y, const float* x) const noexcept {
    for (std::int64_t channel = 0; channel < y_.dims[1]; ++channel, y += y_.strides[1], x += x_.strides[1]) {
      float sum = 0.0f;
      for (int k = 0; k < terms.count; ++k) sum += terms.weight[k] * x[terms.offset[k]];
      *y = sum;
    }
  }

  const Work& work_;
  const GridSampleAttributes& attributes_;
  const TensorView& x_;
  const TensorView& grid_;
  const TensorView& y_;
  const std::uint32_t axes_;
  Axis axis_[kMaxAxes] = {};
  Nest<3> places_;  ///< y, grid, x over images and positions
};

}  // namespace grid_sample_detail

struct GridSample {
  static constexpr std::uint16_t kId = 81;
  static constexpr const char* kName = "GridSample";
  using Attributes = GridSampleAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 2)) return wrong;
    const GridSampleAttributes& attributes = operands.as<GridSampleAttributes>();
    if (attributes.mode > GridMode::Cubic || attributes.padding > GridPadding::Reflection ||
        attributes.coordinates > GridCoordinates::Pixels) {
      return "unknown mode";
    }
    const TensorView& x = operands.in(0);
    const TensorView& grid = operands.in(1);
    const TensorView& y = operands.out(0);
    if (x.rank < 3 || x.rank > 2 + grid_sample_detail::kMaxAxes) return "x: rank is not 3, 4 or 5";
    if (!is_f32(x, x.rank) || !is_f32(grid, x.rank) || !is_f32(y, x.rank)) return "not f32 tensors of one rank";
    if (x.dims[0] != y.dims[0] || x.dims[1] != y.dims[1] || grid.dims[0] != y.dims[0]) {
      return "images or channels differ";
    }
    for (std::uint32_t i = 2; i < x.rank; ++i) {
      if (grid.dims[i - 1] != y.dims[i]) return "grid and output differ in positions";
      if (x.dims[i] > kMaxDenseExtent) return "x: extent too large";
    }
    if (grid.dims[x.rank - 1u] != x.rank - 2) return "grid: its last dimension is not x's number of axes";
    if (is_empty(x) && !is_empty(y)) return "no pixel to draw from";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    if (!is_empty(work.out(0))) grid_sample_detail::Sampler(work).run();
    return {};
  }
};

}  // namespace edgert::cpu
