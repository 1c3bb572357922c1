// SPDX-License-Identifier: Apache-2.0
// The end of a convolution: sums of warps and blocks that share a tile are added, in a fixed order, and each unit of
// eight channels gets bias, residual and activation and is stored. Blocks share a tile through distributed shared memory
// where they form a cluster, else through a workspace whose last arriving block adds the parts.
#pragma once

#include "kernels/common/channels.h"
#include "kernels/conv_tile.h"

namespace edgert::device {

constexpr int kAccumulatorPitch = kBlockN + 8;
constexpr int kUnitsN = kBlockN / 8;
constexpr int kUnits = kBlockM * kUnitsN;
constexpr int kOwnedUnits = kCluster ? kUnits / kSplit : kUnits;
// A thread's units share their channels: where threads do not divide so, the last ones have none.
constexpr int kFinishing = kThreads / kUnitsN * kUnitsN;
constexpr int kUnitsPerThread = (kOwnedUnits + kFinishing - 1) / kFinishing;
// Units of large tiles are found, and their residuals loaded, a few at a time when the sums are there: until then the sums
// have the registers.
constexpr bool kLateUnits = kUnitsPerThread > 8;
constexpr int kKnownUnits = kLateUnits ? 4 : kUnitsPerThread;
constexpr int kAccumulatorBytes = kWarpsK * kBlockM * kAccumulatorPitch * 4;
static_assert(kUnits % kSplit == 0 || !kCluster, "the tile does not divide among the cluster");
static_assert(kFinishing > 0, "a thread's units must share their channels");

/// The number of a unit's output pixel, or -1 when the unit lies outside the output.
__device__ __forceinline__ int locate_pixel(const Block& block, int unit) {
  const int m = unit / kUnitsN;
  const int h = block.row + m / kTileWidth;
  const int w = block.column + m % kTileWidth;
  const int n = block.channel + unit % kUnitsN * 8;
  const bool inside = m < kTileHeight * kTileWidth && h < kOutHeight && w < kOutWidth && n < kOutChannels;
  return inside ? block.image * kOutImagePixels + h * kOutWidth + w : -1;
}

/// Unit i of this thread among those that the block owns; kOwnedUnits or more where there is none.
__device__ __forceinline__ int owned_unit(int i) {
  const int thread = static_cast<int>(threadIdx.x);
  return kFinishing == kThreads || thread < kFinishing ? thread + i * kFinishing : kOwnedUnits;
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
  // Every other four threads read the second half first, so that eight of them read from all banks.
  const int swapped = static_cast<int>(threadIdx.x) / 4 % 2;
  float4 sum[2];
#pragma unroll
  for (int k = 0; k < kWarpsK; ++k) {
    const float4* from = reinterpret_cast<const float4*>(plane + (k * kBlockM + unit / kUnitsN) * kAccumulatorPitch + unit % kUnitsN * 8);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 four = from[half ^ swapped];
      if (k == 0) sum[half] = four;
      else sum[half].x += four.x, sum[half].y += four.y, sum[half].z += four.z, sum[half].w += four.w;
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const bool second = half != swapped;
    to[half * 4] = second ? sum[1].x : sum[0].x, to[half * 4 + 1] = second ? sum[1].y : sum[0].y;
    to[half * 4 + 2] = second ? sum[1].z : sum[0].z, to[half * 4 + 3] = second ? sum[1].w : sum[0].w;
  }
}

/// Eight floats, as many of them as there are channels left, four at once where that is said to be possible; and what
/// finish8() does to results that are rounded to 16 bits.
__device__ __forceinline__ void load_floats(float (&to)[8], const float* from, int left) {
#pragma unroll
  for (int i = 0; i < 8; i += 4) {
    if (kResidualAtOnce == 4 && left >= i + 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    } else {
#pragma unroll
      for (int c = i; c < i + 4; ++c) to[c] = c < left ? from[c] : 0.0f;
    }
  }
}
__device__ __forceinline__ void finish_exactly(float (&x)[8], const float (&other)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if constexpr (kResidual == scalar::ResidualMode::BeforeActivation) x[i] += other[i];
    x[i] = scalar::float_unary<kActivation>(x[i], kAlpha, kBeta);
    if constexpr (kResidual == scalar::ResidualMode::AfterActivation) x[i] += other[i];
  }
}
__device__ __forceinline__ void store_floats(float* to, const float (&x)[8], int left) {
#pragma unroll
  for (int i = 0; i < 8; i += 4) {
    if (kOutputAtOnce == 4 && left >= i + 4) {
      *reinterpret_cast<float4*>(to + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
    } else {
#pragma unroll
      for (int c = i; c < i + 4; ++c) {
        if (c < left) to[c] = x[c];
      }
    }
  }
}

/// What a thread needs to know of the units that it will finish, where registers allow found out before the sums are there.
class Finish {
 public:
  __device__ __forceinline__ Finish(const Arguments& arguments, const Block& block) {
    if constexpr (!kLateUnits) begin(arguments, block);
  }

  __device__ __forceinline__ void begin(const Arguments& arguments, const Block& block) {
    y_ = arguments.y;
    first_ = static_cast<int>(threadIdx.x) + (kCluster ? block.split * kOwnedUnits : 0);
    channel_ = block.channel + first_ % kUnitsN * 8;
#pragma unroll
    for (int i = 0; i < 8; ++i) bias_[i] = 0.0f;
    if (kHasBias && channel_ < kOutChannels) add8(bias_, arguments.bias + channel_);
#pragma unroll
    for (int i = 0; i < 8; ++i) sums_[i] = 0.0f;
    if (kLayerNorm && channel_ < kOutChannels) add8(sums_, arguments.bias + (kOutChannels + 15) / 16 * 16 + channel_);
    locate(block, 0);
  }

  /// From now on store() is about this thread's units from number `from` on.
  __device__ __forceinline__ void locate(const Block& block, int from) {
#pragma unroll
    for (int i = 0; i < kKnownUnits; ++i) {
      const bool owned = owned_unit(from + i) < kOwnedUnits;
      pixel_[i] = owned ? locate_pixel(block, first_ + (from + i) * kFinishing) : -1;
      pin(pixel_[i]);
    }
  }

  /// Before the sums are there, if the units are known.
  __device__ __forceinline__ void load_residual(const Arguments& arguments) {
    if constexpr (!kLateUnits) load_residuals(arguments);
  }
  __device__ __forceinline__ void load_residuals(const Arguments& arguments) {
#pragma unroll
    for (int i = 0; i < kKnownUnits; ++i) {
      if constexpr (kFloatOutput) {
        if (pixel_[i] >= 0) load_floats(floats_[i], reinterpret_cast<const float*>(arguments.residual) + pixel_[i] * kResidualPitch + channel_, left());
      } else {
        residual_[i] = pixel_[i] < 0 ? Vector16{} : load_channels<kResidualAtOnce>(arguments.residual + pixel_[i] * kResidualPitch + channel_, left());
      }
    }
  }

  /// Mean and reciprocal deviation of the block's rows, when kLayerNorm.
  __device__ __forceinline__ void set_rows(const float2* rows) { rows_ = rows; }

  /// Unit i of those located, the block's unit `unit`, from its complete sum.
  __device__ __forceinline__ void store(int i, int unit, float (&x)[8]) const {
    if constexpr (kLayerNorm) {
      const float2 row = rows_[unit / kUnitsN];
#pragma unroll
      for (int c = 0; c < 8; ++c) x[c] = (x[c] - row.x * sums_[c]) * row.y;
    }
#pragma unroll
    for (int c = 0; c < 8; ++c) x[c] += bias_[c];
    if constexpr (kFloatOutput) {
      finish_exactly(x, floats_[kFloatResiduals == 1 ? 0 : i]);
      if (pixel_[i] >= 0) {
        if constexpr (kPlaneOutput) store_planes(x, pixel_[i]);
        else store_floats(static_cast<float*>(y_) + pixel_[i] * kOutputPitch + channel_, x, left());
      }
    } else if constexpr (kPlaneOutput) {
      finish_floats<Element, kActivation, kResidual>(x, residual_[i], kAlpha, kBeta);
      if (pixel_[i] >= 0) store_planes(x, pixel_[i]);
    } else {
      // Nothing but the store depends on whether there is a pixel, so that several units' computations overlap.
      const Vector16 result = finish8<Element, kActivation, kResidual>(x, residual_[i], kAlpha, kBeta);
      if (pixel_[i] >= 0) store_channels<kOutputAtOnce>(static_cast<uint16*>(y_) + pixel_[i] * kOutputPitch + channel_, result, left());
    }
  }

 private:
  /// Channels from this thread's first on, or 8 where there are always as many.
  __device__ __forceinline__ int left() const { return kOutChannels % 8 == 0 ? 8 : kOutChannels - channel_; }

  /// Each channel to its plane.
  __device__ __forceinline__ void store_planes(const float (&x)[8], int pixel) const {
    constexpr int kPlane = kOutHeight * kOutWidth;
    float* to = static_cast<float*>(y_) + (pixel / kPlane * kOutChannels + channel_) * kPlane + pixel % kPlane;
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      if (channel_ + c < kOutChannels) to[c * kPlane] = x[c];
    }
  }

  void* y_;
  int first_;                    // unit of the tile
  int channel_;                  // the same for all units of a thread
  int pixel_[kKnownUnits];       // -1 where there is nothing to store
  float bias_[8];
  float sums_[8];                // of the weights of a channel, when kLayerNorm
  const float2* rows_ = nullptr;
  static constexpr int kFloatResiduals = kFloatOutput && kResidual != scalar::ResidualMode::None ? kKnownUnits : 1;
  float floats_[kFloatResiduals][8] = {};  // residuals of float results
  Vector16 residual_[kFloatOutput ? 1 : kKnownUnits];
};

