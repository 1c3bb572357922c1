// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/grid_sample.cu and kernels/roi_align.cu.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operators GridSample and RoiAlign; floating-point operands of any types.
KernelSpec make_grid_sample(const GenericCall& call);
KernelSpec make_roi_align(const GenericCall& call);

}  // namespace edgert::codegen
