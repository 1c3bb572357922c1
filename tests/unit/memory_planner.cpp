// SPDX-License-Identifier: Apache-2.0
// The memory planner against exhaustive placement on small problems, and against the checker on big ones.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <vector>

#include "memory/checker.h"
#include "memory/conflicts.h"
#include "memory/exact_search.h"
#include "memory/heuristics.h"
#include "memory/planner.h"

namespace {

using edgert::memory::Buffer;
using edgert::memory::Placement;
using edgert::memory::PlannerOptions;
using edgert::memory::Problem;
using edgert::memory::StepAccess;
using edgert::memory::StorageUse;
using edgert::memory::Window;

std::uint32_t pick(std::mt19937& random, std::uint32_t below) { return random() % below; }

Problem random_intervals(std::uint32_t seed, std::uint32_t count, std::uint32_t steps, std::uint32_t longest) {
  std::mt19937 random(seed);
  Problem problem;
  problem.schedule.steps = steps;
  for (std::uint32_t i = 0; i < count; ++i) {
    Buffer buffer;
    buffer.first = pick(random, steps);
    buffer.last = std::min(steps - 1, buffer.first + pick(random, longest));
    buffer.size = pick(random, 12) == 0 ? 0 : 1 + pick(random, 40);
    buffer.alignment = std::uint64_t{1} << pick(random, 4);
    problem.buffers.push_back(buffer);
  }
  return problem;
}

/// Every step makes one buffer and reads those of some earlier steps.
Problem random_graph(std::uint32_t seed, std::uint32_t steps, std::uint32_t window) {
  std::mt19937 random(seed);
  Problem problem;
  problem.schedule.steps = steps;
  problem.schedule.sequential = false;
  problem.schedule.depends_on.resize(steps);
  for (std::uint32_t step = 0; step < steps; ++step) {
    Buffer buffer;
    buffer.first = buffer.last = step;
    buffer.size = 1 + pick(random, 40);
    buffer.alignment = std::uint64_t{1} << pick(random, 4);
    problem.buffers.push_back(buffer);
    problem.accesses.push_back({step});
    std::set<std::uint32_t> sources;
    for (std::uint32_t i = 0; step > 0 && i < 1 + pick(random, 2); ++i) {
      sources.insert(step - 1 - pick(random, std::min(step, window)));
    }
    for (const std::uint32_t source : sources) {
      problem.schedule.depends_on[step].push_back(source);
      problem.accesses[source].push_back(step);
      problem.buffers[source].last = step;
    }
  }
  return problem;
}

/// Whether step a precedes step b in every execution, by following dependencies back.
bool precedes(const Problem& problem, std::uint32_t a, std::uint32_t b) {
  if (problem.schedule.sequential) return a < b;
  for (const std::uint32_t before : problem.schedule.depends_on[b]) {
    if (before == a || precedes(problem, a, before)) return true;
  }
  return false;
}

bool naive_may_share(const Problem& problem, std::size_t a, std::size_t b) {
  const auto steps = [&](std::size_t buffer) {
    if (!problem.schedule.sequential) return problem.accesses[buffer];
    return std::vector<std::uint32_t>{problem.buffers[buffer].first, problem.buffers[buffer].last};
  };
  const auto all_precede = [&](std::size_t x, std::size_t y) {
    for (const std::uint32_t early : steps(x)) {
      for (const std::uint32_t late : steps(y)) {
        if (!precedes(problem, early, late)) return false;
      }
    }
    return true;
  };
  return all_precede(a, b) || all_precede(b, a);
}

/// The smallest arena: places the buffers in every order, each at the lowest offset where it fits. The optimum sorted
/// by offset is one of these orders.
std::uint64_t exhaustive_optimum(const Problem& problem) {
  const std::size_t count = problem.buffers.size();
  std::vector<std::vector<bool>> share(count, std::vector<bool>(count));
  for (std::size_t a = 0; a < count; ++a) {
    for (std::size_t b = 0; b < count; ++b) share[a][b] = a == b || naive_may_share(problem, a, b);
  }
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::uint64_t best = std::numeric_limits<std::uint64_t>::max();
  do {
    std::vector<std::uint64_t> offsets(count);
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const Buffer& buffer = problem.buffers[order[i]];
      std::uint64_t offset = 0;
      for (bool moved = true; moved;) {
        moved = false;
        for (std::size_t j = 0; j < i; ++j) {
          const std::uint64_t begin = offsets[order[j]];
          const std::uint64_t end = begin + problem.buffers[order[j]].size;
          if (share[order[i]][order[j]] || offset >= end || offset + buffer.size <= begin) continue;
          offset = (end + buffer.alignment - 1) / buffer.alignment * buffer.alignment;
          moved = true;
        }
      }
      offsets[order[i]] = offset;
      bytes = std::max(bytes, offset + buffer.size);
    }
    best = std::min(best, bytes);
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

/// The placement as the checker sees it: a buffer is written by its first step and read by the others.
std::vector<std::string> violations(const Problem& problem, const Placement& placement) {
  std::vector<StepAccess> steps(problem.schedule.steps);
  std::vector<StorageUse> storages;
  for (std::size_t b = 0; b < problem.buffers.size(); ++b) {
    const Buffer& buffer = problem.buffers[b];
    const Window window = {placement.offsets[b], 1, {static_cast<std::int64_t>(buffer.size)}, {1}};
    std::vector<std::uint32_t> touching = {buffer.first, buffer.last};
    if (!problem.schedule.sequential) touching = problem.accesses[b];
    steps[buffer.first].writes.push_back(window);
    for (const std::uint32_t step : touching) {
      if (step != buffer.first) steps[step].reads.push_back({window, {buffer.first}});
    }
    storages.push_back({placement.offsets[b], buffer.size, touching});
  }
  return edgert::memory::check(placement.bytes, problem.schedule, steps, storages);
}

void require_sound(const Problem& problem, const Placement& placement) {
  REQUIRE(placement.offsets.size() == problem.buffers.size());
  std::uint64_t highest = 0;
  for (std::size_t b = 0; b < problem.buffers.size(); ++b) {
    CHECK(placement.offsets[b] % problem.buffers[b].alignment == 0);
    highest = std::max(highest, placement.offsets[b] + problem.buffers[b].size);
  }
  CHECK(placement.bytes == highest);
  CHECK(placement.lower_bound <= placement.bytes);
  const std::vector<std::string> wrong = violations(problem, placement);
  CHECK_MESSAGE(wrong.empty(), (wrong.empty() ? "" : wrong.front()));
}

/// Cuts a rectangle of steps and bytes into pieces again and again: the pieces fit it without a gap.
void cut(Problem& problem, std::mt19937& random, std::uint32_t first, std::uint32_t last, std::uint64_t size,
         int depth) {
  if (depth > 0 && depth % 2 == 0 && last > first) {
    const std::uint32_t at = first + pick(random, last - first);
    cut(problem, random, first, at, size, depth - 1);
    cut(problem, random, at + 1, last, size, depth - 1);
  } else if (depth > 0 && size > 1) {
    const std::uint64_t part = 1 + pick(random, static_cast<std::uint32_t>(size - 1));
    cut(problem, random, first, last, part, depth - 1);
    cut(problem, random, first, last, size - part, depth - 1);
  } else {
    problem.buffers.push_back({size, 1, first, last});
  }
}

}  // namespace

TEST_CASE("planner: no placement of small interval problems is smaller") {
  int above_bound = 0;
  for (std::uint32_t seed = 0; seed < 150; ++seed) {
    CAPTURE(seed);
    const Problem problem = random_intervals(seed, 1 + seed % 7, 8, 5);
    const Placement placement = edgert::memory::plan(problem);
    require_sound(problem, placement);
    CHECK(placement.optimal);
    CHECK(placement.bytes == exhaustive_optimum(problem));
    above_bound += placement.bytes > placement.lower_bound ? 1 : 0;
  }
  // Else the exact search would have proved nothing.
  CHECK(above_bound > 0);
}

TEST_CASE("planner: no placement of small graphs is smaller") {
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    const Problem problem = random_graph(seed, 2 + seed % 6, 4);
    const Placement placement = edgert::memory::plan(problem);
    require_sound(problem, placement);
    CHECK(placement.optimal);
    CHECK(placement.bytes == exhaustive_optimum(problem));
  }
}

