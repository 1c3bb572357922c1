// SPDX-License-Identifier: Apache-2.0
// An inverted-residual block in one launch: a 1x1 convolution that widens the channels (kWiden), a depthwise convolution,
// a 1x1 convolution that narrows them, with residual. A block computes kTileHeight x kTileWidth output pixels, of all
// output channels, from kSplit-th part of the hidden channels: it multiplies the input pixels under the windows, keeps the
// hidden ones in shared memory, slides the windows over them, and multiplies what results, which stays there as well. Both
// are rounded as if they had been stored. Blocks that share a tile add their parts as those of a convolution do
// (conv_finish.h), in a fixed order.
//
// To conv_patch.h the block is a convolution with the depthwise one's window: the patch is what lies under the windows.
// Before the wait for the previous kernel the weights of the first product are in registers, all others on their way to
// shared memory.
#include "kernels/conv_finish.h"
#include "kernels/conv_patch.h"

namespace edgert::device {
namespace {

constexpr int kHiddenBlocks = (kHidden + 15) / 16;
constexpr int kOwnBlocks = (kHiddenBlocks + kSplit - 1) / kSplit;  // of 16 hidden channels, of one block of the grid
constexpr int kOwnHidden = kOwnBlocks * 16;
constexpr int kOutBlocks = (kOutChannels + 15) / 16;
constexpr int kWarps = kThreads / 32;
constexpr int kPatchPixels = kPatchHeight * kPatchColumns;

// The widening product: 16 pixels times 16 hidden channels at a time, shared among kExpandWarpsM x kExpandWarpsN warps.
constexpr int kDepthSteps = kChunk / 16;
constexpr int kExpandWarpsN = kWarps / kExpandWarpsM;
constexpr int kExpandBlocksM = (kPatchPixels + 15) / 16;
constexpr int kExpandBlocksN = (kOwnBlocks + kExpandWarpsN - 1) / kExpandWarpsN;  // of a warp

// The depthwise convolution: a thread takes kStrip neighbouring outputs of kVector channels at a time.
constexpr int kWindowTaps = kKernelHeight * kKernelWidth;
constexpr int kVectors = kOwnHidden / kVector;
constexpr int kStrips = kTileWidth / kStrip;
constexpr int kSpan = (kStrip - 1) * kStrideWidth + kKernelWidth;

// Hidden pixels before and after the depthwise convolution: 16 bytes more than the channels spread rows over all banks.
constexpr int kHiddenPitch = kOwnHidden * 2 + 16;
constexpr int kHiddenOffset = kWiden ? kPatchPixels * kPixelBytes : 0;
constexpr int kHiddenBytes = (kWiden ? kExpandBlocksM * 16 : kPatchPixels) * kHiddenPitch;
constexpr int kInputEnd = kHiddenOffset + kHiddenBytes;
constexpr int kFilteredOffset = kInputEnd > kAccumulatorBytes ? kInputEnd : kAccumulatorBytes;  // sums take the place of the hidden pixels
constexpr int kReceiveOffset = kFilteredOffset + kTileHeight * kTileWidth * kHiddenPitch;
constexpr int kProjectOffset = kReceiveOffset + (kCluster ? kUnits * 32 + 16 : 0);
constexpr int kWindowOffset = kProjectOffset + kOwnBlocks * kOutBlocks * 512;
static_assert(kWindowOffset + (kWindowTaps + 1) * kOwnHidden * 4 == kSharedBytes, "the host computes another size of shared memory");
static_assert((kVector == 4 || kVector == 8) && kTilesN == 1 && kTileWidth % kStrip == 0 && kWarps % kExpandWarpsM == 0, "outside this kernel's range");
static_assert(kWiden || (kSplit == 1 && kHiddenPitch == kPixelBytes), "without the first product the input is what the windows slide over");

// Weights are the fragments of both products; floats are the window's [tap][channel] with the bias behind the last tap, then
// the biases of both products, channels rounded up to multiples of 16.
constexpr int kProjectFragments = kWiden ? kDepthSteps * kHiddenBlocks * 32 : 0;
constexpr int kExpandBias = (kWindowTaps + 1) * kHiddenBlocks * 16;
constexpr int kProjectBias = kExpandBias + (kWiden ? kHiddenBlocks * 16 : 0);

using ExpandWeights = Vector16[kDepthSteps][kExpandBlocksN];
using ExpandBias = float[kExpandBlocksN][4];

/// This warp's place in the widening product.
struct ExpandWarp {
  int m, n, lane;
};
__device__ __forceinline__ ExpandWarp expand_warp() {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  return {warp % kExpandWarpsM, warp / kExpandWarpsM, static_cast<int>(threadIdx.x) % 32};
}

/// Weights and bias of the 16-channel blocks that this warp computes: every kExpandWarpsN-th of the block's own.
__device__ __forceinline__ void load_expand(ExpandWeights& weights, ExpandBias& bias, const Vector16* packed, const float* from, int split,
                                            const ExpandWarp& warp) {
#pragma unroll
  for (int j = 0; j < kExpandBlocksN; ++j) {
    const int own = warp.n + j * kExpandWarpsN;
    const int block = split * kOwnBlocks + own;
    const bool there = own < kOwnBlocks && block < kHiddenBlocks;
#pragma unroll
    for (int k = 0; k < kDepthSteps; ++k) {
      weights[k][j] = Vector16{};
      if (there) weights[k][j] = load_constant_16(packed + (k * kHiddenBlocks + block) * 32 + warp.lane);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int channel = i / 2 * 8 + warp.lane % 4 * 2 + i % 2;
      bias[j][i] = there ? from[block * 16 + channel] : 0.0f;
    }
  }
}

/// The block's part of the narrowing product's weights, and of the window's with their bias.
__device__ __forceinline__ void load_shared_weights(uint32 memory, const Vector16* project, const float* window, int split) {
  const int first = split * kOwnBlocks;
#pragma unroll 4
  for (int piece = static_cast<int>(threadIdx.x); piece < kOwnBlocks * kOutBlocks * 32; piece += kThreads) {
    const bool there = first + piece / (kOutBlocks * 32) < kHiddenBlocks;
    copy_async_16(memory + static_cast<uint32>(kProjectOffset + piece * 16), there ? project + first * kOutBlocks * 32 + piece : project, there ? 16u : 0u);
  }
  constexpr int kRow = kOwnHidden / 4;
#pragma unroll 4
  for (int piece = static_cast<int>(threadIdx.x); piece < (kWindowTaps + 1) * kRow; piece += kThreads) {
    const int channel = first * 16 + piece % kRow * 4;
    const bool there = channel < kHiddenBlocks * 16;
    const float* from = window + piece / kRow * kHiddenBlocks * 16 + channel;
    copy_async_16(memory + static_cast<uint32>(kWindowOffset + piece * 16), there ? from : window, there ? 16u : 0u);
  }
}

/// Whether a pixel of the patch, in the order in which it lies, belongs to the image.
__device__ __forceinline__ bool is_inside(int pixel, const Block& block) {
  const int slot = pixel % kPatchColumns;
  const int h = block.row * kStrideHeight - kPadTop + pixel / kPatchColumns;
  const int w = block.column * kStrideWidth - kPadLeft + slot % kColumnGroup * kInnerW + slot / kColumnGroup;
  return h >= 0 && h < kHeight && w >= 0 && w < kWidth;
}

/// 16 hidden pixels of a warp: bias, activation, zeros where the window's padding is.
__device__ __forceinline__ void store_hidden(uint32 hidden, const float (&sum)[2 * kExpandBlocksN][4], const ExpandBias& bias, int first,
                                             const ExpandWarp& warp, const Block& block) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pixel = first + half * 8 + warp.lane / 4;
    const bool inside = is_inside(pixel, block);
#pragma unroll
    for (int j = 0; j < 2 * kExpandBlocksN; ++j) {
      const int own = warp.n + j / 2 * kExpandWarpsN;
      if (kOwnBlocks % kExpandWarpsN != 0 && own >= kOwnBlocks) break;
      float x[2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        x[e] = activate_for_16_bits<kExpandActivation>(sum[j][half * 2 + e] + bias[j / 2][j % 2 * 2 + e], kExpandAlpha, kExpandBeta);
        if (!inside) x[e] = 0.0f;
      }
      const int channel = own * 16 + j % 2 * 8 + warp.lane % 4 * 2;
      store_shared_4(hidden + static_cast<uint32>(pixel * kHiddenPitch + channel * 2), Element::pack(x[0], x[1]));
    }
  }
}

