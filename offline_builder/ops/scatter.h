// SPDX-License-Identifier: Apache-2.0
// Scattering, for the importers that are made of it.
#pragma once

#include "edgert/cpu/ops/scatter.h"
#include "ops/compose.h"

namespace edgert::ops {

/// data [R, K] with row indices[i] put to, or combined with, updates[i, :], for i = 0, 1, ... of indices [N] int64 and
/// updates [N, K]. An index outside of 0 .. R-1 makes the run fail.
ValueId scatter_rows(OnnxNode& node, ValueId data, ValueId indices, ValueId updates, cpu::ScatterReduction reduction);

/// Indices into an extent, times `stride`: negative ones count from the end when `wrap` allows it; what is out of range
/// becomes so negative that a sum of such terms stays negative, which no kernel takes for a row.
ValueId row_term(OnnxNode& node, ValueId indices, std::int64_t extent, std::int64_t stride, bool wrap);

}  // namespace edgert::ops
