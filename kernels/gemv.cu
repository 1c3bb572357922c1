// SPDX-License-Identifier: Apache-2.0
// y = activation(x W^T + b), and a residual, for few rows x: the classifier at the end of a network. Weights, as rows of K
// elements or floats, are read once, straight into registers, and requested before the wait for the previous kernel; a warp computes kRowsPerWarp
// outputs for all kRows inputs, then as many more, kRounds times, so that few blocks, as many as a small GPU runs at a time,
// compute all. The rows of x may be averages over kPixels pixels (a global average pool), which each block then forms;
// where blocks form a cluster, each averages a part of the channels for all of them. The grid's y counts groups of kRows rows.
#include "kernels/common/epilogue.h"
#include "kernels/common/ptx.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

constexpr int kVectors = kDepth / 8;                    // of eight elements, in a row of K
constexpr int kVectorsPerLane = (kVectors + 31) / 32;
constexpr int kWeightVectors = kFloatWeights ? 2 : 1;   // of 16 bytes, for eight weights
constexpr int kOutputsPerRound = kThreads / 32 * kRowsPerWarp;
static_assert(kDepth % 8 == 0 && kRows <= 16, "outside this kernel's range");

__device__ __forceinline__ float to_float(uint16 x) { return Element::to_float(x); }
__device__ __forceinline__ float to_float(float x) { return x; }

/// As the type that the pointer has.
template <class Output>
__device__ __forceinline__ void store_output(Output* to, float y) {
  if constexpr (sizeof(Output) == 4) *to = y;
  else *to = Element::from_float(y);
}

/// Pixels are divided among groups of threads, whose sums are then added in order.
constexpr int kShare = kVectors / kClusterBlocks;  // vectors of K that this block averages
constexpr int kGroups = kPixels == 1 ? 1 : (kThreads / kShare < 1 ? 1 : (kThreads / kShare > kPixels ? kPixels : kThreads / kShare));
constexpr int kPartialFloats = kRows * kGroups * kShare * 8;
static_assert(kVectors % kClusterBlocks == 0, "the depth does not divide among the cluster");
static_assert((kRows * kDepth + kPartialFloats) * 4 + 16 == kSharedBytes, "the host computes another size of shared memory");

__device__ __forceinline__ void store_floats(uint32 to, const float (&x)[8]) {
  const auto bits = [](float f) { return scalar::bit_cast<uint32>(f); };
  store_shared_16(to, {{bits(x[0]), bits(x[1]), bits(x[2]), bits(x[3])}});
  store_shared_16(to + 16, {{bits(x[4]), bits(x[5]), bits(x[6]), bits(x[7])}});
}
__device__ __forceinline__ void add_floats(float (&to)[8], const float* from) {
#pragma unroll
  for (int c = 0; c < 8; ++c) to[c] += from[c];
}

