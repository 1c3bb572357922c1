// SPDX-License-Identifier: Apache-2.0
// Generated elementwise kernels: pointwise programs, casts, and copies that need no transposition. A thread computes
// kVector neighbouring elements of the output. problem.h holds the operands' nest and evaluate(), the program printed as
// source (offline_builder/codegen/pointwise_kernel.h).
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {

extern "C" __global__ void __launch_bounds__(problem::kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  using namespace problem;
  allow_next_grid();
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  Index offset[Walk::kOperands] = {};
  locate<Walk>(item, offset);
  wait_for_previous_grid();
  if (item < Walk::kCount) evaluate(offset, EDGERT_ARGUMENTS);
}

}  // namespace edgert::device
