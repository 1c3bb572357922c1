// SPDX-License-Identifier: Apache-2.0
// Sums, extrema and normalisation over runs of consecutive floats, for every instruction set. The contract is in
// region.h.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

/// What is combined of each element x, and how: a sum of x, |x|, x^2, e^(x - shift) or (x - shift)^2; an extreme; a
/// product.
enum class Fold : std::uint8_t { Sum, Abs, Square, Exp, SquareDifference, Max, Min, Product };

}  // namespace edgert::cpu

#define EDGERT_ISA_SOURCE "edgert/cpu/isa/reduction_kernels.inc"
#include "edgert/cpu/isa/for_each_isa.h"
