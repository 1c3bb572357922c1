// SPDX-License-Identifier: Apache-2.0
// ONNX NonZero: the coordinates of all elements that are not zero, in row-major order. NaN is not zero, -0 is.
// Inputs: x. Outputs: indices int64 [rank, most], of which `count` columns are written; count int64, one element.
// Any strides, any element type of whole bytes. Runs in one part.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/ordered_elements.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

namespace non_zero_detail {

template <class T>
std::int64_t find(const TensorView& x, const TensorView& indices) noexcept {
  std::int64_t* const out = indices.as<std::int64_t>();
  std::int64_t index[kMaxRank] = {};
  std::int64_t offset = 0;
  std::int64_t found = 0;
  for (;;) {
    if (number_of(x.as<const T>()[offset]) != 0) {
      for (std::uint32_t d = 0; d < x.rank; ++d) out[d * indices.strides[0] + found * indices.strides[1]] = index[d];
      ++found;
    }
    std::uint32_t d = x.rank;
    for (;; --d) {
      if (d == 0) return found;
      if (x.dims[d - 1] == 1) continue;  // its stride is of no account and may be anything
      offset += x.strides[d - 1];
      if (++index[d - 1] < x.dims[d - 1]) break;
      offset -= x.dims[d - 1] * x.strides[d - 1];
      index[d - 1] = 0;
    }
  }
}

}  // namespace non_zero_detail

struct NonZero {
  static constexpr std::uint16_t kId = 40;
  static constexpr const char* kName = "NonZero";
  using Attributes = NoAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() != 1 || operands.outputs.size() != 2) return "one input and two outputs expected";
    const TensorView& x = operands.in(0);
    const TensorView& indices = operands.out(0);
    if (!is_plain(x) || !is_ordered(x.dtype)) return "input is absent or packed, or its type is not supported";
    if (!is_plain(indices) || indices.dtype != DType::I64 || indices.rank != 2 || !is_writable(indices)) {
      return "the first output is no int64 matrix";
    }
    if (!is_int64_scalar(operands.out(1))) return "the second output is no int64 scalar";
    if (indices.dims[0] != x.rank || indices.dims[1] < (is_empty(x) ? 0 : x.elements())) {
      return "the first output has no place for every element";
    }
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    if (work.part != 0) return {};
    const TensorView& x = work.in(0);
    std::int64_t found = 0;
    if (!is_empty(x)) {
      found = with_element_type(x.dtype, [&](auto type) {
        return non_zero_detail::find<decltype(type)>(x, work.out(0));
      });
    }
    *work.out(1).as<std::int64_t>() = found;
    return {};
  }
};

}  // namespace edgert::cpu
