// SPDX-License-Identifier: Apache-2.0
// 3x3 convolution of stride 1 by Winograd's algorithm F(2x2, 3x3) on tensor cores, channels last, 16-bit floats: 4
// multiplications an output instead of 9. problem.h holds the layer's extents and the tile as constants
// (offline_builder/codegen/winograd_kernel.h writes it and says what each means).
//
// An output square of 2x2 pixels, a position, comes from a window of 4x4 input pixels. With
//
//        1  0 -1  0          1  1  1  0
//   B =  0  1  1  0     A =  0  1 -1 -1     y = A [(G w G^T) * (B x B^T)] A^T  (* element by element, summed over channels)
//        0 -1  1  0
//        0  1  0 -1
//
// each of the 16 elements of the bracket, a frequency, is a matrix product over the channels. A block computes 32 positions
// times kBlockN channels; each of its 16 warps has one frequency. In steps of kChunk channels the block copies the input
// pixels under its positions to shared memory, where all threads transform them, in 16-bit sums, to the left operands of
// the products; the transformed weights come packed in fragment order from memory straight to the registers of the one warp
// that needs them. Each warp asks for a step's products and then transforms its part of the next step. At the end the sums of all frequencies meet in shared memory, an eighth of each as a
// 16-bit float: as floats they would take longer there than the products of 64 channels do. A multiprocessor has room for one
// block, which therefore goes from rectangle to rectangle: the next one's first pixels and weights come while this one ends.
#include "kernels/winograd_patch.h"

namespace edgert::device {
namespace {

constexpr int kBlocksN = kBlockN / 16;
constexpr int kSteps = kChunk / 16;  // products of 16 channels
// There are weights for all channels of the last step and of the last block: zeros where no channel is.
constexpr int kChannelBlocks = kChunks * kSteps;
constexpr int kOutBlocks = (kOutChannels + 63) / 64 * 4;
static_assert(64 % kBlockN == 0, "the last block's channels have no weights");
constexpr int kSumPitch = kBlockN * 2 + 16;  // bytes: rows of fragments fall on different banks
constexpr int kSumBytes = kFrequencies * kPositions * kSumPitch;
constexpr float kSumScale = 0.125f;
// Sums take the place of transformed input; the next rectangle's pixels arrive beside them.
constexpr int kPatchesOffset = kSumBytes > 2 * kTransformedBytes ? kSumBytes : 2 * kTransformedBytes;
static_assert(kSharedBytes == kPatchesOffset + kPatches * kPatchBytes, "the host computes another size of shared memory");
static_assert(kChannels % 16 == 0 && kOutChannels % 8 == 0, "channels are moved eight at a time");

/// The packed weights of this warp's frequency: for each 16 input channels, for each 16 outputs, a fragment block.
class Weights {
 public:
  __device__ __forceinline__ Weights(const Vector16* packed, const Block& block, const Warp& warp)
      : next_(packed + (warp.frequency * kChannelBlocks * kOutBlocks + block.channel / 16) * 32 + warp.lane) {}

  /// Those of fragment block j.
  __device__ __forceinline__ Vector16 load(int j) const { return load_constant_16(next_ + j * 32); }
  __device__ __forceinline__ void load_all(Vector16 (&to)[kBlocksN]) const {
#pragma unroll
    for (int j = 0; j < kBlocksN; ++j) to[j] = load(j);
  }
  /// On to the next 16 input channels.
  __device__ __forceinline__ void advance() { next_ += kOutBlocks * 32; }

