// SPDX-License-Identifier: Apache-2.0
// The elementary functions of include/edgert/scalar against long double libm: largest error in units in the last place
// over samples of the whole range, and the values at the ends of the domain.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>

#include "edgert/scalar/convert.h"
#include "edgert/scalar/math.h"

namespace {

namespace scalar = edgert::scalar;

/// Distance of `got` from the exact value, in spacings of T at that value.
template <class T>
double error_in_ulp(T got, long double expected) {
  if (std::isnan(expected)) return std::isnan(got) ? 0.0 : 1e30;
  const T rounded = static_cast<T>(expected);
  if (std::isinf(rounded) || std::isinf(got)) {
    if (got == rounded) return 0.0;
    // Next to overflow the largest number and infinity are one step apart.
    return std::abs(got) >= std::numeric_limits<T>::max() && std::abs(rounded) >= std::numeric_limits<T>::max() &&
                   (got > 0) == (rounded > 0)
               ? 1.0
               : 1e30;
  }
  int exponent = 0;
  std::frexp(expected, &exponent);
  const int lowest = std::numeric_limits<T>::min_exponent - std::numeric_limits<T>::digits;
  const int unit = exponent - std::numeric_limits<T>::digits;
  const long double spacing = std::ldexp(1.0L, unit < lowest ? lowest : unit);
  return static_cast<double>(std::abs(static_cast<long double>(got) - expected) / spacing);
}

template <class T, class Function, class Reference>
void check_accuracy(const std::string& name, double limit, Function function, Reference reference) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  double worst = 0.0;
  T worst_at = 0;
  const auto sample = [&](T x) {
    const double error = error_in_ulp<T>(function(x), reference(static_cast<long double>(x)));
    if (error > worst) {
      worst = error;
      worst_at = x;
    }
  };
  std::mt19937_64 random(7);
  for (int i = 0; i < 400000; ++i) {
    const Bits bits = static_cast<Bits>(random());
    T x;
    std::memcpy(&x, &bits, sizeof x);
    sample(x);
  }
  // Most bit patterns are huge or tiny: networks live here.
  for (const double range : {1.0, 4.0, 20.0, 120.0, 800.0}) {
    std::uniform_real_distribution<double> uniform(-range, range);
    for (int i = 0; i < 100000; ++i) sample(static_cast<T>(uniform(random)));
  }
  for (const T x : {T(0), T(1), T(-1), T(0.5), std::numeric_limits<T>::denorm_min(), std::numeric_limits<T>::min(),
                    std::numeric_limits<T>::max(), std::numeric_limits<T>::lowest(), std::numeric_limits<T>::infinity(),
                    -std::numeric_limits<T>::infinity(), std::numeric_limits<T>::quiet_NaN()}) {
    sample(x);
  }
  INFO(name << ": " << worst << " ulp at " << worst_at);
  CHECK(worst <= limit);
}

#define CHECK_FUNCTION(type, name, limit)                                              \
  check_accuracy<type>(#type " " #name, limit, [](type x) { return scalar::name(x); }, \
                       [](long double x) -> long double { return std::name(x); })

