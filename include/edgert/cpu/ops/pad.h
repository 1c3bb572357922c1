// SPDX-License-Identifier: Apache-2.0
// ONNX Pad: y's extent on axis i is before[i] + x's extent + something after it. Negative pads are slices by the builder.
// Inputs: x. Outputs: y. Any strides, any element type of whole bytes.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

enum class PadMode : std::uint8_t { Constant = 0, Reflect = 1, Edge = 2, Wrap = 3 };
struct PadAttributes {
  std::int64_t before[kMaxRank];
  std::uint8_t value[8];  ///< the bytes of one element, for Constant
  PadMode mode;
  std::uint8_t reserved[7];
  std::int64_t after[kMaxRank];  ///< only the builder's shape rule reads it
};

struct Pad {
  static constexpr std::uint16_t kId = 13;
  static constexpr const char* kName = "Pad";
  using Attributes = PadAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
