// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ir/graph.h"
#include "ir/operator_def.h"

namespace edgert::ir {
namespace {

[[noreturn]] void broken(const std::string& what) { throw std::logic_error("broken graph: " + what); }

void verify_node(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const std::string label = std::string(node.op->name) + " node " + std::to_string(id);
  if (node.attributes.bytes().size() != node.op->attribute_bytes) broken(label + " has attributes of another operator");
  for (const ValueId input : node.inputs) {
    if (input == kNone) continue;
    const std::vector<NodeId>& users = graph.users(input);
    if (std::count(users.begin(), users.end(), id) != std::count(node.inputs.begin(), node.inputs.end(), input)) {
      broken(label + " is not counted among the readers of '" + graph.value(input).name + "'");
    }
    const NodeId producer = graph.value(input).producer;
    if (producer != kNone && !graph.node(producer).alive) broken(label + " reads the result of an erased node");
  }
  const InferContext context{graph, node.inputs, node.attributes, node.bodies};
  const std::vector<TensorType> types = node.op->infer(context);
  if (types.size() != node.outputs.size()) broken(label + " has the wrong number of outputs");
  for (std::size_t i = 0; i < types.size(); ++i) {
    const TensorType& actual = graph.value(node.outputs[i]).type;
    if (types[i] != actual) broken(label + " makes " + to_string(types[i]) + " but its value says " + to_string(actual));
  }
  const std::vector<std::vector<OutputExtent>> extents = infer_extents(*node.op, context);
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    std::vector<Extent> expected;
    for (std::size_t e = 0; i < extents.size() && e < extents[i].size(); ++e) {
      const OutputExtent& extent = extents[i][e];
      expected.push_back({extent.dim, extent.actual != kNone ? extent.actual : node.outputs.at(extent.output)});
    }
    if (expected != graph.value(node.outputs[i]).extents) broken(label + " has other bounded extents than its value says");
  }
  for (const Graph& body : node.bodies) verify(body);
}

}  // namespace

void verify(const Graph& graph) {
  std::size_t alive = 0;
  for (NodeId id = 0; id < graph.node_count(); ++id) {
    if (!graph.node(id).alive) continue;
    ++alive;
    verify_node(graph, id);
  }
  if (graph.topological_order().size() != alive) broken("it has a cycle");
  for (const Graph::Output& output : graph.outputs()) {
    const NodeId producer = graph.value(output.value).producer;
    if (producer != kNone && !graph.node(producer).alive) broken("output '" + output.name + "' is made by an erased node");
  }
  for (ValueId id = 0; id < graph.value_count(); ++id) {
    const Value& value = graph.value(id);
    if (!value.order.empty() && value.order.size() != value.type.dims.size()) broken("order of '" + value.name + "'");
  }
}

}  // namespace edgert::ir
