// SPDX-License-Identifier: Apache-2.0
// Strips of the element types that are stored and converted only, never computed with: floating point of 8 and 4 bits,
// integers of 4 and 2. Elements narrower than a byte are packed, low bits first, and lie without gaps.
#pragma once

#include <cstdint>

#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/minifloat.h"

namespace edgert::cpu {

/// What a strip of a small type holds: float, int64 or uint64; None for types that strip_io.h knows.
constexpr Arithmetic small_arithmetic(DType dtype) noexcept {
  switch (dtype) {
    case DType::F8E4M3FN: case DType::F8E4M3FNUZ: case DType::F8E5M2: case DType::F8E5M2FNUZ: case DType::F8E8M0:
    case DType::F4E2M1: return Arithmetic::F32;
    case DType::I4: case DType::I2: return Arithmetic::Signed;
    case DType::U4: case DType::U2: return Arithmetic::Unsigned;
    default: return Arithmetic::None;
  }
}

/// Of the types with a sign, an exponent and a mantissa.
constexpr const scalar::Minifloat& minifloat_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::F8E4M3FN: return scalar::kE4M3FN;
    case DType::F8E4M3FNUZ: return scalar::kE4M3FNUZ;
    case DType::F8E5M2: return scalar::kE5M2;
    case DType::F8E5M2FNUZ: return scalar::kE5M2FNUZ;
    default: return scalar::kE2M1;
  }
}

/// The bits of element `index`, which counts from `base`.
inline std::uint32_t small_code(const void* base, std::uint32_t bits, std::int64_t index) noexcept {
  const std::uint64_t bit = static_cast<std::uint64_t>(index) * bits;
  return static_cast<std::uint32_t>(static_cast<const unsigned char*>(base)[bit / 8] >> bit % 8) & ((1u << bits) - 1u);
}

/// Brings elements first, first + stride, ... of a tensor into a strip.
inline void load_small_strip(DType dtype, void* to, const void* base, std::int64_t first, std::int64_t stride,
                             std::int64_t n) noexcept {
  const std::uint32_t bits = bits_of(dtype);
  const std::uint64_t sign = dtype == DType::I4 || dtype == DType::I2 ? std::uint64_t{1} << (bits - 1) : 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t code = small_code(base, bits, first + i * stride);
    if (small_arithmetic(dtype) != Arithmetic::F32) {
      static_cast<std::uint64_t*>(to)[i] = (code ^ sign) - sign;
    } else if (dtype == DType::F8E8M0) {
      static_cast<float*>(to)[i] = scalar::decode_e8m0(code);
    } else {
      static_cast<float*>(to)[i] = scalar::decode_minifloat(code, minifloat_of(dtype));
    }
  }
}

/// Puts a strip into elements first, first + stride, ... of a tensor. Types narrower than a byte are written from the
/// first element of a byte on, in order and with stride 1: the first one clears the byte.
inline void store_small_strip(DType dtype, void* base, std::int64_t first, std::int64_t stride, const void* from,
                              std::int64_t n, scalar::PowerRounding rounding, bool saturate) noexcept {
  const std::uint32_t bits = bits_of(dtype);
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t code = 0;
    if (small_arithmetic(dtype) != Arithmetic::F32) {
      code = static_cast<std::uint32_t>(static_cast<const std::uint64_t*>(from)[i]);
    } else if (dtype == DType::F8E8M0) {
      code = scalar::encode_e8m0(static_cast<const float*>(from)[i], rounding, saturate);
    } else {
      code = scalar::encode_minifloat(static_cast<const float*>(from)[i], minifloat_of(dtype), saturate);
    }
    const std::uint64_t bit = static_cast<std::uint64_t>(first + i * stride) * bits;
    unsigned char& byte = static_cast<unsigned char*>(base)[bit / 8];
    const std::uint32_t kept = bit % 8 == 0 ? 0 : byte;
    byte = static_cast<unsigned char>(kept | (code & ((1u << bits) - 1u)) << bit % 8);
  }
}

}  // namespace edgert::cpu
