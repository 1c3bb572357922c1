// SPDX-License-Identifier: Apache-2.0
// Copies a strided tensor into another of the same dims and element size: layout changes, transposes, slices,
// broadcasts (input stride 0) and concatenation are all this, by their views.
// Inputs: x. Outputs: y. Any strides; y must not overlap itself (no stride 0 where the extent is above 1).
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {


struct Copy {
  static constexpr std::uint16_t kId = 1;
  static constexpr const char* kName = "Copy";
  using Attributes = NoAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
