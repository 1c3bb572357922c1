// SPDX-License-Identifier: Apache-2.0
// Matrix products of integers, exact modulo 2^bits of the result; a thread sums up one element. problem.h holds the nest
// of y, a and b over the batch and the rows (offline_builder/codegen/scatter_kernel.h).
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {

extern "C" __global__ void __launch_bounds__(problem::kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  using namespace problem;
  allow_next_grid();
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  const Index column = item % kN;
  const bool active = item / kN < Rows::kCount;
  Index offset[3] = {};
  locate<Rows>(active ? item / kN : Index{0}, offset);
  wait_for_previous_grid();
  if (!active) return;
  Sum sum = 0;
#pragma unroll 4
  for (Index k = 0; k < kK; ++k) {
    sum += static_cast<Sum>(a[offset[1] + k * kLeftStride]) * static_cast<Sum>(b[offset[2] + k * kRightStride + column * kRightColumnStride]);
  }
  y[offset[0] + column * kOutputColumnStride] = static_cast<y_type::Storage>(sum);
}

}  // namespace edgert::device
