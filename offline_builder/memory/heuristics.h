// SPDX-License-Identifier: Apache-2.0
// Fast placements that come without a proof: buffers one after the other in some order, each where it fits, and a walk
// among such orders.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/conflicts.h"
#include "memory/planner.h"

namespace edgert::memory {

/// In which order buffers are placed. Empty buffers are left out.
struct Order {
  std::string name;
  std::vector<std::uint32_t> buffers;
};

/// By size, by the pressure of the step they live at, by size times lifetime, by what they are in conflict with, and
/// as the steps run. All ties are broken by index.
std::vector<Order> orders(const Problem& problem, const BitMatrix& conflict);

/// Which of the gaps that a buffer fits is taken.
enum class Fit { Smallest, Lowest };

/// Places buffers in the given order. False, with `offsets` unspecified, when an end would reach 2^63. `bytes` is the
/// highest end.
bool place(const Problem& problem, const BitMatrix& conflict, const std::vector<std::uint32_t>& order, Fit fit,
           std::vector<std::uint64_t>& offsets, std::uint64_t& bytes);

/// Walks from `order`: moves a buffer at the top of the arena, or one that holds it up, to an earlier turn, and keeps
/// what is not worse; stops at `target` bytes. `offsets` and `bytes` hold a placement and are replaced by smaller ones
/// only. The same input takes the same walk.
void hill_climb(const Problem& problem, const BitMatrix& conflict, std::vector<std::uint32_t> order,
                std::uint64_t target, std::vector<std::uint64_t>& offsets, std::uint64_t& bytes);

}  // namespace edgert::memory
