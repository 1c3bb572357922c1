// SPDX-License-Identifier: Apache-2.0
// The proof: replays the steps over a map of who wrote which bytes, then looks for accesses to the same bytes that the
// schedule does not order. The map holds intervals, so that its cost depends on the number of windows and their pieces,
// not on the size of the arena.
#include "memory/checker.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "edgert/checked.h"
#include "memory/byte_runs.h"

namespace edgert::memory {
namespace {

constexpr std::size_t kMostViolations = 16;

std::string range(const Run& run) { return "[" + std::to_string(run.begin) + ", " + std::to_string(run.end) + ")"; }

std::string writer_name(std::uint32_t step) {
  return step == kArenaInput ? "an input" : "step " + std::to_string(step);
}

std::string writer_names(const std::vector<std::uint32_t>& steps) {
  if (steps.empty()) return "nobody";
  std::string result;
  for (std::size_t i = 0; i < steps.size(); ++i) result += (i == 0 ? "" : " or ") + writer_name(steps[i]);
  return result;
}

/// Who wrote each byte last: intervals that begin at the map's keys and end at the next key.
class Shadow {
 public:
  explicit Shadow(std::uint64_t bytes) : bytes_(bytes) { writers_[0] = kArenaInput; }

  void write(const Run& run, std::uint32_t step) {
    split(run.end);
    const auto begin = split(run.begin);
    writers_.erase(std::next(begin), writers_.lower_bound(run.end));
    begin->second = step;
    merge_with_previous(writers_.find(run.end));
    merge_with_previous(begin);
  }

  /// Whether only `producers` wrote the run; else `wrong` is the first part that somebody else wrote.
  bool written_by(const Run& run, const std::vector<std::uint32_t>& producers, Run& wrong,
                  std::uint32_t& writer) const {
    for (auto it = std::prev(writers_.upper_bound(run.begin)); it != writers_.end() && it->first < run.end; ++it) {
      if (std::find(producers.begin(), producers.end(), it->second) != producers.end()) continue;
      const auto next = std::next(it);
      wrong = {std::max(it->first, run.begin), std::min(next == writers_.end() ? bytes_ : next->first, run.end)};
      writer = it->second;
      return false;
    }
    return true;
  }

 private:
  using Map = std::map<std::uint64_t, std::uint32_t>;

  /// Makes an interval begin at `at`.
  Map::iterator split(std::uint64_t at) {
    if (at >= bytes_) return writers_.end();
    const auto after = writers_.upper_bound(at);
    const auto it = std::prev(after);
    return it->first == at ? it : writers_.emplace_hint(after, at, it->second);
  }

  void merge_with_previous(Map::iterator it) {
    if (it == writers_.end() || it == writers_.begin()) return;
    if (std::prev(it)->second == it->second) writers_.erase(it);
  }

  std::uint64_t bytes_;
  Map writers_;
};

/// The order of steps that every execution keeps. Worked out forwards, step by step: row s lists what follows s.
class Before {
 public:
  explicit Before(const Schedule& schedule) : sequential_(schedule.sequential), words_((schedule.steps + 63u) / 64u) {
    if (sequential_) return;
    followers_.assign(std::size_t{schedule.steps} * words_, 0);
    for (std::uint32_t step = schedule.steps; step-- > 0;) {
      for (const std::uint32_t before : schedule.depends_on[step]) {
        for (std::size_t w = 0; w < words_; ++w) followers_[before * words_ + w] |= followers_[step * words_ + w];
        followers_[before * words_ + step / 64] |= std::uint64_t{1} << (step % 64);
      }
    }
  }

  /// Whether `a` is over when `b` begins. Inputs are there before every step.
  bool operator()(std::uint32_t a, std::uint32_t b) const {
    if (b == kArenaInput) return false;
    if (a == kArenaInput) return true;
    if (sequential_) return a < b;
    return ((followers_[a * words_ + b / 64] >> (b % 64)) & 1) != 0;
  }

 private:
  bool sequential_;
  std::size_t words_;
  std::vector<std::uint64_t> followers_;
};

/// A window in the check, its runs worked out when first needed.
struct Access {
  const Window* window;
  bool write;
  Run span;
  bool split = false;
  std::vector<Run> runs;

  const std::vector<Run>& pieces() {
    if (!split) runs_of(*window, runs);
    split = true;
    return runs;
  }
};

class Check {
 public:
  Check(std::uint64_t arena_bytes, const Schedule& schedule, const std::vector<StepAccess>& steps,
        const std::vector<StorageUse>& storages)
      : arena_bytes_(arena_bytes), schedule_(schedule), steps_(steps), storages_(storages) {}

