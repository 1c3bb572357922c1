// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {

int eliminate_dead(ir::Graph& graph) {
  int erased = 0;
  const std::vector<NodeId> order = graph.topological_order();
  // Readers first, so that one sweep is enough.
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    const std::vector<ValueId>& outputs = graph.node(*it).outputs;
    const bool read = std::any_of(outputs.begin(), outputs.end(), [&](ValueId output) {
      return !graph.users(output).empty() || graph.is_output(output);
    });
    if (read) continue;
    graph.erase(*it);
    ++erased;
  }
  return erased;
}

}  // namespace edgert::passes
