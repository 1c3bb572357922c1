// SPDX-License-Identifier: Apache-2.0
// A strided window as the contiguous runs of bytes that it covers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/checker.h"

namespace edgert::memory {

/// Bytes [begin, end).
struct Run {
  std::uint64_t begin;
  std::uint64_t end;
};

/// The bytes between a window's first and last one, both included in [begin, end); {0, 0} for an empty window. Returns
/// what is wrong with a window that is malformed or does not lie in [0, limit), else an empty text.
std::string span_of(const Window& window, std::uint64_t limit, Run& span);

/// The bytes that a window covers: ascending runs that neither touch nor overlap. The window has passed span_of. False
/// when the window falls into too many pieces to be looked at.
bool runs_of(const Window& window, std::vector<Run>& runs);

/// Whether a byte is in both lists, each as runs_of makes it; then `first` is the first such run.
bool overlap(const std::vector<Run>& a, const std::vector<Run>& b, Run& first);

}  // namespace edgert::memory
