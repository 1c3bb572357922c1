// SPDX-License-Identifier: Apache-2.0
// Squeeze-and-excitation's factors in one launch: the mean of each channel over an image's pixels, a product with few
// outputs, its activation, a product that gives a factor for each channel, its activation. kClusterBlocks blocks, a cluster
// where there are several, compute an image: each takes its share of the channels, sends what they add to the squeezed
// values to all others (st.async, counted at a barrier), adds up all parts in order and computes its share of the factors.
// Nothing between the means and the factors is rounded. Weights are on their way to shared memory before the wait for the
// previous kernel.
#include "kernels/common/epilogue.h"
#include "kernels/common/ptx.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

constexpr int kVectors = kDepth / 8;  // of eight channels
constexpr int kShare = (kVectors + kClusterBlocks - 1) / kClusterBlocks;
constexpr int kSqueezedVectors = kSqueezed / 8;
constexpr int kOutputShare = (kOutputs + kClusterBlocks - 1) / kClusterBlocks;
constexpr int kWarps = kThreads / 32;
/// Pixels, or parts of sums over them, are divided among groups of threads, whose sums are then added in order.
constexpr int kGroups = kThreads / kShare < 1 ? 1 : (kThreads / kShare > kPixels ? kPixels : kThreads / kShare);

// Rows of 16 bytes more than their weights: lanes of different rows read different banks.
constexpr int kFirstPitch = kShare * 16 + 16;
constexpr int kSecondPitch = kSqueezedVectors * 16 + 16;
constexpr int kFirstOffset = 0;
constexpr int kSecondOffset = kFirstOffset + kSqueezed * kFirstPitch;
constexpr int kPartialOffset = kSecondOffset + kOutputShare * kSecondPitch;
constexpr int kMeanOffset = kPartialOffset + kGroups * kShare * 32;
constexpr int kReceiveOffset = kMeanOffset + kShare * 32;
constexpr int kSqueezedOffset = kReceiveOffset + kClusterBlocks * kSqueezed * 4;
constexpr int kBarrierOffset = kSqueezedOffset + kSqueezed * 4;
static_assert(kBarrierOffset + 16 == kSharedBytes, "the host computes another size of shared memory");
static_assert(kDepth % 8 == 0 && kSqueezed % 8 == 0, "outside this kernel's range");