__device__ __forceinline__ void expand(uint32 patch, uint32 hidden, const ExpandWeights& weights, const ExpandBias& bias, const ExpandWarp& warp,
                                       const Block& block) {
#pragma unroll 1
  for (int i = warp.m; i < kExpandBlocksM; i += kExpandWarpsM) {
    const int pixel = i * 16 + warp.lane % 16;
    const uint32 row = patch + static_cast<uint32>((pixel < kPatchPixels ? pixel : 0) * kPixelBytes + warp.lane / 16 * 16);
    float sum[2 * kExpandBlocksN][4] = {};
#pragma unroll
    for (int k = 0; k < kDepthSteps; ++k) {
      uint32 a[4];
      load_matrices(a, row + static_cast<uint32>(k * 32));
#pragma unroll
      for (int j = 0; j < kExpandBlocksN; ++j) {
        Element::multiply(sum[2 * j], a, weights[k][j].word[0], weights[k][j].word[1]);
        Element::multiply(sum[2 * j + 1], a, weights[k][j].word[2], weights[k][j].word[3]);
      }
    }
    store_hidden(hidden, sum, bias, i * 16, warp, block);
  }
}

/// Neighbouring channels as floats: 16-bit ones, and the window's weights.
template <int kCount>
__device__ __forceinline__ void load_hidden(float (&to)[kCount], uint32 from) {
  if constexpr (kCount == 8) {
    unpack8<Element>(load_shared_16(from), to);
  } else {
    const uint2 four = load_shared_8(from);
    Element::unpack(four.x, to[0], to[1]);
    Element::unpack(four.y, to[2], to[3]);
  }
}
__device__ __forceinline__ void load_window(float (&to)[kVector], uint32 from) {
#pragma unroll
  for (int i = 0; i < kVector; i += 4) {
    const Vector16 four = load_shared_16(from + static_cast<uint32>(i * 4));
#pragma unroll
    for (int e = 0; e < 4; ++e) to[i + e] = scalar::bit_cast<float>(four.word[e]);
  }
}

