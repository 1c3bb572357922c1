// SPDX-License-Identifier: Apache-2.0
// The inner product kernel that convolution and matrix product share: a tile of output rows times panels of 16 columns,
// kept in registers while the kernel runs along K. Rows of the left operand are given by pointers, one per row and tap,
// so that a convolution needs no im2col: its taps point into the image, or at zeros where the window is outside.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/region.h"
#include "edgert/cpu/operator.h"

namespace edgert::cpu {

/// Floats in a row of a panel (WeightFormat::PanelF32x16).
inline constexpr std::int64_t kPanelColumns = 16;

/// y[r][c] = min(max(init[c] + sum over taps t, k of rows[t * row_count + r][k] * b[...][c] (+ residual), low), high).
/// The sum runs in the order of the taps and of k, one accumulator per element, whatever the size of the tile.
struct GemmTile {
  const float* const* rows;  ///< [taps][row_count]
  std::int64_t taps;
  std::int64_t chunk;        ///< elements of K per tap
  const float* b;            ///< first panel: [taps * chunk][16]
  std::int64_t panel_stride;  ///< floats from one panel to the next
  const float* init;          ///< one float per column
  float* y;
  std::int64_t y_stride;
  const float* residual;  ///< null, or like y
  std::int64_t residual_stride;
  float low, high;
};

/// Largest tile of an instruction set: as many accumulators as its registers hold beside operands.
struct GemmShape {
  int rows;
  int panels;
};
inline constexpr GemmShape kLargestGemmShape = {12, 2};
constexpr GemmShape gemm_shape(Isa isa) noexcept { return isa == Isa::Avx512 ? kLargestGemmShape : GemmShape{6, 1}; }

}  // namespace edgert::cpu

#define EDGERT_ISA_SOURCE "edgert/cpu/isa/gemm_kernels.inc"
#include "edgert/cpu/isa/for_each_isa.h"
