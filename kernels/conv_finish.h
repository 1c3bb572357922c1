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
// A thread's units share their channels, and kRowStep rows lie between them: where threads do not divide so, the last ones have
// none.
constexpr int kFinishing = kThreads / kUnitsN * kUnitsN;
constexpr int kRowStep = kFinishing / kUnitsN;
constexpr int kUnitsPerThread = (kOwnedUnits + kFinishing - 1) / kFinishing;
constexpr bool kEqualShares = kFinishing == kThreads && kOwnedUnits % kThreads == 0;
// Units of large tiles are found, and their residuals loaded, when the sums are there, those to come beside those that are
// finished: until then the sums have the registers.
constexpr bool kLateUnits = kUnitsPerThread > 8;
constexpr int kKnownUnits = kLateUnits ? 8 : kUnitsPerThread;
constexpr int kTogether = kUnitsPerThread < 4 ? kUnitsPerThread : 4;  // that are finished at a time
static_assert(!kLateUnits || kKnownUnits == 2 * kTogether, "those that are finished and those to come");
constexpr int kAccumulatorBytes = kWarpsK * kBlockM * kAccumulatorPitch * 4;
static_assert(kUnits % kSplit == 0 || !kCluster, "the tile does not divide among the cluster");
static_assert(kFinishing > 0, "fewer threads than units in a row");

/// The number of the output pixel of row m of the tile, or -1 when it lies outside the output.
__device__ __forceinline__ int locate_pixel(const Block& block, int m) {
  const int h = kTileHeight == 1 ? block.row : block.row + m / kTileWidth;
  const int w = block.column + (kTileHeight == 1 ? m : m % kTileWidth);
  const bool inside = (kTileHeight * kTileWidth == kBlockM || m < kTileHeight * kTileWidth) && (kOutHeight % kTileHeight == 0 || h < kOutHeight) &&
                      (kOutWidth % kTileWidth == 0 || w < kOutWidth);
  return inside ? block.image * kOutImagePixels + h * kOutWidth + w : -1;
}

/// Unit i of this thread among those that the block owns; kOwnedUnits or more where there is none.
__device__ __forceinline__ int owned_unit(int i) {
  const int thread = static_cast<int>(threadIdx.x);
  return kFinishing == kThreads || thread < kFinishing ? thread + i * kFinishing : kOwnedUnits;
}
__device__ __forceinline__ bool has_unit(int i) { return i < kUnitsPerThread && (kEqualShares || owned_unit(i) < kOwnedUnits); }

__device__ __forceinline__ void add8(float (&to)[8], const float* from) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  to[0] += low.x, to[1] += low.y, to[2] += low.z, to[3] += low.w;
  to[4] += high.x, to[5] += high.y, to[6] += high.z, to[7] += high.w;
}

/// Where the sums of channel n of the tile, and of its neighbours in a pair or a group of four, lie in a row of a plane. The
/// halves of units change places in every other group of four units, so that eight threads that read a half each read from all
/// banks.
constexpr bool kHalvesChangePlaces = kUnitsN % 8 == 0;
__device__ __forceinline__ int plane_column(int n) { return kHalvesChangePlaces ? n ^ (n / 32 % 2 * 4) : n; }

