// SPDX-License-Identifier: Apache-2.0
// Copies a strided tensor into another of the same dims and element size: layout changes, transposes, slices,
// broadcasts (input stride 0) and concatenation are all this, by their views. Types narrower than a byte are refused.
// Inputs: x. Outputs: y. Any strides; y must not overlap itself (no stride 0 where the extent is above 1).
#pragma once

#include <cstdint>
#include <cstring>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

namespace copy_detail {

inline constexpr std::int64_t kTile = 16;  // one cache line of 4-byte elements along the contiguous side of a transpose

/// to[i * to_stride] = from[i * from_stride].
template <class T>
void copy_row(T* to, std::int64_t to_stride, const T* from, std::int64_t from_stride, std::int64_t count) noexcept {
  if (to_stride == 1 && from_stride == 1 && count * static_cast<std::int64_t>(sizeof(T)) >= 32) {
    std::memmove(to, from, static_cast<std::size_t>(count) * sizeof(T));
  } else if (to_stride == 1 && from_stride == 0) {
    const T value = *from;
    for (std::int64_t i = 0; i < count; ++i) to[i] = value;
  } else {
    for (std::int64_t i = 0; i < count; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

/// to[i * to_pitch + j] = from[j * from_pitch + i] for `rows` values of i and `columns` of j.
template <class T>
void transpose_tile(T* to, std::int64_t to_pitch, const T* from, std::int64_t from_pitch, std::int64_t rows,
                    std::int64_t columns) noexcept {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) to[i * to_pitch + j] = from[j * from_pitch + i];
  }
}

#if defined(__SSE2__) || defined(__ARM_NEON)
/// Four by four elements at a time in registers.
inline void transpose_tile(Raw<std::uint32_t>* to, std::int64_t to_pitch, const Raw<std::uint32_t>* from,
                           std::int64_t from_pitch, std::int64_t rows, std::int64_t columns) noexcept {
  typedef std::uint32_t Row __attribute__((vector_size(16)));
#if defined(__clang__)
#define EDGERT_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define EDGERT_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, Row{i, j, k, l})
#endif
  const std::int64_t whole_rows = rows & ~std::int64_t{3};
  const std::int64_t whole_columns = columns & ~std::int64_t{3};
  for (std::int64_t i = 0; i < whole_rows; i += 4) {
    for (std::int64_t j = 0; j < whole_columns; j += 4) {
      Row in[4];
      for (int k = 0; k < 4; ++k) std::memcpy(&in[k], from + (j + k) * from_pitch + i, sizeof(Row));
      const Row low01 = EDGERT_SHUFFLE(in[0], in[1], 0, 4, 1, 5);
      const Row high01 = EDGERT_SHUFFLE(in[0], in[1], 2, 6, 3, 7);
      const Row low23 = EDGERT_SHUFFLE(in[2], in[3], 0, 4, 1, 5);
      const Row high23 = EDGERT_SHUFFLE(in[2], in[3], 2, 6, 3, 7);
      const Row out[4] = {EDGERT_SHUFFLE(low01, low23, 0, 1, 4, 5), EDGERT_SHUFFLE(low01, low23, 2, 3, 6, 7),
                          EDGERT_SHUFFLE(high01, high23, 0, 1, 4, 5), EDGERT_SHUFFLE(high01, high23, 2, 3, 6, 7)};
      for (int k = 0; k < 4; ++k) std::memcpy(to + (i + k) * to_pitch + j, &out[k], sizeof(Row));
    }
  }
#undef EDGERT_SHUFFLE
  transpose_tile<Raw<std::uint32_t>>(to + whole_columns, to_pitch, from + whole_columns * from_pitch, from_pitch,
                                     whole_rows, columns - whole_columns);
  transpose_tile<Raw<std::uint32_t>>(to + whole_rows * to_pitch, to_pitch, from + whole_rows, from_pitch,
                                     rows - whole_rows, columns);
}
#endif

/// The last but one dimension is contiguous in the input, the last one in the output: tiles keep both sides in cache.
template <class T>
void copy_transposed(const Nest<2>& nest, T* to, const T* from, std::uint32_t part, std::uint32_t parts) noexcept {
  const std::uint32_t outer = nest.rank - 2;
  const std::int64_t rows = nest.dims[outer];
  const std::int64_t columns = nest.dims[outer + 1];
  const std::int64_t tiles = ceil_div(rows, kTile);
  const PartRange range = part_range(nest.count / (rows * columns) * tiles, part, parts);
  Cursor<2> cursor(nest, outer, range.begin / tiles);
  std::int64_t tile = range.begin % tiles;
  for (std::int64_t item = range.begin; item < range.end; ++item) {
    const std::int64_t row = tile * kTile;
    const std::int64_t height = rows - row < kTile ? rows - row : kTile;
    for (std::int64_t column = 0; column < columns; column += kTile) {
      const std::int64_t width = columns - column < kTile ? columns - column : kTile;
      transpose_tile(to + cursor.offset(0) + row * nest.strides[0][outer] + column, nest.strides[0][outer],
                     from + cursor.offset(1) + row + column * nest.strides[1][outer + 1], nest.strides[1][outer + 1],
                     height, width);
    }
    if (++tile == tiles) {
      tile = 0;
      cursor.advance();
    }
  }
}

template <class T>
void copy_elements(Nest<2> nest, void* to_bytes, const void* from_bytes, std::uint32_t part,
                   std::uint32_t parts) noexcept {
  T* const to = static_cast<T*>(to_bytes);
  const T* const from = static_cast<const T*>(from_bytes);
  const std::uint32_t inner = nest.rank - 1;
  if (nest.rank >= 2 && nest.strides[0][inner] == 1 && nest.strides[1][inner] != 1) {
    for (std::uint32_t i = 0; i < inner; ++i) {
      if (nest.strides[1][i] != 1) continue;
      nest.move_dim(i, inner - 1);
      return copy_transposed(nest, to, from, part, parts);
    }
  }
  const PartRange range = part_range(nest.count, part, parts, 64);
  Cursor<2> cursor(nest, nest.rank, range.begin);
  for (std::int64_t at = range.begin; at < range.end;) {
    const std::int64_t row = nest.inner() - cursor.innermost();
    const std::int64_t count = row < range.end - at ? row : range.end - at;
    copy_row(to + cursor.offset(0), nest.inner_stride(0), from + cursor.offset(1), nest.inner_stride(1), count);
    cursor.advance(count);
    at += count;
  }
}

}  // namespace copy_detail

struct Copy {
  static constexpr std::uint16_t kId = 1;
  static constexpr const char* kName = "Copy";
  using Attributes = NoAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 1)) return wrong;
    if (!same_dims(operands.in(0), operands.out(0))) return "input and output differ in dims";
    if (bits_of(operands.in(0).dtype) != bits_of(operands.out(0).dtype)) return "element sizes differ";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    const TensorView& x = work.in(0);
    const TensorView& y = work.out(0);
    if (is_empty(y)) return {};
    const Nest<2> nest = elementwise_nest(y, x);
    switch (bytes_of(y.dtype)) {
      case 1: copy_detail::copy_elements<Raw<std::uint8_t>>(nest, y.data, x.data, work.part, work.parts); break;
      case 2: copy_detail::copy_elements<Raw<std::uint16_t>>(nest, y.data, x.data, work.part, work.parts); break;
      case 4: copy_detail::copy_elements<Raw<std::uint32_t>>(nest, y.data, x.data, work.part, work.parts); break;
      default: copy_detail::copy_elements<Raw<std::uint64_t>>(nest, y.data, x.data, work.part, work.parts); break;
    }
    return {};
  }
};

}  // namespace edgert::cpu
