// SPDX-License-Identifier: Apache-2.0
// Which family computes which node of a graph.
#pragma once

#include <vector>

#include "families/family.h"

namespace edgert::families {

/// A node's kernels. Views, Concat and nodes that another one covers have none.
struct Choice {
  ir::NodeId node = ir::kNone;
  const Family* family = nullptr;
  std::vector<Candidate> candidates;  ///< the most promising first; never empty
};

/// Where an input or output of the graph keeps a fast kernel from a node only by its type, a Copy converts it. Returns how
/// many were inserted.
int insert_conversions(ir::Graph& graph, const Target& target, const Precisions& precisions);

/// One choice a node that is computed by itself, in topological order. Throws BuildError that names every node for which
/// there is no kernel, and why.
std::vector<Choice> choose_kernels(const ir::Graph& graph, const Target& target, std::size_t limit, const Precisions* precisions = nullptr);

}  // namespace edgert::families
