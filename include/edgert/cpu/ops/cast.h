// SPDX-License-Identifier: Apache-2.0
// Converts elements to another type, as ONNX Cast: float to integer truncates toward zero and saturates where C++ would
// be undefined, anything to bool is != 0, f32 to f16/bf16 rounds to nearest even.
// Inputs: x. Outputs: y, same dims. Any strides.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/convert.h"

namespace edgert::cpu {

namespace cast_detail {

/// Floating point saturates at the limits of `type`, of which Wide has the signedness; integers wrap when stored.
template <class Wide, class From>
Wide to_integer(From value, DType type) noexcept {
  constexpr bool kFloating = static_cast<From>(0.5) != From{0};
  if constexpr (!kFloating) {
    static_cast<void>(type);
    return static_cast<Wide>(value);
  } else {
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
  switch (arithmetic_of(type)) {
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
  switch (arithmetic_of(from_type)) {
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
  std::uint8_t reserved[3];
};

struct Cast {
  static constexpr std::uint16_t kId = 2;
  static constexpr const char* kName = "Cast";
  using Attributes = CastAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 1)) return wrong;
    if (!same_dims(operands.in(0), operands.out(0))) return "input and output differ in dims";
    if (arithmetic_of(operands.in(0).dtype) == Arithmetic::None) return "type of the input is not supported";
    if (arithmetic_of(operands.out(0).dtype) == Arithmetic::None) return "type of the output is not supported";
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
    Cursor<2> cursor(nest, nest.rank, range.begin);
    for (std::int64_t at = range.begin; at < range.end;) {
      std::int64_t n = nest.inner() - cursor.innermost();
      if (n > range.end - at) n = range.end - at;
      if (n > longest) n = longest;
      void* const from = element_at(x.data, cursor.offset(1), x.dtype);
      void* const to = element_at(y.data, cursor.offset(0), y.dtype);
      if (image) {
        EDGERT_ISA_DISPATCH(work.isa, strip_bytes_to_float(static_cast<float*>(to), from, n, x.dtype == DType::I8));
      } else {
        load_strip(x.dtype, loaded, from, nest.inner_stride(1), n, work.isa);
        cast_detail::convert_strip(x.dtype, loaded, y.dtype, converted, n);
        store_strip(y.dtype, to, nest.inner_stride(0), converted, n, work.isa);
      }
      cursor.advance(n);
      at += n;
    }
    return {};
  }
};

}  // namespace edgert::cpu
