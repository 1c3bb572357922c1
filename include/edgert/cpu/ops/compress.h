// SPDX-License-Identifier: Apache-2.0
// ONNX Compress along an axis: the slices of x whose condition is true, one after the other. A true condition beyond the
// end of the axis is Error::IndexOutOfRange.
// Inputs: x; condition bool [n]. Outputs: y, as x but for the axis, of which `count` slices are written; count int64, one
// element. Any strides, any element type of whole bytes. Runs in one part.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/ops/copy.h"
#include "edgert/cpu/ordered_elements.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

struct CompressAttributes {
  std::int32_t axis;
  std::uint32_t reserved;
};

namespace compress_detail {

/// The dims of y but for the axis, as operands of y and x.
inline Nest<2> slice_nest(const TensorView& y, const TensorView& x, std::uint32_t axis) noexcept {
  Nest<2> nest;
  for (std::uint32_t d = 0; d < y.rank; ++d) {
    if (d != axis) nest.append(y.dims[d], {y.strides[d], x.strides[d]});
  }
  nest.sort();
  nest.merge();
  return nest;
}

/// Slice `from` of x to slice `to` of y.
template <class T>
void copy_slice(const Nest<2>& nest, const TensorView& y, std::int64_t to, const TensorView& x, std::int64_t from,
                std::uint32_t axis) noexcept {
  T* const target = static_cast<T*>(y.data) + to * y.strides[axis];
  const T* const source = static_cast<const T*>(x.data) + from * x.strides[axis];
  Cursor<2> row(nest, nest.rank, 0);
  for (std::int64_t done = 0; done < nest.count; done += nest.inner(), row.advance(nest.inner())) {
    copy_detail::copy_row(target + row.offset(0), nest.inner_stride(0), source + row.offset(1), nest.inner_stride(1),
                          nest.inner());
  }
}

inline void copy_slice(const Nest<2>& nest, const TensorView& y, std::int64_t to, const TensorView& x, std::int64_t from,
                       std::uint32_t axis) noexcept {
  switch (bytes_of(y.dtype)) {
    case 1: return copy_slice<Raw<std::uint8_t>>(nest, y, to, x, from, axis);
    case 2: return copy_slice<Raw<std::uint16_t>>(nest, y, to, x, from, axis);
    case 4: return copy_slice<Raw<std::uint32_t>>(nest, y, to, x, from, axis);
    default: return copy_slice<Raw<std::uint64_t>>(nest, y, to, x, from, axis);
  }
}

/// Null when y has x's type and dims, but for the axis, where it has room for `most`.
inline const char* check_slices(const TensorView& x, const TensorView& y, std::int32_t axis, std::int64_t most) noexcept {
  if (!is_plain(x) || !is_plain(y) || !is_writable(y)) return "an operand is absent, packed or narrower than a byte";
  if (x.dtype != y.dtype || x.rank != y.rank) return "input and output differ in type or rank";
  if (axis < 0 || axis >= x.rank) return "axis is outside the input's rank";
  for (std::int32_t d = 0; d < x.rank; ++d) {
    if (d != axis && x.dims[d] != y.dims[d]) return "input and output differ in dims";
  }
  return y.dims[axis] < most ? "the output has no place for every slice" : nullptr;
}

}  // namespace compress_detail

struct Compress {
  static constexpr std::uint16_t kId = 41;
  static constexpr const char* kName = "Compress";
  using Attributes = CompressAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() != 2 || operands.outputs.size() != 2) return "two inputs and two outputs expected";
    const TensorView& x = operands.in(0);
    const TensorView& condition = operands.in(1);
    const std::int32_t axis = operands.as<CompressAttributes>().axis;
    if (!is_plain(condition) || condition.dtype != DType::Bool || condition.rank != 1) return "condition is no bool vector";
    if (axis < 0 || axis >= x.rank) return "axis is outside the input's rank";
    if (!is_int64_scalar(operands.out(1))) return "the second output is no int64 scalar";
    const std::int64_t most = x.dims[axis] < condition.dims[0] ? x.dims[axis] : condition.dims[0];
    return compress_detail::check_slices(x, operands.out(0), axis, most);
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    if (work.part != 0) return {};
    const TensorView& x = work.in(0);
    const TensorView& condition = work.in(1);
    const TensorView& y = work.out(0);
    const std::uint32_t axis = static_cast<std::uint32_t>(work.as<CompressAttributes>().axis);
    const bool empty = is_empty(x) || is_empty(y);
    const Nest<2> nest = empty ? Nest<2>{} : compress_detail::slice_nest(y, x, axis);
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < condition.dims[0]; ++i) {
      if (condition.as<const std::uint8_t>()[i * condition.strides[0]] == 0) continue;
      if (i >= x.dims[axis]) return Error::IndexOutOfRange;
      if (!empty) compress_detail::copy_slice(nest, y, kept, x, i, axis);
      ++kept;
    }
    *work.out(1).as<std::int64_t>() = kept;
    return {};
  }
};

}  // namespace edgert::cpu
