// SPDX-License-Identifier: Apache-2.0
// Pads with a constant, the edge, or reflected or repeated elements. problem.h holds the nest of y and x over y's
// dimensions, what lies before x along each, and x's extents (offline_builder/codegen/move_kernel.h).
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

/// The input index that a position outside shows; -1 for the constant.
__device__ __forceinline__ Index source(Index index, Index extent) {
  if (index >= 0 && index < extent) return index;
  if constexpr (kMode == 0) return -1;                                            // constant
  else if constexpr (kMode == 2) return index < 0 ? 0 : extent - 1;               // edge
  else if constexpr (kMode == 3) return index >= 0 ? index % extent : extent - 1 - (-1 - index) % extent;  // wrap
  if (extent == 1) return 0;
  const Index period = 2 * (extent - 1);
  const Index folded = (index < 0 ? -index : index) % period;
  return folded < extent ? folded : period - folded;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS EDGERT_EXTENT_PARAMETERS) {
  allow_next_grid();
  if constexpr (kBounded) wait_for_previous_grid();  // for the extents
  const Index input_extent[] = EDGERT_INPUT_EXTENTS;
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  Index rest = item;
  Index to = 0;
  Index from = 0;
  bool outside = false;
#pragma unroll
  for (int d = Walk::kRank - 1; d >= 0; --d) {
    const Index position = d == 0 ? rest : rest % Walk::extent(d);
    rest /= Walk::extent(d);
    to += position * Walk::stride(0, d);
    const Index index = before(d) < 0 ? position : source(position - before(d), input_extent[d]);
    outside = outside || index < 0;
    from += index * Walk::stride(1, d);
  }
  wait_for_previous_grid();
  if (item >= Walk::kCount) return;
  Values<To, kVector> out;
  if (outside) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) out.value[i] = constant();
  } else {
    const Values<From, kVector> in = load_values<From, kVector>(x0 + from);
#pragma unroll
    for (int i = 0; i < kVector; ++i) out.value[i] = convert<To, From>(in.value[i]);
  }
  store_values(y + to, out);
}

}  // namespace edgert::device
