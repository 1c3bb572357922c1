// SPDX-License-Identifier: Apache-2.0
// The memory checker must find every way in which a step list can destroy bytes: each test breaks a sound list once.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "memory/byte_runs.h"
#include "memory/checker.h"

namespace {

using edgert::memory::check;
using edgert::memory::kArenaInput;
using edgert::memory::Run;
using edgert::memory::Schedule;
using edgert::memory::StepAccess;
using edgert::memory::StorageUse;
using edgert::memory::Window;

Window bytes(std::uint64_t offset, std::int64_t size) { return {offset, 1, {size}, {1}}; }

struct List {
  std::uint64_t arena = 256;
  Schedule schedule;
  std::vector<StepAccess> steps;
  std::vector<StorageUse> storages;
  std::vector<std::string> run() const { return check(arena, schedule, steps, storages); }
};

/// Step 0 makes A at 0, step 1 makes B at 64 from A, step 2 makes C at 128 from A and B, step 3 makes D at A's place
/// from C, step 4 reads D.
List sound_list() {
  List list;
  list.schedule.steps = 5;
  list.steps.resize(5);
  list.steps[0].writes = {bytes(0, 64)};
  list.steps[1] = {{{bytes(0, 64), {0}}}, {bytes(64, 64)}};
  list.steps[2] = {{{bytes(0, 64), {0}}, {bytes(64, 64), {1}}}, {bytes(128, 64)}};
  list.steps[3] = {{{bytes(128, 64), {2}}}, {bytes(0, 64)}};
  list.steps[4] = {{{bytes(0, 64), {3}}}, {}};
  list.storages = {{0, 64, {0, 1, 2}}, {64, 64, {1, 2}}, {128, 64, {2, 3}}, {0, 64, {3, 4}}};
  return list;
}

bool mentions(const std::vector<std::string>& violations, const std::string& text) {
  for (const std::string& line : violations) {
    if (line.find(text) != std::string::npos) return true;
  }
  return false;
}

/// Which bytes a window covers, one by one.
std::vector<bool> naive_bytes(const Window& window, std::uint64_t arena) {
  std::vector<bool> covered(arena, false);
  const std::function<void(std::size_t, std::uint64_t)> walk = [&](std::size_t dim, std::uint64_t at) {
    if (dim == window.dims.size()) {
      for (std::uint64_t i = 0; i < window.element_bytes; ++i) covered[at + i] = true;
      return;
    }
    for (std::int64_t i = 0; i < window.dims[dim]; ++i) {
      walk(dim + 1, at + static_cast<std::uint64_t>(i * window.strides[dim]));
    }
  };
  walk(0, window.offset);
  return covered;
}

Window random_window(std::mt19937& random, std::uint64_t arena) {
  for (;;) {
    Window window;
    window.offset = random() % arena;
    window.element_bytes = 1 + random() % 4;
    for (std::uint32_t rank = random() % 4; rank > 0; --rank) {
      window.dims.push_back(static_cast<std::int64_t>(random() % 5));
      window.strides.push_back(static_cast<std::int64_t>(random() % 20));
    }
    Run span;
    if (edgert::memory::span_of(window, arena, span).empty()) return window;
  }
}

/// Replays a list byte by byte: whether every read finds its producers' bytes and no step writes a byte twice.
bool naive_replay(const List& list) {
  std::vector<std::uint32_t> writer(list.arena, kArenaInput);
  for (std::uint32_t step = 0; step < list.schedule.steps; ++step) {
    for (const auto& read : list.steps[step].reads) {
      const std::vector<bool> covered = naive_bytes(read.window, list.arena);
      for (std::size_t i = 0; i < list.arena; ++i) {
        bool found = !covered[i];
        for (const std::uint32_t producer : read.producers) found = found || writer[i] == producer;
        if (!found) return false;
      }
    }
    std::vector<bool> written(list.arena, false);
    for (const Window& window : list.steps[step].writes) {
      const std::vector<bool> covered = naive_bytes(window, list.arena);
      for (std::size_t i = 0; i < list.arena; ++i) {
        if (covered[i] && written[i]) return false;
        if (covered[i]) written[i] = true;
        if (covered[i]) writer[i] = step;
      }
    }
  }
  return true;
}

}  // namespace

