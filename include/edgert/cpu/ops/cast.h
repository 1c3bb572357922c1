// SPDX-License-Identifier: Apache-2.0
// Converts elements to another type, as ONNX Cast: float to integer truncates toward zero and saturates where C++ would
// be undefined (for types narrower than a byte the low bits are kept), anything to bool is != 0, f32 to narrower
// floating point rounds to nearest even.
// Inputs: x. Outputs: y, same dims. Any strides; tensors of elements narrower than a byte are dense and row-major.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/small_strips.h"
#include "edgert/cpu/strided.h"
#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/convert.h"

namespace edgert::cpu {

namespace cast_detail {

/// How elements of any type that casts know lie in a strip.
constexpr Arithmetic lanes_of(DType type) noexcept {
  const Arithmetic small = small_arithmetic(type);
  return small != Arithmetic::None ? small : arithmetic_of(type);
}

/// Floating point saturates at the limits of `type`, of which Wide has the signedness; integers wrap when stored.
template <class Wide, class From>
Wide to_integer(From value, DType type) noexcept {
  constexpr bool kFloating = static_cast<From>(0.5) != From{0};
  if constexpr (!kFloating) {
    static_cast<void>(type);
    return static_cast<Wide>(value);
  } else {
    if (bits_of(type) < 8) return static_cast<Wide>(scalar::saturate_cast<std::int64_t>(value));
    const Wide wide = scalar::saturate_cast<Wide>(value);
    const std::uint32_t spare = 64 - bits_of(type);
    constexpr bool kSigned = static_cast<Wide>(-1) < static_cast<Wide>(1);
    const Wide highest = static_cast<Wide>((kSigned ? static_cast<Wide>(INT64_MAX) : static_cast<Wide>(-1)) >> spare);
    const Wide lowest = kSigned ? static_cast<Wide>(-highest - 1) : Wide{0};
    return wide > highest ? highest : wide < lowest ? lowest : wide;
  }
}

/// Strip of From to strip of what `type` is computed in.
template <class From, class To, class Function>
void map(const void* from, void* to, std::int64_t n, Function function) noexcept {
  for (std::int64_t i = 0; i < n; ++i) static_cast<To*>(to)[i] = function(static_cast<const From*>(from)[i]);
}
template <class From>
void convert_strip(const void* from, DType type, void* to, std::int64_t n) noexcept {
  switch (lanes_of(type)) {
    case Arithmetic::F32:
      if (type == DType::F32) return map<From, float>(from, to, n, [](From x) { return static_cast<float>(x); });
      return map<From, float>(from, to, n, [](From x) { return scalar::narrow_to_odd(static_cast<double>(x)); });
    case Arithmetic::F64: return map<From, double>(from, to, n, [](From x) { return static_cast<double>(x); });
    case Arithmetic::Signed:
      return map<From, std::int64_t>(from, to, n, [type](From x) { return to_integer<std::int64_t>(x, type); });
    case Arithmetic::Unsigned:
      return map<From, std::uint64_t>(from, to, n, [type](From x) { return to_integer<std::uint64_t>(x, type); });
    case Arithmetic::Bool:
      return map<From, std::uint8_t>(from, to, n, [](From x) { return static_cast<std::uint8_t>(x != From{0}); });
    case Arithmetic::None: return;
  }
}

inline void convert_strip(DType from_type, void* from, DType type, void* to, std::int64_t n) noexcept {
  switch (lanes_of(from_type)) {
    case Arithmetic::F32: return convert_strip<float>(from, type, to, n);
    case Arithmetic::F64: return convert_strip<double>(from, type, to, n);
    case Arithmetic::Signed: return convert_strip<std::int64_t>(from, type, to, n);
    case Arithmetic::Unsigned: return convert_strip<std::uint64_t>(from, type, to, n);
    case Arithmetic::Bool:  // any byte but 0 is true
      map<std::uint8_t, std::uint8_t>(from, from, n, [](std::uint8_t x) { return static_cast<std::uint8_t>(x != 0); });
      return convert_strip<std::uint8_t>(from, type, to, n);
    case Arithmetic::None: return;
  }
}

/// Bytes to float is how images come in, so it has a way without strips.
inline bool is_image_cast(DType from, DType to) noexcept {
  return to == DType::F32 && (from == DType::U8 || from == DType::I8);
}

}  // namespace cast_detail

struct CastAttributes {
  DType to;  ///< y's type: the builder's shape rule reads it
  /// To floating point of 8 bits: what is too large becomes infinity or NaN instead of the largest finite number.
  std::uint8_t no_saturation;
  scalar::PowerRounding rounding;  ///< to F8E8M0
  std::uint8_t reserved;
};

struct Cast {
  static constexpr std::uint16_t kId = 2;
  static constexpr const char* kName = "Cast";
  using Attributes = CastAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() != 1) return "wrong number of inputs";
    if (operands.outputs.size() != 1) return "one output expected";
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    for (const TensorView* view : {&x, &y}) {
      if (!view->present() || view->format != WeightFormat::Strided || view->rank > kMaxRank) return "operand is absent or packed";
      if (cast_detail::lanes_of(view->dtype) == Arithmetic::None) return "type of an operand is not supported";
      if (bits_of(view->dtype) < 8 && !is_dense(*view)) return "elements narrower than a byte have gaps or another order";
    }
    if (!is_writable(y)) return "output overlaps itself";
    if (!same_dims(x, y)) return "input and output differ in dims";
    if (operands.as<CastAttributes>().rounding > scalar::PowerRounding::Nearest) return "unknown rounding";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 2 * 8 * kStrip; }
  static Status run(const Work& work) {
    const TensorView& x = work.in(0);
    const TensorView& y = work.out(0);
    if (is_empty(y)) return {};
    void* const loaded = work.scratch;
    void* const converted = static_cast<unsigned char*>(work.scratch) + 8 * kStrip;
    const Nest<2> nest = elementwise_nest(y, x);
    const PartRange range = part_range(nest.count, work.part, work.parts, 64);
    const bool image =
        cast_detail::is_image_cast(x.dtype, y.dtype) && nest.inner_stride(0) == 1 && nest.inner_stride(1) == 1;
    const std::int64_t longest = image ? INT64_MAX : kStrip;
    const CastAttributes& attributes = work.as<CastAttributes>();
    const bool small_x = small_arithmetic(x.dtype) != Arithmetic::None;
    const bool small_y = small_arithmetic(y.dtype) != Arithmetic::None;
    Cursor<2> cursor(nest, nest.rank, range.begin);
    for (std::int64_t at = range.begin; at < range.end;) {
      std::int64_t n = nest.inner() - cursor.innermost();
      if (n > range.end - at) n = range.end - at;
      if (n > longest) n = longest;
      if (image) {
        float* const to = static_cast<float*>(y.data) + cursor.offset(0);
        const void* const from = element_at(x.data, cursor.offset(1), x.dtype);
        EDGERT_ISA_DISPATCH(work.isa, strip_bytes_to_float(to, from, n, x.dtype == DType::I8));
      } else {
        if (small_x) {
          load_small_strip(x.dtype, loaded, x.data, cursor.offset(1), nest.inner_stride(1), n);
        } else {
          load_strip(x.dtype, loaded, element_at(x.data, cursor.offset(1), x.dtype), nest.inner_stride(1), n, work.isa);
        }
        cast_detail::convert_strip(x.dtype, loaded, y.dtype, converted, n);
        if (small_y) {
          store_small_strip(y.dtype, y.data, cursor.offset(0), nest.inner_stride(0), converted, n, attributes.rounding,
                            attributes.no_saturation == 0);
        } else {
          store_strip(y.dtype, element_at(y.data, cursor.offset(0), y.dtype), nest.inner_stride(0), converted, n, work.isa);
        }
      }
      cursor.advance(n);
      at += n;
    }
    return {};
  }
};

}  // namespace edgert::cpu
