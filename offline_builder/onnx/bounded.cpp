// SPDX-License-Identifier: Apache-2.0
// Which ONNX operators take operands with extents that only a run knows. The graph's operators have a rule of their own
// each; this list is for what their importers compute from the extents that they see, which here are upper bounds.
#include <algorithm>
#include <string_view>

#include "onnx/importer.h"
#include "onnx/text.h"

namespace edgert::onnx_import {
namespace {

/// Sorted. Importers that take extents for nothing but the shapes of what they emit.
constexpr std::string_view kTakesBounded[] = {
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
    "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Compress",
    "Concat", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherND", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsNaN", "LeakyRelu", "Less", "LessOrEqual",
    "Log", "LogSoftmax", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "NonMaxSuppression", "NonZero", "Not",
    "Or", "PRelu", "Pad", "Pow", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "Selu",
    "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign", "Split", "Sqrt",
    "Squeeze", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Transpose", "Unique", "Unsqueeze", "Where",
    "Xor"};

}  // namespace

std::string Importer::why_not_bounded(const Call& call) const {
  for (const Binding& input : call.inputs) {
    if (input.state != Binding::State::Value || !call.scope.graph->is_bounded(input.id)) continue;
    if (call.domain.empty() && std::binary_search(std::begin(kTakesBounded), std::end(kTakesBounded),
                                                  std::string_view(call.node.op_type()))) {
      continue;
    }
    return quoted(call.scope.graph->value(input.id).name) + " has an extent that only a run knows, and the operator does not take " +
           "such operands";
  }
  return "";
}

}  // namespace edgert::onnx_import
