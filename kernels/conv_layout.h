// SPDX-License-Identifier: Apache-2.0
// How a convolution's work divides into chunks and items, and where things lie in a block's shared memory.
#pragma once

#include "kernels/conv_finish.h"
#if EDGERT_CONV_STEM
#include "kernels/conv_stem_patch.h"
#else
#include "kernels/conv_patch.h"
#endif
#if EDGERT_CONV_SHORTCUT
#include "kernels/conv_shortcut.h"
#endif

namespace edgert::device {

#if !EDGERT_CONV_SHORTCUT
constexpr int kShortcutChannels = 0, kShortcutTaps = 0, kShortcutTapBytes = 0, kShortcutBytes = 0;
#endif

constexpr int kChunks = (kChannels + kChunk - 1) / kChunk;
constexpr int kChunksPerSplit = (kChunks + kSplit - 1) / kSplit;
constexpr int kChannelBlocks = (kChannels + 15) / 16;
constexpr int kOutBlocks = (kOutChannels + 15) / 16;
// A warp's work on a chunk: one item is one tap of one 16-channel step. kHeld items' weights are in registers at a time.
constexpr int kSteps = kChunk / 16 / kWarpsK;
constexpr int kItems = (kTaps + kShortcutTaps) * kSteps;
static_assert(kChunk % (16 * kWarpsK) == 0, "a chunk does not divide among warps");
static_assert(kSharedWeights || kItems % kHeld == 0 || kChunksPerSplit == 1, "each chunk must find its items where the last one left them");
static_assert(!kSharedWeights || kHeld == 2 || kStageItems == 1, "an item is read while the one before it is multiplied");
constexpr bool kWholeChunks = kChannels % kChunk == 0;
constexpr bool kWholeTiles = kOutBlocks * 16 % kBlockN == 0;

// A chunk's items are multiplied in stages. With kSharedWeights the weights of kWeightSlots stages lie in shared memory, one
// 16-channel step of a tap after the other: those of all stages, or a ring that is filled ahead of them.
constexpr int kStages = kItems / kStageItems;
// Compilers of CUDA 11 keep so many addresses of unrolled stages that the sums of the largest warp tiles no longer fit.
#if defined(__CUDACC_VER_MAJOR__) && __CUDACC_VER_MAJOR__ < 12
constexpr int kUnrolledStages = kTaps > 1 && kBlocksM * kBlocksN >= 16 ? 1 : kStages;
#else
constexpr int kUnrolledStages = kStages;
#endif
static_assert(kItems % kStageItems == 0, "a chunk is whole stages");
constexpr int kStepBytes = kBlockN / 16 * 512;
constexpr int kStageBytes = kSharedWeights ? kStageItems * kWarpsK * kStepBytes : 0;
constexpr bool kRefill = kSharedWeights && kWeightSlots < kChunksPerSplit * kStages;
// With as many buffers as chunks nothing is overwritten; else one buffer is being read while the others fill.
constexpr int kAheadChunks = kPatchBuffers >= kChunksPerSplit ? kChunksPerSplit : kPatchBuffers - 1;
constexpr int kAhead = kRefill ? kWeightSlots - 1 : kAheadChunks;  // stages
static_assert(kRefill || kStages == 1, "without a ring of weights a stage is a chunk");
static_assert(kAheadChunks == kChunksPerSplit || kAheadChunks * kStages >= kAhead, "a chunk's input must be there with its weights");
// The sums take the place of input and weights.
constexpr int kShortcutOffset = kPatchBuffers * kPatchBytes;
constexpr int kWeightsOffset = (kShortcutOffset + kPatchBuffers * kShortcutBytes + 15) / 16 * 16;
constexpr int kRingBytes = kWeightsOffset + kWeightSlots * kStageBytes;
constexpr int kReceiveOffset = (kRingBytes > kAccumulatorBytes ? kRingBytes : kAccumulatorBytes + 15) / 16 * 16;
constexpr int kReceiveBytes = kCluster ? kUnits * 32 + 16 : 0;
constexpr int kRowsOffset = kReceiveOffset + kReceiveBytes;
constexpr int kBarriersOffset = kRowsOffset + (kLayerNorm ? kBlockM * 8 : 0);
static_assert(kBarriersOffset + (kBulk ? kPatchBuffers * 8 : 0) == kSharedBytes, "the host computes another size of shared memory");

/// Input channels of a tap: those of the shortcut's last one may be fewer.
__device__ constexpr int tap_channels(int tap) {
  const int left = kShortcutChannels - (tap - kTaps) * kChannels;
  return tap < kTaps || left > kChannels ? kChannels : left;
}
constexpr bool kWholeTaps = kShortcutTaps == 0 || kShortcutChannels % kChannels == 0;
/// Whether a chunk has channels of the tap.
__device__ constexpr bool has_tap(int chunk, int tap) { return tap_channels(tap) == kChannels || chunk * kChunk < tap_channels(tap); }

/// Bytes from the start of a patch to the row of the matrix fragment that this lane addresses, for tap 0.
__device__ __forceinline__ void locate_rows(const Warp& warp, uint32 (&row)[kBlocksM]) {
#pragma unroll
  for (int i = 0; i < kBlocksM; ++i) {
    row[i] = pixel_bytes(warp.m * kWarpM + i * 16 + warp.lane % 16) + static_cast<uint32>(warp.lane / 16 * 16 + warp.k * 32);
    pin(row[i]);
  }
}

}  // namespace edgert::device
