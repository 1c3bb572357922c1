// SPDX-License-Identifier: Apache-2.0
// For targets that run one list of steps: If becomes both of its branches and a choice, Loop its turns.
#pragma once

#include "ir/graph.h"

namespace edgert::passes {

/// Before all other passes. Returns how many nodes had bodies. Throws BuildError for a loop that may turn too often.
int inline_bodies(ir::Graph& graph);

}  // namespace edgert::passes
