// SPDX-License-Identifier: Apache-2.0
// Floating point numbers of 8 and 4 bits, as ONNX defines them (https://onnx.ai/onnx/technical/float8.html and
// float4.html): conversion from float, rounding to nearest even, and back, which is exact.
#pragma once

#include "edgert/scalar/compiler.h"

namespace edgert::scalar {

/// A format of a sign bit, an exponent and a mantissa. Codes are magnitudes, without the sign bit.
struct Minifloat {
  uint32 bits;       ///< of a whole element
  uint32 mantissa;   ///< bits of the mantissa
  int bias;          ///< of the exponent
  uint32 largest;    ///< code of the largest finite number
  uint32 overflow;   ///< code of what is beyond it where that does not saturate
  uint32 nan;        ///< code of a NaN; 0 in formats without one
  bool one_nan;      ///< NaN is the sign bit alone, so that there is no negative zero
};
inline constexpr Minifloat kE4M3FN = {8, 3, 7, 0x7e, 0x7f, 0x7f, false};
inline constexpr Minifloat kE4M3FNUZ = {8, 3, 8, 0x7f, 0x80, 0x80, true};
inline constexpr Minifloat kE5M2 = {8, 2, 15, 0x7b, 0x7c, 0x7e, false};
inline constexpr Minifloat kE5M2FNUZ = {8, 2, 16, 0x7f, 0x80, 0x80, true};
inline constexpr Minifloat kE2M1 = {4, 1, 1, 0x7, 0x7, 0, false};

/// 2^exponent, for exponents of normal numbers.
EDGERT_SCALAR float power_of_two(int exponent) { return bit_cast<float>(static_cast<uint32>(exponent + 127) << 23); }

/// The code of `x`. What is too large, infinity included, becomes the largest finite number, or, unless `saturate`,
/// infinity or NaN where the format has them.
EDGERT_SCALAR uint32 encode_minifloat(float x, const Minifloat& format, bool saturate) {
  const uint32 bits = bit_cast<uint32>(x);
  const uint32 magnitude = bits & 0x7fffffffu;
  const uint32 sign_bit = 1u << (format.bits - 1);
  const uint32 sign = (bits >> 31) != 0 && !format.one_nan ? sign_bit : 0;
  if (magnitude > 0x7f800000u) return format.nan | (format.nan != 0 ? sign : 0);
  // In units of the last place of its binade, or of the subnormals, the number is rounded to an integer.
  const int lowest = 1 - format.bias;
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  const int binade = exponent > lowest ? exponent : lowest;
  const bool infinite = magnitude == 0x7f800000u;
  const int shift = static_cast<int>(format.mantissa) - (infinite ? 127 : binade);
  const float units = infinite ? 0.0f : (bit_cast<float>(magnitude) * power_of_two(shift) + 0x1p23f) - 0x1p23f;
  const uint32 code = (static_cast<uint32>(binade - lowest) << format.mantissa) + static_cast<uint32>(units);
  if (infinite || code > format.largest) {
    const uint32 beyond = saturate ? format.largest : format.overflow;
    return beyond | (format.one_nan && beyond != format.nan && (bits >> 31) != 0 ? sign_bit : sign);
  }
  return code | (format.one_nan && code != 0 && (bits >> 31) != 0 ? sign_bit : sign);
}

EDGERT_SCALAR float decode_minifloat(uint32 element, const Minifloat& format) {
  const uint32 sign_bit = 1u << (format.bits - 1);
  const uint32 code = element & (sign_bit - 1u);
  const bool negative = (element & sign_bit) != 0;
  if (format.one_nan && negative && code == 0) return nan_f32();
  const uint32 exponent = code >> format.mantissa;
  const uint32 fraction = code & ((1u << format.mantissa) - 1u);
  const int unit = static_cast<int>(exponent != 0 ? exponent - 1u : 0u) + 1 - format.bias - static_cast<int>(format.mantissa);
  float value = static_cast<float>(exponent != 0 ? fraction + (1u << format.mantissa) : fraction) * power_of_two(unit);
  if (code > format.largest) value = code == format.overflow && code != format.nan ? infinity_f32() : nan_f32();
  return negative ? -value : value;
}

/// How a number between two powers of two becomes one of them; ties of Nearest go up.
enum class PowerRounding : unsigned char { Up = 0, Down = 1, Nearest = 2 };

/// E8M0: code c is 2^(c - 127), and 0xff is NaN. The sign is ignored. Numbers outside of the range, zero and infinity
/// included, become its nearest end, or NaN unless `saturate`.
EDGERT_SCALAR uint32 encode_e8m0(float x, PowerRounding rounding, bool saturate) {
  const uint32 magnitude = bit_cast<uint32>(x) & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0xff;
  if (magnitude == 0x7f800000u) return saturate ? 0xfe : 0xff;
  if (magnitude < 0x400000u) return saturate ? 0 : 0xff;  // below 2^-127, a subnormal float
  const bool subnormal = magnitude < 0x800000u;
  const uint32 code = subnormal ? 0 : magnitude >> 23;
  const uint32 fraction = subnormal ? (magnitude - 0x400000u) << 1 : magnitude & 0x7fffffu;
  const bool up = rounding == PowerRounding::Up ? fraction != 0 : rounding == PowerRounding::Nearest && fraction >= 0x400000u;
  const uint32 rounded = code + (up ? 1 : 0);
  return rounded <= 0xfe ? rounded : saturate ? 0xfe : 0xff;
}

EDGERT_SCALAR float decode_e8m0(uint32 code) {
  if (code == 0xff) return nan_f32();
  return bit_cast<float>(code == 0 ? 0x400000u : code << 23);
}

}  // namespace edgert::scalar
