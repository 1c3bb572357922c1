// SPDX-License-Identifier: Apache-2.0
// The first half of an inverted-residual block in one launch: a 1x1 convolution that widens the channels, its
// activation, a depthwise convolution, its activation. A block computes kTileHeight x kTileWidth output pixels of
// kBlockN hidden channels: it multiplies the input pixels under their windows, keeps the hidden pixels in shared memory,
// rounded as if they had been stored (widen.h), and slides the window over them (depthwise_mma.h). With kPool the sums over the
// block's pixels of each output channel are written too, so that squeeze-and-excitation need not read the result again.
//
// To conv_patch.h this is a convolution with the depthwise one's window: the patch is what lies under the windows.
#include "kernels/depthwise_mma.h"
#include "kernels/widen.h"

namespace edgert::device {
namespace {

constexpr int kVectorsN = kBlockN / 8;
constexpr int kGroups = kThreads / kVectorsN;  // of threads that share a vector of channels
constexpr int kWindowTaps = kKernelHeight * kKernelWidth;
constexpr int kWindowBlockBytes = (kWindowTaps + 1) * 64;  // of 16 channels: weights, then biases
constexpr int kTilePixels = kTileHeight * kTileWidth;

// A warp takes columns of kRows outputs, 16 of them at a time.
constexpr int kColumns = kTileHeight / kRows * kTileWidth;
constexpr int kColumnBlocks = (kColumns + 15) / 16;

// Results take the place of the input.
constexpr int kFilteredBytes = kTilePixels * kHiddenPitch;
constexpr int kHiddenOffset = kPatchBytes > kFilteredBytes ? kPatchBytes : kFilteredBytes;
constexpr int kWindowOffset = kHiddenOffset + kExpandBlocksM * 16 * kHiddenPitch;
constexpr int kPoolOffset = kWindowOffset + kPassBlocks * kWindowBlockBytes;
static_assert(kPoolOffset + (kPool ? kThreads * 32 : 0) == kSharedBytes, "the host computes another size of shared memory");
static_assert(kThreads % kVectorsN == 0 && kWarpsK == 1 && kHidden % 8 == 0 && kTileHeight % kRows == 0, "outside this kernel's range");

/// The window's weights of this block's channels, with their bias.
__device__ __forceinline__ void load_window(uint32 to, const uint32* words, int first_block) {
  constexpr int kPieces = kWindowBlockBytes / 16;  // of 16 channels
  for (int piece = static_cast<int>(threadIdx.x); piece < kPassBlocks * kPieces; piece += kThreads) {
    const bool there = first_block + piece / kPieces < kHiddenBlocks;
    copy_async_16(to + static_cast<uint32>(piece * 16), there ? words + (first_block * kPieces + piece) * 4 : words, there ? 16u : 0u);
  }
}

/// The depthwise half, from shared memory to shared memory.
__device__ __forceinline__ void filter(uint32 hidden, uint32 filtered, uint32 window, const Warp& warp) {
#pragma unroll 1
  for (int n = warp.n; n < kPassBlocks; n += kWarpsN) {
    WindowWeights<kWindowTaps> taps;
    taps.load(window + static_cast<uint32>(n * kWindowBlockBytes), warp.lane);
#pragma unroll 1
    for (int i = warp.m; i < kColumnBlocks; i += kWarpsM) {
      const int column = i * 16 + warp.lane % 16, known = column < kColumns ? column : 0;
      const int pixel = known / kTileWidth * kRows * kInnerH * kPatchColumns + known % kTileWidth;
      float sum[kRows][2][4];
      slide_window<kHiddenPitch>(sum, hidden + static_cast<uint32>(pixel * kHiddenPitch + n * 32 + warp.lane / 16 * 16), taps);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int out = i * 16 + half * 8 + warp.lane / 4;
        if (kColumns % 16 != 0 && out >= kColumns) continue;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const int m = (out / kTileWidth * kRows + r) * kTileWidth + out % kTileWidth;
          const uint32 to = filtered + static_cast<uint32>(m * kHiddenPitch + n * 32 + warp.lane % 4 * 4);
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const float low = sum[r][e][half * 2], high = sum[r][e][half * 2 + 1];
            store_shared_4(to + static_cast<uint32>(e * 16), activate_pair<Element, kActivation, is_short(kAlpha) && is_short(kBeta)>(low, high, kAlpha, kBeta));
          }
        }
      }
    }
  }
}

