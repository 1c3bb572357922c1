// SPDX-License-Identifier: Apache-2.0
// What floats are stored as and multiplied in, as the user asks for it: for the whole network, and layer by layer.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ir/graph.h"

namespace edgert::families {

/// TF32: stored as f32; what a product reads is rounded to 11 bits before it is multiplied. Sums are f32 in all of them.
enum class Precision : std::uint8_t { Fp32, Tf32, Fp16, Bf16 };

const char* name_of(Precision precision);  ///< "fp32"
std::optional<Precision> precision_named(const std::string& name);
DType stored_as(Precision precision);

struct PrecisionRequest {
  PrecisionRequest() = default;
  /// Everything in one type, exactly: F32, F16 or BF16.
  PrecisionRequest(DType stored);  // NOLINT(google-explicit-constructor): a type is a request
  /// The first is what nodes compute in; the others may stand in for it where it cannot be: for weights beyond the range of
  /// f16. Not empty.
  std::vector<Precision> allowed{Precision::Fp16};
  /// Patterns of ONNX node names, with * for any characters, and what those nodes compute in whatever `allowed` says; of
  /// several that match the last holds.
  std::vector<std::pair<std::string, Precision>> layers;
};

/// What each node computes in.
class Precisions {
 public:
  /// Decides for a graph on which the passes have run. Throws BuildError for a pattern that matches no node, for one node
  /// that stands for several with different pins, and for constants that no allowed precision can hold.
  Precisions(const ir::Graph& graph, const PrecisionRequest& request);

  /// The node, which the CPU runs, computes in f32 whatever was asked for, and what it reads and writes is not narrowed.
  /// Before apply().
  void keep_wide(ir::Graph& graph, ir::NodeId node);

  /// Stores values as their nodes want them: narrow_floats() for the default, and copies around nodes that differ from it.
  void apply(ir::Graph& graph) const;
  /// Whether the node may round what it multiplies to TF32. Nodes that were added later may as the default says.
  bool rounds(ir::NodeId node) const { return of(node) == Precision::Tf32; }
  Precision of(ir::NodeId node) const { return node < nodes_.size() ? nodes_[node] : default_; }
  Precision of_all() const { return default_; }

 private:
  Precision default_;
  std::vector<Precision> nodes_;
  std::vector<bool> pinned_;  ///< by the user
};

}  // namespace edgert::families
