// SPDX-License-Identifier: Apache-2.0
// Softmax or LogSoftmax along one axis (ONNX opset 13 semantics), with the maximum subtracted first.
// Inputs: x. Outputs: y, same dims. Any strides. y may lie exactly on x.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct SoftmaxAttributes {
  std::int32_t axis;
  std::uint8_t log;
  std::uint8_t reserved[3];
};

struct Softmax {
  static constexpr std::uint16_t kId = 10;
  static constexpr const char* kName = "Softmax";
  using Attributes = SoftmaxAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
