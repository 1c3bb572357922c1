// SPDX-License-Identifier: Apache-2.0
// Softmax or LogSoftmax along one axis (ONNX opset 13 semantics), with the maximum subtracted first. With zero_hidden
// a softmax of nothing but minus infinity is all zeros instead of NaN: an attention row whose keys are all hidden.
// Inputs: x. Outputs: y, same dims. Any strides. y may lie exactly on x.
// Types: f32, f16 and bf16 (computed in float), f64.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/reduction_kernels.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

struct SoftmaxAttributes {
  std::int32_t axis;
  std::uint8_t log;
  std::uint8_t zero_hidden;  ///< Softmax only
  std::uint8_t reserved[2];
};

namespace softmax_detail {

inline constexpr std::int64_t kColumns = 64;  // neighbouring softmaxes that are computed together
inline constexpr std::int64_t kRun = 1024;    // elements of a row that one kernel call takes

/// With zero_hidden: makes a maximum of minus infinity 0, so that the exponentials are 0, and their sum then 1.
template <class T>
void unhide_maximum(T& maximum, bool zero_hidden) noexcept {
  if (zero_hidden && maximum == -static_cast<T>(scalar::infinity_f64())) maximum = T{0};
}
inline void unhide_sum(double& sum, bool zero_hidden) noexcept {
  if (zero_hidden && sum == 0.0) sum = 1.0;
}

/// One softmax of any stride and type, strip by strip; T is float or double. Operand 0 of `line` is y, 1 is x.
template <class T>
void softmax_line(const Work& work, const Nest<2>& line, std::int64_t y_offset, std::int64_t x_offset, bool logarithm,
                  bool zero_hidden) noexcept {
  const TensorView& y = work.out(0);
  const auto for_each_strip = [&](auto&& function) {
    StripReader<2> strips(line, {nullptr, &work.in(0)}, {y_offset, x_offset}, work.scratch, work.isa);
    while (strips.next()) function(strips, static_cast<const T*>(strips.values(1)), strips.size());
  };
  T maximum = -static_cast<T>(scalar::infinity_f64());
  double sum = 0.0;
  for_each_strip([&](const StripReader<2>&, const T* x, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) maximum = scalar::max(maximum, x[i]);
  });
  unhide_maximum(maximum, zero_hidden);
  for_each_strip([&](const StripReader<2>&, const T* x, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(scalar::exp(x[i] - maximum));
  });
  unhide_sum(sum, zero_hidden);
  const T divisor = static_cast<T>(sum);
  const T log_sum = static_cast<T>(scalar::log(sum));
  for_each_strip([&](const StripReader<2>& strips, const T* x, std::int64_t n) {
    T* const to = static_cast<T*>(strips.target(0, y));
    for (std::int64_t i = 0; i < n; ++i) {
      const T shifted = x[i] - maximum;
      to[i] = logarithm ? shifted - log_sum : scalar::exp(shifted) / divisor;
    }
    strips.write(0, y, to);
  });
}

/// One softmax of consecutive floats; y may be x.
inline void softmax_row(float* y, const float* x, std::int64_t extent, bool logarithm, bool zero_hidden,
                        Isa isa) noexcept {
  double maximum = -scalar::infinity_f64();
  double sum = 0.0;
  const auto for_each_run = [&](auto&& function) {
    for (std::int64_t i = 0; i < extent; i += kRun) function(i, extent - i < kRun ? extent - i : kRun);
  };
  for_each_run([&](std::int64_t i, std::int64_t n) {
    maximum = scalar::max(maximum, EDGERT_ISA_DISPATCH(isa, fold_floats(Fold::Max, x + i, n, 0.0f)));
  });
  unhide_maximum(maximum, zero_hidden);
  const float shift = static_cast<float>(maximum);
  if (logarithm) {
    for_each_run([&](std::int64_t i, std::int64_t n) {
      sum += EDGERT_ISA_DISPATCH(isa, fold_floats(Fold::Exp, x + i, n, shift));
    });
    const float log_sum = static_cast<float>(scalar::log(sum));
    EDGERT_ISA_DISPATCH(isa, subtract_run(y, x, shift, log_sum, extent));
    return;
  }
  for_each_run([&](std::int64_t i, std::int64_t n) {
    sum += EDGERT_ISA_DISPATCH(isa, exp_run(y + i, x + i, shift, n));
  });
  unhide_sum(sum, zero_hidden);
  EDGERT_ISA_DISPATCH(isa, divide_run(y, y, static_cast<float>(sum), extent));
}

