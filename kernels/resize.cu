// SPDX-License-Identifier: Apache-2.0
// Resizing, nearest, linear and cubic: which input elements make an output index along each axis, and with what weights,
// was decided by the builder and stands in tables. problem.h holds the tables, the nest of y and x over y's dimensions,
// and where each dimension's table starts (offline_builder/codegen/move_kernel.h).
#include "kernels/common/element.h"

namespace edgert::device {

/// An input index and its weight; -1 where nothing is read and the result is the extrapolation value.
struct Tap {
  int index;
  float weight;
};

}  // namespace edgert::device

#include "problem.h"

namespace edgert::device {

extern "C" __global__ void __launch_bounds__(problem::kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  using namespace problem;
  constexpr int kRank = Walk::kRank > 0 ? Walk::kRank : 1;
  allow_next_grid();
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  Index rest = item < Walk::kCount ? item : 0;
  Index to = 0;
  Index base = 0;
  Tap taps[kRank][kTaps] = {};
  bool outside = false;
#pragma unroll
  for (int d = Walk::kRank - 1; d >= 0; --d) {
    const Index position = d == 0 ? rest : rest % Walk::extent(d);
    rest /= Walk::extent(d);
    to += position * Walk::stride(0, d);
    if (table(d) < 0) {
      base += position * Walk::stride(1, d);
    } else {
#pragma unroll
      for (int t = 0; t < kTaps; ++t) taps[d][t] = kTable[table(d) + position * kTaps + t];
      outside = outside || taps[d][0].index < 0;
    }
  }
  wait_for_previous_grid();
  if (item >= Walk::kCount) return;
  Values<To, kVector> out = {};
  if (outside) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) out.value[i] = extrapolation();
  } else {
    // Every combination of one tap of each axis.
#pragma unroll
    for (int term = 0; term < kTerms; ++term) {
      Index from = base;
      float weight = 1.0f;
      int digit = term;
#pragma unroll
      for (int d = 0; d < Walk::kRank; ++d) {
        if (table(d) < 0) continue;
        from += static_cast<Index>(taps[d][digit % kTaps].index) * Walk::stride(1, d);
        weight *= taps[d][digit % kTaps].weight;
        digit /= kTaps;
      }
      const Values<From, kVector> in = load_values<From, kVector>(x0 + from);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        if constexpr (kWeighted) out.value[i] += weight * static_cast<To::Value>(in.value[i]);
        else out.value[i] = convert<To, From>(in.value[i]);
      }
    }
  }
  store_values(y + to, out);
}

}  // namespace edgert::device