TEST_CASE("planner: the exact search alone finds the optimum and refutes one byte less") {
  using edgert::memory::ExactSearch;
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    const std::uint32_t count = 2 + seed % 6;
    const Problem problem = seed % 2 == 0 ? random_intervals(seed, count, 6, 6) : random_graph(seed, count, 5);
    const std::uint64_t optimum = exhaustive_optimum(problem);
    if (optimum == 0) continue;
    const edgert::memory::BitMatrix conflict = edgert::memory::conflicts(problem);
    for (const edgert::memory::Order& order : edgert::memory::orders(problem, conflict)) {
      ExactSearch search(problem, conflict, edgert::memory::cliques(problem, conflict), order.buffers);
      std::uint64_t nodes = 1'000'000;
      Placement placement;
      placement.offsets.resize(problem.buffers.size());
      REQUIRE(search.search(optimum, nodes, placement.offsets) == ExactSearch::Outcome::Found);
      placement.bytes = optimum;
      require_sound(problem, placement);
      CHECK(search.search(optimum - 1, nodes, placement.offsets) == ExactSearch::Outcome::Impossible);
    }
  }
}

TEST_CASE("planner: may_share is the order of all accesses") {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    for (const Problem& problem : {random_intervals(seed, 10, 12, 6), random_graph(seed, 10, 4)}) {
      for (std::size_t a = 0; a < problem.buffers.size(); ++a) {
        for (std::size_t b = 0; b < problem.buffers.size(); ++b) {
          CHECK(edgert::memory::may_share(problem, a, b) == (a != b && naive_may_share(problem, a, b)));
        }
      }
    }
  }
}

