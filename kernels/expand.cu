// SPDX-License-Identifier: Apache-2.0
// The first half of an inverted-residual block in one launch: a 1x1 convolution that widens the channels, its
// activation, a depthwise convolution, its activation. A block computes kOutTileHeight x kOutTileWidth output pixels of
// kBlockN hidden channels: it multiplies the input pixels under their windows, keeps the hidden pixels in shared memory,
// rounded as if they had been stored, and slides the window over them. With kPool the sums over the block's pixels of
// each output channel are written too, so that squeeze-and-excitation need not read the result again.
//
// conv_patch.h loads the input with kTileHeight x kTileWidth being the pixels under the windows, a 1x1 convolution's tile.
#include "kernels/conv_patch.h"

namespace edgert::device {
namespace {

constexpr int kSteps = kChunk / 16;
constexpr int kHiddenBlocks = (kHidden + 15) / 16;
constexpr int kVectorsN = kBlockN / 8;
constexpr int kGroups = kThreads / kVectorsN;  // of threads that share a vector of channels
constexpr int kRowsOut = (kOutHeight + kOutTileHeight - 1) / kOutTileHeight;
constexpr int kColumnsOut = (kOutWidth + kOutTileWidth - 1) / kOutTileWidth;
constexpr int kSlices = (kHidden + kBlockN - 1) / kBlockN;
constexpr int kWorkBlocks = kBatch * kRowsOut * kColumnsOut * kSlices;
constexpr int kWindowTaps = kWindow * kWindow;
constexpr int kStrips = (kOutTileWidth + kStrip - 1) / kStrip;
constexpr int kSpan = (kStrip - 1) * kStep + kWindow;

constexpr int kHiddenPixelBytes = kBlockN * 2 + 16;
constexpr int kHiddenOffset = kPatchBytes;
constexpr int kWindowOffset = kHiddenOffset + (kBlockM + kSpan) * kHiddenPixelBytes;  // a last strip may look past its row
constexpr int kPoolOffset = kWindowOffset + kWindowTaps * kBlockN * 2;
static_assert(kPoolOffset + (kPool ? kThreads * 32 : 0) == kSharedBytes, "the host computes another size of shared memory");
static_assert(kThreads % kVectorsN == 0 && kWarpsK == 1 && kHidden % 8 == 0, "outside this kernel's range");
static_assert(kTileHeight == (kOutTileHeight - 1) * kStep + kWindow && kTileWidth == (kOutTileWidth - 1) * kStep + kWindow, "not the pixels under the windows");

struct Place {
  int image, row, column, channel, tile;
};
__device__ __forceinline__ Place this_place() {
  const int index = static_cast<int>(blockIdx.x);
  const int tile = index / kSlices;
  return {tile / (kRowsOut * kColumnsOut), tile / kColumnsOut % kRowsOut * kOutTileHeight, tile % kColumnsOut * kOutTileWidth,
          index % kSlices * kBlockN, tile};
}

using WarpWeights = Vector16[kSteps][kBlocksN];

__device__ __forceinline__ void load_weights(WarpWeights& to, const Vector16* packed, int first_n, int lane) {
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
#pragma unroll
    for (int j = 0; j < kBlocksN; ++j) {
      to[k][j] = Vector16{};
      if (first_n + j < kHiddenBlocks) to[k][j] = load_constant_16(packed + (k * kHiddenBlocks + first_n + j) * 32 + lane);
    }
  }
}

/// The window's weights of this block's channels, [tap][channel].
__device__ __forceinline__ void load_window(uint32 to, const uint16* weights, int channel) {
  for (int piece = static_cast<int>(threadIdx.x); piece < kWindowTaps * kVectorsN; piece += kThreads) {
    const int at = channel + piece % kVectorsN * 8;
    copy_async_16(to + static_cast<uint32>(piece * 16), at < kHidden ? weights + piece / kVectorsN * kHidden + at : weights, at < kHidden ? 16u : 0u);
  }
}

/// Hidden pixels of this warp: bias, activation, zeros where the window's padding is.
__device__ __forceinline__ void store_hidden(uint32 hidden, const float (&sum)[2 * kBlocksN][4], const float (&bias)[2 * kBlocksN][2], int m,
                                             const Warp& warp, const Place& place) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pixel = m + half * 8 + warp.lane / 4;
    const int h = place.row * kStep - kPadTop + pixel / kTileWidth;
    const int w = place.column * kStep - kPadLeft + pixel % kTileWidth;
    const bool inside = h >= 0 && h < kHeight && w >= 0 && w < kWidth;
#pragma unroll
    for (int j = 0; j < 2 * kBlocksN; ++j) {
      float x[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        x[e] = activate_for_16_bits<kExpandActivation>(sum[j][half * 2 + e] + bias[j][e], kExpandAlpha, kExpandBeta);
        if (!inside) x[e] = 0.0f;
      }
      const int n = warp.n * kWarpN + j * 8 + warp.lane % 4 * 2;
      store_shared_4(hidden + static_cast<uint32>(pixel * kHiddenPixelBytes + n * 2), Element::pack(x[0], x[1]));
    }
  }
}

