// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/dense_any.cu: matrix products and convolutions in float for operands of any strides.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operator MatMul with a strided right operand. f32, f16 and bf16 may be mixed; the sums are f32.
KernelSpec make_matmul(const GenericCall& call);

/// Operator Conv, any groups and strides. Input 1 is weights, f32 dense [groups, kh * kw * C / groups, M / groups] with
/// rows ordered (kh, kw, c); input 2 the bias [M] or absent; input 3 the residual or absent.
KernelSpec make_conv_any(const GenericCall& call);

}  // namespace edgert::codegen
