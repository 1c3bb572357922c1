// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution, maximum and average pooling, channels last: what slides a window over each channel by itself.
// A thread computes eight channels of kStrip neighbouring output pixels; the columns that two of them share are loaded
// once. Sums are in float. Depthwise weights lie as [tap][channel] and are requested before the wait for the previous
// kernel. problem.h holds the layer's extents (offline_builder/codegen/window_kernel.h).
#include "kernels/common/channels.h"
#include "kernels/common/epilogue.h"
#include "kernels/common/ptx.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

constexpr int kVectors = (kChannels + 7) / 8;
constexpr int kStrips = (kOutWidth + kStrip - 1) / kStrip;
constexpr int kSpan = (kStrip - 1) * kStrideWidth + (kKernelWidth - 1) * kDilationWidth + 1;

struct Arguments {
  const uint16* x;
  const uint16* weights;
  const float* bias;
  uint16* y;
};

/// One row of the window for all outputs of the strip; `channels` are left of the pixel.
__device__ __forceinline__ void load_row(Vector16 (&row)[kSpan], const uint16* x, int h, int first_w, int channels) {
#pragma unroll
  for (int i = 0; i < kSpan; ++i) {
    const int w = first_w + i;
    const bool inside = h >= 0 && h < kHeight && w >= 0 && w < kWidth;
    constexpr uint32 kOutside = kMaximum ? Element::kLowestPair : 0u;
    row[i] = {{kOutside, kOutside, kOutside, kOutside}};
    if (inside) row[i] = load_channels<kInputAtOnce>(x + (h * kWidth + w) * kInputPitch, channels);
  }
}

__device__ __forceinline__ void take(float (&sum)[8], const Vector16& value, const Vector16& weight) {
  float x[8];
  unpack8<Element>(value, x);
  float w[8];
  if constexpr (kDepthwise) unpack8<Element>(weight, w);
#pragma unroll
  for (int c = 0; c < 8; ++c) {
    if constexpr (kDepthwise) sum[c] += x[c] * w[c];
    else if constexpr (kMaximum) sum[c] = x[c] > sum[c] || x[c] != x[c] ? x[c] : sum[c];
    else sum[c] += x[c];
  }
}

/// Input pixels inside the image under the window of one output: the divisor of an average.
__device__ __forceinline__ float window_count(int row, int column) {
  if constexpr (kCountPadding) return kKernelHeight * kKernelWidth;
  int rows = 0;
  int columns = 0;
#pragma unroll
  for (int r = 0; r < kKernelHeight; ++r) {
    const int h = row * kStrideHeight - kPadTop + r * kDilationHeight;
    rows += h >= 0 && h < kHeight;
  }
#pragma unroll
  for (int s = 0; s < kKernelWidth; ++s) {
    const int w = column * kStrideWidth - kPadLeft + s * kDilationWidth;
    columns += w >= 0 && w < kWidth;
  }
  return static_cast<float>(rows * columns);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, 1) EDGERT_ENTRY(const uint16* input, const uint16* weights,
                                                                                 const float* bias_vector, uint16* y) {
  const Arguments arguments = {input, weights, bias_vector, y};
  allow_next_grid();
  const int item = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const int vector = item % kVectors;
  const int strip = item / kVectors % kStrips;
  const int out_row = item / (kVectors * kStrips) % kOutHeight;
  const int image = item / (kVectors * kStrips * kOutHeight);
  const bool active = image < kBatch;
  const int left = kChannels % 8 == 0 ? 8 : kChannels - vector * 8;
  constexpr int kTaps = kDepthwise ? kKernelHeight * kKernelWidth : 1;
  Vector16 weight[kTaps];
  float bias[8] = {};
  if constexpr (kDepthwise) {
#pragma unroll
    for (int t = 0; t < kTaps; ++t) weight[t] = load_constant_16(arguments.weights + (t * kVectors + vector) * 8);
    if constexpr (kHasBias) {
#pragma unroll
      for (int c = 0; c < 8; ++c) bias[c] = arguments.bias[vector * 8 + c];
    }
  }
  wait_for_previous_grid();
  if (!active) return;

  const uint16* x = arguments.x + image * kHeight * kWidth * kInputPitch + vector * 8;
  float sum[kStrip][8];
#pragma unroll
  for (int i = 0; i < kStrip; ++i) {
#pragma unroll
    for (int c = 0; c < 8; ++c) sum[i][c] = kMaximum ? -scalar::infinity_f32() : 0.0f;
  }
#pragma unroll
  for (int r = 0; r < kKernelHeight; ++r) {
    Vector16 row[kSpan];
    load_row(row, x, out_row * kStrideHeight - kPadTop + r * kDilationHeight, strip * kStrip * kStrideWidth - kPadLeft, left);
#pragma unroll
    for (int s = 0; s < kKernelWidth; ++s) {
#pragma unroll
      for (int i = 0; i < kStrip; ++i) {
        take(sum[i], row[i * kStrideWidth + s * kDilationWidth], weight[kDepthwise ? r * kKernelWidth + s : 0]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kStrip; ++i) {
    const int column = strip * kStrip + i;
    if (column >= kOutWidth) break;
    float scale = 1.0f;
    if constexpr (!kDepthwise && !kMaximum) scale = 1.0f / window_count(out_row, column);
#pragma unroll
    for (int c = 0; c < 8; ++c) sum[i][c] = sum[i][c] * scale + bias[c];
    uint16* to = arguments.y + ((image * kOutHeight + out_row) * kOutWidth + column) * kOutputPitch + vector * 8;
    store_channels<kOutputAtOnce>(to, finish8<Element, kActivation, scalar::ResidualMode::None>(sum[i], Vector16{}, kAlpha, kBeta), left);
  }
}

}  // namespace edgert::device
