// SPDX-License-Identifier: Apache-2.0
// The input patch of a tile in shared memory, one row of kChunk channels a pixel, read from a tensor with channels last.
#pragma once

#include "kernels/conv_tile.h"

namespace edgert::device {

constexpr int kTaps = kKernelHeight * kKernelWidth;
// A kernel of extent 1 needs only the pixels that it samples; others need all between.
constexpr int kStepH = kKernelHeight == 1 ? kStrideHeight : 1;
constexpr int kStepW = kKernelWidth == 1 ? kStrideWidth : 1;
constexpr int kInnerH = kStrideHeight / kStepH;
constexpr int kInnerW = kStrideWidth / kStepW;
constexpr int kPatchHeight = (kTileHeight - 1) * kInnerH + (kKernelHeight - 1) * kDilationHeight + 1;
constexpr int kPatchWidth = (kTileWidth - 1) * kInnerW + (kKernelWidth - 1) * kDilationWidth + 1;
// Columns of equal remainder modulo the stride lie together, so that neighbouring outputs read neighbouring rows.
constexpr int kColumnGroup = (kPatchWidth + kInnerW - 1) / kInnerW;
constexpr int kPatchColumns = kColumnGroup * kInnerW;
// 16 bytes more than the chunk: an odd multiple of 16, which spreads eight rows over all banks.
constexpr int kPixelBytes = 2 * kChunk + 16;
// With kScaled one more row holds the factors of the chunk's channels, with kPreActivated a second one their terms.
constexpr int kScaleOffset = kPatchHeight * kPatchColumns * kPixelBytes;
constexpr int kScaleRows = kPreActivated ? 2 : kScaled ? 1 : 0;
constexpr int kPatchBytes = kScaleOffset + kScaleRows * kPixelBytes;
// Whether an output inside reads what lies outside of the image. What others read does not matter.
constexpr bool kHasPadding = kPadTop > 0 || kPadLeft > 0 ||
                             (kOutHeight - 1) * kStrideHeight - kPadTop + (kKernelHeight - 1) * kDilationHeight >= kHeight ||
                             (kOutWidth - 1) * kStrideWidth - kPadLeft + (kKernelWidth - 1) * kDilationWidth >= kWidth;
constexpr int kParts = kChunk / 8;
constexpr int kPieces = kPatchHeight * kPatchColumns * kParts;
constexpr int kPiecesPerThread = (kPieces + kThreads - 1) / kThreads;

/// Finds and copies the part of each patch that one thread is responsible for.
class Patch {
 public:
  __device__ __forceinline__ explicit Patch(const Block& block) {
#pragma unroll
    for (int i = 0; i < kPiecesPerThread; ++i) {
      const int piece = static_cast<int>(threadIdx.x) + i * kThreads;
      const int pixel = piece / kParts;
      const int slot = pixel % kPatchColumns;
      const int column = slot % kColumnGroup * kInnerW + slot / kColumnGroup;
      const int h = block.row * kStrideHeight - kPadTop + pixel / kPatchColumns * kStepH;
      const int w = block.column * kStrideWidth - kPadLeft + column * kStepW;
      const bool inside = h >= 0 && h < kHeight && w >= 0 && w < kWidth && column < kPatchWidth && is_piece(i);
      offset_[i] = inside ? ((block.image * kHeight + h) * kWidth + w) * kInputPitch + piece % kParts * 8 : -1;
      pin(offset_[i]);
    }
  }

  /// Zeros where padding is, in all buffers: no later load touches these places.
  __device__ __forceinline__ void clear(uint32 patches) const {
    if constexpr (!kHasPadding) return;
#pragma unroll
    for (int i = 0; i < kPiecesPerThread; ++i) {
      if (offset_[i] >= 0 || !is_piece(i)) continue;
#pragma unroll 1
      for (int b = 0; b < kPatchBuffers; ++b) store_shared_16(place(patches + static_cast<uint32>(b * kPatchBytes), i), Vector16{});
    }
  }

  __device__ __forceinline__ void load(uint32 to, const void* input, int chunk) const {
    const uint16* x = static_cast<const uint16*>(input) + chunk * kChunk;
#pragma unroll
    for (int i = 0; i < kPiecesPerThread; ++i) {
      const int left = 2 * (kChannels - chunk * kChunk - (static_cast<int>(threadIdx.x) + i * kThreads) % kParts * 8);
      if constexpr (kInputAtOnce < 8) {
        if (offset_[i] >= 0) load_parts(place(to, i), input, x + offset_[i], left);
      } else if constexpr (kChannels % kChunk == 0) {
        if (offset_[i] >= 0) copy_async_16(place(to, i), x + offset_[i]);
      } else {
        const uint32 bytes = left >= 16 ? 16u : left > 0 ? static_cast<uint32>(left) : 0u;
        if (offset_[i] >= 0) copy_async_16(place(to, i), bytes == 0 ? input : x + offset_[i], bytes);
      }
    }
  }

  /// The factors, and terms, of a chunk's channels, zeros beyond the last.
  __device__ static __forceinline__ void load_scale(uint32 to, const uint16* scale, int chunk) {
    const int row = static_cast<int>(threadIdx.x) / kParts;
    const int channel = chunk * kChunk + static_cast<int>(threadIdx.x) % kParts * 8;
    const uint32 at = to + static_cast<uint32>(kScaleOffset + row * kPixelBytes + static_cast<int>(threadIdx.x) % kParts * 16);
    if (row < kScaleRows) copy_async_16(at, channel < kChannels ? scale + row * kChannels + channel : scale, channel < kChannels ? 16u : 0u);
  }

 private:
  __device__ static __forceinline__ bool is_piece(int i) {
    return kPieces % kThreads == 0 || static_cast<int>(threadIdx.x) + i * kThreads < kPieces;
  }
  /// Eight channels in pieces of kInputAtOnce, zeros from `left` bytes on. What is not read still names an address.
  __device__ static __forceinline__ void load_parts(uint32 to, const void* input, const uint16* from, int left) {
    constexpr int kBytes = kInputAtOnce * 2;
#pragma unroll
    for (int at = 0; at < 16; at += kBytes) {
      const uint32 bytes = left - at >= kBytes ? static_cast<uint32>(kBytes) : left > at ? static_cast<uint32>(left - at) : 0u;
      copy_async<kBytes>(to + static_cast<uint32>(at), bytes == 0 ? input : from + at / 2, bytes);
    }
  }
  /// Where piece i of this thread lies in the patch that starts at `patch`.
  __device__ static __forceinline__ uint32 place(uint32 patch, int i) {
    const int piece = static_cast<int>(threadIdx.x) + i * kThreads;
    return patch + static_cast<uint32>(piece / kParts * kPixelBytes + piece % kParts * 16);
  }

  int offset_[kPiecesPerThread];  // element offset of a piece in channel chunk 0; -1 where padding is
};

/// Bytes from the start of a patch to what output m of the tile reads for tap 0; m may lie beyond the last.
__device__ __forceinline__ uint32 pixel_bytes(int m) {
  const int pixel = m < kTileHeight * kTileWidth ? m : 0;
  return static_cast<uint32>((pixel / kTileWidth * kInnerH * kPatchColumns + pixel % kTileWidth) * kPixelBytes);
}

__device__ constexpr int tap_bytes(int tap) {
  const int down = tap / kKernelWidth * kDilationHeight;
  const int right = tap % kKernelWidth * kDilationWidth;
  return (down * kPatchColumns + right % kInnerW * kColumnGroup + right / kInnerW) * kPixelBytes;
}

}  // namespace edgert::device