/// The sums of all warps that share the tile, in shared memory, one plane a warp along K.
__device__ __forceinline__ void spill_sums(float* plane, const float (&sum)[kBlocksM][2 * kBlocksN][4], const Warp& warp) {
  float* first = plane + (warp.k * kBlockM + warp.m * kWarpM + warp.lane / 4) * kAccumulatorPitch;
#pragma unroll
  for (int j = 0; j < 2 * kBlocksN; ++j) {
    float* column = first + plane_column(warp.n * kWarpN + j * 8 + warp.lane % 4 * 2);
#pragma unroll
    for (int i = 0; i < kBlocksM; ++i) {
      float* to = column + i * 16 * kAccumulatorPitch;
      *reinterpret_cast<float2*>(to) = make_float2(sum[i][j][0], sum[i][j][1]);
      *reinterpret_cast<float2*>(to + 8 * kAccumulatorPitch) = make_float2(sum[i][j][2], sum[i][j][3]);
    }
  }
}
/// The sums of the unit of row m and the channels from n on, from a plane each of the warps along K.
__device__ __forceinline__ void gather_sums(float (&to)[8], const float* plane, int m, int n) {
  // Where halves are where they belong, every other four threads read the second one first.
  const int later = kHalvesChangePlaces ? 0 : static_cast<int>(threadIdx.x) / 4 % 2;
  const int half_place = plane_column(n) - n;  // of the first half
  const float* row = plane + m * kAccumulatorPitch + n;
  float4 sum[2];
#pragma unroll
  for (int k = 0; k < kWarpsK; ++k) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int at = kHalvesChangePlaces ? (half == 0 ? half_place : 4 - half_place) : (half ^ later) * 4;
      const float4 four = *reinterpret_cast<const float4*>(row + at + k * kBlockM * kAccumulatorPitch);
      if (k == 0) sum[half] = four;
      else sum[half].x += four.x, sum[half].y += four.y, sum[half].z += four.z, sum[half].w += four.w;
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const bool second = half != later;
    to[half * 4] = second ? sum[1].x : sum[0].x, to[half * 4 + 1] = second ? sum[1].y : sum[0].y;
    to[half * 4 + 2] = second ? sum[1].z : sum[0].z, to[half * 4 + 3] = second ? sum[1].w : sum[0].w;
  }
}
__device__ __forceinline__ void gather_sums(float (&to)[8], const float* plane, int unit) {
  gather_sums(to, plane, unit / kUnitsN, unit % kUnitsN * 8);
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
  Finish() = default;
  __device__ __forceinline__ Finish(const Arguments& arguments, const Block& block) {
    if constexpr (!kLateUnits) begin(arguments, block);
  }

  __device__ __forceinline__ void begin(const Arguments& arguments, const Block& block) {
    y_ = arguments.y;
    const int first = static_cast<int>(threadIdx.x) + (kCluster ? block.split * kOwnedUnits : 0);
    row_ = first / kUnitsN;
    channel_ = block.channel + first % kUnitsN * 8;
#pragma unroll
    for (int i = 0; i < 8; ++i) bias_[i] = 0.0f;
    if (kHasBias && channel_ < kOutChannels) add8(bias_, arguments.bias + channel_);
#pragma unroll
    for (int i = 0; i < 8; ++i) sums_[i] = 0.0f;
    if (kLayerNorm && channel_ < kOutChannels) add8(sums_, arguments.bias + (kOutChannels + 15) / 16 * 16 + channel_);
    locate(block, 0, kKnownUnits);
  }

  /// Finds this thread's units [from, from + count), in the places of those kKnownUnits before them.
  __device__ __forceinline__ void locate(const Block& block, int from, int count) {
#pragma unroll
    for (int i = from; i < from + count; ++i) {
      const bool is_one = has_unit(i) && (kOutChannels % kBlockN == 0 || channel_ < kOutChannels);
      pixel_[i % kKnownUnits] = is_one ? locate_pixel(block, row_ + i * kRowStep) : -1;
      pin(pixel_[i % kKnownUnits]);
    }
  }

  /// Before the sums are there, if the units are known.
  __device__ __forceinline__ void load_residual(const Arguments& arguments) {
    if constexpr (!kLateUnits) load_residuals(arguments, 0, kKnownUnits);
  }
  /// Of units that are located.
  __device__ __forceinline__ void load_residuals(const Arguments& arguments, int from, int count) {
#pragma unroll
    for (int unit = from; unit < from + count; ++unit) {
      const int i = unit % kKnownUnits;
      if constexpr (kFloatOutput) {
        if (pixel_[i] >= 0) load_floats(floats_[i], reinterpret_cast<const float*>(arguments.residual) + pixel_[i] * kResidualPitch + channel_, left());
      } else {
        residual_[i] = pixel_[i] < 0 ? Vector16{} : load_channels<kResidualAtOnce>(arguments.residual + pixel_[i] * kResidualPitch + channel_, left());
      }
    }
  }

  /// Mean and reciprocal deviation of the block's rows, when kLayerNorm.
  __device__ __forceinline__ void set_rows(const float2* rows) { rows_ = rows; }

  /// The unit in place i, the block's unit `unit`, from its complete sum.
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
  int row_;                      // of the tile, of this thread's first unit
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
  if constexpr (kLateUnits) {
    units.begin(arguments, block);
    if constexpr (kResidual != scalar::ResidualMode::None) units.load_residuals(arguments, 0, kKnownUnits);
  }
  const int row = static_cast<int>(threadIdx.x) / kUnitsN, column = static_cast<int>(threadIdx.x) % kUnitsN * 8;
#pragma unroll
  for (int first = 0; first < kUnitsPerThread; first += kTogether) {
    if (kLateUnits && first > 0 && first + kTogether < kUnitsPerThread) {
      units.locate(block, first + kTogether, kTogether);
      if constexpr (kResidual != scalar::ResidualMode::None) units.load_residuals(arguments, first + kTogether, kTogether);
    }
    float x[kTogether][8] = {};
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int owned = owned_unit(first + i);
      if (!has_unit(first + i)) break;
      if constexpr (kCluster) {
        const float* parts = plane + receive_offset / 4 + owned * 8;
#pragma unroll
        for (int s = 0; s < kSplit; ++s) add8(x[i], parts + s * kOwnedUnits * 8);
      } else if constexpr (kSplit > 1) {
        const float* parts = arguments.workspace + (block.tile * kSplit * kUnits + owned) * 8;
#pragma unroll
        for (int s = 0; s < kSplit; ++s) add8(x[i], parts + s * kUnits * 8);
      } else {
        gather_sums(x[i], plane, row + (first + i) * kRowStep, column);
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (!has_unit(first + i)) break;
      units.store((first + i) % kKnownUnits, owned_unit(first + i), x[i]);
    }
  }
}

}  // namespace edgert::device
