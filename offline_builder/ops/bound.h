// SPDX-License-Identifier: Apache-2.0
// Bound: a view of the same tensor, of which chosen dimensions are bounded by extents that are inputs of the node, and the
// others are as large as they can be. Made where If and Loop become part of the graph around them.
#pragma once

#include "ops/operator.h"

namespace edgert::ops {

/// Bit d: dimension d has an extent that only a run knows, the next of the further inputs.
struct BoundAttributes {
  std::uint32_t dims;
  std::uint32_t reserved;
};
extern const OperatorDef kBound;

}  // namespace edgert::ops
