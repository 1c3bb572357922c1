// SPDX-License-Identifier: Apache-2.0
// What the attributes of a launch in a plan are: nothing that the runtime needs, but the least that the launch has to do,
// for people who compare measured times with it.
#pragma once

#include <cstdint>
#include <cstring>

#include "edgert/plan.h"

namespace edgert::plan {

struct LaunchWork {
  std::uint64_t bytes = 0;          ///< operands read and written, each once, weights included
  std::uint64_t multiply_adds = 0;  ///< as the operators that it computes define them; 0 for those without products
};

/// Zeros for a step that does not say.
inline LaunchWork work_of(const schema::Step& step) {
  LaunchWork work;
  if (step.launch() != nullptr && rules::count(step.attributes()) == sizeof(work)) std::memcpy(&work, step.attributes()->Data(), sizeof(work));
  return work;
}

}  // namespace edgert::plan
