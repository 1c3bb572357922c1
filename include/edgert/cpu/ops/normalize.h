// SPDX-License-Identifier: Apache-2.0
// y = (x - mean) / sqrt(variance + epsilon) * scale + bias, mean and biased variance over `axes` (LayerNormalization,
// InstanceNormalization, GroupNormalization by their views); with rms: y = x / sqrt(mean(x * x) + epsilon) * scale.
// Inputs: x; scale or absent; bias or absent, both with x's dims (broadcast by stride 0). Outputs: y. Any strides, fast
// when the axes are the last ones and dense. y may lie exactly on x.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct NormalizeAttributes {
  std::uint32_t axes;  ///< bit i: statistics run over axis i
  float epsilon;
  std::uint8_t rms;
  std::uint8_t reserved[3];
};

struct Normalize {
  static constexpr std::uint16_t kId = 11;
  static constexpr const char* kName = "Normalize";
  using Attributes = NormalizeAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
