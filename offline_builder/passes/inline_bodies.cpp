// SPDX-License-Identifier: Apache-2.0
// Both branches of an If are computed, since nothing has effects but its results, and the condition selects. A Loop is
// unrolled as often as it may turn; turns that a run does not reach change nothing.
#include "passes/inline_bodies.h"

#include <algorithm>

#include "edgert/cpu/ops/loop.h"
#include "ops/bound.h"
#include "ops/compose.h"
#include "passes/pattern.h"

namespace edgert::passes {
namespace {

/// Nodes that a loop may become.
constexpr std::int64_t kMostNodes = 4096;

std::string name_of(const Node& node) {
  return std::string(node.op->name) + (node.provenance.empty() ? "" : " of " + node.provenance.front());
}

/// Copies the body's nodes into the graph, reading `inputs`, one for each of the body's. Returns what its outputs are there.
std::vector<ValueId> copy_body(ir::Graph& graph, const ir::Graph& body, const std::vector<ValueId>& inputs) {
  std::vector<ValueId> copies(body.value_count(), kNone);
  for (std::size_t i = 0; i < inputs.size(); ++i) copies[body.inputs().at(i)] = inputs[i];
  const auto copy_of = [&](ValueId id) {
    if (id == kNone || copies[id] != kNone) return id == kNone ? kNone : copies[id];
    const ir::Value& value = body.value(id);
    if (!value.is_constant()) throw std::logic_error("a body reads '" + value.name + "' before it is made");
    return copies[id] = graph.add_constant(value.name, value.type, value.constant, value.format);
  };
  for (const NodeId id : body.topological_order()) {
    const Node& node = body.node(id);
    std::vector<ValueId> operands;
    for (const ValueId input : node.inputs) operands.push_back(copy_of(input));
    const NodeId copy = graph.add_node(*node.op, std::move(operands), node.attributes, node.provenance, node.bodies);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      copies[node.outputs[i]] = graph.node(copy).outputs[i];
      graph.value(copies[node.outputs[i]]).name = body.value(node.outputs[i]).name;
    }
  }
  std::vector<ValueId> outputs;
  for (const ir::Graph::Output& output : body.outputs()) outputs.push_back(copy_of(output.value));
  return outputs;
}

ValueId bound(ops::OnnxNode& node, ValueId x, std::uint32_t dims, const std::vector<ValueId>& extents) {
  std::vector<ValueId> inputs{x};
  inputs.insert(inputs.end(), extents.begin(), extents.end());
  const NodeId id = node.graph.add_node(ops::kBound, std::move(inputs), ir::AttributeBlob::of(ops::BoundAttributes{dims, 0}), {node.provenance()});
  return node.graph.node(id).outputs[0];
}

/// The value with its largest extents, and zeros behind it up to those of `dims`.
ValueId widened(ops::OnnxNode& node, ValueId x, const ir::Dims& dims) {
  if (node.graph.is_bounded(x)) x = bound(node, x, 0, {});
  std::vector<std::int64_t> after;
  const ir::Dims own = ops::dims_of(node, x);
  for (std::size_t d = 0; d < dims.size(); ++d) after.push_back(dims[d] - own[d]);
  if (std::all_of(after.begin(), after.end(), [](std::int64_t count) { return count == 0; })) return x;
  return ops::pad_zero(node, x, std::vector<std::int64_t>(dims.size(), 0), after);
}

class Inliner {
 public:
  explicit Inliner(ir::Graph& graph) : graph_(graph) {}

  void run(NodeId id) {
    // A copy, since new nodes may move the old ones.
    const Node node = graph_.node(id);
    ops::OnnxNode words(graph_, name_of(node), node.op->name, "", 17);
    const std::vector<ValueId> results = node.op == &ops::kIf ? branches(words, node) : turns(words, node);
    for (std::size_t i = 0; i < results.size(); ++i) {
      graph_.replace_uses(node.outputs[i], results[i]);
    }
    graph_.erase(id);
  }

 private:
  std::vector<ValueId> branches(ops::OnnxNode& words, const Node& node) {
    const std::size_t first = node.bodies[0].inputs().size();
    const auto begin = node.inputs.begin() + 1;
    const bool known = graph_.value(node.inputs[0]).is_constant();
    const bool taken = known && *graph_.value(node.inputs[0]).constant.as<std::uint8_t>() != 0;
    const auto middle = begin + static_cast<std::ptrdiff_t>(first);
    std::vector<ValueId> made[2];
    made[0] = copy_body(graph_, node.bodies[0], {begin, middle});
    made[1] = copy_body(graph_, node.bodies[1], {middle, node.inputs.end()});
    // The extents of results are results themselves, behind the others.
    std::vector<ValueId> selected;
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const ir::Dims dims = graph_.value(node.outputs[i]).type.dims;
      const ValueId a = widened(words, made[0][i], dims), b = widened(words, made[1][i], dims);
      selected.push_back(known ? (taken ? a : b) : ops::select(words, node.inputs[0], a, b));
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      std::uint32_t dims = 0;
      std::vector<ValueId> extents;
      for (const ir::Extent& extent : graph_.value(node.outputs[i]).extents) {
        dims |= 1u << extent.dim;
        const auto place = std::find(node.outputs.begin(), node.outputs.end(), extent.actual) - node.outputs.begin();
        extents.push_back(selected[static_cast<std::size_t>(place)]);
      }
      if (dims != 0) selected[i] = bound(words, selected[i], dims, extents);
    }
    return selected;
  }

