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

/// Which tactics compete: a family's own; where a vendor's library has some, those alone; both, own ones first.
enum class Tactics : std::uint8_t { Native, Library, All };

/// What may compute a node beside the kernels of this project.
struct Alternatives {
  bool cpu_steps = false;  ///< the CPU, nodes without a kernel (Candidate::on_host)
  Tactics tactics = Tactics::Native;
  bool winograd = true;  ///< Winograd's algorithm, where a kernel has it
};

/// One choice a node that is computed by itself, in topological order. Throws BuildError that names every node for which there
/// is no kernel, and why, unless the CPU may run it and can: it has a kernel for it, and no body is involved.
std::vector<Choice> choose_kernels(const ir::Graph& graph, const Target& target, std::size_t limit, const Precisions* precisions = nullptr,
                                   const Alternatives& alternatives = {});

/// "Conv of first (Conv)": the operator, and the ONNX nodes that it stands for.
std::string name_of(const ir::Node& node);

}  // namespace edgert::families
