// SPDX-License-Identifier: Apache-2.0
// Max and average pooling over the last two of four dimensions.
// Inputs: x [N, C, H, W]. Outputs: y [N, C, OH, OW]. Any strides, fast when both have stride 1 along C.
// Padding never wins a maximum. An average divides by the window's elements inside the image, or, with
// count_include_pad, inside the image and its declared padding (ONNX AveragePool).
// A window without any element gives the lowest value, or an average of 0. Types: f32, f16, bf16, f64; maximum also
// integers. A maximum ignores NaN unless a window holds nothing else but lowest values.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/window_kernels.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/convert.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

enum class PoolKind : std::uint8_t { Max = 0, Average = 1 };
struct PoolAttributes {
  std::int32_t kernel[2];
  std::int32_t stride[2];
  std::int32_t dilation[2];
  std::int32_t pad_begin[2];
  std::int32_t pad_end[2];
  PoolKind kind;
  std::uint8_t count_include_pad;
  std::uint8_t ceil_mode;  ///< only the builder's shape rule reads it
  std::uint8_t reserved;
};

namespace pool_detail {

/// The part of a window that lies inside the image, along one axis.
struct Taps {
  std::int64_t first;     ///< of the kernel's elements
  std::int64_t count;     ///< 0: none
  std::int64_t position;  ///< in the input, of the first
  std::int64_t padded;    ///< elements inside the image or its declared padding
};
inline Taps taps_at(const PoolAttributes& attributes, int axis, std::int64_t out, std::int64_t extent) noexcept {
  const std::int64_t kernel = attributes.kernel[axis];
  const std::int64_t dilation = attributes.dilation[axis];
  const std::int64_t start = out * attributes.stride[axis] - attributes.pad_begin[axis];
  const auto below = [&](std::int64_t limit) {  // how many of the kernel's elements lie before `limit`
    if (limit <= start) return std::int64_t{0};
    const std::int64_t count = ceil_div(limit - start, dilation);
    return count < kernel ? count : kernel;
  };
  const std::int64_t first = below(0);
  const std::int64_t end = below(extent);
  return {first, end - first, start + first * dilation, below(extent + attributes.pad_end[axis])};
}

/// Whether positions along an axis can be computed without overflow.
inline bool fits(const PoolAttributes& attributes, int axis, std::int64_t outputs, std::int64_t extent) noexcept {
  std::int64_t reach = 0;
  std::int64_t window = 0;
  return !__builtin_mul_overflow(outputs, static_cast<std::int64_t>(attributes.stride[axis]), &reach) &&
         !__builtin_mul_overflow(static_cast<std::int64_t>(attributes.kernel[axis]),
                                 static_cast<std::int64_t>(attributes.dilation[axis]), &window) &&
         reach <= INT64_MAX / 8 && window <= INT64_MAX / 8 && extent <= INT64_MAX / 8;
}

inline float value_of(scalar::Half x) noexcept { return scalar::to_float(x); }
inline float value_of(scalar::BFloat16 x) noexcept { return scalar::to_float(x); }
template <class T>
T value_of(T x) noexcept {
  return x;
}
inline void assign(scalar::Half& to, float x) noexcept { to = scalar::to_half(x); }
inline void assign(scalar::BFloat16& to, float x) noexcept { to = scalar::to_bfloat16(x); }
template <class T>
void assign(T& to, T x) noexcept {
  to = x;
}
/// What a maximum starts from.
template <class T>
T lowest() noexcept {
  if constexpr (static_cast<T>(0.5) != T{0}) {
    return -static_cast<T>(scalar::infinity_f64());
  } else {
    constexpr bool kSigned = static_cast<T>(-1) < static_cast<T>(1);
    return kSigned ? static_cast<T>(std::uint64_t{1} << (8 * sizeof(T) - 1)) : T{0};
  }
}

/// One output element from anywhere.
template <class Element>
void pool_element(Element& y, const Element* x, const Window& window, bool maximum, std::int64_t divisor) noexcept {
  using Value = decltype(value_of(Element{}));
  Value best = lowest<Value>();
  double sum = 0.0;
  for (std::int64_t row = 0; row < window.rows; ++row) {
    for (std::int64_t column = 0; column < window.columns; ++column) {
      const Value value = value_of(x[row * window.row_stride + column * window.column_stride]);
      if (maximum) {
        best = value > best ? value : best;
      } else {
        sum += static_cast<double>(value);
      }
    }
  }
  const double average = divisor == 0 ? 0.0 : sum / static_cast<double>(divisor);
  assign(y, maximum ? best : static_cast<Value>(average));
}

/// Calls function(y offset, x offset of the window's first element, window, divisor) for each of the part's positions,
/// which are (n, oh, ow), or (n, c, oh, ow) with `channels`.
template <class Function>
void for_each_window(const Work& work, bool channels, Function function) noexcept {
  const PoolAttributes& attributes = work.as<PoolAttributes>();
  const TensorView& x = work.in(0);
  const TensorView& y = work.out(0);
  const std::int64_t planes = y.dims[0] * (channels ? y.dims[1] : 1);
  const PartRange range = part_range(planes * y.dims[2], work.part, work.parts);
  for (std::int64_t line = range.begin; line < range.end; ++line) {
    const std::int64_t oh = line % y.dims[2];
    const std::int64_t plane = line / y.dims[2];
    const std::int64_t n = channels ? plane / y.dims[1] : plane;
    const std::int64_t c = channels ? plane % y.dims[1] : 0;
    const Taps rows = taps_at(attributes, 0, oh, x.dims[2]);
    for (std::int64_t ow = 0; ow < y.dims[3]; ++ow) {
      const Taps columns = taps_at(attributes, 1, ow, x.dims[3]);
      const bool empty = rows.count == 0 || columns.count == 0;
      // Strides matter, and are bounded, only where there is more than one element.
      const Window window = {empty ? 0 : rows.count, empty ? 0 : columns.count,
                             rows.count > 1 ? x.strides[2] * attributes.dilation[0] : 0,
                             columns.count > 1 ? x.strides[3] * attributes.dilation[1] : 0};
      const std::int64_t inside =
          attributes.count_include_pad != 0 ? rows.padded * columns.padded : window.rows * window.columns;
      const std::int64_t from = empty ? 0
                                      : n * x.strides[0] + c * x.strides[1] + rows.position * x.strides[2] +
                                            columns.position * x.strides[3];
      function(n * y.strides[0] + c * y.strides[1] + oh * y.strides[2] + ow * y.strides[3], from, window, inside);
    }
  }
}

template <class Element>
void pool_elements(const Work& work) noexcept {
  Element* const y = work.out(0).as<Element>();
  const Element* const x = work.in(0).as<const Element>();
  const bool maximum = work.as<PoolAttributes>().kind == PoolKind::Max;
  for_each_window(work, true, [&](std::int64_t to, std::int64_t from, const Window& window, std::int64_t inside) {
    pool_element(y[to], x + from, window, maximum, inside);
  });
}

inline void pool_channels_last(const Work& work) noexcept {
  float* const y = work.out(0).as<float>();
  const float* const x = work.in(0).as<const float>();
  const std::int64_t channels = work.out(0).dims[1];
  const bool maximum = work.as<PoolAttributes>().kind == PoolKind::Max;
  for_each_window(work, false, [&](std::int64_t to, std::int64_t from, const Window& window, std::int64_t inside) {
    const float divisor = inside == 0 ? 1.0f : static_cast<float>(inside);
    EDGERT_ISA_DISPATCH(work.isa, pool_position(maximum, y + to, x + from, window, divisor, channels));
  });
}

}  // namespace pool_detail

