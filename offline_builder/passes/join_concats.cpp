// SPDX-License-Identifier: Apache-2.0
// Concatenations that repeat others read them instead: [a, b, c] beside [a, b] becomes [[a, b], c], and neighbouring
// slices of one value become one, or the value itself. The layout pass can then place each part once, where all
// concatenations find it; without this a part has a place in only one of them, and the others copy.
#include <algorithm>
#include <set>

#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

std::int32_t axis_of(const Node& concat) { return concat.as<ir::ConcatAttributes>().axis; }

/// Reads values [begin, end) of the node's inputs as the one value `joined`.
void join_inputs(Graph& graph, NodeId id, std::size_t begin, std::size_t end, ValueId joined) {
  const Node& node = graph.node(id);
  std::vector<ValueId> inputs(node.inputs.begin(), node.inputs.begin() + static_cast<std::ptrdiff_t>(begin));
  inputs.push_back(joined);
  inputs.insert(inputs.end(), node.inputs.begin() + static_cast<std::ptrdiff_t>(end), node.inputs.end());
  const std::vector<std::string> provenance = node.provenance;
  const ir::AttributeBlob attributes = node.attributes;
  const ValueId old = node.outputs[0];
  if (inputs.size() == 1) {
    replace_value(graph, old, joined);
  } else {
    take_place(graph, old, graph.node(graph.add_node(ops::kConcat, inputs, attributes, provenance)).outputs[0]);
  }
}

/// The part of its input that a Slice along `axis` alone reads, without gaps.
struct Part {
  ValueId source;
  std::int64_t begin, end;
};
std::optional<Part> part_of(const Graph& graph, ValueId value, std::int32_t axis) {
  const Node* node = graph.producer(value);
  if (!is(node, ops::kSlice)) return std::nullopt;
  const auto& slice = node->as<ops::SliceAttributes>();
  const ir::Dims& dims = dims_of(graph, node->inputs[0]);
  for (std::size_t d = 0; d < dims.size(); ++d) {
    const bool along = d == static_cast<std::size_t>(axis);
    if (along ? slice.step[d] != 1 && slice.size[d] > 1 : slice.size[d] != dims[d]) return std::nullopt;
  }
  const std::int64_t begin = slice.start[axis];
  return Part{node->inputs[0], begin, begin + slice.size[axis]};
}

/// Inputs `first` and those behind it that together are one slice of a value. Returns whether there were any.
bool join_slices(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const std::int32_t axis = axis_of(node);
  for (std::size_t first = 0; first < node.inputs.size(); ++first) {
    std::optional<Part> whole = part_of(graph, node.inputs[first], axis);
    if (!whole) continue;
    std::size_t end = first + 1;
    for (; end < node.inputs.size(); ++end) {
      const std::optional<Part> next = part_of(graph, node.inputs[end], axis);
      if (!next || next->source != whole->source || next->begin != whole->end) break;
      whole->end = next->end;
    }
    if (end == first + 1) continue;
    ops::SliceAttributes attributes = graph.producer(node.inputs[first])->as<ops::SliceAttributes>();
    attributes.size[axis] = whole->end - whole->begin;
    attributes.step[axis] = 1;
    const bool all = attributes.size[axis] == dims_of(graph, whole->source)[static_cast<std::size_t>(axis)];
    const ValueId joined =
        all ? whole->source : graph.emit(ops::kSlice, {whole->source}, ir::AttributeBlob::of(attributes), node.provenance);
    join_inputs(graph, id, first, end, joined);
    return true;
  }
  return false;
}

/// The longest other Concat along the same axis all of whose inputs follow each other among this one's.
bool join_repeated(Graph& graph, NodeId id) {
  const std::vector<ValueId> inputs = graph.node(id).inputs;
  const Node* best = nullptr;
  std::size_t at = 0;
  for (std::size_t first = 0; first < inputs.size(); ++first) {
    for (const NodeId user : graph.users(inputs[first])) {
      const Node& other = graph.node(user);
      const std::size_t count = other.inputs.size();
      if (user == id || other.op != &ops::kConcat || axis_of(other) != axis_of(graph.node(id))) continue;
      if (count < 2 || count >= inputs.size() || first + count > inputs.size()) continue;
      if (best != nullptr && count <= best->inputs.size()) continue;
      if (!std::equal(other.inputs.begin(), other.inputs.end(), inputs.begin() + static_cast<std::ptrdiff_t>(first))) continue;
      best = &other;
      at = first;
    }
  }
  if (best == nullptr) return false;
  join_inputs(graph, id, at, at + best->inputs.size(), best->outputs[0]);
  return true;
}

int sweep(Graph& graph) {
  std::vector<NodeId> concats;
  for (const NodeId id : graph.topological_order()) {
    if (graph.node(id).op == &ops::kConcat && !graph.is_bounded(graph.node(id).outputs[0])) concats.push_back(id);
  }
  // The longest first, so that each finds the shorter ones as they were.
  std::stable_sort(concats.begin(), concats.end(),
                   [&](NodeId a, NodeId b) { return graph.node(a).inputs.size() > graph.node(b).inputs.size(); });
  int joined = 0;
  for (const NodeId id : concats) {
    if (join_repeated(graph, id) || join_slices(graph, id)) ++joined;
  }
  return joined;
}

}  // namespace

int join_concats(ir::Graph& graph) { return until_stable(graph, &sweep); }

void explain_join_concats(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (node.op != &ops::kConcat) continue;
    std::set<NodeId> others;  // each pair once
    for (const ValueId input : node.inputs) {
      if (graph.value(input).is_constant()) continue;
      for (const NodeId user : graph.users(input)) {
        if (user > id && graph.node(user).op == &ops::kConcat) others.insert(user);
      }
    }
    for (const NodeId other : others) {
      const char* reason = "neither repeats all inputs of the other one after the other";
      if (axis_of(graph.node(other)) != axis_of(node)) reason = "they run along different dimensions";
      else if (graph.is_bounded(node.outputs[0]) || graph.is_bounded(graph.node(other).outputs[0])) reason = "only a run knows their extents";
      refusals.push_back({"join_concats", names_of(node), names_of(graph.node(other)), reason});
    }
  }
}

}  // namespace edgert::passes
