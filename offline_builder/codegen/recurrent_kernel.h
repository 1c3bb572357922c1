// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/recurrent.cu and kernels/linear_attention.cu: what goes through time step by step.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operators Recurrent, with strided weights, and LinearAttention; floating-point operands of any types. CompileError
/// where a state does not fit shared memory.
KernelSpec make_recurrent(const GenericCall& call);
KernelSpec make_linear_attention(const GenericCall& call);

}  // namespace edgert::codegen
