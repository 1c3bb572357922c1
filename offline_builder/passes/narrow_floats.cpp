// SPDX-License-Identifier: Apache-2.0
// Floats between the steps are stored in the type that the target computes in; inputs and outputs of the graph stay as
// the model declares them, constants as they are, and so does what a bit cast reads or makes, and what decides which boxes
// are kept. What follows a network's last products, the decoding of boxes, exponentials, scores, stays wide as well: a
// coordinate of 640 pixels has steps of half a pixel in f16. A storage has one type, so views and Concat follow their root.
#include <algorithm>
#include <vector>

#include "ir/windows.h"
#include "ops/definitions.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

using ir::kNone;
using ir::NodeId;
using ir::ValueId;

bool is_computed(const ir::Node& node) { return node.op->view == nullptr && !ir::is_concat(*node.op); }

/// What works on the results of products and makes no sums of many of them.
bool is_light(const ir::Node& node) {
  static const ir::OperatorDef* const kLight[] = {&ops::kPointwise, &ops::kCopy, &ops::kCast, &ops::kSoftmax, &ops::kReduce, &ops::kArgReduce, &ops::kGather, &ops::kTopK};
  return std::find(std::begin(kLight), std::end(kLight), node.op) != std::end(kLight);
}

/// Which storages stay wide, by their root.
class Wide {
 public:
  Wide(const ir::Graph& graph, const std::vector<bool>& pinned)
      : graph_(graph), pinned_(pinned), windows_(graph), bound_(graph.value_count(), false), writers_(graph.value_count()), readers_(graph.value_count()) {
    bind_fixed();
    find_users();
    bind_tail();
  }

  ValueId root(ValueId value) { return windows_.find(value).value().root; }
  bool holds(ValueId root) const { return bound_[root]; }

 private:
  void bind_fixed() {
    // A root that says f32 has been told to stay so.
    for (ValueId id = 0; id < graph_.value_count(); ++id) bound_[id] = graph_.value(id).stored == DType::F32;
    for (const ValueId input : graph_.inputs()) bound_[input] = true;
    for (const ir::Graph::Output& output : graph_.outputs()) bound_[root(output.value)] = true;
    for (const NodeId id : graph_.topological_order()) {
      const ir::Node& node = graph_.node(id);
      if (node.op == &ops::kNonMaxSuppression) {
        for (const ValueId input : {node.inputs[0], node.inputs[1]}) bound_[root(input)] = true;
      }
      if (!ir::is_bit_cast(graph_, node)) continue;
      bound_[root(node.inputs[0])] = true;
      bound_[root(node.outputs[0])] = true;
    }
  }

  void find_users() {
    for (const NodeId id : graph_.topological_order()) {
      const ir::Node& node = graph_.node(id);
      if (!is_computed(node)) continue;
      for (const ValueId input : node.inputs) {
        if (input == kNone) continue;
        // Packed constants have no window.
        if (const auto window = windows_.find(input)) readers_[window->root].push_back(id);
      }
      for (const ValueId output : node.outputs) writers_[root(output)].push_back(id);
    }
  }

  /// From the last node to the first: a node of the tail makes nothing that stays narrow, and what only such nodes make and
  /// read stays wide. A node that the user pinned computes and stores as he says.
  void bind_tail() {
    const auto eligible = [&](NodeId id) { return is_light(graph_.node(id)) && (id >= pinned_.size() || !pinned_[id]); };
    std::vector<bool> tail(graph_.node_count(), false);
    const std::vector<NodeId> order = graph_.topological_order();
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
      const ir::Node& node = graph_.node(*it);
      if (!is_computed(node) || !eligible(*it)) continue;
      tail[*it] = std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId output) {
        const ValueId storage = root(output);
        if (bound_[storage] || graph_.value(output).type.dtype != DType::F32) return true;
        const std::vector<NodeId>& readers = readers_[storage];
        const std::vector<NodeId>& writers = writers_[storage];
        const bool ends = !readers.empty() && std::all_of(readers.begin(), readers.end(), [&](NodeId reader) { return tail[reader]; });
        bound_[storage] = ends && std::all_of(writers.begin(), writers.end(), eligible);
        return bool{bound_[storage]};
      });
    }
  }

  const ir::Graph& graph_;
  const std::vector<bool>& pinned_;
  ir::Windows windows_;
  std::vector<bool> bound_;
  std::vector<std::vector<NodeId>> writers_, readers_;  ///< nodes by the root of what they write and read
};

}  // namespace

int narrow_floats(ir::Graph& graph, DType narrow, const std::vector<bool>& pinned) {
  Wide wide(graph, pinned);
  int changes = 0;
  for (ValueId id = 0; id < graph.value_count(); ++id) {
    ir::Value& value = graph.value(id);
    if (value.type.dtype != DType::F32 || value.is_constant() || value.producer == kNone || !graph.node(value.producer).alive) continue;
    const ValueId root = wide.root(id);
    if (wide.holds(root) || graph.value(root).is_constant() || value.stored == narrow) continue;
    value.stored = narrow;
    ++changes;
  }
  return changes;
}

}  // namespace edgert::passes
