// SPDX-License-Identifier: Apache-2.0
// Exact integer products, for the importers that are made of them.
#pragma once

#include "ops/compose.h"

namespace edgert::ops {

/// a [..., M, K] times b [..., K, N], batch dimensions broadcast: int16 to int32, or one integer type of 32 or 64 bits.
ValueId integer_matmul(OnnxNode& node, ValueId a, ValueId b);

}  // namespace edgert::ops
