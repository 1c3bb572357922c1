// SPDX-License-Identifier: Apache-2.0
// A depthwise convolution together with the pointwise one before it and the one behind it, where the image between them
// is too large for the caches: the fused kernel keeps a few rows of it instead.
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/inverted_residual.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

using In = cpu::InvertedResidualInput;

/// The image that is no longer written: smaller ones stay in a second-level cache anyway.
constexpr std::int64_t kFewestHiddenBytes = 384 * 1024;
/// Pointwise weights, which are read once for every row instead of once for some ninety pixels.
constexpr std::int64_t kMostWeightBytes = 64 * 1024;

std::int64_t bytes_of(const Graph& graph, ValueId id) {
  return ir::element_count(dims_of(graph, id)) * static_cast<std::int64_t>(sizeof(float));
}

bool is_unit(const std::int32_t (&pair)[2], std::int32_t value) { return pair[0] == value && pair[1] == value; }

/// The node when it is a pointwise convolution that a block can take over.
const Node* pointwise(const Graph& graph, const Node* node) {
  if (!is(node, ops::kConv)) return nullptr;
  const auto& a = node->as<cpu::ConvAttributes>();
  if (!is_unit(a.kernel, 1) || !is_unit(a.stride, 1) || !is_unit(a.pad_begin, 0) || !is_unit(a.pad_end, 0)) return nullptr;
  const ir::Value& w = graph.value(node->inputs[1]);
  const bool taken = a.groups == 1 && a.planar == 0 && w.is_constant() && w.format == WeightFormat::Strided &&
                     bytes_of(graph, node->inputs[1]) <= kMostWeightBytes;
  return taken ? node : nullptr;
}

ValueId input_or_none(const Node& node, std::size_t i) { return i < node.inputs.size() ? node.inputs[i] : kNone; }

/// A depthwise convolution and its neighbours, those that can be fused.
struct Block {
  NodeId depthwise = kNone;
  NodeId expand = kNone;
  NodeId project = kNone;
};

Block block_around(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const auto& a = node.as<cpu::DepthwiseConvAttributes>();
  Block block;
  const ir::Value& w = graph.value(node.inputs[1]);
  if (!is_unit(a.dilation, 1) || a.epilogue.residual != scalar::ResidualMode::None || !w.is_constant() ||
      w.type.dims.size() != 4 || w.type.dims[1] != 1) {
    return block;
  }
  const ValueId x = node.inputs[0];
  const ValueId y = node.outputs[0];
  const Node* expand = pointwise(graph, graph.producer(x));
  if (expand != nullptr && graph.has_single_use(x) && bytes_of(graph, x) >= kFewestHiddenBytes &&
      expand->as<cpu::ConvAttributes>().epilogue.residual == scalar::ResidualMode::None) {
    block.expand = graph.value(x).producer;
  }
  if (graph.has_single_use(y) && bytes_of(graph, y) >= kFewestHiddenBytes) {
    const NodeId reader = graph.users(y)[0];
    const Node* project = pointwise(graph, &graph.node(reader));
    if (project != nullptr && project->inputs[0] == y && input_or_none(*project, 3) != y) block.project = reader;
  }
  if (block.expand != kNone || block.project != kNone) block.depthwise = id;
  return block;
}

void fuse(Graph& graph, const Block& block) {
  const Node& depthwise = graph.node(block.depthwise);
  const auto& a = depthwise.as<cpu::DepthwiseConvAttributes>();
  cpu::InvertedResidualAttributes attributes{};
  for (int i = 0; i < 2; ++i) {
    attributes.kernel[i] = a.kernel[i];
    attributes.stride[i] = a.stride[i];
    attributes.pad_begin[i] = a.pad_begin[i];
    attributes.pad_end[i] = a.pad_end[i];
  }
  attributes.depthwise = a.epilogue;
  std::vector<ValueId> inputs(In::kCount, kNone);
  std::vector<NodeId> nodes;
  inputs[In::kX] = depthwise.inputs[0];
  inputs[In::kDepthwise] = depthwise.inputs[1];
  inputs[In::kDepthwiseBias] = input_or_none(depthwise, 2);
  if (block.expand != kNone) {
    const Node& expand = graph.node(block.expand);
    attributes.expand = expand.as<cpu::ConvAttributes>().epilogue;
    inputs[In::kX] = expand.inputs[0];
    inputs[In::kExpand] = expand.inputs[1];
    inputs[In::kExpandBias] = input_or_none(expand, 2);
    nodes.push_back(block.expand);
  }
  nodes.push_back(block.depthwise);
  if (block.project != kNone) {
    const Node& project = graph.node(block.project);
    attributes.project = project.as<cpu::ConvAttributes>().epilogue;
    inputs[In::kProject] = project.inputs[1];
    inputs[In::kProjectBias] = input_or_none(project, 2);
    inputs[In::kResidual] = input_or_none(project, 3);
    nodes.push_back(block.project);
  }
  const ValueId y = graph.node(nodes.back()).outputs[0];
  const NodeId fresh =
      graph.add_node(ops::kInvertedResidual, inputs, ir::AttributeBlob::of(attributes), joined_provenance(graph, nodes));
  take_place(graph, y, graph.node(fresh).outputs[0]);
}

}  // namespace

int fuse_inverted_residual(ir::Graph& graph) {
  int fused = 0;
  for (const NodeId id : graph.topological_order()) {
    if (!graph.node(id).alive || graph.node(id).op != &ops::kDepthwiseConv) continue;
    const Block block = block_around(graph, id);
    if (block.depthwise == kNone) continue;
    fuse(graph, block);
    ++fused;
  }
  return fused;
}

}  // namespace edgert::passes