__device__ __forceinline__ void load8(float (&to)[8], const uint16* from) { unpack8<Element>(*reinterpret_cast<const Vector16*>(from), to); }
__device__ __forceinline__ void load8(float (&to)[8], const float* from) {
  const float4 low = reinterpret_cast<const float4*>(from)[0];
  const float4 high = reinterpret_cast<const float4*>(from)[1];
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
  to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

/// Eight weights.
__device__ __forceinline__ void unpack_weights(const Vector16 (&from)[kWeightVectors], float (&to)[8]) {
  if constexpr (kFloatWeights) {
#pragma unroll
    for (int c = 0; c < 8; ++c) to[c] = scalar::bit_cast<float>(from[c / 4 * (kWeightVectors - 1)].word[c % 4]);
  } else {
    unpack8<Element>(from[0], to);
  }
}

/// Sums over this group's pixels of the vectors of channels that this block averages, one plane a group.
__device__ __forceinline__ void sum_pixels(const EDGERT_GEMV_INPUT* x, float* partial, int first_vector) {
  for (int item = static_cast<int>(threadIdx.x); item < kShare * kGroups * kRows; item += kThreads) {
    const int vector = item % kShare;
    const int group = item / kShare % kGroups;
    const int row = item / (kShare * kGroups);
    float sum[8] = {};
    constexpr int kEach = (kPixels + kGroups - 1) / kGroups;
    constexpr int kMost = kThreads > 256 ? 8 : 16;
    constexpr int kAtOnce = kEach < kMost ? kEach : kMost;  // loads under way
#pragma unroll 1
    for (int first = 0; first < kEach; first += kAtOnce) {
      float in[kAtOnce][8];
#pragma unroll
      for (int p = 0; p < kAtOnce; ++p) {
        const int pixel = group + (first + p) * kGroups;
#pragma unroll
        for (int c = 0; c < 8; ++c) in[p][c] = 0.0f;
        if (pixel < kPixels) load8(in[p], x + (row * kPixels + pixel) * kInputPitch + (first_vector + vector) * 8);
      }
#pragma unroll
      for (int p = 0; p < kAtOnce; ++p) add_floats(sum, in[p]);
    }
    store_floats(shared_address(partial + item * 8), sum);
  }
}

/// All rows of x as floats in shared memory; a cluster's other blocks send their parts, counted by `arrived`.
__device__ __forceinline__ void gather_input(const EDGERT_GEMV_INPUT* x, float* rows, float* partial, uint32 arrived) {
  int self = 0;
#if __CUDA_ARCH__ >= 900
  if constexpr (kClusterBlocks > 1) self = static_cast<int>(cluster_rank());
#endif
  sum_pixels(x, partial, self * kShare);
  __syncthreads();
#if __CUDA_ARCH__ >= 900
  if constexpr (kClusterBlocks > 1) cluster_wait();
#endif
  for (int item = static_cast<int>(threadIdx.x); item < kShare * kRows; item += kThreads) {
    const int vector = item % kShare;
    const int row = item / kShare;
    float sum[8] = {};
#pragma unroll
    for (int g = 0; g < kGroups; ++g) add_floats(sum, partial + ((row * kGroups + g) * kShare + vector) * 8);
#pragma unroll
    for (int c = 0; c < 8; ++c) sum[c] *= 1.0f / kDivisor;
    const uint32 at = shared_address(rows + row * kDepth + (self * kShare + vector) * 8);
    if constexpr (kClusterBlocks == 1) store_floats(at, sum);
#if __CUDA_ARCH__ >= 900
    for (uint32 rank = 0; kClusterBlocks > 1 && rank < kClusterBlocks; ++rank) {
      const auto bits = [](float f) { return scalar::bit_cast<uint32>(f); };
      const uint32 to = cluster_address(at, rank);
      const uint32 remote = cluster_address(arrived, rank);
      send_16(to, {{bits(sum[0]), bits(sum[1]), bits(sum[2]), bits(sum[3])}}, remote);
      send_16(to + 16, {{bits(sum[4]), bits(sum[5]), bits(sum[6]), bits(sum[7])}}, remote);
    }
#endif
  }
#if __CUDA_ARCH__ >= 900
  if constexpr (kClusterBlocks > 1) receive_wait(arrived);
#endif
  __syncthreads();
}

using Weights = Vector16[kRowsPerWarp][kVectorsPerLane][kWeightVectors];

/// This lane's part of the weights of outputs first to first + kRowsPerWarp.
__device__ __forceinline__ void load_weights(Weights& to, const Vector16* weights, int first) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kRowsPerWarp; ++n) {
    const int row = first + n < kOutputs ? first + n : 0;
#pragma unroll
    for (int v = 0; v < kVectorsPerLane; ++v) {
      const int vector = v * 32 + lane;
#pragma unroll
      for (int i = 0; i < kWeightVectors; ++i) {
        to[n][v][i] = vector < kVectors ? load_constant_16(weights + (row * kVectors + vector) * kWeightVectors + i) : Vector16{};
      }
    }
  }
}

