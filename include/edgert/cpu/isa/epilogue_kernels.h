// SPDX-License-Identifier: Apache-2.0
// The last step of a dense kernel for results that could not leave the registers finished: columns that end inside a
// vector, and activations that are more than a clamp. It works on rows that were written a moment ago.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/region.h"
#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

/// For each row: y = activation(sum + residual), or activation(sum) + residual. The rows of `sum` are readable up to
/// the next multiple of 16 columns; y and residual are touched in `columns` only. y may lie on residual, not on sum.
struct FinishRows {
  const float* sum;
  std::int64_t sum_stride;
  float* y;
  std::int64_t y_stride;
  const float* residual;  ///< null without one
  std::int64_t residual_stride;
  std::int64_t rows;
  std::int64_t columns;
  scalar::Epilogue epilogue;
};

}  // namespace edgert::cpu

#define EDGERT_ISA_SOURCE "edgert/cpu/isa/epilogue_kernels.inc"
#include "edgert/cpu/isa/for_each_isa.h"
