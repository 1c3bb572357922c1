// SPDX-License-Identifier: Apache-2.0
// Which of its candidates computes a node: the model's first that fits the registers, or what tuning found.
#pragma once

#include <vector>

#include "plan/lower_cuda.h"

namespace edgert::plan {

/// The first candidate of each choice, where it spills registers the next, while there are any. The choices must outlive
/// the result.
std::vector<Selected> model_tactics(const std::vector<families::Choice>& choices, codegen::Compiler& compiler);

/// What records say, what the worker measures where they say nothing, and the model's tactics for the rest. Equal work is
/// decided once; after each piece alone the whole network is timed with the best of each. Throws BuildError for records
/// that contradict the options, for work of which no candidate is right, and for misses where they are errors.
std::vector<Selected> choose_tactics(const ir::Graph& graph, const families::Target& target, const std::vector<families::Choice>& choices,
                                     codegen::Compiler& compiler, const TuningOptions& options, TuningReport& report);

}  // namespace edgert::plan