/// Sums of a strip over the window. `hidden` is where the strip's first input of these channels lies.
__device__ __forceinline__ void slide(float (&sum)[kStrip][kVector], uint32 hidden, uint32 window) {
#pragma unroll
  for (int r = 0; r < kKernelHeight; ++r) {
    float weight[kKernelWidth][kVector];
#pragma unroll
    for (int q = 0; q < kKernelWidth; ++q) load_window(weight[q], window + static_cast<uint32>((r * kKernelWidth + q) * kOwnHidden * 4));
#pragma unroll
    for (int i = 0; i < kSpan; ++i) {
      float x[kVector];
      load_hidden(x, hidden + static_cast<uint32>((r * kPatchColumns + i % kInnerW * kColumnGroup + i / kInnerW) * kHiddenPitch));
#pragma unroll
      for (int s = 0; s < kStrip; ++s) {
        const int q = i - s * kStrideWidth;
        if (q < 0 || q >= kKernelWidth) continue;
#pragma unroll
        for (int c = 0; c < kVector; ++c) sum[s][c] += x[c] * weight[q][c];
      }
    }
  }
}

/// The depthwise convolution from shared memory to shared memory.
__device__ __forceinline__ void filter(uint32 hidden, uint32 filtered, uint32 window) {
#pragma unroll 1
  for (int item = static_cast<int>(threadIdx.x); item < kTileHeight * kStrips * kVectors; item += kThreads) {
    const int channel = item % kVectors * kVector;
    const int row = item / kVectors / kStrips;
    const int column = item / kVectors % kStrips * kStrip;
    float sum[kStrip][kVector];
    load_window(sum[0], window + static_cast<uint32>((kWindowTaps * kOwnHidden + channel) * 4));
#pragma unroll
    for (int s = 1; s < kStrip; ++s) {
#pragma unroll
      for (int c = 0; c < kVector; ++c) sum[s][c] = sum[0][c];
    }
    slide(sum, hidden + static_cast<uint32>((row * kInnerH * kPatchColumns + column) * kHiddenPitch + channel * 2), window + static_cast<uint32>(channel * 4));
#pragma unroll
    for (int s = 0; s < kStrip; ++s) {
      const uint32 to = filtered + static_cast<uint32>((row * kTileWidth + column + s) * kHiddenPitch + channel * 2);
      uint32 pair[kVector / 2];
#pragma unroll
      for (int c = 0; c < kVector; c += 2) {
        const float low = activate_for_16_bits<kWindowActivation>(sum[s][c], kWindowAlpha, kWindowBeta);
        const float high = activate_for_16_bits<kWindowActivation>(sum[s][c + 1], kWindowAlpha, kWindowBeta);
        pair[c / 2] = Element::pack(low, high);
      }
#pragma unroll
      for (int c = 0; c < kVector / 2; c += 2) store_shared_8(to + static_cast<uint32>(c * 4), pair[c], pair[c + 1]);
    }
  }
}

