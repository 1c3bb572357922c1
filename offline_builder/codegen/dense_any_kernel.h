// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/dense_any.cu and kernels/dense_mma.cu: matrix products and convolutions for operands of any
// strides, in float or, where both operands are f16 or both bf16, on tensor cores.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operator MatMul with a strided right operand. f32, f16 and bf16 may be mixed; the sums are f32.
KernelSpec make_matmul(const GenericCall& call);

/// Operator Conv, any groups and strides. Input 1 is weights, f32 or of the input's type, [groups, kh * kw * C / groups, M /
/// groups] of any strides, with rows ordered (kh, kw, c); input 2 the bias [M] or absent; input 3 the residual or absent.
KernelSpec make_conv_any(const GenericCall& call);

/// Whether these two make for tensor cores: 16-bit floats of one type.
bool multiplies_in_16_bits(const GenericCall& call);

}  // namespace edgert::codegen
