// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/rows.cu: sums of gathered rows, normalised or not.
#pragma once

#include <cstdint>
#include <vector>

#include "codegen/conv_kernel.h"

namespace edgert::codegen {

/// A table and the rows of it that are summed.
struct RowTable {
  std::int32_t rows = 1;         ///< of the table
  std::int32_t pitch = 0;        ///< elements from row to row, a multiple of 8
  std::int32_t index_bytes = 0;  ///< 4 or 8: integers name the rows, negative ones from the end; 0: rows in their order
  bool is_float = false;         ///< f32; else of the shape's type
};

/// y[r] = sum over tables of table[index[r]], then with `normalize` (y - mean) / sqrt(variance + epsilon) * gamma + beta.
struct RowsShape {
  std::int32_t rows = 1, depth = 8;  ///< depth: a multiple of 8 up to 2048
  std::int32_t output_pitch = 0;     ///< a multiple of 8
  std::vector<RowTable> tables;      ///< 1 to 3
  bool normalize = false;
  bool rms = false;  ///< normalised without the mean: y / sqrt(mean(y * y) + epsilon) * gamma + beta
  float epsilon = 1e-5f;
  bool float_output = false;  ///< y is f32; else of the shape's type
  ElementType element = ElementType::F16;
};

/// The kernel. Its arguments are table and index for each of three tables (unused ones null), gamma and beta as floats,
/// one after the other, and y: all addresses; gamma and the tables lie at multiples of 16 bytes. A warp computes `rows_per_warp`
/// rows. Throws CompileError for a shape outside the above.
KernelSpec make_rows(const RowsShape& shape, std::int32_t threads, std::int32_t rows_per_warp, const ConvTarget& target);

}  // namespace edgert::codegen
