// SPDX-License-Identifier: Apache-2.0
// The slices of x along an axis that differ. A thread looks at all slices for one of its own, so results depend on no
// order of events. The first launch (kGrouping) finds where each slice is first and how often it occurs; the second counts
// the groups before its own, which is the place of its group, and writes. Slices are compared by their elements in
// row-major order; NaN is larger than every number and equal to itself. problem.h: offline_builder/codegen/select_kernel.h.
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;
using Value = x_type::Value;

constexpr int kRank = Slice::kOperands - 1;

/// 1 when slice a comes after slice b, -1 before, 0 when they are equal. Operand 0 of Slice is x, the others are the
/// coordinates; elements outside of `extent` do not exist.
__device__ __forceinline__ int compare(const x_type::Storage* x, Index a, Index b, const Index (&extent)[kRank]) {
  for (Index i = 0; i < Slice::kCount; ++i) {
    Index offset[Slice::kOperands] = {};
    locate<Slice>(i, offset);
    bool inside = true;
#pragma unroll
    for (int d = 0; d < kRank; ++d) inside = inside && (d == kAxis || offset[1 + d] < extent[d]);
    if (!inside) continue;
    const Value left = x_type::load(x[a * kInputStride + offset[0]]);
    const Value right = x_type::load(x[b * kInputStride + offset[0]]);
    const int order = left < right ? -1 : left > right ? 1 : left == right ? 0 : static_cast<int>(left != left) - static_cast<int>(right != right);
    if (order != 0) return order;
  }
  return 0;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS EDGERT_EXTENT_PARAMETERS) {
  allow_next_grid();
  const Index own = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  wait_for_previous_grid();
  const Index extent[] = EDGERT_X_EXTENTS;
  const Index slices = extent[kAxis];
  if constexpr (kGrouping) {
    if (own >= slices) return;
    Index first_equal = own;
    Index equal = 0;
    for (Index i = 0; i < slices; ++i) {
      if (compare(x, i, own, extent) != 0) continue;
      first_equal = i < first_equal ? i : first_equal;
      ++equal;
    }
    groups[own] = first_equal;
    groups[kMost + own] = equal;
  } else {
    if (own >= slices && own != 0) return;
    Index place = 0;
    Index total = 0;
    for (Index i = 0; i < slices; ++i) {
      if (groups[i] != i) continue;  // not the first of its group
      ++total;
      place += (kSorted ? compare(x, i, own, extent) < 0 : i < groups[own]) ? 1 : 0;
    }
    if (own == 0) *count = total;
    if (own >= slices) return;
    inverse[own * kInverseStride] = place;
    if (groups[own] != own) return;
    first[place * kFirstStride] = own;
    counts[place * kCountsStride] = groups[kMost + own];
    for (Index i = 0; i < Copied::kCount; ++i) {
      Index offset[2] = {};
      locate<Copied>(i, offset);
      y[place * kOutputStride + offset[0]] = x[own * kInputStride + offset[1]];
    }
  }
}

}  // namespace edgert::device
