// SPDX-License-Identifier: Apache-2.0
// Layer normalisation before a matrix product, without a pass of its own. With W' = W * gamma, folded offline,
//   sum_k W[n][k] * ((x[k] - mean) / deviation * gamma[k] + beta[k]) = (sum_k W'[n][k] x[k] - mean * S[n]) / deviation + C[n],
// S[n] being the sum of W' over k and C[n] that of W * beta. So the product reads x as it is, and only the end needs a
// row's mean and deviation. They are found from the patch as it passes through shared memory; the difference to the row's
// first element is what is summed and squared, which keeps the variance accurate whatever the mean. RMS normalisation is the
// same with a mean of zero.
#pragma once

#include "kernels/conv_finish.h"
#include "kernels/conv_patch.h"

namespace edgert::device {

constexpr int kRowThreads = kParts >= 8 ? 8 : kParts >= 4 ? 4 : 2;  // neighbouring threads that share a row
constexpr int kRowsAtOnce = kThreads / kRowThreads;
constexpr int kPasses = (kTileWidth + kRowsAtOnce - 1) / kRowsAtOnce;
constexpr int kVectors = kChannels / 8;  // of a row
constexpr int kStoredVectors = (kVectors + kTilesN * kRowThreads - 1) / (kTilesN * kRowThreads);  // of a row, by a thread

/// Where the 16 bytes with number `vector` of a row lie in a patch.
__device__ __forceinline__ uint32 row_vector(uint32 patch, int row, int vector) {
#if EDGERT_CONV_GROUPED_WARPS
  return patch + swizzled(row, vector);
#else
  return patch + static_cast<uint32>(row * kPixelBytes + vector * 16);
#endif
}

class RowStatistics {
 public:
  /// Takes a chunk of all rows, in order from the first.
  __device__ __forceinline__ void add(uint32 patch, int chunk) {
    const int first = static_cast<int>(threadIdx.x) % kRowThreads;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = static_cast<int>(threadIdx.x) / kRowThreads + pass * kRowsAtOnce;
      const int from = row < kTileWidth ? row : 0;
      if (chunk == 0) {
        float second;
        Element::unpack(load_shared_16(row_vector(patch, from, 0)).word[0], pivot_[pass], second);
        if constexpr (kRms) pivot_[pass] = 0.0f;
      }
#pragma unroll
      for (int v = first; v < kParts; v += kRowThreads) {
        if (kChannels % kChunk != 0 && chunk * kParts + v >= kVectors) break;
        float x[8];
        unpack8<Element>(load_shared_16(row_vector(patch, from, v)), x);
#pragma unroll
        for (int c = 0; c < 8; ++c) {
          const float difference = x[c] - pivot_[pass];
          sum_[pass] += difference;
          squares_[pass] += difference * difference;
        }
      }
    }
  }

  /// Mean and reciprocal deviation of each row, for finish().
  __device__ __forceinline__ void finish(float2* rows) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
#pragma unroll
      for (int distance = kRowThreads / 2; distance > 0; distance /= 2) {
        sum_[pass] += __shfl_xor_sync(0xffffffffu, sum_[pass], distance);
        squares_[pass] += __shfl_xor_sync(0xffffffffu, squares_[pass], distance);
      }
      const float offset = kRms ? 0.0f : sum_[pass] * (1.0f / kChannels);
      const float variance = squares_[pass] * (1.0f / kChannels) - offset * offset;
      pivot_[pass] += offset;
      squares_[pass] = 1.0f / scalar::sqrt((variance > 0.0f ? variance : 0.0f) + kEpsilon);
      const int row = static_cast<int>(threadIdx.x) / kRowThreads + pass * kRowsAtOnce;
      if (threadIdx.x % kRowThreads == 0 && row < kTileWidth) rows[row] = make_float2(pivot_[pass], squares_[pass]);
    }
  }

  /// After finish(): this block's share of the normalised rows, every kTilesN-th vector, from the patches where all are
  /// still there, else from `x`. `parameters` are those of the product: gamma and beta follow bias and sums.
  __device__ __forceinline__ void store(uint16* to, const uint16* x, uint32 patches, const Block& block, const float* parameters) const {
    const float* gamma = parameters + 2 * ((kOutChannels + 15) / 16 * 16);
#pragma unroll
    for (int i = 0; i < kStoredVectors; ++i) {
      const int v = block.channel / kBlockN + (static_cast<int>(threadIdx.x) % kRowThreads + i * kRowThreads) * kTilesN;
      if (v >= kVectors) break;
      float scale[8] = {}, shift[8] = {};
      add8(scale, gamma + v * 8);
      add8(shift, gamma + kChannels + v * 8);
#pragma unroll
      for (int pass = 0; pass < kPasses; ++pass) {
        const int row = static_cast<int>(threadIdx.x) / kRowThreads + pass * kRowsAtOnce;
        if (row >= kTileWidth || block.column + row >= kOutWidth) break;
        const int at = (block.image * kOutWidth + block.column + row) * kInputPitch + v * 8;
        float value[8];
        if constexpr (kPatchBuffers * kChunk >= kChannels) {
          unpack8<Element>(load_shared_16(row_vector(patches + static_cast<uint32>(v / kParts * kPatchBytes), row, v % kParts)), value);
        } else {
          unpack8<Element>(*reinterpret_cast<const Vector16*>(x + at), value);
        }
#pragma unroll
        for (int c = 0; c < 8; ++c) value[c] = (value[c] - pivot_[pass]) * squares_[pass] * scale[c] + shift[c];
        *reinterpret_cast<Vector16*>(to + at) = pack8<Element>(value);
      }
    }
  }

 private:
  float pivot_[kPasses];         // later the mean
  float sum_[kPasses] = {};
  float squares_[kPasses] = {};  // later the reciprocal deviation
};

}  // namespace edgert::device
