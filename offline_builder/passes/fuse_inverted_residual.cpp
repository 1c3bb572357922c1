// SPDX-License-Identifier: Apache-2.0
// A depthwise convolution together with the pointwise one before it, or a network's first convolution, and the pointwise one
// behind it, where the image between them is too large for the caches: the fused kernel keeps a few rows of it instead.
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/inverted_residual.h"
#include "edgert/cpu/ops/stem_block.h"
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

bool is_pointwise(const Node* node) {
  if (!is(node, ops::kConv)) return false;
  const auto& a = node->as<cpu::ConvAttributes>();
  return is_unit(a.kernel, 1) && is_unit(a.stride, 1) && is_unit(a.pad_begin, 0) && is_unit(a.pad_end, 0) && a.groups == 1 &&
         a.planar == 0;
}

/// A first convolution as StemBlock computes it; choose_planar has looked at groups and columns.
bool is_first(const Node* node) {
  if (!is(node, ops::kConv)) return false;
  const auto& a = node->as<cpu::ConvAttributes>();
  return a.planar != 0 && a.dilation[0] == 1;
}

ValueId input_or_none(const Node& node, std::size_t i) { return i < node.inputs.size() ? node.inputs[i] : kNone; }

/// Why no block is made around the depthwise convolution; null where one can be.
const char* depthwise_refusal(const Graph& graph, const Node& node) {
  const auto& a = node.as<cpu::DepthwiseConvAttributes>();
  const ir::Value& w = graph.value(node.inputs[1]);
  if (!is_unit(a.dilation, 1)) return "the depthwise convolution is dilated";
  if (a.epilogue.residual != scalar::ResidualMode::None) return "the depthwise convolution adds a residual";
  if (!w.is_constant() || w.type.dims.size() != 4) return "the depthwise weights are not constant";
  return w.type.dims[1] == 1 ? nullptr : "the groups have more than one channel";
}

/// Why a block does not take over the convolution between which and the depthwise one `hidden` lies; null when it does.
const char* neighbour_refusal(const Graph& graph, const Node& node, ValueId hidden) {
  const ir::Value& w = graph.value(node.inputs[1]);
  if (!graph.has_single_use(hidden)) return "the image between them is read elsewhere too";
  if (bytes_of(graph, hidden) < kFewestHiddenBytes) return "the image between them is small enough for the caches";
  if (!w.is_constant() || w.format != WeightFormat::Strided) return "its weights are not constant";
  if (bytes_of(graph, node.inputs[1]) > kMostWeightBytes) return "its weights are too large to be read once a row";
  const bool expands = node.outputs[0] == hidden;
  if (expands && node.as<cpu::ConvAttributes>().epilogue.residual != scalar::ResidualMode::None) return "it adds a residual";
  return !expands && input_or_none(node, 3) == hidden ? "it adds what it reads" : nullptr;
}

/// The convolutions that make the input and read the result of something.
const Node* neighbour_before(const Graph& graph, ValueId x) {
  const Node* node = graph.producer(x);
  return is_pointwise(node) || is_first(node) ? node : nullptr;
}
std::vector<NodeId> pointwise_behind(const Graph& graph, ValueId y) {
  std::vector<NodeId> found;
  for (const NodeId user : graph.users(y)) {
    const Node& node = graph.node(user);
    if (is_pointwise(&node) && node.inputs[0] == y) found.push_back(user);
  }
  return found;
}

/// A depthwise convolution and its neighbours, those that can be fused.
struct Block {
  NodeId depthwise = kNone;
  NodeId expand = kNone;
  NodeId project = kNone;
};

Block block_around(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  Block block;
  if (depthwise_refusal(graph, node) != nullptr) return block;
  const ValueId x = node.inputs[0];
  const Node* expand = neighbour_before(graph, x);
  if (expand != nullptr && neighbour_refusal(graph, *expand, x) == nullptr) block.expand = graph.value(x).producer;
  for (const NodeId project : pointwise_behind(graph, node.outputs[0])) {
    if (neighbour_refusal(graph, graph.node(project), node.outputs[0]) == nullptr) block.project = project;
  }
  if (block.expand != kNone || block.project != kNone) block.depthwise = id;
  return block;
}

cpu::StemBlockAttributes stem_attributes(const cpu::ConvAttributes& first, const cpu::InvertedResidualAttributes& block) {
  cpu::StemBlockAttributes attributes{};
  for (int i = 0; i < 2; ++i) {
    attributes.kernel[i] = first.kernel[i];
    attributes.stride[i] = first.stride[i];
    attributes.pad_begin[i] = first.pad_begin[i];
    attributes.pad_end[i] = first.pad_end[i];
  }
  attributes.block = block;
  return attributes;
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
  const bool first = block.expand != kNone && is_first(&graph.node(block.expand));
  const ir::AttributeBlob blob =
      first ? ir::AttributeBlob::of(stem_attributes(graph.node(block.expand).as<cpu::ConvAttributes>(), attributes))
            : ir::AttributeBlob::of(attributes);
  const NodeId fresh = graph.add_node(first ? ops::kStemBlock : ops::kInvertedResidual, inputs, blob, joined_provenance(graph, nodes));
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

void explain_fuse_inverted_residual(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const bool block = node.op == &ops::kInvertedResidual || node.op == &ops::kStemBlock;
    if (!block && node.op != &ops::kDepthwiseConv) continue;
    const char* all = block ? nullptr : depthwise_refusal(graph, node);
    const auto add = [&](const Node& pointwise, ValueId hidden) {
      const char* reason = all != nullptr ? all : neighbour_refusal(graph, pointwise, hidden);
      if (reason != nullptr) refusals.push_back({"fuse_inverted_residual", names_of(pointwise), names_of(node), reason});
    };
    const Node* expand = neighbour_before(graph, node.inputs[0]);
    if (expand != nullptr && (!block || node.inputs[In::kExpand] == kNone)) add(*expand, node.inputs[0]);
    if (block && node.inputs[In::kProject] != kNone) continue;
    for (const NodeId project : pointwise_behind(graph, node.outputs[0])) add(graph.node(project), node.outputs[0]);
  }
}

}  // namespace edgert::passes
