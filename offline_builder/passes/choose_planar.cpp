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

bool gains(const Graph& graph, const Node& node) {
  const auto& a = node.as<cpu::ConvAttributes>();
  const std::int64_t channels = dims_of(graph, node.inputs[0])[1];
  return a.planar == 0 && a.groups == 1 && a.dilation[1] == 1 && a.kernel[1] >= kNarrowestKernel && channels > 1 &&
         channels <= kMostPlanes && graph.value(node.inputs[1]).format == WeightFormat::Strided &&
         is_like_input(graph, node.inputs[0]);
}

}  // namespace

int choose_planar(ir::Graph& graph) {
  int changed = 0;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (node.op != &ops::kConv || !gains(graph, node)) continue;
    auto attributes = node.as<cpu::ConvAttributes>();
    attributes.planar = 1;
    graph.set_attributes(id, ir::AttributeBlob::of(attributes));
    ++changed;
  }
  return changed;
}

}  // namespace edgert::passes
