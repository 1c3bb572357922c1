// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/top_k.cu.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operator TopK: k is the outputs' extent. The second input, which says it again at run time, is not read: a kernel could
/// not report that it differs.
KernelSpec make_top_k(const GenericCall& call);

}  // namespace edgert::codegen