TEST_CASE("checker: a sound list is proved") {
  CHECK(sound_list().run().empty());
  CHECK(check(0, {}, {}, {}).empty());
}

TEST_CASE("checker: a shifted offset is found") {
  List list = sound_list();
  list.steps[1].writes[0].offset = 32;
  list.storages[1].offset = 32;
  const auto violations = list.run();
  CHECK(mentions(violations, "step 2 reads [32, 64) and finds bytes of step 1, not of step 0"));
  CHECK(mentions(violations, "storages 0 and 1 share [32, 64)"));
}

TEST_CASE("checker: a read past what was written is found") {
  List list = sound_list();
  list.steps[4].reads[0].window = bytes(0, 65);
  CHECK(mentions(list.run(), "step 4 reads [64, 65) and finds bytes of step 1, not of step 3"));
  list.steps[4].reads[0].window = bytes(192, 8);
  CHECK(mentions(list.run(), "finds what lay there before the first step"));
}

TEST_CASE("checker: overlapping lifetimes are found even where no read sees them") {
  List list = sound_list();
  list.storages[3].accesses = {2, 3, 4};
  const auto violations = list.run();
  REQUIRE(violations.size() == 1);
  CHECK(mentions(violations, "storages 0 and 3 share [0, 64)"));
}

TEST_CASE("checker: an in-place overwrite of a value still needed is found") {
  List list = sound_list();
  // Step 1 now works in place: step 2 still needs A.
  list.steps[1].writes = {bytes(0, 64)};
  list.steps[2].reads[1].window = bytes(0, 64);
  list.storages = {{0, 64, {0, 1, 2, 3, 4}}, {128, 64, {2, 3}}};
  CHECK(mentions(list.run(), "step 2 reads [0, 64) and finds bytes of step 1, not of step 0"));
  // Without that need it is sound.
  list.steps[2].reads.erase(list.steps[2].reads.begin());
  CHECK(list.run().empty());
}

TEST_CASE("checker: order by list position only is found") {
  // 0 -> 1 -> 3 and 0 -> 2 -> 3; step 2 writes where step 1 read.
  List list;
  list.schedule = {4, false, {{}, {0}, {0}, {1, 2}}};
  list.steps.resize(4);
  list.steps[0].writes = {bytes(0, 64), bytes(64, 64)};
  list.steps[1] = {{{bytes(0, 64), {0}}}, {bytes(128, 64)}};
  list.steps[2] = {{{bytes(64, 64), {0}}}, {bytes(192, 64)}};
  list.steps[3] = {{{bytes(128, 64), {1}}, {bytes(192, 64), {2}}}, {}};
  list.storages = {{0, 64, {0, 1}}, {64, 64, {0, 2}}, {128, 64, {1, 3}}, {192, 64, {2, 3}}};
  CHECK(list.run().empty());

  List shared = list;
  shared.steps[2].writes = {bytes(0, 64)};
  shared.steps[3].reads[1].window = bytes(0, 64);
  shared.storages[3].offset = 0;
  auto violations = shared.run();
  CHECK(mentions(violations, "step 1 and step 2 both access [0, 64)"));
  CHECK(mentions(violations, "storages 0 and 3 share [0, 64)"));
  // The same placement is sound when steps run one after the other, or when step 2 waits for step 1.
  shared.schedule = {4, true, {}};
  CHECK(shared.run().empty());
  shared.schedule = {4, false, {{}, {0}, {0, 1}, {2}}};
  CHECK(shared.run().empty());

  // Inside one storage only the steps' windows tell.
  shared.schedule = list.schedule;
  shared.storages = {{0, 64, {0, 1, 2, 3}}, {64, 64, {0, 2}}, {128, 64, {1, 3}}};
  CHECK(mentions(shared.run(), "step 1 and step 2 both access [0, 64)"));
}

