// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/recurrent.cu, kernels/recurrent_split.cu and kernels/linear_attention.cu: what goes through time
// step by step.
#pragma once

#include <vector>

#include "codegen/generic_kernel.h"

namespace edgert::codegen {

/// Operators Recurrent, with strided weights, and LinearAttention; floating-point operands of any types. CompileError
/// where a state does not fit shared memory.
KernelSpec make_recurrent(const GenericCall& call);
KernelSpec make_linear_attention(const GenericCall& call);

/// How kernels/recurrent_split.cu divides a sequence: `share` blocks hold the state, `parts` threads a sum.
struct RecurrentSplit {
  std::int32_t share, parts;
};
/// The divisions that fit operator Recurrent and the target, the most promising first; none for cells that the kernel does
/// not have (peepholes, GRU whose reset gate comes before the product, different activations in both directions).
std::vector<RecurrentSplit> recurrent_splits(const GenericCall& call);
/// Arguments: x, packed weights, the other present inputs but peepholes, the outputs, a workspace and counters.
KernelSpec make_recurrent_split(const GenericCall& call, const RecurrentSplit& split);
/// The elements of r, row-major [D * G, H, H], in the order in which threads hold them.
std::vector<float> pack_recurrent_weights(const GenericCall& call, const RecurrentSplit& split, const float* r);

}  // namespace edgert::codegen
