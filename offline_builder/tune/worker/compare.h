// SPDX-License-Identifier: Apache-2.0
// Whether a buffer holds what it must after a run.
#pragma once

#include <string>
#include <vector>

#include "tune/protocol.h"

namespace edgert::tune {

/// A check whose digests have become bytes. `bound` is empty where bits must be equal.
struct CheckData {
  const Check* check;
  Span<const std::byte> expected, bound;
};

/// Why the check says nothing about a buffer of `bytes` bytes, or null: window outside, sizes that differ, unknown type.
const char* problem_of(const CheckData& data, std::uint64_t bytes);

struct Comparison {
  bool good = true;
  std::string detail;
  double worst = 0;  ///< largest |element - expected| / bound
};

/// `actual` after a run that found `initial`: elements in a window are as its check says, all others unchanged. The checks
/// have no problem. Where infinity is expected, or what the type rounds to it, infinity of that sign is right; a NaN only
/// where one is expected.
Comparison compare(Span<const std::byte> initial, Span<const std::byte> actual, const std::vector<CheckData>& checks);

}  // namespace edgert::tune