/// The products of `rows` with an output's weights, complete in each lane.
__device__ __forceinline__ void multiply(float (&sum)[kRows], const float* rows, const Vector16 (&weight)[kVectorsPerLane][kWeightVectors]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int v = 0; v < kVectorsPerLane; ++v) {
    const int vector = v * 32 + lane < kVectors ? v * 32 + lane : 0;
    float w[8];
    unpack_weights(weight[v], w);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
#pragma unroll
      for (int c = 0; c < 8; ++c) sum[m] += rows[m * kDepth + vector * 8 + c] * w[c];
    }
  }
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum[m] += __shfl_xor_sync(0xffffffffu, sum[m], distance);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    EDGERT_ENTRY(const EDGERT_GEMV_INPUT* x, const Vector16* weights, const float* bias_vector, EDGERT_GEMV_OUTPUT* y EDGERT_GEMV_MORE_PARAMETERS) {
  const int first_row = static_cast<int>(blockIdx.y) * kRows;
  float* rows = reinterpret_cast<float*>(dynamic_shared_memory());
  float* partial = rows + kRows * kDepth;
  const uint32 arrived = shared_address(partial + kPartialFloats);
  allow_next_grid();
#if __CUDA_ARCH__ >= 900
  if constexpr (kClusterBlocks > 1) {
    if (threadIdx.x == 0) receive_begin(arrived, kRows * kDepth * 4);
    __syncwarp();
    cluster_arrive();
  }
#endif
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int first = static_cast<int>(blockIdx.x) * kRounds * kOutputsPerRound + static_cast<int>(threadIdx.x) / 32 * kRowsPerWarp;
  Weights weight;
  load_weights(weight, weights, first);
  float bias[kRowsPerWarp] = {};
  if constexpr (kHasBias && kRounds == 1) {  // else when it is needed
#pragma unroll
    for (int n = 0; n < kRowsPerWarp; ++n) bias[n] = bias_vector[first + n < kOutputs ? first + n : 0];
  }
  wait_for_previous_grid();
  gather_input(x + first_row * kPixels * kInputPitch, rows, partial, arrived);

#pragma unroll 1
  for (int round = 0; round < kRounds; ++round, first += kOutputsPerRound) {
    Weights next;
    if constexpr (kRounds > 1) {
      load_weights(next, weights, round + 1 < kRounds ? first + kOutputsPerRound : 0);
      if constexpr (kHasBias) {
#pragma unroll
        for (int n = 0; n < kRowsPerWarp; ++n) bias[n] = bias_vector[first + n < kOutputs ? first + n : 0];
      }
    }
#pragma unroll
    for (int n = 0; n < kRowsPerWarp; ++n) {
      float sum[kRows] = {};
      multiply(sum, rows, weight[n]);
      if (lane != 0 || first + n >= kOutputs) continue;
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        float out = sum[m] + bias[n];
        float added = 0.0f;
#if EDGERT_GEMV_RESIDUAL
        added = to_float(residual[(first_row + m) * kResidualPitch + first + n]);
#endif
        if constexpr (kResidual == scalar::ResidualMode::BeforeActivation) out += added;
        if constexpr (kActivation != scalar::PointwiseOp::Identity) out = scalar::float_unary<kActivation>(out, kAlpha, kBeta);
        if constexpr (kResidual == scalar::ResidualMode::AfterActivation) out += added;
        store_output(y + (first_row + m) * kOutputPitch + first + n, out);
      }
    }
    if constexpr (kRounds > 1) {
#pragma unroll
      for (int n = 0; n < kRowsPerWarp; ++n) {
#pragma unroll
        for (int v = 0; v < kVectorsPerLane; ++v) {
#pragma unroll
          for (int i = 0; i < kWeightVectors; ++i) weight[n][v][i] = next[n][v][i];
        }
      }
    }
  }
}

}  // namespace edgert::device
