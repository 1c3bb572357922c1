// SPDX-License-Identifier: Apache-2.0
// What the operations of pointwise.h mean for one element, with ONNX semantics where ONNX defines them, on:
//
//   float   also for half and bfloat16, which are computed in float
//   double
//   int64   every signed integer type: computed in 64 bits, then narrow() after each operation: overflow wraps
//   uint64  every unsigned integer type, the same way
//   bool    as a byte, any value but 0 is true; And, Or, Xor, Not, Equal, Where, Identity only
//
// Integers: division truncates toward zero, by zero it gives 0; a remainder by zero is 0; Mod has the divisor's sign,
// Fmod the dividend's; a negative power is 0 unless the base is 1 or -1; a shift by the width or more gives 0.
// Floats: Min and Max give NaN when either operand is NaN; Round sends halves to the even neighbour.
#pragma once

#include "edgert/scalar/math.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::scalar {

#include "edgert/scalar/pointwise_float.inc"

/// Whether the operation has a form in pointwise_float.inc, which vector kernels also use.
EDGERT_SCALAR constexpr bool has_float_form(PointwiseOp op) {
  switch (op) {
#define EDGERT_CASE(name) case PointwiseOp::name:
    EDGERT_ACTIVATIONS(EDGERT_CASE)
    EDGERT_CASE(Identity)
    EDGERT_CASE(Add)
    EDGERT_CASE(Sub)
    EDGERT_CASE(Mul)
    EDGERT_CASE(Div)
    EDGERT_CASE(Min)
    EDGERT_CASE(Max)
    EDGERT_CASE(PRelu)
#undef EDGERT_CASE
    return true;
    default: return false;
  }
}

/// The arithmetic that a type is computed in.
enum class Arithmetic : unsigned char { None, F32, F64, Signed, Unsigned, Bool };

/// Whether `op` is defined in that arithmetic.
EDGERT_SCALAR constexpr bool is_defined(PointwiseOp op, Arithmetic arithmetic) {
  const unsigned code = static_cast<unsigned>(op);
  if (arithmetic == Arithmetic::None || arity(op) == 0) return false;
  if (op == PointwiseOp::Identity || op == PointwiseOp::Equal || op == PointwiseOp::Where) return true;
  const bool logical = op == PointwiseOp::Not || (code >= 89 && code <= 91);
  if (arithmetic == Arithmetic::Bool) return logical;
  if (logical) return false;
  const bool bitwise = op == PointwiseOp::BitNot || (code >= 92 && code <= 94);
  const bool shift = op == PointwiseOp::ShiftLeft || op == PointwiseOp::ShiftRight;
  if (arithmetic == Arithmetic::F32 || arithmetic == Arithmetic::F64) return !bitwise && !shift;
  if (shift) return arithmetic == Arithmetic::Unsigned;
  switch (op) {
    case PointwiseOp::Neg: case PointwiseOp::Abs: case PointwiseOp::Sign: case PointwiseOp::BitNot:
    case PointwiseOp::Relu: return true;
    default: return code >= 80;
  }
}

/// Remainder with the divisor's sign.
template <class T>
EDGERT_SCALAR T floating_mod(T a, T b) {
  const T remainder = fmod(a, b);
  return remainder != T{0} && (remainder < T{0}) != (b < T{0}) ? remainder + b : remainder;
}

/// One-operand operations of float that have no vector form; the rest of them as well, so that this is complete.
template <PointwiseOp kOp>
EDGERT_SCALAR float unary(float x, float alpha, float beta) {
  if constexpr (kOp == PointwiseOp::Sin) return sin(x);
  else if constexpr (kOp == PointwiseOp::Cos) return cos(x);
  else if constexpr (kOp == PointwiseOp::Tan) return tan(x);
  else if constexpr (kOp == PointwiseOp::Asin) return asin(x);
  else if constexpr (kOp == PointwiseOp::Acos) return acos(x);
  else if constexpr (kOp == PointwiseOp::Atan) return atan(x);
  else if constexpr (kOp == PointwiseOp::Sinh) return sinh(x);
  else if constexpr (kOp == PointwiseOp::Cosh) return cosh(x);
  else if constexpr (kOp == PointwiseOp::Asinh) return asinh(x);
  else if constexpr (kOp == PointwiseOp::Acosh) return acosh(x);
  else if constexpr (kOp == PointwiseOp::Atanh) return atanh(x);
  else return float_unary<kOp>(x, alpha, beta);
}

