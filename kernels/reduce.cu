// SPDX-License-Identifier: Apache-2.0
// Reductions of any axes: a group of threads forms each result. 16-bit floats and float are summed in float, one lane's
// share by itself and the lanes' as a tree; integers in 64 bits. problem.h holds the nests of kept and reduced
// dimensions (offline_builder/codegen/reduce_kernel.h).
#include "kernels/common/element.h"
#include "kernels/common/group.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;
using Value = X::Value;

/// The numbers of ReduceKind.
enum Kind { Sum = 0, Mean = 1, Max = 2, Min = 3, Prod = 4, L1 = 5, L2 = 6, LogSum = 7, LogSumExp = 8, SumSquare = 9 };

template <int kFold, class T>
__device__ __forceinline__ T neutral() {
  if constexpr (kFold == Prod) {
    return T{1};
  } else if constexpr (kFold != Max && kFold != Min) {
    return T{0};
  } else if constexpr (kIsFloating<T>) {
    const T infinity = static_cast<T>(scalar::infinity_f32());
    return kFold == Max ? -infinity : infinity;
  } else {
    // The extremes of the element's type, as a result of no elements shows.
    constexpr int kSpare = 64 - 8 * static_cast<int>(sizeof(X::Storage));
    const T highest = kIsSigned<T> ? static_cast<T>(0x7fffffffffffffffll) : static_cast<T>(~uint64{0});
    const T lowest = static_cast<T>(~highest);
    return kFold == Max ? static_cast<T>(lowest >> kSpare) : static_cast<T>(highest >> kSpare);
  }
}

template <int kFold, class T>
__device__ __forceinline__ T fold(T a, T b) {
  if constexpr (kIsFloating<T>) {
    if constexpr (kFold == Max) return scalar::max(a, b);
    else if constexpr (kFold == Min) return scalar::min(a, b);
    else if constexpr (kFold == Prod) return a * b;
    else return a + b;
  } else {
    const uint64 x = static_cast<uint64>(a);
    const uint64 y = static_cast<uint64>(b);
    if constexpr (kFold == Max) return a > b ? a : b;
    else if constexpr (kFold == Min) return a < b ? a : b;
    else return static_cast<T>(kFold == Prod ? x * y : x + y);
  }
}

template <int kFold, class T>
__device__ __forceinline__ T term(T x, T shift) {
  if constexpr (kFold == L2 || kFold == SumSquare) {
    if constexpr (kIsFloating<T>) return x * x;
    else return static_cast<T>(static_cast<uint64>(x) * static_cast<uint64>(x));
  } else if constexpr (kFold == L1) {
    if constexpr (kIsFloating<T>) return scalar::abs(x);
    else return kIsSigned<T> && static_cast<uint64>(x) >> 63 != 0 ? static_cast<T>(uint64{0} - static_cast<uint64>(x)) : x;
  } else if constexpr (kFold == LogSumExp) {
    return scalar::exp(x - shift);
  } else {
    return x;
  }
}

/// Reduced dimensions whose extent only the run knows: their coordinates are the further operands of Reduced.
constexpr int kBounds = Reduced::kOperands - 1;
struct Bounds {
  Index extent[kBounds + 1];
};

template <int kFold>
__device__ __forceinline__ Value reduce(const X::Storage* x, const Group<kLanes, kGroups, kAcross>& group, const Bounds& bounds, Value shift) {
  Value value = neutral<kFold, Value>();
#pragma unroll 4
  for (Index i = group.lane; i < Reduced::kCount; i += kLanes) {
    Index offset[Reduced::kOperands] = {};
    locate<Reduced>(i, offset);
    bool inside = true;
#pragma unroll
    for (int b = 0; b < kBounds; ++b) inside = inside && offset[1 + b] < bounds.extent[b];
    if (!inside) continue;
    value = fold<kFold>(value, term<kFold>(X::load(x[offset[0]]), shift));
  }
  return group.combine(value, [](Value a, Value b) { return fold<kFold>(a, b); });
}

template <class T>
__device__ __forceinline__ T finite_or_zero(T x) {
  const T infinity = static_cast<T>(scalar::infinity_f32());
  return x > -infinity && x < infinity ? x : T{0};
}

template <class T>
__device__ __forceinline__ T finish(T value, T shift, Index count) {
  if constexpr (kIsFloating<T>) {
    if constexpr (kKind == Mean) return count == 0 ? static_cast<T>(scalar::nan_f32()) : value / static_cast<T>(count);
    else if constexpr (kKind == L2) return scalar::sqrt(value);
    else if constexpr (kKind == LogSum) return scalar::log(value);
    else if constexpr (kKind == LogSumExp) return scalar::log(value) + shift;
    else return value;
  } else {
    if constexpr (kKind == Mean) return count == 0 ? T{0} : static_cast<T>(value / static_cast<T>(count));
    else if constexpr (kKind == L2) return scalar::saturate_cast<T>(scalar::sqrt(static_cast<double>(value)));
    else if constexpr (kKind == LogSum) return scalar::saturate_cast<T>(scalar::log(static_cast<double>(value)));
    else return value;
  }
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
  const Bounds bounds = {EDGERT_REDUCED_EXTENTS};
  Index count = EDGERT_FIXED_COUNT;
#pragma unroll
  for (int b = 0; b < kBounds; ++b) count *= bounds.extent[b];
  Value shift = Value{0};
  if constexpr (kKind == LogSumExp) shift = finite_or_zero(reduce<Max>(x + offset[1], group, bounds, shift));
  const Value value = finish(reduce<kKind>(x + offset[1], group, bounds, shift), shift, count);
  if (active && group.lane == 0) y[offset[0]] = Y::store(static_cast<Y::Value>(value));
}

}  // namespace edgert::device
