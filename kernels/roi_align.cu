// SPDX-License-Identifier: Apache-2.0
// ONNX RoiAlign: a thread computes one bin of one region for one channel. A region whose image does not exist gives zeros.
// problem.h: offline_builder/codegen/sample_kernel.h.
#include "kernels/common/element.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

/// The samples of a region along one axis.
struct Axis {
  double start, bin, step;
  double samples;  ///< of a bin; a whole number
  double extent;

  __device__ __forceinline__ Axis(double low, double high, double bins, double pixels) : extent(pixels) {
    const double offset = kHalfPixel ? 0.5 : 0.0;
    start = low * kSpatialScale - offset;
    double length = high * kSpatialScale - offset - start;
    if (!kHalfPixel && !(length >= 1.0)) length = 1.0;
    bin = length / bins;
    samples = kSamplingRatio > 0 ? static_cast<double>(kSamplingRatio) : scalar::ceil(bin);
    step = bin / samples;
  }
  __device__ __forceinline__ bool usable() const { return samples >= 1.0 && scalar::abs(start) < 1e15 && scalar::abs(bin) < 1e15; }
  __device__ __forceinline__ double position(Index index, double sample) const {
    return start + static_cast<double>(index) * bin + (sample + 0.5) * step;
  }
  /// The samples of bin `index` that may be inside: no more are visited than the image has room for.
  __device__ __forceinline__ void range(Index index, double& first, double& last) const {
    first = 0.0;
    last = samples - 1.0;
    if (step == 0.0) return;
    const double at = position(index, 0.0);
    const double one = (-1.0 - at) / step;
    const double other = (extent - at) / step;
    const double low = scalar::floor(one < other ? one : other);
    const double high = scalar::ceil(one < other ? other : one);
    first = low > first ? low : first;
    last = high < last ? high : last;
  }
};

/// The two pixels beside a position inside, and the weight of the second.
struct Pair {
  Index low, high;
  float weight;

  __device__ __forceinline__ Pair(double x, Index extent) {
    x = x > 0.0 ? x : 0.0;
    low = static_cast<Index>(x);
    high = low + 1;
    weight = static_cast<float>(x - static_cast<double>(low));
    if (low < extent - 1) return;
    low = high = extent - 1;
    weight = 0.0f;
  }
};

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  allow_next_grid();
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  const Index column = item % kBinColumns;
  const Index row = item / kBinColumns % kBinRows;
  const Index channel = item / (kBinColumns * kBinRows) % kChannels;
  const Index roi = item / (kBinColumns * kBinRows * kChannels);
  wait_for_previous_grid();
  if (roi >= kRegions) return;
  const int64 image = static_cast<int64>(images[roi * images_stride(0)]);
  float result = 0.0f;
  double count = 0.0;
  const auto corner = [&](int i) { return static_cast<double>(rois_type::load(rois[roi * rois_stride(0) + i * rois_stride(1)])); };
  const Axis columns(corner(0), corner(2), static_cast<double>(kBinColumns), static_cast<double>(kWidth));
  const Axis rows(corner(1), corner(3), static_cast<double>(kBinRows), static_cast<double>(kHeight));
  if (image >= 0 && image < kImages && rows.usable() && columns.usable()) {
    const x_type::Storage* from = x + static_cast<Index>(image) * x_stride(0) + channel * x_stride(1);
    double first_row, last_row, first_column, last_column;
    rows.range(row, first_row, last_row);
    columns.range(column, first_column, last_column);
    for (double i = first_row; i <= last_row; i += 1.0) {
      const double h = rows.position(row, i);
      if (!(h >= -1.0 && h <= rows.extent)) continue;
      for (double j = first_column; j <= last_column; j += 1.0) {
        const double w = columns.position(column, j);
        if (!(w >= -1.0 && w <= columns.extent)) continue;
        const Pair r(h, kHeight);
        const Pair c(w, kWidth);
        const auto pixel = [&](Index a, Index b) { return static_cast<float>(x_type::load(from[a * x_stride(2) + b * x_stride(3)])); };
        const float part[4] = {(1.0f - r.weight) * (1.0f - c.weight) * pixel(r.low, c.low), (1.0f - r.weight) * c.weight * pixel(r.low, c.high),
                               r.weight * (1.0f - c.weight) * pixel(r.high, c.low), r.weight * c.weight * pixel(r.high, c.high)};
        if constexpr (kMaximum) {
          const float best = scalar::max(scalar::max(part[0], part[1]), scalar::max(part[2], part[3]));
          result = count == 0.0 ? best : scalar::max(result, best);
        } else {
          result += (part[0] + part[1]) + (part[2] + part[3]);
        }
        count += 1.0;
      }
    }
    const double samples = rows.samples * columns.samples;
    if (!kMaximum) result *= static_cast<float>(1.0 / samples);
    else if (count < samples) result = scalar::max(result, 0.0f);  // those outside the image count as zeros
  }
  y[roi * y_stride(0) + channel * y_stride(1) + row * y_stride(2) + column * y_stride(3)] = y_type::store(result);
}

}  // namespace edgert::device