TEST_CASE("checker: branches may write the gaps of each other's windows") {
  List list;
  list.schedule = {3, false, {{}, {}, {0, 1}}};
  list.steps.resize(3);
  list.steps[0].writes = {{0, 4, {8, 2}, {32, 4}}};
  list.steps[1].writes = {{8, 4, {8, 6}, {32, 4}}};
  list.steps[2].reads = {{bytes(0, 256), {0, 1}}};
  list.storages = {{0, 256, {0, 1, 2}}};
  CHECK(list.run().empty());
  list.steps[1].writes[0].offset = 4;
  CHECK(mentions(list.run(), "step 0 and step 1 both access [4, 8)"));
}

TEST_CASE("checker: a producer that is not ordered before its reader is found") {
  List list;
  list.schedule = {2, false, {{}, {}}};
  list.steps.resize(2);
  list.steps[0].writes = {bytes(0, 64)};
  list.steps[1].reads = {{bytes(0, 64), {0}}};
  CHECK(mentions(list.run(), "step 1 reads the result of step 0, which the schedule does not order before it"));
  list.schedule.depends_on[1] = {0};
  CHECK(list.run().empty());
  list.schedule.sequential = true;
  list.steps[1].reads[0].producers = {0, 1};
  CHECK(mentions(list.run(), "step 1 reads the result of step 1"));
}

TEST_CASE("checker: inputs are there before the first step") {
  List list = sound_list();
  list.steps[0].reads = {{bytes(192, 64), {kArenaInput}}};
  list.storages.push_back({192, 64, {kArenaInput, 0}});
  CHECK(list.run().empty());
  List late = list;
  late.steps[4].reads.push_back({bytes(0, 64), {kArenaInput}});
  CHECK(mentions(late.run(), "step 4 reads [0, 64) and finds bytes of step 3, not of an input"));
  list.storages.push_back({255, 1, {kArenaInput, 2}});
  CHECK(mentions(list.run(), "storages 4 and 5 share [255, 256)"));
}

TEST_CASE("checker: two outputs of a step on the same bytes are found") {
  List list = sound_list();
  list.steps[0].writes.push_back(bytes(63, 1));
  CHECK(mentions(list.run(), "step 0 writes [63, 64) through two windows"));
}

TEST_CASE("checker: a result over an operand that its step still reads is found") {
  // Step 3 writes D over its operand C: right for an operator that is done with an element before it writes it.
  List list = sound_list();
  list.steps[3].writes = {bytes(128, 64)};
  list.steps[4].reads[0].window = bytes(128, 64);
  list.storages = {{0, 64, {0, 1, 2}}, {64, 64, {1, 2}}, {128, 64, {2, 3, 4}}};
  CHECK(list.run().empty());
  list.steps[3].reads[0].until_end = true;
  CHECK(mentions(list.run(), "still reads"));
  list.steps[3].writes = {bytes(64, 64)};
  list.steps[4].reads[0].window = bytes(64, 64);
  list.storages = {{0, 64, {0, 1, 2}}, {64, 64, {1, 2, 3, 4}}, {128, 64, {2, 3}}};
  CHECK(list.run().empty());
}

TEST_CASE("checker: windows and storages outside the arena are found") {
  List list = sound_list();
  list.steps[2].writes = {bytes(200, 57)};
  CHECK(mentions(list.run(), "step 2: write window 0 covers [200, 257) in an arena of 256 bytes"));
  list = sound_list();
  list.storages[1].offset = 193;
  CHECK(mentions(list.run(), "storage 1 at 193 with 64 bytes lies outside the arena of 256"));
  list = sound_list();
  list.steps[2].reads[0].window = {UINT64_MAX - 3, 8, {}, {}};
  CHECK(mentions(list.run(), "reaches past 2^64"));
  list.steps[2].reads[0].window = {0, 1, {INT64_MAX, 3}, {INT64_MAX, 1}};
  CHECK(mentions(list.run(), "reaches past 2^64"));
  list.steps[2].reads[0].window = {0, 1, {4}, {-1}};
  CHECK(mentions(list.run(), "negative stride"));
  list.steps[2].reads[0].window = {0, 1, {-4}, {1}};
  CHECK(mentions(list.run(), "negative extent"));
  list.steps[2].reads[0].window = {0, 1, {4}, {}};
  CHECK(mentions(list.run(), "0 strides for 1 dimensions"));
}

