// SPDX-License-Identifier: Apache-2.0
// A second product that is added to a convolution's sums before bias and activation: a 1x1 convolution of another tensor,
// the shortcut of a residual block. Its channels are more taps of the convolution's: the first kChannels of them are one
// tap, the next ones another. So each chunk of input channels brings its part of them, and everything behind the patches
// sees a kernel of more taps.
#pragma once

#include "kernels/conv_patch.h"

namespace edgert::device {

constexpr int kShortcutTaps = (kShortcutChannels + kChannels - 1) / kChannels;
/// Rows of a tap's pixels, which lie at the distances of the patch's: one address of a fragment does for both.
constexpr int kShortcutRows = (kTileHeight - 1) * kInnerH * kPatchColumns + kTileWidth;
constexpr int kShortcutTapBytes = kShortcutRows * kPixelBytes;
constexpr int kShortcutBytes = kShortcutTaps * kShortcutTapBytes;
constexpr int kShortcutPieces = kTileHeight * kTileWidth * kParts;
constexpr int kShortcutPiecesPerThread = (kShortcutPieces + kThreads - 1) / kThreads;
static_assert(kInputAtOnce == 8 && kGroups == 1, "pixels are copied in pieces of 16 bytes");

/// Finds and copies the part of each chunk's pixels that one thread is responsible for.
class Shortcut {
 public:
  __device__ __forceinline__ explicit Shortcut(const Block& block) {
#pragma unroll
    for (int i = 0; i < kShortcutPiecesPerThread; ++i) {
      const int pixel = piece(i) / kParts;
      const int h = block.row + pixel / kTileWidth, w = block.column + pixel % kTileWidth;
      // The convolution may see all images' pixels as one row.
      const int out = (block.image * kOutHeight + h) * kOutWidth + w;
      const int row = out / kShortcutOutWidth % kShortcutOutHeight, column = out % kShortcutOutWidth;
      const int from = (out / (kShortcutOutHeight * kShortcutOutWidth) * kShortcutHeight + row * kShortcutStrideHeight) * kShortcutWidth + column * kShortcutStrideWidth;
      offset_[i] = piece(i) < kShortcutPieces && h < kOutHeight && w < kOutWidth ? from * kShortcutPitch + piece(i) % kParts * 8 : -1;
      pin(offset_[i]);
    }
  }

  /// Pixels outside the output are left as they are: they reach no sum that is stored.
  __device__ __forceinline__ void load(uint32 to, const void* input, int chunk) const {
#pragma unroll
    for (int tap = 0; tap < kShortcutTaps; ++tap) {
      const int first = tap * kChannels + chunk * kChunk;
      if (first >= kShortcutChannels) break;
      const int here = (tap + 1) * kChannels < kShortcutChannels ? (tap + 1) * kChannels - first : kShortcutChannels - first;
      const uint16* x = static_cast<const uint16*>(input) + first;
#pragma unroll
      for (int i = 0; i < kShortcutPiecesPerThread; ++i) {
        if (offset_[i] < 0) continue;
        const int left = 2 * (here - piece(i) % kParts * 8);
        const uint32 bytes = left >= 16 ? 16u : left > 0 ? static_cast<uint32>(left) : 0u;
        copy_async_16(place(to, tap, i), bytes == 0 ? input : x + offset_[i], bytes);
      }
    }
  }

 private:
  __device__ static __forceinline__ int piece(int i) { return static_cast<int>(threadIdx.x) + i * kThreads; }
  __device__ static __forceinline__ uint32 place(uint32 to, int tap, int i) {
    const int pixel = piece(i) / kParts;
    const int row = pixel / kTileWidth * kInnerH * kPatchColumns + pixel % kTileWidth;
    return to + static_cast<uint32>(tap * kShortcutTapBytes + row * kPixelBytes + piece(i) % kParts * 16);
  }

  int offset_[kShortcutPiecesPerThread];  // element offset of a piece in the first channels; -1 where there is no output
};

}  // namespace edgert::device
