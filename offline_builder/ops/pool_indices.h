// SPDX-License-Identifier: Apache-2.0
// The indices that MaxPool gives beside its maxima.
#pragma once

#include "ops/window.h"

namespace edgert::ops {

/// For each window of x [N, C, spatial...] the position of its first maximum in the flattened x, int64 of extents
/// `out`; with `column_major` the spatial dimensions count in the other order.
ValueId max_pool_indices(OnnxNode& node, ValueId x, const Window& window, const Dims& out, bool column_major);

}  // namespace edgert::ops
