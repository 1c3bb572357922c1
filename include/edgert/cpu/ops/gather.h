// SPDX-License-Identifier: Apache-2.0
// ONNX Gather: y[i..., j..., k...] = data[i..., indices[j...], k...]; a negative index counts from the end. An index out
// of range is Error::IndexOutOfRange and nothing is read there.
// Inputs: data; indices int32 or int64. Outputs: y. Any strides, any element type of whole bytes.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct GatherAttributes {
  std::int32_t axis;
  std::uint32_t reserved;
};

struct Gather {
  static constexpr std::uint16_t kId = 12;
  static constexpr const char* kName = "Gather";
  using Attributes = GatherAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