template <PointwiseOp kOp>
EDGERT_SCALAR double unary(double x, float alpha_float, float beta_float) {
  const double alpha = static_cast<double>(alpha_float);
  const double beta = static_cast<double>(beta_float);
  if constexpr (kOp == PointwiseOp::Neg) return -x;
  else if constexpr (kOp == PointwiseOp::Abs) return abs(x);
  else if constexpr (kOp == PointwiseOp::Sign) return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x;
  else if constexpr (kOp == PointwiseOp::Reciprocal) return 1.0 / x;
  else if constexpr (kOp == PointwiseOp::Sqrt) return sqrt(x);
  else if constexpr (kOp == PointwiseOp::Exp) return exp(x);
  else if constexpr (kOp == PointwiseOp::Log) return log(x);
  else if constexpr (kOp == PointwiseOp::Sin) return sin(x);
  else if constexpr (kOp == PointwiseOp::Cos) return cos(x);
  else if constexpr (kOp == PointwiseOp::Tan) return tan(x);
  else if constexpr (kOp == PointwiseOp::Asin) return asin(x);
  else if constexpr (kOp == PointwiseOp::Acos) return acos(x);
  else if constexpr (kOp == PointwiseOp::Atan) return atan(x);
  else if constexpr (kOp == PointwiseOp::Sinh) return sinh(x);
  else if constexpr (kOp == PointwiseOp::Cosh) return cosh(x);
  else if constexpr (kOp == PointwiseOp::Tanh) return tanh(x);
  else if constexpr (kOp == PointwiseOp::Asinh) return asinh(x);
  else if constexpr (kOp == PointwiseOp::Acosh) return acosh(x);
  else if constexpr (kOp == PointwiseOp::Atanh) return atanh(x);
  else if constexpr (kOp == PointwiseOp::Erf) return erf(x);
  else if constexpr (kOp == PointwiseOp::Floor) return floor(x);
  else if constexpr (kOp == PointwiseOp::Ceil) return ceil(x);
  else if constexpr (kOp == PointwiseOp::Round) return round(x);
  else if constexpr (kOp == PointwiseOp::Relu) return x < 0.0 ? 0.0 : x;
  else if constexpr (kOp == PointwiseOp::LeakyRelu) return x < 0.0 ? alpha * x : x;
  else if constexpr (kOp == PointwiseOp::Elu) return x < 0.0 ? alpha * expm1(x) : x;
  else if constexpr (kOp == PointwiseOp::Selu) return beta * (x > 0.0 ? x : alpha * expm1(x));
  else if constexpr (kOp == PointwiseOp::Celu) return x < 0.0 ? alpha * expm1(x / alpha) : x;
  else if constexpr (kOp == PointwiseOp::ThresholdedRelu) return x <= alpha ? 0.0 : x;
  else if constexpr (kOp == PointwiseOp::Sigmoid) return sigmoid(x);
  else if constexpr (kOp == PointwiseOp::HardSigmoid) {
    const double line = alpha * x + beta;
    return line < 0.0 ? 0.0 : line > 1.0 ? 1.0 : line;
  } else if constexpr (kOp == PointwiseOp::Silu) return x * sigmoid(x);
  else if constexpr (kOp == PointwiseOp::HardSwish) {
    const double line = x / 6.0 + 0.5;
    return x * (line < 0.0 ? 0.0 : line > 1.0 ? 1.0 : line);
  } else if constexpr (kOp == PointwiseOp::Softplus) return softplus(x);
  else if constexpr (kOp == PointwiseOp::Softsign) return x / (1.0 + abs(x));
  else if constexpr (kOp == PointwiseOp::Mish) return x * tanh(softplus(x));
  else if constexpr (kOp == PointwiseOp::Gelu) return 0.5 * x * (1.0 + erf(x * 0.70710678118654752));
  else if constexpr (kOp == PointwiseOp::GeluTanh) {
    return x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x));
  } else if constexpr (kOp == PointwiseOp::Clip) {
    const double above = x < alpha ? alpha : x;
    return above > beta ? beta : above;
  } else if constexpr (kOp == PointwiseOp::Shrink) {
    return x < -alpha ? x + beta : x > alpha ? x - beta : x != x ? x : 0.0;
  } else {
    static_assert(kOp == PointwiseOp::Identity, "not defined for double");
    return x;
  }
}

/// T has 64 bits; arithmetic is modulo 2^64.
template <PointwiseOp kOp, class T>
EDGERT_SCALAR T integer_unary(T x) {
  constexpr bool kSigned = static_cast<T>(-1) < static_cast<T>(1);
  const bool negative = kSigned && x < static_cast<T>(1) && x != T{0};
  if constexpr (kOp == PointwiseOp::Neg) return static_cast<T>(uint64{0} - static_cast<uint64>(x));
  else if constexpr (kOp == PointwiseOp::Abs) return negative ? static_cast<T>(uint64{0} - static_cast<uint64>(x)) : x;
  else if constexpr (kOp == PointwiseOp::Sign) return negative ? static_cast<T>(-1) : static_cast<T>(x != T{0});
  else if constexpr (kOp == PointwiseOp::BitNot) return static_cast<T>(~x);
  else if constexpr (kOp == PointwiseOp::Relu) return negative ? T{0} : x;
  else {
    static_assert(kOp == PointwiseOp::Identity, "not defined for integers");
    return x;
  }
}

