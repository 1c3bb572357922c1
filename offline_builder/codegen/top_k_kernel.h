// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/top_k.cu.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operator TopK without its second input: k is the outputs' extent.
KernelSpec make_top_k(const GenericCall& call);

}  // namespace edgert::codegen
