// SPDX-License-Identifier: Apache-2.0
// An inverted-residual block in one launch, as inverted_residual.cu: a 1x1 convolution that widens the channels (kWiden), a
// depthwise convolution, a 1x1 convolution that narrows them, with residual. A block computes kTileHeight x kTileWidth output
// pixels of all output channels: it multiplies the input pixels under the windows, keeps the hidden ones in shared memory,
// rounded as if they had been stored (widen.h), slides the windows over them on tensor cores (depthwise_mma.h), and multiplies
// what results, rounded likewise, straight from registers. For few multiprocessors, which have several tiles each: this takes a
// fraction of the instructions, but a warp by itself longer. A block takes its hidden channels in kPasses equal parts, one
// after the other, so that shared memory holds the hidden pixels of larger tiles, or of several blocks beside each other.
//
// To conv_patch.h the block is a convolution with the depthwise one's window: the patch is what lies under the windows.
#include "kernels/conv_finish.h"
#include "kernels/conv_patch.h"
#include "kernels/depthwise_mma.h"
#include "kernels/widen.h"

namespace edgert::device {
namespace {

constexpr int kOutBlocks = (kOutChannels + 15) / 16;

// The depthwise convolution and the narrowing product: a warp takes columns of kRows outputs, 16 of them at a time.
constexpr int kWindowTaps = kKernelHeight * kKernelWidth;
constexpr int kColumns = kTileHeight / kRows * kTileWidth;
constexpr int kColumnBlocks = (kColumns + 15) / 16;
constexpr int kOwnColumnBlocks = (kColumnBlocks + kWarpsM - 1) / kWarpsM;  // of a warp

constexpr int kHiddenOffset = kWiden ? kPatchPixels * kPixelBytes : 0;
constexpr int kHiddenBytes = (kWiden ? kExpandBlocksM * 16 : kPatchPixels) * kHiddenPitch;
constexpr int kInputEnd = kHiddenOffset + kHiddenBytes;
constexpr int kProjectOffset = kInputEnd > kAccumulatorBytes ? kInputEnd : kAccumulatorBytes;  // sums take the place of the pixels
constexpr int kWindowOffset = kProjectOffset + kHiddenBlocks * kOutBlocks * 512;
constexpr int kWindowBlockBytes = (kWindowTaps + 1) * 64;  // of 16 channels: weights, then biases
static_assert(kWindowOffset + kHiddenBlocks * kWindowBlockBytes == kSharedBytes, "the host computes another size of shared memory");
static_assert(kTilesN == 1 && kWarpsN == 1 && kSplit == 1 && kTileHeight % kRows == 0 && kHiddenBlocks == kPassBlocks * kPasses, "outside this kernel's range");
static_assert(kWiden || (kPasses == 1 && kHiddenPitch == kPixelBytes), "without the first product the input is what the windows slide over");

// Weights are the fragments of both products; words are those of depthwise_mma.h, then the biases of both products, floats,
// channels rounded up to multiples of 16.
constexpr int kProjectFragments = kWiden ? kDepthSteps * kHiddenBlocks * 32 : 0;
constexpr int kExpandBias = (kWindowTaps + 1) * kHiddenBlocks * 16;
constexpr int kProjectBias = kExpandBias + (kWiden ? kHiddenBlocks * 16 : 0);

/// The narrowing product's weights, and the window's with their bias.
__device__ __forceinline__ void load_shared_weights(uint32 memory, const Vector16* project, const float* words) {
#pragma unroll 4
  for (int piece = static_cast<int>(threadIdx.x); piece < kHiddenBlocks * kOutBlocks * 32; piece += kThreads) {
    copy_async_16(memory + static_cast<uint32>(kProjectOffset + piece * 16), project + piece);
  }
#pragma unroll 4
  for (int piece = static_cast<int>(threadIdx.x); piece < kHiddenBlocks * kWindowBlockBytes / 16; piece += kThreads) {
    copy_async_16(memory + static_cast<uint32>(kWindowOffset + piece * 16), words + piece * 4);
  }
}

using Sums = float[kOwnColumnBlocks][kRows][2 * kBlocksN][4];

/// Adds to the sums of this warp's pixels and output channels what every kWarpsK-th 16 channels of a pass give. `window` and
/// `weights` are where those of the pass begin.
__device__ __forceinline__ void filter_and_project(Sums& sum, uint32 hidden, uint32 window, uint32 weights, const Warp& warp) {
  uint32 at[kOwnColumnBlocks];  // what this lane addresses for the windows' first taps
#pragma unroll
  for (int i = 0; i < kOwnColumnBlocks; ++i) {
    const int column = (warp.m * kOwnColumnBlocks + i) * 16 + warp.lane % 16, known = column < kColumns ? column : 0;
    at[i] = hidden + static_cast<uint32>((known / kTileWidth * kRows * kInnerH * kPatchColumns + known % kTileWidth) * kHiddenPitch + warp.lane / 16 * 16);
  }
#pragma unroll 1
  for (int k = warp.k; k < kPassBlocks; k += kWarpsK) {
    WindowWeights<kWindowTaps> taps;
    taps.load(window + static_cast<uint32>(k * kWindowBlockBytes), warp.lane);
#pragma unroll
    for (int i = 0; i < kOwnColumnBlocks; ++i) {
      if (kColumnBlocks % kWarpsM != 0 && warp.m * kOwnColumnBlocks + i >= kColumnBlocks) break;
      float filtered[kRows][2][4];
      slide_window<kHiddenPitch>(filtered, at[i] + static_cast<uint32>(k * 32), taps);
      uint32 a[kRows][4];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float low = filtered[r][e / 2][e % 2 * 2], high = filtered[r][e / 2][e % 2 * 2 + 1];
          a[r][e] = activate_pair<Element, kWindowActivation, is_short(kWindowAlpha) && is_short(kWindowBeta)>(low, high, kWindowAlpha, kWindowBeta);
        }
      }
#pragma unroll
      for (int j = 0; j < kBlocksN; ++j) {
        const Vector16 weight = load_shared_16(weights + static_cast<uint32>(((k * kOutBlocks + j) * 32 + warp.lane) * 16));
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          Element::multiply(sum[i][r][2 * j], a[r], weight.word[0], weight.word[1]);
          Element::multiply(sum[i][r][2 * j + 1], a[r], weight.word[2], weight.word[3]);
        }
      }
    }
  }
}