/// Two-operand arithmetic of float and double.
template <PointwiseOp kOp, class T>
EDGERT_SCALAR T floating_binary(T a, T b) {
  if constexpr (kOp == PointwiseOp::Add) return a + b;
  else if constexpr (kOp == PointwiseOp::Sub) return a - b;
  else if constexpr (kOp == PointwiseOp::Mul) return a * b;
  else if constexpr (kOp == PointwiseOp::Div) return a / b;
  else if constexpr (kOp == PointwiseOp::Mod) return floating_mod(a, b);
  else if constexpr (kOp == PointwiseOp::Fmod) return fmod(a, b);
  else if constexpr (kOp == PointwiseOp::Pow) return pow(a, b);
  else if constexpr (kOp == PointwiseOp::Min) return min(a, b);
  else if constexpr (kOp == PointwiseOp::Max) return max(a, b);
  else {
    static_assert(kOp == PointwiseOp::PRelu, "not defined for floating point");
    return a < T{0} ? a * b : a;
  }
}

/// base^exponent modulo 2^64.
template <class T>
EDGERT_SCALAR T integer_power(T base, T exponent) {
  if (exponent < static_cast<T>(1) && exponent != T{0}) {
    if (base == T{1}) return base;
    if (base == static_cast<T>(-1)) return (exponent & 1) != 0 ? base : T{1};
    return T{0};
  }
  uint64 result = 1;
  uint64 factor = static_cast<uint64>(base);
  for (uint64 rest = static_cast<uint64>(exponent); rest != 0; rest >>= 1) {
    if ((rest & 1) != 0) result *= factor;
    factor *= factor;
  }
  return static_cast<T>(result);
}

/// a / b or its remainder without the two cases that processors trap on.
template <class T>
EDGERT_SCALAR T integer_quotient(T a, T b) {
  if (b == T{0}) return T{0};
  if (b == static_cast<T>(-1) && static_cast<T>(-1) < static_cast<T>(1)) {
    return static_cast<T>(uint64{0} - static_cast<uint64>(a));
  }
  return static_cast<T>(a / b);
}
template <class T>
EDGERT_SCALAR T integer_remainder(T a, T b) {
  if (b == T{0} || (b == static_cast<T>(-1) && static_cast<T>(-1) < static_cast<T>(1))) return T{0};
  return static_cast<T>(a % b);
}

/// T has 64 bits; `bits` is the width of the element type, which bounds shifts.
template <PointwiseOp kOp, class T>
EDGERT_SCALAR T integer_binary(T a, T b, unsigned bits) {
  const uint64 x = static_cast<uint64>(a);
  const uint64 y = static_cast<uint64>(b);
  if constexpr (kOp == PointwiseOp::Add) return static_cast<T>(x + y);
  else if constexpr (kOp == PointwiseOp::Sub) return static_cast<T>(x - y);
  else if constexpr (kOp == PointwiseOp::Mul) return static_cast<T>(x * y);
  else if constexpr (kOp == PointwiseOp::Div) return integer_quotient(a, b);
  else if constexpr (kOp == PointwiseOp::Fmod) return integer_remainder(a, b);
  else if constexpr (kOp == PointwiseOp::Mod) {
    const T remainder = integer_remainder(a, b);
    return remainder != T{0} && ((remainder ^ b) < static_cast<T>(1) && (remainder ^ b) != T{0}) &&
                   static_cast<T>(-1) < static_cast<T>(1)
               ? static_cast<T>(remainder + b)
               : remainder;
  } else if constexpr (kOp == PointwiseOp::Pow) return integer_power(a, b);
  else if constexpr (kOp == PointwiseOp::Min) return a < b ? a : b;
  else if constexpr (kOp == PointwiseOp::Max) return a > b ? a : b;
  else if constexpr (kOp == PointwiseOp::BitAnd) return static_cast<T>(x & y);
  else if constexpr (kOp == PointwiseOp::BitOr) return static_cast<T>(x | y);
  else if constexpr (kOp == PointwiseOp::BitXor) return static_cast<T>(x ^ y);
  else if constexpr (kOp == PointwiseOp::ShiftLeft) return y >= bits ? T{0} : static_cast<T>(x << y);
  else if constexpr (kOp == PointwiseOp::ShiftRight) return y >= bits ? T{0} : static_cast<T>(x >> y);
  else {
    static_assert(kOp == PointwiseOp::PRelu, "not defined for integers");
    return a < static_cast<T>(1) && a != T{0} ? static_cast<T>(x * y) : a;
  }
}

/// Comparisons of any type.
template <PointwiseOp kOp, class T>
EDGERT_SCALAR bool compare(T a, T b) {
  if constexpr (kOp == PointwiseOp::Equal) return a == b;
  else if constexpr (kOp == PointwiseOp::Less) return a < b;
  else if constexpr (kOp == PointwiseOp::LessOrEqual) return a <= b;
  else if constexpr (kOp == PointwiseOp::Greater) return a > b;
  else {
    static_assert(kOp == PointwiseOp::GreaterOrEqual, "no comparison");
    return a >= b;
  }
}

/// A wide integer back in the range of an element type of `bits` bits: two's complement wrap-around.
template <class T>
EDGERT_SCALAR T narrow(T x, unsigned bits) {
  return static_cast<T>(static_cast<T>(static_cast<uint64>(x) << (64 - bits)) >> (64 - bits));
}

}  // namespace edgert::scalar
