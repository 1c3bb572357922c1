// SPDX-License-Identifier: Apache-2.0
// ONNX Pad: y's extent on axis i is before[i] + x's extent + something after it. Negative pads are slices by the
// builder.
// Inputs: x. Outputs: y. Any strides, any element type of whole bytes.
#pragma once

#include <cstdint>
#include <cstring>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/ops/copy.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

enum class PadMode : std::uint8_t { Constant = 0, Reflect = 1, Edge = 2, Wrap = 3 };
struct PadAttributes {
  std::int64_t before[kMaxRank];
  std::uint8_t value[8];  ///< the bytes of one element, for Constant
  PadMode mode;
  std::uint8_t reserved[7];
  std::int64_t after[kMaxRank];  ///< only the builder's shape rule reads it
};

namespace pad_detail {

/// The input index that output index `position` - before shows; -1 for the constant. `extent` is above 0.
inline std::int64_t source_index(std::int64_t position, std::int64_t before, std::int64_t extent,
                                 PadMode mode) noexcept {
  const std::int64_t index = position - before;
  if (index >= 0 && index < extent) return index;
  switch (mode) {
    case PadMode::Constant: return -1;
    case PadMode::Edge: return index < 0 ? 0 : extent - 1;
    case PadMode::Wrap: return index >= 0 ? index % extent : extent - 1 - (-1 - index) % extent;
    case PadMode::Reflect: break;
  }
  if (extent == 1) return 0;
  const std::int64_t period = 2 * (extent - 1);
  const std::int64_t folded = (index < 0 ? -index : index) % period;
  return folded < extent ? folded : period - folded;
}

/// The dimensions in the output's memory order, all of them, since each has its own padding.
struct Axis {
  std::int64_t extent;  ///< of the output
  std::int64_t input;
  std::int64_t before;
  std::int64_t to_stride;
  std::int64_t from_stride;
};
struct Axes {
  std::uint32_t rank = 0;
  Axis axis[kMaxRank + 1] = {};
};
inline Axes axes_of(const Work& work) noexcept {
  const TensorView& x = work.in(0);
  const TensorView& y = work.out(0);
  Axes axes;
  for (std::uint32_t d = 0; d < y.rank; ++d) {
    const std::int64_t from_stride = is_empty(x) ? 0 : x.strides[d];  // an empty view's strides are not bounded
    const Axis axis = {y.dims[d], x.dims[d], work.as<PadAttributes>().before[d], y.strides[d], from_stride};
    std::uint32_t place = axes.rank++;
    for (; place > 0 && axes.axis[place - 1].to_stride < axis.to_stride; --place) {
      axes.axis[place] = axes.axis[place - 1];
    }
    axes.axis[place] = axis;
  }
  if (axes.rank == 0) axes.axis[axes.rank++] = {1, 1, 0, 1, 1};
  return axes;
}

/// One row along the innermost axis; `from` is null where an outer axis shows the constant.
template <class T>
void pad_row(const Axis& axis, T* to, const T* from, T constant, PadMode mode) noexcept {
  if (from == nullptr) return copy_detail::copy_row(to, axis.to_stride, &constant, 0, axis.extent);
  for (std::int64_t i = 0; i < axis.extent;) {
    if (i == axis.before && axis.input > 0) {
      copy_detail::copy_row(to + i * axis.to_stride, axis.to_stride, from, axis.from_stride, axis.input);
      i += axis.input;
      continue;
    }
    const std::int64_t index = axis.input > 0 ? source_index(i, axis.before, axis.input, mode) : -1;
    to[i * axis.to_stride] = index < 0 ? constant : from[index * axis.from_stride];
    ++i;
  }
}

template <class T>
void pad(const Work& work) noexcept {
  const PadAttributes& attributes = work.as<PadAttributes>();
  const Axes axes = axes_of(work);
  const Axis& inner = axes.axis[axes.rank - 1];
  T constant;
  std::memcpy(&constant, attributes.value, sizeof(T));
  std::int64_t rows = 1;
  for (std::uint32_t d = 0; d + 1 < axes.rank; ++d) rows *= axes.axis[d].extent;
  const PartRange range = part_range(rows, work.part, work.parts);
  for (std::int64_t row = range.begin; row < range.end; ++row) {
    std::int64_t rest = row;
    std::int64_t to = 0;
    std::int64_t from = 0;
    bool outside = false;
    for (std::uint32_t d = axes.rank - 1; d-- > 0;) {
      const Axis& axis = axes.axis[d];
      const std::int64_t position = rest % axis.extent;
      rest /= axis.extent;
      to += position * axis.to_stride;
      const std::int64_t index =
          axis.input > 0 ? source_index(position, axis.before, axis.input, attributes.mode) : std::int64_t{-1};
      outside = outside || index < 0;
      if (index > 0) from += index * axis.from_stride;  // the stride of a single element is not bounded
    }
    const T* const source = outside ? nullptr : static_cast<const T*>(work.in(0).data) + from;
    pad_row(inner, static_cast<T*>(work.out(0).data) + to, source, constant, attributes.mode);
  }
}

}  // namespace pad_detail

struct Pad {
  static constexpr std::uint16_t kId = 13;
  static constexpr const char* kName = "Pad";
  using Attributes = PadAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 1)) return wrong;
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    const PadAttributes& attributes = operands.as<PadAttributes>();
    if (x.dtype != y.dtype) return "input and output differ in type";
    if (x.rank != y.rank) return "input and output differ in rank";
    if (attributes.mode > PadMode::Wrap) return "unknown mode";
    for (std::uint32_t d = 0; d < x.rank; ++d) {
      if (attributes.before[d] < 0 || x.dims[d] > y.dims[d] || attributes.before[d] > y.dims[d] - x.dims[d]) {
        return "input does not lie inside the output";
      }
      if (x.dims[d] == 0 && attributes.mode != PadMode::Constant && y.dims[d] != 0) return "no element to repeat";
    }
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    switch (bytes_of(work.out(0).dtype)) {
      case 1: pad_detail::pad<Raw<std::uint8_t>>(work); break;
      case 2: pad_detail::pad<Raw<std::uint16_t>>(work); break;
      case 4: pad_detail::pad<Raw<std::uint32_t>>(work); break;
      default: pad_detail::pad<Raw<std::uint64_t>>(work); break;
    }
    return {};
  }
};

}  // namespace edgert::cpu
