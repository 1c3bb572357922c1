// SPDX-License-Identifier: Apache-2.0
// Convolution on tensor cores, channels last; a matrix product is the 1x1 case. problem.h holds the layer's extents and
// the tile as constants (offline_builder/codegen/conv_kernel.h writes it and says what each means).
//
// A block computes a rectangle of kTileHeight x kTileWidth output pixels times kBlockN channels over its share of the
// input channels. It keeps the input patch of that rectangle in shared memory, one row of kChunk channels a pixel, and
// reads matrix fragments for every tap straight from it: ldmatrix takes any row address, so no im2col copy exists and
// an input element is loaded once per block instead of once per tap. Weights come packed in fragment order, so that a
// lane's part of a 16x16 block is 16 consecutive bytes, and go straight into the registers of the warp that uses them.
//
// Latency is what counts at batch 1. Everything that does not depend on the previous kernel happens before the wait for
// it: weights of the first chunk (often all of them) and bias are in registers, every address is computed. Warps along K
// share a chunk's 16-channel steps, so that eight warps work on a small tile. The sum over kSplit blocks that share a
// tile is finished in the same launch (conv_finish.h), always in the same order, so results do not depend on timing.
#include "kernels/conv_layout.h"
#if EDGERT_CONV_LAYER_NORM
#include "kernels/conv_norm.h"
#endif
#if EDGERT_CONV_BULK
#include "kernels/conv_bulk.h"
#endif

namespace edgert::device {
namespace {

using WeightItem = Vector16[kBlocksN];

/// Which fragment blocks of the packed weights a lane reads.
class Weights {
 public:
  __device__ __forceinline__ Weights(const Arguments& arguments, const Block& block, const Warp& warp)
      : base_(arguments.weights + warp.lane), first_k_(warp.k), first_n_(block.channel / 16 + warp.n * kBlocksN) {}

  /// Zeros stand where the last chunk or the last channels have no weights.
  __device__ __forceinline__ void load(WeightItem& to, int chunk, int item) const {
    const int k = chunk * (kChunk / 16) + item % kSteps * kWarpsK + first_k_, blocks = (tap_channels(item / kSteps) + 15) / 16;
    const Vector16* row = base_ + ((item / kSteps * kChannelBlocks + k) * kOutBlocks + first_n_) * 32;
#pragma unroll
    for (int j = 0; j < kBlocksN; ++j) {
      const bool there = ((kWholeChunks && blocks == kChannelBlocks) || k < blocks) && (kWholeTiles || first_n_ + j < kOutBlocks);
      if (there) to[j] = load_constant_16(row + j * 32);
      else to[j] = Vector16{};
    }
  }

 private:
  const Vector16* base_;
  int first_k_, first_n_;
};

#if EDGERT_CONV_COPIED_WEIGHTS
/// The part of each stage's weights that one thread copies to shared memory.
class WeightCopies {
 public:
  __device__ __forceinline__ WeightCopies(const Vector16* weights, const Block& block) : weights_(weights + block.channel / 16 * 32) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int item = step_of(i) / kWarpsK;
      const bool there = is_piece(i) && (kWholeTiles || block.channel / 16 + piece(i) % kRow / 32 < kOutBlocks);
      offset_[i] = there ? (item / kSteps * kChannelBlocks + block_of(i)) * (kOutBlocks * 32) + piece(i) % kRow : -1;
      pin(offset_[i]);
    }
  }

