// SPDX-License-Identifier: Apache-2.0
// The end of a convolution: sums of warps and blocks that share a tile are added, in a fixed order, and each unit of
// eight channels gets bias, residual and activation and is stored. Blocks share a tile through distributed shared memory
// where they form a cluster, else through a workspace whose last arriving block adds the parts.
#pragma once

#include "kernels/conv_tile.h"

namespace edgert::device {

constexpr int kAccumulatorPitch = kBlockN + 8;
constexpr int kUnitsN = kBlockN / 8;
constexpr int kUnits = kBlockM * kUnitsN;
constexpr int kOwnedUnits = kCluster ? kUnits / kSplit : kUnits;
constexpr int kUnitsPerThread = (kOwnedUnits + kThreads - 1) / kThreads;
constexpr int kAccumulatorBytes = kWarpsK * kBlockM * kAccumulatorPitch * 4;
static_assert(kUnits % kSplit == 0 || !kCluster, "the tile does not divide among the cluster");
static_assert(kThreads % kUnitsN == 0, "a thread's units must share their channels");

/// The output element offset of a unit of eight channels, or -1 outside the output.
__device__ __forceinline__ int locate_unit(const Block& block, int unit, int pitch) {
  const int m = unit / kUnitsN;
  const int h = block.row + m / kTileWidth;
  const int w = block.column + m % kTileWidth;
  const int n = block.channel + unit % kUnitsN * 8;
  const bool inside = m < kTileHeight * kTileWidth && h < kOutHeight && w < kOutWidth && n < kOutChannels;
  return inside ? ((block.image * kOutHeight + h) * kOutWidth + w) * pitch + n : -1;
}

__device__ __forceinline__ void store_unit(uint16* to, const Vector16& value, int channel) {
  if (kOutChannels % 8 == 0 || channel + 8 <= kOutChannels) {
    *reinterpret_cast<Vector16*>(to) = value;
  } else {
    for (int i = 0; i < kOutChannels - channel; ++i) to[i] = static_cast<uint16>(value.word[i / 2] >> (i % 2 * 16));
  }
}

__device__ __forceinline__ Vector16 load_unit(const uint16* from, int channel) {
  if (kOutChannels % 8 == 0 || channel + 8 <= kOutChannels) return *reinterpret_cast<const Vector16*>(from);
  Vector16 value = {};
  for (int i = 0; i < kOutChannels - channel; ++i) value.word[i / 2] |= static_cast<uint32>(from[i]) << (i % 2 * 16);
  return value;
}

__device__ __forceinline__ void add8(float (&to)[8], const float* from) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  to[0] += low.x, to[1] += low.y, to[2] += low.z, to[3] += low.w;
  to[4] += high.x, to[5] += high.y, to[6] += high.z, to[7] += high.w;
}

/// The sums of all warps that share the tile, in shared memory, one plane a warp along K.
__device__ __forceinline__ void spill_sums(float* plane, const float (&sum)[kBlocksM][2 * kBlocksN][4], const Warp& warp) {
#pragma unroll
  for (int i = 0; i < kBlocksM; ++i) {
#pragma unroll
    for (int j = 0; j < 2 * kBlocksN; ++j) {
      const int m = warp.m * kWarpM + i * 16 + warp.lane / 4;
      const int n = warp.n * kWarpN + j * 8 + warp.lane % 4 * 2;
      float* to = plane + (warp.k * kBlockM + m) * kAccumulatorPitch + n;
      *reinterpret_cast<float2*>(to) = make_float2(sum[i][j][0], sum[i][j][1]);
      *reinterpret_cast<float2*>(to + 8 * kAccumulatorPitch) = make_float2(sum[i][j][2], sum[i][j][3]);
    }
  }
}
__device__ __forceinline__ void gather_sums(float (&to)[8], const float* plane, int unit) {
#pragma unroll
  for (int k = 0; k < kWarpsK; ++k) {
    add8(to, plane + (k * kBlockM + unit / kUnitsN) * kAccumulatorPitch + unit % kUnitsN * 8);
  }
}

__device__ __forceinline__ void store_result(const Arguments& arguments, const Block& block, int unit, float (&x)[8],
                                             const float (&bias)[8], const Vector16& residual) {
  const int at = locate_unit(block, unit, kOutputPitch);
  if (at < 0) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] += bias[i];
  store_unit(arguments.y + at, finish8<Element, kActivation, kResidual>(x, residual, kAlpha, kBeta),
             block.channel + unit % kUnitsN * 8);
}

