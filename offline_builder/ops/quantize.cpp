// SPDX-License-Identifier: Apache-2.0
// QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear. Scales and zero points are one for a tensor, one for each
// index along an axis, or one for each block of indices along it.
#include "edgert/cpu/ops/reduce.h"
#include "ops/cast.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

bool is_narrow_integer(DType dtype) {
  return dtype == DType::I4 || dtype == DType::U4 || dtype == DType::I2 || dtype == DType::U2;
}

bool is_quantised_integer(DType dtype) {
  return dtype == DType::I8 || dtype == DType::U8 || dtype == DType::I16 || dtype == DType::U16 || is_narrow_integer(dtype);
}

bool is_small_float(DType dtype) {
  return dtype == DType::F8E4M3FN || dtype == DType::F8E4M3FNUZ || dtype == DType::F8E5M2 || dtype == DType::F8E5M2FNUZ ||
         dtype == DType::F4E2M1;
}

bool is_computed_float(DType dtype) { return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16; }

/// Each element of a blocked tensor `block` times along `axis`, cut to `extent`.
ValueId repeat_blocks(OnnxNode& node, ValueId x, std::size_t axis, std::int64_t block, std::int64_t extent) {
  Dims dims = dims_of(node, x);
  const auto behind = static_cast<std::ptrdiff_t>(axis) + 1;
  Dims split = dims;
  split.insert(split.begin() + behind, 1);
  Dims repeated = split;
  repeated[axis + 1] = block;
  dims[axis] = ir::element_count({dims[axis], block});
  return slice(node, reshape(node, expand(node, reshape(node, x, split), repeated), dims), axis, 0, extent);
}

/// A scale or zero point of float type so that it broadcasts to x of extents `dims`.
ValueId spread(OnnxNode& node, ValueId x, const Dims& dims, const char* what) {
  const Dims own = dims_of(node, x);
  const std::int64_t block = node.int_or("block_size", 0);
  if (block == 0 && ir::element_count(own) == 1) return reshape(node, x, {});
  const std::size_t axis = axis_of(node, node.int_or("axis", 1), dims.size());
  if (block == 0) {
    require_dims(own, {dims[axis]}, what);
    return along_axis(node, x, axis, dims.size());
  }
  Dims expected = dims;
  if (block < 1 || own.size() != dims.size()) node.fail("block_size does not fit the shape of the scale");
  expected[axis] = dims[axis] / block + (dims[axis] % block != 0 ? 1 : 0);
  require_dims(own, expected, what);
  return repeat_blocks(node, x, axis, block, dims[axis]);
}

DType dtype_or(const OnnxNode& node, const char* attribute, DType fallback) {
  const std::int64_t number = node.int_or(attribute, 0);
  return number == 0 ? fallback : dtype_from_onnx(node, number);
}

DType quantised_type(const OnnxNode& node) {
  const DType from_zero_point = node.has_input(2) ? node.type(2).dtype : DType::Undefined;
  const DType named = dtype_or(node, "output_dtype", DType::Undefined);
  if (from_zero_point != DType::Undefined && named != DType::Undefined && named != from_zero_point)
    node.fail("output_dtype is not the type of the zero point");
  const DType type = from_zero_point != DType::Undefined ? from_zero_point : named != DType::Undefined ? named : DType::U8;
  if (!is_quantised_integer(type) && !is_small_float(type))
    node.fail(std::string("quantising to ") + edgert::to_string(type) + " is not supported");
  return type;
}

