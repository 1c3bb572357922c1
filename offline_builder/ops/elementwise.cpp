// SPDX-License-Identifier: Apache-2.0
// ONNX operators of one, two or three operands that are one pointwise operation, with numpy broadcasting.
#include <limits>

#include "ops/compose.h"

namespace edgert::ops {
namespace {

template <PointwiseOp op>
void import_unary(OnnxNode& node) {
  node.set_output(0, unary(node, op, node.input(0)));
}

/// The second operand. Before version 7 its dimensions are those of the first from `axis` on, not the last ones.
ValueId second_operand(OnnxNode& node) {
  const ValueId b = node.input(1);
  if (node.opset >= 7 || node.int_or("broadcast", 0) == 0) return b;
  const Dims dims = node.type(1).dims;
  const std::int64_t rank = static_cast<std::int64_t>(node.type(0).dims.size());
  const std::int64_t own = static_cast<std::int64_t>(dims.size());
  const std::int64_t given = node.int_or("axis", rank - own);
  const std::int64_t axis = given < 0 ? given + rank : given;
  if (axis < 0 || axis > rank - own) node.fail("axis " + std::to_string(given) + " leaves no room for the second operand");
  Dims placed = dims;
  placed.insert(placed.end(), static_cast<std::size_t>(rank - own - axis), 1);
  return placed == dims ? b : reshape(node, b, placed);
}

template <PointwiseOp op>
void import_binary(OnnxNode& node) {
  node.set_output(0, binary(node, op, node.input(0), second_operand(node)));
}

/// Sum, Max, Min: any number of operands, one after the other.
template <PointwiseOp op>
void import_variadic(OnnxNode& node) {
  ValueId result = node.input(0);
  for (std::size_t i = 1; i < node.inputs.size(); ++i) result = binary(node, op, result, node.input(i));
  node.set_output(0, result);
}

void import_mean(OnnxNode& node) {
  import_variadic<PointwiseOp::Add>(node);
  const ValueId sum = node.outputs[0];
  const ValueId count = scalar_constant(node, dtype_of(node, sum), static_cast<double>(node.inputs.size()));
  node.set_output(0, binary(node, PointwiseOp::Div, sum, count));
}

bool is_float(DType dtype) {
  return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16 || dtype == DType::F64;
}

/// The result has the base's type; the power itself is computed in floating point when either operand is.
void import_pow(OnnxNode& node) {
  const DType base = node.type(0).dtype;
  const DType exponent = node.type(1).dtype;
  const DType type = !is_float(base) && is_float(exponent) ? exponent : base;
  const ValueId power =
      binary(node, PointwiseOp::Pow, cast(node, node.input(0), type), cast(node, second_operand(node), type));
  node.set_output(0, cast(node, power, base));
}

/// With fmod the result has the sign of the dividend, else that of the divisor.
void import_mod(OnnxNode& node) {
  const PointwiseOp op = node.int_or("fmod", 0) != 0 ? PointwiseOp::Fmod : PointwiseOp::Mod;
  node.set_output(0, binary(node, op, node.input(0), node.input(1)));
}

DType unsigned_of(DType dtype) {
  switch (dtype) {
    case DType::I8: return DType::U8;
    case DType::I16: return DType::U16;
    case DType::I32: return DType::U32;
    case DType::I64: return DType::U64;
    default: return dtype;
  }
}

/// Shifts by as many bits as there are or more give 0. A signed number is shifted by way of its bits: to the left they
/// are just moved (and a negative amount counts as a huge one), to the right a negative number's complement is shifted,
/// so that the vacated bits are copies of the sign.
void import_bit_shift(OnnxNode& node) {
  const std::string direction = node.string_or("direction", "");
  if (direction != "LEFT" && direction != "RIGHT")
    node.fail("direction must be LEFT or RIGHT, not '" + direction + "'");
  const bool left = direction == "LEFT";
  const DType dtype = node.type(0).dtype;
  const DType bits = unsigned_of(dtype);
  const ValueId x = node.input(0);
  const ValueId amount = cast(node, node.input(1), bits);
  const auto shift = [&](ValueId value) {
    const PointwiseOp op = left ? PointwiseOp::ShiftLeft : PointwiseOp::ShiftRight;
    return cast(node, binary(node, op, cast(node, value, bits), amount), dtype);
  };
  if (left || bits == dtype) return node.set_output(0, shift(x));
  const ValueId negative = binary(node, PointwiseOp::Less, x, scalar_constant(node, dtype, 0));
  const ValueId shifted = shift(select(node, negative, unary(node, PointwiseOp::BitNot, x), x));
  node.set_output(0, select(node, negative, unary(node, PointwiseOp::BitNot, shifted), shifted));
}

void import_is_inf(OnnxNode& node) {
  const bool negative = node.int_or("detect_negative", 1) != 0;
  const bool positive = node.int_or("detect_positive", 1) != 0;
  if (negative && positive) return import_unary<PointwiseOp::IsInf>(node);
  const Dims dims = node.type(0).dims;
  if (!negative && !positive) return node.set_output(0, expand(node, scalar_constant(node, DType::Bool, 0), dims));
  const double infinity = std::numeric_limits<double>::infinity();
  const ValueId wanted = scalar_constant(node, node.type(0).dtype, positive ? infinity : -infinity);
  node.set_output(0, binary(node, PointwiseOp::Equal, node.input(0), wanted));
}

void import_where(OnnxNode& node) { node.set_output(0, select(node, node.input(0), node.input(1), node.input(2))); }

/// The slope broadcasts to x, never the other way. Before version 7 it is one number, or one for each channel.
void import_prelu(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const bool by_channel = node.opset < 7 && dims.size() > 1 && node.type(1).dims == Dims{dims[1]};
  const ValueId slope =
      expand(node, by_channel ? along_axis(node, node.input(1), 1, dims.size()) : node.input(1), dims);
  node.set_output(0, binary(node, PointwiseOp::PRelu, node.input(0), slope));
}

}  // namespace

void register_elementwise(Registry& registry) {
  const auto add = [&](const char* name, OnnxImporter importer, int since) {
    registry.add_onnx(name, importer, since);
  };
  add("Neg", &import_unary<PointwiseOp::Neg>, 6);
  add("Abs", &import_unary<PointwiseOp::Abs>, 6);
  add("Sign", &import_unary<PointwiseOp::Sign>, 9);
  add("Reciprocal", &import_unary<PointwiseOp::Reciprocal>, 6);
  add("Sqrt", &import_unary<PointwiseOp::Sqrt>, 6);
  add("Exp", &import_unary<PointwiseOp::Exp>, 6);
  add("Log", &import_unary<PointwiseOp::Log>, 6);
  add("Sin", &import_unary<PointwiseOp::Sin>, 7);
  add("Cos", &import_unary<PointwiseOp::Cos>, 7);
  add("Tan", &import_unary<PointwiseOp::Tan>, 7);
  add("Asin", &import_unary<PointwiseOp::Asin>, 7);
  add("Acos", &import_unary<PointwiseOp::Acos>, 7);
  add("Atan", &import_unary<PointwiseOp::Atan>, 7);
  add("Sinh", &import_unary<PointwiseOp::Sinh>, 9);
  add("Cosh", &import_unary<PointwiseOp::Cosh>, 9);
  add("Tanh", &import_unary<PointwiseOp::Tanh>, 6);
  add("Asinh", &import_unary<PointwiseOp::Asinh>, 9);
  add("Acosh", &import_unary<PointwiseOp::Acosh>, 9);
  add("Atanh", &import_unary<PointwiseOp::Atanh>, 9);
  add("Erf", &import_unary<PointwiseOp::Erf>, 9);
  add("Floor", &import_unary<PointwiseOp::Floor>, 6);
  add("Ceil", &import_unary<PointwiseOp::Ceil>, 6);
  add("Round", &import_unary<PointwiseOp::Round>, 11);
  add("Not", &import_unary<PointwiseOp::Not>, 1);
  add("BitwiseNot", &import_unary<PointwiseOp::BitNot>, 18);
  add("IsNaN", &import_unary<PointwiseOp::IsNan>, 9);
  add("IsInf", &import_is_inf, 10);

  add("Add", &import_binary<PointwiseOp::Add>, 1);
  add("Sub", &import_binary<PointwiseOp::Sub>, 1);
  add("Mul", &import_binary<PointwiseOp::Mul>, 1);
  add("Div", &import_binary<PointwiseOp::Div>, 1);
  add("And", &import_binary<PointwiseOp::And>, 1);
  add("Or", &import_binary<PointwiseOp::Or>, 1);
  add("Xor", &import_binary<PointwiseOp::Xor>, 1);
  add("Equal", &import_binary<PointwiseOp::Equal>, 1);
  add("Less", &import_binary<PointwiseOp::Less>, 1);
  add("LessOrEqual", &import_binary<PointwiseOp::LessOrEqual>, 12);
  add("Greater", &import_binary<PointwiseOp::Greater>, 1);
  add("GreaterOrEqual", &import_binary<PointwiseOp::GreaterOrEqual>, 12);
  add("BitwiseAnd", &import_binary<PointwiseOp::BitAnd>, 18);
  add("BitwiseOr", &import_binary<PointwiseOp::BitOr>, 18);
  add("BitwiseXor", &import_binary<PointwiseOp::BitXor>, 18);
  add("Pow", &import_pow, 1);
  add("Mod", &import_mod, 10);
  add("BitShift", &import_bit_shift, 11);
  add("PRelu", &import_prelu, 1);
  add("Where", &import_where, 9);

  add("Sum", &import_variadic<PointwiseOp::Add>, 6);
  add("Max", &import_variadic<PointwiseOp::Max>, 6);
  add("Min", &import_variadic<PointwiseOp::Min>, 6);
  add("Mean", &import_mean, 6);
}

}  // namespace edgert::ops
