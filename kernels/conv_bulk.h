// SPDX-License-Identifier: Apache-2.0
// Input rows, and weights where they lie in shared memory, of matrix products copied in bulk: one instruction a row's part
// of a chunk in place of one for each 16 bytes. Blocks may share them in clusters: kShareRows blocks with neighbouring
// channels need the same rows, kShareWeights blocks with neighbouring rows the same weights; each asks for its part and has
// it delivered to all. Rows and weights of a chunk are counted at one barrier.
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
    const int rank = static_cast<int>(cluster_rank()), member = rank / kSplit;
    column_ = member % kShareRows;
    row_ = member / kShareRows;
    row_blocks_ = same(kShareRows, 1) << (rank - column_ * kSplit);
    weight_blocks_ = same(kShareWeights, kShareRows) << (rank % kSplit + column_ * kSplit);
    // Copies go out from all warps in turn.
    first_ = static_cast<int>(threadIdx.x) % 32 * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  }

  /// One thread, before the cluster's barrier: what each chunk consists of.
  __device__ __forceinline__ void expect() const {
    constexpr uint32 kWeights = kSharedWeights ? kChunk / 16 * kStepBytes : 0;
#pragma unroll 1
    for (int i = 0; i < kChunksPerSplit; ++i) receive_begin(barrier(i), static_cast<uint32>(rows_) * (kChunk * 2) + kWeights);
  }

  /// This block's part of the weights, to all that need them.
  __device__ __forceinline__ void load_weights(const Vector16* weights, const Block& block) const {
    constexpr int kSteps = kChunksPerSplit * (kChunk / 16);
#pragma unroll 1
    for (int step = row_ + first_ * kShareWeights; step < kSteps; step += kThreads * kShareWeights) {
      const Vector16* from = weights + ((block.split * kSteps + step) * kOutBlocks + block.channel / 16) * 32;
      copy<kShareWeights>(weight_blocks_, kWeightsOffset + step * kStepBytes, from, kStepBytes, barrier(step / (kChunk / 16)));
    }
  }

  /// This block's part of the rows, chunk after chunk, to all that need them.
  __device__ __forceinline__ void load_rows(const void* input, const Block& block) const {
    constexpr int kRows = (kTileWidth + kShareRows - 1) / kShareRows;
#pragma unroll 1
    for (int piece = first_; piece < kRows * kChunksPerSplit; piece += kThreads) {
      const int row = piece % kRows * kShareRows + column_, i = piece / kRows;
      if (row >= rows_) continue;
      const uint16* from = static_cast<const uint16*>(input) + (block.image * kWidth + block.column + row) * kInputPitch +
                           (block.split * kChunksPerSplit + i) * kChunk;
      copy<kShareRows>(row_blocks_, i * kPatchBytes + row * kPixelBytes, from, kChunk * 2, barrier(i));
    }
  }

  __device__ __forceinline__ void wait(int i) const { receive_wait(barrier(i)); }

 private:
  __device__ __forceinline__ uint32 barrier(int i) const { return barriers_ + static_cast<uint32>(i * 8); }
  template <int kBlocks>
  __device__ __forceinline__ void copy(uint32 blocks, int offset, const void* from, uint32 bytes, uint32 barrier) const {
    const uint32 to = patches_ + static_cast<uint32>(offset);
    if constexpr (kBlocks > 1) copy_bulk_to(blocks, to, from, bytes, barrier);
    else copy_bulk(to, from, bytes, barrier);
  }
  /// The bits of `count` members of the cluster, `step` apart, from the first.
  __device__ static constexpr uint32 same(int count, int step) {
    uint32 bits = 0;
    for (int i = 0; i < count; ++i) bits |= 1u << i * step * kSplit;
    return bits;
  }

  uint32 patches_, barriers_;
  int rows_;                            // of the tile that exist
  int column_, row_;                    // of this block's tile among those of the cluster
  int first_;                           // of the copies, for this thread
  uint32 row_blocks_, weight_blocks_;  // of the cluster that need the same
};

}  // namespace edgert::device
#endif
