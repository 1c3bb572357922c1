// SPDX-License-Identifier: Apache-2.0
// RNN, GRU and LSTM: a block takes one sequence of one direction through all steps, its state in shared memory; a thread
// computes the gates of every kThreads-th hidden element. What the inputs contribute comes ready as x. A length outside
// the steps counts as the nearest one inside. problem.h: offline_builder/codegen/recurrent_kernel.h.
#include "kernels/common/element.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

enum Cell { kRnn = 0, kGru = 1, kLstm = 2 };

__device__ __forceinline__ float bounded(float x) {
  if (!(kClip > 0.0f)) return x;
  return x < -kClip ? -kClip : x > kClip ? kClip : x;
}

/// The product of a vector in shared memory with column `n` of a gate's matrix.
__device__ __forceinline__ float product(const float* h, const r_type::Storage* r, Index gate, Index n) {
  const r_type::Storage* column = r + gate * r_stride(0) + n * r_stride(2);
  float sum = 0.0f;
#pragma unroll 8
  for (Index k = 0; k < kHidden; ++k) sum += h[k] * r_type::load(column[k * r_stride(1)]);
  return sum;
}

template <int kDirection>
struct Gates {
  template <int kWhich>
  __device__ static __forceinline__ float activate(float x) {
    return activation<kDirection * 3 + kWhich>(bounded(x));
  }
};

template <int kDirection>
__device__ __forceinline__ void run_sequence(EDGERT_PARAMETERS) {
  using Self = Gates<kDirection>;
  const Index row = static_cast<Index>(blockIdx.x) % kBatch;
  float* h = reinterpret_cast<float*>(dynamic_shared_memory());
  float* next = h + kHidden;   // the state after this step
  float* c = next + kHidden;   // LSTM
  float* gated = c + kHidden;  // GRU: the reset state
  Index length = kSteps;
  if constexpr (kHasLengths) {
    length = static_cast<Index>(lengths[row * lengths_stride(0)]);
    length = length < 0 ? 0 : length > kSteps ? kSteps : length;
  }
  for (Index n = threadIdx.x; n < kHidden; n += kThreads) {
    h[n] = 0.0f;
    if constexpr (kHasH0) h[n] = h0_type::load(h0[kDirection * h0_stride(0) + row * h0_stride(1) + n * h0_stride(2)]);
    if constexpr (kCell == kLstm) {
      c[n] = 0.0f;
      if constexpr (kHasC0) c[n] = c0_type::load(c0[kDirection * c0_stride(0) + row * c0_stride(1) + n * c0_stride(2)]);
    }
  }
  __syncthreads();
  constexpr bool kBackwards = kReverse || kDirection == 1;
  for (Index step = 0; step < length; ++step) {
    const Index time = kBackwards ? length - 1 - step : step;
    const auto input = [&](Index gate, Index n) {
      return x_type::load(x[time * x_stride(0) + row * x_stride(1) + kDirection * x_stride(2) + (gate * kHidden + n) * x_stride(3)]);
    };
    const auto gate_of = [&](const float* state, Index gate, Index n) { return product(state, r, kDirection * kGates + gate, n); };
    if constexpr (kCell == kGru && !kLinearBeforeReset) {
      for (Index n = threadIdx.x; n < kHidden; n += kThreads) {
        gated[n] = Self::template activate<0>(input(1, n) + gate_of(h, 1, n)) * h[n];
      }
      __syncthreads();
    }
    for (Index n = threadIdx.x; n < kHidden; n += kThreads) {
      if constexpr (kCell == kRnn) {
        next[n] = Self::template activate<0>(input(0, n) + gate_of(h, 0, n));
      } else if constexpr (kCell == kGru) {
        const float update = Self::template activate<0>(input(0, n) + gate_of(h, 0, n));
        float hidden = input(2, n);
        if constexpr (kLinearBeforeReset) {
          const float reset = Self::template activate<0>(input(1, n) + gate_of(h, 1, n));
          float shift = 0.0f;
          if constexpr (kHasBias) shift = bias_type::load(bias[kDirection * bias_stride(0) + n * bias_stride(1)]);
          hidden += reset * (gate_of(h, 2, n) + shift);
        } else {
          hidden += gate_of(gated, 2, n);
        }
        next[n] = Self::template activate<1>(hidden) * (1.0f - update) + update * h[n];
      } else {
        const auto peephole = [&](Index which) {
          if constexpr (!kHasPeepholes) return 0.0f;
          else return static_cast<float>(peepholes_type::load(peepholes[kDirection * peepholes_stride(0) + (which * kHidden + n) * peepholes_stride(1)])) * c[n];
        };
        const float in = Self::template activate<0>(input(0, n) + gate_of(h, 0, n) + peephole(0));
        const float out_sum = input(1, n) + gate_of(h, 1, n);
        float forget = 1.0f - in;
        if constexpr (!kInputForget) forget = Self::template activate<0>(input(2, n) + gate_of(h, 2, n) + peephole(2));
        const float cell = Self::template activate<1>(input(3, n) + gate_of(h, 3, n));
        c[n] = in * cell + forget * c[n];
        const float out = Self::template activate<0>(out_sum + peephole(1));
        next[n] = out * Self::template activate<2>(c[n]);
      }
    }
    __syncthreads();
    for (Index n = threadIdx.x; n < kHidden; n += kThreads) {
      h[n] = next[n];
      y[time * y_stride(0) + kDirection * y_stride(1) + row * y_stride(2) + n * y_stride(3)] = y_type::store(next[n]);
    }
    __syncthreads();
  }
  for (Index n = threadIdx.x; n < kHidden; n += kThreads) {
    for (Index time = length; time < kSteps; ++time) y[time * y_stride(0) + kDirection * y_stride(1) + row * y_stride(2) + n * y_stride(3)] = y_type::store(0.0f);
    last_h[kDirection * last_h_stride(0) + row * last_h_stride(1) + n * last_h_stride(2)] = last_h_type::store(h[n]);
    if constexpr (kCell == kLstm) last_c[kDirection * last_c_stride(0) + row * last_c_stride(1) + n * last_c_stride(2)] = last_c_type::store(c[n]);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  allow_next_grid();
  wait_for_previous_grid();
  if (kDirections == 1 || static_cast<Index>(blockIdx.x) < kBatch) run_sequence<0>(EDGERT_ARGUMENTS);
  else run_sequence<1>(EDGERT_ARGUMENTS);
}

}  // namespace edgert::device
