// SPDX-License-Identifier: Apache-2.0
// Max and average pooling over the last two of four dimensions.
// Inputs: x [N, C, H, W]. Outputs: y [N, C, OH, OW]. Any strides, fast when both have stride 1 along C.
// Padding never wins a maximum. An average divides by the window's elements inside the image, or, with
// count_include_pad, inside the image and its declared padding (ONNX AveragePool).
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

enum class PoolKind : std::uint8_t { Max = 0, Average = 1 };
struct PoolAttributes {
  std::int32_t kernel[2];
  std::int32_t stride[2];
  std::int32_t dilation[2];
  std::int32_t pad_begin[2];
  std::int32_t pad_end[2];
  PoolKind kind;
  std::uint8_t count_include_pad;
  std::uint8_t ceil_mode;  ///< only the builder's shape rule reads it
  std::uint8_t reserved;
};

struct Pool {
  static constexpr std::uint16_t kId = 7;
  static constexpr const char* kName = "Pool";
  using Attributes = PoolAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
