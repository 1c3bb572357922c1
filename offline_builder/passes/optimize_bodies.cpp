// SPDX-License-Identifier: Apache-2.0
// The bodies of If and Loop are graphs of their own: what is constant outside becomes constant inside, so that it can be
// folded and packed there, and then the pipeline runs on them.
#include <algorithm>

#include "ops/control_flow.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

int take_in_constants(Graph& graph, NodeId id) {
  int taken = 0;
  const std::vector<ValueId> inputs = graph.node(id).inputs;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == kNone || !graph.value(inputs[i]).is_constant()) continue;
    const std::optional<ops::BodyInput> inside = ops::captured_by(graph.node(id), i);
    if (!inside) continue;
    ir::Graph& body = graph.bodies(id)[inside->body];
    const ValueId input = body.inputs().at(inside->input);
    if (body.users(input).empty() && !body.is_output(input)) continue;
    const ir::Value& value = graph.value(inputs[i]);
    body.replace_uses(input, body.add_constant(value.name, value.type, value.constant, value.format));
    ++taken;
  }
  return taken;
}

}  // namespace

int optimize_bodies(ir::Graph& graph) {
  int changes = 0;
  for (const NodeId id : graph.topological_order()) {
    if (graph.node(id).bodies.empty()) continue;
    changes += take_in_constants(graph, id);
    for (ir::Graph& body : graph.bodies(id)) {
      for (const PassReport& report : run_pipeline(body)) changes += report.rewrites;
    }
  }
  return changes;
}

}  // namespace edgert::passes
