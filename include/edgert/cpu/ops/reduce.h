// SPDX-License-Identifier: Apache-2.0
// Reduces some axes to extent 1, as the ONNX Reduce* family with keepdims = 1; an empty set of elements gives ONNX's
// neutral element (Max: lowest, Min: highest, Sum-like: 0, Prod: 1).
// Inputs: x. Outputs: y, same rank and type, extent 1 on the reduced axes. Any strides.
// Float sums run in float over a thousand elements at most and in double beyond; integers wrap. The mean of no elements
// is NaN, or 0 for integers.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/reduction_kernels.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

enum class ReduceKind : std::uint8_t {
  Sum = 0, Mean = 1, Max = 2, Min = 3, Prod = 4, L1 = 5, L2 = 6, LogSum = 7, LogSumExp = 8, SumSquare = 9
};
struct ReduceAttributes {
  std::uint32_t axes;  ///< bit i: axis i is reduced
  ReduceKind kind;
  std::uint8_t reserved[3];
};

namespace reduce_detail {

inline constexpr std::int64_t kColumns = 128;  // neighbouring outputs that are reduced together
inline constexpr std::int64_t kRowsInFloat = 64;

constexpr Fold fold_of(ReduceKind kind) noexcept {
  switch (kind) {
    case ReduceKind::Max: return Fold::Max;
    case ReduceKind::Min: return Fold::Min;
    case ReduceKind::Prod: return Fold::Product;
    case ReduceKind::L1: return Fold::Abs;
    case ReduceKind::L2: case ReduceKind::SumSquare: return Fold::Square;
    case ReduceKind::LogSumExp: return Fold::Exp;
    case ReduceKind::Sum: case ReduceKind::Mean: case ReduceKind::LogSum: break;
  }
  return Fold::Sum;
}

/// What the fold of no elements is.
template <class T>
T neutral(Fold fold) noexcept {
  constexpr bool kSigned = static_cast<T>(-1) < static_cast<T>(1);
  if (fold == Fold::Product) return T{1};
  if (fold != Fold::Max && fold != Fold::Min) return T{0};
  if constexpr (static_cast<T>(0.5) != T{0}) {
    return fold == Fold::Max ? -scalar::infinity_f64() : scalar::infinity_f64();
  } else {
    const T highest = static_cast<T>(kSigned ? INT64_MAX : -1);
    return fold == Fold::Max ? static_cast<T>(~highest) : highest;
  }
}
template <class T>
T combine(Fold fold, T a, T b) noexcept {
  if constexpr (static_cast<T>(0.5) != T{0}) {
    if (fold == Fold::Max) return scalar::max(a, b);
    if (fold == Fold::Min) return scalar::min(a, b);
    return fold == Fold::Product ? a * b : a + b;
  } else {
    if (fold == Fold::Max) return a > b ? a : b;
    if (fold == Fold::Min) return a < b ? a : b;
    const std::uint64_t x = static_cast<std::uint64_t>(a);
    const std::uint64_t y = static_cast<std::uint64_t>(b);
    return static_cast<T>(fold == Fold::Product ? x * y : x + y);
  }
}

/// Folds of strips of double and of integers.
inline double fold_values(Fold fold, const double* x, std::int64_t n, double shift) noexcept {
  double result = neutral<double>(fold);
  for (std::int64_t i = 0; i < n; ++i) {
    double value = x[i];
    if (fold == Fold::Abs) value = scalar::abs(value);
    if (fold == Fold::Square) value = value * value;
    if (fold == Fold::Exp) value = scalar::exp(value - shift);
    if (fold == Fold::SquareDifference) value = (value - shift) * (value - shift);
    result = combine(fold, result, value);
  }
  return result;
}
template <class T>
T fold_integers(Fold fold, const T* x, std::int64_t n) noexcept {
  constexpr bool kSigned = static_cast<T>(-1) < static_cast<T>(1);
  T result = neutral<T>(fold);
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint64_t value = static_cast<std::uint64_t>(x[i]);
    if (fold == Fold::Abs && kSigned && value >> 63 != 0) value = 0 - value;
    if (fold == Fold::Square) value = value * value;
    result = combine(fold, result, static_cast<T>(value));
  }
  return result;
}
/// The fold of a strip of float or double.
inline double fold_strip(Arithmetic arithmetic, Fold fold, const void* x, std::int64_t n, double shift,
                         Isa isa) noexcept {
  if (arithmetic == Arithmetic::F64) return fold_values(fold, static_cast<const double*>(x), n, shift);
  return EDGERT_ISA_DISPATCH(isa, fold_floats(fold, static_cast<const float*>(x), n, static_cast<float>(shift)));
}

