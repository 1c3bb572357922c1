// SPDX-License-Identifier: Apache-2.0
// What the steps of a profile read and write, as the memory checker wants to hear it: bodies played out, those of loops
// twice, so that what one turn destroys for the next one is found.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/lower.h"

namespace edgert::plan {

/// A tensor that is read, and the steps (by Played::number) whose results it must still hold.
struct PlayedRead {
  std::uint32_t tensor = 0;
  std::vector<std::uint32_t> makers;
  bool until_end = false;  ///< the step may read it again after it has written some of its results
};

/// A step. Steps of a profile have different numbers, bodies included.
struct Played {
  struct Body {
    std::vector<Played> steps;
    std::vector<PlayedRead> results;  ///< what the step reads after the body has run
  };
  std::uint32_t number = 0;
  std::vector<PlayedRead> reads;
  std::vector<std::uint32_t> writes;       ///< tensors; those that a body reads are there before it runs
  bool repeats = false;                    ///< the bodies run more than once
  std::vector<Body> bodies;
};

/// Throws std::logic_error when the profile's arena is not proved right. `finally` is read after the last step.
void prove(const ProfileSpec& profile, const std::vector<Played>& steps, const std::vector<PlayedRead>& finally);

}  // namespace edgert::plan
