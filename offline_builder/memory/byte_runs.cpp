// SPDX-License-Identifier: Apache-2.0
// Windows to runs: dimensions are sorted by stride and merged where they join without a gap, so that a dense tensor in
// any order of dimensions is one run.
#include "memory/byte_runs.h"

#include <algorithm>
#include <utility>

#include "edgert/checked.h"

namespace edgert::memory {
namespace {

/// More pieces than any tensor of a sane network has: beyond, the check would take longer than the build.
constexpr std::uint64_t kMostRuns = std::uint64_t{1} << 26;

struct Dimension {
  std::uint64_t count;
  std::uint64_t stride;
};

bool is_empty(const Window& window) {
  return window.element_bytes == 0 ||
         std::any_of(window.dims.begin(), window.dims.end(), [](std::int64_t dim) { return dim == 0; });
}

/// Sorts overlapping or unordered runs and joins those that touch.
void normalise(std::vector<Run>& runs) {
  const auto before = [](const Run& a, const Run& b) { return a.begin < b.begin; };
  if (!std::is_sorted(runs.begin(), runs.end(), before)) std::sort(runs.begin(), runs.end(), before);
  std::size_t kept = 0;
  for (const Run& run : runs) {
    if (kept > 0 && run.begin <= runs[kept - 1].end) {
      runs[kept - 1].end = std::max(runs[kept - 1].end, run.end);
    } else {
      runs[kept++] = run;
    }
  }
  runs.resize(kept);
}

}  // namespace

std::string span_of(const Window& window, std::uint64_t limit, Run& span) {
  span = {0, 0};
  if (window.dims.size() != window.strides.size()) return "has " + std::to_string(window.strides.size()) +
                                                          " strides for " + std::to_string(window.dims.size()) +
                                                          " dimensions";
  const auto negative = [](std::int64_t value) { return value < 0; };
  if (std::any_of(window.dims.begin(), window.dims.end(), negative)) return "has a negative extent";
  if (std::any_of(window.strides.begin(), window.strides.end(), negative)) return "has a negative stride";
  if (is_empty(window)) return "";
  std::uint64_t end = 0;
  bool fits = checked_add(window.offset, window.element_bytes, end);
  for (std::size_t i = 0; i < window.dims.size(); ++i) {
    std::uint64_t reach = 0;
    fits = fits && checked_mul(static_cast<std::uint64_t>(window.dims[i] - 1),
                               static_cast<std::uint64_t>(window.strides[i]), reach);
    fits = fits && checked_add(end, reach, end);
  }
  if (!fits) return "reaches past 2^64";
  if (end > limit) {
    return "covers [" + std::to_string(window.offset) + ", " + std::to_string(end) + ") in an arena of " +
           std::to_string(limit) + " bytes";
  }
  span = {window.offset, end};
  return "";
}

bool runs_of(const Window& window, std::vector<Run>& runs) {
  runs.clear();
  if (is_empty(window)) return true;
  std::vector<Dimension> dimensions;
  for (std::size_t i = 0; i < window.dims.size(); ++i) {
    const Dimension dimension = {static_cast<std::uint64_t>(window.dims[i]),
                                 static_cast<std::uint64_t>(window.strides[i])};
    if (dimension.count > 1 && dimension.stride > 0) dimensions.push_back(dimension);
  }
  std::sort(dimensions.begin(), dimensions.end(),
            [](const Dimension& a, const Dimension& b) { return a.stride < b.stride; });
  // Dimensions that start inside or right after what the inner ones cover only make the run longer.
  std::uint64_t length = window.element_bytes;
  std::size_t inner = 0;
  for (; inner < dimensions.size() && dimensions[inner].stride <= length; ++inner) {
    length += (dimensions[inner].count - 1) * dimensions[inner].stride;
  }
  dimensions.erase(dimensions.begin(), dimensions.begin() + static_cast<std::ptrdiff_t>(inner));
  std::uint64_t count = 1;
  for (const Dimension& dimension : dimensions) {
    if (!checked_mul(count, dimension.count, count) || count > kMostRuns) return false;
  }
  runs.reserve(count);
  std::vector<std::uint64_t> index(dimensions.size(), 0);
  std::uint64_t begin = window.offset;
  for (std::uint64_t i = 0; i < count; ++i) {
    runs.push_back({begin, begin + length});
    for (std::size_t d = 0; d < dimensions.size(); ++d) {
      begin += dimensions[d].stride;
      if (++index[d] < dimensions[d].count) break;
      begin -= dimensions[d].count * dimensions[d].stride;
      index[d] = 0;
    }
  }
  normalise(runs);
  return true;
}

bool overlap(const std::vector<Run>& a, const std::vector<Run>& b, Run& first) {
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    first = {std::max(a[i].begin, b[j].begin), std::min(a[i].end, b[j].end)};
    if (first.begin < first.end) return true;
    if (a[i].end < b[j].end) {
      ++i;
    } else {
      ++j;
    }
  }
  return false;
}

}  // namespace edgert::memory
