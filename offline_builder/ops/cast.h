// SPDX-License-Identifier: Apache-2.0
// Casts beyond the plain one of compose.h.
#pragma once

#include "ops/compose.h"

namespace edgert::ops {

/// To floating point of 8 bits: what is too large becomes infinity or NaN, not the largest finite number.
ValueId cast_unsaturated(OnnxNode& node, ValueId x, DType to);

}  // namespace edgert::ops
