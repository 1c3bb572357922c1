// SPDX-License-Identifier: Apache-2.0
// 2-D convolution, channels last, without im2col; one-dimensional convolutions have H = 1.
// Inputs: x [N, C, H, W] with stride 1 along C; w in format PanelF32x16, dims [groups, kh * kw * C / groups, M / groups],
//   rows ordered (kh, kw, c); bias [M] or absent; residual [N, M, OH, OW], stride 1 along M, or absent.
// Outputs: y [N, M, OH, OW] with stride 1 along M. y may lie exactly on residual.
// y[n, m, oh, ow] = epilogue(sum x[n, c, oh * stride + kh * dilation - pad, ...] * w); padding reads zeros.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct ConvAttributes {
  std::int32_t kernel[2];    ///< kh, kw
  std::int32_t stride[2];
  std::int32_t dilation[2];
  std::int32_t pad_begin[2];  ///< rows above, columns left; how far the window reaches past the end follows from y
  std::int32_t groups;
  std::int32_t reserved;
  scalar::Epilogue epilogue;
  std::int32_t pad_end[2];  ///< rows below, columns right: only the builder's shape rule reads it
};

struct Conv {
  static constexpr std::uint16_t kId = 4;
  static constexpr const char* kName = "Conv";
  using Attributes = ConvAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