  std::vector<ValueId> turns(ops::OnnxNode& words, const Node& node) {
    const auto& attributes = node.as<cpu::LoopAttributes>();
    const ir::Graph& body = node.bodies[0];
    const auto nodes = static_cast<std::int64_t>(std::max<std::size_t>(body.node_count(), 1));
    if (attributes.most_turns > kMostNodes / nodes) {
      const std::string often = attributes.most_turns == INT64_MAX ? "any number of" : std::to_string(attributes.most_turns);
      throw ir::BuildError(name_of(node) + ": on a GPU loops are unrolled, and " + often + " turns of " + std::to_string(nodes) +
                           " nodes are too many (at most " + std::to_string(kMostNodes) + " nodes); give --most-turns or fix the trip count with --value");
    }
    const std::size_t carried = attributes.carried, tests = attributes.tests_condition != 0 ? 1 : 0;
    const bool always = attributes.exact != 0 && tests == 0;
    std::vector<ValueId> values(node.inputs.begin() + 2, node.inputs.begin() + 2 + static_cast<std::ptrdiff_t>(carried));
    std::vector<std::vector<ValueId>> collected(attributes.collected);
    ValueId going = always ? kNone : node.inputs[1] != kNone ? ops::reshape(words, node.inputs[1], {}) : ops::scalar_constant(words, DType::Bool, 1);
    ValueId count = ops::int64_constant(words, {}, {always ? attributes.most_turns : 0});
    const auto both = [&](ValueId a, ValueId b) { return ops::binary(words, PointwiseOp::And, a, ops::reshape(words, b, {})); };
    for (std::int64_t turn = 0; turn < attributes.most_turns; ++turn) {
      if (!always && node.inputs[0] != kNone) {
        going = both(going, ops::binary(words, PointwiseOp::Less, ops::int64_constant(words, {}, {turn}), ops::reshape(words, node.inputs[0], {})));
      }
      std::vector<ValueId> inputs{ops::int64_constant(words, graph_dims(body), {turn})};
      inputs.insert(inputs.end(), values.begin(), values.end());
      inputs.insert(inputs.end(), node.inputs.begin() + 2 + static_cast<std::ptrdiff_t>(carried), node.inputs.end());
      const std::vector<ValueId> made = copy_body(graph_, body, inputs);
      for (std::size_t i = 0; i < carried; ++i) values[i] = always ? made[i] : ops::select(words, going, made[tests + i], values[i]);
      for (std::size_t i = 0; i < collected.size(); ++i) {
        ir::Dims dims = ops::dims_of(words, made[tests + carried + i]);
        dims.insert(dims.begin(), 1);
        collected[i].push_back(ops::reshape(words, made[tests + carried + i], dims));
      }
      if (always) continue;
      count = ops::binary(words, PointwiseOp::Add, count, ops::cast(words, going, DType::I64));
      if (tests != 0) going = both(going, made[0]);
    }
    std::vector<ValueId> results = values;
    for (std::size_t i = 0; i < collected.size(); ++i) {
      const ir::TensorType& type = graph_.value(node.outputs[carried + i]).type;
      ValueId all = collected[i].empty() ? graph_.add_constant("nothing", type, ir::Bytes::copy(nullptr, 0)) : ops::concat(words, collected[i], 0);
      if (graph_.is_bounded(node.outputs[carried + i])) all = bound(words, all, 1u, {count});
      results.push_back(all);
    }
    results.push_back(count);
    return results;
  }

  static ir::Dims graph_dims(const ir::Graph& body) { return body.value(body.inputs().at(0)).type.dims; }

  ir::Graph& graph_;
};

}  // namespace

int inline_bodies(ir::Graph& graph) {
  int changes = 0;
  // What is copied out of a body may have bodies itself; new nodes come last.
  for (NodeId id = 0; id < graph.node_count(); ++id) {
    if (!graph.node(id).alive || graph.node(id).bodies.empty()) continue;
    Inliner(graph).run(id);
    ++changes;
  }
  return changes;
}

}  // namespace edgert::passes
