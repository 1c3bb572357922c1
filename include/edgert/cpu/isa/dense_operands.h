// SPDX-License-Identifier: Apache-2.0
// What convolutions and matrix products check about their operands, and how an epilogue splits between the registers of
// the product kernel and the pass over finished rows.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise_functions.h"

namespace edgert::cpu {

/// Bounds that keep every index computation far inside int64; no memory holds tensors that reach them.
inline constexpr std::int64_t kMaxDenseExtent = std::int64_t{1} << 31;
inline constexpr std::int32_t kMaxWindowParameter = 1 << 15;

constexpr bool is_f32(const TensorView& view, std::uint8_t rank) noexcept {
  return view.dtype == DType::F32 && view.format == WeightFormat::Strided && view.rank == rank;
}

constexpr bool has_unit_stride(const TensorView& view, std::uint32_t dim) noexcept {
  return view.dims[dim] <= 1 || view.strides[dim] == 1;
}

/// Whether no two elements share memory: taken by ascending stride, each dimension steps over all that the ones before
/// it span. Kernels that write several elements at once, and threads, rely on it.
constexpr bool elements_are_disjoint(const TensorView& view) noexcept {
  if (is_empty(view)) return true;
  std::uint32_t order[kMaxRank] = {};
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < view.rank; ++i) {
    if (view.dims[i] <= 1) continue;
    std::uint32_t at = count++;
    for (; at > 0 && view.strides[order[at - 1]] > view.strides[i]; --at) order[at] = order[at - 1];
    order[at] = i;
  }
  std::int64_t span = 1;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::int64_t stride = view.strides[order[i]];
    if (stride < span) return false;
    span += (view.dims[order[i]] - 1) * stride;
  }
  return true;
}

constexpr bool is_bias(const TensorView& view, std::int64_t channels) noexcept {
  return is_f32(view, 1) && view.dims[0] == channels && has_unit_stride(view, 0);
}

/// What all kinds of convolution ask of image, result and window. The window may reach outside anywhere. x has stride 1
/// along dimension `x_dense_dim`.
inline const char* check_window(const TensorView& x, const TensorView& y, const std::int32_t (&kernel)[2],
                                const std::int32_t (&stride)[2], const std::int32_t (&dilation)[2],
                                const std::int32_t (&pad_begin)[2], std::uint32_t x_dense_dim = 1) noexcept {
  if (!is_f32(x, 4)) return "x: not an f32 tensor of rank 4";
  if (!is_f32(y, 4)) return "y: not an f32 tensor of rank 4";
  for (std::uint32_t i = 0; i < 4; ++i) {
    if (x.dims[i] > kMaxDenseExtent || y.dims[i] > kMaxDenseExtent) return "x, y: extent too large";
  }
  if (x.dims[0] != y.dims[0]) return "x, y: different numbers of images";
  if (!has_unit_stride(x, x_dense_dim)) return "x: stride along the channels, or of a planar image along W, is not 1";
  if (!has_unit_stride(y, 1)) return "y: stride along the channels is not 1";
  if (!elements_are_disjoint(y)) return "y: elements overlap";
  for (int i = 0; i < 2; ++i) {
    if (kernel[i] < 1 || kernel[i] > kMaxWindowParameter) return "kernel: out of range";
    if (stride[i] < 1 || stride[i] > kMaxWindowParameter) return "stride: out of range";
    if (dilation[i] < 1 || dilation[i] > kMaxWindowParameter) return "dilation: out of range";
    if (pad_begin[i] < 0 || pad_begin[i] > kMaxWindowParameter) return "pad_begin: out of range";
  }
  return nullptr;
}

/// `channel_dim` is the dimension of y along which kernels store vectors. The residual is operand `residual_input`.
inline const char* check_epilogue(const Operands& operands, const scalar::Epilogue& epilogue,
                                  std::size_t residual_input, std::uint32_t channel_dim) noexcept {
  if (scalar::arity(epilogue.activation) != 1 || !scalar::has_float_form(epilogue.activation)) {
    return "epilogue: not an activation";
  }
  if (epilogue.residual > scalar::ResidualMode::AfterActivation) return "epilogue: unknown residual mode";
  const bool wanted = epilogue.residual != scalar::ResidualMode::None;
  if (wanted != operands.has(residual_input)) return "epilogue: residual mode and residual operand disagree";
  if (!wanted) return nullptr;
  const TensorView& residual = operands.in(residual_input);
  const TensorView& y = operands.out(0);
  if (!is_f32(residual, y.rank) || !same_dims(residual, y)) return "residual: not an f32 tensor of y's dims";
  if (!has_unit_stride(residual, channel_dim)) return "residual: stride along the channels is not 1";
  return nullptr;
}

/// The epilogue as kernels apply it. A clamp with the residual before it stays in the product kernel's registers;
/// anything else is done by finish_rows.
struct ResolvedEpilogue {
  scalar::Epilogue epilogue;
  bool in_registers;
  float low, high;
};

inline ResolvedEpilogue resolve_epilogue(scalar::Epilogue epilogue) noexcept {
  using scalar::PointwiseOp;
  using scalar::ResidualMode;
  const float infinity = scalar::infinity_f32();
  if (epilogue.activation == PointwiseOp::Identity && epilogue.residual == ResidualMode::AfterActivation) {
    epilogue.residual = ResidualMode::BeforeActivation;
  }
  ResolvedEpilogue resolved = {epilogue, epilogue.residual != ResidualMode::AfterActivation, -infinity, infinity};
  switch (epilogue.activation) {
    case PointwiseOp::Identity: break;
    case PointwiseOp::Relu: resolved.low = 0.0f; break;
    case PointwiseOp::Clip:
      resolved.low = epilogue.alpha;
      resolved.high = epilogue.beta;
      break;
    default: resolved.in_registers = false;
  }
  return resolved;
}

}  // namespace edgert::cpu
