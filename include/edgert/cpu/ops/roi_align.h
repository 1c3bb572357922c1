// SPDX-License-Identifier: Apache-2.0
// ONNX RoiAlign: each region of an image is cut into a grid of bins, and each bin pooled from samples between pixels.
// Inputs: x [N, C, H, W] f32; rois [R, 4] f32, left, top, right and bottom before spatial_scale; image of each region [R]
//   int32 or int64; one out of range is Error::IndexOutOfRange. Outputs: y [R, C, height, width] f32. Any strides.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/dense_operands.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/ops/gather.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

enum class RoiMode : std::uint8_t { Average = 0, Max = 1 };
struct RoiAlignAttributes {
  std::int32_t height, width;  ///< of y: only the builder's shape rule reads them
  std::int32_t sampling_ratio;  ///< samples of a bin along each axis; 0: about one a pixel
  float spatial_scale;
  RoiMode mode;
  std::uint8_t half_pixel;  ///< pixel i covers i - 0.5 .. i + 0.5; otherwise regions are at least one pixel large
  std::uint8_t reserved[2];
};

namespace roi_align_detail {

/// The samples of a region along one axis.
struct Axis {
  double start, bin, step;  ///< where the region starts, a bin's length, the distance of its samples
  double samples;           ///< of a bin; a whole number
  std::int64_t extent;      ///< of the image

  Axis(double low, double high, std::int64_t bins, std::int64_t pixels, const RoiAlignAttributes& attributes) noexcept
      : extent(pixels) {
    const double offset = attributes.half_pixel != 0 ? 0.5 : 0.0;
    const double scale = static_cast<double>(attributes.spatial_scale);
    start = low * scale - offset;
    double length = high * scale - offset - start;
    if (attributes.half_pixel == 0 && !(length >= 1.0)) length = 1.0;
    bin = length / static_cast<double>(bins);
    samples = attributes.sampling_ratio > 0 ? static_cast<double>(attributes.sampling_ratio) : scalar::ceil(bin);
    step = bin / samples;
  }
  /// Only finite regions with samples are visited.
  bool usable() const noexcept { return samples >= 1.0 && scalar::abs(start) < 1e15 && scalar::abs(bin) < 1e15; }
  double position(std::int64_t index, double sample) const noexcept {
    return start + static_cast<double>(index) * bin + (sample + 0.5) * step;
  }
  bool is_inside(double x) const noexcept { return x >= -1.0 && x <= static_cast<double>(extent); }

  /// The first and the last sample of bin `index` that may be inside the image: however large a region is, only as many
  /// are visited as the image has room for.
  void range(std::int64_t index, double& first, double& last) const noexcept {
    first = 0.0;
    last = samples - 1.0;
    if (step == 0.0) return;
    const double at = position(index, 0.0);
    const double one = (-1.0 - at) / step;
    const double other = (static_cast<double>(extent) - at) / step;
    const double low = scalar::floor(one < other ? one : other);
    const double high = scalar::ceil(one < other ? other : one);
    first = low > first ? low : first;
    last = high < last ? high : last;
  }
};

/// The two pixels beside a position inside, and the weight of the second.
struct Pair {
  std::int64_t low, high;
  float weight;

  Pair(double x, std::int64_t extent) noexcept {
    x = x > 0.0 ? x : 0.0;
    low = static_cast<std::int64_t>(x);
    high = low + 1;
    weight = static_cast<float>(x - static_cast<double>(low));
    if (low < extent - 1) return;
    low = high = extent - 1;
    weight = 0.0f;
  }
};

/// One bin of one region, for all channels.
class Bin {
 public:
  Bin(const Work& work, const float* image, float* y) noexcept
      : x_(work.in(0)), out_(work.out(0)), maximum_(work.as<RoiAlignAttributes>().mode == RoiMode::Max), image_(image),
        y_(y) {
    for (std::int64_t c = 0; c < out_.dims[1]; ++c) y_[c * out_.strides[1]] = 0.0f;
  }

  /// A maximum is that of the weighted pixels, not of their sums: that is how the operator is defined.
  void add(const Pair& row, const Pair& column) noexcept {
    const float weight[] = {(1.0f - row.weight) * (1.0f - column.weight), (1.0f - row.weight) * column.weight,
                            row.weight * (1.0f - column.weight), row.weight * column.weight};
    const std::int64_t rows[] = {row.low * x_.strides[2], row.high * x_.strides[2]};
    const std::int64_t columns[] = {column.low * x_.strides[3], column.high * x_.strides[3]};
    const float* from = image_;
    float* to = y_;
    for (std::int64_t c = 0; c < out_.dims[1]; ++c, from += x_.strides[1], to += out_.strides[1]) {
      const float pixel[] = {weight[0] * from[rows[0] + columns[0]], weight[1] * from[rows[0] + columns[1]],
                             weight[2] * from[rows[1] + columns[0]], weight[3] * from[rows[1] + columns[1]]};
      if (maximum_) {
        const float upper = scalar::max(pixel[0], pixel[1]);
        const float lower = scalar::max(pixel[2], pixel[3]);
        const float best = scalar::max(upper, lower);
        *to = samples_ == 0 ? best : scalar::max(*to, best);
      } else {
        *to += (pixel[0] + pixel[1]) + (pixel[2] + pixel[3]);
      }
    }
    ++samples_;
  }

