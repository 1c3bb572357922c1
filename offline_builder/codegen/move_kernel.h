// SPDX-License-Identifier: Apache-2.0
// Host side of what moves elements by index: kernels/gather.cu, pad.cu and resize.cu.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operators Gather, Pad and Resize. Floating-point inputs and outputs may differ in type, and linear and cubic resizing
/// takes 16-bit floats too.
KernelSpec make_gather(const GenericCall& call);
KernelSpec make_pad(const GenericCall& call);
KernelSpec make_resize(const GenericCall& call);

}  // namespace edgert::codegen
