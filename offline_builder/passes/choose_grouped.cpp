// SPDX-License-Identifier: Apache-2.0
// Grouped convolutions with few channels a group go the way of depthwise ones: a panel of the product kernel would be
// half empty or worse, and every group would have its own tables of pointers.
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

bool is_taken(const Graph& graph, const Node& node) {
  const std::int64_t groups = node.as<cpu::ConvAttributes>().groups;
  const std::int64_t channels = dims_of(graph, node.inputs[0])[1];
  const ir::Value& w = graph.value(node.inputs[1]);
  if (!w.is_constant() || w.format != WeightFormat::Strided || channels != w.type.dims[0]) return false;
  const std::int64_t group = channels / groups;
  return (group == 4 || group == 8) && channels % 16 == 0;
}

}  // namespace

int choose_grouped(ir::Graph& graph) {
  int changed = 0;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (node.op != &ops::kConv || !is_taken(graph, node)) continue;
    const auto& a = node.as<cpu::ConvAttributes>();
    const cpu::DepthwiseConvAttributes attributes = {{a.kernel[0], a.kernel[1]},       {a.stride[0], a.stride[1]},
                                                     {a.dilation[0], a.dilation[1]},   {a.pad_begin[0], a.pad_begin[1]},
                                                     a.epilogue,                       {a.pad_end[0], a.pad_end[1]}};
    const std::vector<ValueId> inputs = node.inputs;
    const ValueId y = node.outputs[0];
    const std::vector<std::string> provenance = node.provenance;
    const NodeId fresh = graph.add_node(ops::kDepthwiseConv, inputs, ir::AttributeBlob::of(attributes), provenance);
    take_place(graph, y, graph.node(fresh).outputs[0]);
    ++changed;
  }
  return changed;
}

}  // namespace edgert::passes
