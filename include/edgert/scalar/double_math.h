// SPDX-License-Identifier: Apache-2.0
// Elementary functions in double arithmetic, for double tensors and, rounded once, for the rarer functions of float.
// Own code, because libm's results differ between processors and versions. Largest errors found (tests/unit/
// scalar_math.cpp): 1 ulp for exp and log; 4 ulp for the others.
// NaN gives NaN; infinities, signed zeros and the ends of the domain behave as in C.
#pragma once

#include "edgert/scalar/compiler.h"

namespace edgert::scalar {

inline constexpr double kLn2High = 0x1.62e42fefp-1;  // 33 bits: products with exponents are exact
inline constexpr double kLn2Low = 0x1.473de6af278edp-34;
inline constexpr double kHalfPiHigh = 0x1.921fb54442d18p+0;
inline constexpr double kHalfPiLow = 0x1.1a62633145c07p-54;

EDGERT_SCALAR double abs(double x) { return bit_cast<double>(bit_cast<uint64>(x) & 0x7fffffffffffffffull); }
EDGERT_SCALAR double copysign(double magnitude, double sign) {
  return bit_cast<double>((bit_cast<uint64>(magnitude) & 0x7fffffffffffffffull) |
                          (bit_cast<uint64>(sign) & 0x8000000000000000ull));
}
EDGERT_SCALAR double min(double a, double b) { return a != a ? a : a < b ? a : b; }
EDGERT_SCALAR double max(double a, double b) { return a != a ? a : a > b ? a : b; }

/// To the nearest integer, halves to even.
EDGERT_SCALAR double round(double x) {
  const double magnitude = abs(x);
  const double rounded = (magnitude + 4503599627370496.0) - 4503599627370496.0;
  return copysign(magnitude < 4503599627370496.0 ? rounded : x, x);
}
EDGERT_SCALAR double floor(double x) {
  const double nearest = round(x);
  return copysign(nearest > x ? nearest - 1.0 : nearest, x);
}
EDGERT_SCALAR double ceil(double x) {
  const double nearest = round(x);
  return copysign(nearest < x ? nearest + 1.0 : nearest, x);
}

/// coefficients[0] + x * coefficients[1] + ...
template <int N>
EDGERT_SCALAR double polynomial(double x, const double (&coefficients)[N]) {
  double sum = coefficients[N - 1];
  for (int i = N - 2; i >= 0; --i) sum = sum * x + coefficients[i];
  return sum;
}

/// The rounding error of a * b, whose rounded value is `product`; |a|, |b| below 2^990.
EDGERT_SCALAR double product_error(double a, double b, double product) {
  const double a_high = bit_cast<double>(bit_cast<uint64>(a) & 0xfffffffff8000000ull);
  const double b_high = bit_cast<double>(bit_cast<uint64>(b) & 0xfffffffff8000000ull);
  const double a_low = a - a_high;
  const double b_low = b - b_high;
  return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
}

/// e^(x + tail) for a tail far below x.
EDGERT_SCALAR double exp_with_tail(double x, double tail) {
  const double bounded = x < -746.0 ? -746.0 : x > 710.0 ? 710.0 : x;
  const double shifted = bounded * 0x1.71547652b82fep+0 + 6755399441055744.0;
  const uint64 n = bit_cast<uint64>(shifted) - 0x4338000000000000ull;
  const double whole = shifted - 6755399441055744.0;
  const double r = (bounded - whole * kLn2High) - (whole * kLn2Low - (bounded == x ? tail : 0.0));
  const double p = polynomial(
      r, {0.5, 0.16666666666666671, 0.04166666666666666976, 0.0083333333333261242584, 0.0013888888888883740544,
          0.00019841269874858611788, 0.000024801587325574867791, 2.7557255352032672337e-6, 2.7557273608709006727e-7,
          2.5105237050760299302e-8, 2.0914701283103283894e-9});
  const uint64 half = (n + 2048u) >> 1;  // 2^n in two factors, so that subnormal results round once
  const double result = (1.0 + (r + r * r * p)) * bit_cast<double>((half - 1u) << 52);
  return result * bit_cast<double>((n - half + 2047u) << 52);
}
EDGERT_SCALAR double exp(double x) { return exp_with_tail(x, 0.0); }

EDGERT_SCALAR double expm1(double x) {
  if (!(abs(x) < 0.34657)) return exp(x) - 1.0;
  const double p = polynomial(
      x, {0.16666666666666667454, 0.041666666666666667229, 0.0083333333333300568936, 0.001388888888888654899,
          0.00019841269863078279752, 0.000024801587317162111334, 2.7557268421682612263e-6, 2.7557282942188776659e-7,
          2.5100403716576691446e-8, 2.0911249642284404513e-9});
  return x + (x * x * 0.5 + x * x * x * p);
}

/// A positive finite number as 2^exponent * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
struct Reduced {
  double exponent;
  double f;
};
EDGERT_SCALAR Reduced reduce_for_log(double x) {
  const bool subnormal = x < 0x1p-1022;
  const uint64 bits = bit_cast<uint64>(subnormal ? x * 0x1p54 : x);
  const uint64 biased = (bits + (0x4000000000000000ull - 0x3fe6a09e667f3bcdull)) >> 52;
  const double exponent = static_cast<double>(static_cast<int>(biased)) - (subnormal ? 1078.0 : 1024.0);
  return {exponent, bit_cast<double>(bits - (biased << 52) + 0x4000000000000000ull) - 1.0};
}
/// artanh's series beyond its first two terms: 2 artanh(s) = 2 s + s z (2 / 3 + z log_series(z)) with z = s * s.
EDGERT_SCALAR double log_series(double z) {
  return polynomial(z, {0.40000000000000879687, 0.28571428570801956558, 0.22222222392089070215, 0.18181795600055619212,
                        0.15386241882168695085, 0.1326871478713653928, 0.13087236243871003366});
}
/// The rounding error of a + b, whose rounded value is `sum`.
EDGERT_SCALAR double sum_error(double a, double b, double sum) {
  const double b_part = sum - a;
  return (a - (sum - b_part)) + (b - b_part);
}

EDGERT_SCALAR double log(double x) {
  if (!(x > 0.0)) return x == 0.0 ? -infinity_f64() : nan_f64();
  if (x == infinity_f64()) return x;
  const Reduced part = reduce_for_log(x);
  const double s = part.f / (2.0 + part.f);
  const double z = s * s;
  const double half_square = 0.5 * part.f * part.f;
  const double rest = s * (half_square + z * (0.66666666666666666464 + z * log_series(z)));
  return part.exponent * kLn2High - ((half_square - (rest + part.exponent * kLn2Low)) - part.f);
}

EDGERT_SCALAR double log1p(double x) {
  const double u = 1.0 + x;
  if (!(u > 0.0) || u == infinity_f64()) return log(u);
  return log(u) + (x - (u - 1.0)) / u;
}

/// x^y as e^(y ln x) with ln x in two doubles.
EDGERT_SCALAR double pow(double x, double y) {
  if (y == 0.0 || x == 1.0) return 1.0;
  if (x != x || y != y) return nan_f64();
  const double base = abs(x);
  const bool integer = round(y) == y;
  const bool odd = integer && abs(y) < 0x1p53 && round(y * 0.5) * 2.0 != y;
  const double sign = odd && bit_cast<uint64>(x) >> 63 != 0 ? -1.0 : 1.0;
  if (base == 0.0) return sign * (y < 0.0 ? infinity_f64() : 0.0);
  if (base == 1.0) return integer ? sign : nan_f64();
  if (base == infinity_f64()) return sign * (y < 0.0 ? 0.0 : infinity_f64());
  if (abs(y) == infinity_f64()) return (base > 1.0) == (y > 0.0) ? infinity_f64() : 0.0;
  if (x < 0.0 && !integer) return nan_f64();

  const Reduced part = reduce_for_log(base);
  const double divisor = 2.0 + part.f;
  const double divisor_error = part.f - (divisor - 2.0);
  const double s = part.f / divisor;
  const double product = s * divisor;
  const double s_error = ((part.f - product) - product_error(s, divisor, product) - s * divisor_error) / divisor;
  const double z = s * s;
  const double z_error = product_error(s, s, z) + 2.0 * s * s_error;
  const double cube = s * z;
  const double cube_error = product_error(s, z, cube) + (s * z_error + z * s_error);
  const double third = cube * 0x1.5555555555555p-1;
  const double third_error = product_error(cube, 0x1.5555555555555p-1, third) +
                             (cube_error * 0x1.5555555555555p-1 + cube * 0x1.5555555555555p-55);
  // ln x = exponent ln2 + 2 s + 2/3 s^3 + series; the leading terms are summed without error.
  const double linear = part.exponent * kLn2High + 2.0 * s;
  const double sum = linear + third;
  const double lost = sum_error(part.exponent * kLn2High, 2.0 * s, linear) + sum_error(linear, third, sum);
  const double low =
      lost + third_error + (2.0 * s_error + (part.exponent * kLn2Low + cube * z * log_series(z)));
  const double high = sum + low;
  const double rest = (sum - high) + low;

  // Beyond 2^64 every power but that of 1 is zero or infinite.
  const double exponent = y > 0x1p64 ? 0x1p64 : y < -0x1p64 ? -0x1p64 : y;
  const double scaled = exponent * high;
  return sign * exp_with_tail(scaled, product_error(exponent, high, scaled) + exponent * rest);
}

EDGERT_SCALAR double sinh(double x) {
  const double a = abs(x);
  if (a < 1.0) {
    const double z = x * x;
    return x + x * z * polynomial(z, {0.16666666666666666701, 0.0083333333333332993552, 0.00019841269841324197917,
                                      2.7557319191381816754e-6, 2.5052117695907863983e-8, 1.6057679623798404641e-10,
                                      7.7461785931183132517e-13});
  }
  const double half = exp(0.5 * a);  // the square may exceed what e^a can hold by the factor that halving takes away
  const double magnitude = a > 40.0 ? 0.5 * half * half : 0.5 * (exp(a) - exp(-a));
  return copysign(magnitude, x);
}
EDGERT_SCALAR double cosh(double x) {
  const double a = abs(x);
  const double half = exp(0.5 * a);
  return a > 40.0 ? 0.5 * half * half : 0.5 * (exp(a) + exp(-a));
}
EDGERT_SCALAR double tanh(double x) {
  const double a = abs(x);
  const double e = expm1(a < 20.0 ? a + a : 40.0);
  return x != x ? x : copysign(e / (e + 2.0), x);
}
EDGERT_SCALAR double asinh(double x) {
  const double a = abs(x);
  if (a > 0x1p28) return copysign(log(a) + 0x1.62e42fefa39efp-1, x);
  const double square = a * a;
  return copysign(log1p(a + square / (1.0 + sqrt(1.0 + square))), x);
}
EDGERT_SCALAR double acosh(double x) {
  if (x > 0x1p28) return log(x) + 0x1.62e42fefa39efp-1;
  if (x < 1.0) return nan_f64();
  const double t = x - 1.0;
  return log1p(t + sqrt(2.0 * t + t * t));
}
EDGERT_SCALAR double atanh(double x) {
  const double a = abs(x);
  return copysign(0.5 * log1p(2.0 * a / (1.0 - a)), x);
}

/// Error function; above 1 from e^(x * x) erfc(x), a polynomial in (x - 2) / (x + 2).
EDGERT_SCALAR double erf(double x) {
  const double a = abs(x);
  if (a < 1.0) {
    return x + x * polynomial(x * x, {0.1283791670955125739, -0.37612638903183748056, 0.11283791670954878666,
                                      -0.026866170645076793246, 0.0052239776248180144519, -0.0008548326980833789146,
                                      0.00012055331111642686425, -0.000014925595266830650187, 1.6461000484113561183e-6,
                                      -1.6350312700978063014e-7, 1.4659775273566130574e-8, -1.1372848855042737959e-9,
                                      5.9571761449524674354e-11});
  }
  if (!(a < 6.0)) return a >= 6.0 ? copysign(1.0, x) : x;
  const double scaled = polynomial(
      (a - 2.0) / (a + 2.0),
      {0.25539567631050574389, -0.42718584741395839526, 0.2416581942424663291, -0.0789785810157325263,
       0.0037328924043494834936, 0.0069974617392284760557, -0.00084714325227522531679, -0.00098197702691626470458,
       0.000043555644272098928705, 0.00017436114311543650247, 0.000027524767363165049701, -0.000027579013119021908574,
       -0.000013961490067423969642, 1.3805842477253988023e-6, 3.7601677167193132465e-6, 1.2559897861345693262e-6,
       -5.0609154386930482202e-7, -6.144477167995065622e-7, 1.3408848717362391034e-7});
  return copysign(1.0 - exp(-a * a) * scaled, x);
}

/// The remainder of x / y with x's sign, exact, by long division of the mantissas; NaN for y = 0 or infinite x.
EDGERT_SCALAR double fmod(double x, double y) {
  const uint64 kFraction = 0x000fffffffffffffull;
  uint64 a = bit_cast<uint64>(abs(x));
  uint64 b = bit_cast<uint64>(abs(y));
  if (b == 0 || a >= 0x7ff0000000000000ull || b > 0x7ff0000000000000ull) return nan_f64();
  if (a < b) return x;
  unsigned a_exponent = static_cast<unsigned>(a >> 52);
  unsigned b_exponent = static_cast<unsigned>(b >> 52);
  a = (a & kFraction) | (a_exponent != 0 ? kFraction + 1 : 0);
  b = (b & kFraction) | (b_exponent != 0 ? kFraction + 1 : 0);
  a_exponent += a_exponent == 0;
  b_exponent += b_exponent == 0;
  a %= b;
  while (a_exponent > b_exponent && a != 0) {
    const unsigned shift = a_exponent - b_exponent < 11 ? a_exponent - b_exponent : 11;
    a = (a << shift) % b;
    a_exponent -= shift;
  }
  while (b_exponent > 1 && a != 0 && a <= kFraction) {
    a <<= 1;
    --b_exponent;
  }
  const uint64 biased = a > kFraction ? static_cast<uint64>(b_exponent) << 52 : 0;
  return copysign(bit_cast<double>(biased | (a & kFraction)), x);
}

}  // namespace edgert::scalar
