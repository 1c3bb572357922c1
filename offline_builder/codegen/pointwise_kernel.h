// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/pointwise.cu: a chain of pointwise operations, a cast or a copy as CUDA source.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operators Pointwise, Cast (to and from types that are stored only by kernels/small_cast.cu) and Copy.
KernelSpec make_pointwise(const GenericCall& call);
KernelSpec make_cast(const GenericCall& call);
/// Through tiles in shared memory (kernels/transpose.cu) where input and output are contiguous along different dimensions.
KernelSpec make_copy(const GenericCall& call);

}  // namespace edgert::codegen
