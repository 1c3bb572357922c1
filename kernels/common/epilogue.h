// SPDX-License-Identifier: Apache-2.0
// What dense kernels do with eight neighbouring channels of a finished sum before storing them: bias, residual,
// activation, rounding to the element type. Vector16 holds the eight elements.
#pragma once

#include "edgert/scalar/pointwise_functions.h"
#include "kernels/common/ptx.h"

namespace edgert::device {

template <class Element>
__device__ __forceinline__ void unpack8(const Vector16& in, float (&out)[8]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) Element::unpack(in.word[i], out[2 * i], out[2 * i + 1]);
}
template <class Element>
__device__ __forceinline__ Vector16 pack8(const float (&in)[8]) {
  Vector16 out;
#pragma unroll
  for (int i = 0; i < 4; ++i) out.word[i] = Element::pack(in[2 * i], in[2 * i + 1]);
  return out;
}

/// Activations to about 2^-20, where the exact form costs more than the rest of an epilogue: results are rounded to 16
/// bits anyway.
__device__ __forceinline__ float sigmoid_approximate(float x) { return reciprocal_approximate(1.0f + exp2_approximate(x * -1.44269504f)); }

/// x times the normal distribution function, by Abramowitz and Stegun 7.1.26, whose absolute error is 1.5e-7.
__device__ __forceinline__ float gelu_approximate(float x) {
  const float z = fabsf(x) * 0.70710678f;
  const float t = reciprocal_approximate(z * 0.3275911f + 1.0f);
  const float polynomial = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const float tail = 0.5f * polynomial * exp2_approximate(z * z * -1.44269504f);
  return x * (x < 0.0f ? tail : 1.0f - tail);
}

template <scalar::PointwiseOp kActivation>
__device__ __forceinline__ float activate_for_16_bits(float x, float alpha, float beta) {
  if constexpr (kActivation == scalar::PointwiseOp::Identity) return x;
  else if constexpr (kActivation == scalar::PointwiseOp::Sigmoid) return sigmoid_approximate(x);
  else if constexpr (kActivation == scalar::PointwiseOp::Silu) return x * sigmoid_approximate(x);
  else if constexpr (kActivation == scalar::PointwiseOp::Gelu) return gelu_approximate(x);
  else if constexpr (kActivation == scalar::PointwiseOp::HardSwish) return x * multiply_add_saturated(x, 1.0f / 6.0f, 0.5f);
  else return scalar::float_unary<kActivation>(x, alpha, beta);
}

/// Whether rounding to 16 bits changes nothing about a bound of Clip.
__device__ constexpr bool is_short(float x) { return x >= -128.0f && x <= 128.0f && static_cast<float>(static_cast<int>(x)) == x; }

/// Two activated values, rounded. Bounds are applied to both at once, behind the rounding, which keeps the order of values.
template <class Element, scalar::PointwiseOp kActivation, bool kShortBounds>
__device__ __forceinline__ uint32 activate_pair(float low, float high, float alpha, float beta) {
  if constexpr (kActivation == scalar::PointwiseOp::Relu) {
    return Element::pack_relu(low, high);
  } else if constexpr (kActivation == scalar::PointwiseOp::Clip && kShortBounds) {
    return Element::minimum_pairs(Element::maximum_pairs(Element::pack(low, high), Element::pack(alpha, alpha)), Element::pack(beta, beta));
  } else {
    return Element::pack(activate_for_16_bits<kActivation>(low, alpha, beta), activate_for_16_bits<kActivation>(high, alpha, beta));
  }
}

/// y = activation(x + residual) or activation(x) + residual in place; `residual` is read only in the modes that have one.
template <class Element, scalar::PointwiseOp kActivation, scalar::ResidualMode kResidual>
__device__ __forceinline__ void finish_floats(float (&x)[8], const Vector16& residual, float alpha, float beta) {
  float other[8] = {};
  if constexpr (kResidual != scalar::ResidualMode::None) unpack8<Element>(residual, other);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if constexpr (kResidual == scalar::ResidualMode::BeforeActivation) x[i] += other[i];
    x[i] = activate_for_16_bits<kActivation>(x[i], alpha, beta);
    if constexpr (kResidual == scalar::ResidualMode::AfterActivation) x[i] += other[i];
  }
}
template <class Element, scalar::PointwiseOp kActivation, scalar::ResidualMode kResidual>
__device__ __forceinline__ Vector16 finish8(float (&x)[8], const Vector16& residual, float alpha, float beta) {
  // Rounding and Relu are one instruction.
  constexpr bool kPacksRelu = kActivation == scalar::PointwiseOp::Relu && kResidual != scalar::ResidualMode::AfterActivation;
  finish_floats<Element, kPacksRelu ? scalar::PointwiseOp::Identity : kActivation, kResidual>(x, residual, alpha, beta);
  if constexpr (!kPacksRelu) return pack8<Element>(x);
  Vector16 out;
#pragma unroll
  for (int i = 0; i < 4; ++i) out.word[i] = Element::pack_relu(x[2 * i], x[2 * i + 1]);
  return out;
}

}  // namespace edgert::device
