// SPDX-License-Identifier: Apache-2.0
// The conflict relation of a placement problem: from intervals for sequential schedules, from reachability otherwise.
#include "memory/conflicts.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>

#include "edgert/checked.h"

namespace edgert::memory {
namespace {

/// Row s: the steps that come before step s in every execution. Steps depend on earlier ones only: one pass will do.
BitMatrix ancestors(const Schedule& schedule) {
  BitMatrix result(schedule.steps, schedule.steps);
  for (std::uint32_t step = 0; step < schedule.steps; ++step) {
    std::uint64_t* row = result.row(step);
    for (const std::uint32_t before : schedule.depends_on[step]) {
      const std::uint64_t* inherited = result.row(before);
      for (std::size_t w = 0; w < result.words(); ++w) row[w] |= inherited[w];
      result.set(step, before);
    }
  }
  return result;
}

/// The steps between which a buffer's bytes matter. The ends of its lifetime count as accesses, since a graph output
/// must outlive the last step that touches it.
std::vector<std::uint32_t> touching_steps(const Problem& problem, std::size_t buffer) {
  std::vector<std::uint32_t> steps = problem.accesses[buffer];
  steps.push_back(problem.buffers[buffer].first);
  steps.push_back(problem.buffers[buffer].last);
  std::sort(steps.begin(), steps.end());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  return steps;
}

bool lifetimes_overlap(const Buffer& a, const Buffer& b) { return a.first <= b.last && b.first <= a.last; }

void sequential_conflicts(const Problem& problem, BitMatrix& result) {
  for (std::size_t a = 0; a < problem.buffers.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      if (problem.buffers[a].size == 0 || problem.buffers[b].size == 0) continue;
      if (!lifetimes_overlap(problem.buffers[a], problem.buffers[b])) continue;
      result.set(a, b);
      result.set(b, a);
    }
  }
}

void partial_order_conflicts(const Problem& problem, BitMatrix& result) {
  const BitMatrix before = ancestors(problem.schedule);
  const std::size_t count = problem.buffers.size();
  std::vector<std::vector<std::uint32_t>> touching(count);
  // Row b: the steps that come before all of b's.
  BitMatrix before_all(count, problem.schedule.steps);
  for (std::size_t b = 0; b < count; ++b) {
    touching[b] = touching_steps(problem, b);
    std::uint64_t* row = before_all.row(b);
    std::copy_n(before.row(touching[b].front()), before.words(), row);
    for (const std::uint32_t step : touching[b]) {
      for (std::size_t w = 0; w < before.words(); ++w) row[w] &= before.row(step)[w];
    }
  }
  const auto ordered = [&](std::size_t a, std::size_t b) {
    return std::all_of(touching[a].begin(), touching[a].end(), [&](std::uint32_t s) { return before_all.test(b, s); });
  };
  for (std::size_t a = 0; a < count; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      if (problem.buffers[a].size == 0 || problem.buffers[b].size == 0) continue;
      if (ordered(a, b) || ordered(b, a)) continue;
      result.set(a, b);
      result.set(b, a);
    }
  }
}

/// The live sets that no other live set contains: those where somebody dies before the next birth.
std::vector<Clique> live_sets(const Problem& problem) {
  std::vector<std::uint32_t> births;
  for (const Buffer& buffer : problem.buffers) {
    if (buffer.size != 0) births.push_back(buffer.first);
  }
  std::sort(births.begin(), births.end());
  births.erase(std::unique(births.begin(), births.end()), births.end());
  std::vector<Clique> result;
  for (std::size_t i = 0; i < births.size(); ++i) {
    Clique live;
    bool maximal = i + 1 == births.size();
    for (std::uint32_t b = 0; b < problem.buffers.size(); ++b) {
      const Buffer& buffer = problem.buffers[b];
      if (buffer.size == 0 || buffer.first > births[i] || buffer.last < births[i]) continue;
      live.push_back(b);
      if (!maximal && buffer.last < births[i + 1]) maximal = true;
    }
    if (maximal) result.push_back(std::move(live));
  }
  return result;
}

std::vector<Clique> greedy_cliques(const Problem& problem, const BitMatrix& conflict) {
  std::vector<std::uint32_t> by_size(problem.buffers.size());
  std::iota(by_size.begin(), by_size.end(), 0u);
  std::stable_sort(by_size.begin(), by_size.end(), [&](std::uint32_t a, std::uint32_t b) {
    return problem.buffers[a].size > problem.buffers[b].size;
  });
  std::set<Clique> found;
  for (const std::uint32_t seed : by_size) {
    if (problem.buffers[seed].size == 0) break;
    Clique clique = {seed};
    std::vector<std::uint64_t> open(conflict.row(seed), conflict.row(seed) + conflict.words());
    for (const std::uint32_t b : by_size) {
      if (((open[b / 64] >> (b % 64)) & 1) == 0) continue;
      clique.push_back(b);
      for (std::size_t w = 0; w < open.size(); ++w) open[w] &= conflict.row(b)[w];
    }
    std::sort(clique.begin(), clique.end());
    found.insert(std::move(clique));
  }
  return {found.begin(), found.end()};
}