TEST_CASE("planner: plans of random problems pass the checker") {
  PlannerOptions options;
  options.exact_search_nodes = 2000;
  for (std::uint32_t seed = 0; seed < 40; ++seed) {
    CAPTURE(seed);
    const Problem intervals = random_intervals(seed, 20 + seed * 3, 40, 2 + seed);
    require_sound(intervals, edgert::memory::plan(intervals, options));
    const Problem graph = random_graph(seed, 20 + seed * 2, 2 + seed % 9);
    require_sound(graph, edgert::memory::plan(graph, options));
  }
}

TEST_CASE("planner: parallel branches share nothing, a chain shares all it can") {
  // 0 -> {1, 2} -> 3: by list position buffer 0 would be free at step 3 only, and 1 and 2 never share.
  Problem problem;
  problem.schedule = {4, false, {{}, {0}, {0}, {1, 2}}};
  problem.buffers = {{64, 64, 0, 2}, {64, 64, 1, 3}, {64, 64, 2, 3}, {64, 64, 3, 3}};
  problem.accesses = {{0, 1, 2}, {1, 3}, {2, 3}, {3}};
  const Placement branches = edgert::memory::plan(problem);
  CHECK(branches.bytes == 192);
  CHECK(branches.optimal);
  CHECK_FALSE(edgert::memory::may_share(problem, 1, 2));
  CHECK(edgert::memory::may_share(problem, 0, 3));

  Problem chain;
  chain.schedule.steps = 100;
  for (std::uint32_t i = 0; i + 1 < 100; ++i) chain.buffers.push_back({1000, 64, i, i + 1});
  CHECK(edgert::memory::plan(chain).bytes == 1024 + 1000);
}

TEST_CASE("planner: a buffer that must outlive its last access is not overwritten") {
  Problem problem;
  problem.schedule = {3, false, {{}, {0}, {1}}};
  problem.buffers = {{64, 64, 0, 2}, {64, 64, 1, 1}, {64, 64, 2, 2}};
  problem.accesses = {{0}, {1}, {2}};
  const Placement placement = edgert::memory::plan(problem);
  CHECK(placement.bytes == 128);
  CHECK(placement.offsets[0] != placement.offsets[1]);
  CHECK(placement.offsets[0] != placement.offsets[2]);
}

