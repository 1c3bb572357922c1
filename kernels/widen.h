// SPDX-License-Identifier: Apache-2.0
// The widening 1x1 convolution of an inverted-residual block, from the patch of conv_patch.h to hidden pixels in shared memory,
// kHiddenPitch bytes each, rounded as if they had been stored: kPassBlocks times 16 channels of the patch's pixels. Weights
// are in registers.
#pragma once

#include "kernels/conv_patch.h"

namespace edgert::device {

constexpr int kHiddenBlocks = (kHidden + 15) / 16;
constexpr int kWarps = kThreads / 32;
constexpr int kPatchPixels = kPatchHeight * kPatchColumns;
// 16 bytes more than the channels spread rows over all banks.
constexpr int kHiddenPitch = kPassBlocks * 32 + 16;

// 16 pixels times 16 hidden channels at a time, shared among kExpandWarpsM x kExpandWarpsN warps.
constexpr int kDepthSteps = kChunk / 16;
constexpr int kExpandWarpsN = kWarps / kExpandWarpsM;
constexpr int kExpandBlocksM = (kPatchPixels + 15) / 16;
constexpr int kExpandBlocksN = (kPassBlocks + kExpandWarpsN - 1) / kExpandWarpsN;  // of a warp
static_assert(kWarps % kExpandWarpsM == 0, "warps do not divide");

using ExpandWeights = Vector16[kDepthSteps][kExpandBlocksN];
using ExpandBias = float[kExpandBlocksN][4];

/// This warp's place in the widening product.
struct ExpandWarp {
  int m, n, lane;
};
__device__ __forceinline__ ExpandWarp expand_warp() {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  return {warp % kExpandWarpsM, warp / kExpandWarpsM, static_cast<int>(threadIdx.x) % 32};
}

/// Weights and bias of the 16-channel blocks that this warp computes: every kExpandWarpsN-th of the kPassBlocks from `first` on.
__device__ __forceinline__ void load_expand(ExpandWeights& weights, ExpandBias& bias, const Vector16* packed, const float* from, int first,
                                            const ExpandWarp& warp) {
#pragma unroll
  for (int j = 0; j < kExpandBlocksN; ++j) {
    const int in_pass = warp.n + j * kExpandWarpsN;
    const int block = first + in_pass;
    const bool there = in_pass < kPassBlocks && block < kHiddenBlocks;
#pragma unroll
    for (int k = 0; k < kDepthSteps; ++k) {
      weights[k][j] = Vector16{};
      if (there) weights[k][j] = load_constant_16(packed + (k * kHiddenBlocks + block) * 32 + warp.lane);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int channel = i / 2 * 8 + warp.lane % 4 * 2 + i % 2;
      bias[j][i] = there ? from[block * 16 + channel] : 0.0f;
    }
  }
}

/// Whether a pixel of the patch, in the order in which it lies, belongs to the image.
__device__ __forceinline__ bool is_inside(int pixel, const Block& block) {
  const int slot = pixel % kPatchColumns;
  const int h = block.row * kStrideHeight - kPadTop + pixel / kPatchColumns;
  const int w = block.column * kStrideWidth - kPadLeft + slot % kColumnGroup * kInnerW + slot / kColumnGroup;
  return h >= 0 && h < kHeight && w >= 0 && w < kWidth;
}

/// 16 hidden pixels of a warp: activation, zeros where the window's padding is.
__device__ __forceinline__ void store_hidden(uint32 hidden, const float (&sum)[2 * kExpandBlocksN][4], int first, const ExpandWarp& warp, const Block& block) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pixel = first + half * 8 + warp.lane / 4;
    const bool inside = is_inside(pixel, block);
#pragma unroll
    for (int j = 0; j < 2 * kExpandBlocksN; ++j) {
      const int block_n = warp.n + j / 2 * kExpandWarpsN;
      if (kPassBlocks % kExpandWarpsN != 0 && block_n >= kPassBlocks) break;
      uint32 pair = activate_pair<Element, kExpandActivation, is_short(kExpandAlpha) && is_short(kExpandBeta)>(sum[j][half * 2], sum[j][half * 2 + 1], kExpandAlpha, kExpandBeta);
      if (!inside) pair = 0;
      const int channel = block_n * 16 + j % 2 * 8 + warp.lane % 4 * 2;
      store_shared_4(hidden + static_cast<uint32>(pixel * kHiddenPitch + channel * 2), pair);
    }
  }
}

__device__ __forceinline__ void widen(uint32 patch, uint32 hidden, const ExpandWeights& weights, const ExpandBias& bias, const ExpandWarp& warp,
                                       const Block& block) {
#pragma unroll 1
  for (int i = warp.m; i < kExpandBlocksM; i += kExpandWarpsM) {
    const int pixel = i * 16 + warp.lane % 16;
    const uint32 row = patch + static_cast<uint32>((pixel < kPatchPixels ? pixel : 0) * kPixelBytes + warp.lane / 16 * 16);
    float sum[2 * kExpandBlocksN][4];
#pragma unroll
    for (int j = 0; j < 2 * kExpandBlocksN; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[j][e] = bias[j / 2][j % 2 * 2 + e % 2];
    }
#pragma unroll
    for (int k = 0; k < kDepthSteps; ++k) {
      uint32 a[4];
      load_matrices(a, row + static_cast<uint32>(k * 32));
#pragma unroll
      for (int j = 0; j < kExpandBlocksN; ++j) {
        Element::multiply(sum[2 * j], a, weights[k][j].word[0], weights[k][j].word[1]);
        Element::multiply(sum[2 * j + 1], a, weights[k][j].word[2], weights[k][j].word[3]);
      }
    }
    store_hidden(hidden, sum, i * 16, warp, block);
  }
}

}  // namespace edgert::device
