// SPDX-License-Identifier: Apache-2.0
// Reduces some axes to extent 1, as the ONNX Reduce* family with keepdims = 1; an empty set of elements gives ONNX's
// neutral element (Max: lowest, Min: highest, Sum-like: 0, Prod: 1).
// Inputs: x. Outputs: y, same rank and type, extent 1 on the reduced axes. Any strides.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

enum class ReduceKind : std::uint8_t {
  Sum = 0, Mean = 1, Max = 2, Min = 3, Prod = 4, L1 = 5, L2 = 6, LogSum = 7, LogSumExp = 8, SumSquare = 9
};
struct ReduceAttributes {
  std::uint32_t axes;  ///< bit i: axis i is reduced
  ReduceKind kind;
  std::uint8_t reserved[3];
};

struct Reduce {
  static constexpr std::uint16_t kId = 8;
  static constexpr const char* kName = "Reduce";
  using Attributes = ReduceAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
