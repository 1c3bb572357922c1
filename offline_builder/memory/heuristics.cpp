// SPDX-License-Identifier: Apache-2.0
// Greedy placements and hill climbing over their orders.
#include "memory/heuristics.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "edgert/checked.h"

namespace edgert::memory {
namespace {

constexpr std::uint64_t kLimit = static_cast<std::uint64_t>(INT64_MAX);

/// Keys are doubles where sums could wrap: they order buffers, nothing else. All operations on them are exact or
/// rounded the same way everywhere.
std::vector<double> pressure_of_steps(const Problem& problem) {
  std::vector<double> change(problem.schedule.steps + std::size_t{1}, 0.0);
  for (const Buffer& buffer : problem.buffers) {
    change[buffer.first] += static_cast<double>(buffer.size);
    change[buffer.last + std::size_t{1}] -= static_cast<double>(buffer.size);
  }
  std::partial_sum(change.begin(), change.end(), change.begin());
  return change;
}

/// For each buffer its most crowded step.
std::vector<double> peak_pressure(const Problem& problem) {
  const std::vector<double> steps = pressure_of_steps(problem);
  std::vector<double> result;
  for (const Buffer& buffer : problem.buffers) {
    result.push_back(*std::max_element(steps.begin() + buffer.first, steps.begin() + buffer.last + 1));
  }
  return result;
}

/// For each buffer the bytes of everything that must not share with it, its own included.
std::vector<double> neighbourhood(const Problem& problem, const BitMatrix& conflict) {
  std::vector<double> result(problem.buffers.size());
  for (std::size_t a = 0; a < problem.buffers.size(); ++a) {
    result[a] = static_cast<double>(problem.buffers[a].size);
    for (std::size_t b = 0; b < problem.buffers.size(); ++b) {
      if (conflict.test(a, b)) result[a] += static_cast<double>(problem.buffers[b].size);
    }
  }
  return result;
}

/// xorshift64: a generator whose sequence is the same with every standard library.
class Random {
 public:
  std::size_t below(std::size_t bound) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<std::size_t>(state_ % bound);
  }

 private:
  std::uint64_t state_ = 0x9e3779b97f4a7c15u;
};

struct Placed {
  std::uint64_t offset;
  std::uint64_t end;
  std::uint32_t buffer;
};

/// Where `buffer` goes among `placed`, which is sorted by offset; false when nowhere below 2^63.
bool find_offset(const Buffer& buffer, const std::uint64_t* conflict, const std::vector<Placed>& placed, Fit fit,
                 std::uint64_t& offset) {
  std::uint64_t base = 0;
  std::uint64_t smallest_gap = UINT64_MAX;
  for (const Placed& other : placed) {
    if (((conflict[other.buffer / 64] >> (other.buffer % 64)) & 1) == 0) continue;
    if (other.offset > base && other.offset - base >= buffer.size && other.offset - base < smallest_gap) {
      offset = base;
      smallest_gap = other.offset - base;
      if (fit == Fit::Lowest) return true;
    }
    if (other.end > base && !checked_align(other.end, buffer.alignment, base)) base = UINT64_MAX;
  }
  if (smallest_gap != UINT64_MAX) return true;
  offset = base;
  return in_range(base, buffer.size, kLimit);
}

/// The buffer at the top of the arena, or one of those that it lies on, by chance.
std::uint32_t bottleneck(const Problem& problem, const BitMatrix& conflict, const std::vector<std::uint32_t>& order,
                         const std::vector<std::uint64_t>& offsets, Random& random) {
  std::uint32_t top = order.front();
  for (const std::uint32_t b : order) {
    if (offsets[b] + problem.buffers[b].size > offsets[top] + problem.buffers[top].size) top = b;
  }
  std::vector<std::uint32_t> stack = {top};
  std::uint32_t current = top;
  for (bool found = true; found;) {
    found = false;
    for (const std::uint32_t b : order) {
      const std::uint64_t end = offsets[b] + problem.buffers[b].size;
      if (!conflict.test(current, b) || end > offsets[current]) continue;
      if (align_up(end, problem.buffers[current].alignment) != offsets[current]) continue;
      stack.push_back(b);
      current = b;
      found = true;
      break;
    }
  }
  return stack[random.below(stack.size())];
}

}  // namespace

