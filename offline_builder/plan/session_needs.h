// SPDX-License-Identifier: Apache-2.0
// The runtime's own account of a plan, compiled once: its headers with all operators are long.
#pragma once

#include "edgert/plan.h"
#include "edgert/session_memory.h"

namespace edgert::plan {

/// Session<>::needs with all operators: every operator's check of every step, and what prepare() will take.
Result<SessionNeeds> session_needs(const PlanView& view, const LogSink& log = {});

}  // namespace edgert::plan