__device__ __forceinline__ void expand(uint32 patch, uint32 hidden, const WarpWeights& weights, const float (&bias)[2 * kBlocksN][2],
                                       const Warp& warp, const Place& place) {
#pragma unroll 2
  for (int i = 0; i < kBlocksM; ++i) {
    const int m = warp.m * kWarpM + i * 16 + warp.lane % 16;
    const uint32 row = patch + static_cast<uint32>((m < kTileHeight * kTileWidth ? m : 0) * kPixelBytes + warp.lane / 16 * 16);
    float sum[2 * kBlocksN][4] = {};
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      uint32 a[4];
      load_matrices(a, row + static_cast<uint32>(k * 32));
#pragma unroll
      for (int j = 0; j < kBlocksN; ++j) {
        Element::multiply(sum[2 * j], a, weights[k][j].word[0], weights[k][j].word[1]);
        Element::multiply(sum[2 * j + 1], a, weights[k][j].word[2], weights[k][j].word[3]);
      }
    }
    store_hidden(hidden, sum, bias, warp.m * kWarpM + i * 16, warp, place);
  }
}

/// Outputs of a strip: sums over the window of eight channels.
__device__ __forceinline__ void slide(float (&sum)[kStrip][8], uint32 hidden, uint32 window) {
#pragma unroll
  for (int r = 0; r < kWindow; ++r) {
    float weight[kWindow][8];
#pragma unroll
    for (int q = 0; q < kWindow; ++q) unpack8<Element>(load_shared_16(window + static_cast<uint32>((r * kWindow + q) * kBlockN * 2)), weight[q]);
#pragma unroll
    for (int i = 0; i < kSpan; ++i) {
      float x[8];
      unpack8<Element>(load_shared_16(hidden + static_cast<uint32>((r * kTileWidth + i) * kHiddenPixelBytes)), x);
#pragma unroll
      for (int s = 0; s < kStrip; ++s) {
        const int q = i - s * kStep;
        if (q < 0 || q >= kWindow) continue;
#pragma unroll
        for (int c = 0; c < 8; ++c) sum[s][c] += x[c] * weight[q][c];
      }
    }
  }
}

