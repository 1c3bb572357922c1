// SPDX-License-Identifier: Apache-2.0
// The k largest or smallest elements along an axis, the best first, of equal ones the first; NaN is larger than every
// number. A thread counts the elements that come before its own, which a warp reads together: that is the element's place.
// problem.h: offline_builder/codegen/top_k_kernel.h.
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;
using Value = x_type::Value;

/// Whether a comes before b: 1 yes, -1 no, 0 when they are equal.
__device__ __forceinline__ int order(Value a, Value b) {
  const int larger = a < b ? -1 : a > b ? 1 : a == b ? 0 : static_cast<int>(a != a) - static_cast<int>(b != b);
  return kSmallest ? -larger : larger;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  allow_next_grid();
  constexpr Index kBlocks = (kExtent + kThreads - 1) / kThreads;
  const Index own = static_cast<Index>(blockIdx.x) % kBlocks * kThreads + static_cast<Index>(threadIdx.x);
  Index offset[3] = {};
  locate<Lines>(static_cast<Index>(blockIdx.x) / kBlocks, offset);
  const x_type::Storage* line = x + offset[2];
  wait_for_previous_grid();
  if (own >= kExtent) return;
  const x_type::Storage element = line[own * kInputStride];
  const Value value = x_type::load(element);
  Index place = 0;
#pragma unroll 4
  for (Index i = 0; i < kExtent; ++i) {
    const int first = order(x_type::load(line[i * kInputStride]), value);
    place += first > 0 || (first == 0 && i < own) ? 1 : 0;
  }
  if (place >= kCount) return;
  values[offset[0] + place * kValueStride] = values_type::store(convert<values_type, x_type>(value));
  indices[offset[1] + place * kIndexStride] = own;
}

}  // namespace edgert::device
