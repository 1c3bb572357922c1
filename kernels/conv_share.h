// SPDX-License-Identifier: Apache-2.0
// The input rows of a matrix product when kShare blocks with neighbouring output channels form a cluster: they need the same
// rows, so each asks for its part of them and has it delivered to all. The L2 cache, whose bandwidth bounds large products
// at batch 1, is read once a cluster instead of once a block.
#pragma once

#include "kernels/conv_patch.h"

#if __CUDA_ARCH__ >= 900
namespace edgert::device {

static_assert(kTaps == 1 && kStrideWidth == 1 && kTileHeight == 1 && kOutHeight == 1 && kPadLeft == 0, "only rows of products are shared");
static_assert(kChannels % kChunk == 0, "all rows of a chunk have the same size");
static_assert(kSplit == 1 || kCluster, "blocks that share a tile's depth must be in the cluster too");

class SharedRows {
 public:
  /// `barriers`: one for each chunk of this block.
  __device__ __forceinline__ SharedRows(const Block& block, uint32 barriers) : barriers_(barriers) {
    rows_ = kWidth - block.column < kTileWidth ? kWidth - block.column : kTileWidth;
    const int rank = static_cast<int>(cluster_rank());
    row_ = rank / kSplit + static_cast<int>(threadIdx.x) * kShare;
    offset_ = (block.image * kWidth + block.column + row_) * kInputPitch;
    constexpr uint32 kFirst = kShare == 2 ? (1u << kSplit) + 1 : kShare == 4 ? (1u << 3 * kSplit) + (1u << 2 * kSplit) + (1u << kSplit) + 1 : 255;
    blocks_ = kFirst << rank % kSplit;
    static_assert(kShare == 2 || kShare == 4 || (kShare == 8 && kSplit == 1), "a cluster of at most 8 blocks");
  }

  /// One thread, before the cluster's barrier: all rows of each chunk will come.
  __device__ __forceinline__ void expect() const {
#pragma unroll 1
    for (int i = 0; i < kPatchBuffers; ++i) receive_begin(barriers_ + static_cast<uint32>(i * 8), static_cast<uint32>(rows_) * (kChunk * 2));
  }

  /// This block's part of chunk `begin + i`, to place i of all blocks.
  __device__ __forceinline__ void load(uint32 patches, const void* input, int begin, int i) const {
    if (row_ >= rows_) return;
    const uint16* from = static_cast<const uint16*>(input) + offset_ + (begin + i) * kChunk;
    copy_bulk_to(blocks_, patches + static_cast<uint32>(i * kPatchBytes + row_ * kPixelBytes), from, kChunk * 2, barriers_ + static_cast<uint32>(i * 8));
  }

  __device__ __forceinline__ void wait(int i) const { receive_wait(barriers_ + static_cast<uint32>(i * 8)); }

 private:
  uint32 barriers_;
  int rows_;       // of the tile that exist
  int row_;        // that this thread asks for
  int offset_;     // of its first element
  uint32 blocks_;  // of the cluster that need it
};

}  // namespace edgert::device
#endif
