// SPDX-License-Identifier: Apache-2.0
// ONNX Resize, modes nearest and linear (any number of axes) and cubic, without antialiasing.
// Inputs: x f32 (nearest: any type of whole bytes). Outputs: y. Any strides; fast when only the last two of four
// dimensions change and both have stride 1 along dimension 1.
#pragma once

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

enum class ResizeMode : std::uint8_t { Nearest = 0, Linear = 1, Cubic = 2 };
enum class ResizeCoordinates : std::uint8_t {
  HalfPixel = 0, Asymmetric = 1, AlignCorners = 2, PytorchHalfPixel = 3, HalfPixelSymmetric = 4, TfCropAndResize = 5
};
enum class ResizeNearest : std::uint8_t { RoundPreferFloor = 0, RoundPreferCeil = 1, Floor = 2, Ceil = 3 };
struct ResizeAttributes {
  float scale[kMaxRank];      ///< output extent / input extent as ONNX defines it; 1 for an axis that stays
  float roi_begin[kMaxRank];  ///< TfCropAndResize only
  float roi_end[kMaxRank];
  float cubic_coefficient;
  float extrapolation_value;
  ResizeMode mode;
  ResizeCoordinates coordinates;
  ResizeNearest nearest;
  std::uint8_t exclude_outside;
  std::uint8_t reserved[4];
  std::int64_t size[kMaxRank];  ///< y's extents: only the builder's shape rule reads it
};

struct Resize {
  static constexpr std::uint16_t kId = 14;
  static constexpr const char* kName = "Resize";
  using Attributes = ResizeAttributes;
  static const char* check(const Operands& operands);
  static std::uint64_t scratch_bytes(const Operands& operands);
  static Status run(const Work& work);
};

}  // namespace edgert::cpu
