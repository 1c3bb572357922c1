// SPDX-License-Identifier: Apache-2.0
// ONNX ArgMax and ArgMin with keepdims = 1.
// Inputs: x. Outputs: y int64, extent 1 on `axis`. Any strides.
// NaN counts as larger than everything for ArgMax and as smaller for ArgMin, as in numpy.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/cpu/strip_io.h"

namespace edgert::cpu {

struct ArgReduceAttributes {
  std::int32_t axis;
  std::uint8_t minimum;      ///< 1: ArgMin
  std::uint8_t select_last;  ///< of equal elements the last, else the first
  std::uint8_t reserved[2];
};

namespace arg_reduce_detail {

/// The best element so far; goes through strips in order.
template <class T>
struct Search {
  bool minimum;
  bool select_last;
  T best;
  std::int64_t index;

  void look_at(const T* x, std::int64_t n, std::int64_t first) noexcept {
    for (std::int64_t i = 0; i < n; ++i) {
      const bool is_nan = x[i] != x[i];
      const bool best_is_nan = best != best;
      const bool better = is_nan ? !best_is_nan : !best_is_nan && (minimum ? x[i] < best : x[i] > best);
      const bool equal = is_nan ? best_is_nan : x[i] == best;
      if (better || (equal && select_last)) {
        best = x[i];
        index = first + i;
      }
    }
  }
};

template <class T>
void arg_reduce(const Work& work, const TensorView& x) noexcept {
  const ArgReduceAttributes& attributes = work.as<ArgReduceAttributes>();
  const TensorView& y = work.out(0);
  const std::uint32_t axis = static_cast<std::uint32_t>(attributes.axis);
  Nest<2> kept;
  for (std::uint32_t d = 0; d < x.rank; ++d) {
    if (d != axis) kept.append(x.dims[d], {y.strides[d], x.strides[d]});
  }
  kept.sort();
  kept.merge();
  Nest<1> line;
  line.append(x.dims[axis], {x.strides[axis]});
  const PartRange range = part_range(kept.count, work.part, work.parts);
  Cursor<2> cursor(kept, kept.rank, range.begin);
  for (std::int64_t item = range.begin; item < range.end; ++item, cursor.advance()) {
    StripReader<1> strips(line, {&x}, {cursor.offset(1)}, work.scratch, work.isa);
    Search<T> search = {attributes.minimum != 0, attributes.select_last != 0, T{0}, 0};
    std::int64_t seen = 0;
    while (strips.next()) {
      const T* const values = static_cast<const T*>(strips.values(0));
      if (seen == 0) search.best = values[0];
      search.look_at(values, strips.size(), seen);
      seen += strips.size();
    }
    y.as<std::int64_t>()[cursor.offset(0)] = search.index;
  }
}

}  // namespace arg_reduce_detail

struct ArgReduce {
  static constexpr std::uint16_t kId = 9;
  static constexpr const char* kName = "ArgReduce";
  using Attributes = ArgReduceAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 1)) return wrong;
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    const std::int32_t axis = operands.as<ArgReduceAttributes>().axis;
    if (y.dtype != DType::I64) return "output is not int64";
    if (x.rank != y.rank) return "input and output differ in rank";
    if (axis < 0 || axis >= x.rank) return "axis is outside the input's rank";
    if (arithmetic_of(x.dtype) == Arithmetic::None) return "type is not supported";
    for (std::int32_t d = 0; d < x.rank; ++d) {
      if (y.dims[d] != (d == axis ? 1 : x.dims[d])) return "output's dims do not follow from the input's";
    }
    if (x.dims[axis] == 0 && !is_empty(y)) return "no element to choose";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 8 * kStrip; }
  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    TensorView x = work.in(0);
    if (x.dtype == DType::Bool) x.dtype = DType::U8;
    switch (arithmetic_of(x.dtype)) {
      case Arithmetic::F32: arg_reduce_detail::arg_reduce<float>(work, x); break;
      case Arithmetic::F64: arg_reduce_detail::arg_reduce<double>(work, x); break;
      case Arithmetic::Signed: arg_reduce_detail::arg_reduce<std::int64_t>(work, x); break;
      default: arg_reduce_detail::arg_reduce<std::uint64_t>(work, x); break;
    }
    return {};
  }
};

}  // namespace edgert::cpu
