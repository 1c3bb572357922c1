// SPDX-License-Identifier: Apache-2.0
// ONNX ArgMax and ArgMin with keepdims = 1.
// Inputs: x. Outputs: y int64, extent 1 on `axis`. Any strides.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct ArgReduceAttributes {
  std::int32_t axis;
  std::uint8_t minimum;      ///< 1: ArgMin
  std::uint8_t select_last;  ///< of equal elements the last, else the first
  std::uint8_t reserved[2];
};

struct ArgReduce {
  static constexpr std::uint16_t kId = 9;
  static constexpr const char* kName = "ArgReduce";
  using Attributes = ArgReduceAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
