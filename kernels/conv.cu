// SPDX-License-Identifier: Apache-2.0
// Convolution on tensor cores, channels last; a matrix product is the 1x1 case. problem.h holds the layer's extents and
// the tile as constants (offline_builder/codegen/conv_kernel.h writes it and says what each means).
//
// A block computes a rectangle of kTileHeight x kTileWidth output pixels times kBlockN channels over its share of the
// input channels. It keeps the input patch of that rectangle in shared memory, one row of kChunk channels a pixel, and
// reads matrix fragments for every tap straight from it: ldmatrix takes any row address, so no im2col copy exists and
// an input element is loaded once per block instead of once per tap. Weights come packed in fragment order, so that a
// lane's part of a 16x16 block is 16 consecutive bytes, and pass through a ring of stages, one tap each.
//
// Latency is what counts at batch 1: all weight stages that fit are requested before the wait for the previous kernel,
// bias and residual are in registers before the main loop ends, and the sum over kSplit blocks that share a tile is
// finished in the same launch: through distributed shared memory where blocks form a cluster, else through a workspace
// whose last arriving block adds the parts. Both add in the order of the parts, so results do not depend on timing.
#include "kernels/conv_finish.h"
#if EDGERT_CONV_STEM
#include "kernels/conv_stem_patch.h"
#else
#include "kernels/conv_patch.h"
#endif

