// SPDX-License-Identifier: Apache-2.0
// Elementary functions of float and double without a math library: the same bits on every host, and usable in device
// code. Only NaN payloads may differ.
#pragma once

#include "edgert/scalar/compiler.h"
#include "edgert/scalar/double_math.h"
#include "edgert/scalar/trigonometry.h"

namespace edgert::scalar {

using Float = float;
using UInt = uint32;
#include "edgert/scalar/float_math.inc"

// Rare in networks, so exact to half an ulp by way of double rather than fast.
EDGERT_SCALAR float sin(float x) { return static_cast<float>(sin(static_cast<double>(x))); }
EDGERT_SCALAR float cos(float x) { return static_cast<float>(cos(static_cast<double>(x))); }
EDGERT_SCALAR float tan(float x) { return static_cast<float>(tan(static_cast<double>(x))); }
EDGERT_SCALAR float asin(float x) { return static_cast<float>(asin(static_cast<double>(x))); }
EDGERT_SCALAR float acos(float x) { return static_cast<float>(acos(static_cast<double>(x))); }
EDGERT_SCALAR float atan(float x) { return static_cast<float>(atan(static_cast<double>(x))); }
EDGERT_SCALAR float sinh(float x) { return static_cast<float>(sinh(static_cast<double>(x))); }
EDGERT_SCALAR float cosh(float x) { return static_cast<float>(cosh(static_cast<double>(x))); }
EDGERT_SCALAR float asinh(float x) { return static_cast<float>(asinh(static_cast<double>(x))); }
EDGERT_SCALAR float acosh(float x) { return static_cast<float>(acosh(static_cast<double>(x))); }
EDGERT_SCALAR float atanh(float x) { return static_cast<float>(atanh(static_cast<double>(x))); }
EDGERT_SCALAR float fmod(float x, float y) {
  return static_cast<float>(fmod(static_cast<double>(x), static_cast<double>(y)));
}
EDGERT_SCALAR float pow(float x, float y) {
  return y == 2.0f ? x * x : static_cast<float>(pow(static_cast<double>(x), static_cast<double>(y)));
}

EDGERT_SCALAR double sigmoid(double x) {
  const double e = exp(-abs(x));
  return (x < 0.0 ? e : 1.0) / (1.0 + e);
}
EDGERT_SCALAR double softplus(double x) { return (x < 0.0 ? 0.0 : x) + log1p(exp(-abs(x))); }

}  // namespace edgert::scalar