long double softplus_reference(long double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
/// Zero where e^x is subnormal and nearest to a power of two that no float holds.
long double sigmoid_reference(long double x) {
  if (x < -87.683L) return 0;
  return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

}  // namespace

// The references need more digits than double; where long double has no more (some targets), only float is checked.
constexpr bool kWideReference = std::numeric_limits<long double>::digits > 53;

TEST_CASE("float functions are accurate") {
  CHECK_FUNCTION(float, exp, 1.5);
  CHECK_FUNCTION(float, expm1, 4);
  CHECK_FUNCTION(float, log, 1.5);
  CHECK_FUNCTION(float, log1p, 3);
  CHECK_FUNCTION(float, tanh, 1.5);
  CHECK_FUNCTION(float, erf, 1.5);
  check_accuracy<float>("float sigmoid", 3, [](float x) { return scalar::sigmoid(x); }, sigmoid_reference);
  check_accuracy<float>("float softplus", 3, [](float x) { return scalar::softplus(x); }, softplus_reference);
  CHECK_FUNCTION(float, sin, 0.51);
  CHECK_FUNCTION(float, cos, 0.51);
  CHECK_FUNCTION(float, tan, 0.51);
  CHECK_FUNCTION(float, asin, 0.51);
  CHECK_FUNCTION(float, acos, 0.51);
  CHECK_FUNCTION(float, atan, 0.51);
  CHECK_FUNCTION(float, sinh, 0.51);
  CHECK_FUNCTION(float, cosh, 0.51);
  CHECK_FUNCTION(float, asinh, 0.51);
  CHECK_FUNCTION(float, acosh, 0.51);
  CHECK_FUNCTION(float, atanh, 0.51);
  CHECK_FUNCTION(float, sqrt, 0.51);
  CHECK_FUNCTION(float, floor, 0);
  CHECK_FUNCTION(float, ceil, 0);
  check_accuracy<float>("float round", 0, [](float x) { return scalar::round(x); },
                        [](long double x) { return std::nearbyint(x); });
}

TEST_CASE("double functions are accurate" * doctest::skip(!kWideReference)) {
  CHECK_FUNCTION(double, exp, 1);
  CHECK_FUNCTION(double, expm1, 4);
  CHECK_FUNCTION(double, log, 1);
  CHECK_FUNCTION(double, log1p, 3);
  CHECK_FUNCTION(double, sin, 1.2);
  CHECK_FUNCTION(double, cos, 1.2);
  CHECK_FUNCTION(double, tan, 3);
  CHECK_FUNCTION(double, asin, 3);
  CHECK_FUNCTION(double, acos, 3);
  CHECK_FUNCTION(double, atan, 3);
  CHECK_FUNCTION(double, sinh, 4);
  CHECK_FUNCTION(double, cosh, 4);
  CHECK_FUNCTION(double, tanh, 4);
  CHECK_FUNCTION(double, asinh, 4);
  CHECK_FUNCTION(double, acosh, 4);
  CHECK_FUNCTION(double, atanh, 4);
  CHECK_FUNCTION(double, erf, 2);
  CHECK_FUNCTION(double, sqrt, 0.51);
  CHECK_FUNCTION(double, floor, 0);
  CHECK_FUNCTION(double, ceil, 0);
  check_accuracy<double>("double round", 0, [](double x) { return scalar::round(x); },
                         [](long double x) { return std::nearbyint(x); });
}

TEST_CASE("pow") {
  std::mt19937_64 random(11);
  double worst_float = 0.0;
  double worst_double = 0.0;
  std::uniform_real_distribution<double> exponent(-700.0, 700.0);
  std::uniform_real_distribution<double> logarithm(-3.0, 3.0);
  for (int i = 0; i < 300000; ++i) {
    const double x = std::exp(logarithm(random));
    const double y = exponent(random) / std::abs(std::log(x));
    if (kWideReference) {
      worst_double = std::max(worst_double, error_in_ulp<double>(scalar::pow(x, y), std::pow(static_cast<long double>(x), static_cast<long double>(y))));
    }
    const float xf = static_cast<float>(x);
    const float yf = static_cast<float>(y) / 8.0f;
    worst_float = std::max(worst_float, error_in_ulp<float>(scalar::pow(xf, yf), std::pow(static_cast<long double>(xf), static_cast<long double>(yf))));
  }
  CHECK(worst_float < 0.51);
  CHECK(worst_double < 2);
  const double infinity = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double values[] = {0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 1e300, -1e300, 9007199254740993.0,
                           9007199254740991.0, 5e-324, infinity, -infinity, nan, 1.0000000001, 4503599627370497.0};
  for (const double x : values) {
    for (const double y : values) {
      const double expected = std::pow(x, y);
      const double got = scalar::pow(x, y);
      CAPTURE(x);
      CAPTURE(y);
      CHECK(error_in_ulp<double>(got, expected) <= 8.0);
      if (!std::isnan(expected)) CHECK(std::signbit(got) == std::signbit(expected));
      const float expected_float = std::pow(static_cast<float>(x), static_cast<float>(y));
      CHECK(error_in_ulp<float>(scalar::pow(static_cast<float>(x), static_cast<float>(y)), expected_float) <= 1.0);
    }
  }
}

TEST_CASE("fmod is exact") {
  std::mt19937_64 random(13);
  for (int i = 0; i < 200000; ++i) {
    const std::uint64_t a = random(), b = random();
    double x, y;
    std::memcpy(&x, &a, 8);
    std::memcpy(&y, &b, 8);
    if (i % 2 == 0) y = std::ldexp(y, i % 60 - 30);
    const double expected = std::fmod(x, y);
    const double got = scalar::fmod(x, y);
    const bool same = std::isnan(expected) ? std::isnan(got) : std::memcmp(&got, &expected, 8) == 0;
    if (!same) {
      CAPTURE(x);
      CAPTURE(y);
      FAIL_CHECK("fmod");
    }
  }
  CHECK(std::isnan(scalar::fmod(1.0, 0.0)));
  CHECK(std::isnan(scalar::fmod(std::numeric_limits<double>::infinity(), 2.0)));
  CHECK(scalar::fmod(5.0, std::numeric_limits<double>::infinity()) == 5.0);
  CHECK(std::signbit(scalar::fmod(-4.0, 2.0)));
}

TEST_CASE("signed zeros survive odd functions") {
  for (const double zero : {0.0, -0.0}) {
    const bool negative = std::signbit(zero);
    CHECK(std::signbit(scalar::sin(zero)) == negative);
    CHECK(std::signbit(scalar::tan(zero)) == negative);
    CHECK(std::signbit(scalar::atan(zero)) == negative);
    CHECK(std::signbit(scalar::tanh(zero)) == negative);
    CHECK(std::signbit(scalar::erf(zero)) == negative);
    CHECK(std::signbit(scalar::round(zero)) == negative);
    CHECK(std::signbit(scalar::tanh(static_cast<float>(zero))) == negative);
    CHECK(std::signbit(scalar::floor(static_cast<float>(zero))) == negative);
  }
}

TEST_CASE("half and bfloat16 convert both ways, every half and rounding case") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const scalar::Half half{static_cast<std::uint16_t>(bits)};
    const float value = scalar::to_float(half);
    const int exponent = static_cast<int>(bits >> 10 & 31u);
    const double fraction = bits & 1023u;
    double expected = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024.0 + fraction, exponent - 25);
    if (exponent == 31) expected = fraction == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
    if (bits & 0x8000u) expected = -expected;
    if (std::isnan(expected)) {
      CHECK(std::isnan(value));
      CHECK(std::isnan(scalar::to_float(scalar::to_half(value))));
      continue;
    }
    CHECK(value == expected);
    CHECK(scalar::to_half(value).bits == bits);
    if (exponent < 30) {  // halfway to the neighbour goes to the even one, anything more or less to the nearer one
      const float next = scalar::to_float(scalar::Half{static_cast<std::uint16_t>(bits + 1)});
      const float middle = (value + next) * 0.5f;
      CHECK(scalar::to_half(middle).bits == ((bits & 1u) ? bits + 1 : bits));
      CHECK(scalar::to_half(std::nextafter(middle, value)).bits == bits);
      CHECK(scalar::to_half(std::nextafter(middle, next)).bits == bits + 1);
    }
  }
  CHECK(scalar::to_half(65519.0f).bits == 0x7bffu);
  CHECK(scalar::to_half(65520.0f).bits == 0x7c00u);
  CHECK(scalar::to_half(1e30f).bits == 0x7c00u);
  CHECK(scalar::to_bfloat16(1.00390625f).bits == 0x3f80u);   // halfway, even below
  CHECK(scalar::to_bfloat16(1.01171875f).bits == 0x3f82u);   // halfway, even above
  CHECK(scalar::to_bfloat16(3.4e38f).bits == 0x7f80u);
  CHECK(std::isnan(scalar::to_float(scalar::to_bfloat16(std::nanf("")))));
  // 1 + 2^-11 + 2^-40 lies above the middle of two halves; through a rounded float it would look like the middle.
  CHECK(scalar::to_half(scalar::narrow_to_odd(1.0 + std::ldexp(1.0, -11) + std::ldexp(1.0, -40))).bits == 0x3c01u);
}

