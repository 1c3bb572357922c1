// SPDX-License-Identifier: Apache-2.0
// Host side of what folds a group of elements: kernels/reduce.cu, arg_reduce.cu, softmax.cu and normalize.cu.
#pragma once

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operators Reduce, ArgReduce, Softmax and Normalize. Where CPU operators want one type, any floating-point types may be
/// mixed here.
KernelSpec make_reduce(const GenericCall& call);
KernelSpec make_arg_reduce(const GenericCall& call);
KernelSpec make_softmax(const GenericCall& call);
KernelSpec make_normalize(const GenericCall& call);

}  // namespace edgert::codegen
