// SPDX-License-Identifier: Apache-2.0
// Layer, instance, group and RMS normalisation: a group of threads per mean and variance. The variance is that of the
// differences from the mean, in a second pass; elements that fit are read once and kept in registers. problem.h holds
// the nest of groups and that inside a group, of y, x, scale and bias (offline_builder/codegen/reduce_kernel.h).
#include "kernels/common/element.h"
#include "kernels/common/group.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;
using Value = X::Value;

enum { kOutput = 0, kInput = 1, kScaleOperand = 2, kBiasOperand = 3 };
constexpr int kEach = static_cast<int>((Inside::kCount + kLanes - 1) / kLanes);  // elements of a lane
constexpr bool kHeld = kEach <= kMostHeld;

/// Calls visit(i, element) for this lane's elements, of which the i-th is a position of Inside.
template <class Visit>
__device__ __forceinline__ void for_each(const X::Storage* x, int lane, const Value (&held)[kHeld ? kEach : 1], Visit visit) {
  if constexpr (kHeld) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (i * kLanes + lane < Inside::kCount) visit(i * kLanes + lane, held[i]);
    }
  } else {
    for (Index i = lane; i < Inside::kCount; i += kLanes) {
      Index at[4] = {};
      locate<Inside>(i, at);
      visit(i, X::load(x[at[kInput]]));
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kLanes * kGroups) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  allow_next_grid();
  const Group<kLanes, kGroups, kAcross> group;
  const Index item = static_cast<Index>(blockIdx.x) * kGroups + group.group;
  const bool active = item < Outside::kCount;
  Index offset[4] = {};
  locate<Outside>(active ? item : Index{0}, offset);
  const X::Storage* x = x0 + offset[kInput];
  wait_for_previous_grid();
  Value held[kHeld ? kEach : 1];
  if constexpr (kHeld) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const Index position = i * kLanes + group.lane;
      Index at[4] = {};
      locate<Inside>(position, at);
      held[i] = position < Inside::kCount ? X::load(x[at[kInput]]) : Value{};
    }
  }
  const auto add = [](Value a, Value b) { return a + b; };
  Value mean = Value{0};
  if constexpr (!kRms) {
    for_each(x, group.lane, held, [&](Index, Value value) { mean += value; });
    mean = group.combine(mean, add) / static_cast<Value>(Inside::kCount);
  }
  Value variance = Value{0};
  for_each(x, group.lane, held, [&](Index, Value value) { variance += (value - mean) * (value - mean); });
  variance = group.combine(variance, add) / static_cast<Value>(Inside::kCount);
  const Value factor = Value{1} / scalar::sqrt(variance + static_cast<Value>(kEpsilon));
  if (!active) return;
  for_each(x, group.lane, held, [&](Index i, Value value) {
    Index at[4] = {offset[kOutput], 0, offset[kScaleOperand], offset[kBiasOperand]};
    locate<Inside>(i, at);
    Value result = (value - mean) * factor;
    if constexpr (kHasScale) result *= static_cast<Value>(Scale::load(EDGERT_SCALE[at[kScaleOperand]]));
    if constexpr (kHasBias) result += static_cast<Value>(Bias::load(EDGERT_BIAS[at[kBiasOperand]]));
    y[at[kOutput]] = Y::store(static_cast<Y::Value>(result));
  });
}

}  // namespace edgert::device