TEST_CASE("saturating conversion") {
  CHECK(scalar::saturate_cast<std::int8_t>(127.9f) == 127);
  CHECK(scalar::saturate_cast<std::int8_t>(128.0f) == 127);
  CHECK(scalar::saturate_cast<std::int8_t>(-128.9f) == -128);
  CHECK(scalar::saturate_cast<std::int8_t>(-1e9) == -128);
  CHECK(scalar::saturate_cast<std::uint8_t>(-0.9f) == 0);
  CHECK(scalar::saturate_cast<std::uint8_t>(255.9) == 255);
  CHECK(scalar::saturate_cast<std::int32_t>(-2.7f) == -2);
  CHECK(scalar::saturate_cast<std::int32_t>(3e9f) == INT32_MAX);
  CHECK(scalar::saturate_cast<std::int32_t>(std::nanf("")) == 0);
  CHECK(scalar::saturate_cast<std::int64_t>(1e30) == INT64_MAX);
  CHECK(scalar::saturate_cast<std::int64_t>(-std::numeric_limits<double>::infinity()) == INT64_MIN);
  CHECK(scalar::saturate_cast<std::uint64_t>(1.8446744073709550e19) == 18446744073709549568u);
  CHECK(scalar::saturate_cast<std::uint64_t>(1.9e19) == UINT64_MAX);
}