std::vector<Order> orders(const Problem& problem, const BitMatrix& conflict) {
  std::vector<std::uint32_t> all;
  for (std::uint32_t b = 0; b < problem.buffers.size(); ++b) {
    if (problem.buffers[b].size != 0) all.push_back(b);
  }
  const std::vector<double> peaks = peak_pressure(problem);
  const std::vector<double> neighbours = neighbourhood(problem, conflict);
  const auto by = [&](const char* name, const auto& key) {
    Order order = {name, all};
    std::sort(order.buffers.begin(), order.buffers.end(), [&](std::uint32_t a, std::uint32_t b) {
      return std::make_tuple(key(a), a) < std::make_tuple(key(b), b);
    });
    return order;
  };
  const auto& buffers = problem.buffers;
  const auto size = [&](std::uint32_t b) { return static_cast<double>(buffers[b].size); };
  const auto lifetime = [&](std::uint32_t b) { return static_cast<double>(buffers[b].last - buffers[b].first) + 1.0; };
  return {
      by("greedy by size", [&](std::uint32_t b) { return std::make_tuple(-size(b), -lifetime(b)); }),
      by("greedy by breadth", [&](std::uint32_t b) { return std::make_tuple(-peaks[b], -size(b)); }),
      by("greedy by area", [&](std::uint32_t b) { return std::make_tuple(-size(b) * lifetime(b), -size(b)); }),
      by("greedy by conflicts", [&](std::uint32_t b) { return std::make_tuple(-neighbours[b], -size(b)); }),
      by("greedy by lifetime", [&](std::uint32_t b) { return std::make_tuple(-lifetime(b), -size(b)); }),
      by("execution order", [&](std::uint32_t b) { return std::make_tuple(buffers[b].first, -size(b)); }),
  };
}

bool place(const Problem& problem, const BitMatrix& conflict, const std::vector<std::uint32_t>& order, Fit fit,
           std::vector<std::uint64_t>& offsets, std::uint64_t& bytes) {
  offsets.assign(problem.buffers.size(), 0);
  bytes = 0;
  std::vector<Placed> placed;
  placed.reserve(order.size());
  for (const std::uint32_t b : order) {
    const Buffer& buffer = problem.buffers[b];
    std::uint64_t& offset = offsets[b];
    if (!find_offset(buffer, conflict.row(b), placed, fit, offset)) return false;
    const Placed self = {offset, offset + buffer.size, b};
    const auto after = std::upper_bound(placed.begin(), placed.end(), offset,
                                        [](std::uint64_t value, const Placed& other) { return value < other.offset; });
    placed.insert(after, self);
    bytes = std::max(bytes, self.end);
  }
  return true;
}

void hill_climb(const Problem& problem, const BitMatrix& conflict, std::vector<std::uint32_t> order,
                std::uint64_t target, std::vector<std::uint64_t>& offsets, std::uint64_t& bytes) {
  if (order.size() < 3) return;
  // One pass compares every buffer with every other: big problems get fewer passes, so that time stays bounded.
  constexpr std::uint64_t kComparisons = 50'000'000;
  const std::uint64_t passes = std::min<std::uint64_t>(1000, kComparisons / (order.size() * order.size()));
  std::vector<std::uint64_t> current = offsets;
  std::vector<std::uint64_t> candidate;
  std::uint64_t current_bytes = 0;
  if (!place(problem, conflict, order, Fit::Lowest, current, current_bytes)) return;
  Random random;
  for (std::uint64_t pass = 0; pass < passes && bytes > target; ++pass) {
    std::vector<std::uint32_t> next = order;
    const auto moved = std::find(next.begin(), next.end(), bottleneck(problem, conflict, order, current, random));
    const std::size_t position = static_cast<std::size_t>(moved - next.begin());
    const std::size_t turn = position == 0 ? random.below(next.size()) : random.below(position);
    if (turn < position) {
      std::rotate(next.begin() + static_cast<std::ptrdiff_t>(turn), moved, moved + 1);
    } else {
      std::rotate(moved, moved + 1, next.begin() + static_cast<std::ptrdiff_t>(turn) + 1);
    }
    std::uint64_t candidate_bytes = 0;
    if (!place(problem, conflict, next, Fit::Lowest, candidate, candidate_bytes)) continue;
    if (candidate_bytes > current_bytes) continue;
    order = std::move(next);
    current.swap(candidate);
    current_bytes = candidate_bytes;
    if (current_bytes < bytes) {
      bytes = current_bytes;
      offsets = current;
    }
  }
}

}  // namespace edgert::memory