 private:
  const Vector16* next_;
};

using Sums = float[2][2 * kBlocksN][4];

/// Adds the products of a step's channels. This lane's row of the left operand's fragments lies at `row`, and `flip` further
/// for the second 16 channels; `held` has the weights of the first 16 channels and gets those of the next step's.
__device__ __forceinline__ void multiply_step(Sums& sum, Vector16 (&held)[kBlocksN], Weights& weights, uint32 row, uint32 flip, bool more) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32 a[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) load_matrices(a[i], row + (step == 0 ? 0 : flip) + static_cast<uint32>(i * 1024));
    weights.advance();
#pragma unroll
    for (int j = 0; j < kBlocksN; ++j) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        Element::multiply(sum[i][2 * j], a[i], held[j].word[0], held[j].word[1]);
        Element::multiply(sum[i][2 * j + 1], a[i], held[j].word[2], held[j].word[3]);
      }
      if (step + 1 < kSteps || more) held[j] = weights.load(j);
    }
  }
}

__device__ __forceinline__ void spill_sums(uint32 to, const Sums& sum, const Warp& warp) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 2 * kBlocksN; ++j) {
      const uint32 at = to + static_cast<uint32>((warp.frequency * kPositions + i * 16 + warp.lane / 4) * kSumPitch + j * 16 + warp.lane % 4 * 4);
      store_shared_4(at, Element::pack(sum[i][j][0] * kSumScale, sum[i][j][1] * kSumScale));
      store_shared_4(at + 8 * kSumPitch, Element::pack(sum[i][j][2] * kSumScale, sum[i][j][3] * kSumScale));
    }
  }
}