#if __CUDA_ARCH__ >= 900
/// Sends this block's partial sums to the blocks that own them and returns when all parts of this block's have arrived.
__device__ __forceinline__ void exchange(const float* plane, uint32 receive, uint32 barrier) {
  const uint32 rank = cluster_rank(), self = rank % kSplit, first = rank - self;  // among those that share the tile
  // Pairs with the arrival at the kernel's start: all blocks of the cluster run and expect parts.
  if constexpr (!kBulk) cluster_wait();
#pragma unroll
  for (int i = 0; i < (kUnits + kThreads - 1) / kThreads; ++i) {
    const int unit = static_cast<int>(threadIdx.x) + i * kThreads;
    if (kUnits % kThreads != 0 && unit >= kUnits) break;
    float part[8] = {};
    gather_sums(part, plane, unit);
    const uint32 owner = first + static_cast<uint32>(unit / kOwnedUnits);
    const uint32 to = cluster_address(receive + (self * kOwnedUnits + static_cast<uint32>(unit % kOwnedUnits)) * 32, owner);
    const uint32 remote = cluster_address(barrier, owner);
    const auto bits = [](float f) { return scalar::bit_cast<uint32>(f); };
    send_16(to, {{bits(part[0]), bits(part[1]), bits(part[2]), bits(part[3])}}, remote);
    send_16(to + 16, {{bits(part[4]), bits(part[5]), bits(part[6]), bits(part[7])}}, remote);
  }
  receive_wait(barrier);
}
#endif

