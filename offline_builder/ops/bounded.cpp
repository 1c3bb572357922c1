// SPDX-License-Identifier: Apache-2.0
#include "ops/bounded.h"

#include <algorithm>
#include <cstring>

#include "edgert/cpu/ops/compress.h"
#include "ops/extent_sums.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

std::string name_of(const InferContext& context, std::size_t i) {
  return "'" + context.graph.value(context.inputs[i]).name + "'";
}

/// Chains that compute an extent are short: what is longer is not compared.
constexpr int kMostDepth = 16;

bool computed_alike(const ir::Graph& graph, ir::ValueId a, ir::ValueId b, int depth = 0) {
  if (a == b) return true;
  if (a == ir::kNone || b == ir::kNone || depth > kMostDepth) return false;
  const ir::Value& x = graph.value(a);
  const ir::Value& y = graph.value(b);
  if (x.type.dtype != y.type.dtype || x.type.dims != y.type.dims) return false;
  if (x.is_constant() || y.is_constant()) {
    return x.is_constant() && y.is_constant() && x.format == y.format && x.constant.size() == y.constant.size() &&
           std::memcmp(x.constant.data(), y.constant.data(), x.constant.size()) == 0;
  }
  const ir::Node* p = graph.producer(a);
  const ir::Node* q = graph.producer(b);
  if (p == nullptr || q == nullptr || p->op != q->op || x.output != y.output || !(p->attributes == q->attributes)) return false;
  if (p->inputs.size() != q->inputs.size() || !p->bodies.empty() || !q->bodies.empty()) return false;
  // How much Compress keeps does not depend on what it keeps.
  const std::size_t first = p->op == &kCompress && x.output == 1 ? 1 : 0;
  for (std::size_t i = first; i < p->inputs.size(); ++i) {
    if (!computed_alike(graph, p->inputs[i], q->inputs[i], depth + 1)) return false;
  }
  return true;
}

}  // namespace

bool same_extent(const ir::Graph& graph, ir::ValueId a, ir::ValueId b) {
  if (computed_alike(graph, a, b)) return true;
  const std::optional<std::vector<ExtentSum>> x = extent_sums(graph, a);
  return x && x == extent_sums(graph, b);
}

bool same_extents(const ir::Graph& graph, const std::vector<ir::Extent>& a, const std::vector<ir::Extent>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const ir::Extent& x, const ir::Extent& y) {
    return x.dim == y.dim && same_extent(graph, x.actual, y.actual);
  });
}

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
    require(same_extents(context.graph, context.extents(i), context.extents(0)),
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
