// SPDX-License-Identifier: Apache-2.0
// Circular functions and their inverses in double arithmetic. Arguments of any size are reduced exactly: up to 2^20 by
// pi / 2 in three parts, beyond with as many bits of 2 / pi as the argument's exponent calls for.
#pragma once

#include "edgert/scalar/double_math.h"

namespace edgert::scalar {

/// x = quadrant * pi / 2 + high + low, |high| <= pi / 4, quadrant modulo 4.
struct Angle {
  double high;
  double low;
  unsigned quadrant;
};

/// 64 bits of a little-endian number of 32-bit limbs, from bit `position` on; zeros past its end.
EDGERT_SCALAR uint64 extract_bits(const uint32 (&limbs)[9], unsigned position) {
  const unsigned limb = position / 32;
  const unsigned shift = position % 32;
  const uint64 middle = limb + 1 < 9 ? limbs[limb + 1] : 0;
  const uint64 high = limb + 2 < 9 ? limbs[limb + 2] : 0;
  const uint64 low = limbs[limb] | middle << 32;
  return shift == 0 ? low : (low >> shift) | (high << (64 - shift));
}

/// Payne and Hanek's reduction: the product of the mantissa with the bits of 2 / pi that matter modulo 4.
EDGERT_SCALAR Angle reduce_large_angle(double x) {
  // 2 / pi, 40 words after the binary point, most significant first.
  const uint32 kTwoOverPi[40] = {
      0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu, 0xdebbc561u,
      0xb7246e3au, 0x424dd2e0u, 0x06492eeau, 0x09d1921cu, 0xfe1deb1cu, 0xb129a73eu, 0xe88235f5u, 0x2ebb4484u,
      0xe99c7026u, 0xb45f7e41u, 0x3991d639u, 0x835339f4u, 0x9c845f8bu, 0xbdf9283bu, 0x1ff897ffu, 0xde05980fu,
      0xef2f118bu, 0x5a0a6d1fu, 0x6d367ecfu, 0x27cb09b7u, 0x4f463f66u, 0x9e5fea2du, 0x7527bac7u, 0xebe5f17bu,
      0x3d0739f7u, 0x8a5292eau, 0x6bfb5fb1u, 0x1f8d5d08u, 0x56033046u, 0xfc7b6babu, 0xf0cfbc20u, 0x9af4361du};
  const uint64 bits = bit_cast<uint64>(x);
  const uint64 mantissa = (bits & 0x000fffffffffffffull) | 0x0010000000000000ull;
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff) - 1075;  // |x| = mantissa * 2^exponent
  // Words whose product is a multiple of 4 are left out; seven words leave an error below 2^-130.
  const unsigned first = exponent > 2 ? static_cast<unsigned>(exponent - 2) / 32 : 0;
  uint32 product[9] = {};
  const uint64 factor[2] = {mantissa & 0xffffffffu, mantissa >> 32};
  for (unsigned i = 0; i < 7; ++i) {
    const uint64 word = kTwoOverPi[first + 6 - i];
    uint64 carry = 0;
    for (unsigned j = 0; j < 2; ++j) {
      carry += product[i + j] + word * factor[j];
      product[i + j] = static_cast<uint32>(carry);
      carry >>= 32;
    }
    product[i + 2] = static_cast<uint32>(carry);
  }
  const unsigned point = static_cast<unsigned>(static_cast<int>(32 * (first + 7)) - exponent);
  unsigned quadrant = static_cast<unsigned>(extract_bits(product, point)) & 3u;
  uint64 high = extract_bits(product, point - 64);
  uint64 low = extract_bits(product, point - 128);
  const bool upper_half = high >> 63 != 0;
  if (upper_half) {  // count from the next multiple of pi / 2 downwards
    quadrant = (quadrant + 1) & 3u;
    low = ~low + 1;
    high = ~high + (low == 0);
  }
  const double a = static_cast<double>(high >> 11) * 0x1p-53;
  const double b = static_cast<double>((high & 0x7ffu) << 42 | low >> 22) * 0x1p-106;
  const double c = static_cast<double>(low & 0x3fffffu) * 0x1p-128;
  const double turn = a + b;
  const double turn_low = ((a - turn) + b) + c;
  const double r = turn * kHalfPiHigh;
  const double r_low = product_error(turn, kHalfPiHigh, r) + (turn * kHalfPiLow + turn_low * kHalfPiHigh);
  const bool negative = (bits >> 63 != 0) != upper_half;
  return {negative ? -r : r, negative ? -r_low : r_low, bits >> 63 != 0 ? (4u - quadrant) & 3u : quadrant};
}

