// SPDX-License-Identifier: Apache-2.0
// Conversions between element types. Half and bfloat16 are stored as their bits: no pair of supported compilers knows
// both as native types. Rounding is to nearest even throughout.
#pragma once

#include "edgert/scalar/compiler.h"

namespace edgert::scalar {

/// IEEE 754 binary16.
struct Half {
  uint16 bits;
};
/// The upper half of a float.
struct BFloat16 {
  uint16 bits;
};

EDGERT_SCALAR float to_float(Half x) {
  const uint32 magnitude = static_cast<uint32>(x.bits & 0x7fffu) << 13;
  // Multiplication moves the exponent and normalises a subnormal in one step, exactly.
  const uint32 finite = bit_cast<uint32>(bit_cast<float>(magnitude) * 0x1p112f);
  const uint32 special = magnitude | 0x7f800000u;
  const uint32 sign = static_cast<uint32>(x.bits & 0x8000u) << 16;
  return bit_cast<float>(sign | (magnitude >= 0x0f800000u ? special : finite));
}
EDGERT_SCALAR float to_float(BFloat16 x) { return bit_cast<float>(static_cast<uint32>(x.bits) << 16); }

EDGERT_SCALAR Half to_half(float x) {
  const uint32 bits = bit_cast<uint32>(x);
  const uint32 magnitude = bits & 0x7fffffffu;
  const uint32 sign = bits >> 16 & 0x8000u;
  // Adding 0.5 makes a subnormal half's unit the float's unit, so that the addition rounds.
  const uint32 subnormal = bit_cast<uint32>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32 normal = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  const uint32 finite = magnitude < 0x38800000u ? subnormal : normal;
  const uint32 special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return {static_cast<uint16>(sign | (magnitude >= 0x477ff000u ? special : finite))};
}
EDGERT_SCALAR BFloat16 to_bfloat16(float x) {
  const uint32 bits = bit_cast<uint32>(x);
  const uint32 rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const uint32 quiet_nan = (bits >> 16) | 0x40u;
  return {static_cast<uint16>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded)};
}

/// A double as a float of which a narrower type can be rounded without a second rounding error: when inexact, the last
/// bit is 1 ("round to odd").
EDGERT_SCALAR float narrow_to_odd(double x) {
  const float nearest = static_cast<float>(x);
  const double back = static_cast<double>(nearest);
  const uint32 bits = bit_cast<uint32>(nearest);
  if (back == x || x != x || (bits & 1u) != 0) return nearest;
  const bool too_large = x < 0.0 ? back < x : back > x;
  return bit_cast<float>(too_large ? bits - 1u : bits + 1u);
}

/// Toward zero; the nearest representable number outside To's range; 0 for NaN.
template <class To, class From>
EDGERT_SCALAR To saturate_cast(From x) {
  constexpr int kBits = static_cast<int>(8 * sizeof(To));
  constexpr bool kSigned = static_cast<To>(-1) < static_cast<To>(1);
  constexpr uint64 kAllOnes = ~uint64{0} >> (64 - kBits);
  constexpr To kMax = static_cast<To>(kSigned ? kAllOnes >> 1 : kAllOnes);
  constexpr To kMin = static_cast<To>(kSigned ? static_cast<To>(-kMax - 1) : static_cast<To>(0));
  // The first number above the range, a power of two and so exact.
  const From limit = static_cast<From>(uint64{1} << (kBits - 1)) * From{kSigned ? 1 : 2};
  if (x >= limit) return kMax;
  if (!(x > (kSigned ? -limit : From{0}))) return x != x ? To{0} : kMin;
  return static_cast<To>(x);
}

}  // namespace edgert::scalar
