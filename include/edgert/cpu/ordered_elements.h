// SPDX-License-Identifier: Apache-2.0
// Elements of any type as numbers that have an order, and sorting by that order without memory of its own: for operators
// that look for, compare or sort elements.
#pragma once

#include <cstdint>

#include "edgert/cpu/strided.h"
#include "edgert/scalar/convert.h"
#include "edgert/types.h"

namespace edgert::cpu {

/// Whether elements of the type are numbers that with_element_type() knows.
constexpr bool is_ordered(DType dtype) noexcept {
  switch (dtype) {
    case DType::F32: case DType::F64: case DType::F16: case DType::BF16: case DType::I8: case DType::U8: case DType::I16:
    case DType::U16: case DType::I32: case DType::U32: case DType::I64: case DType::U64: case DType::Bool: return true;
    default: return false;
  }
}

/// Calls visit(T{}) with the type in which an element of `dtype` is stored. Other types of a byte are their bits.
template <class Visit>
auto with_element_type(DType dtype, Visit visit) noexcept {
  switch (dtype) {
    case DType::F32: return visit(float{});
    case DType::F64: return visit(double{});
    case DType::F16: return visit(scalar::Half{});
    case DType::BF16: return visit(scalar::BFloat16{});
    case DType::I8: return visit(std::int8_t{});
    case DType::I16: return visit(std::int16_t{});
    case DType::I32: return visit(std::int32_t{});
    case DType::I64: return visit(std::int64_t{});
    case DType::U16: return visit(std::uint16_t{});
    case DType::U32: return visit(std::uint32_t{});
    case DType::U64: return visit(std::uint64_t{});
    default: return visit(std::uint8_t{});
  }
}

template <class T>
constexpr T number_of(T x) noexcept {
  return x;
}
inline float number_of(scalar::Half x) noexcept { return scalar::to_float(x); }
inline float number_of(scalar::BFloat16 x) noexcept { return scalar::to_float(x); }

/// -1, 0 or 1; NaN is equal to itself and larger than every number.
template <class T>
constexpr int compare_numbers(T a, T b) noexcept {
  if (a < b) return -1;
  if (a > b) return 1;
  if (a == b) return 0;
  return (a != a ? 1 : 0) - (b != b ? 1 : 0);
}

/// Heap sort of `count` items so that before(a, b) holds for neighbours; `before` is a strict total order, so that the
/// result does not depend on how it is found. `sift` and `sort` share the heap: the item that comes last is at its top.
template <class Item, class Before>
struct Heap {
  Item* items;
  std::int64_t count;
  Before before;

  void sift(std::int64_t at) noexcept {
    const Item moving = items[at];
    for (std::int64_t child; (child = 2 * at + 1) < count; at = child) {
      if (child + 1 < count && before(items[child], items[child + 1])) ++child;
      if (!before(moving, items[child])) break;
      items[at] = items[child];
    }
    items[at] = moving;
  }
  void build() noexcept {
    for (std::int64_t at = count / 2; at-- > 0;) sift(at);
  }
  /// After build(), of at least one item: takes out the one that comes last. The heap is one shorter.
  Item take_last() noexcept {
    const Item last = items[0];
    items[0] = items[--count];
    sift(0);
    return last;
  }
  /// After build(); leaves the items sorted.
  void sort() noexcept {
    const std::int64_t all = count;
    while (count > 1) {
      const Item last = take_last();
      items[count] = last;
    }
    count = all;
  }
};
template <class Item, class Before>
Heap<Item, Before> heap_of(Item* items, std::int64_t count, Before before) noexcept {
  return {items, count, before};
}

/// A plain int64 tensor of one element.
constexpr bool is_int64_scalar(const TensorView& view) noexcept {
  return is_plain(view) && view.dtype == DType::I64 && !is_empty(view) && view.elements() == 1;
}

}  // namespace edgert::cpu