/// Four channels of a position: A sums A^T, bias, residual and activation, and the stores.
class Unit {
 public:
  __device__ __forceinline__ Unit(const Block& block, int unit)
      : position_(unit / (kBlockN / 4)), within_(unit % (kBlockN / 4) * 4), channel_(block.channel + within_) {
    const Position position = locate(block, position_);
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const int h = position.row + p / 2, w = position.column + p % 2;
      const bool inside = position.exists && h < kOutHeight && w < kOutWidth && channel_ < kOutChannels;
      pixel_[p] = inside ? (position.image * kOutHeight + h) * kOutWidth + w : -1;
    }
  }

  /// Before the sums are there.
  __device__ __forceinline__ void load(const float* bias, const uint16* residual) {
    if (kHasBias && channel_ < kOutChannels) bias_ = *reinterpret_cast<const float4*>(bias + channel_);
    if constexpr (kResidual == scalar::ResidualMode::None) return;
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      if (pixel_[p] >= 0) residual_[p] = *reinterpret_cast<const uint2*>(residual + pixel_[p] * kResidualPitch + channel_);
    }
  }

  __device__ __forceinline__ void finish(uint16* y, uint32 sums) const {
    sums += static_cast<uint32>(position_ * kSumPitch + within_ * 2);
    float out[4][4] = {};  // of each output pixel
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float across[2][4] = {};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint2 pairs = load_shared_8(sums + static_cast<uint32>((i * 4 + j) * kPositions * kSumPitch));
        float4 m;
        Element::unpack(pairs.x, m.x, m.y);
        Element::unpack(pairs.y, m.z, m.w);
        add(across[0], m, j < 3 ? 1 : 0);
        add(across[1], m, j == 0 ? 0 : j == 1 ? 1 : -1);
      }
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        const float4 m = make_float4(across[p % 2][0], across[p % 2][1], across[p % 2][2], across[p % 2][3]);
        add(out[p], m, p < 2 ? (i < 3 ? 1 : 0) : i == 0 ? 0 : i == 1 ? 1 : -1);
      }
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {  // two neighbouring pixels at once
      float x[8];
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        const float* from = out[row * 2 + p];
        x[p * 4] = from[0] / kSumScale + bias_.x, x[p * 4 + 1] = from[1] / kSumScale + bias_.y;
        x[p * 4 + 2] = from[2] / kSumScale + bias_.z, x[p * 4 + 3] = from[3] / kSumScale + bias_.w;
      }
      const uint2 left = residual_[row * 2], right = residual_[row * 2 + 1];
      const Vector16 result = finish8<Element, kActivation, kResidual>(x, {{left.x, left.y, right.x, right.y}}, kAlpha, kBeta);
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        const int pixel = pixel_[row * 2 + p];
        if (pixel >= 0) *reinterpret_cast<uint2*>(y + pixel * kOutputPitch + channel_) = make_uint2(result.word[p * 2], result.word[p * 2 + 1]);
      }
    }
  }

 private:
  __device__ static __forceinline__ void add(float (&to)[4], const float4& x, int sign) {
    if (sign > 0) to[0] += x.x, to[1] += x.y, to[2] += x.z, to[3] += x.w;
    if (sign < 0) to[0] -= x.x, to[1] -= x.y, to[2] -= x.z, to[3] -= x.w;
  }

  int position_, within_, channel_;
  int pixel_[4];  // number of each output pixel, -1 where there is none
  float4 bias_ = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  uint2 residual_[4] = {};
};

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, 1) EDGERT_ENTRY(const uint16* x, const Vector16* packed_weights, const float* bias,
                                                                       const uint16* residual, uint16* y, const char* prefetch,
                                                                       uint32 prefetch_bytes) {
  allow_next_grid();
  const uint32 transformed = shared_address(dynamic_shared_memory()), patches = transformed + kPatchesOffset;
  const Warp warp = this_warp();
  // Rows 0 to 15 of channels 0 to 7, then of channels 8 to 15.
  const uint32 row = transformed + static_cast<uint32>(warp.frequency * kFrequencyBytes) + transformed_bytes(warp.lane % 16, warp.lane / 16);
  const uint32 flip = transformed_bytes(warp.lane % 16, warp.lane / 16 + 2) - transformed_bytes(warp.lane % 16, warp.lane / 16);
  constexpr int kUnits = kPositions * kBlockN / 4;
  static_assert(kUnits <= kThreads, "a thread finishes one unit");
  const bool has_unit = kUnits == kThreads || static_cast<int>(threadIdx.x) < kUnits;

  int index = static_cast<int>(blockIdx.x);
  Weights weights(packed_weights, block_at(index), warp);
  Vector16 held[kBlocksN];
  weights.load_all(held);
  Patch patch(block_at(index));
  prefetch_weights(prefetch, prefetch_bytes, kThreads);
  wait_for_previous_grid();
  patch.load_first(patches, x);
#pragma unroll 1
  for (;;) {
    const Transform transform(block_at(index));
    copy_async_wait<kPatches - 1>();
    __syncthreads();
    transform.run(transformed, patches);
    Sums sum = {};
    int buffer = 0;
#pragma unroll 1
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      copy_async_wait<kPatches - 2>();
      __syncthreads();
      const uint32 here = static_cast<uint32>(chunk % 2 * kTransformedBytes), there = kTransformedBytes - here;
      const int next = buffer + 1 == kPatches ? 0 : buffer + 1;
      const bool more = chunk + 1 < kChunks;
      if (chunk + kPatches < kChunks) patch.load(patches + static_cast<uint32>(buffer * kPatchBytes), x, chunk + kPatches);
      copy_async_commit();
      multiply_step(sum, held, weights, row + here, flip, more);
      if (more) transform.run(transformed + there, patches + static_cast<uint32>(next * kPatchBytes));
      buffer = next;
    }
    __syncthreads();
    spill_sums(transformed, sum, warp);
    pin(index);  // nothing of the block is kept in registers until here
    const Block done = block_at(index);
    index += static_cast<int>(gridDim.x);
    const bool last = index >= kBlocks;
    if (!last) {
      const Block block = block_at(index);
      weights = Weights(packed_weights, block, warp);
      weights.load_all(held);
      patch = Patch(block);
      patch.load_first(patches, x);
    }
    Unit unit(done, has_unit ? static_cast<int>(threadIdx.x) : 0);
    unit.load(bias, residual);
    __syncthreads();
    if (has_unit) unit.finish(y, transformed);
    if (last) break;
    __syncthreads();  // the sums have been read
  }
  copy_async_wait<0>();
}

}  // namespace edgert::device