TEST_CASE("checker: nonsense about steps is found") {
  List list = sound_list();
  list.steps.pop_back();
  CHECK(mentions(list.run(), "5 steps"));
  list = sound_list();
  list.steps[1].reads[0].producers = {17};
  CHECK(mentions(list.run(), "does not exist"));
  list = sound_list();
  list.storages[1].accesses = {17};
  CHECK(mentions(list.run(), "does not exist"));
  list = sound_list();
  list.schedule.sequential = false;
  CHECK(mentions(list.run(), "dependencies"));
  list.schedule.depends_on = {{}, {0}, {4}, {2}, {3}};
  CHECK(mentions(list.run(), "step 2 depends on 4, which is not earlier"));
}

TEST_CASE("checker: at most 16 violations are told") {
  List list;
  list.schedule.steps = 100;
  list.steps.resize(100);
  for (auto& step : list.steps) step.reads = {{bytes(0, 4), {0}}};
  CHECK(list.run().size() == 16);
}

TEST_CASE("checker: runs of random windows are the bytes they cover") {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    const Window window = random_window(random, 200);
    std::vector<Run> runs;
    REQUIRE(edgert::memory::runs_of(window, runs));
    std::vector<bool> covered(200, false);
    for (std::size_t i = 0; i < runs.size(); ++i) {
      CHECK(runs[i].begin < runs[i].end);
      if (i > 0) CHECK(runs[i - 1].end < runs[i].begin);
      for (std::uint64_t at = runs[i].begin; at < runs[i].end; ++at) covered[at] = true;
    }
    CHECK(covered == naive_bytes(window, 200));
  }
}

TEST_CASE("checker: a dense tensor is one run in any order of its dimensions") {
  std::vector<Run> runs;
  REQUIRE(edgert::memory::runs_of({64, 4, {1 << 10, 1 << 20, 3}, {1 << 22, 4, std::int64_t{1} << 32}}, runs));
  REQUIRE(runs.size() == 1);
  CHECK(runs[0].begin == 64);
  CHECK(runs[0].end == 64 + (std::uint64_t{3} << 32));
  // One hole in each row, and the pieces would be more than anybody wants to look at.
  CHECK_FALSE(edgert::memory::runs_of({0, 4, {1 << 20, 1 << 20}, {1 << 24, 8}}, runs));
}

TEST_CASE("checker: random lists are judged as a replay byte by byte judges them") {
  std::mt19937 random(11);
  int sound = 0;
  for (int round = 0; round < 3000; ++round) {
    List list;
    list.arena = 48;
    list.schedule.steps = 6;
    list.steps.resize(6);
    for (std::uint32_t step = 0; step < 6; ++step) {
      for (std::uint32_t i = random() % 2; i > 0 && step > 0; --i) {
        list.steps[step].reads.push_back({random_window(random, 48), {kArenaInput}});
        for (std::uint32_t before = 0; before < step; ++before) {
          if (random() % 4 != 0) list.steps[step].reads.back().producers.push_back(before);
        }
      }
      for (std::uint32_t i = random() % 3; i > 0; --i) list.steps[step].writes.push_back(random_window(random, 48));
    }
    const bool expected = naive_replay(list);
    CHECK(list.run().empty() == expected);
    sound += expected ? 1 : 0;
  }
  // Both verdicts occur, else the comparison would say little.
  CHECK(sound > 300);
  CHECK(sound < 2700);
}

TEST_CASE("checker: big arenas and interleaved windows take no long time") {
  const std::uint64_t arena = std::uint64_t{1} << 40;
  List list;
  list.arena = arena;
  list.schedule.steps = 60;
  list.steps.resize(60);
  // Each third step reads what two others interleaved, pixel by pixel, in a far corner of the arena.
  for (std::uint32_t step = 0; step < 60; step += 3) {
    const std::uint64_t base = arena / 61 * step;
    list.steps[step].writes = {{base, 4, {112, 112, 16}, {112 * 128, 128, 4}}};
    list.steps[step + 1].writes = {{base + 64, 4, {16, 112, 112}, {4, 112 * 128, 128}}};
    list.steps[step + 2].reads = {{{base, 4, {112 * 112, 32}, {128, 4}}, {step, step + 1}}};
  }
  const auto begin = std::chrono::steady_clock::now();
  CHECK(list.run().empty());
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(20));
}
