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

/// GemmTile::row_pitch of rows that have no common distance.
inline constexpr std::int64_t kNoRowPitch = INT64_MIN;

/// Elements of K between two groups of lines that are brought ahead, and floats of a cache line.
inline constexpr std::int64_t kAheadInterval = 32;
inline constexpr std::int64_t kLineFloats = 16;

/// y[r][c] = min(max(init[c] + s (+ residual[r][c]), low), high), where s sums, over the taps t and then k < chunk,
/// rows[t * row_count + r][k] * b[t * chunk + k][c]: one accumulator per element, so that the result does not depend on
/// the tile's size.
struct GemmTile {
  const float* const* rows;  ///< [taps][row_count]; a null first row: all rows of this tap are zeros
  std::int64_t taps;
  std::int64_t chunk;  ///< elements of K per tap
  const float* b;      ///< first panel: [taps * chunk][16]
  std::int64_t panel_stride;  ///< floats from one panel to the next
  const float* init;          ///< one float per column
  float* y;
  std::int64_t y_stride;
  const float* residual;  ///< null, or like y
  std::int64_t residual_stride;
  float low, high;
  /// Floats from each row to the next one. If there is such a distance, the same for all taps, `rows` is only [taps] and
  /// says where, in each tap, the row `row_offset` floats before the first one starts.
  std::int64_t row_pitch = kNoRowPitch;
  std::int64_t row_offset = 0;
  /// Memory that will be read soon: at every kAheadInterval elements of K its next `ahead_lines` cache lines are brought
  /// into the second-level cache. AVX-512 only: the other kernels are too slow to wait for memory.
  const float* ahead = nullptr;
  std::int64_t ahead_lines = 0;
  /// Tiles, one below the other: rows, y and residual go on where the tile before ends, and so does `ahead`. More than one
  /// needs a row_pitch. In shallow products the way into the kernel takes a tenth of the time.
  std::int64_t count = 1;
};

/// Largest tile of an instruction set. 16 sums cover the latency of two multipliers; AVX-512 has registers for more
/// rows, but taller tiles measured slower, since more rows compete for the first-level cache.
struct GemmShape {
  int rows;
  int panels;
};
inline constexpr GemmShape kLargestGemmShape = {8, 2};
/// Panels of a tile of one row, AVX-512 only: such a product waits for memory, which gives more to more streams at once.
inline constexpr int kRowPanels = 4;
inline constexpr int kSmallestTileRows = 5;  ///< of gemm_shape() of any instruction set
constexpr GemmShape gemm_shape(Isa isa) noexcept {
  if (isa == Isa::Avx512) return kLargestGemmShape;
#if defined(__aarch64__)
  return {5, 1};  // 20 sums, 4 vectors of columns and 5 factors in 32 registers
#else
  return {6, 1};
#endif
}

}  // namespace edgert::cpu

#define EDGERT_ISA_SOURCE "edgert/cpu/isa/gemm_kernels.inc"
#include "edgert/cpu/isa/for_each_isa.h"
