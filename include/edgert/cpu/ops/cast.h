// SPDX-License-Identifier: Apache-2.0
// Converts elements to another type, as ONNX Cast: float to integer truncates toward zero and saturates where C++ would
// be undefined, anything to bool is != 0, f32 to f16/bf16 rounds to nearest even.
// Inputs: x. Outputs: y, same dims. Any strides.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct CastAttributes {
  DType to;  ///< y's type
  std::uint8_t reserved[3];
};

struct Cast {
  static constexpr std::uint16_t kId = 2;
  static constexpr const char* kName = "Cast";
  using Attributes = CastAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
