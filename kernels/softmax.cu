// SPDX-License-Identifier: Apache-2.0
// Softmax or its logarithm along one axis: a group of threads per line, the maximum subtracted first. Lines that fit are
// read once and kept in registers. problem.h holds the nest of lines and the axis (offline_builder/codegen/reduce_kernel.h).
#include "kernels/common/element.h"
#include "kernels/common/group.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;
using Value = X::Value;

constexpr int kEach = (kExtent + kLanes - 1) / kLanes;  // elements of a lane
constexpr bool kHeld = kEach <= kMostHeld;

/// Calls visit(i, element) for this lane's elements; the i-th lies at distance i * kLanes + lane from the line's first.
template <class Visit>
__device__ __forceinline__ void for_each(const X::Storage* x, Index lane, Index extent, const Value (&held)[kHeld ? kEach : 1], Visit visit) {
  if constexpr (kHeld) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (i * kLanes + lane < extent) visit(i * kLanes + lane, held[i]);
    }
  } else {
    for (Index i = lane; i < extent; i += kLanes) visit(i, X::load(x[i * kInputStride]));
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kLanes * kGroups) EDGERT_ENTRY(const X::Storage* input, Y::Storage* output EDGERT_EXTENT_PARAMETERS) {
  allow_next_grid();
  const Group<kLanes, kGroups, kAcross> group;
  const Index item = static_cast<Index>(blockIdx.x) * kGroups + group.group;
  const bool active = item < Lines::kCount;
  Index offset[2] = {};
  locate<Lines>(active ? item : Index{0}, offset);
  const X::Storage* x = input + offset[1];
  Y::Storage* y = output + offset[0];
  wait_for_previous_grid();
  const Index extent = EDGERT_AXIS_EXTENT;
  Value held[kHeld ? kEach : 1];
  if constexpr (kHeld) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const Index at = i * kLanes + group.lane;
      held[i] = at < extent ? X::load(x[at * kInputStride]) : Value{};
    }
  }
  Value maximum = -static_cast<Value>(scalar::infinity_f32());
  for_each(x, group.lane, extent, held, [&](Index, Value value) { maximum = scalar::max(maximum, value); });
  maximum = group.combine(maximum, [](Value a, Value b) { return scalar::max(a, b); });
  // A row of nothing but minus infinity becomes zeros instead of NaN.
  if (kZeroHidden && maximum == -static_cast<Value>(scalar::infinity_f32())) maximum = Value{0};
  Value sum = Value{0};
  for_each(x, group.lane, extent, held, [&](Index, Value value) { sum += scalar::exp(value - maximum); });
  sum = group.combine(sum, [](Value a, Value b) { return a + b; });
  if (kZeroHidden && sum == Value{0}) sum = Value{1};
  const Value subtracted = kLogarithm ? scalar::log(sum) : Value{0};
  const Value factor = Value{1} / sum;
  if (!active) return;
  for_each(x, group.lane, extent, held, [&](Index i, Value value) {
    const Value shifted = value - maximum;
    const Value result = kLogarithm ? shifted - subtracted : scalar::exp(shifted) * factor;
    y[i * kOutputStride] = Y::store(static_cast<Y::Value>(result));
  });
}

}  // namespace edgert::device