/// What a floating-point fold becomes in the end.
inline double finish(ReduceKind kind, double value, std::int64_t count, double shift) noexcept {
  switch (kind) {
    case ReduceKind::Mean: return count == 0 ? scalar::nan_f64() : value / static_cast<double>(count);
    case ReduceKind::L2: return scalar::sqrt(value);
    case ReduceKind::LogSum: return scalar::log(value);
    case ReduceKind::LogSumExp: return scalar::log(value) + shift;
    default: return value;
  }
}
template <class T>
T finish_integer(ReduceKind kind, T value, std::int64_t count) noexcept {
  if (kind == ReduceKind::Mean) return count == 0 ? T{0} : static_cast<T>(value / static_cast<T>(count));
  if (kind == ReduceKind::L2) return scalar::saturate_cast<T>(scalar::sqrt(static_cast<double>(value)));
  if (kind == ReduceKind::LogSum) return scalar::saturate_cast<T>(scalar::log(static_cast<double>(value)));
  return value;
}

/// One part's reduction. Operand 0 of the nests is x, operand 1 is y.
class Reducer {
 public:
  explicit Reducer(const Work& work) noexcept : work_(work), x_(work.in(0)), y_(work.out(0)) {
    const ReduceAttributes& attributes = work.as<ReduceAttributes>();
    kind_ = attributes.kind;
    for (std::uint32_t d = 0; d < x_.rank; ++d) {
      const std::int64_t stride = is_empty(x_) ? 0 : x_.strides[d];  // an empty view's strides are not bounded
      if (has_axis(attributes.axes, d)) {
        reduced_.append(x_.dims[d], {stride});
      } else {
        kept_.append(x_.dims[d], {stride, y_.strides[d]});
      }
    }
    if (x_.dtype == DType::Bool) x_.dtype = y_.dtype = DType::U8;
    arithmetic_ = arithmetic_of(x_.dtype);
    if (reduced_.count == 0) return;
    kept_.sort();
    kept_.merge();
    reduced_.sort();
    reduced_.merge();
  }

  void run() noexcept {
    const bool floats = x_.dtype == DType::F32 && kind_ != ReduceKind::LogSumExp;
    if (floats && kept_.inner_stride(0) == 1 && kept_.inner() >= 8 && reduced_.inner_stride(0) != 1) {
      return run_columns();
    }
    const PartRange range = part_range(kept_.count, work_.part, work_.parts);
    Cursor<2> cursor(kept_, kept_.rank, range.begin);
    for (std::int64_t i = range.begin; i < range.end; ++i, cursor.advance()) {
      void* const to = element_at(y_.data, cursor.offset(1), y_.dtype);
      switch (arithmetic_) {
        case Arithmetic::F32: {
          const double value = reduce_floating(cursor.offset(0));
          float* const strip = static_cast<float*>(work_.scratch);  // free again
          *strip = static_cast<float>(value);
          store_strip(y_.dtype, to, 1, strip, 1, work_.isa);
          break;
        }
        case Arithmetic::F64: *static_cast<double*>(to) = reduce_floating(cursor.offset(0)); break;
        case Arithmetic::Signed: store_integer<std::int64_t>(to, cursor.offset(0)); break;
        default: store_integer<std::uint64_t>(to, cursor.offset(0)); break;
      }
    }
  }

 private:
  double fold(Fold fold, std::int64_t base, double shift) noexcept {
    StripReader<1> strips(reduced_, {&x_}, {base}, work_.scratch, work_.isa);
    double result = neutral<double>(fold);
    while (strips.next()) {
      result = combine(fold, result, fold_strip(arithmetic_, fold, strips.values(0), strips.size(), shift, work_.isa));
    }
    return result;
  }
  double reduce_floating(std::int64_t base) noexcept {
    double shift = 0.0;
    if (kind_ == ReduceKind::LogSumExp) {
      shift = fold(Fold::Max, base, 0.0);
      if (!(scalar::abs(shift) < scalar::infinity_f64())) shift = 0.0;
    }
    return finish(kind_, fold(fold_of(kind_), base, shift), reduced_.count, shift);
  }
  template <class T>
  void store_integer(void* to, std::int64_t base) noexcept {
    StripReader<1> strips(reduced_, {&x_}, {base}, work_.scratch, work_.isa);
    T value = neutral<T>(fold_of(kind_));
    while (strips.next()) {
      value = combine(fold_of(kind_), value,
                      fold_integers(fold_of(kind_), static_cast<const T*>(strips.values(0)), strips.size()));
    }
    if (reduced_.count == 0) value = limit_to_type(value);
    value = finish_integer(kind_, value, reduced_.count);
    store_strip(y_.dtype, to, 1, &value, 1, work_.isa);
  }
  /// The extremes of 64 bits as those of y's type.
  template <class T>
  T limit_to_type(T value) const noexcept {
    const std::uint32_t spare = 64 - bits_of(y_.dtype);
    return kind_ == ReduceKind::Max || kind_ == ReduceKind::Min ? static_cast<T>(value >> spare) : value;
  }

