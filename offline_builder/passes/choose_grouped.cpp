// SPDX-License-Identifier: Apache-2.0
// Grouped convolutions with few channels a group go the way of depthwise ones: a panel of the product kernel would be
// half empty or worse, and every group would have its own tables of pointers.
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

bool is_grouped(const Node& node) { return node.op == &ops::kConv && node.as<cpu::ConvAttributes>().groups > 1; }

/// Why the grouped convolution goes the way of dense ones; null where it does not.
const char* refusal(const Graph& graph, const Node& node) {
  const std::int64_t channels = dims_of(graph, node.inputs[0])[1];
  const ir::Value& w = graph.value(node.inputs[1]);
  if (!w.is_constant() || w.format != WeightFormat::Strided) return "its weights are not constant";
  if (channels != w.type.dims[0]) return "its groups have other numbers of channels in and out";
  const std::int64_t group = channels / node.as<cpu::ConvAttributes>().groups;
  if (group != 4 && group != 8) return "its groups have neither 4 nor 8 channels";
  return channels % 16 == 0 ? nullptr : "its channels are no multiple of 16";
}

}  // namespace

int choose_grouped(ir::Graph& graph) {
  int changed = 0;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!is_grouped(node) || refusal(graph, node) != nullptr) continue;
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

void explain_choose_grouped(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (is_grouped(node)) refusals.push_back({"choose_grouped", names_of(node), "", refusal(graph, node)});
  }
}

}  // namespace edgert::passes
