// SPDX-License-Identifier: Apache-2.0
// Computes what is known when the plan is built. A view that would only repeat a constant stays a view: it costs
// nothing at run time and the plan stays small.
#include <algorithm>
#include <map>

#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

/// A result may be this much larger than what it is computed from: a view's, which can be read in place otherwise, and
/// a computed one's, which would be made anew in every run.
constexpr std::size_t kViewGrowth = std::size_t{64} << 10;
constexpr std::size_t kComputedGrowth = std::size_t{4} << 20;

class Folder {
 public:
  explicit Folder(Graph& graph) : graph_(graph) {}

  int run() {
    for (const NodeId id : graph_.topological_order()) {
      if (graph_.node(id).alive) visit(id);
    }
    return folded_;
  }

 private:
  bool is_known(ValueId id) const { return graph_.value(id).is_constant() || stored_.count(id) != 0; }

  /// Bytes of the constants that a known value is made of.
  std::size_t stored_bytes(ValueId id) const {
    const ir::Value& value = graph_.value(id);
    return value.is_constant() ? value.constant.size() : stored_.at(id);
  }

  void visit(NodeId id) {
    const Node& node = graph_.node(id);
    const bool convolution = node.op == &ops::kConv || node.op == &ops::kDepthwiseConv;
    bool all_known = true;
    std::size_t stored = 0;
    for (const ValueId input : node.inputs) {
      if (input == kNone) continue;
      all_known = all_known && is_known(input);
      if (all_known) stored += stored_bytes(input);
    }
    // Convolutions take no other weights than constants.
    if (convolution && is_known(node.inputs[1]) && !graph_.value(node.inputs[1]).is_constant()) fold(node.inputs[1]);
    // The extents that a bounded result really has are not among what is computed here.
    const bool bounded = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId output) { return graph_.is_bounded(output); });
    if (bounded || !node.bodies.empty()) return;
    if (!all_known || node.op->layout == ops::LayoutRule::ChannelsLast || !has_whole_bytes(node)) return;
    std::size_t bytes = 0;
    for (const ValueId output : node.outputs) bytes += ir::dense_bytes(type_of(graph_, output));
    const std::size_t growth = node.op->view != nullptr ? kViewGrowth : kComputedGrowth;
    const std::vector<ValueId> outputs = node.outputs;
    const bool keep = node.op == &ops::kExpand || bytes > stored + growth;
    for (const ValueId output : outputs) stored_[output] = stored;
    if (!keep) {
      for (const ValueId output : outputs) fold(output);
    }
  }

  bool has_whole_bytes(const Node& node) const {
    for (const std::vector<ValueId>* list : {&node.inputs, &node.outputs}) {
      for (const ValueId id : *list) {
        if (id != kNone && bits_of(type_of(graph_, id).dtype) % 8 != 0) return false;
      }
    }
    return true;
  }

  void fold(ValueId id) {
    const ValueId constant = graph_.add_constant(graph_.value(id).name, type_of(graph_, id), bytes_of(id));
    replace_value(graph_, id, constant);
    ++folded_;
  }

  ir::Bytes bytes_of(ValueId id) {
    if (graph_.value(id).is_constant()) return graph_.value(id).constant;
    if (const auto found = computed_.find(id); found != computed_.end()) return found->second;
    const Node& node = graph_.node(graph_.value(id).producer);
    // A graph of this one node, whose operands are constants for certain.
    Graph scratch;
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) {
      inputs.push_back(input == kNone
                           ? kNone
                           : scratch.add_constant(graph_.value(input).name, type_of(graph_, input), bytes_of(input)));
    }
    const NodeId copy = scratch.add_node(*node.op, inputs, node.attributes, {});
    std::optional<std::vector<ir::Bytes>> results;
    try {
      results = ir::evaluate(scratch, scratch.node(copy));
    } catch (const ir::BuildError& error) {
      throw ir::BuildError((node.provenance.empty() ? node.op->name : node.provenance[0]) + ": " + error.what());
    }
    if (!results) throw ir::BuildError(std::string(node.op->name) + " of constants cannot be computed");
    for (std::size_t i = 0; i < node.outputs.size(); ++i) computed_[node.outputs[i]] = results->at(i);
    return computed_.at(id);
  }

  Graph& graph_;
  std::map<ValueId, std::size_t> stored_;  ///< known values that are no constants (yet), by what they are made of
  std::map<ValueId, ir::Bytes> computed_;
  int folded_ = 0;
};

}  // namespace

int fold_constants(ir::Graph& graph) { return Folder(graph).run(); }

}  // namespace edgert::passes
