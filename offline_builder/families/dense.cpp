// SPDX-License-Identifier: Apache-2.0
#include "families/dense.h"

#include <algorithm>
#include <cmath>

#include "edgert/checked.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/scalar/convert.h"
#include "edgert/scalar/pointwise_functions.h"

namespace edgert::families {

std::optional<std::int32_t> pixel_pitch(const Operand& x, std::int64_t* between_images) {
  if (x.dims.size() != 4 || !fits_int32(x) || (x.dims[1] != 1 && x.strides[1] != 1)) return std::nullopt;
  const std::int64_t n = x.dims[0], h = x.dims[2], w = x.dims[3];
  std::int64_t pitch = static_cast<std::int64_t>(align_up(static_cast<std::uint64_t>(x.dims[1]), 8));
  if (w > 1) pitch = x.strides[3];
  else if (h > 1) pitch = x.strides[2];
  else if (n > 1) pitch = x.strides[0];
  if (h > 1 && x.strides[2] != w * pitch) return std::nullopt;
  if (n > 1 && x.strides[0] != h * w * pitch) {
    if (between_images == nullptr || pitch <= 0 || x.strides[0] % pitch != 0 || x.strides[0] < h * w * pitch) return std::nullopt;
    *between_images = x.strides[0] / pitch;
  }
  return pitch < x.dims[1] ? std::nullopt : std::optional<std::int32_t>(static_cast<std::int32_t>(pitch));
}

std::optional<std::int32_t> row_pitch(const Operand& x) {
  if (x.dims.empty() || !fits_int32(x) || (x.dims.back() != 1 && x.strides.back() != 1)) return std::nullopt;
  std::int64_t pitch = 0;  // not known before there is a dimension of more than one row
  std::int64_t rows = 1;
  for (std::size_t d = x.dims.size() - 1; d-- > 0;) {
    if (x.dims[d] == 1) continue;
    if (pitch == 0) pitch = x.strides[d];
    if (x.strides[d] != rows * pitch) return std::nullopt;
    rows *= x.dims[d];
  }
  if (pitch == 0) pitch = static_cast<std::int64_t>(align_up(static_cast<std::uint64_t>(x.dims.back()), 8));
  return pitch < x.dims.back() ? std::nullopt : std::optional<std::int32_t>(static_cast<std::int32_t>(pitch));
}

bool loads_by_eight(const Operand& x, std::int32_t pitch) {
  return bits_of(x.dtype) == 16 && pitch % 8 == 0 && x.alignment >= 16;
}

std::int32_t at_once(const Operand& x, std::int32_t pitch) {
  if (bits_of(x.dtype) != 16) return 0;
  std::int32_t count = 8;
  while (pitch % count != 0 || x.alignment < static_cast<std::uint32_t>(2 * count)) count /= 2;
  return count;
}

std::int32_t floats_at_once(const Operand& x, std::int32_t pitch) {
  if (x.dtype != DType::F32) return 0;
  std::int32_t count = 4;
  while (pitch % count != 0 || x.alignment < static_cast<std::uint32_t>(4 * count)) count /= 2;
  return count;
}

bool loads_whole(const Operand& x, std::int32_t pitch) {
  return static_cast<std::int64_t>(pitch) * bits_of(x.dtype) % 128 == 0 && x.alignment >= 16;
}

bool fits_int32(const Operand& x) {
  std::int64_t last = 0;
  for (std::size_t d = 0; d < x.dims.size(); ++d) {
    // No extent or stride of a value that fits memory comes near 2^56, so this does not overflow.
    if (x.dims[d] < 1 || x.dims[d] > INT32_MAX || x.strides[d] > INT32_MAX) return false;
    last += (x.dims[d] - 1) * x.strides[d];
    if (last > INT32_MAX / 2) return false;
  }
  return true;
}

std::int64_t row_count(const Operand& x) {
  std::int64_t rows = 1;
  for (std::size_t d = 0; d + 1 < x.dims.size(); ++d) rows *= x.dims[d];
  return rows;
}

bool fits_f16(const std::vector<float>& floats) {
  return std::all_of(floats.begin(), floats.end(), [](float x) { return !(std::fabs(x) >= 65520.0f); });
}

std::optional<codegen::ElementType> element_of(const Context& context, const ir::Node& node, DType dtype) {
  if (dtype == DType::F16) return codegen::ElementType::F16;
  if (dtype == DType::BF16) return codegen::ElementType::BF16;
  if (dtype == DType::F32 && context.wants_floats(node)) return context.rounds(node) ? codegen::ElementType::TF32 : codegen::ElementType::F32;
  return std::nullopt;
}

DType type_of(codegen::ElementType element) {
  return element == codegen::ElementType::F16 ? DType::F16 : element == codegen::ElementType::BF16 ? DType::BF16 : DType::F32;
}

std::vector<float> floats_for(codegen::ElementType element, const Context& context, ir::ValueId value) {
  std::vector<float> floats = context.constant_floats(value);
  if (element == codegen::ElementType::F16 && !fits_f16(floats)) {
    throw ir::BuildError("constant '" + context.graph().value(value).name + "' has elements beyond the range of f16; allow another precision, as in --precision fp16,bf16");
  }
  return floats;
}

std::vector<std::uint16_t> as_halves(codegen::ElementType element, const std::vector<float>& floats) {
  std::vector<std::uint16_t> halves;
  halves.reserve(floats.size());
  for (const float x : floats) halves.push_back(element == codegen::ElementType::F16 ? scalar::to_half(x).bits : scalar::to_bfloat16(x).bits);
  return halves;
}

const ir::Bytes& PackedWeights::of(const codegen::ConvTile& tile) {
  ir::Bytes& packed = packed_[tile.groups_of_warps ? 1 : 0];
  if (!packed) packed = to_bytes(codegen::pack_conv_weights(shape_, tile, weights_.data()));
  return packed;
}

ir::Bytes bias_bytes(const Context& context, ir::ValueId bias, std::int64_t channels, std::int64_t multiple) {
  std::vector<float> floats = bias == ir::kNone ? std::vector<float>() : context.constant_floats(bias);
  floats.resize(align_up(static_cast<std::uint64_t>(channels), static_cast<std::uint64_t>(multiple)), 0.0f);
  return to_bytes(floats);
}

const char* epilogue_problem(const Context& context, const ir::Node& node, const scalar::Epilogue& epilogue) {
  const Operand bias = context.input(node, 2);
  if (bias.present() && !bias.constant) return "its bias is not constant";
  if (!scalar::has_float_form(epilogue.activation)) return "its activation has no form in floats";
  return nullptr;
}

std::optional<RowsProduct> rows_product(const Context& context, const ir::Node& node, const Operand& x) {
  const auto refuse = [&](const char* reason) {
    context.refuse(reason);
    return std::nullopt;
  };
  RowsProduct product;
  product.residual = context.input(node, 3);
  product.y = context.operand(node.outputs[0]);
  product.bias = node.inputs.size() > 2 ? node.inputs[2] : ir::kNone;
  const Operand matrix = context.input(node, 1);
  const scalar::Epilogue epilogue = node.as<cpu::MatMulAttributes>().epilogue;
  if (!matrix.constant || matrix.dims.size() != 2) return refuse("its right operand is no constant matrix");
  if (const char* problem = epilogue_problem(context, node, epilogue)) return refuse(problem);
  const auto element = element_of(context, node, product.y.dtype);
  if (!element) return refuse("its result is not of the type that it is to compute in");
  const bool wide = codegen::is_wide(*element);
  const auto usable = [&](const Operand& rows) {
    const auto pitch = row_pitch(rows);
    return pitch && rows.dtype == type_of(*element) && !rows.constant && (wide || loads_whole(rows, *pitch));
  };
  if (!usable(x) || !usable(product.y) || (product.residual.present() && !usable(product.residual))) {
    return refuse("its operands are not rows of one type, those of 16 bits in multiples of 16 bytes");
  }
  const std::size_t depth = static_cast<std::size_t>(matrix.dims[0]), columns = static_cast<std::size_t>(matrix.dims[1]);
  codegen::ConvShape& shape = product.shape;
  shape.width = shape.out_width = static_cast<std::int32_t>(row_count(x));
  shape.channels = static_cast<std::int32_t>(depth), shape.out_channels = static_cast<std::int32_t>(columns);
  shape.input_pitch = *row_pitch(x), shape.output_pitch = *row_pitch(product.y);
  if (product.residual.present()) shape.residual_pitch = *row_pitch(product.residual);
  shape.epilogue = epilogue;
  shape.element = *element;
  if (wide) {  // of which the kernel counts 16-bit halves
    shape.channels *= 2, shape.input_pitch *= 2;
    shape.input_at_once = 2 * floats_at_once(x, *row_pitch(x)), shape.output_at_once = floats_at_once(product.y, shape.output_pitch);
    shape.residual_at_once = product.residual.present() ? floats_at_once(product.residual, shape.residual_pitch) : 4;
  }
  const std::vector<float> by_depth = floats_for(*element, context, node.inputs[1]);
  product.weights.resize(by_depth.size());
  for (std::size_t k = 0; k < depth; ++k) {
    for (std::size_t n = 0; n < columns; ++n) product.weights[n * depth + k] = by_depth[k * columns + n];
  }
  return product;
}

std::optional<std::vector<float>> floats_along_rows(const Context& context, const Operand& x, std::int64_t count, float fallback) {
  if (!x.present()) return std::vector<float>(static_cast<std::size_t>(count), fallback);
  if (!x.constant || x.dims.empty() || x.dims.back() != count) return std::nullopt;
  for (std::size_t d = 0; d + 1 < x.dims.size(); ++d) {
    if (x.dims[d] != 1 && x.strides[d] != 0) return std::nullopt;
  }
  std::vector<float> floats = context.constant_floats(x.value);
  floats.resize(static_cast<std::size_t>(count));
  return floats;
}

}  // namespace edgert::families
