// SPDX-License-Identifier: Apache-2.0
// ONNX Gather: y[i..., j..., k...] = data[i..., indices[j...], k...]; a negative index counts from the end. An index
// out of range is Error::IndexOutOfRange and nothing is read there.
// Inputs: data; indices int32 or int64. Outputs: y. Any strides, any element type of whole bytes.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/ops/copy.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

struct GatherAttributes {
  std::int32_t axis;
  std::uint32_t reserved;
};

namespace gather_detail {

inline std::int64_t index_at(const TensorView& indices, std::int64_t offset) noexcept {
  return indices.dtype == DType::I32 ? indices.as<const std::int32_t>()[offset]
                                     : indices.as<const std::int64_t>()[offset];
}

/// Operands of the walk over everything but the inner block.
enum { kOutput = 0, kData = 1, kIndices = 2 };

/// The dims of y: those of data before the axis, those of the indices, those of data after it. `outer` gets the first
/// two groups, `inner` the last.
inline void build_nests(const Work& work, std::uint32_t axis, Nest<3>& outer, Nest<2>& inner) noexcept {
  const TensorView& data = work.in(0);
  const TensorView& indices = work.in(1);
  const TensorView& y = work.out(0);
  for (std::uint32_t d = 0; d < y.rank; ++d) {
    if (d < axis) {
      outer.append(y.dims[d], {y.strides[d], data.strides[d], 0});
    } else if (d < axis + indices.rank) {
      outer.append(y.dims[d], {y.strides[d], 0, indices.strides[d - axis]});
    } else {
      inner.append(y.dims[d], {y.strides[d], data.strides[d - indices.rank + 1]});
    }
  }
  outer.sort();
  outer.merge();
  inner.sort();
  inner.merge();
}

template <class T>
Status gather(const Work& work) noexcept {
  const TensorView& data = work.in(0);
  const TensorView& y = work.out(0);
  const std::uint32_t axis = static_cast<std::uint32_t>(work.as<GatherAttributes>().axis);
  if (is_empty(data)) return Error::IndexOutOfRange;
  Nest<3> outer;
  Nest<2> inner;
  build_nests(work, axis, outer, inner);
  const std::int64_t extent = data.dims[axis];
  const PartRange range = part_range(outer.count, work.part, work.parts);
  Cursor<3> cursor(outer, outer.rank, range.begin);
  for (std::int64_t item = range.begin; item < range.end; ++item, cursor.advance()) {
    std::int64_t index = index_at(work.in(1), cursor.offset(kIndices));
    if (index < 0) index += extent;
    if (index < 0 || index >= extent) return Error::IndexOutOfRange;
    T* const to = static_cast<T*>(y.data) + cursor.offset(kOutput);
    const T* const from = static_cast<const T*>(data.data) + cursor.offset(kData) + index * data.strides[axis];
    Cursor<2> row(inner, inner.rank, 0);
    for (std::int64_t done = 0; done < inner.count; done += inner.inner(), row.advance(inner.inner())) {
      copy_detail::copy_row(to + row.offset(0), inner.inner_stride(0), from + row.offset(1), inner.inner_stride(1),
                            inner.inner());
    }
  }
  return {};
}

}  // namespace gather_detail

struct Gather {
  static constexpr std::uint16_t kId = 12;
  static constexpr const char* kName = "Gather";
  using Attributes = GatherAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 2)) return wrong;
    const TensorView& data = operands.in(0);
    const TensorView& indices = operands.in(1);
    const TensorView& y = operands.out(0);
    const std::int32_t axis = operands.as<GatherAttributes>().axis;
    if (axis < 0 || axis >= data.rank) return "axis is outside data's rank";
    if (indices.dtype != DType::I32 && indices.dtype != DType::I64) return "indices are neither int32 nor int64";
    if (data.dtype != y.dtype) return "data and output differ in type";
    if (y.rank != data.rank - 1 + indices.rank) return "output's rank does not follow from data and indices";
    for (std::int32_t d = 0; d < y.rank; ++d) {
      const bool before = d < axis;
      const bool indexed = !before && d < axis + indices.rank;
      const std::int64_t expected =
          before ? data.dims[d] : indexed ? indices.dims[d - axis] : data.dims[d - indices.rank + 1];
      if (y.dims[d] != expected) return "output's dims do not follow from data and indices";
    }
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    switch (bytes_of(work.out(0).dtype)) {
      case 1: return gather_detail::gather<Raw<std::uint8_t>>(work);
      case 2: return gather_detail::gather<Raw<std::uint16_t>>(work);
      case 4: return gather_detail::gather<Raw<std::uint32_t>>(work);
      default: return gather_detail::gather<Raw<std::uint64_t>>(work);
    }
  }
};

}  // namespace edgert::cpu
