// SPDX-License-Identifier: Apache-2.0
// The index of the largest or smallest element along an axis, of equal ones the first or the last; NaN is larger than
// everything for a maximum and smaller for a minimum. problem.h as for kernels/reduce.cu.
#include "kernels/common/element.h"
#include "kernels/common/group.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;
using Value = X::Value;

struct Best {
  int64 index;  // -1: no element yet
  Value value;
};

/// Whether a element of value `a` comes before one of value `b`: 1 yes, -1 no, 0 when they are equal.
__device__ __forceinline__ int order(Value a, Value b) {
  const bool a_nan = a != a;
  const bool b_nan = b != b;
  if (a_nan || b_nan) return static_cast<int>(a_nan) - static_cast<int>(b_nan);
  const int larger = static_cast<int>(a > b) - static_cast<int>(a < b);
  return kMinimum ? -larger : larger;
}
__device__ __forceinline__ Best better(const Best& a, const Best& b) {
  if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
  const int first = order(a.value, b.value);
  if (first != 0) return first > 0 ? a : b;
  return (a.index < b.index) != kSelectLast ? a : b;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kLanes * kGroups) EDGERT_ENTRY(const X::Storage* x, Y::Storage* y EDGERT_EXTENT_PARAMETERS) {
  allow_next_grid();
  const Group<kLanes, kGroups, kAcross> group;
  const Index item = static_cast<Index>(blockIdx.x) * kGroups + group.group;
  const bool active = item < Kept::kCount;
  Index offset[2] = {};
  locate<Kept>(active ? item : Index{0}, offset);
  wait_for_previous_grid();
  const Index extent = EDGERT_REDUCED_EXTENTS;
  Best best = {-1, Value{}};
#pragma unroll 4
  for (Index i = group.lane; i < extent; i += kLanes) {
    Index at[1] = {offset[1]};
    locate<Reduced>(i, at);
    best = better(best, {static_cast<int64>(i), X::load(x[at[0]])});
  }
  best = group.combine(best, [](const Best& a, const Best& b) { return better(a, b); });
  if (active && group.lane == 0) y[offset[0]] = best.index;
}

}  // namespace edgert::device
