// SPDX-License-Identifier: Apache-2.0
// ONNX If: runs body 0 when the condition is true, else body 1. The bodies' steps write the outputs themselves: a tensor
// of the body that lies where the output lies. Outputs are named here so that the step says what it makes.
// Inputs: condition bool, one element. Outputs: any. Runs in one part.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

struct If {
  static constexpr std::uint16_t kId = 45;
  static constexpr const char* kName = "If";
  static constexpr std::uint32_t kBodies = 2;
  using Attributes = NoAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() != 1) return "one input expected";
    const TensorView& condition = operands.in(0);
    const bool scalar = is_plain(condition) && condition.dtype == DType::Bool && !is_empty(condition) && condition.elements() == 1;
    return scalar ? nullptr : "the condition is no bool of one element";
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    return work.run_body(work.body_context, *work.in(0).as<const std::uint8_t>() != 0 ? 0 : 1);
  }
};

}  // namespace edgert::cpu
