// SPDX-License-Identifier: Apache-2.0
// Strips: a few hundred values that operators bring together from strided tensors of any type, so that arithmetic is
// written for consecutive values of few types. A strip holds float for f32, f16 and bf16; double; int64 or uint64 for
// integers of any width; bytes for bool.
#pragma once

#include <cstddef>
#include <cstdint>

#include "edgert/cpu/isa/pointwise_kernels.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/convert.h"
#include "edgert/scalar/pointwise_functions.h"
#include "edgert/types.h"

namespace edgert::cpu {

using scalar::Arithmetic;

inline constexpr std::int64_t kStrip = 256;  // a dozen of strips fit the first-level cache

/// How elements of a type are computed; None for those that pointwise operations do not take.
constexpr Arithmetic arithmetic_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::F32: case DType::F16: case DType::BF16: return Arithmetic::F32;
    case DType::F64: return Arithmetic::F64;
    case DType::I8: case DType::I16: case DType::I32: case DType::I64: return Arithmetic::Signed;
    case DType::U8: case DType::U16: case DType::U32: case DType::U64: return Arithmetic::Unsigned;
    case DType::Bool: return Arithmetic::Bool;
    default: return Arithmetic::None;
  }
}
/// Bytes of one value in a strip.
constexpr std::size_t lane_bytes(Arithmetic arithmetic) noexcept {
  return arithmetic == Arithmetic::F32 ? 4 : arithmetic == Arithmetic::Bool ? 1 : 8;
}

/// to[i] = from[i * stride], converted.
template <class To, class From>
void widen_strip(void* to, const void* from, std::int64_t stride, std::int64_t n) noexcept {
  const From* const source = static_cast<const From*>(from);
  for (std::int64_t i = 0; i < n; ++i) static_cast<To*>(to)[i] = static_cast<To>(source[i * stride]);
}

/// Brings `n` elements of a tensor into a strip.
inline void load_strip(DType dtype, void* to, const void* from, std::int64_t stride, std::int64_t n, Isa isa) noexcept {
  switch (dtype) {
    case DType::F32: return widen_strip<float, float>(to, from, stride, n);
    case DType::F16: case DType::BF16: {
      const bool brain = dtype == DType::BF16;
      if (stride == 1) return EDGERT_ISA_DISPATCH(isa, strip_widen(static_cast<float*>(to), from, n, brain));
      const std::uint16_t* const source = static_cast<const std::uint16_t*>(from);
      for (std::int64_t i = 0; i < n; ++i) {
        const std::uint16_t bits = source[i * stride];
        static_cast<float*>(to)[i] =
            brain ? scalar::to_float(scalar::BFloat16{bits}) : scalar::to_float(scalar::Half{bits});
      }
      return;
    }
    case DType::F64: return widen_strip<double, double>(to, from, stride, n);
    case DType::I8: return widen_strip<std::int64_t, std::int8_t>(to, from, stride, n);
    case DType::I16: return widen_strip<std::int64_t, std::int16_t>(to, from, stride, n);
    case DType::I32: return widen_strip<std::int64_t, std::int32_t>(to, from, stride, n);
    case DType::I64: return widen_strip<std::int64_t, std::int64_t>(to, from, stride, n);
    case DType::U8: return widen_strip<std::uint64_t, std::uint8_t>(to, from, stride, n);
    case DType::U16: return widen_strip<std::uint64_t, std::uint16_t>(to, from, stride, n);
    case DType::U32: return widen_strip<std::uint64_t, std::uint32_t>(to, from, stride, n);
    case DType::U64: return widen_strip<std::uint64_t, std::uint64_t>(to, from, stride, n);
    case DType::Bool: return widen_strip<std::uint8_t, std::uint8_t>(to, from, stride, n);
    case DType::Undefined: case DType::I4: case DType::U4: return;
  }
}

template <class To, class From>
void narrow_strip(void* to, std::int64_t stride, const void* from, std::int64_t n) noexcept {
  const From* const source = static_cast<const From*>(from);
  for (std::int64_t i = 0; i < n; ++i) static_cast<To*>(to)[i * stride] = static_cast<To>(source[i]);
}

/// Puts `n` values of a strip into a tensor.
inline void store_strip(DType dtype, void* to, std::int64_t stride, const void* from, std::int64_t n,
                        Isa isa) noexcept {
  switch (dtype) {
    case DType::F32: return narrow_strip<float, float>(to, stride, from, n);
    case DType::F16: case DType::BF16: {
      const bool brain = dtype == DType::BF16;
      const float* const source = static_cast<const float*>(from);
      if (stride == 1) return EDGERT_ISA_DISPATCH(isa, strip_narrow(to, source, n, brain));
      for (std::int64_t i = 0; i < n; ++i) {
        static_cast<std::uint16_t*>(to)[i * stride] =
            brain ? scalar::to_bfloat16(source[i]).bits : scalar::to_half(source[i]).bits;
      }
      return;
    }
    case DType::F64: return narrow_strip<double, double>(to, stride, from, n);
    case DType::I8: case DType::U8: return narrow_strip<std::uint8_t, std::uint64_t>(to, stride, from, n);
    case DType::I16: case DType::U16: return narrow_strip<std::uint16_t, std::uint64_t>(to, stride, from, n);
    case DType::I32: case DType::U32: return narrow_strip<std::uint32_t, std::uint64_t>(to, stride, from, n);
    case DType::I64: case DType::U64: return narrow_strip<std::uint64_t, std::uint64_t>(to, stride, from, n);
    case DType::Bool: return narrow_strip<std::uint8_t, std::uint8_t>(to, stride, from, n);
    case DType::Undefined: case DType::I4: case DType::U4: return;
  }
}

/// Whether elements lie in memory as strips hold them.
constexpr bool is_lane_type(DType dtype) noexcept { return bytes_of(dtype) == lane_bytes(arithmetic_of(dtype)); }

inline void* element_at(void* base, std::int64_t offset, DType dtype) noexcept {
  return static_cast<unsigned char*>(base) + offset * static_cast<std::int64_t>(bytes_of(dtype));
}

/// `n` consecutive values of a tensor: in place when they lie so, else brought into `buffer`.
inline const void* strip_at(const TensorView& view, std::int64_t offset, std::int64_t stride, std::int64_t n,
                            void* buffer, Isa isa) noexcept {
  const void* const from = element_at(view.data, offset, view.dtype);
  if ((stride == 1 || n == 1) && is_lane_type(view.dtype)) return from;
  load_strip(view.dtype, buffer, from, stride, n, isa);
  return buffer;
}

}  // namespace edgert::cpu
