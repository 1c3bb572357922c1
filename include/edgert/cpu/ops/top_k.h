// SPDX-License-Identifier: Apache-2.0
// ONNX TopK: the k largest or smallest elements along an axis, the best first, of equal ones the first; and where they
// were. NaN counts as larger than every number.
// Inputs: x; optionally k int64, one element, which must be what the outputs have (else Error::ExtentMismatch).
// Outputs: values, as x but for the axis, where they have k; indices int64 of the same dims. Any strides, any element
// type of whole bytes.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/ordered_elements.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

struct TopKAttributes {
  std::int32_t axis;
  std::uint32_t smallest;  ///< 1: the k smallest
  std::int64_t k;          ///< the outputs' extent along the axis
};

namespace top_k_detail {

/// One line: `x` and the outputs at their first elements along the axis.
template <class T>
void select(const T* x, std::int64_t x_stride, std::int64_t n, T* values, std::int64_t values_stride,
            std::int64_t* indices, std::int64_t indices_stride, std::int64_t k, bool smallest,
            std::int64_t* best) noexcept {
  const auto before = [=](std::int64_t a, std::int64_t b) {
    const int order = compare_numbers(number_of(x[a * x_stride]), number_of(x[b * x_stride]));
    return order != 0 ? (smallest ? order < 0 : order > 0) : a < b;
  };
  // The best k so far, the worst of them at the heap's top.
  auto heap = heap_of(best, k, before);
  for (std::int64_t i = 0; i < k; ++i) best[i] = i;
  heap.build();
  for (std::int64_t i = k; i < n; ++i) {
    if (!before(i, best[0])) continue;
    best[0] = i;
    heap.sift(0);
  }
  heap.sort();
  for (std::int64_t i = 0; i < k; ++i) {
    values[i * values_stride] = x[best[i] * x_stride];
    indices[i * indices_stride] = best[i];
  }
}

template <class T>
void run(const Work& work) noexcept {
  const TopKAttributes& attributes = work.as<TopKAttributes>();
  const TensorView& x = work.in(0);
  const TensorView& values = work.out(0);
  const TensorView& indices = work.out(1);
  const std::uint32_t axis = static_cast<std::uint32_t>(attributes.axis);
  Nest<3> lines;
  for (std::uint32_t d = 0; d < x.rank; ++d) {
    if (d != axis) lines.append(x.dims[d], {values.strides[d], indices.strides[d], x.strides[d]});
  }
  lines.sort();
  lines.merge();
  const PartRange range = part_range(lines.count, work.part, work.parts);
  Cursor<3> at(lines, lines.rank, range.begin);
  for (std::int64_t line = range.begin; line < range.end; ++line, at.advance()) {
    select(x.as<const T>() + at.offset(2), x.strides[axis], x.dims[axis], values.as<T>() + at.offset(0),
           values.strides[axis], indices.as<std::int64_t>() + at.offset(1), indices.strides[axis], values.dims[axis],
           attributes.smallest != 0, static_cast<std::int64_t*>(work.scratch));
  }
}

}  // namespace top_k_detail

struct TopK {
  static constexpr std::uint16_t kId = 44;
  static constexpr const char* kName = "TopK";
  using Attributes = TopKAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() < 1 || operands.inputs.size() > 2) return "one or two inputs expected";
    if (operands.outputs.size() != 2) return "two outputs expected";
    const TensorView& x = operands.in(0);
    const TensorView& values = operands.out(0);
    const TensorView& indices = operands.out(1);
    const std::int32_t axis = operands.as<TopKAttributes>().axis;
    if (!is_plain(x) || !is_plain(values) || !is_plain(indices)) return "an operand is absent, packed or narrower than a byte";
    if (!is_ordered(x.dtype)) return "type is not supported";
    if (!is_writable(values) || !is_writable(indices)) return "output overlaps itself";
    if (operands.has(1) && !is_int64_scalar(operands.in(1))) return "k is no int64 scalar";
    if (values.dtype != x.dtype || indices.dtype != DType::I64) return "an output has the wrong type";
    if (axis < 0 || axis >= x.rank || x.rank != values.rank || !same_dims(values, indices)) return "axis or rank does not fit";
    for (std::int32_t d = 0; d < x.rank; ++d) {
      if (d != axis && x.dims[d] != values.dims[d]) return "input and outputs differ in dims";
    }
    if (values.dims[axis] != operands.as<TopKAttributes>().k) return "the outputs don't have k elements";
    if (values.dims[axis] > x.dims[axis]) return "there are fewer than k elements";
    return values.dims[axis] > (std::int64_t{1} << 40) ? "k is too large" : nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands& operands) {
    return sizeof(std::int64_t) * static_cast<std::uint64_t>(operands.out(0).dims[operands.as<TopKAttributes>().axis]);
  }
  static Status run(const Work& work) {
    const TensorView& values = work.out(0);
    const std::int64_t k = values.dims[work.as<TopKAttributes>().axis];
    if (work.has(1) && *work.in(1).as<const std::int64_t>() != k) return Error::ExtentMismatch;
    if (is_empty(values)) return {};
    with_element_type(values.dtype, [&](auto type) { top_k_detail::run<decltype(type)>(work); });
    return {};
  }
};

}  // namespace edgert::cpu
