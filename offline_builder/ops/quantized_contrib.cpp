// SPDX-License-Identifier: Apache-2.0
// The quantised operators of com.microsoft, which ONNX Runtime's quantizer writes beside ONNX's own. All but QGemm are
// the float operator between a dequantisation and a quantisation: y = saturate(round(f(x) / y_scale) + y_zero_point),
// rounding to nearest even. Scales and zero points are one for a tensor.
#include "ops/integer_matmul.h"

namespace edgert::ops {
namespace {

constexpr const char* kDomain = "com.microsoft";

ValueId one_number(OnnxNode& node, std::size_t i) {
  if (ir::element_count(node.type(i).dims) != 1) node.fail("input " + std::to_string(i) + " must be one number");
  return reshape(node, cast(node, node.input(i), DType::F32), {});
}

/// Input i, of which the scale is input i + 1 and the zero point, which may be left out, i + 2.
ValueId dequantised(OnnxNode& node, std::size_t i) {
  const DType dtype = node.type(i).dtype;
  if (dtype != DType::I8 && dtype != DType::U8)
    node.fail(std::string("operands must be int8 or uint8, not ") + edgert::to_string(dtype));
  ValueId x = cast(node, node.input(i), DType::F32);
  if (node.has_input(i + 2)) x = binary(node, PointwiseOp::Sub, x, one_number(node, i + 2));
  return binary(node, PointwiseOp::Mul, x, one_number(node, i + 1));
}

/// x already divided by the scale; the zero point, which may be left out, is input i.
ValueId with_zero_point(OnnxNode& node, ValueId x, std::size_t i, DType fallback) {
  const ValueId rounded = unary(node, PointwiseOp::Round, x);
  if (!node.has_input(i)) return cast(node, rounded, fallback);
  return cast(node, binary(node, PointwiseOp::Add, rounded, one_number(node, i)), node.type(i).dtype);
}

/// To the scale of input i and the zero point of input i + 1.
ValueId quantised(OnnxNode& node, ValueId x, std::size_t i, DType fallback) {
  return with_zero_point(node, binary(node, PointwiseOp::Div, x, one_number(node, i)), i + 1, fallback);
}

constexpr int kOpset = 19;

template <PointwiseOp op>
void import_pair(OnnxNode& node) {
  const ValueId y = binary(node, op, dequantised(node, 0), dequantised(node, 3));
  node.set_output(0, quantised(node, y, 6, node.type(0).dtype));
}

/// QLinearSigmoid and the like: ONNX's name with a prefix.
void import_wrapped(OnnxNode& node) {
  const std::string op_type = node.op_type.substr(std::string("QLinear").size());
  if (node.int_or("channels_last", 0) != 0) node.fail("channels_last is not supported");
  const std::int64_t opset = node.int_or("opset", kOpset);  // of Softmax, which changed its meaning
  if (opset < 1 || opset > kOpset) node.fail("attribute 'opset' is " + std::to_string(opset));
  const ValueId y = onnx_operator(node, op_type.c_str(), static_cast<int>(opset), {dequantised(node, 0)}, node.attributes)[0];
  node.set_output(0, quantised(node, y, 3, node.type(0).dtype));
}

/// The result's scale and zero point come first, then each operand with its own.
void import_concat(OnnxNode& node) {
  if (node.inputs.size() < 5 || (node.inputs.size() - 2) % 3 != 0) node.fail("the inputs are not two and three each");
  std::vector<ValueId> operands;
  for (std::size_t i = 2; i < node.inputs.size(); i += 3) operands.push_back(dequantised(node, i));
  const ValueId y = onnx_operator(node, "Concat", kOpset, operands, node.attributes)[0];
  node.set_output(0, quantised(node, y, 0, node.type(2).dtype));
}

/// Input i, transposed where the attribute says so, less its zero point (input i + 2), as int16.
ValueId matrix(OnnxNode& node, std::size_t i, const char* transposed) {
  const DType dtype = node.type(i).dtype;
  if (node.type(i).dims.size() != 2 || (dtype != DType::I8 && dtype != DType::U8))
    node.fail("A and B must be int8 or uint8 of rank 2");
  ValueId x = cast(node, node.input(i), DType::I16);
  if (node.int_or(transposed, 0) != 0) x = transpose(node, x, {1, 0});
  if (!node.has_input(i + 2)) return x;
  const Dims dims = dims_of(node, x);
  const ValueId centred = binary(node, PointwiseOp::Sub, x, cast(node, node.input(i + 2), DType::I16));
  require_dims(dims_of(node, centred), dims, "the operand less its zero point");
  return centred;
}

/// (A - a_zero_point) * (B - b_zero_point) + C, exact in int32, times alpha * a_scale * b_scale: as float, or quantised
/// where y has a scale. B's scale and zero point are one or one a column.
void import_qgemm(OnnxNode& node) {
  ValueId sums = integer_matmul(node, matrix(node, 0, "transA"), matrix(node, 3, "transB"));
  const Dims dims = dims_of(node, sums);
  if (node.has_input(6)) {
    require_type(node.type(6), DType::I32, "C");
    require(ir::broadcast(node.type(6).dims, dims) == dims, "C does not broadcast to " + ir::to_string(dims));
    sums = binary(node, PointwiseOp::Add, sums, node.input(6));
  }
  const ValueId alpha = scalar_constant(node, DType::F32, static_cast<double>(node.float_or("alpha", 1.0f)));
  ValueId factor = binary(node, PointwiseOp::Mul, binary(node, PointwiseOp::Mul, alpha, one_number(node, 1)),
                          cast(node, node.input(4), DType::F32));
  if (node.has_input(7)) factor = binary(node, PointwiseOp::Div, factor, one_number(node, 7));
  const ValueId y = binary(node, PointwiseOp::Mul, cast(node, sums, DType::F32), factor);
  require_dims(dims_of(node, y), dims, "the result with B's scale");
  node.set_output(0, node.has_input(7) ? with_zero_point(node, y, 8, node.type(0).dtype) : y);
}

}  // namespace

void register_quantized_contrib(Registry& registry) {
  const auto add = [&](const char* name, OnnxImporter importer) {
    registry.add_onnx(name, importer, 1, 1 << 30, kDomain);
  };
  add("QLinearAdd", &import_pair<PointwiseOp::Add>);
  add("QLinearMul", &import_pair<PointwiseOp::Mul>);
  add("QLinearAveragePool", &import_wrapped);
  add("QLinearGlobalAveragePool", &import_wrapped);
  add("QLinearLeakyRelu", &import_wrapped);
  add("QLinearSigmoid", &import_wrapped);
  add("QLinearSoftmax", &import_wrapped);
  add("QLinearConcat", &import_concat);
  add("QGemm", &import_qgemm);
}

}  // namespace edgert::ops
