// SPDX-License-Identifier: Apache-2.0
// Input rows, and weights where they lie in shared memory, of matrix products copied in bulk: one instruction a row's part
// of a chunk in place of one for each 16 bytes. kShareRows blocks with neighbouring channels, which need the same rows, may
// form a cluster: each asks for its part and has it delivered to all. Rows and weights of a chunk are counted at one barrier.
#pragma once

#include "kernels/conv_layout.h"

#if __CUDA_ARCH__ >= 900
namespace edgert::device {

static_assert(kTaps == 1 && kStrideWidth == 1 && kTileHeight == 1 && kOutHeight == 1 && kPadLeft == 0, "only products are copied in bulk");
static_assert(kChannels % kChunk == 0 && kChunks % kSplit == 0 && kOutBlocks * 16 % kBlockN == 0, "all copies have the same size");
static_assert(kSplit == 1 || kCluster, "blocks that share a tile's depth must be in the cluster too");

class BulkCopies {
 public:
  __device__ __forceinline__ BulkCopies(const Block& block, uint32 patches, uint32 barriers) : patches_(patches), barriers_(barriers) {
    rows_ = kWidth - block.column < kTileWidth ? kWidth - block.column : kTileWidth;
    const int rank = static_cast<int>(cluster_rank());
    member_ = rank / kSplit;
    for (int i = 0; i < kShareRows; ++i) row_blocks_ |= 1u << (i * kSplit + rank % kSplit);
    // Copies go out from all warps in turn.
    first_ = static_cast<int>(threadIdx.x) % 32 * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  }

  /// One thread, before the cluster's barrier: what each chunk consists of.
  __device__ __forceinline__ void expect() const {
    constexpr uint32 kWeights = kSharedWeights ? kChunk / 16 * kStepBytes : 0;
#pragma unroll 1
    for (int i = 0; i < kChunksPerSplit; ++i) receive_begin(barrier(i), static_cast<uint32>(rows_) * (kChunk * 2) + kWeights);
  }

  /// The block's weights.
  __device__ __forceinline__ void load_weights(const Vector16* weights, const Block& block) const {
    constexpr int kSteps = kChunksPerSplit * (kChunk / 16);
#pragma unroll 1
    for (int step = first_; step < kSteps; step += kThreads) {
      const Vector16* from = weights + ((block.split * kSteps + step) * kOutBlocks + block.channel / 16) * 32;
      copy_bulk(patches_ + static_cast<uint32>(kWeightsOffset + step * kStepBytes), from, kStepBytes, barrier(step / (kChunk / 16)));
    }
  }

  /// This block's part of the rows, chunk after chunk, to all that need them.
  __device__ __forceinline__ void load_rows(const void* input, const Block& block) const {
    constexpr int kRows = (kTileWidth + kShareRows - 1) / kShareRows;
#pragma unroll 1
    for (int piece = first_; piece < kRows * kChunksPerSplit; piece += kThreads) {
      const int row = piece % kRows * kShareRows + member_, i = piece / kRows;
      if (row >= rows_) continue;
      const uint16* from = static_cast<const uint16*>(input) + (block.image * kWidth + block.column + row) * kInputPitch +
                           (block.split * kChunksPerSplit + i) * kChunk;
      const uint32 to = patches_ + static_cast<uint32>(i * kPatchBytes + row * kPixelBytes);
      if constexpr (kShareRows > 1) copy_bulk_to(row_blocks_, to, from, kChunk * 2, barrier(i));
      else copy_bulk(to, from, kChunk * 2, barrier(i));
    }
  }

  __device__ __forceinline__ void wait(int i) const { receive_wait(barrier(i)); }

 private:
  __device__ __forceinline__ uint32 barrier(int i) const { return barriers_ + static_cast<uint32>(i * 8); }

  uint32 patches_, barriers_;
  int rows_;                // of the tile that exist
  int member_;              // this block's number among those that share its rows
  int first_;               // of the copies, for this thread
  uint32 row_blocks_ = 0;  // of the cluster that need the same rows
};

}  // namespace edgert::device
#endif
