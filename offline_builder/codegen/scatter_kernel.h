// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/scatter.cu, integer_matmul.cu and determinant.cu.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operators Scatter, IntegerMatMul and Determinant. CompileError for a matrix that does not fit shared memory.
KernelSpec make_scatter(const GenericCall& call);
KernelSpec make_integer_matmul(const GenericCall& call);
KernelSpec make_determinant(const GenericCall& call);

}  // namespace edgert::codegen
