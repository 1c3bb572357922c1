// SPDX-License-Identifier: Apache-2.0
#include "families/dense.h"

#include <cmath>

#include "edgert/checked.h"
#include "edgert/scalar/pointwise_functions.h"

namespace edgert::families {

std::optional<std::int32_t> pixel_pitch(const Operand& x) {
  if (x.dims.size() != 4 || !fits_int32(x) || (x.dims[1] != 1 && x.strides[1] != 1)) return std::nullopt;
  const std::int64_t n = x.dims[0], h = x.dims[2], w = x.dims[3];
  std::int64_t pitch = static_cast<std::int64_t>(align_up(static_cast<std::uint64_t>(x.dims[1]), 8));
  if (w > 1) pitch = x.strides[3];
  else if (h > 1) pitch = x.strides[2];
  else if (n > 1) pitch = x.strides[0];
  if (h > 1 && x.strides[2] != w * pitch) return std::nullopt;
  if (n > 1 && x.strides[0] != h * w * pitch) return std::nullopt;
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

std::vector<float> floats_for_f16(const Context& context, ir::ValueId value) {
  std::vector<float> floats = context.constant_floats(value);
  for (const float x : floats) {
    if (std::fabs(x) >= 65520.0f) {
      throw ir::BuildError("constant '" + context.graph().value(value).name + "' has elements beyond the range of f16; build with --precision fp32");
    }
  }
  return floats;
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

}  // namespace edgert::families
