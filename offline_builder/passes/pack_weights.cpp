// SPDX-License-Identifier: Apache-2.0
// Each operator knows the form in which its kernel reads constant operands.
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {

int pack_weights(ir::Graph& graph) {
  int packed = 0;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (node.op->pack == nullptr) continue;
    const std::vector<ValueId> before = node.inputs;
    node.op->pack(graph, id);
    if (graph.node(id).inputs == before) continue;
    for (const ValueId input : before) prune(graph, input);
    ++packed;
  }
  return packed;
}

}  // namespace edgert::passes