EDGERT_SCALAR Angle reduce_angle(double x) {
  if (!(abs(x) < 0x1p20)) {
    if (!(abs(x) < infinity_f64())) return {nan_f64(), 0.0, 0u};
    return reduce_large_angle(x);
  }
  const double shifted = x * 0x1.45f306dc9c883p-1 + 6755399441055744.0;
  const double whole = shifted - 6755399441055744.0;
  const double a = x - whole * 0x1.921fb544p+0;
  const double second = whole * 0x1.0b4611a6p-34;
  const double high = a - second;
  const double low = ((a - high) - second) - whole * 0x1.3198a2e037073p-69;
  return {high, low, static_cast<unsigned>(bit_cast<uint64>(shifted)) & 3u};
}

EDGERT_SCALAR double sin_of(const Angle& angle) {
  const double x = angle.high;
  const double z = x * x;
  const double p = polynomial(z, {-0.16666666666666664611, 0.0083333333333309365536, -0.00019841269836740532039,
                                  2.7557316093198381312e-6, -2.50511298964463192e-8, 1.5917988979169704836e-10});
  return x + (x * z * p + angle.low * (1.0 - 0.5 * z));
}
EDGERT_SCALAR double cos_of(const Angle& angle) {
  const double x = angle.high;
  const double z = x * x;
  const double p = polynomial(z, {0.041666666666666665381, -0.0013888888888887389772, 0.000024801587298754401132,
                                  -2.7557317265878065106e-7, 2.0876145049410760176e-9, -1.1382544645206803391e-11});
  const double half = 0.5 * z;
  const double rounded = 1.0 - half;
  return rounded + (((1.0 - rounded) - half) + (z * z * p - x * angle.low));
}

EDGERT_SCALAR double sin(double x) {
  if (x == 0.0) return x;
  const Angle angle = reduce_angle(x);
  const double magnitude = (angle.quadrant & 1u) != 0 ? cos_of(angle) : sin_of(angle);
  return (angle.quadrant & 2u) != 0 ? -magnitude : magnitude;
}
EDGERT_SCALAR double cos(double x) {
  const Angle angle = reduce_angle(x);
  const double magnitude = (angle.quadrant & 1u) != 0 ? sin_of(angle) : cos_of(angle);
  return ((angle.quadrant + 1u) & 2u) != 0 ? -magnitude : magnitude;
}
EDGERT_SCALAR double tan(double x) {
  if (x == 0.0) return x;
  const Angle angle = reduce_angle(x);
  const double s = sin_of(angle);
  const double c = cos_of(angle);
  return (angle.quadrant & 1u) != 0 ? -c / s : s / c;
}

/// (asin(x) - x) / x with z = x * x, |x| <= 1/2.
EDGERT_SCALAR double asin_series(double z) {
  return z * polynomial(z, {0.16666666666666667827, 0.074999999999984329325, 0.044642857146355430572,
                            0.030381944138531201894, 0.022372172942151348849, 0.017352392720840923678,
                            0.013971212973930063087, 0.011479177411895744813, 0.010322814369605942977,
                            0.005457506642064084984, 0.01740087963582326964, -0.014851887352956896719,
                            0.02875785154818437861});
}
EDGERT_SCALAR double asin(double x) {
  const double a = abs(x);
  if (a <= 0.5) return x + x * asin_series(x * x);
  const double z = 0.5 * (1.0 - a);
  const double root = sqrt(z);
  return copysign(kHalfPiHigh - (2.0 * (root + root * asin_series(z)) - kHalfPiLow), x);
}
EDGERT_SCALAR double acos(double x) {
  const double a = abs(x);
  if (a <= 0.5) return kHalfPiHigh - (x - (kHalfPiLow - x * asin_series(x * x)));
  const double z = 0.5 * (1.0 - a);
  const double root = sqrt(z);
  const double rest = root * asin_series(z);
  return x < 0.0 ? 2.0 * (kHalfPiHigh - (root + (rest - kHalfPiLow))) : 2.0 * (root + rest);
}
EDGERT_SCALAR double atan(double x) {
  const double a = abs(x);
  const bool inverted = a > 1.0;
  const double b = inverted ? 1.0 / a : a;
  const bool rotated = b > 0.26794919243112270;  // tan(pi / 12): measure from pi / 6
  const double c = rotated ? (b * 1.7320508075688772 - 1.0) / (b + 1.7320508075688772) : b;
  const double z = c * c;
  const double p = polynomial(z, {-0.33333333333333331935, 0.19999999999996847181, -0.1428571428454255159,
                                  0.11111110943140775148, -0.090908969996637464854, 0.076918170071507519777,
                                  -0.066548985122236810053, 0.057159033075430799027, -0.0395631197826088382});
  const double near_zero = c + c * z * p;
  const double angle = rotated ? 0x1.0c152382d7366p-1 + (near_zero - 0x1.ee6913347c2a6p-55) : near_zero;
  return copysign(inverted ? kHalfPiHigh - (angle - kHalfPiLow) : angle, x);
}

}  // namespace edgert::scalar
