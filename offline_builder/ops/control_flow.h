// SPDX-License-Identifier: Apache-2.0
// Nodes with bodies: what the importer of control flow emits.
#pragma once

#include <vector>

#include "ops/operator.h"

namespace edgert::ops {

/// `inputs`: the condition, then what the inputs of `taken` stand for, then those of `otherwise`. Both graphs have the
/// same number of outputs, of equal types and ranks; where an output's extents differ, or a body knows them only at run
/// time, those of the result are bounded. Returns the outputs.
std::vector<ir::ValueId> add_if(OnnxNode& node, const std::vector<ir::ValueId>& inputs, ir::Graph taken,
                                ir::Graph otherwise);

struct LoopNode {
  ir::ValueId trip_count = ir::kNone;  ///< int64; kNone: no limit
  ir::ValueId condition = ir::kNone;   ///< bool; kNone: true
  std::vector<ir::ValueId> carried;    ///< initial values
  std::vector<ir::ValueId> captured;   ///< what the body's last inputs stand for
  std::int64_t most_turns = 0;         ///< more are an error of the run
  bool exact = false;                  ///< the turns are always as many
  bool tests_condition = false;        ///< the body's first output is a bool: whether there is another turn
};
/// `body`: inputs turn int64, carried values, captured ones; outputs the condition, carried values, collected ones.
/// Returns the last carried values and the collected ones, each with a leading dimension that counts the turns.
std::vector<ir::ValueId> add_loop(OnnxNode& node, const LoopNode& loop, ir::Graph body);

/// Input `i` of a node as input `input` of its body `body`, when the body reads it as it is in every turn.
struct BodyInput {
  std::size_t body;
  std::size_t input;
};
std::optional<BodyInput> captured_by(const ir::Node& node, std::size_t i);

}  // namespace edgert::ops