TEST_CASE("planner: rectangles cut into pieces are put together again") {
  int whole = 0;
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    Problem problem;
    problem.schedule.steps = 24;
    cut(problem, random, 0, 23, 1000, 5);
    const Placement placement = edgert::memory::plan(problem);
    require_sound(problem, placement);
    CHECK(placement.lower_bound == 1000);
    CHECK(placement.bytes <= 1100);
    whole += placement.bytes == 1000 ? 1 : 0;
  }
  CHECK(whole >= 18);
}

TEST_CASE("planner: equal problems get equal plans") {
  for (std::uint32_t seed = 0; seed < 5; ++seed) {
    const Problem problem = random_intervals(seed, 120, 100, 30);
    const Placement first = edgert::memory::plan(problem);
    const Placement second = edgert::memory::plan(problem);
    CHECK(first.offsets == second.offsets);
    CHECK(first.bytes == second.bytes);
    CHECK(first.heuristic == second.heuristic);
  }
}

TEST_CASE("planner: empty problems and empty buffers") {
  Problem problem;
  CHECK(edgert::memory::plan(problem).bytes == 0);
  CHECK(edgert::memory::plan(problem).optimal);
  problem.schedule.steps = 1;
  problem.buffers = {{0, 64, 0, 0}, {0, 4096, 0, 0}};
  CHECK(edgert::memory::plan(problem).bytes == 0);
  problem.buffers.push_back({7, 4, 0, 0});
  const Placement placement = edgert::memory::plan(problem);
  CHECK(placement.bytes == 7);
  CHECK(placement.offsets == std::vector<std::uint64_t>{0, 0, 0});
}

TEST_CASE("planner: sizes near the limit") {
  constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
  Problem problem;
  problem.schedule.steps = 2;
  problem.buffers = {{kMax, 64, 0, 0}, {kMax, 64, 1, 1}};
  const Placement placement = edgert::memory::plan(problem);
  CHECK(placement.bytes == kMax);
  CHECK(placement.optimal);
  problem.buffers[1].first = 0;
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::overflow_error);
  problem.buffers = {{kMax + 1, 64, 0, 0}};
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::overflow_error);
  problem.buffers = {{std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1} << 63, 0, 0}};
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::overflow_error);
  problem.buffers = {{kMax - 63, 64, 0, 0}, {64, 64, 0, 0}};
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::overflow_error);
  problem.buffers = {{kMax - 63, 64, 0, 0}, {63, 64, 0, 0}};
  CHECK(edgert::memory::plan(problem).bytes == kMax);
}

TEST_CASE("planner: few nodes end the exact search and keep a sound plan") {
  const Problem problem = random_intervals(3, 80, 40, 20);
  for (const std::uint64_t nodes : {0, 1, 2, 17, 1000}) {
    PlannerOptions options;
    options.exact_search_nodes = nodes;
    require_sound(problem, edgert::memory::plan(problem, options));
  }
}

TEST_CASE("planner: malformed problems are refused") {
  Problem problem;
  problem.schedule.steps = 4;
  problem.buffers = {{64, 48, 0, 1}};
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::invalid_argument);
  problem.buffers = {{64, 64, 2, 1}};
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::invalid_argument);
  problem.buffers = {{64, 64, 0, 4}};
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::invalid_argument);
  problem.buffers = {{64, 64, 0, 1}};
  problem.schedule.sequential = false;
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::invalid_argument);
  problem.schedule.depends_on = {{}, {0}, {3}, {}};
  problem.accesses = {{0, 1}};
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::invalid_argument);
  problem.schedule.depends_on = {{}, {0}, {1}, {2}};
  CHECK(edgert::memory::plan(problem).bytes == 64);
  problem.accesses = {{0, 9}};
  CHECK_THROWS_AS(edgert::memory::plan(problem), std::invalid_argument);
}

TEST_CASE("planner: 600 buffers take seconds at most") {
  // A generous limit, for sanitizers and busy machines: what it guards against is exponential time.
  for (const std::uint32_t longest : {4u, 40u, 600u}) {
    const Problem intervals = random_intervals(longest, 600, 600, longest);
    const Problem graph = random_graph(longest, 600, std::min(longest, 50u));
    const auto begin = std::chrono::steady_clock::now();
    require_sound(intervals, edgert::memory::plan(intervals));
    require_sound(graph, edgert::memory::plan(graph));
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
  }
}
