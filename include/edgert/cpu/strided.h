// SPDX-License-Identifier: Apache-2.0
// Loops over strided views, shared by the operators: an iteration space with one stride per operand and dimension,
// reordered and merged so that the innermost loop is long, and a cursor that walks it. Also the questions that every
// operator's check() asks of a view.
#pragma once

#include <cstddef>
#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/types.h"

namespace edgert::cpu {

/// A present view with plain strides, whose elements are whole bytes.
constexpr bool is_plain(const TensorView& view) noexcept {
  return view.present() && view.format == WeightFormat::Strided && view.rank <= kMaxRank && bits_of(view.dtype) >= 8;
}

/// Whether no two elements of an output share memory because of a zero stride.
constexpr bool is_writable(const TensorView& view) noexcept {
  if (is_empty(view)) return true;
  for (std::uint32_t i = 0; i < view.rank; ++i) {
    if (view.dims[i] > 1 && view.strides[i] == 0) return false;
  }
  return true;
}

constexpr std::size_t bytes_of(DType dtype) noexcept { return bits_of(dtype) / 8; }

/// An element of which only the bits matter; may stand for an element of any type of that size.
template <class Bits>
struct __attribute__((may_alias)) Raw {
  Bits bits;
};

/// Null when there are `inputs` plain inputs and one plain, writable output.
inline const char* check_operands(const Operands& operands, std::size_t inputs) noexcept {
  if (operands.inputs.size() != inputs) return "wrong number of inputs";
  if (operands.outputs.size() != 1) return "one output expected";
  for (std::size_t i = 0; i < inputs; ++i) {
    if (!is_plain(operands.in(i))) return "input is absent, packed or narrower than a byte";
  }
  if (!is_plain(operands.out(0))) return "output is absent, packed or narrower than a byte";
  if (!is_writable(operands.out(0))) return "output overlaps itself";
  return nullptr;
}

/// The iteration space of `kOperands` views with the same dims, outermost dimension first. Extents are above 1.
template <int kOperands>
struct Nest {
  std::uint32_t rank = 0;
  std::int64_t count = 1;
  std::int64_t dims[kMaxRank] = {};
  std::int64_t strides[kOperands][kMaxRank] = {};

  std::int64_t inner() const noexcept { return rank == 0 ? 1 : dims[rank - 1]; }
  std::int64_t inner_stride(int operand) const noexcept { return rank == 0 ? 0 : strides[operand][rank - 1]; }

  /// Adds a dimension inside all others; an extent of 1 changes nothing.
  void append(std::int64_t extent, const std::int64_t (&stride)[kOperands]) noexcept {
    count *= extent;
    if (extent == 1) return;
    dims[rank] = extent;
    for (int k = 0; k < kOperands; ++k) strides[k][rank] = stride[k];
    ++rank;
  }

  /// Orders the dimensions by operand 0's strides, largest outermost, so that memory order decides, not dims order.
  void sort() noexcept {
    for (std::uint32_t i = 1; i < rank; ++i) {
      for (std::uint32_t j = i; j > 0 && strides[0][j - 1] < strides[0][j]; --j) swap(j - 1, j);
    }
  }

  /// Takes dimension `from` out and puts it back as dimension `to` >= from.
  void move_dim(std::uint32_t from, std::uint32_t to) noexcept {
    for (; from < to; ++from) swap(from, from + 1);
  }

  /// Merges neighbours that every operand walks like one dimension.
  void merge() noexcept {
    std::uint32_t kept = 0;
    for (std::uint32_t i = 1; i < rank; ++i) {
      bool continuous = true;
      for (int k = 0; k < kOperands; ++k) continuous = continuous && strides[k][kept] == strides[k][i] * dims[i];
      if (continuous) {
        dims[kept] *= dims[i];
      } else {
        dims[++kept] = dims[i];
      }
      for (int k = 0; k < kOperands; ++k) strides[k][kept] = strides[k][i];
    }
    if (rank != 0) rank = kept + 1;
  }

  /// Whether the operand lies without gaps in iteration order, so that element i is at offset i.
  bool is_linear(int operand) const noexcept {
    std::int64_t expected = 1;
    for (std::uint32_t i = rank; i-- > 0;) {
      if (strides[operand][i] != expected) return false;
      expected *= dims[i];
    }
    return true;
  }
  /// Whether the operand is one element seen from everywhere.
  bool is_constant(int operand) const noexcept {
    for (std::uint32_t i = 0; i < rank; ++i) {
      if (strides[operand][i] != 0) return false;
    }
    return true;
  }

 private:
  void swap(std::uint32_t a, std::uint32_t b) noexcept {
    const auto exchange = [](std::int64_t& x, std::int64_t& y) {
      const std::int64_t old = x;
      x = y;
      y = old;
    };
    exchange(dims[a], dims[b]);
    for (int k = 0; k < kOperands; ++k) exchange(strides[k][a], strides[k][b]);
  }
};

/// Whether bit `dim` of a set of axes is set.
constexpr bool has_axis(std::uint32_t axes, std::uint32_t dim) noexcept { return (axes >> dim & 1u) != 0; }

/// The nest of an output and an input of the same dims, none of which is 0, in the output's memory order.
inline Nest<2> elementwise_nest(const TensorView& out, const TensorView& in) noexcept {
  Nest<2> nest;
  for (std::uint32_t i = 0; i < out.rank; ++i) nest.append(out.dims[i], {out.strides[i], in.strides[i]});
  nest.sort();
  nest.merge();
  return nest;
}

/// A position in the first `depth` dimensions of a nest and the operands' element offsets there.
template <int kOperands>
class Cursor {
 public:
  /// `item` counts positions in row-major order of those dimensions.
  Cursor(const Nest<kOperands>& nest, std::uint32_t depth, std::int64_t item) noexcept : nest_(&nest), depth_(depth) {
    if (item == 0) return;
    for (std::uint32_t i = depth; i-- > 0;) {
      index_[i] = item % nest.dims[i];
      item /= nest.dims[i];
      for (int k = 0; k < kOperands; ++k) offset_[k] += index_[i] * nest.strides[k][i];
    }
  }

  std::int64_t offset(int operand) const noexcept { return offset_[operand]; }
  /// The index along the innermost of the walked dimensions; 0 without dimensions.
  std::int64_t innermost() const noexcept { return depth_ == 0 ? 0 : index_[depth_ - 1]; }
  std::int64_t index(std::uint32_t dim) const noexcept { return index_[dim]; }

  /// `steps` positions further along the innermost walked dimension, not past its end; from there to the next row.
  void advance(std::int64_t steps = 1) noexcept {
    for (std::uint32_t i = depth_; i-- > 0;) {
      index_[i] += steps;
      for (int k = 0; k < kOperands; ++k) offset_[k] += steps * nest_->strides[k][i];
      if (index_[i] < nest_->dims[i]) return;
      for (int k = 0; k < kOperands; ++k) offset_[k] -= index_[i] * nest_->strides[k][i];
      index_[i] = 0;
      steps = 1;
    }
  }

 private:
  const Nest<kOperands>* nest_;
  std::uint32_t depth_;
  std::int64_t index_[kMaxRank] = {};
  std::int64_t offset_[kOperands] = {};
};

}  // namespace edgert::cpu
