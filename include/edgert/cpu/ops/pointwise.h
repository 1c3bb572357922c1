// SPDX-License-Identifier: Apache-2.0
// Runs a straight-line program of scalar operations on every element; a fused chain is one step.
// Inputs: as many as the program says, each with y's rank and dims; broadcasting is stride 0.
// Outputs: y. Any strides. y may lie exactly on an input with the same strides and element size.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {


struct Pointwise {
  static constexpr std::uint16_t kId = 3;
  static constexpr const char* kName = "Pointwise";
  using Attributes = scalar::PointwiseProgram;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
