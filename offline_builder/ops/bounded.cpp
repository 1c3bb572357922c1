// SPDX-License-Identifier: Apache-2.0
#include "ops/bounded.h"

#include <algorithm>

#include "ops/compose.h"

namespace edgert::ops {
namespace {

std::string name_of(const InferContext& context, std::size_t i) {
  return "'" + context.graph.value(context.inputs[i]).name + "'";
}

}  // namespace

bool any_bounded(const InferContext& context) {
  return std::any_of(context.inputs.begin(), context.inputs.end(), [&](ir::ValueId input) {
    return input != ir::kNone && context.graph.is_bounded(input);
  });
}

void refuse_bounded(const InferContext& context, std::size_t i, const char* what) {
  require(!context.has(i) || context.extents(i).empty(),
          std::string(what) + " " + (context.has(i) ? name_of(context, i) : "") + " has an extent that only a run knows");
}

Extents elementwise_extents(const InferContext& context) {
  std::vector<ir::OutputExtent> out;
  for (const ir::Extent& extent : context.extents(0)) out.push_back({extent.dim, extent.actual});
  for (std::size_t i = 1; i < context.inputs.size(); ++i) {
    require(context.extents(i) == context.extents(0),
            "a dimension of " + name_of(context, 0) + " or " + name_of(context, i) +
                " is known only at run time, and nothing says that it is the same in both");
  }
  return {out};
}

Extents mapped_extents(const InferContext& context, const std::vector<int>& of) {
  for (std::size_t i = 1; i < context.inputs.size(); ++i) refuse_bounded(context, i, "operand");
  std::vector<ir::OutputExtent> out;
  for (std::size_t d = 0; d < of.size(); ++d) {
    for (const ir::Extent& extent : context.extents(0)) {
      if (of[d] == static_cast<int>(extent.dim)) out.push_back({static_cast<std::uint32_t>(d), extent.actual});
    }
  }
  return {out};
}

std::vector<ir::ValueId> emit_bounded(OnnxNode& node, const OperatorDef& op, const std::vector<ir::ValueId>& operands,
                                      const ir::AttributeBlob& attributes) {
  ir::Graph& graph = node.graph;
  // Exporters write the same node once for each reader. Its extents are one, which operators beside each other rely on.
  for (const ir::NodeId user : graph.users(operands[0])) {
    const ir::Node& same = graph.node(user);
    if (same.op == &op && same.inputs == operands && same.attributes == attributes) return same.outputs;
  }
  const ir::NodeId id = graph.add_node(op, operands, attributes, {node.provenance()});
  std::vector<ir::ValueId> outputs = graph.node(id).outputs;
  const bool known = std::all_of(operands.begin(), operands.end(), [&](ir::ValueId operand) {
    return operand == ir::kNone || graph.value(operand).is_constant();
  });
  const std::optional<std::vector<ir::Bytes>> results = known ? ir::evaluate(graph, graph.node(id)) : std::nullopt;
  if (!results) return outputs;
  const auto index_of = [&](ir::ValueId actual) {
    return static_cast<std::size_t>(std::find(outputs.begin(), outputs.end(), actual) - outputs.begin());
  };
  std::vector<ir::ValueId> constants;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const ir::Value value = graph.value(outputs[i]);
    ir::ValueId constant = graph.add_constant(value.name, value.type, (*results)[i]);
    for (const ir::Extent& extent : value.extents) {
      const std::int64_t actual = *(*results)[index_of(extent.actual)].as<std::int64_t>();
      constant = slice(node, constant, extent.dim, 0, actual);
    }
    constants.push_back(constant);
  }
  graph.erase(id);
  return constants;
}

}  // namespace edgert::ops