/// Adds the parts through the workspace. Returns in which block the sums are complete: the last one to arrive.
__device__ __forceinline__ bool arrive_last(const Arguments& arguments, const float* plane, const Block& block) {
  for (int unit = static_cast<int>(threadIdx.x); unit < kUnits; unit += kThreads) {
    float part[8] = {};
    gather_sums(part, plane, unit);
    float4* to = reinterpret_cast<float4*>(arguments.workspace) + ((block.tile * kSplit + block.split) * kUnits + unit) * 2;
    to[0] = make_float4(part[0], part[1], part[2], part[3]);
    to[1] = make_float4(part[4], part[5], part[6], part[7]);
  }
  __threadfence();
  __syncthreads();
  int arrived_last = 0;
  if (threadIdx.x == 0) {
    arrived_last = fetch_add_ordered(arguments.counters + block.tile, 1) == kSplit - 1;
    if (arrived_last != 0) arguments.counters[block.tile] = 0;
  }
  const bool last = __syncthreads_or(arrived_last) != 0;
  if (last) __threadfence();
  return last;
}

/// Adds what belongs together and stores it. `receive_offset` is where parts from other blocks arrive.
__device__ __forceinline__ void finish(const Arguments& arguments, const Block& block, float* plane, int receive_offset,
                                       Finish& units) {
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) {
    const uint32 receive = shared_address(plane) + static_cast<uint32>(receive_offset);
    exchange(plane, receive, receive + kUnits * 32);
  }
#endif
  if constexpr (kLateUnits) units.begin(arguments, block);
  constexpr int kTogether = kUnitsPerThread < 4 ? kUnitsPerThread : 4;
#pragma unroll
  for (int first = 0; first < kUnitsPerThread; first += kTogether) {
    if constexpr (kLateUnits) {
      units.locate(block, first);
      if constexpr (kResidual != scalar::ResidualMode::None) units.load_residuals(arguments);
    }
    float x[kTogether][8] = {};
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int owned = owned_unit(first + i);
      if (owned >= kOwnedUnits) break;
      if constexpr (kCluster) {
        const float* parts = plane + receive_offset / 4 + owned * 8;
#pragma unroll
        for (int s = 0; s < kSplit; ++s) add8(x[i], parts + s * kOwnedUnits * 8);
      } else if constexpr (kSplit > 1) {
        const float* parts = arguments.workspace + (block.tile * kSplit * kUnits + owned) * 8;
#pragma unroll
        for (int s = 0; s < kSplit; ++s) add8(x[i], parts + s * kUnits * 8);
      } else {
        gather_sums(x[i], plane, owned);
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (owned_unit(first + i) >= kOwnedUnits) break;
      units.store(kLateUnits ? i : first + i, owned_unit(first + i), x[i]);
    }
  }
}

}  // namespace edgert::device
