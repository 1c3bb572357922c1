// SPDX-License-Identifier: Apache-2.0
// y * s + t with a scale and a shift per output channel (BatchNormalization is imported as that) goes into the weights
// and the bias of the convolution or matrix product that makes y. Computed in double and rounded once.
#include <cmath>

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/matmul.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

using Vector = std::vector<float>;

/// y becomes scale * y + shift; either may be absent.
struct Affine {
  std::vector<double> scale;
  std::vector<double> shift;
};

bool has_plain_epilogue(const Node& node) {
  const scalar::Epilogue* epilogue = nullptr;
  if (node.op == &ops::kConv) epilogue = &node.as<cpu::ConvAttributes>().epilogue;
  if (node.op == &ops::kDepthwiseConv) epilogue = &node.as<cpu::DepthwiseConvAttributes>().epilogue;
  if (node.op == &ops::kMatMul) epilogue = &node.as<cpu::MatMulAttributes>().epilogue;
  return epilogue != nullptr && epilogue->activation == PointwiseOp::Identity &&
         epilogue->residual == scalar::ResidualMode::None;
}

/// Output channel: dimension 1 of a convolution's result, the last one of a matrix product's.
std::size_t channel_axis(const Graph& graph, const Node& node) {
  return node.op == &ops::kMatMul ? dims_of(graph, node.outputs[0]).size() - 1 : 1;
}

/// What is done to y by a node that is one product, sum, difference or quotient with a constant; null for others.
const PointwiseStep* affine_step(const Graph& graph, const Node& node, ValueId y) {
  const PointwiseStep* step = single_instruction(node);
  if (step == nullptr || scalar::arity(step->op) != 2) return nullptr;
  const bool known = step->op == PointwiseOp::Mul || step->op == PointwiseOp::Add || step->op == PointwiseOp::Sub || step->op == PointwiseOp::Div;
  const ValueId other = operand(node, operand(node, 0) == y ? 1 : 0);
  return known && constant_window(graph, other) ? step : nullptr;
}

std::optional<Affine> read_affine(const Graph& graph, const Node& node, ValueId y, std::size_t axis) {
  const PointwiseStep* step = affine_step(graph, node, y);
  if (step == nullptr) return std::nullopt;
  const bool y_first = operand(node, 0) == y;
  const std::optional<Vector> constant = vector_along(graph, operand(node, y_first ? 1 : 0), axis);
  if (!constant) return std::nullopt;
  Affine affine;
  for (const double c : *constant) {
    switch (step->op) {
      case PointwiseOp::Mul: affine.scale.push_back(c); break;
      case PointwiseOp::Add: affine.shift.push_back(c); break;
      case PointwiseOp::Sub:
        affine.shift.push_back(y_first ? -c : c);
        if (!y_first) affine.scale.push_back(-1);
        break;
      case PointwiseOp::Div:
        if (!y_first) return std::nullopt;
        affine.scale.push_back(1 / c);
        break;
      default: return std::nullopt;
    }
    // What is not finite shall stay visible where it was computed.
    if (!affine.scale.empty() && !std::isfinite(affine.scale.back())) return std::nullopt;
  }
  return affine;
}

/// Weights with output channel c multiplied by scale[c]; nothing when they are no constant.
ValueId scaled_weights(Graph& graph, const Node& node, const std::vector<double>& scale) {
  const ir::Value& w = graph.value(node.inputs[1]);
  if (!w.is_constant() || w.format != WeightFormat::Strided) return kNone;
  const float* from = w.constant.as<float>();
  const auto count = static_cast<std::size_t>(ir::element_count(w.type.dims));
  Vector scaled(count);
  // Channels are the first dimension of a convolution's weights, the last one of a matrix.
  const std::size_t run = node.op == &ops::kMatMul ? 1 : count / scale.size();
  for (std::size_t i = 0; i < count; ++i) scaled[i] = static_cast<float>(from[i] * scale[i / run % scale.size()]);
  return add_floats(graph, w.name, w.type.dims, scaled);
}

/// bias * scale + shift; kNone when the present bias is no constant but would have to change.
ValueId changed_bias(Graph& graph, const Node& node, const Affine& affine, std::size_t channels) {
  const ValueId present = node.inputs.size() > 2 ? node.inputs[2] : kNone;
  Vector bias(channels, 0.0f);
  std::string name = graph.value(node.outputs[0]).name + "_bias";
  if (present != kNone) {
    const std::optional<Vector> values = vector_along(graph, present, 0);
    if (!values) return kNone;
    bias = *values;
    name = graph.value(present).name;
  }
  for (std::size_t c = 0; c < channels; ++c) {
    double value = bias[c];
    if (!affine.scale.empty()) value *= affine.scale[c];
    if (!affine.shift.empty()) value += affine.shift[c];
    bias[c] = static_cast<float>(value);
  }
  return add_floats(graph, name, {static_cast<std::int64_t>(channels)}, bias);
}

bool apply(Graph& graph, NodeId id, const Affine& affine, std::size_t channels) {
  const bool has_bias = graph.node(id).inputs.size() > 2 && graph.node(id).inputs[2] != kNone;
  ValueId bias = kNone;
  if (has_bias || !affine.shift.empty()) {
    bias = changed_bias(graph, graph.node(id), affine, channels);
    if (bias == kNone) return false;
  }
  if (!affine.scale.empty()) {
    const ValueId weights = scaled_weights(graph, graph.node(id), affine.scale);
    if (weights == kNone) return false;
    const ValueId before = graph.node(id).inputs[1];
    graph.set_input(id, 1, weights);
    release_unread(graph, before);
  }
  while (graph.node(id).inputs.size() < 3) graph.append_input(id, kNone);
  if (bias != kNone) graph.set_input(id, 2, bias);
  return true;
}

/// Folds the one reader of y into node `id`, which makes it.
bool fold_reader(Graph& graph, NodeId id) {
  const ValueId y = graph.node(id).outputs[0];
  if (!has_plain_epilogue(graph.node(id)) || !graph.has_single_use(y)) return false;
  const NodeId reader = graph.users(y)[0];
  const std::size_t axis = channel_axis(graph, graph.node(id));
  const std::optional<Affine> affine = read_affine(graph, graph.node(reader), y, axis);
  const auto channels = static_cast<std::size_t>(dims_of(graph, y)[axis]);
  if (!affine || !apply(graph, id, *affine, channels)) return false;
  take_place(graph, graph.node(reader).outputs[0], y);
  return true;
}

}  // namespace

void explain_fold_affine(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!has_plain_epilogue(node)) continue;
    const ValueId y = node.outputs[0];
    for (const NodeId reader : graph.users(y)) {
      if (affine_step(graph, graph.node(reader), y) == nullptr) continue;
      const char* reason = "weights or bias are no constants";
      if (!graph.has_single_use(y)) reason = "the result before it is read elsewhere too";
      else if (!read_affine(graph, graph.node(reader), y, channel_axis(graph, node))) reason = "its constant is not a finite number a channel";
      refusals.push_back({"fold_affine", names_of(graph.node(reader)), names_of(node), reason});
    }
  }
}

int fold_affine(ir::Graph& graph) {
  int folded = 0;
  for (const NodeId id : graph.topological_order()) {
    while (graph.node(id).alive && fold_reader(graph, id)) ++folded;
  }
  return folded;
}

}  // namespace edgert::passes
