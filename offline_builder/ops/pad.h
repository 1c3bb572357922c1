// SPDX-License-Identifier: Apache-2.0
// Padding with other numbers than zero.
#pragma once

#include "ops/compose.h"

namespace edgert::ops {

/// `value`, saturated to x's type, before and after along each axis; negative counts cut elements off.
ValueId pad_constant(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& before,
                     const std::vector<std::int64_t>& after, double value);

/// x with extents that the builder knows: those bounded ones of x at their largest, filled up with `value`.
ValueId fill_bounded(OnnxNode& node, ValueId x, double value = 0);

}  // namespace edgert::ops
