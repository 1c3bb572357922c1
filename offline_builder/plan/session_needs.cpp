// SPDX-License-Identifier: Apache-2.0
#include "plan/session_needs.h"

#include "edgert/session.h"

namespace edgert::plan {

Result<SessionNeeds> session_needs(const PlanView& view, const LogSink& log) { return Session<>::needs(view, log); }

}  // namespace edgert::plan
