// SPDX-License-Identifier: Apache-2.0
// Depthwise convolutions on tensor cores, from pixels in shared memory: for each tap 16 pixels of eight channels are multiplied
// with a diagonal matrix of the tap's weights. Seven eighths of the multiplications are by zero, and still there is less to do
// than with a multiply-add and half a conversion for each weight: fragments come from `ldmatrix`, which shifts pixels for
// nothing, and what one row of pixels gives to several rows of outputs is loaded once. A value that is not finite spreads to
// the eight channels around it.
#pragma once

#include "kernels/conv_patch.h"

namespace edgert::device {

/// A warp's weights of 16 channels, and their bias. In memory: for each tap a word a channel, which holds the weight in its
/// lower half if the channel's number is even, else in its upper half, and zero in the other; then the biases, floats.
template <int kTapCount>
struct WindowWeights {
  uint32 tap[kTapCount][2];  // of the first eight channels, of the others
  float bias[2][2];          // of the channels of this lane's accumulators

  __device__ __forceinline__ void load(uint32 from, int lane) {
    const bool diagonal = lane % 4 == lane / 8;  // of what this lane holds of the 8x8 matrix, one is on the diagonal
#pragma unroll
    for (int t = 0; t < kTapCount; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        tap[t][half] = 0;
        if (diagonal) tap[t][half] = load_shared_4(from + static_cast<uint32>((t * 16 + half * 8 + lane / 4) * 4));
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint2 two = load_shared_8(from + static_cast<uint32>((kTapCount * 16 + half * 8 + lane % 4 * 2) * 4));
      bias[half][0] = scalar::bit_cast<float>(two.x), bias[half][1] = scalar::bit_cast<float>(two.y);
    }
  }
};

/// Sums of `kCount` outputs one below the other, of 16 columns and 16 channels, as m16n8 accumulators. `at` is what this lane
/// addresses of the first output's first tap, in an image laid out as conv_patch.h's patch with kPitch bytes a pixel.
template <int kPitch, int kCount, int kTapCount>
__device__ __forceinline__ void slide_window(float (&sum)[kCount][2][4], uint32 at, const WindowWeights<kTapCount>& weights) {
#pragma unroll
  for (int r = 0; r < kCount; ++r) {
#pragma unroll
    for (int e = 0; e < 8; ++e) sum[r][e / 4][e % 4] = weights.bias[e / 4][e % 2];
  }
#pragma unroll
  for (int row = 0; row < (kCount - 1) * kInnerH + kKernelHeight; ++row) {
#pragma unroll
    for (int q = 0; q < kKernelWidth; ++q) {
      uint32 a[4];
      load_matrices(a, at + static_cast<uint32>((row * kPatchColumns + q % kInnerW * kColumnGroup + q / kInnerW) * kPitch));
#pragma unroll
      for (int r = 0; r < kCount; ++r) {
        const int p = row - r * kInnerH;
        if (p < 0 || p >= kKernelHeight) continue;
        Element::multiply_narrow(sum[r][0], a[0], a[1], weights.tap[p * kKernelWidth + q][0]);
        Element::multiply_narrow(sum[r][1], a[2], a[3], weights.tap[p * kKernelWidth + q][1]);
      }
    }
  }
}

}  // namespace edgert::device
