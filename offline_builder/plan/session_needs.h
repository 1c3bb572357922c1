// SPDX-License-Identifier: Apache-2.0
// The runtime's own account of a plan, and its results.
#pragma once

#include <vector>

#include "edgert/cpu/operator.h"
#include "edgert/plan.h"
#include "edgert/session_memory.h"
#include "ir/types.h"

namespace edgert::plan {

/// Session<>::needs with all operators: every operator's check of every step (but launches), and what prepare() will take.
Result<SessionNeeds> session_needs(const PlanView& view, const LogSink& log = {});

/// Runs profile `profile` once, with no more than the given instruction set, from reset states, on `inputs` in binding order, and
/// returns the outputs as a golden vector has them: as large as their bounds, all ones outside of the actual extents.
/// Throws BuildError when an input has the wrong size or the run fails.
std::vector<ir::Bytes> record_outputs(const PlanView& view, std::uint32_t profile, const std::vector<ir::Bytes>& inputs,
                                      cpu::Isa isa = cpu::Isa::Baseline);

}  // namespace edgert::plan