  /// Outputs that are neighbours in x as well, up to kColumns at a time.
  void run_columns() noexcept {
    const std::uint32_t outer = kept_.rank - 1;
    const std::int64_t columns = kept_.dims[outer];
    const std::int64_t blocks = ceil_div(columns, kColumns);
    const PartRange range = part_range(kept_.count / columns * blocks, work_.part, work_.parts);
    Cursor<2> cursor(kept_, outer, range.begin / blocks);
    std::int64_t block = range.begin % blocks;
    for (std::int64_t item = range.begin; item < range.end; ++item) {
      const std::int64_t first = block * kColumns;
      const std::int64_t count = columns - first < kColumns ? columns - first : kColumns;
      reduce_columns(x_.as<const float>() + cursor.offset(0) + first,
                     y_.as<float>() + cursor.offset(1) + first * kept_.strides[1][outer], kept_.strides[1][outer],
                     count);
      if (++block == blocks) {
        block = 0;
        cursor.advance();
      }
    }
  }
  void reduce_columns(const float* x, float* y, std::int64_t y_stride, std::int64_t count) noexcept {
    double* const totals = static_cast<double*>(work_.scratch);
    float* const partial = reinterpret_cast<float*>(totals + kColumns);
    const Fold fold = fold_of(kind_);
    for (std::int64_t i = 0; i < count; ++i) totals[i] = neutral<double>(fold);
    Cursor<1> cursor(reduced_, reduced_.rank, 0);
    for (std::int64_t row = 0; row < reduced_.count;) {
      for (std::int64_t i = 0; i < count; ++i) partial[i] = static_cast<float>(neutral<double>(fold));
      for (std::int64_t end = row + kRowsInFloat; row < end && row < reduced_.count; ++row, cursor.advance()) {
        EDGERT_ISA_DISPATCH(work_.isa, fold_columns(fold, partial, x + cursor.offset(0), count));
      }
      for (std::int64_t i = 0; i < count; ++i) totals[i] = combine(fold, totals[i], static_cast<double>(partial[i]));
    }
    for (std::int64_t i = 0; i < count; ++i) {
      y[i * y_stride] = static_cast<float>(finish(kind_, totals[i], reduced_.count, 0.0));
    }
  }

  const Work& work_;
  TensorView x_;
  TensorView y_;
  ReduceKind kind_ = ReduceKind::Sum;
  Arithmetic arithmetic_ = Arithmetic::None;
  Nest<2> kept_;
  Nest<1> reduced_;
};

}  // namespace reduce_detail

struct Reduce {
  static constexpr std::uint16_t kId = 8;
  static constexpr const char* kName = "Reduce";
  using Attributes = ReduceAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 1)) return wrong;
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    const ReduceAttributes& attributes = operands.as<ReduceAttributes>();
    if (x.dtype != y.dtype) return "input and output differ in type";
    if (x.rank != y.rank) return "input and output differ in rank";
    if (attributes.kind > ReduceKind::SumSquare) return "unknown kind of reduction";
    if (attributes.axes >> x.rank != 0) return "axis is outside the input's rank";
    const Arithmetic arithmetic = arithmetic_of(x.dtype);
    const bool extreme = attributes.kind == ReduceKind::Max || attributes.kind == ReduceKind::Min;
    if (arithmetic == Arithmetic::None || (arithmetic == Arithmetic::Bool && !extreme)) return "type is not supported";
    const bool floating = arithmetic == Arithmetic::F32 || arithmetic == Arithmetic::F64;
    if (attributes.kind == ReduceKind::LogSumExp && !floating) return "LogSumExp of integers";
    std::int64_t count = 1;
    for (std::uint32_t d = 0; d < x.rank; ++d) {
      const bool reduced = has_axis(attributes.axes, d);
      if (y.dims[d] != (reduced ? 1 : x.dims[d])) return "output's dims do not follow from the input's";
      // An input with an extent of 0 elsewhere has no bound on its other extents.
      if (reduced && __builtin_mul_overflow(count, x.dims[d], &count)) return "too many elements";
    }
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) {
    constexpr std::uint64_t kColumnBytes = reduce_detail::kColumns * (8 + 4);
    return kColumnBytes > 8 * kStrip ? kColumnBytes : 8 * kStrip;
  }
  static Status run(const Work& work) {
    if (!is_empty(work.out(0))) reduce_detail::Reducer(work).run();
    return {};
  }
};

}  // namespace edgert::cpu
