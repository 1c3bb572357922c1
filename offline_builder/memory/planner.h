// SPDX-License-Identifier: Apache-2.0
// Places buffers in one arena. Knows sizes, alignments and lifetimes; nothing of operators, graphs or plans.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace edgert::memory {

/// A buffer that must keep its bytes from step `first` to step `last`, both included.
struct Buffer {
  std::uint64_t size = 0;       ///< bytes
  std::uint64_t alignment = 1;  ///< power of two
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

/// The steps between which buffers live. In a sequential list, step i comes after all before it; otherwise only after
/// the steps that it depends on (earlier ones), directly or through others.
struct Schedule {
  std::uint32_t steps = 0;
  bool sequential = true;
  std::vector<std::vector<std::uint32_t>> depends_on;  ///< of each step; empty when sequential
};

/// A buffer's accesses for schedules that are not sequential: every step that reads or writes it; first and last count
/// as accesses too. For a sequential one they are implied by first and last.
struct Problem {
  std::vector<Buffer> buffers;
  Schedule schedule;
  std::vector<std::vector<std::uint32_t>> accesses;  ///< of each buffer; empty when the schedule is sequential
};

struct Placement {
  std::vector<std::uint64_t> offsets;  ///< of each buffer
  std::uint64_t bytes = 0;             ///< arena size
  std::uint64_t lower_bound = 0;       ///< no placement can need less: the most that must be live at once, aligned
  bool optimal = false;                ///< bytes == lower_bound, or the exact search ended
  std::string heuristic;               ///< name of what won: "greedy by size", "exact search", ...
};

struct PlannerOptions {
  /// Bound of the exact search, in search nodes: the same on every machine, so that plans don't depend on its speed.
  std::uint64_t exact_search_nodes = 200000;
};

/// Runs several heuristics and a bounded exact search and returns the smallest placement; ties go to the heuristic
/// named first. Deterministic. Throws std::overflow_error when sizes don't fit 2^63, std::invalid_argument when the
/// problem makes no sense.
Placement plan(const Problem& problem, const PlannerOptions& options = {});

/// Whether two buffers may share bytes: all accesses of one are ordered before all accesses of the other.
bool may_share(const Problem& problem, std::size_t a, std::size_t b);

}  // namespace edgert::memory