/// As spill_sums() of conv_finish.h: to the rows of the pixels that they belong to.
__device__ __forceinline__ void spill_columns(float* plane, const Sums& sum, const Warp& warp) {
#pragma unroll
  for (int i = 0; i < kOwnColumnBlocks; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = (warp.m * kOwnColumnBlocks + i) * 16 + half * 8 + warp.lane / 4;
      if (column >= kColumns) continue;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int m = (column / kTileWidth * kRows + r) * kTileWidth + column % kTileWidth;
        float* row = plane + (warp.k * kBlockM + m) * kAccumulatorPitch;
#pragma unroll
        for (int j = 0; j < 2 * kBlocksN; ++j) {
          float* to = row + plane_column(j * 8 + warp.lane % 4 * 2);
          *reinterpret_cast<float2*>(to) = make_float2(sum[i][r][j][half * 2], sum[i][r][j][half * 2 + 1]);
        }
      }
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    EDGERT_ENTRY(const uint16* x, const Vector16* packed_weights, const float* words, const uint16* residual, uint16* y, const char* prefetch,
                 uint32 prefetch_bytes) {
  allow_next_grid();
  prefetch_weights(prefetch, prefetch_bytes, kThreads);
  if (static_cast<int>(blockIdx.x) >= kBlocks) {  // as in conv.cu
    wait_for_previous_grid();
    hold_place(1500);
    return;
  }
  const Arguments arguments = {x, packed_weights, words + kProjectBias, residual, y, nullptr, nullptr, prefetch, prefetch_bytes};
  unsigned char* shared = dynamic_shared_memory();
  const uint32 memory = shared_address(shared);
  const Block block = this_block();
  const Patch patch(block);
  patch.clear(memory);
#if __CUDA_ARCH__ < 900
  wait_for_previous_grid();
  patch.load(memory, x, 0);  // there is no wait to load weights in
#endif
  const ExpandWarp expand_at = expand_warp();
  ExpandWeights weights;
  ExpandBias first_bias;
  if constexpr (kWiden) load_expand(weights, first_bias, packed_weights, words + kExpandBias, 0, expand_at);
  load_shared_weights(memory, packed_weights + kProjectFragments, words);
  Finish units(arguments, block);
#if __CUDA_ARCH__ >= 900
  wait_for_previous_grid();
  patch.load(memory, x, 0);
#endif
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  const Warp warp = this_warp();
  Sums sum = {};
#pragma unroll 1
  for (int pass = 0; pass < kPasses; ++pass) {
    if constexpr (kWiden) {
      widen(memory, memory + kHiddenOffset, weights, first_bias, expand_at, block);
      __syncthreads();
      if (pass + 1 < kPasses) load_expand(weights, first_bias, packed_weights, words + kExpandBias, (pass + 1) * kPassBlocks, expand_at);
    }
    if constexpr (kResidual != scalar::ResidualMode::None) {
      if (pass + 1 == kPasses) units.load_residual(arguments);
    }
    const int first = pass * kPassBlocks;
    filter_and_project(sum, memory + kHiddenOffset, memory + static_cast<uint32>(kWindowOffset + first * kWindowBlockBytes),
                       memory + static_cast<uint32>(kProjectOffset + first * kOutBlocks * 512), warp);
    __syncthreads();
  }
  float* plane = reinterpret_cast<float*>(shared);
  spill_columns(plane, sum, warp);
  __syncthreads();
  finish(arguments, block, plane, 0, units);
}

}  // namespace edgert::device
