// SPDX-License-Identifier: Apache-2.0
// Convolution in f32 by fused multiply-adds, channels last: nothing is rounded that f32 does not round. A matrix product is
// the 1x1 case. Tile, input patch and end are those of kernels/conv.cu, for which a float is two 16-bit columns; between
// them a thread computes kThreadM pixels times kThreadN channels from the patch and from weights in shared memory, which
// come chunk by chunk with the patch. Of each four input channels a thread reads kThreadM + kThreadN vectors of 16 bytes for
// 4 * kThreadM * kThreadN multiply-adds.
#include "kernels/conv_finish.h"
#if EDGERT_CONV_STEM
#include "kernels/conv_stem_patch.h"
#else
#include "kernels/conv_patch.h"
#endif

namespace edgert::device {
namespace {

constexpr int kDepth = kChannels / 2;  // floats of one group's pixel, or of a kernel row
constexpr int kChunkDepth = kChunk / 2;
constexpr int kChunks = (kChannels + kChunk - 1) / kChunk;
constexpr int kChunksPerSplit = (kChunks + kSplit - 1) / kSplit;
constexpr int kAhead = kPatchBuffers >= kChunksPerSplit ? kChunksPerSplit : kPatchBuffers - 1;
constexpr int kOutPadded = (kOutChannels + 15) / 16 * 16;
// A warp's lanes are eight along pixels and four along channels; neighbouring lanes share channels, lanes at a distance of
// two pixels, so that a warp's 16-byte loads take two passes and no more.
constexpr int kThreadM = kWarpM / 8;
constexpr int kThreadN = kWarpN / 4;
constexpr int kItemDepth = 8;  // input channels of a tap that a warp takes at a time
constexpr int kSteps = kChunkDepth / kItemDepth / kWarpsK;
constexpr int kWeightsBytes = kTaps * kChunkDepth * kBlockN * 4;  // of a chunk
constexpr int kWeightsOffset = kPatchBuffers * kPatchBytes;
constexpr int kRingBytes = kWeightsOffset + kPatchBuffers * kWeightsBytes;
constexpr int kReceiveOffset = (kRingBytes > kAccumulatorBytes ? kRingBytes + 15 : kAccumulatorBytes + 15) / 16 * 16;
static_assert(kReceiveOffset + (kCluster ? kUnits * 32 + 16 : 0) == kSharedBytes, "the host computes another size of shared memory");

/// A chunk's weights, [tap][input channel][kBlockN]; zeros where there are none.
__device__ __forceinline__ void load_weights(uint32 to, const float* weights, int channel, int chunk) {
  constexpr int kRow = kBlockN / 4;
  constexpr int kCount = kWeightsBytes / 16;
#pragma unroll 4
  for (int i = 0; i < (kCount + kThreads - 1) / kThreads; ++i) {
    const int piece = static_cast<int>(threadIdx.x) + i * kThreads;
    if (kCount % kThreads != 0 && piece >= kCount) break;
    const int tap = piece / kRow / kChunkDepth;
    const int k = chunk * kChunkDepth + piece / kRow % kChunkDepth;
    const int n = channel + piece % kRow * 4;
    const bool there = (kDepth % kChunkDepth == 0 || k < kDepth) && (kOutPadded % kBlockN == 0 || n < kOutPadded);
    copy_async_16(to + static_cast<uint32>(piece * 16), there ? weights + (tap * kDepth + k) * kOutPadded + n : weights, there ? 16u : 0u);
  }
}

struct Lane {
  int m, n;
};
__device__ __forceinline__ Lane this_lane(const Warp& warp) { return {warp.lane % 2 + warp.lane / 8 * 2, warp.lane / 2 % 4}; }

__device__ __forceinline__ void load_shared_floats(float (&to)[4], uint32 from) {
  const Vector16 bits = load_shared_16(from);
#pragma unroll
  for (int i = 0; i < 4; ++i) to[i] = scalar::bit_cast<float>(bits.word[i]);
}

/// kItemDepth input channels of a tap. `weights` is where this lane's columns of the first of them lie.
__device__ __forceinline__ void multiply_item(float (&sum)[kThreadM][kThreadN], uint32 patch, const uint32 (&row)[kThreadM], uint32 weights) {
#pragma unroll
  for (int k = 0; k < kItemDepth; k += 4) {
    float a[kThreadM][4];
#pragma unroll
    for (int i = 0; i < kThreadM; ++i) load_shared_floats(a[i], patch + row[i] + static_cast<uint32>(k * 4));
#pragma unroll
    for (int c = 0; c < 4; ++c) {
#pragma unroll
      for (int j = 0; j < kThreadN; j += 4) {
        float b[4];
        load_shared_floats(b, weights + static_cast<uint32>(((k + c) * kBlockN + j * 4) * 4));
#pragma unroll
        for (int i = 0; i < kThreadM; ++i) {
#pragma unroll
          for (int n = 0; n < 4; ++n) sum[i][j + n] += a[i][c] * b[n];
        }
      }
    }
  }
}

/// Where this lane's pixels lie in a patch, for tap 0.
__device__ __forceinline__ void locate_pixels(const Warp& warp, uint32 (&row)[kThreadM]) {
#pragma unroll
  for (int i = 0; i < kThreadM; ++i) {
    row[i] = pixel_bytes(warp.m * kWarpM + i * 8 + this_lane(warp).m) + static_cast<uint32>(warp.k * kItemDepth * 4);
    pin(row[i]);
  }
}

/// As spill_sums() of conv_finish.h, for sums as they lie here.
__device__ __forceinline__ void spill_floats(float* plane, const float (&sum)[kThreadM][kThreadN], const Warp& warp) {
#pragma unroll
  for (int i = 0; i < kThreadM; ++i) {
    const int m = warp.m * kWarpM + i * 8 + this_lane(warp).m;
    float* to = plane + (warp.k * kBlockM + m) * kAccumulatorPitch;
#pragma unroll
    for (int j = 0; j < kThreadN; j += 4) {
      const int n = warp.n * kWarpN + this_lane(warp).n * 4 + j * 4;
      *reinterpret_cast<float4*>(to + plane_column(n)) = make_float4(sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) EDGERT_ENTRY(
    const void* x, const float* weights, const float* bias, const uint16* residual, void* y, float* workspace, uint32* counters,
    const char* prefetch, uint32 prefetch_bytes) {
  allow_next_grid();
  if (static_cast<int>(blockIdx.x) >= kBlocks) {  // as in conv.cu
    prefetch_weights(prefetch, prefetch_bytes, kThreads);
    wait_for_previous_grid();
    hold_place(1500);
    return;
  }
  const Arguments arguments = {x, nullptr, bias, residual, y, workspace, counters, prefetch, prefetch_bytes};
  unsigned char* memory = dynamic_shared_memory();
  const uint32 patches = shared_address(memory);
  const uint32 chunk_weights = patches + kWeightsOffset;
  const Block block = this_block();
  const Warp warp = this_warp();
  const int begin = block.split * kChunksPerSplit;
  const int end = begin + kChunksPerSplit < kChunks ? begin + kChunksPerSplit : kChunks;
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (begin + i < end) load_weights(chunk_weights + static_cast<uint32>(i * kWeightsBytes), weights, block.channel, begin + i);
  }
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) {
    if (threadIdx.x == 0) receive_begin(patches + kReceiveOffset + kUnits * 32, kUnits * 32);
    __syncwarp();
    cluster_arrive();
  }
#endif
  prefetch_weights(arguments.prefetch, arguments.prefetch_bytes, kThreads);
  Finish units(arguments, block);
  const Patch patch_loader(block);
  patch_loader.clear(patches);
  uint32 row[kThreadM];
  locate_pixels(warp, row);
  const uint32 lane_weights = chunk_weights + static_cast<uint32>((warp.k * kItemDepth * kBlockN + warp.n * kWarpN + this_lane(warp).n * 4) * 4);
  // Each group of output channels reads input channels of its own.
  const void* input = kGroups == 1 ? x : static_cast<const uint16*>(x) + block.channel / (kOutChannels / kGroups) * kChannels;
  wait_for_previous_grid();
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (begin + i < end) patch_loader.load(patches + static_cast<uint32>(i * kPatchBytes), input, begin + i);
    copy_async_commit();
  }
  if constexpr (kResidual != scalar::ResidualMode::None) units.load_residual(arguments);

  float sum[kThreadM][kThreadN] = {};
  int buffer = 0;
#pragma unroll 1
  for (int chunk = begin; chunk < end; ++chunk) {
    copy_async_wait<kAhead - 1>();
    __syncthreads();
    if constexpr (kAhead < kChunksPerSplit) {
      const int free_buffer = buffer == 0 ? kPatchBuffers - 1 : buffer - 1;
      if (chunk + kAhead < end) {
        load_weights(chunk_weights + static_cast<uint32>(free_buffer * kWeightsBytes), weights, block.channel, chunk + kAhead);
        patch_loader.load(patches + static_cast<uint32>(free_buffer * kPatchBytes), input, chunk + kAhead);
      }
    }
    copy_async_commit();
    const uint32 patch = patches + static_cast<uint32>(buffer * kPatchBytes);
    const uint32 first = lane_weights + static_cast<uint32>(buffer * kWeightsBytes);
#pragma unroll 1
    for (int item = 0; item < kTaps * kSteps; ++item) {
      const int step = item % kSteps * kWarpsK * kItemDepth;
      multiply_item(sum, patch + static_cast<uint32>(tap_bytes(item / kSteps) + step * 4), row,
                    first + static_cast<uint32>((item / kSteps * kChunkDepth + step) * kBlockN * 4));
    }
    buffer = buffer + 1 == kPatchBuffers ? 0 : buffer + 1;
  }
  copy_async_wait<0>();
  __syncthreads();
  float* plane = reinterpret_cast<float*>(memory);
  spill_floats(plane, sum, warp);
  __syncthreads();
  if constexpr (kSplit > 1 && !kCluster) {
    if (!arrive_last(arguments, plane, block)) return;
  }
  finish(arguments, block, plane, kReceiveOffset, units);
}

}  // namespace edgert::device