  /// Zeros stand where the last chunk, a shortcut's last tap or the last channels have no weights.
  __device__ __forceinline__ void load(uint32 to, int chunk, int stage) const {
    const int item = stage * kStageItems;
    const int k = chunk * (kChunk / 16) + item % kSteps * kWarpsK;
    const Vector16* from = weights_ + (item / kSteps * kChannelBlocks + k) * (kOutBlocks * 32);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (!is_piece(i)) break;
      const uint32 at = to + static_cast<uint32>(piece(i) * 16);
      if constexpr (kWholeChunks && kWholeTiles && kWholeTaps) {
        copy_async_16(at, from + offset_[i]);
      } else {
        const int blocks = kWholeTaps ? kChannelBlocks : (tap_channels((item + step_of(i) / kWarpsK) / kSteps) + 15) / 16;
        const bool there = offset_[i] >= 0 && ((kWholeChunks && kWholeTaps) || k + block_of(i) < blocks);
        copy_async_16(at, there ? from + offset_[i] : weights_, there ? 16u : 0u);
      }
    }
  }

 private:
  static constexpr int kRow = kStepBytes / 16;
  static constexpr int kPieces = kStageBytes / 16;
  static constexpr int kPerThread = (kPieces + kThreads - 1) / kThreads;
  static_assert(kStageItems % kSteps == 0 || kSteps % kStageItems == 0, "a stage is whole taps or a part of one");

  __device__ static __forceinline__ int piece(int i) { return static_cast<int>(threadIdx.x) + i * kThreads; }
  __device__ static __forceinline__ bool is_piece(int i) { return kPieces % kThreads == 0 || piece(i) < kPieces; }
  __device__ static __forceinline__ int step_of(int i) { return piece(i) / kRow; }
  /// The block of 16 input channels, counted from the stage's first.
  __device__ static __forceinline__ int block_of(int i) { return step_of(i) / kWarpsK % kSteps * kWarpsK + step_of(i) % kWarpsK; }

  const Vector16* weights_;
  int offset_[kPerThread];  // of a piece in a chunk's first stage; -1 where there are no channels
};
#endif

/// One item of the weights in shared memory. `at` is where this lane's part of the warp's first block of the stage lies.
__device__ __forceinline__ void read_item(WeightItem& to, uint32 at, int item) {
#pragma unroll
  for (int j = 0; j < kBlocksN; ++j) to[j] = load_shared_16(at + static_cast<uint32>(item * kWarpsK * kStepBytes + j * 512));
}

