// SPDX-License-Identifier: Apache-2.0
// LayerNormalization and RMSNormalization, which older opsets write as means, squares, a root and a quotient.
#include <algorithm>

#include "edgert/cpu/ops/normalize.h"
#include "edgert/cpu/ops/reduce.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

/// x / sqrt(mean(x * x) + epsilon), where x may be centered by its mean first.
class Matcher {
 public:
  Matcher(const Graph& graph, ValueId root) : graph_(graph), root_(root) {}

  bool run() {
    const ValueId spread = divisor();
    if (spread == kNone || !mean_square(spread)) return false;
    x = centered;
    attributes.rms = 1;
    if (const Node* difference = match(graph_, centered, PointwiseOp::Sub)) {
      const Node* mean = mean_behind(operand(*difference, 1));
      if (mean != nullptr && mean->inputs[0] == operand(*difference, 0) && axes_of(*mean) == attributes.axes) {
        x = operand(*difference, 0);
        attributes.rms = 0;
        take(centered);
        take(operand(*difference, 1));
        take(mean->outputs[0]);
        if (is_closed()) return true;
        // The centered tensor is read elsewhere too: it stays, and only what is left is one operator.
        nodes.resize(nodes.size() - 3);
        x = centered;
        attributes.rms = 1;
      }
    }
    return is_closed();
  }

  /// Whether all parts of a normalization are there, and only readers of some keep it from being one.
  bool is_read_elsewhere() {
    const ValueId spread = divisor();
    return spread != kNone && mean_square(spread) && !is_closed();
  }

  ValueId x = kNone;
  cpu::NormalizeAttributes attributes{};
  std::vector<NodeId> nodes;  ///< that Normalize takes the place of

 private:
  void take(ValueId id) {
    const NodeId node = graph_.value(id).producer;
    if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) nodes.push_back(node);
  }

  bool is_closed() const {
    for (const NodeId id : nodes) {
      const ValueId out = graph_.node(id).outputs[0];
      if (out == root_) continue;
      if (graph_.is_output(out)) return false;
      for (const NodeId user : graph_.users(out)) {
        if (std::find(nodes.begin(), nodes.end(), user) == nodes.end()) return false;
      }
    }
    return true;
  }

  static std::uint32_t axes_of(const Node& mean) { return mean.as<cpu::ReduceAttributes>().axes; }

  const Node* mean_of(ValueId id) const {
    const Node* node = graph_.producer(id);
    if (!is(node, ops::kReduce) || node->as<cpu::ReduceAttributes>().kind != cpu::ReduceKind::Mean) return nullptr;
    return node;
  }

  /// The mean whose repetition `id` is.
  const Node* mean_behind(ValueId id) const {
    const Node* node = graph_.producer(id);
    return mean_of(is(node, ops::kExpand) ? node->inputs[0] : id);
  }

  /// root = centered / spread, or centered * (1 / spread); the spread before its repetition, or kNone.
  ValueId divisor() {
    if (const Node* quotient = match(graph_, root_, PointwiseOp::Div)) {
      take(root_);
      centered = operand(*quotient, 0);
      return repeated(operand(*quotient, 1));
    }
    const Node* product = match(graph_, root_, PointwiseOp::Mul);
    if (product == nullptr) return kNone;
    take(root_);
    for (unsigned i = 0; i < 2; ++i) {
      const ValueId source = source_of(operand(*product, i));
      const Node* inverse = match(graph_, source, PointwiseOp::Reciprocal);
      const Node* quotient = match(graph_, source, PointwiseOp::Div);
      const bool divides_one = quotient != nullptr && is_uniform(graph_, operand(*quotient, 0), 1);
      if (inverse == nullptr && !divides_one) continue;
      centered = operand(*product, 1 - i);
      repeated(operand(*product, i));
      take(source);
      return inverse != nullptr ? operand(*inverse, 0) : operand(*quotient, 1);
    }
    return kNone;
  }

  ValueId source_of(ValueId id) const {
    const Node* node = graph_.producer(id);
    return is(node, ops::kExpand) ? node->inputs[0] : id;
  }

  ValueId repeated(ValueId id) {
    const ValueId source = source_of(id);
    if (source != id) take(id);
    return source;
  }

  /// spread = sqrt(mean(centered^2) + epsilon)
  bool mean_square(ValueId spread) {
    const Node* root = match(graph_, spread, PointwiseOp::Sqrt);
    const Node* sum = root != nullptr ? match(graph_, operand(*root, 0), PointwiseOp::Add) : nullptr;
    if (sum == nullptr) return false;
    for (unsigned i = 0; i < 2; ++i) {
      const std::optional<double> epsilon = uniform_value(graph_, operand(*sum, i));
      const Node* mean = mean_of(operand(*sum, 1 - i));
      if (!epsilon || mean == nullptr || !is_square(mean->inputs[0])) continue;
      if (dims_of(graph_, mean->inputs[0]) != dims_of(graph_, root_)) continue;
      attributes.axes = axes_of(*mean);
      attributes.epsilon = static_cast<float>(*epsilon);
      for (const ValueId part : {spread, operand(*root, 0), mean->outputs[0], mean->inputs[0]}) take(part);
      return true;
    }
    return false;
  }

  bool is_square(ValueId id) const {
    if (const Node* product = match(graph_, id, PointwiseOp::Mul)) {
      return operand(*product, 0) == centered && operand(*product, 1) == centered;
    }
    const Node* power = match(graph_, id, PointwiseOp::Pow);
    return power != nullptr && operand(*power, 0) == centered && is_uniform(graph_, operand(*power, 1), 2);
  }

  const Graph& graph_;
  ValueId root_;
  ValueId centered = kNone;
};