struct Pool {
  static constexpr std::uint16_t kId = 7;
  static constexpr const char* kName = "Pool";
  using Attributes = PoolAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 1)) return wrong;
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    const PoolAttributes& attributes = operands.as<PoolAttributes>();
    if (x.rank != 4 || y.rank != 4) return "input or output is not of rank 4";
    if (x.dtype != y.dtype) return "input and output differ in type";
    if (x.dims[0] != y.dims[0] || x.dims[1] != y.dims[1]) return "input and output differ in batch or channels";
    if (attributes.kind > PoolKind::Average) return "unknown kind of pooling";
    const bool floating =
        x.dtype == DType::F32 || x.dtype == DType::F64 || x.dtype == DType::F16 || x.dtype == DType::BF16;
    if (attributes.kind == PoolKind::Average && !floating) return "average of integers";
    if (x.dtype == DType::Bool) return "type is not supported";
    for (int axis = 0; axis < 2; ++axis) {
      if (attributes.kernel[axis] < 1 || attributes.stride[axis] < 1 || attributes.dilation[axis] < 1) {
        return "kernel, stride or dilation below 1";
      }
      if (attributes.pad_begin[axis] < 0 || attributes.pad_end[axis] < 0) return "negative padding";
      if (!pool_detail::fits(attributes, axis, y.dims[2 + axis], x.dims[2 + axis])) return "extents are too large";
    }
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }
  static Status run(const Work& work) {
    const TensorView& x = work.in(0);
    if (is_empty(work.out(0))) return {};
    const bool channels_last = x.strides[1] == 1 && work.out(0).strides[1] == 1;
    switch (x.dtype) {
      case DType::F32:
        if (channels_last) {
          pool_detail::pool_channels_last(work);
        } else {
          pool_detail::pool_elements<float>(work);
        }
        break;
      case DType::F64: pool_detail::pool_elements<double>(work); break;
      case DType::F16: pool_detail::pool_elements<scalar::Half>(work); break;
      case DType::BF16: pool_detail::pool_elements<scalar::BFloat16>(work); break;
      case DType::I8: pool_detail::pool_elements<std::int8_t>(work); break;
      case DType::U8: pool_detail::pool_elements<std::uint8_t>(work); break;
      case DType::I16: pool_detail::pool_elements<std::int16_t>(work); break;
      case DType::U16: pool_detail::pool_elements<std::uint16_t>(work); break;
      case DType::I32: pool_detail::pool_elements<std::int32_t>(work); break;
      case DType::U32: pool_detail::pool_elements<std::uint32_t>(work); break;
      case DType::I64: pool_detail::pool_elements<std::int64_t>(work); break;
      case DType::U64: pool_detail::pool_elements<std::uint64_t>(work); break;
      default: break;
    }
    return {};
  }
};

}  // namespace edgert::cpu
