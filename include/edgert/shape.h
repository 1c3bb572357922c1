// SPDX-License-Identifier: Apache-2.0
// The extents of a tensor.
#pragma once

#include <cstdint>

#include "edgert/types.h"

namespace edgert {

/// Outermost first.
struct Shape {
  std::uint32_t rank = 0;
  std::int64_t dims[kMaxRank] = {};
};

}  // namespace edgert