/// Results to memory, eight channels at a time. Adds what it stores to `total`.
__device__ __forceinline__ void store(uint32 filtered, uint16* y, const Block& block, float (&total)[8]) {
  const int vector = static_cast<int>(threadIdx.x) % kVectorsN;
  const int channel = block.channel + vector * 8;
  if (channel >= kHidden) return;
#pragma unroll 2
  for (int m = static_cast<int>(threadIdx.x) / kVectorsN; m < kTilePixels; m += kGroups) {
    const int h = block.row + m / kTileWidth, w = block.column + m % kTileWidth;
    if (h >= kOutHeight || w >= kOutWidth) continue;
    const Vector16 out = load_shared_16(filtered + static_cast<uint32>(m * kHiddenPitch + vector * 16));
    *reinterpret_cast<Vector16*>(y + ((block.image * kOutHeight + h) * kOutWidth + w) * kOutputPitch + channel) = out;
    if constexpr (kPool) {
      float stored[8];
      unpack8<Element>(out, stored);
#pragma unroll
      for (int c = 0; c < 8; ++c) total[c] += stored[c];
    }
  }
}

/// Sums over the threads that share channels, in order, to pool[tile][channel].
__device__ __forceinline__ void store_pool(float* groups, const float (&total)[8], float* pool, const Block& block) {
#pragma unroll
  for (int c = 0; c < 8; ++c) groups[threadIdx.x * 8 + c] = total[c];
  __syncthreads();
  for (int n = static_cast<int>(threadIdx.x); n < kBlockN; n += kThreads) {
    if (block.channel + n >= kHidden) break;
    float sum = 0.0f;
#pragma unroll 8
    for (int g = 0; g < kGroups; ++g) sum += groups[g * kBlockN + n];
    pool[block.tile / kTilesN * kHidden + block.channel + n] = sum;
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    EDGERT_ENTRY(const uint16* x, const Vector16* packed_weights, const float* expand_bias, const uint32* window_words, uint16* y, float* pool,
                 const char* prefetch, uint32 prefetch_bytes) {
  allow_next_grid();
  prefetch_weights(prefetch, prefetch_bytes, kThreads);
  if (static_cast<int>(blockIdx.x) >= kBlocks) {  // as in conv.cu
    wait_for_previous_grid();
    hold_place(1500);
    return;
  }
  const uint32 memory = shared_address(dynamic_shared_memory());
  const Block block = this_block();
  const Patch patch(block);
  patch.clear(memory);
#if __CUDA_ARCH__ < 900
  wait_for_previous_grid();
  patch.load(memory, x, 0);  // there is no wait to load weights in
#endif
  const ExpandWarp expand_at = expand_warp();
  ExpandWeights weights;
  ExpandBias bias;
  load_expand(weights, bias, packed_weights, expand_bias, block.channel / 16, expand_at);
  load_window(memory + kWindowOffset, window_words, block.channel / 16);
#if __CUDA_ARCH__ >= 900
  wait_for_previous_grid();
  patch.load(memory, x, 0);
#endif
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  widen(memory, memory + kHiddenOffset, weights, bias, expand_at, block);
  __syncthreads();
  filter(memory + kHiddenOffset, memory, memory + kWindowOffset, this_warp());
  __syncthreads();
  float total[8] = {};
  store(memory, y, block, total);
  if constexpr (kPool) store_pool(reinterpret_cast<float*>(dynamic_shared_memory() + kPoolOffset), total, pool, block);
}

}  // namespace edgert::device
