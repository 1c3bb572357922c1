// SPDX-License-Identifier: Apache-2.0
// How a convolution's work divides into chunks and items, and where things lie in a block's shared memory.
#pragma once

#include "kernels/conv_finish.h"
#if EDGERT_CONV_STEM
#include "kernels/conv_stem_patch.h"
#else
#include "kernels/conv_patch.h"
#endif

namespace edgert::device {

constexpr int kChunks = (kChannels + kChunk - 1) / kChunk;
constexpr int kChunksPerSplit = (kChunks + kSplit - 1) / kSplit;
constexpr int kChannelBlocks = (kChannels + 15) / 16;
constexpr int kOutBlocks = (kOutChannels + 15) / 16;
// A warp's work on a chunk: one item is one tap of one 16-channel step. kHeld items' weights are in registers at a time.
constexpr int kSteps = kChunk / 16 / kWarpsK;
constexpr int kItems = kTaps * kSteps;
static_assert(kChunk % (16 * kWarpsK) == 0, "a chunk does not divide among warps");
static_assert(kItems % kHeld == 0 || kChunksPerSplit == 1, "each chunk must find its items where the last one left them");

// With as many buffers as chunks nothing is overwritten; else one buffer is being read while the others fill.
constexpr int kAhead = kPatchBuffers >= kChunksPerSplit ? kChunksPerSplit : kPatchBuffers - 1;
constexpr int kRingBytes = kPatchBuffers * kPatchBytes;
constexpr int kReceiveOffset = (kRingBytes > kAccumulatorBytes ? kRingBytes + 15 : kAccumulatorBytes + 15) / 16 * 16;
constexpr int kReceiveBytes = kCluster ? kUnits * 32 + 16 : 0;
constexpr int kRowsOffset = kReceiveOffset + kReceiveBytes;
constexpr int kWeightsOffset = kRowsOffset + (kLayerNorm ? kBlockM * 8 : 0);
// With kSharedWeights all weights of the block lie in shared memory, one 16-channel step of a tap after the other.
constexpr int kStepsPerSplit = kChunksPerSplit * (kChunk / 16);
constexpr int kStepBytes = kBlockN / 16 * 512;
constexpr int kWeightsBytes = kSharedWeights ? kTaps * kStepsPerSplit * kStepBytes : 0;
constexpr int kBarriersOffset = kWeightsOffset + kWeightsBytes;
static_assert(kBarriersOffset + (kBulk ? kPatchBuffers * 8 : 0) == kSharedBytes, "the host computes another size of shared memory");

/// Bytes from the start of a patch to the row of the matrix fragment that this lane addresses, for tap 0.
__device__ __forceinline__ void locate_rows(const Warp& warp, uint32 (&row)[kBlocksM]) {
#pragma unroll
  for (int i = 0; i < kBlocksM; ++i) {
    row[i] = pixel_bytes(warp.m * kWarpM + i * 16 + warp.lane % 16) + static_cast<uint32>(warp.lane / 16 * 16 + warp.k * 32);
    pin(row[i]);
  }
}

}  // namespace edgert::device
