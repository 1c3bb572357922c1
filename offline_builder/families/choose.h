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
  /// Families that found this node and its neighbours and do not compute them together, and why.
  struct Refused {
    const char* family;
    std::string reason;
  };
  std::vector<Refused> refused;
};

/// Where an input or output of the graph keeps a fast kernel from a node only by its type, a Copy converts it. Returns how
/// many were inserted.
int insert_conversions(ir::Graph& graph, const Target& target, const Precisions& precisions);

/// One choice a node that is computed by itself, in topological order. A node without a kernel is left to the CPU
/// (Candidate::on_host) if `allow_host` says so, the CPU has a kernel and no body is involved. Throws BuildError that names
/// every other node for which there is no kernel, and why.
std::vector<Choice> choose_kernels(const ir::Graph& graph, const Target& target, std::size_t limit, const Precisions* precisions = nullptr,
                                   bool allow_host = false);

/// "Conv of first (Conv)": the operator, and the ONNX nodes that it stands for.
std::string name_of(const ir::Node& node);

}  // namespace edgert::families
