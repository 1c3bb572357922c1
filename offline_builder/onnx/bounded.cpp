// SPDX-License-Identifier: Apache-2.0
// Which ONNX operators take operands with extents that only a run knows. The graph's operators have a rule of their own
// each; this list is for what their importers compute from the extents that they see, which here are upper bounds.
#include <algorithm>
#include <string_view>

#include "onnx/importer.h"
#include "onnx/text.h"
#include "ops/bounded_moves.h"
#include "ops/pad.h"

namespace edgert::onnx_import {
namespace {

/// Sorted. Importers that take extents for nothing but the shapes of what they emit.
constexpr std::string_view kTakesBounded[] = {
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
    "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Compress",
    "Concat", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherND", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual",
    "Log", "LogSoftmax", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "NonMaxSuppression", "NonZero", "Not", "OneHot",
    "Or", "PRelu", "Pad", "Pow", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND",
    "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt",
    "Squeeze", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "TopK", "Transpose", "Unique", "Unsqueeze", "Where",
    "Xor"};

/// Operators that compute each slice along the first dimension of some operands (bit i: operand i) by itself. They compute
/// as many as there can be, and what comes of those that are there is the result.
struct RowByRow {
  std::string_view name;
  unsigned operands;
};
constexpr RowByRow kRowByRow[] = {
    {"AveragePool", 1}, {"BatchNormalization", 1}, {"Conv", 1},          {"ConvTranspose", 1},       {"DepthToSpace", 1},
    {"Gemm", 1},        {"GlobalAveragePool", 1},  {"GlobalMaxPool", 1}, {"GroupNormalization", 1},  {"InstanceNormalization", 1},
    {"LRN", 1},         {"LayerNormalization", 1}, {"MatMul", 1},        {"MaxPool", 1},             {"RMSNormalization", 1},
    {"Resize", 1},      {"RoiAlign", 1u << 1 | 1u << 2}, {"SpaceToDepth", 1}};

bool is_row_by_row(std::string_view op_type, std::size_t operand) {
  return std::any_of(std::begin(kRowByRow), std::end(kRowByRow),
                     [&](const RowByRow& each) { return each.name == op_type && operand < 8 && (each.operands >> operand & 1) != 0; });
}

/// Whether statistics are taken over the first dimension too.
bool is_normalization_of_all(const ops::OnnxNode& node) {
  if (node.op_type != "LayerNormalization" && node.op_type != "RMSNormalization") return false;
  const std::int64_t axis = node.int_or("axis", -1);
  return axis == 0 || axis == -static_cast<std::int64_t>(node.type(0).dims.size());
}

/// Whether the first of the dimensions is bounded and no other, and operators may take it apart.
bool has_bounded_rows(const ir::Value& value) {
  return value.extents.size() == 1 && value.extents[0].dim == 0 && value.type.dims.size() > 1;
}

}  // namespace

void Importer::import_rows(ops::OnnxImporter importer, ops::OnnxNode& node) {
  ir::ValueId rows = ir::kNone;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const ir::ValueId input = node.inputs[i];
    if (input == ir::kNone || !node.graph.is_bounded(input) || !node.domain.empty() || !is_row_by_row(node.op_type, i)) continue;
    const ir::ValueId actual = node.graph.value(input).extents[0].actual;
    if (rows != ir::kNone && !ops::same_extent(node.graph, rows, actual)) node.fail("two operands have extents that only a run knows");
    rows = actual;
    node.inputs[i] = ops::fill_bounded(node, input);
  }
  if (rows != ir::kNone && node.int_or("transA", 0) != 0) node.fail("a transposed operand with an extent that only a run knows");
  if (rows != ir::kNone && is_normalization_of_all(node)) node.fail("it normalises over a dimension whose extent only a run knows");
  importer(node);
  if (rows == ir::kNone) return;
  for (ir::ValueId& output : node.outputs) {
    if (output != ir::kNone) output = ops::first_of(node, output, 0, rows);
  }
}

std::string Importer::why_not_bounded(const Call& call) const {
  for (const Binding& input : call.inputs) {
    if (input.state != Binding::State::Value || !call.scope.graph->is_bounded(input.id)) continue;
    const auto place = static_cast<std::size_t>(&input - call.inputs.data());
    const bool by_rows = has_bounded_rows(call.scope.graph->value(input.id)) || (call.node.op_type() == "RoiAlign" && place == 2);
    if (call.domain.empty() && by_rows && is_row_by_row(call.node.op_type(), place)) continue;
    if (call.domain.empty() && std::binary_search(std::begin(kTakesBounded), std::end(kTakesBounded),
                                                  std::string_view(call.node.op_type()))) {
      continue;
    }
    const ir::Value& value = call.scope.graph->value(input.id);
    const ir::Node* origin = call.scope.graph->producer(value.extents[0].actual);
    const std::string from = origin != nullptr && !origin->provenance.empty() ? ", that of " + printable(origin->provenance[0]) + "," : "";
    return quoted(value.name) + " has an extent that only a run knows" + from + " and the operator does not take such operands";
  }
  return "";
}

}  // namespace edgert::onnx_import
