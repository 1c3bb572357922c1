// SPDX-License-Identifier: Apache-2.0
// ONNX Unique along an axis: the slices of x that differ, sorted (by their elements in row-major order; NaN last and equal
// to itself) or in the order of their first appearance.
// Inputs: x. Outputs: y, as x but for the axis, of which `count` slices are written; and int64: first [n], for each of
// them where in x it is first; inverse [n], for each slice of x which of y it is; counts [n]; count, one element. n is
// x's extent along the axis. Any strides, any element type of whole bytes. Runs in one part.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/ops/compress.h"
#include "edgert/cpu/ordered_elements.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

struct UniqueAttributes {
  std::int32_t axis;
  std::uint32_t sorted;  ///< 0: by first appearance
};

namespace unique_detail {

/// Compares slices of x by their elements in row-major order.
template <class T>
class Slices {
 public:
  Slices(const TensorView& x, std::uint32_t axis) noexcept : data_(x.as<const T>()), stride_(x.strides[axis]) {
    for (std::uint32_t d = 0; d < x.rank; ++d) {
      if (d != axis) nest_.append(x.dims[d], {x.strides[d]});
    }
    nest_.merge();
  }

  int compare(std::int64_t a, std::int64_t b) const noexcept {
    const T* const left = data_ + a * stride_;
    const T* const right = data_ + b * stride_;
    Cursor<1> at(nest_, nest_.rank, 0);
    for (std::int64_t i = 0; i < nest_.count; ++i, at.advance()) {
      const int order = compare_numbers(number_of(left[at.offset(0)]), number_of(right[at.offset(0)]));
      if (order != 0) return order;
    }
    return 0;
  }

 private:
  const T* data_;
  std::int64_t stride_;
  Nest<1> nest_;
};

inline std::int64_t& element(const TensorView& view, std::int64_t i) noexcept {
  return view.as<std::int64_t>()[i * view.strides[0]];
}

template <class T>
std::int64_t unique(const Work& work) noexcept {
  const UniqueAttributes& attributes = work.as<UniqueAttributes>();
  const TensorView& x = work.in(0);
  const TensorView& y = work.out(0);
  const std::uint32_t axis = static_cast<std::uint32_t>(attributes.axis);
  const std::int64_t n = x.dims[axis];
  const Slices<T> slices(x, axis);
  std::int64_t* const order = static_cast<std::int64_t*>(work.scratch);
  std::int64_t* const groups = order + n;  // where in `order` each group of equal slices begins
  for (std::int64_t i = 0; i < n; ++i) order[i] = i;
  auto by_value = heap_of(order, n, [&slices](std::int64_t a, std::int64_t b) {
    const int compared = slices.compare(a, b);
    return compared != 0 ? compared < 0 : a < b;
  });
  by_value.build();
  by_value.sort();
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (i == 0 || slices.compare(order[i - 1], order[i]) != 0) groups[count++] = i;
  }
  // A group's end is the next one's beginning; kept here, since the groups are about to be put into another order.
  std::int64_t* const ends = groups + n;
  for (std::int64_t g = 0; g < count; ++g) ends[groups[g]] = g + 1 < count ? groups[g + 1] : n;
  if (attributes.sorted == 0) {
    auto by_place = heap_of(groups, count, [order](std::int64_t a, std::int64_t b) { return order[a] < order[b]; });
    by_place.build();
    by_place.sort();
  }
  const Nest<2> nest = compress_detail::slice_nest(y, x, axis);
  for (std::int64_t g = 0; g < count; ++g) {
    const std::int64_t begin = groups[g];
    const std::int64_t end = ends[begin];
    compress_detail::copy_slice(nest, y, g, x, order[begin], axis);
    element(work.out(1), g) = order[begin];
    element(work.out(3), g) = end - begin;
    for (std::int64_t i = begin; i < end; ++i) element(work.out(2), order[i]) = g;
  }
  return count;
}

}  // namespace unique_detail

struct Unique {
  static constexpr std::uint16_t kId = 42;
  static constexpr const char* kName = "Unique";
  using Attributes = UniqueAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() != 1 || operands.outputs.size() != 5) return "one input and five outputs expected";
    const TensorView& x = operands.in(0);
    const std::int32_t axis = operands.as<UniqueAttributes>().axis;
    if (axis < 0 || axis >= x.rank) return "axis is outside the input's rank";
    if (!is_ordered(x.dtype)) return "type is not supported";
    if (const char* wrong = compress_detail::check_slices(x, operands.out(0), axis, x.dims[axis])) return wrong;
    for (std::size_t i = 1; i < 4; ++i) {
      const TensorView& view = operands.out(i);
      if (!is_plain(view) || view.dtype != DType::I64 || view.rank != 1 || !is_writable(view)) return "output is no int64 vector";
      if (view.dims[0] < x.dims[axis]) return "an output has no place for every slice";
    }
    if (!is_int64_scalar(operands.out(4))) return "the last output is no int64 scalar";
    if (x.dims[axis] > (std::int64_t{1} << 40)) return "the input is too large";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands& operands) {
    return 3 * sizeof(std::int64_t) * static_cast<std::uint64_t>(operands.in(0).dims[operands.as<UniqueAttributes>().axis]);
  }
  static Status run(const Work& work) {
    if (work.part != 0) return {};
    const TensorView& x = work.in(0);
    std::int64_t count = 0;
    if (!is_empty(x)) {
      count = with_element_type(x.dtype, [&](auto type) { return unique_detail::unique<decltype(type)>(work); });
    }
    *work.out(4).as<std::int64_t>() = count;
    return {};
  }
};

}  // namespace edgert::cpu
