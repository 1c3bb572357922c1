// SPDX-License-Identifier: Apache-2.0
// What a node's kernels are given and must give when they are tuned: random operands where the node's lie in memory, and
// the CPU's results with a bound on how far each element may be from them.
//
// The bound is measured, so that it holds for whatever the node computes: the CPU computes the node again with each
// constant, each operand and each result between covered nodes changed at random by as much as storing it or adding up in
// another order may change it (Monte Carlo arithmetic: Parker, 1997). The K of a product comes in as the operand's change,
// sqrt(K) units of a float: the backward error of a sum of K terms.
#pragma once

#include <optional>
#include <vector>

#include "families/choose.h"
#include "tune/worker_process.h"

namespace edgert::plan {

struct TuningTrial {
  /// Values that own the storages that the node's launches read only, and those that they write.
  std::vector<ir::ValueId> inputs, outputs;
  /// Contents of their storages, in that order; nothing: no element of it is read.
  std::vector<std::optional<tune::Blob>> contents;
  std::vector<tune::Job::Expectation> checks;
};

/// Throws BuildError when the CPU cannot compute the node on such operands.
TuningTrial make_tuning_trial(const ir::Graph& graph, const families::Choice& choice);

/// Random contents for an input of the graph.
tune::Blob tuning_input(const ir::Graph& graph, ir::ValueId input);

}  // namespace edgert::plan