__device__ __forceinline__ void load8(float (&to)[8], const uint16* from) { unpack8<Element>(*reinterpret_cast<const Vector16*>(from), to); }
__device__ __forceinline__ void load8(float (&to)[8], const float* from) {
  const float4 low = reinterpret_cast<const float4*>(from)[0], high = reinterpret_cast<const float4*>(from)[1];
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w, to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

/// This block's columns of the first product's weights and rows of the second's, zeros beyond the last.
__device__ __forceinline__ void load_weights(uint32 memory, const uint16* first, const uint16* second, int rank) {
#pragma unroll 4
  for (int piece = static_cast<int>(threadIdx.x); piece < kSqueezed * kShare; piece += kThreads) {
    const int row = piece / kShare, vector = rank * kShare + piece % kShare;
    const bool there = vector < kVectors;
    copy_async_16(memory + static_cast<uint32>(kFirstOffset + row * kFirstPitch + piece % kShare * 16), there ? first + (row * kVectors + vector) * 8 : first, there ? 16u : 0u);
  }
#pragma unroll 4
  for (int piece = static_cast<int>(threadIdx.x); piece < kOutputShare * kSqueezedVectors; piece += kThreads) {
    const int row = piece / kSqueezedVectors, output = rank * kOutputShare + row;
    const bool there = output < kOutputs;
    copy_async_16(memory + static_cast<uint32>(kSecondOffset + row * kSecondPitch + piece % kSqueezedVectors * 16), there ? second + (output * kSqueezedVectors + piece % kSqueezedVectors) * 8 : second, there ? 16u : 0u);
  }
  copy_async_commit();
}

/// Sums over each group's pixels of this block's channels, [group][channel].
__device__ __forceinline__ void sum_pixels(const EDGERT_SQUEEZE_INPUT* x, float* partial, int rank) {
  for (int item = static_cast<int>(threadIdx.x); item < kShare * kGroups; item += kThreads) {
    const int vector = rank * kShare + item % kShare;
    constexpr int kEach = (kPixels + kGroups - 1) / kGroups;
    constexpr int kAtOnce = kEach < 8 ? kEach : 8;  // loads under way
    float sum[8] = {};
#pragma unroll 1
    for (int first = 0; first < kEach; first += kAtOnce) {
      float in[kAtOnce][8] = {};
#pragma unroll
      for (int p = 0; p < kAtOnce; ++p) {
        const int pixel = item / kShare + (first + p) * kGroups;
        if (pixel < kPixels && vector < kVectors) load8(in[p], x + pixel * kInputPitch + vector * 8);
      }
#pragma unroll
      for (int p = 0; p < kAtOnce; ++p) {
#pragma unroll
        for (int c = 0; c < 8; ++c) sum[c] += in[p][c];
      }
    }
#pragma unroll
    for (int c = 0; c < 8; ++c) partial[item * 8 + c] = sum[c];
  }
}

/// Lanes that share a row of `vectors` vectors of weights: a power of two.
__device__ constexpr int lanes_of(int vectors) {
  int lanes = 4;
  while (lanes < vectors && lanes < 32) lanes *= 2;
  return lanes;
}

/// The product of a row of weights with floats, the same in each of the kLanes lanes that share it.
template <int kRowVectors, int kLanes>
__device__ __forceinline__ float dot(uint32 weights, const float* x, int lane) {
  float sum = 0.0f;
#pragma unroll
  for (int v = 0; v < (kRowVectors + kLanes - 1) / kLanes; ++v) {
    const int vector = v * kLanes + lane;
    if (vector >= kRowVectors) break;
    float w[8], in[8];
    unpack8<Element>(load_shared_16(weights + static_cast<uint32>(vector * 16)), w);
    load8(in, x + vector * 8);
#pragma unroll
    for (int c = 0; c < 8; ++c) sum += w[c] * in[c];
  }
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  return sum;
}

/// What this block's channels add to each squeezed value, to all blocks of the cluster.
__device__ __forceinline__ void squeeze(uint32 memory, const float* mean, int rank) {
  constexpr int kLanes = lanes_of(kShare), kAtOnce = kThreads / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
#pragma unroll 2
  for (int first = 0; first < kSqueezed; first += kAtOnce) {
    const int n = first + static_cast<int>(threadIdx.x) / kLanes;
    const float sum = dot<kShare, kLanes>(memory + static_cast<uint32>(kFirstOffset + (n < kSqueezed ? n : 0) * kFirstPitch), mean, lane);
    if (n >= kSqueezed) continue;
    const uint32 to = memory + static_cast<uint32>(kReceiveOffset + (rank * kSqueezed + n) * 4);
#if __CUDA_ARCH__ >= 900
    if constexpr (kClusterBlocks > 1) {
      for (int other = lane; other < kClusterBlocks; other += kLanes) {
        const uint32 block = static_cast<uint32>(other);
        send_4(cluster_address(to, block), scalar::bit_cast<uint32>(sum), cluster_address(memory + kBarrierOffset, block));
      }
      continue;
    }
#endif
    if (lane == 0) store_shared_4(to, scalar::bit_cast<uint32>(sum));
  }
}

/// This block's factors.
__device__ __forceinline__ void excite(uint32 memory, const float* squeezed, const float* bias, uint16* y, int rank) {
  constexpr int kLanes = lanes_of(kSqueezedVectors), kAtOnce = kThreads / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
#pragma unroll 2
  for (int first = 0; first < kOutputShare; first += kAtOnce) {
    const int row = first + static_cast<int>(threadIdx.x) / kLanes;
    const float sum = dot<kSqueezedVectors, kLanes>(memory + static_cast<uint32>(kSecondOffset + (row < kOutputShare ? row : 0) * kSecondPitch), squeezed, lane);
    const int output = rank * kOutputShare + row;
    if (lane != 0 || row >= kOutputShare || output >= kOutputs) continue;
    y[output] = Element::from_float(activate_for_16_bits<kActivation>(sum + bias[output], kAlpha, kBeta));
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    EDGERT_ENTRY(const EDGERT_SQUEEZE_INPUT* x, const uint16* first_weights, const float* first_bias, const uint16* second_weights,
                 const float* second_bias, uint16* y) {
  allow_next_grid();
  unsigned char* shared = dynamic_shared_memory();
  const uint32 memory = shared_address(shared);
  const int image = static_cast<int>(blockIdx.x) / kClusterBlocks, rank = static_cast<int>(blockIdx.x) % kClusterBlocks;
#if __CUDA_ARCH__ >= 900
  if constexpr (kClusterBlocks > 1) {
    if (threadIdx.x == 0) receive_begin(memory + kBarrierOffset, kClusterBlocks * kSqueezed * 4);
    __syncwarp();
    cluster_arrive();
  }
#endif
  load_weights(memory, first_weights, second_weights, rank);
  float* partial = reinterpret_cast<float*>(shared + kPartialOffset);
  float* mean = reinterpret_cast<float*>(shared + kMeanOffset);
  float* squeezed = reinterpret_cast<float*>(shared + kSqueezedOffset);
  wait_for_previous_grid();
  sum_pixels(x + image * kPixels * kInputPitch, partial, rank);
  copy_async_wait<0>();
  __syncthreads();
  for (int channel = static_cast<int>(threadIdx.x); channel < kShare * 8; channel += kThreads) {
    float sum = 0.0f;
#pragma unroll 8
    for (int group = 0; group < kGroups; ++group) sum += partial[group * kShare * 8 + channel];
    mean[channel] = sum * (1.0f / kDivisor);
  }
  __syncthreads();
#if __CUDA_ARCH__ >= 900
  if constexpr (kClusterBlocks > 1) cluster_wait();  // all blocks of the cluster run and expect parts
#endif
  squeeze(memory, mean, rank);
#if __CUDA_ARCH__ >= 900
  if constexpr (kClusterBlocks > 1) receive_wait(memory + kBarrierOffset);
#endif
  if constexpr (kClusterBlocks == 1) __syncthreads();
  const float* parts = reinterpret_cast<const float*>(shared + kReceiveOffset);
  for (int n = static_cast<int>(threadIdx.x); n < kSqueezed; n += kThreads) {
    float sum = first_bias[n];
#pragma unroll
    for (int r = 0; r < kClusterBlocks; ++r) sum += parts[r * kSqueezed + n];
    squeezed[n] = activate_for_16_bits<kFirstActivation>(sum, kFirstAlpha, kFirstBeta);
  }
  __syncthreads();
  excite(memory, squeezed, second_bias, y + image * kOutputPitch, rank);
}

}  // namespace edgert::device
