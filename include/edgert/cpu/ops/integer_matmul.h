// SPDX-License-Identifier: Apache-2.0
// Matrix product of integers, exact modulo 2^bits of the result: y[.., m, n] = sum over k of a[.., m, k] * b[.., k, n].
// Inputs: a [batch..., M, K] and b [batch..., K, N], both int16 with y int32, or all three of one 32- or 64-bit integer
//   type; batch dimensions broadcast by stride 0. Any strides.
// Outputs: y [batch..., M, N], any strides.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

namespace integer_matmul_detail {

inline constexpr std::int64_t kColumns = 128;  // of y, summed up side by side

/// Columns first .. first + count - 1 of one row of y. Unsigned arithmetic is the signed one modulo 2^bits.
template <class Element, class Sum>
void row_piece(const Element* a, std::int64_t a_stride, const Element* b, std::int64_t b_row, std::int64_t b_column,
               std::int64_t depth, std::int64_t count, Sum* y, std::int64_t y_stride) noexcept {
  Sum sums[kColumns] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    const Sum factor = static_cast<Sum>(a[k * a_stride]);
    const Element* const row = b + k * b_row;
    if (b_column == 1) {
      for (std::int64_t n = 0; n < count; ++n) sums[n] += factor * static_cast<Sum>(row[n]);
    } else {
      for (std::int64_t n = 0; n < count; ++n) sums[n] += factor * static_cast<Sum>(row[n * b_column]);
    }
  }
  for (std::int64_t n = 0; n < count; ++n) y[n * y_stride] = sums[n];
}

template <class Element, class Sum>
void multiply(const Work& work) noexcept {
  const TensorView& a = work.in(0);
  const TensorView& b = work.in(1);
  const TensorView& y = work.out(0);
  const std::uint32_t row_dim = y.rank - 2u;
  const std::uint32_t column_dim = y.rank - 1u;
  const std::int64_t columns = y.dims[column_dim];
  const std::int64_t depth = a.dims[column_dim];
  Nest<3> rows;  // of y, a, b
  for (std::uint32_t d = 0; d < row_dim; ++d) rows.append(y.dims[d], {y.strides[d], a.strides[d], b.strides[d]});
  rows.append(y.dims[row_dim], {y.strides[row_dim], a.strides[row_dim], 0});
  const PartRange range = part_range(rows.count, work.part, work.parts);
  Cursor<3> cursor(rows, rows.rank, range.begin);
  for (std::int64_t row = range.begin; row < range.end; ++row, cursor.advance()) {
    Sum* const to = static_cast<Sum*>(y.data) + cursor.offset(0);
    // Without depth the operands have no elements, and strides that must not be used.
    const Element* const left = static_cast<const Element*>(a.data) + (depth == 0 ? 0 : cursor.offset(1));
    const Element* const right = static_cast<const Element*>(b.data) + (depth == 0 ? 0 : cursor.offset(2));
    for (std::int64_t first = 0; first < columns; first += kColumns) {
      const std::int64_t count = columns - first < kColumns ? columns - first : kColumns;
      row_piece(left, a.strides[column_dim], depth == 0 ? right : right + first * b.strides[column_dim],
                b.strides[row_dim], b.strides[column_dim], depth, count, to + first * y.strides[column_dim],
                y.strides[column_dim]);
    }
  }
}

}  // namespace integer_matmul_detail

struct IntegerMatMul {
  static constexpr std::uint16_t kId = 61;
  static constexpr const char* kName = "IntegerMatMul";
  using Attributes = NoAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 2)) return wrong;
    const TensorView& a = operands.in(0);
    const TensorView& b = operands.in(1);
    const TensorView& y = operands.out(0);
    const bool widened = a.dtype == DType::I16 && y.dtype == DType::I32;
    const bool whole = a.dtype == y.dtype && (y.dtype == DType::I32 || y.dtype == DType::U32 || y.dtype == DType::I64 ||
                                              y.dtype == DType::U64);
    if (a.dtype != b.dtype || !(widened || whole)) return "types are not int16 to int32, or one 32- or 64-bit integer";
    if (y.rank < 2 || a.rank != y.rank || b.rank != y.rank) return "operands do not have one rank of 2 or more";
    for (std::uint32_t d = 0; d + 2 < y.rank; ++d) {
      if (a.dims[d] != y.dims[d] || b.dims[d] != y.dims[d]) return "batch dimensions differ";
    }
    if (a.dims[y.rank - 2u] != y.dims[y.rank - 2u] || b.dims[y.rank - 1u] != y.dims[y.rank - 1u] ||
        a.dims[y.rank - 1u] != b.dims[y.rank - 2u]) {
      return "the matrices do not fit";
    }
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    if (work.in(0).dtype == DType::I16) {
      integer_matmul_detail::multiply<std::int16_t, std::uint32_t>(work);
    } else if (bits_of(work.in(0).dtype) == 32) {
      integer_matmul_detail::multiply<std::uint32_t, std::uint32_t>(work);
    } else {
      integer_matmul_detail::multiply<std::uint64_t, std::uint64_t>(work);
    }
    return {};
  }
};

}  // namespace edgert::cpu