/// Integers: round(x / scale), to the nearest even, plus the zero point, saturated. Floating point: x / scale plus the
/// zero point, rounded by the cast.
void import_quantize(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType to = quantised_type(node);
  const DType precision = dtype_or(node, "precision", node.type(1).dtype);
  if (!is_computed_float(precision))
    node.fail(std::string("dividing in ") + edgert::to_string(precision) + " is not supported");
  const ValueId scale = spread(node, cast(node, node.input(1), precision), dims, "the scale");
  const ValueId quotient = binary(node, PointwiseOp::Div, cast(node, node.input(0), precision), scale);
  ValueId y = cast(node, is_small_float(to) ? quotient : unary(node, PointwiseOp::Round, quotient), DType::F32);
  if (node.has_input(2)) {
    const ValueId zero_point = spread(node, cast(node, node.input(2), DType::F32), dims, "the zero point");
    y = binary(node, PointwiseOp::Add, y, zero_point);
  }
  if (is_narrow_integer(to)) {  // casts to these types wrap
    const bool is_signed = to == DType::I4 || to == DType::I2;
    const float range = static_cast<float>(1u << bits_of(to));
    y = unary(node, PointwiseOp::Clip, y, is_signed ? -range / 2 : 0.0f, (is_signed ? range / 2 : range) - 1);
  }
  const bool saturates = node.int_or("saturate", 1) != 0;
  node.set_output(0, saturates ? cast(node, y, to) : cast_unsaturated(node, y, to));
}

/// (x - zero point) * scale in float, then rounded to the type of the result.
void import_dequantize(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType from = node.type(0).dtype;
  if (!is_quantised_integer(from) && !is_small_float(from) && from != DType::I32)
    node.fail(std::string("dequantising ") + edgert::to_string(from) + " is not supported");
  const DType to = dtype_or(node, "output_dtype", node.type(1).dtype);
  if (!is_computed_float(to) || !is_computed_float(node.type(1).dtype))
    node.fail(std::string("dequantising to ") + edgert::to_string(to) + " is not supported");
  ValueId x = cast(node, node.input(0), DType::F32);
  if (node.has_input(2)) {
    if (node.type(2).dtype != from) node.fail("the zero point has another type than the input");
    const ValueId zero_point = spread(node, cast(node, node.input(2), DType::F32), dims, "the zero point");
    x = binary(node, PointwiseOp::Sub, x, zero_point);
  }
  const ValueId scale = spread(node, cast(node, node.input(1), DType::F32), dims, "the scale");
  node.set_output(0, cast(node, binary(node, PointwiseOp::Mul, x, scale), to));
}

/// To uint8 by the range of x, into which zero is taken: zero itself is exact. A range of nothing has the scale 1.
void import_dynamic_quantize(OnnxNode& node) {
  const ValueId x = node.input(0);
  require_type(node.type(0), DType::F32, "the input");
  const std::size_t rank = node.type(0).dims.size();
  const auto number = [&](double value) { return scalar_constant(node, DType::F32, value); };
  const auto extreme = [&](cpu::ReduceKind kind, PointwiseOp op) {
    const std::vector<std::size_t> axes = axes_of(node, iota(static_cast<std::int64_t>(rank)), rank);
    return binary(node, op, reduce(node, static_cast<unsigned>(kind), x, axes, false), number(0));
  };
  const ValueId lowest = extreme(cpu::ReduceKind::Min, PointwiseOp::Min);
  const ValueId highest = extreme(cpu::ReduceKind::Max, PointwiseOp::Max);
  const ValueId range = binary(node, PointwiseOp::Sub, highest, lowest);
  const ValueId is_flat = binary(node, PointwiseOp::Equal, range, number(0));
  const ValueId scale = select(node, is_flat, number(1), binary(node, PointwiseOp::Div, range, number(255)));
  const auto rounded = [&](ValueId value) {
    return unary(node, PointwiseOp::Round, binary(node, PointwiseOp::Div, value, scale));
  };
  const ValueId zero_point = cast(node, rounded(unary(node, PointwiseOp::Neg, lowest)), DType::U8);
  const ValueId shifted = binary(node, PointwiseOp::Add, rounded(x), cast(node, zero_point, DType::F32));
  node.set_output(0, cast(node, shifted, DType::U8));
  node.set_output(1, scale);
  node.set_output(2, zero_point);
}

}  // namespace

void register_quantize(Registry& registry) {
  registry.add_onnx("QuantizeLinear", &import_quantize, 10);
  registry.add_onnx("DequantizeLinear", &import_dequantize, 10);
  registry.add_onnx("DynamicQuantizeLinear", &import_dynamic_quantize, 11);
}

}  // namespace edgert::ops