/// The narrowing product of this warp's pixels, output channels and every kWarpsK-th step of hidden channels.
__device__ __forceinline__ void project(float (&sum)[kBlocksM][2 * kBlocksN][4], uint32 filtered, uint32 weights, const Warp& warp) {
  uint32 row[kBlocksM];
#pragma unroll
  for (int i = 0; i < kBlocksM; ++i) {
    const int pixel = warp.m * kWarpM + i * 16 + warp.lane % 16;
    row[i] = filtered + static_cast<uint32>((pixel < kTileHeight * kTileWidth ? pixel : 0) * kHiddenPitch + warp.lane / 16 * 16);
  }
#pragma unroll 4
  for (int k = warp.k; k < kOwnBlocks; k += kWarpsK) {
    uint32 a[kBlocksM][4];
#pragma unroll
    for (int i = 0; i < kBlocksM; ++i) load_matrices(a[i], row[i] + static_cast<uint32>(k * 32));
#pragma unroll
    for (int j = 0; j < kBlocksN; ++j) {
      const int n = warp.n * kBlocksN + j;
      if (kOutBlocks * 16 < kBlockN && n >= kOutBlocks) break;
      const Vector16 weight = load_shared_16(weights + static_cast<uint32>(((k * kOutBlocks + n) * 32 + warp.lane) * 16));
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i) {
        Element::multiply(sum[i][2 * j], a[i], weight.word[0], weight.word[1]);
        Element::multiply(sum[i][2 * j + 1], a[i], weight.word[2], weight.word[3]);
      }
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    EDGERT_ENTRY(const uint16* x, const Vector16* packed_weights, const float* floats, const uint16* residual, uint16* y, float* workspace,
                 uint32* counters, const char* prefetch, uint32 prefetch_bytes) {
  allow_next_grid();
  prefetch_weights(prefetch, prefetch_bytes, kThreads);
  if (static_cast<int>(blockIdx.x) >= kBlocks) {  // as in conv.cu
    wait_for_previous_grid();
    hold_place(1500);
    return;
  }
  const Arguments arguments = {x, packed_weights, floats + kProjectBias, residual, y, workspace, counters, prefetch, prefetch_bytes};
  unsigned char* shared = dynamic_shared_memory();
  const uint32 memory = shared_address(shared);
  const Block block = this_block();
  const ExpandWarp expand_at = expand_warp();
  ExpandWeights weights;
  ExpandBias first_bias;
  if constexpr (kWiden) load_expand(weights, first_bias, packed_weights, floats + kExpandBias, block.split, expand_at);
  load_shared_weights(memory, packed_weights + kProjectFragments, floats, block.split);
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) {
    if (threadIdx.x == 0) receive_begin(memory + kReceiveOffset + kUnits * 32, kUnits * 32);
    __syncwarp();
    cluster_arrive();
  }
#endif
  Finish units(arguments, block);
  const Patch patch(block);
  patch.clear(memory);
  wait_for_previous_grid();
  patch.load(memory, x, 0);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  if constexpr (kWiden) {
    expand(memory, memory + kHiddenOffset, weights, first_bias, expand_at, block);
    __syncthreads();
  }
  if constexpr (kResidual != scalar::ResidualMode::None) units.load_residual(arguments);
  filter(memory + kHiddenOffset, memory + kFilteredOffset, memory + kWindowOffset);
  __syncthreads();
  const Warp warp = this_warp();
  float sum[kBlocksM][2 * kBlocksN][4] = {};
  project(sum, memory + kFilteredOffset, memory + kProjectOffset, warp);
  float* plane = reinterpret_cast<float*>(shared);
  spill_sums(plane, sum, warp);
  __syncthreads();
  if constexpr (kSplit > 1 && !kCluster) {
    if (!arrive_last(arguments, plane, block)) return;
  }
  finish(arguments, block, plane, kReceiveOffset, units);
}

}  // namespace edgert::device
