// SPDX-License-Identifier: Apache-2.0
// Depthwise 2-D convolution (groups = C = M), channels last.
// Inputs: x [N, C, H, W] with stride 1 along C; w f32 dense [kh, kw, C]; bias [C] or absent; residual like y or absent.
// Outputs: y [N, C, OH, OW] with stride 1 along C. y may lie exactly on residual.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct DepthwiseConvAttributes {
  std::int32_t kernel[2];
  std::int32_t stride[2];
  std::int32_t dilation[2];
  std::int32_t pad_begin[2];
  scalar::Epilogue epilogue;
  std::int32_t pad_end[2];  ///< rows below, columns right: only the builder's shape rule reads it
};

struct DepthwiseConv {
  static constexpr std::uint16_t kId = 5;
  static constexpr const char* kName = "DepthwiseConv";
  using Attributes = DepthwiseConvAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