  /// `samples`: all of the bin; those outside the image count as zeros.
  void finish(double samples) noexcept {
    const bool zeros = static_cast<double>(samples_) < samples;
    const float factor = static_cast<float>(1.0 / samples);
    for (std::int64_t c = 0; c < out_.dims[1]; ++c) {
      float& to = y_[c * out_.strides[1]];
      to = !maximum_ ? to * factor : zeros ? scalar::max(to, 0.0f) : to;
    }
  }

 private:
  const TensorView& x_;
  const TensorView& out_;
  const bool maximum_;
  const float* image_;
  float* y_;
  std::int64_t samples_ = 0;
};

inline void pool_bin(Bin& bin, const Axis& rows, std::int64_t row, const Axis& columns, std::int64_t column) noexcept {
  if (!rows.usable() || !columns.usable()) return;
  double first_row, last_row, first_column, last_column;
  rows.range(row, first_row, last_row);
  columns.range(column, first_column, last_column);
  for (double i = first_row; i <= last_row; i += 1.0) {
    const double y = rows.position(row, i);
    if (!rows.is_inside(y)) continue;
    for (double j = first_column; j <= last_column; j += 1.0) {
      const double x = columns.position(column, j);
      if (columns.is_inside(x)) bin.add(Pair(y, rows.extent), Pair(x, columns.extent));
    }
  }
  bin.finish(rows.samples * columns.samples);
}

inline Status run(const Work& work) noexcept {
  const TensorView& x = work.in(0);
  const TensorView& rois = work.in(1);
  const TensorView& images = work.in(2);
  const TensorView& y = work.out(0);
  const RoiAlignAttributes& attributes = work.as<RoiAlignAttributes>();
  const std::int64_t bins = y.dims[2] * y.dims[3];
  const PartRange range = part_range(y.dims[0] * bins, work.part, work.parts);
  for (std::int64_t item = range.begin; item < range.end; ++item) {
    const std::int64_t roi = item / bins;
    const std::int64_t row = item % bins / y.dims[3];
    const std::int64_t column = item % y.dims[3];
    const std::int64_t image = gather_detail::index_at(images, roi * images.strides[0]);
    if (image < 0 || image >= x.dims[0]) return Error::IndexOutOfRange;
    const auto corner = [&](std::int64_t i) {
      return static_cast<double>(rois.as<const float>()[roi * rois.strides[0] + i * rois.strides[1]]);
    };
    const Axis columns(corner(0), corner(2), y.dims[3], x.dims[3], attributes);
    const Axis rows(corner(1), corner(3), y.dims[2], x.dims[2], attributes);
    Bin bin(work, x.as<const float>() + image * x.strides[0],
            y.as<float>() + roi * y.strides[0] + row * y.strides[2] + column * y.strides[3]);
    pool_bin(bin, rows, row, columns, column);
  }
  return {};
}

}  // namespace roi_align_detail

struct RoiAlign {
  static constexpr std::uint16_t kId = 82;
  static constexpr const char* kName = "RoiAlign";
  using Attributes = RoiAlignAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 3)) return wrong;
    const RoiAlignAttributes& attributes = operands.as<RoiAlignAttributes>();
    const TensorView& x = operands.in(0);
    const TensorView& rois = operands.in(1);
    const TensorView& images = operands.in(2);
    const TensorView& y = operands.out(0);
    if (attributes.mode > RoiMode::Max) return "unknown mode";
    if (attributes.sampling_ratio < 0 || attributes.sampling_ratio > 1024) return "too many samples";
    if (!is_f32(x, 4) || !is_f32(rois, 2) || !is_f32(y, 4)) return "not f32 tensors of rank 4, 2 and 4";
    if (images.rank != 1 || (images.dtype != DType::I32 && images.dtype != DType::I64)) {
      return "the regions' images are no vector of int32 or int64";
    }
    if (rois.dims[1] != 4 || rois.dims[0] != y.dims[0] || images.dims[0] != y.dims[0] || x.dims[1] != y.dims[1]) {
      return "regions or channels differ";
    }
    if (x.dims[2] > kMaxDenseExtent || x.dims[3] > kMaxDenseExtent) return "x: extent too large";
    if (is_empty(x) && !is_empty(y)) return "no pixel to draw from";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) { return is_empty(work.out(0)) ? Status{} : roi_align_detail::run(work); }
};

}  // namespace edgert::cpu
