// SPDX-License-Identifier: Apache-2.0
// Matrix product y = epilogue(a @ b) over any batch dimensions.
// Inputs: a [batch..., M, K], any strides (fast when stride 1 along K); b either in format PanelF32x16 with dims
//   [1 or product of batch, K, N], or strided [batch..., K, N] of a's rank, batch broadcast by stride 0, any strides;
//   bias [N] or absent; residual like y or absent.
// Outputs: y [batch..., M, N] with stride 1 along N. y may lie exactly on residual.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct MatMulAttributes {
  scalar::Epilogue epilogue;
};

struct MatMul {
  static constexpr std::uint16_t kId = 6;
  static constexpr const char* kName = "MatMul";
  using Attributes = MatMulAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