#if __CUDA_ARCH__ >= 900
/// Sends this block's partial sums to the blocks that own them and returns when all parts of this block's have arrived.
__device__ __forceinline__ void exchange(const float* plane, uint32 receive) {
  const uint32 self = cluster_rank();
  cluster_wait();  // pairs with the arrival at the kernel's start: all blocks of the cluster run
#pragma unroll
  for (int unit = static_cast<int>(threadIdx.x); unit < kUnits; unit += kThreads) {
    float part[8] = {};
    gather_sums(part, plane, unit);
    const uint32 at = receive + (self * kOwnedUnits + static_cast<uint32>(unit % kOwnedUnits)) * 32;
    const uint32 to = cluster_address(at, static_cast<uint32>(unit / kOwnedUnits));
    const auto bits = [](float f) { return scalar::bit_cast<uint32>(f); };
    store_cluster_16(to, {{bits(part[0]), bits(part[1]), bits(part[2]), bits(part[3])}});
    store_cluster_16(to + 16, {{bits(part[4]), bits(part[5]), bits(part[6]), bits(part[7])}});
  }
  cluster_arrive();
  cluster_wait();
}
#endif

/// Adds the parts through the workspace. Returns in which block the sums are complete: the last one to arrive.
__device__ __forceinline__ bool arrive_last(const Arguments& arguments, const float* plane, int tile, const Block& block) {
  __shared__ bool last;
  for (int unit = static_cast<int>(threadIdx.x); unit < kUnits; unit += kThreads) {
    float part[8] = {};
    gather_sums(part, plane, unit);
    float4* to = reinterpret_cast<float4*>(arguments.workspace) + ((tile * kSplit + block.split) * kUnits + unit) * 2;
    to[0] = make_float4(part[0], part[1], part[2], part[3]);
    to[1] = make_float4(part[4], part[5], part[6], part[7]);
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = fetch_add_ordered(arguments.counters + tile, 1) == kSplit - 1;
    if (last) arguments.counters[tile] = 0;
  }
  __syncthreads();
  if (last) __threadfence();
  return last;
}

__device__ __forceinline__ void finish(const Arguments& arguments, const Block& block, float* plane, int receive_offset,
                                       const float (&bias)[8], const Vector16 (&residual)[kUnitsPerThread]) {
  const int tile = static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y);
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) exchange(plane, shared_address(plane) + static_cast<uint32>(receive_offset));
#endif
  if constexpr (kSplit > 1 && !kCluster) {
    if (!arrive_last(arguments, plane, tile, block)) return;
  }
#pragma unroll
  for (int i = 0; i < kUnitsPerThread; ++i) {
    const int owned = static_cast<int>(threadIdx.x) + i * kThreads;
    if (owned >= kOwnedUnits) break;
    float x[8] = {};
    if constexpr (kCluster) {
      const float* parts = plane + receive_offset / 4 + owned * 8;
#pragma unroll
      for (int s = 0; s < kSplit; ++s) add8(x, parts + s * kOwnedUnits * 8);
    } else if constexpr (kSplit > 1) {
      const float* parts = arguments.workspace + (tile * kSplit * kUnits + owned) * 8;
#pragma unroll
      for (int s = 0; s < kSplit; ++s) add8(x, parts + s * kUnits * 8);
    } else {
      gather_sums(x, plane, owned);
    }
    store_result(arguments, block, owned + (kCluster ? block.split * kOwnedUnits : 0), x, bias, residual[i]);
  }
}

/// Bias and residual of the units that this thread will finish.
__device__ __forceinline__ void load_bias(const Arguments& arguments, const Block& block, float (&bias)[8]) {
  const int unit = static_cast<int>(threadIdx.x) + (kCluster ? block.split * kOwnedUnits : 0);
  const int channel = block.channel + unit % kUnitsN * 8;
#pragma unroll
  for (int i = 0; i < 8; ++i) bias[i] = 0.0f;
  if (kHasBias && channel < kOutChannels) add8(bias, arguments.bias + channel);
}
__device__ __forceinline__ void load_residual(const Arguments& arguments, const Block& block,
                                              Vector16 (&residual)[kUnitsPerThread]) {
#pragma unroll
  for (int i = 0; i < kUnitsPerThread; ++i) {
    const int owned = static_cast<int>(threadIdx.x) + i * kThreads;
    const int unit = owned + (kCluster ? block.split * kOwnedUnits : 0);
    const int at = owned < kOwnedUnits ? locate_unit(block, unit, kResidualPitch) : -1;
    residual[i] = at < 0 ? Vector16{} : load_unit(arguments.residual + at, block.channel + unit % kUnitsN * 8);
  }
}

}  // namespace edgert::device
