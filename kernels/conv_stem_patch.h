// SPDX-License-Identifier: Apache-2.0
// The input patch of a network's first layer, read from an image of floats or bytes in any order, normalised and, for 16-bit
// elements, rounded on the way. A pixel has so few channels that one tap would fill no matrix block; so a whole kernel row
// is one tap. In shared memory pixels lie one
// after the other, padded to kPixelChannels, and the kKernelWidth pixels that an output reads are one run of bytes that
// starts at a multiple of 16, because kStrideWidth pixels are whole vectors of 16 bytes. Weights of the padding are zero.
#pragma once

#include "kernels/conv_tile.h"

namespace edgert::device {

constexpr int kTaps = kKernelHeight;
constexpr int kPixelBytes = (kFloatOutput ? 4 : 2) * kPixelChannels;
constexpr int kPatchHeight = (kTileHeight - 1) * kStrideHeight + kKernelHeight;
// Slots from one output's first pixel to the next one's. Where outputs share no pixel, as in a transformer's first layer,
// 16 bytes more make it an odd multiple of 16, which spreads eight rows over all banks.
constexpr int kGroup = kStrideWidth + (kKernelWidth <= kStrideWidth && kStrideWidth * kPixelBytes % 32 == 0 ? 16 / kPixelBytes : 0);
constexpr int kPatchColumns = ((kTileWidth - 1) * kGroup + kKernelWidth + 7) / 8 * 8;
// The run of the last pixel reaches past the patch, up to a whole chunk.
constexpr int kSlots = kPatchHeight * kPatchColumns + (2 * kChunk + kPixelBytes - 1) / kPixelBytes;
constexpr int kPatchBytes = (kSlots * kPixelBytes + 15) / 16 * 16;
constexpr int kSlotsPerThread = (kSlots + kThreads - 1) / kThreads;
static_assert(kDilationHeight == 1 && kDilationWidth == 1, "a kernel row must be one run");
static_assert(kStrideWidth * kPixelBytes % 16 == 0 && (kPixelChannels == 4 || kPixelChannels == 8), "rows must be aligned");
static_assert(kInputChannels <= kPixelChannels && kChannels == kChunk, "one chunk holds a kernel row");

template <bool kBytes>
struct ImageElement {
  using Type = float;
};
template <>
struct ImageElement<true> {
  using Type = unsigned char;
};

/// What the product is to be of, from element x of channel c.
__device__ __forceinline__ float normalize_pixel(float x, int c) {
  if (!kImageNormalized) return x;
  const float scale = c == 0   ? kImageScale0
                      : c == 1 ? kImageScale1
                      : c == 2 ? kImageScale2
                      : c == 3 ? kImageScale3
                      : c == 4 ? kImageScale4
                      : c == 5 ? kImageScale5
                      : c == 6 ? kImageScale6
                               : kImageScale7;
  const float shift = c == 0   ? kImageShift0
                      : c == 1 ? kImageShift1
                      : c == 2 ? kImageShift2
                      : c == 3 ? kImageShift3
                      : c == 4 ? kImageShift4
                      : c == 5 ? kImageShift5
                      : c == 6 ? kImageShift6
                               : kImageShift7;
  return x * scale + shift;
}

class Patch {
 public:
  __device__ __forceinline__ explicit Patch(const Block& block) {
#pragma unroll
    for (int i = 0; i < kSlotsPerThread; ++i) {
      const int slot = static_cast<int>(threadIdx.x) + i * kThreads;
      const int group = slot % kPatchColumns / kGroup;
      const int within = slot % kPatchColumns % kGroup;
      const int column = group * kStrideWidth + within;
      const int h = block.row * kStrideHeight - kPadTop + slot / kPatchColumns;
      const int w = block.column * kStrideWidth - kPadLeft + column;
      const bool inside = h >= 0 && h < kHeight && w >= 0 && w < kWidth && slot < kPatchHeight * kPatchColumns &&
                          (kGroup == kStrideWidth || within < kStrideWidth);
      offset_[i] = inside ? block.image * kImageStride + h * kRowStride + w * kColumnStride : -1;
      pin(offset_[i]);
    }
  }

  __device__ __forceinline__ void clear(uint32) const {}  // load() writes every place

  __device__ __forceinline__ void load(uint32 to, const void* input, int) const {
    const auto* x = static_cast<const ImageElement<kImageBytes>::Type*>(input);
    float value[kSlotsPerThread][kPixelChannels];
#pragma unroll
    for (int i = 0; i < kSlotsPerThread; ++i) {
#pragma unroll
      for (int c = 0; c < kPixelChannels; ++c) {
        const bool there = c < kInputChannels && offset_[i] >= 0;
        value[i][c] = there ? normalize_pixel(static_cast<float>(x[offset_[i] + c * kChannelStride]), c) : 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < kSlotsPerThread; ++i) {
      const int slot = static_cast<int>(threadIdx.x) + i * kThreads;
      if (slot >= kSlots) break;
      const uint32 at = to + static_cast<uint32>(slot * kPixelBytes);
#pragma unroll
      for (int c = 0; c < kPixelChannels; c += 4) {
        store_four<Element>(at + static_cast<uint32>(c * kPixelBytes / kPixelChannels), value[i] + c);
      }
    }
  }

 private:
  template <class E>
  __device__ static __forceinline__ void store_four(uint32 to, const float* x) {
    if constexpr (kFloatOutput) {
      const auto bits = [](float f) { return scalar::bit_cast<uint32>(f); };
      store_shared_16(to, {{bits(x[0]), bits(x[1]), bits(x[2]), bits(x[3])}});
    } else {
      store_shared_8(to, E::pack(x[0], x[1]), E::pack(x[2], x[3]));
    }
  }

  int offset_[kSlotsPerThread];  // of channel 0; -1 where padding is
};

/// Bytes from the start of a patch to what output m of the tile reads for tap 0; m may lie beyond the last.
__device__ __forceinline__ uint32 pixel_bytes(int m) {
  const int pixel = m < kTileHeight * kTileWidth ? m : 0;
  return static_cast<uint32>((pixel / kTileWidth * kStrideHeight * kPatchColumns + pixel % kTileWidth * kGroup) * kPixelBytes);
}

__device__ constexpr int tap_bytes(int tap) { return tap * kPatchColumns * kPixelBytes; }

}  // namespace edgert::device
