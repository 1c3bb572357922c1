// SPDX-License-Identifier: Apache-2.0
// The first convolution reads the image as it comes, one plane a channel, which saves a copy of it: with few channels
// the elements under a row of the kernel are as good an operand as the channels of a pixel.
#include <algorithm>

#include "edgert/cpu/ops/conv.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

/// Each plane adds a tap for each kernel row; from here on the copy is cheaper.
constexpr std::int64_t kMostPlanes = 4;
/// Elements of a tap; with fewer the fixed cost of taps outweighs the copy.
constexpr std::int32_t kNarrowestKernel = 3;
/// Pointwise nodes that may lie between the graph's input and the convolution: they scale and shift pixels.
constexpr int kMostSteps = 4;

/// Whether the value is a graph input, or computed of one element by element in at most `steps` nodes: then it lies in
/// memory like the input.
bool is_like_input(const Graph& graph, ValueId id, int steps = kMostSteps) {
  const Node* producer = graph.producer(id);
  if (producer == nullptr) return !graph.value(id).is_constant();
  if (producer->op != &ops::kPointwise || steps == 0) return false;
  return std::any_of(producer->inputs.begin(), producer->inputs.end(), [&](ValueId input) {
    return input != kNone && dims_of(graph, input) == dims_of(graph, id) && is_like_input(graph, input, steps - 1);
  });
}

/// Whether the node is a convolution of an image as the caller gives it, in several planes.
bool reads_planes(const Graph& graph, const Node& node) {
  return node.op == &ops::kConv && node.as<cpu::ConvAttributes>().planar == 0 && dims_of(graph, node.inputs[0])[1] > 1 &&
         is_like_input(graph, node.inputs[0]);
}

/// Why a copy to channels last is the better way; null where it is not.
const char* refusal(const Graph& graph, const Node& node) {
  const auto& a = node.as<cpu::ConvAttributes>();
  if (a.groups != 1) return "it has groups";
  if (a.dilation[1] != 1) return "it is dilated along rows";
  if (a.kernel[1] < kNarrowestKernel) return "its kernel is so narrow that a copy of the image is cheaper";
  if (dims_of(graph, node.inputs[0])[1] > kMostPlanes) return "its image has so many channels that a copy of it is cheaper";
  return graph.value(node.inputs[1]).format == WeightFormat::Strided ? nullptr : "its weights are packed for channels last";
}

}  // namespace

int choose_planar(ir::Graph& graph) {
  int changed = 0;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!reads_planes(graph, node) || refusal(graph, node) != nullptr) continue;
    auto attributes = node.as<cpu::ConvAttributes>();
    attributes.planar = 1;
    graph.set_attributes(id, ir::AttributeBlob::of(attributes));
    ++changed;
  }
  return changed;
}

void explain_choose_planar(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (reads_planes(graph, node)) refusals.push_back({"choose_planar", names_of(node), "", refusal(graph, node)});
  }
}

}  // namespace edgert::passes