/// `count` <= kColumns softmaxes whose elements are neighbours, with the axis across them; y may be x.
inline void softmax_columns(float* y, std::int64_t y_stride, const float* x, std::int64_t x_stride, std::int64_t extent,
                            std::int64_t count, bool logarithm, bool zero_hidden, void* scratch, Isa isa) noexcept {
  double* const totals = static_cast<double*>(scratch);
  float* const maxima = reinterpret_cast<float*>(totals + kColumns);
  float* const sums = maxima + kColumns;
  float* const unused = sums + kColumns;
  for (std::int64_t i = 0; i < count; ++i) {
    totals[i] = 0.0;
    maxima[i] = -scalar::infinity_f32();
  }
  for (std::int64_t row = 0; row < extent; ++row) {
    EDGERT_ISA_DISPATCH(isa, fold_columns(Fold::Max, maxima, x + row * x_stride, count));
  }
  for (std::int64_t i = 0; i < count; ++i) unhide_maximum(maxima[i], zero_hidden);
  for (std::int64_t row = 0; row < extent;) {
    for (std::int64_t i = 0; i < count; ++i) sums[i] = 0.0f;
    for (const std::int64_t end = row + 64; row < end && row < extent; ++row) {  // in float at most 64 rows
      float* const exponentials = logarithm ? unused : y + row * y_stride;
      EDGERT_ISA_DISPATCH(isa, exp_columns(exponentials, x + row * x_stride, maxima, sums, count));
    }
    for (std::int64_t i = 0; i < count; ++i) totals[i] += static_cast<double>(sums[i]);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    unhide_sum(totals[i], zero_hidden);
    sums[i] = static_cast<float>(logarithm ? scalar::log(totals[i]) : totals[i]);
  }
  for (std::int64_t row = 0; row < extent; ++row) {
    if (logarithm) {
      EDGERT_ISA_DISPATCH(isa, subtract_columns(y + row * y_stride, x + row * x_stride, maxima, sums, count));
    } else {
      EDGERT_ISA_DISPATCH(isa, divide_columns(y + row * y_stride, sums, count));
    }
  }
}

inline void run(const Work& work) noexcept {
  const TensorView& x = work.in(0);
  const TensorView& y = work.out(0);
  const SoftmaxAttributes& attributes = work.as<SoftmaxAttributes>();
  const std::uint32_t axis = static_cast<std::uint32_t>(attributes.axis);
  const bool logarithm = attributes.log != 0;
  const bool zero_hidden = attributes.zero_hidden != 0 && !logarithm;
  const std::int64_t extent = x.dims[axis];
  const std::int64_t x_stride = x.strides[axis];
  const std::int64_t y_stride = y.strides[axis];
  Nest<2> line;
  line.append(extent, {y_stride, x_stride});
  Nest<2> lines;  // operand 0 is y, 1 is x
  for (std::uint32_t d = 0; d < x.rank; ++d) {
    if (d != axis) lines.append(x.dims[d], {y.strides[d], x.strides[d]});
  }
  lines.sort();
  lines.merge();
  const bool floats = x.dtype == DType::F32;
  const bool rows = floats && ((x_stride == 1 && y_stride == 1) || extent == 1);
  if (floats && !rows && lines.inner_stride(0) == 1 && lines.inner_stride(1) == 1) {
    const std::uint32_t outer = lines.rank - 1;
    const std::int64_t columns = lines.dims[outer];
    const std::int64_t blocks = ceil_div(columns, kColumns);
    const PartRange range = part_range(lines.count / columns * blocks, work.part, work.parts);
    for (std::int64_t item = range.begin; item < range.end; ++item) {
      const Cursor<2> cursor(lines, outer, item / blocks);
      const std::int64_t first = item % blocks * kColumns;
      const std::int64_t count = columns - first < kColumns ? columns - first : kColumns;
      softmax_columns(y.as<float>() + cursor.offset(0) + first, y_stride,
                      x.as<const float>() + cursor.offset(1) + first, x_stride, extent, count, logarithm,
                      zero_hidden, work.scratch, work.isa);
    }
    return;
  }
  const PartRange range = part_range(lines.count, work.part, work.parts);
  Cursor<2> cursor(lines, lines.rank, range.begin);
  for (std::int64_t item = range.begin; item < range.end; ++item, cursor.advance()) {
    if (rows) {
      softmax_row(y.as<float>() + cursor.offset(0), x.as<const float>() + cursor.offset(1), extent, logarithm,
                  zero_hidden, work.isa);
    } else if (x.dtype == DType::F64) {
      softmax_line<double>(work, line, cursor.offset(0), cursor.offset(1), logarithm, zero_hidden);
    } else {
      softmax_line<float>(work, line, cursor.offset(0), cursor.offset(1), logarithm, zero_hidden);
    }
  }
}

}  // namespace softmax_detail

struct Softmax {
  static constexpr std::uint16_t kId = 10;
  static constexpr const char* kName = "Softmax";
  using Attributes = SoftmaxAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 1)) return wrong;
    const TensorView& x = operands.in(0);
    const std::int32_t axis = operands.as<SoftmaxAttributes>().axis;
    if (!same_dims(x, operands.out(0))) return "input and output differ in dims";
    if (x.dtype != operands.out(0).dtype) return "input and output differ in type";
    if (axis < 0 || axis >= x.rank) return "axis is outside the input's rank";
    const Arithmetic arithmetic = arithmetic_of(x.dtype);
    if (arithmetic != Arithmetic::F32 && arithmetic != Arithmetic::F64) return "type is not supported";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 2 * 8 * kStrip; }
  static Status run(const Work& work) {
    if (!is_empty(work.out(0))) softmax_detail::run(work);
    return {};
  }
};

}  // namespace edgert::cpu
