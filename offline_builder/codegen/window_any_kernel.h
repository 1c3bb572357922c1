// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/window_any.cu: windows over single channels, for operands of any strides.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operator Pool; floating-point inputs and outputs may differ in type.
KernelSpec make_pool(const GenericCall& call);

/// Operator DepthwiseConv on floating-point tensors of any types. Input 1 is weights, f32 dense [kh, kw, C]; input 2 the
/// bias [C] or absent; input 3 the residual or absent.
KernelSpec make_depthwise(const GenericCall& call);

}  // namespace edgert::codegen