bool fuse_core(Graph& graph, NodeId id) {
  if (single_instruction(graph.node(id)) == nullptr) return false;
  const ValueId out = graph.node(id).outputs[0];
  Matcher matcher(graph, out);
  if (type_of(graph, out).dtype != DType::F32 || !matcher.run()) return false;
  const NodeId fresh =
      graph.add_node(ops::kNormalize, {matcher.x, kNone, kNone}, ir::AttributeBlob::of(matcher.attributes),
                     joined_provenance(graph, matcher.nodes));
  take_place(graph, out, graph.node(fresh).outputs[0]);
  return true;
}

/// A product with, or a sum of, a constant right behind becomes Normalize's scale or bias.
bool absorb_parameter(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const PointwiseStep* step = single_instruction(node);
  if (step == nullptr || (step->op != PointwiseOp::Mul && step->op != PointwiseOp::Add)) return false;
  const ValueId out = node.outputs[0];
  for (unsigned i = 0; i < 2; ++i) {
    const ValueId normal = operand(node, i);
    const ValueId parameter = operand(node, 1 - i);
    const Node* source = graph.producer(normal);
    if (!is(source, ops::kNormalize) || !graph.has_single_use(normal) || !constant_window(graph, parameter)) continue;
    std::vector<ValueId> inputs = source->inputs;
    inputs.resize(3, kNone);
    // A bias comes after the scale, and RMS normalization has none.
    const std::size_t slot = step->op == PointwiseOp::Mul ? 1 : 2;
    const bool fits = slot == 1 ? inputs[1] == kNone && inputs[2] == kNone
                                : inputs[2] == kNone && source->as<cpu::NormalizeAttributes>().rms == 0;
    if (!fits) continue;
    inputs[slot] = parameter;
    const NodeId fresh = graph.add_node(ops::kNormalize, inputs, source->attributes,
                                        joined_provenance(graph, {graph.value(normal).producer, id}));
    take_place(graph, out, graph.node(fresh).outputs[0]);
    return true;
  }
  return false;
}

int sweep(Graph& graph) {
  int changes = 0;
  for (const NodeId id : graph.topological_order()) {
    if (!graph.node(id).alive || graph.is_bounded(graph.node(id).outputs[0])) continue;
    if (fuse_core(graph, id) || absorb_parameter(graph, id)) ++changes;
  }
  return changes;
}

}  // namespace

void explain_fuse_normalization(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    if (single_instruction(graph.node(id)) == nullptr || type_of(graph, graph.node(id).outputs[0]).dtype != DType::F32) continue;
    if (!Matcher(graph, graph.node(id).outputs[0]).is_read_elsewhere()) continue;
    refusals.push_back({"fuse_normalization", names_of(graph.node(id)), "", "a part of this normalization is read elsewhere too"});
  }
}

int fuse_normalization(ir::Graph& graph) { return until_stable(graph, &sweep); }

}  // namespace edgert::passes
