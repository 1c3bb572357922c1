// SPDX-License-Identifier: Apache-2.0
// y = data with rows of updates put or accumulated into it, in their order. A thread makes one element of y and looks at
// all indices, which a warp reads together: so results do not depend on timing. Updates whose index is out of range are
// left out. problem.h: offline_builder/codegen/scatter_kernel.h.
#include "kernels/common/element.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

enum Reduction { kNone = 0, kAdd = 1, kMul = 2, kMax = 3, kMin = 4 };

template <class T>
__device__ __forceinline__ T combined(T old, T update) {
  if constexpr (kReduction == kNone) return update;
  if constexpr (kIsFloating<T>) {
    if constexpr (kReduction == kMax) return scalar::max(old, update);
    else if constexpr (kReduction == kMin) return scalar::min(old, update);
    else return kReduction == kAdd ? old + update : old * update;
  } else {
    const uint64 a = static_cast<uint64>(old);
    const uint64 b = static_cast<uint64>(update);
    if constexpr (kReduction == kMax) return old < update ? update : old;
    else if constexpr (kReduction == kMin) return update < old ? update : old;
    else return static_cast<T>(kReduction == kAdd ? a + b : a * b);
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  allow_next_grid();
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  const Index row = item / kColumns;
  const Index column = item % kColumns;
  wait_for_previous_grid();
  if (row >= kRows) return;
  y_type::Storage value = y_type::store(convert<y_type, data_type>(data_type::load(data[row * data_stride(0) + column * data_stride(1)])));
#pragma unroll 4
  for (Index i = 0; i < kUpdates; ++i) {
    if (static_cast<int64>(indices[i * indices_stride(0)]) != static_cast<int64>(row)) continue;
    const auto update = convert<y_type, updates_type>(updates_type::load(updates[i * updates_stride(0) + column * updates_stride(1)]));
    // Stored after each update: 16-bit floats round, integers wrap.
    value = y_type::store(combined(y_type::load(value), update));
  }
  y[row * y_stride(0) + column * y_stride(1)] = value;
}

}  // namespace edgert::device
