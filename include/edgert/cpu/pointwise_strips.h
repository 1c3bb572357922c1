// SPDX-License-Identifier: Apache-2.0
// Pointwise operations on strips of consecutive values, in the arithmetic of their type: vector kernels per instruction
// set for float, plain loops for the rest. A strip holds float for f32, f16 and bf16; double; int64 or uint64 for
// integers of any width; bytes for bool. Which operation runs is decided once per strip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "edgert/cpu/isa/pointwise_kernels.h"
#include "edgert/cpu/operator.h"
#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/pointwise_functions.h"
#include "edgert/types.h"

namespace edgert::cpu {

using scalar::PointwiseOp;

namespace strip_detail {

template <class T, class Function>
void map(void* to, const void* a, std::int64_t n, Function function) noexcept {
  for (std::int64_t i = 0; i < n; ++i) static_cast<T*>(to)[i] = function(static_cast<const T*>(a)[i]);
}
template <class To, class T, class Function>
void map(void* to, const void* a, const void* b, std::int64_t n, Function function) noexcept {
  const T* const left = static_cast<const T*>(a);
  const T* const right = static_cast<const T*>(b);
  for (std::int64_t i = 0; i < n; ++i) static_cast<To*>(to)[i] = static_cast<To>(function(left[i], right[i]));
}

#define EDGERT_UNARY_CASE(name)                                                                               \
  case PointwiseOp::name:                                                                                     \
    return map<T>(to, a, n, [=](T x) { return scalar::unary<PointwiseOp::name>(x, alpha, beta); });
#define EDGERT_RARE_FUNCTIONS(call)                                                             \
  call(Sin) call(Cos) call(Tan) call(Asin) call(Acos) call(Atan) call(Sinh) call(Cosh)          \
  call(Asinh) call(Acosh) call(Atanh)

/// The functions of float that have no vector form.
inline void float_unary(PointwiseOp op, void* to, const void* a, std::int64_t n) noexcept {
  using T = float;
  constexpr float alpha = 0.0f;
  constexpr float beta = 0.0f;
  switch (op) {
    EDGERT_RARE_FUNCTIONS(EDGERT_UNARY_CASE)
    default: return;
  }
}
inline void double_unary(PointwiseOp op, void* to, const void* a, std::int64_t n, float alpha, float beta) noexcept {
  using T = double;
  switch (op) {
    EDGERT_RARE_FUNCTIONS(EDGERT_UNARY_CASE)
    EDGERT_ACTIVATIONS(EDGERT_UNARY_CASE)
    default: return;
  }
}
#undef EDGERT_UNARY_CASE
#undef EDGERT_RARE_FUNCTIONS

#define EDGERT_BINARY_CASE(name)                                                                              \
  case PointwiseOp::name:                                                                                     \
    return map<T, T>(to, a, b, n, [](T x, T y) { return scalar::floating_binary<PointwiseOp::name>(x, y); });
#define EDGERT_RARE_BINARY(call) call(Mod) call(Fmod) call(Pow)

inline void float_binary(PointwiseOp op, void* to, const void* a, const void* b, std::int64_t n) noexcept {
  using T = float;
  switch (op) {
    EDGERT_RARE_BINARY(EDGERT_BINARY_CASE)
    default: return;
  }
}
inline void double_binary(PointwiseOp op, void* to, const void* a, const void* b, std::int64_t n) noexcept {
  using T = double;
  switch (op) {
    EDGERT_RARE_BINARY(EDGERT_BINARY_CASE)
    EDGERT_BINARY_CASE(Add)
    EDGERT_BINARY_CASE(Sub)
    EDGERT_BINARY_CASE(Mul)
    EDGERT_BINARY_CASE(Div)
    EDGERT_BINARY_CASE(Min)
    EDGERT_BINARY_CASE(Max)
    EDGERT_BINARY_CASE(PRelu)
    default: return;
  }
}
#undef EDGERT_BINARY_CASE
#undef EDGERT_RARE_BINARY

/// T is std::int64_t or std::uint64_t.
template <class T>
void integer_unary(PointwiseOp op, void* to, const void* a, std::int64_t n, unsigned bits) noexcept {
  switch (op) {
#define EDGERT_CASE(name)   \
  case PointwiseOp::name:   \
    return map<T>(to, a, n, [=](T x) { return scalar::narrow(scalar::integer_unary<PointwiseOp::name>(x), bits); });
    EDGERT_CASE(Neg)
    EDGERT_CASE(Abs)
    EDGERT_CASE(Sign)
    EDGERT_CASE(BitNot)
    EDGERT_CASE(Relu)
#undef EDGERT_CASE
    default: return;
  }
}
template <class T>
void integer_binary(PointwiseOp op, void* to, const void* a, const void* b, std::int64_t n, unsigned bits) noexcept {
  switch (op) {
#define EDGERT_CASE(name)                                                                       \
  case PointwiseOp::name:                                                                       \
    return map<T, T>(to, a, b, n, [=](T x, T y) {                                               \
      return scalar::narrow(scalar::integer_binary<PointwiseOp::name>(x, y, bits), bits);       \
    });
    EDGERT_CASE(Add)
    EDGERT_CASE(Sub)
    EDGERT_CASE(Mul)
    EDGERT_CASE(Div)
    EDGERT_CASE(Mod)
    EDGERT_CASE(Fmod)
    EDGERT_CASE(Pow)
    EDGERT_CASE(Min)
    EDGERT_CASE(Max)
    EDGERT_CASE(BitAnd)
    EDGERT_CASE(BitOr)
    EDGERT_CASE(BitXor)
    EDGERT_CASE(ShiftLeft)
    EDGERT_CASE(ShiftRight)
    EDGERT_CASE(PRelu)
#undef EDGERT_CASE
    default: return;
  }
}

template <class T>
void compare(PointwiseOp op, void* to, const void* a, const void* b, std::int64_t n) noexcept {
  switch (op) {
#define EDGERT_CASE(name)   \
  case PointwiseOp::name:   \
    return map<std::uint8_t, T>(to, a, b, n, [](T x, T y) { return scalar::compare<PointwiseOp::name>(x, y); });
    EDGERT_CASE(Equal)
    EDGERT_CASE(Less)
    EDGERT_CASE(LessOrEqual)
    EDGERT_CASE(Greater)
    EDGERT_CASE(GreaterOrEqual)
#undef EDGERT_CASE
    default: return;
  }
}

template <class T>
void classify(PointwiseOp op, void* to, const void* a, std::int64_t n, T infinity) noexcept {
  const T* const from = static_cast<const T*>(a);
  std::uint8_t* const result = static_cast<std::uint8_t*>(to);
  const bool nan = op == PointwiseOp::IsNan;
  for (std::int64_t i = 0; i < n; ++i) {
    result[i] = nan ? from[i] != from[i] : from[i] == infinity || from[i] == -infinity;
  }
}

inline void boolean(PointwiseOp op, void* to, const void* a, const void* b, std::int64_t n) noexcept {
  using T = std::uint8_t;
  switch (op) {
    case PointwiseOp::Not: return map<T>(to, a, n, [](T x) { return static_cast<T>(x == 0); });
    case PointwiseOp::Identity: return map<T>(to, a, n, [](T x) { return static_cast<T>(x != 0); });
    case PointwiseOp::And: return map<T, T>(to, a, b, n, [](T x, T y) { return x != 0 && y != 0; });
    case PointwiseOp::Or: return map<T, T>(to, a, b, n, [](T x, T y) { return x != 0 || y != 0; });
    case PointwiseOp::Xor: return map<T, T>(to, a, b, n, [](T x, T y) { return (x != 0) != (y != 0); });
    default: return map<T, T>(to, a, b, n, [](T x, T y) { return (x != 0) == (y != 0); });  // Equal
  }
}

template <class T>
void where(void* to, const void* condition, const void* a, const void* b, std::int64_t n) noexcept {
  const std::uint8_t* const chosen = static_cast<const std::uint8_t*>(condition);
  for (std::int64_t i = 0; i < n; ++i) {
    static_cast<T*>(to)[i] = chosen[i] != 0 ? static_cast<const T*>(a)[i] : static_cast<const T*>(b)[i];
  }
}

template <class T>
void integer_step(const scalar::PointwiseStep& step, void* to, const void* a, const void* b, std::int64_t n) noexcept {
  const unsigned bits = bits_of(static_cast<DType>(step.type));
  if (scalar::is_predicate(step.op)) return compare<T>(step.op, to, a, b, n);
  if (scalar::arity(step.op) == 1) return integer_unary<T>(step.op, to, a, n, bits);
  return integer_binary<T>(step.op, to, a, b, n, bits);
}

inline void float_step(const scalar::PointwiseStep& step, void* to, const void* a, const void* b, std::int64_t n,
                       Isa isa) noexcept {
  float* const result = static_cast<float*>(to);
  const float* const left = static_cast<const float*>(a);
  if (step.op == PointwiseOp::IsNan || step.op == PointwiseOp::IsInf) {
    return classify<float>(step.op, to, a, n, scalar::infinity_f32());
  }
  if (scalar::is_predicate(step.op)) return compare<float>(step.op, to, a, b, n);
  if (scalar::arity(step.op) == 1) {
    if (!scalar::has_float_form(step.op)) return float_unary(step.op, to, a, n);
    return EDGERT_ISA_DISPATCH(isa, strip_float_unary(step.op, result, left, n, step.alpha, step.beta));
  }
  if (!scalar::has_float_form(step.op)) return float_binary(step.op, to, a, b, n);
  EDGERT_ISA_DISPATCH(isa, strip_float_binary(step.op, result, left, static_cast<const float*>(b), n));
}

inline void double_step(const scalar::PointwiseStep& step, void* to, const void* a, const void* b,
                        std::int64_t n) noexcept {
  if (step.op == PointwiseOp::IsNan || step.op == PointwiseOp::IsInf) {
    return classify<double>(step.op, to, a, n, scalar::infinity_f64());
  }
  if (scalar::is_predicate(step.op)) return compare<double>(step.op, to, a, b, n);
  if (scalar::arity(step.op) == 1) return double_unary(step.op, to, a, n, step.alpha, step.beta);
  double_binary(step.op, to, a, b, n);
}

}  // namespace strip_detail

/// One checked instruction on `n` values. `to` may be one of the operands.
inline void run_strip(const scalar::PointwiseStep& step, void* to, const void* a, const void* b, const void* c,
                      std::int64_t n, Isa isa) noexcept {
  const Arithmetic arithmetic = arithmetic_of(static_cast<DType>(step.type));
  if (step.op == PointwiseOp::Where) {
    if (arithmetic == Arithmetic::F32) {
      return EDGERT_ISA_DISPATCH(isa, strip_float_where(static_cast<float*>(to), static_cast<const std::uint8_t*>(a),
                                                        static_cast<const float*>(b), static_cast<const float*>(c), n));
    }
    if (arithmetic == Arithmetic::Bool) return strip_detail::where<std::uint8_t>(to, a, b, c, n);
    if (arithmetic == Arithmetic::F64) return strip_detail::where<double>(to, a, b, c, n);
    return strip_detail::where<std::uint64_t>(to, a, b, c, n);
  }
  if (step.op == PointwiseOp::Identity && arithmetic != Arithmetic::Bool) {
    std::memmove(to, a, static_cast<std::size_t>(n) * lane_bytes(arithmetic));
    return;
  }
  switch (arithmetic) {
    case Arithmetic::F32: return strip_detail::float_step(step, to, a, b, n, isa);
    case Arithmetic::F64: return strip_detail::double_step(step, to, a, b, n);
    case Arithmetic::Signed: return strip_detail::integer_step<std::int64_t>(step, to, a, b, n);
    case Arithmetic::Unsigned: return strip_detail::integer_step<std::uint64_t>(step, to, a, b, n);
    case Arithmetic::Bool: return strip_detail::boolean(step.op, to, a, b, n);
    case Arithmetic::None: return;
  }
}

}  // namespace edgert::cpu
