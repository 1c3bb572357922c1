// SPDX-License-Identifier: Apache-2.0
// ONNX LinearAttention: a thread keeps one column of a head's state [Dk, Dv] in shared memory and takes it through all
// tokens; columns do not depend on each other. problem.h: offline_builder/codegen/recurrent_kernel.h.
#include "kernels/common/element.h"
#include "problem.h"

namespace edgert::device {

extern "C" __global__ void __launch_bounds__(problem::kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  using namespace problem;
  allow_next_grid();
  constexpr Index kBlocks = (kValues + kThreads - 1) / kThreads;
  const Index block = static_cast<Index>(blockIdx.x);
  const Index column = block % kBlocks * kThreads + static_cast<Index>(threadIdx.x);
  const Index head = block / kBlocks % kHeads;
  const Index batch = block / (kBlocks * kHeads);
  float* state = reinterpret_cast<float*>(dynamic_shared_memory()) + threadIdx.x;
  wait_for_previous_grid();
  if (column >= kValues) return;
  for (Index i = 0; i < kKeys; ++i) {
    float first = 0.0f;
    if constexpr (kHasPast) first = past_type::load(past[batch * past_stride(0) + head * past_stride(1) + i * past_stride(2) + column * past_stride(3)]);
    state[i * kThreads] = first;
  }
  for (Index t = 0; t < kSteps; ++t) {
    const auto key = [&](Index i) { return k_type::load(k[batch * k_stride(0) + t * k_stride(1) + head * k_stride(2) + i * k_stride(3)]); };
    if constexpr (kHasDecay) {
      for (Index i = 0; i < kKeys; ++i) {
        state[i * kThreads] *= scalar::exp(decay_type::load(decay[batch * decay_stride(0) + t * decay_stride(1) + head * decay_stride(2) + i * decay_stride(3)]));
      }
    }
    float value = v_type::load(v[batch * v_stride(0) + t * v_stride(1) + head * v_stride(2) + column * v_stride(3)]);
    if constexpr (kHasBeta) {
      for (Index i = 0; i < kKeys; ++i) value -= state[i * kThreads] * key(i);
      value *= beta_type::load(beta[batch * beta_stride(0) + t * beta_stride(1) + head * beta_stride(2)]);
    }
    for (Index i = 0; i < kKeys; ++i) state[i * kThreads] += key(i) * value;
    for (Index query = head * kGroup; query < (head + 1) * kGroup; ++query) {
      float sum = 0.0f;
      for (Index i = 0; i < kKeys; ++i) {
        sum += state[i * kThreads] * q_type::load(q[batch * q_stride(0) + t * q_stride(1) + query * q_stride(2) + i * q_stride(3)]);
      }
      y[batch * y_stride(0) + t * y_stride(1) + query * y_stride(2) + column * y_stride(3)] = y_type::store(kScale * sum);
    }
  }
  for (Index i = 0; i < kKeys; ++i) {
    last[batch * last_stride(0) + head * last_stride(1) + i * last_stride(2) + column * last_stride(3)] = last_type::store(state[i * kThreads]);
  }
}

}  // namespace edgert::device