namespace edgert::device {
namespace {

constexpr int kChunks = (kChannels + kChunk - 1) / kChunk;
constexpr int kChunksPerSplit = (kChunks + kSplit - 1) / kSplit;
constexpr int kChannelBlocks = (kChannels + 15) / 16;
constexpr int kOutBlocks = (kOutChannels + 15) / 16;
constexpr int kStageBlocksK = kChunk / 16;
constexpr int kStageBlocksN = kBlockN / 16;
constexpr int kStageBytes = kStageBlocksK * kStageBlocksN * 512;
constexpr int kStagesNeeded = kChunksPerSplit * kTaps;
// Everything is requested at once and nothing ever overwritten: barriers are needed only where a new patch begins.
constexpr bool kResident = kStages >= kStagesNeeded;
constexpr int kAhead = kResident ? kStagesNeeded : kStages - 1;
constexpr int kPatchBuffers =
    (kAhead + kTaps - 1) / kTaps + 1 < kChunksPerSplit ? (kAhead + kTaps - 1) / kTaps + 1 : kChunksPerSplit;

constexpr int kRingBytes = kStages * kStageBytes + kPatchBuffers * kPatchBytes;
constexpr int kReceiveOffset = (kRingBytes > kAccumulatorBytes ? kRingBytes : kAccumulatorBytes + 15) / 16 * 16;
static_assert(kReceiveOffset + (kCluster ? kUnits * 32 : 0) == kSharedBytes, "the host computes another size of shared memory");

__device__ __forceinline__ void load_weights(uint32 to, const Vector16* weights, const Block& block, int chunk, int tap) {
  constexpr int kVectors = kStageBlocksK * kStageBlocksN * 32;
  constexpr bool kWhole = kChannels % kChunk == 0 && kOutChannels % kBlockN == 0;
  const int first = (tap * kChannelBlocks + chunk * kStageBlocksK) * kOutBlocks + block.channel / 16;
#pragma unroll
  for (int i = 0; i < (kVectors + kThreads - 1) / kThreads; ++i) {
    const int v = static_cast<int>(threadIdx.x) + i * kThreads;
    if (kVectors % kThreads != 0 && v >= kVectors) break;
    const int k = v / (kStageBlocksN * 32);
    const int in_row = v % (kStageBlocksN * 32);
    const Vector16* from = weights + (first + k * kOutBlocks) * 32 + in_row;
    if constexpr (kWhole) {
      copy_async_16(to + static_cast<uint32>(v) * 16, from);
    } else {
      const bool there = chunk * kStageBlocksK + k < kChannelBlocks && block.channel / 16 + in_row / 32 < kOutBlocks;
      copy_async_16(to + static_cast<uint32>(v) * 16, there ? from : weights, there ? 16u : 0u);
    }
  }
}

__device__ __forceinline__ void multiply_stage(float (&sum)[kBlocksM][2 * kBlocksN][4], uint32 patch, uint32 stage,
                                               const uint32 (&row)[kBlocksM], const Warp& warp) {
#pragma unroll
  for (int step = 0; step < kStageBlocksK / kWarpsK; ++step) {
    uint32 a[kBlocksM][4];
#pragma unroll
    for (int i = 0; i < kBlocksM; ++i) load_matrices(a[i], patch + row[i] + static_cast<uint32>(step * kWarpsK * 32));
#pragma unroll
    for (int j = 0; j < kBlocksN; ++j) {
      const int block = (step * kWarpsK + warp.k) * kStageBlocksN + warp.n * kBlocksN + j;
      const Vector16 b = load_shared_16(stage + static_cast<uint32>(block * 512 + warp.lane * 16));
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i) {
        Element::multiply(sum[i][2 * j], a[i], b.word[0], b.word[1]);
        Element::multiply(sum[i][2 * j + 1], a[i], b.word[2], b.word[3]);
      }
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) EDGERT_ENTRY(
    const void* x, const Vector16* weights, const float* bias_vector, const uint16* residual_tensor, uint16* y, float* workspace,
    uint32* counters) {
  const Arguments arguments = {x, weights, bias_vector, residual_tensor, y, workspace, counters};
  extern __shared__ __align__(128) unsigned char memory[];
  const uint32 base = shared_address(memory);
  const uint32 patches = base + kStages * kStageBytes;
  const Block block = this_block();
  const Warp warp = this_warp();
  const int begin = block.split * kChunksPerSplit;
  const int end = begin + kChunksPerSplit < kChunks ? begin + kChunksPerSplit : kChunks;
  allow_next_grid();
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) cluster_arrive();
#endif

  const auto stage_exists = [&](int ahead) { return begin + ahead / kTaps < end; };
  float bias[8];
#pragma unroll 1
  for (int s = 0; s < kAhead && stage_exists(s); ++s) {
    load_weights(base + static_cast<uint32>(s * kStageBytes), arguments.weights, block, begin + s / kTaps, s % kTaps);
  }
  load_bias(arguments, block, bias);
  const Patch patch_loader(block);
  wait_for_previous_grid();
#pragma unroll
  for (int s = 0; s < kAhead; ++s) {
    if (s % kTaps == 0 && stage_exists(s)) {
      patch_loader.load(patches + static_cast<uint32>(s / kTaps % kPatchBuffers * kPatchBytes), arguments.x, begin + s / kTaps);
    }
    copy_async_commit();
  }
  Vector16 residual[kUnitsPerThread];
  if constexpr (kResidual != scalar::ResidualMode::None && (kSplit == 1 || kCluster)) load_residual(arguments, block, residual);

  float sum[kBlocksM][2 * kBlocksN][4] = {};
  uint32 row[kBlocksM];
  locate_rows(warp, row);
  int slot = 0;
#pragma unroll 1
  for (int chunk = begin; chunk < end; ++chunk) {
    const uint32 patch = patches + static_cast<uint32>((chunk - begin) % kPatchBuffers * kPatchBytes);
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap) {
      copy_async_wait<kAhead - 1>();
      if (!kResident || tap == 0) __syncthreads();
      const int next = chunk + (tap + kAhead) / kTaps;
      const int next_tap = (tap + kAhead) % kTaps;
      if (!kResident && next < end) {
        const int next_slot = slot == 0 ? kStages - 1 : slot - 1;
        load_weights(base + static_cast<uint32>(next_slot * kStageBytes), arguments.weights, block, next, next_tap);
        if (next_tap == 0) {
          patch_loader.load(patches + static_cast<uint32>((next - begin) % kPatchBuffers * kPatchBytes), arguments.x, next);
        }
      }
      copy_async_commit();
      multiply_stage(sum, patch + static_cast<uint32>(tap_bytes(tap)), base + static_cast<uint32>(slot * kStageBytes), row, warp);
      slot = slot + 1 == kStages ? 0 : slot + 1;
    }
  }
  copy_async_wait<0>();
  __syncthreads();
  float* plane = reinterpret_cast<float*>(memory);
  spill_sums(plane, sum, warp);
  __syncthreads();
  if constexpr (kResidual != scalar::ResidualMode::None && kSplit > 1 && !kCluster) load_residual(arguments, block, residual);
  finish(arguments, block, plane, kReceiveOffset, bias, residual);
}

}  // namespace edgert::device
