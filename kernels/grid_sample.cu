// SPDX-License-Identifier: Apache-2.0
// ONNX GridSample: x drawn at the positions of a grid, nearest, linear or cubic. A thread computes up to kChannelRun
// channels at one position; which pixels it draws from is computed in double, as on the CPU. problem.h holds the modes,
// the nest of y, grid and x over images and positions, and the operands' strides
// (offline_builder/codegen/sample_kernel.h).
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

enum Mode { kNearest = 0, kLinear = 1, kCubic = 2 };
enum Padding { kZeros = 0, kBorder = 1, kReflection = 2 };
enum Coordinates { kHalfPixel = 0, kAlignCorners = 1, kPixels = 2 };
constexpr int kTaps = kMode == kNearest ? 1 : kMode == kLinear ? 2 : 4;
constexpr int kTerms = kAxes == 1 ? kTaps : kAxes == 2 ? kTaps * kTaps : kTaps * kTaps * kTaps;

/// The pixels that one axis of a position draws from; -1: none.
struct Taps {
  Index index[kTaps];
  float weight[kTaps];
};

/// Brings x between the mirrors at the ends; a number that cannot be mirrored becomes the lower one.
__device__ __forceinline__ double reflect(double x, double low, double high) {
  const double range = high - low;
  if (x >= low && x <= high) return x;
  if (!(range > 0.0)) return low;
  const double distance = x < low ? low - x : x - high;
  const double turns = scalar::floor(distance / range);
  const double rest = distance - turns * range;
  const bool even = turns - 2.0 * scalar::floor(turns / 2.0) == 0.0;
  const double mirrored = (x < low) == even ? low + rest : high - rest;
  return mirrored >= low && mirrored <= high ? mirrored : low;
}

__device__ __forceinline__ Index resolve(double index, double extent, double low, double high) {
  if constexpr (kPadding == kReflection) {
    index = reflect(index, low, high);
    index = index < 0.0 ? scalar::ceil(index) : scalar::floor(index);
  }
  if (kPadding == kZeros && !(index >= 0.0 && index <= extent - 1.0)) return -1;
  return static_cast<Index>(!(index > 0.0) ? 0.0 : index > extent - 1.0 ? extent - 1.0 : index);
}

/// Keys' cubic convolution with a = -0.75, within one pixel of the centre and beyond.
__device__ __forceinline__ double near_weight(double d) { return (1.25 * d - 2.25) * d * d + 1.0; }
__device__ __forceinline__ double far_weight(double d) { return ((-0.75 * d + 3.75) * d - 6.0) * d + 3.0; }

__device__ __forceinline__ Taps find_taps(float coordinate, Index pixels) {
  const double extent = static_cast<double>(pixels);
  const double low = kCoordinates == kHalfPixel ? -0.5 : 0.0;
  const double high = kCoordinates == kHalfPixel ? extent - 0.5 : extent - 1.0;
  const double n = static_cast<double>(coordinate);
  double x = n;
  if (kCoordinates == kHalfPixel) x = ((n + 1.0) * extent - 1.0) / 2.0;
  if (kCoordinates == kAlignCorners) x = (n + 1.0) / 2.0 * (extent - 1.0);
  x = static_cast<double>(static_cast<float>(x));
  if (kMode == kNearest) x = scalar::round(x);
  if (kPadding == kBorder && !(x >= low && x <= high)) x = !(x > 0.0) ? 0.0 : x > extent - 1.0 ? extent - 1.0 : x;
  if (kPadding == kReflection) x = reflect(x, low, high);
  // Further out nothing changes any more; this also takes NaN.
  x = !(x > -4.0) ? -4.0 : x > extent + 4.0 ? extent + 4.0 : x;
  const double base = scalar::floor(x);
  const double t = x - base;
  const double first = kMode == kNearest ? x : kMode == kCubic ? base - 1.0 : base;
  const double cubic[4] = {far_weight(t + 1.0), near_weight(t), near_weight(1.0 - t), far_weight(2.0 - t)};
  Taps taps;
#pragma unroll
  for (int i = 0; i < kTaps; ++i) {
    taps.weight[i] = static_cast<float>(kMode == kNearest ? 1.0 : kMode == kLinear ? (i == 0 ? 1.0 - t : t) : cubic[i]);
    taps.index[i] = resolve(first + i, extent, low, high);
  }
  return taps;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  allow_next_grid();
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  const bool active = item < Places::kCount * kChannelRuns;
  const Index channel = active ? item / Places::kCount * kChannelRun : 0;
  Index offset[3] = {};
  locate<Places>(active ? item % Places::kCount : Index{0}, offset);
  wait_for_previous_grid();
  if (!active) return;
  Taps taps[kAxes];
#pragma unroll
  for (int i = 0; i < kAxes; ++i) {
    // The grid counts dimensions from the last one on.
    taps[i] = find_taps(grid_type::load(grid[offset[1] + (kAxes - 1 - i) * grid_stride(kAxes + 1)]), x_extent(i));
  }
  for (Index c = channel; c < channel + kChannelRun && c < kChannels; ++c) {
    const x_type::Storage* from = x + offset[2] + c * x_stride(1);
    float sum = 0.0f;
#pragma unroll
    for (int term = 0; term < kTerms; ++term) {
      Index at = 0;
      float weight = 1.0f;
      bool inside = true;
      int digit = term;
#pragma unroll
      for (int i = 0; i < kAxes; ++i) {
        const int tap = digit % kTaps;
        digit /= kTaps;
        inside = inside && taps[i].index[tap] >= 0;
        at += taps[i].index[tap] * x_stride(i + 2);
        weight *= taps[i].weight[tap];
      }
      if (inside) sum += weight * x_type::load(from[at]);
    }
    y[offset[0] + c * y_stride(1)] = y_type::store(sum);
  }
}

}  // namespace edgert::device