[[noreturn]] void invalid(const std::string& what) { throw std::invalid_argument("memory plan: " + what); }

void validate_buffer(const Problem& problem, std::size_t index) {
  const Buffer& buffer = problem.buffers[index];
  const std::string name = "buffer " + std::to_string(index);
  if (!is_power_of_two(buffer.alignment)) invalid(name + " has an alignment that is no power of two");
  if (buffer.first > buffer.last) invalid(name + " ends before it begins");
  if (buffer.last >= problem.schedule.steps) invalid(name + " outlives the last step");
  if (problem.schedule.sequential) return;
  for (const std::uint32_t step : problem.accesses[index]) {
    if (step >= problem.schedule.steps) invalid(name + " is accessed after the last step");
  }
}

}  // namespace

void validate(const Problem& problem) {
  const Schedule& schedule = problem.schedule;
  if (problem.buffers.size() > UINT32_MAX) invalid("too many buffers");
  if (!schedule.sequential) {
    if (schedule.depends_on.size() != schedule.steps) invalid("dependencies are not given for every step");
    if (problem.accesses.size() != problem.buffers.size()) invalid("accesses are not given for every buffer");
    for (std::uint32_t step = 0; step < schedule.steps; ++step) {
      for (const std::uint32_t before : schedule.depends_on[step]) {
        if (before >= step) invalid("step " + std::to_string(step) + " depends on a later one");
      }
    }
  }
  for (std::size_t b = 0; b < problem.buffers.size(); ++b) validate_buffer(problem, b);
}

BitMatrix conflicts(const Problem& problem) {
  BitMatrix result(problem.buffers.size(), problem.buffers.size());
  if (problem.schedule.sequential) {
    sequential_conflicts(problem, result);
  } else {
    partial_order_conflicts(problem, result);
  }
  return result;
}

std::vector<Clique> cliques(const Problem& problem, const BitMatrix& conflict) {
  return problem.schedule.sequential ? live_sets(problem) : greedy_cliques(problem, conflict);
}

std::uint64_t clique_bytes(const Problem& problem, const Clique& clique) {
  // Among buffers whose alignments are all multiples of A, each but the topmost takes its size rounded up to A. Every
  // alignment in the clique serves as A for those at least as strict; the others are left out.
  std::set<std::uint64_t> alignments;
  for (const std::uint32_t b : clique) alignments.insert(problem.buffers[b].alignment);
  std::uint64_t result = 0;
  for (const std::uint64_t alignment : alignments) {
    std::uint64_t sum = 0;
    std::uint64_t slack = 0;
    for (const std::uint32_t b : clique) {
      const Buffer& buffer = problem.buffers[b];
      if (buffer.alignment < alignment) continue;
      std::uint64_t rounded = 0;
      if (!checked_align(buffer.size, alignment, rounded) || !checked_add(sum, rounded, sum)) {
        throw std::overflow_error("memory plan: buffers live at once need 2^63 bytes or more");
      }
      slack = std::max(slack, rounded - buffer.size);
    }
    result = std::max(result, sum - slack);
  }
  if (result > static_cast<std::uint64_t>(INT64_MAX)) {
    throw std::overflow_error("memory plan: buffers live at once need 2^63 bytes or more");
  }
  return result;
}

bool may_share(const Problem& problem, std::size_t a, std::size_t b) {
  if (a == b) return false;
  if (problem.schedule.sequential) return !lifetimes_overlap(problem.buffers.at(a), problem.buffers.at(b));
  const std::vector<std::uint32_t> steps_a = touching_steps(problem, a);
  const std::vector<std::uint32_t> steps_b = touching_steps(problem, b);
  const BitMatrix before = ancestors(problem.schedule);
  const auto ordered = [&](const std::vector<std::uint32_t>& early, const std::vector<std::uint32_t>& late) {
    return std::all_of(late.begin(), late.end(), [&](std::uint32_t l) {
      return std::all_of(early.begin(), early.end(), [&](std::uint32_t e) { return before.test(l, e); });
    });
  };
  return ordered(steps_a, steps_b) || ordered(steps_b, steps_a);
}

}  // namespace edgert::memory