/// `scale` is where the factors of this lane's first two channels lie, with kScaled or kPreActivated.
__device__ __forceinline__ void multiply_item(float (&sum)[kBlocksM][2 * kBlocksN][4], const WeightItem& weights, uint32 patch,
                                              const uint32 (&row)[kBlocksM], uint32 scale) {
  uint32 low = 0, high = 0, low_term = 0, high_term = 0;
  if constexpr (kScaled || kPreActivated) low = load_shared_4(scale), high = load_shared_4(scale + 16);
  if constexpr (kPreActivated) low_term = load_shared_4(scale + kPixelBytes), high_term = load_shared_4(scale + kPixelBytes + 16);
#pragma unroll
  for (int i = 0; i < kBlocksM; ++i) {
    uint32 a[4];
    load_matrices(a, patch + row[i]);
    Element::round(a);
    if constexpr (kPreActivated) {
      a[0] = Element::multiply_add_relu_pairs(a[0], low, low_term), a[1] = Element::multiply_add_relu_pairs(a[1], low, low_term);
      a[2] = Element::multiply_add_relu_pairs(a[2], high, high_term), a[3] = Element::multiply_add_relu_pairs(a[3], high, high_term);
    } else if constexpr (kScaled) {
      a[0] = Element::multiply_pairs(a[0], low), a[1] = Element::multiply_pairs(a[1], low);
      a[2] = Element::multiply_pairs(a[2], high), a[3] = Element::multiply_pairs(a[3], high);
    }
#pragma unroll
    for (int j = 0; j < kBlocksN; ++j) {
      Element::multiply(sum[i][2 * j], a, weights[j].word[0], weights[j].word[1]);
      Element::multiply(sum[i][2 * j + 1], a, weights[j].word[2], weights[j].word[3]);
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) EDGERT_ENTRY(
    const void* x, const Vector16* packed_weights, const float* bias, const uint16* residual, void* y, float* workspace,
    uint32* counters, const char* prefetch, uint32 prefetch_bytes EDGERT_CONV_MORE_PARAMETERS) {
  allow_next_grid();
  if (static_cast<int>(blockIdx.x) >= kBlocks) {
    prefetch_weights(prefetch, prefetch_bytes, kThreads);
    // The next kernel's blocks take the places that the previous kernel's leave. This one stays until they all have,
    // or two of them would share a multiprocessor that has no block of this kernel.
    wait_for_previous_grid();
    hold_place(1500);
    return;
  }
  assume_indices(kThreads, kBlocks);
  const Arguments arguments = {x, packed_weights, bias, residual, y, workspace, counters, prefetch, prefetch_bytes};
  unsigned char* memory = dynamic_shared_memory();
  const uint32 patches = shared_address(memory);
  const Block block = this_block();
  const Warp warp = this_warp();
  const int begin = block.split * kChunksPerSplit;
  const int end = begin + kChunksPerSplit < kChunks ? begin + kChunksPerSplit : kChunks;

  const Weights weights(arguments, block, warp);
  const uint32 shared_weights = patches + kWeightsOffset;
  const uint32 warp_weights = shared_weights + static_cast<uint32>(warp.k * kStepBytes + warp.n * kBlocksN * 512 + warp.lane * 16);
  WeightItem held[kHeld];
#if EDGERT_CONV_COPIED_WEIGHTS
  const WeightCopies weight_copies(packed_weights, block);
#pragma unroll 1
  for (int stage = 0; stage < (kRefill ? kAhead : (end - begin) * kStages); ++stage) {
    const int chunk = begin + stage / kStages;
    if (chunk < end) weight_copies.load(shared_weights + static_cast<uint32>(stage * kStageBytes), chunk, stage % kStages);
  }
#endif
  if constexpr (!kSharedWeights) {
#pragma unroll
    for (int item = 0; item < kHeld; ++item) weights.load(held[item], begin, item);
  }
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) {
    if (threadIdx.x == 0) receive_begin(patches + kReceiveOffset + kUnits * 32, kUnits * 32);
  }
#if EDGERT_CONV_BULK
  const BulkCopies copies(block, patches, patches + kBarriersOffset);
  if (threadIdx.x == 0) copies.expect();
#endif
  if constexpr (kCluster || kBulk) {
    __syncwarp();
    cluster_arrive();
  }
#endif
  prefetch_weights(arguments.prefetch, arguments.prefetch_bytes, kThreads);
#if __CUDA_ARCH__ >= 900
  Finish units(arguments, block);
#else
  Finish units;
#endif
  const Patch patch_loader(block);
  patch_loader.clear(patches);
#if EDGERT_CONV_SHORTCUT
  const Shortcut shortcut_loader(block);
#endif
  uint32 row[kBlocksM];
  locate_rows(warp, row);
#if EDGERT_CONV_SCALED
  const uint32 scale_row = static_cast<uint32>(kScaleOffset + warp.k * 32 + warp.lane % 4 * 4);
  if constexpr (kScaled) scale += block.image * kChannels;
#else
  constexpr uint32 scale_row = 0;
#endif
#if EDGERT_CONV_LAYER_NORM
  RowStatistics statistics;
#endif
  // Each group of output channels reads input channels of its own.
  const void* input = kGroups == 1 ? arguments.x : static_cast<const uint16*>(arguments.x) + block.channel / (kOutChannels / kGroups) * kChannels;
  const auto load = [&](uint32 place, int chunk) {
    patch_loader.load(patches + place * kPatchBytes, input, chunk);
#if EDGERT_CONV_SCALED
    Patch::load_scale(patches + place * kPatchBytes, scale, chunk);
#endif
#if EDGERT_CONV_SHORTCUT
    shortcut_loader.load(patches + kShortcutOffset + place * kShortcutBytes, shortcut, chunk);
#endif
  };
#if EDGERT_CONV_BULK
  cluster_wait();  // all blocks of the cluster run and know what to expect
  if constexpr (kSharedWeights) copies.load_weights(packed_weights, block);
  wait_for_previous_grid();
  copies.load_rows(arguments.x, block);
#else
  wait_for_previous_grid();
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    // A chunk's input comes with its first stage, and with the last one here what there is room for besides.
#pragma unroll
    for (int j = 0; j < kAheadChunks; ++j) {
      const bool here = j * kStages == i || (i == kAhead - 1 && j * kStages > i);
      if (here && begin + j < end) load(static_cast<uint32>(j), begin + j);
    }
    copy_async_commit();
  }
#endif
#if __CUDA_ARCH__ < 900
  // There was no wait to do this before: the input is what everything waits for.
  units = Finish(arguments, block);
#endif
  if constexpr (kResidual != scalar::ResidualMode::None) units.load_residual(arguments);

  // What is kAhead stages after this one, to where the stage before this one was.
  const auto load_later = [&](int chunk, int stage, int buffer, int slot) {
#if !EDGERT_CONV_BULK
    if constexpr (kAheadChunks < kChunksPerSplit) {
      const int free_buffer = buffer == 0 ? kPatchBuffers - 1 : buffer - 1;
      if (stage == 0 && chunk + kAheadChunks < end) load(static_cast<uint32>(free_buffer), chunk + kAheadChunks);
    }
#if EDGERT_CONV_COPIED_WEIGHTS
    if constexpr (kRefill) {
      const int later = chunk + (stage + kAhead) / kStages, free_slot = slot == 0 ? kWeightSlots - 1 : slot - 1;
      if (later < end) weight_copies.load(shared_weights + static_cast<uint32>(free_slot * kStageBytes), later, (stage + kAhead) % kStages);
    }
#endif
    copy_async_commit();
#endif
  };

  float sum[kBlocksM][2 * kBlocksN][4] = {};
  int buffer = 0, slot = 0;
#pragma unroll 1
  for (int chunk = begin; chunk < end; ++chunk) {
    const uint32 patch = patches + static_cast<uint32>(buffer * kPatchBytes);
    const uint32 shortcut_patch = patches + static_cast<uint32>(kShortcutOffset + buffer * kShortcutBytes);
#pragma unroll (kUnrolledStages)
    for (int stage = 0; stage < kStages; ++stage) {
#if EDGERT_CONV_BULK
      if (chunk == begin) __syncthreads();  // zeros of rows that do not exist
      copies.wait(buffer);
#else
      copy_async_wait<kAhead - 1>();
      __syncthreads();
#endif
      const uint32 stage_weights = warp_weights + static_cast<uint32>(slot * kStageBytes);
      if constexpr (kSharedWeights) read_item(held[0], stage_weights, 0);
#pragma unroll
      for (int within_stage = 0; within_stage < kStageItems; ++within_stage) {
        const int item = stage * kStageItems + within_stage, tap = item / kSteps;
        const uint32 tap_patch = tap < kTaps ? patch + static_cast<uint32>(tap_bytes(tap)) : shortcut_patch + static_cast<uint32>((tap - kTaps) * kShortcutTapBytes);
        const uint32 from = tap_patch + static_cast<uint32>(item % kSteps * kWarpsK * 32);
        if (kSharedWeights && within_stage + 1 < kStageItems) read_item(held[(within_stage + 1) % kHeld], stage_weights, within_stage + 1);
        if (has_tap(chunk, tap)) multiply_item(sum, held[(kSharedWeights ? within_stage : item) % kHeld], from, row, from + scale_row);
        // Tensor cores are busy by now.
        if (within_stage == 0) load_later(chunk, stage, buffer, slot);
        if constexpr (kSharedWeights) continue;
        else if (item + kHeld < kItems) weights.load(held[item % kHeld], chunk, item + kHeld);
        else if (kChunksPerSplit > 1 && chunk + 1 < end) weights.load(held[item % kHeld], chunk + 1, item + kHeld - kItems);
      }
      slot = slot + 1 == kWeightSlots ? 0 : slot + 1;
    }
#if EDGERT_CONV_LAYER_NORM
    statistics.add(patch, chunk);
#endif
    buffer = buffer + 1 == kPatchBuffers ? 0 : buffer + 1;
  }
  copy_async_wait<0>();
#if EDGERT_CONV_LAYER_NORM
  float2* rows = reinterpret_cast<float2*>(memory + kRowsOffset);
  statistics.finish(rows);
#if EDGERT_CONV_STORE_NORMALIZED
  statistics.store(normalized, static_cast<const uint16*>(arguments.x), patches, block, arguments.bias);
#endif
  units.set_rows(rows);
#endif
  __syncthreads();
  float* plane = reinterpret_cast<float*>(memory);
  spill_sums(plane, sum, warp);
  __syncthreads();
  if constexpr (kSplit > 1 && !kCluster) {
    if (!arrive_last(arguments, plane, block)) return;
  }
  finish(arguments, block, plane, kReceiveOffset, units);
}

}  // namespace edgert::device