/// The depthwise half. Adds what it stores to `total`.
__device__ __forceinline__ void slide_window(uint32 hidden, uint32 window, const float (&bias)[8], uint16* y, const Place& place, float (&total)[8]) {
  const int vector = static_cast<int>(threadIdx.x) % kVectorsN;
  const int channel = place.channel + vector * 8;
  if (channel >= kHidden) return;
#pragma unroll 1
  for (int strip = static_cast<int>(threadIdx.x) / kVectorsN; strip < kOutTileHeight * kStrips; strip += kGroups) {
    const int row = strip / kStrips;
    const int column = strip % kStrips * kStrip;
    if (place.row + row >= kOutHeight || place.column + column >= kOutWidth) continue;
    float sum[kStrip][8];
#pragma unroll
    for (int s = 0; s < kStrip; ++s) {
#pragma unroll
      for (int c = 0; c < 8; ++c) sum[s][c] = bias[c];
    }
    slide(sum, hidden + static_cast<uint32>((row * kStep * kTileWidth + column * kStep) * kHiddenPixelBytes + vector * 16),
          window + static_cast<uint32>(vector * 16));
#pragma unroll
    for (int s = 0; s < kStrip; ++s) {
      if (column + s >= kOutTileWidth || place.column + column + s >= kOutWidth) break;
      const Vector16 out = finish8<Element, kActivation, scalar::ResidualMode::None>(sum[s], Vector16{}, kAlpha, kBeta);
      const int pixel = (place.image * kOutHeight + place.row + row) * kOutWidth + place.column + column + s;
      *reinterpret_cast<Vector16*>(y + pixel * kOutputPitch + channel) = out;
      if constexpr (kPool) {
        float stored[8];
        unpack8<Element>(out, stored);
#pragma unroll
        for (int c = 0; c < 8; ++c) total[c] += stored[c];
      }
    }
  }
}

/// Sums over the threads that share channels, in order, to pool[tile][channel].
__device__ __forceinline__ void store_pool(float* groups, const float (&total)[8], float* pool, const Place& place) {
#pragma unroll
  for (int c = 0; c < 8; ++c) groups[threadIdx.x * 8 + c] = total[c];
  __syncthreads();
  for (int n = static_cast<int>(threadIdx.x); n < kBlockN; n += kThreads) {
    if (place.channel + n >= kHidden) break;
    float sum = 0.0f;
#pragma unroll 8
    for (int g = 0; g < kGroups; ++g) sum += groups[g * kBlockN + n];
    pool[place.tile * kHidden + place.channel + n] = sum;
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    EDGERT_ENTRY(const uint16* x, const Vector16* packed_weights, const float* expand_bias, const uint16* window_weights,
                 const float* window_bias, uint16* y, float* pool, const char* prefetch, uint32 prefetch_bytes) {
  allow_next_grid();
  prefetch_weights(prefetch, prefetch_bytes, kThreads);
  if (static_cast<int>(blockIdx.x) >= kWorkBlocks) {  // as in conv.cu
    wait_for_previous_grid();
    hold_place(1500);
    return;
  }
  const uint32 memory = shared_address(dynamic_shared_memory());
  const Place place = this_place();
  const Warp warp = this_warp();
  WarpWeights weights;
  load_weights(weights, packed_weights, place.channel / 16 + warp.n * kBlocksN, warp.lane);
  float bias[2 * kBlocksN][2];
#pragma unroll
  for (int j = 0; j < 2 * kBlocksN; ++j) {
    const int n = place.channel + warp.n * kWarpN + j * 8 + warp.lane % 4 * 2;
    bias[j][0] = n < kHidden ? expand_bias[n] : 0.0f;
    bias[j][1] = n < kHidden ? expand_bias[n + 1] : 0.0f;
  }
  load_window(memory + kWindowOffset, window_weights, place.channel);
  float outer_bias[8] = {};
  const int channel = place.channel + static_cast<int>(threadIdx.x) % kVectorsN * 8;
#pragma unroll
  for (int c = 0; c < 8; ++c) outer_bias[c] = channel < kHidden ? window_bias[channel + c] : 0.0f;
  const Patch patch({place.image, place.row * kStep, place.column * kStep, 0, 0, 0});
  patch.clear(memory);
  wait_for_previous_grid();
  patch.load(memory, x, 0);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  expand(memory, memory + kHiddenOffset, weights, bias, warp, place);
  __syncthreads();
  float total[8] = {};
  slide_window(memory + kHiddenOffset, memory + kWindowOffset, outer_bias, y, place, total);
  if constexpr (kPool) store_pool(reinterpret_cast<float*>(dynamic_shared_memory() + kPoolOffset), total, pool, place);
}

}  // namespace edgert::device
