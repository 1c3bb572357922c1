// SPDX-License-Identifier: Apache-2.0
// Floats between the steps are stored in the type that the target computes in; inputs and outputs of the graph stay as
// the model declares them, constants as they are, and so does what a bit cast reads or makes, and what decides which boxes
// are kept. A storage has one type, so views and Concat follow their root.
#include <vector>

#include "ir/windows.h"
#include "ops/definitions.h"
#include "passes/pipeline.h"

namespace edgert::passes {

int narrow_floats(ir::Graph& graph, DType narrow) {
  ir::Windows windows(graph);
  std::vector<bool> bound(graph.value_count(), false);
  for (const ir::ValueId input : graph.inputs()) bound[input] = true;
  for (const ir::Graph::Output& output : graph.outputs()) bound[windows.find(output.value).value().root] = true;
  for (const ir::NodeId id : graph.topological_order()) {
    const ir::Node& node = graph.node(id);
    if (node.op == &ops::kNonMaxSuppression) {
      for (const ir::ValueId input : {node.inputs[0], node.inputs[1]}) bound[windows.find(input).value().root] = true;
    }
    if (!ir::is_bit_cast(graph, node)) continue;
    bound[windows.find(node.inputs[0]).value().root] = true;
    bound[windows.find(node.outputs[0]).value().root] = true;
  }
  int changes = 0;
  for (ir::ValueId id = 0; id < graph.value_count(); ++id) {
    ir::Value& value = graph.value(id);
    if (value.type.dtype != DType::F32 || value.is_constant() || value.producer == ir::kNone || !graph.node(value.producer).alive) continue;
    const ir::ValueId root = windows.find(id).value().root;
    // A root that says f32 has been told to stay so.
    if (bound[root] || graph.value(root).is_constant() || value.stored == narrow || graph.value(root).stored == DType::F32) continue;
    value.stored = narrow;
    ++changes;
  }
  return changes;
}

}  // namespace edgert::passes
