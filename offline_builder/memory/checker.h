// SPDX-License-Identifier: Apache-2.0
// Proves that a finished step list never reads bytes that somebody else has overwritten. Written without the planner's
// code and run on every plan before it is written to disk.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/planner.h"

namespace edgert::memory {

/// A strided window of arena bytes: element (i0, i1, ...) starts at offset + sum(i * stride), all in bytes.
struct Window {
  std::uint64_t offset = 0;
  std::uint64_t element_bytes = 1;
  std::vector<std::int64_t> dims;
  std::vector<std::int64_t> strides;
};

/// What one step does to the arena. `producers` are the steps whose results `window` must still hold when this step
/// reads it, from the graph, not from the placement.
struct Read {
  Window window;
  std::vector<std::uint32_t> producers;
  bool until_end = false;  ///< the step may read it again after it has written some of its results
};
struct StepAccess {
  std::vector<Read> reads;
  std::vector<Window> writes;
};

/// One piece of the arena with the steps that touch it, for the pairwise proof.
struct StorageUse {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::vector<std::uint32_t> accesses;
};

/// Returns what is wrong, one line a violation (at most 16), or nothing when the list is proved:
///  - every window lies inside the arena;
///  - producers come before their readers in the schedule, not only by list position;
///  - replaying the steps byte by byte, each read finds exactly its producers' bytes;
///  - no step writes a byte through two windows, or one that it reads until its end;
///  - steps that the schedule does not order don't write what the other one touches;
///  - storages that share bytes are ordered by the schedule, not only by list position.
/// Bytes that a graph input fills before the first step have producer kArenaInput.
inline constexpr std::uint32_t kArenaInput = 0xffffffffu;
std::vector<std::string> check(std::uint64_t arena_bytes, const Schedule& schedule,
                               const std::vector<StepAccess>& steps, const std::vector<StorageUse>& storages);

}  // namespace edgert::memory
