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

/// y = activation(x + residual) or activation(x) + residual; `residual` is read only in the modes that have one.
template <class Element, scalar::PointwiseOp kActivation, scalar::ResidualMode kResidual>
__device__ __forceinline__ Vector16 finish8(float (&x)[8], const Vector16& residual, float alpha, float beta) {
  float other[8] = {};
  if constexpr (kResidual != scalar::ResidualMode::None) unpack8<Element>(residual, other);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if constexpr (kResidual == scalar::ResidualMode::BeforeActivation) x[i] += other[i];
    if constexpr (kActivation != scalar::PointwiseOp::Identity) x[i] = scalar::float_unary<kActivation>(x[i], alpha, beta);
    if constexpr (kResidual == scalar::ResidualMode::AfterActivation) x[i] += other[i];
  }
  return pack8<Element>(x);
}

}  // namespace edgert::device