  std::vector<std::string> run() {
    // Later checks index by step and walk windows: they need all of that to be sound.
    if (schedule_is_sound() && windows_are_sound()) {
      const Before before(schedule_);
      producers_come_first(before);
      replay();
      if (!schedule_.sequential) unordered_steps_keep_apart(before);
      storages_are_ordered(before);
    }
    return std::move(violations_);
  }

 private:
  bool full() const { return violations_.size() >= kMostViolations; }
  void report(std::string text) {
    if (!full()) violations_.push_back(std::move(text));
  }

  bool schedule_is_sound();
  bool windows_are_sound();
  bool window_is_sound(const Window& window, const std::string& name);
  void producers_come_first(const Before& before);
  void replay();
  void replay_read(const Shadow& shadow, std::uint32_t step, const Read& read);
  void outputs_keep_apart(std::uint32_t step);
  void unordered_steps_keep_apart(const Before& before);
  bool keep_apart(std::vector<Access>& a, std::vector<Access>& b, Run& where);
  void storages_are_ordered(const Before& before);

  std::uint64_t arena_bytes_;
  const Schedule& schedule_;
  const std::vector<StepAccess>& steps_;
  const std::vector<StorageUse>& storages_;
  std::vector<std::string> violations_;
};

bool Check::schedule_is_sound() {
  if (steps_.size() != schedule_.steps) {
    report("the schedule has " + std::to_string(schedule_.steps) + " steps, their accesses are given for " +
           std::to_string(steps_.size()));
    return false;
  }
  if (!schedule_.sequential && schedule_.depends_on.size() != schedule_.steps) {
    report("dependencies are given for " + std::to_string(schedule_.depends_on.size()) + " of " +
           std::to_string(schedule_.steps) + " steps");
    return false;
  }
  for (std::uint32_t step = 0; !schedule_.sequential && step < schedule_.steps; ++step) {
    for (const std::uint32_t before : schedule_.depends_on[step]) {
      if (before < step) continue;
      report(writer_name(step) + " depends on " + std::to_string(before) + ", which is not earlier");
    }
  }
  const auto known = [&](std::uint32_t step) { return step < schedule_.steps || step == kArenaInput; };
  for (std::uint32_t step = 0; step < schedule_.steps; ++step) {
    for (const Read& read : steps_[step].reads) {
      if (std::all_of(read.producers.begin(), read.producers.end(), known)) continue;
      report(writer_name(step) + " reads results of a step that does not exist");
    }
  }
  for (std::size_t i = 0; i < storages_.size(); ++i) {
    if (std::all_of(storages_[i].accesses.begin(), storages_[i].accesses.end(), known)) continue;
    report("storage " + std::to_string(i) + " is accessed by a step that does not exist");
  }
  return violations_.empty();
}

bool Check::window_is_sound(const Window& window, const std::string& name) {
  Run span;
  const std::string wrong = span_of(window, arena_bytes_, span);
  std::vector<Run> runs;
  if (!wrong.empty()) {
    report(name + " " + wrong);
  } else if (!runs_of(window, runs)) {
    report(name + " falls into too many pieces to be checked");
  } else {
    return true;
  }
  return false;
}

bool Check::windows_are_sound() {
  bool sound = true;
  for (std::uint32_t step = 0; step < schedule_.steps; ++step) {
    const StepAccess& access = steps_[step];
    for (std::size_t i = 0; i < access.reads.size(); ++i) {
      sound &= window_is_sound(access.reads[i].window, writer_name(step) + ": read window " + std::to_string(i));
    }
    for (std::size_t i = 0; i < access.writes.size(); ++i) {
      sound &= window_is_sound(access.writes[i], writer_name(step) + ": write window " + std::to_string(i));
    }
  }
  for (std::size_t i = 0; i < storages_.size(); ++i) {
    if (in_range(storages_[i].offset, storages_[i].size, arena_bytes_)) continue;
    report("storage " + std::to_string(i) + " at " + std::to_string(storages_[i].offset) + " with " +
           std::to_string(storages_[i].size) + " bytes lies outside the arena of " + std::to_string(arena_bytes_));
    sound = false;
  }
  return sound;
}

void Check::producers_come_first(const Before& before) {
  for (std::uint32_t step = 0; step < schedule_.steps; ++step) {
    for (const Read& read : steps_[step].reads) {
      for (const std::uint32_t producer : read.producers) {
        if (before(producer, step)) continue;
        report(writer_name(step) + " reads the result of " + writer_name(producer) +
               ", which the schedule does not order before it");
      }
    }
  }
}

void Check::replay() {
  Shadow shadow(arena_bytes_);
  std::vector<Run> runs;
  for (std::uint32_t step = 0; step < schedule_.steps && !full(); ++step) {
    for (const Read& read : steps_[step].reads) replay_read(shadow, step, read);
    outputs_keep_apart(step);
    for (const Window& window : steps_[step].writes) {
      runs_of(window, runs);
      for (const Run& run : runs) shadow.write(run, step);
    }
  }
}

void Check::replay_read(const Shadow& shadow, std::uint32_t step, const Read& read) {
  std::vector<Run> runs;
  runs_of(read.window, runs);
  Run wrong;
  std::uint32_t writer = 0;
  for (const Run& run : runs) {
    if (shadow.written_by(run, read.producers, wrong, writer)) continue;
    const bool untouched = writer == kArenaInput;
    report(writer_name(step) + " reads " + range(wrong) + " and finds " +
           (untouched ? "what lay there before the first step" : "bytes of " + writer_name(writer)) + ", not of " +
           writer_names(read.producers));
    return;
  }
}

/// What the replay cannot see: two outputs of one step that overlap destroy each other, and an output over an operand
/// that the step has not done with destroys that.
void Check::outputs_keep_apart(std::uint32_t step) {
  const std::vector<Window>& writes = steps_[step].writes;
  std::vector<Run> a;
  std::vector<Run> b;
  Run where;
  for (std::size_t i = 1; i < writes.size(); ++i) {
    runs_of(writes[i], a);
    for (std::size_t j = 0; j < i; ++j) {
      runs_of(writes[j], b);
      if (overlap(a, b, where)) report(writer_name(step) + " writes " + range(where) + " through two windows");
    }
  }
  for (const Read& read : steps_[step].reads) {
    if (!read.until_end) continue;
    runs_of(read.window, a);
    for (const Window& window : writes) {
      runs_of(window, b);
      if (overlap(a, b, where)) report(writer_name(step) + " writes " + range(where) + ", which it still reads");
    }
  }
}

bool Check::keep_apart(std::vector<Access>& a, std::vector<Access>& b, Run& where) {
  for (Access& x : a) {
    for (Access& y : b) {
      if (!x.write && !y.write) continue;
      if (x.span.end <= y.span.begin || y.span.end <= x.span.begin) continue;
      if (overlap(x.pieces(), y.pieces(), where)) return false;
    }
  }
  return true;
}

/// What the list's order hides: two steps that may run at the same time, one of which writes what the other touches.
void Check::unordered_steps_keep_apart(const Before& before) {
  std::vector<std::vector<Access>> accesses(schedule_.steps);
  for (std::uint32_t step = 0; step < schedule_.steps; ++step) {
    const auto add = [&](const Window& window, bool write) {
      Access access = {&window, write, {}, false, {}};
      span_of(window, arena_bytes_, access.span);
      accesses[step].push_back(std::move(access));
    };
    for (const Read& read : steps_[step].reads) add(read.window, false);
    for (const Window& window : steps_[step].writes) add(window, true);
  }
  Run where;
  for (std::uint32_t late = 0; late < schedule_.steps; ++late) {
    for (std::uint32_t early = 0; early < late && !full(); ++early) {
      if (before(early, late) || keep_apart(accesses[early], accesses[late], where)) continue;
      report(writer_name(early) + " and " + writer_name(late) + " both access " + range(where) +
             ", at least one writes, and the schedule does not order them");
    }
  }
}

void Check::storages_are_ordered(const Before& before) {
  std::vector<std::size_t> by_offset;
  for (std::size_t i = 0; i < storages_.size(); ++i) {
    if (storages_[i].size != 0) by_offset.push_back(i);
  }
  std::stable_sort(by_offset.begin(), by_offset.end(),
                   [&](std::size_t a, std::size_t b) { return storages_[a].offset < storages_[b].offset; });
  const auto all_before = [&](const StorageUse& a, const StorageUse& b) {
    return std::all_of(a.accesses.begin(), a.accesses.end(), [&](std::uint32_t x) {
      return std::all_of(b.accesses.begin(), b.accesses.end(), [&](std::uint32_t y) { return before(x, y); });
    });
  };
  for (std::size_t i = 0; i < by_offset.size(); ++i) {
    const StorageUse& a = storages_[by_offset[i]];
    for (std::size_t j = i + 1; j < by_offset.size() && !full(); ++j) {
      const StorageUse& b = storages_[by_offset[j]];
      if (b.offset - a.offset >= a.size) break;
      if (all_before(a, b) || all_before(b, a)) continue;
      report("storages " + std::to_string(by_offset[i]) + " and " + std::to_string(by_offset[j]) + " share " +
             range({b.offset, std::min(a.offset + a.size, b.offset + b.size)}) +
             ", but the schedule does not order their accesses");
    }
  }
}

}  // namespace

std::vector<std::string> check(std::uint64_t arena_bytes, const Schedule& schedule,
                               const std::vector<StepAccess>& steps, const std::vector<StorageUse>& storages) {
  return Check(arena_bytes, schedule, steps, storages).run();
}

}  // namespace edgert::memory
