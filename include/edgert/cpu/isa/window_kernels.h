// SPDX-License-Identifier: Apache-2.0
// Pooling windows and weighted sums of channel vectors, for every instruction set. The contract is in region.h.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"

namespace edgert::cpu {

/// The elements under a pooling window: `rows` times `columns` channel vectors.
struct Window {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t row_stride;
  std::int64_t column_stride;
};

}  // namespace edgert::cpu

#define EDGERT_ISA_SOURCE "edgert/cpu/isa/window_kernels.inc"
#include "edgert/cpu/isa/for_each_isa.h"
