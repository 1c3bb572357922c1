// SPDX-License-Identifier: Apache-2.0
#include "plan/proof.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "memory/checker.h"

namespace edgert::plan {
namespace {

class Player {
 public:
  explicit Player(const ProfileSpec& profile) : profile_(profile), uses_(profile.storages.size()) {}

  void play(const std::vector<Played>& steps) {
    for (const Played& step : steps) play(step);
  }

  void read_finally(const std::vector<PlayedRead>& reads) {
    begin();
    read(reads);
  }

  void check() {
    close_uses(0);
    memory::Schedule schedule;
    schedule.steps = static_cast<std::uint32_t>(accesses_.size());
    const std::vector<std::string> faults = memory::check(profile_.arena.bytes, schedule, accesses_, closed_);
    if (!faults.empty()) throw std::logic_error("the memory plan is wrong: " + faults.front());
  }

 private:
  void play(const Played& step) {
    begin();
    read(step.reads);
    write(step);
    for (int turn = 0; !step.bodies.empty() && turn < (step.repeats ? 2 : 1); ++turn) {
      const auto first = static_cast<std::uint32_t>(accesses_.size());
      for (const Played::Body& body : step.bodies) {
        play(body.steps);
        begin();
        read(body.results);
        // A loop puts together what its body made; an If's bodies have written the results themselves.
        if (step.repeats) write(step);
      }
      close_uses(first);
    }
    if (step.bodies.empty()) return;
    begin();
    // What the operands hold is needed until the last body has run.
    read(step.reads);
    write(step);
  }

  void begin() { accesses_.emplace_back(); }
  std::uint32_t now() const { return static_cast<std::uint32_t>(accesses_.size() - 1); }

  void use(std::uint32_t storage) {
    std::vector<std::uint32_t>& steps = uses_[storage];
    if (steps.empty() || steps.back() != now()) steps.push_back(now());
  }

  /// Ends the uses of the storages that nothing has touched before step `first`: what a body keeps to itself lives for
  /// one turn, and in the next turn anew.
  void close_uses(std::uint32_t first) {
    for (std::size_t i = 0; i < uses_.size(); ++i) {
      if (uses_[i].empty() || uses_[i].front() < first) continue;
      closed_.push_back({profile_.storages[i].offset, profile_.storages[i].size, std::move(uses_[i])});
      uses_[i].clear();
    }
  }

  /// A tensor's place in the arena in bytes; false when it lies elsewhere.
  bool window_of(std::uint32_t index, memory::Window& window) {
    const TensorSpec& tensor = profile_.tensors[index];
    const StorageSpec& storage = profile_.storages[tensor.storage];
    if (storage.region != Region::Arena) return false;
    use(tensor.storage);
    window.offset = storage.offset + tensor.offset;
    if (bits_of(tensor.type.dtype) % 8 != 0) {  // packed, and so a run of whole bytes
      window.element_bytes = 1;
      window.dims = {static_cast<std::int64_t>(ir::dense_bytes(tensor.type))};
      window.strides = {1};
      return true;
    }
    window.element_bytes = bits_of(tensor.type.dtype) / 8;
    window.dims = tensor.type.dims;
    for (const std::int64_t stride : tensor.strides) {
      window.strides.push_back(stride * static_cast<std::int64_t>(window.element_bytes));
    }
    return true;
  }

  void read(const std::vector<PlayedRead>& reads) {
    for (const PlayedRead& each : reads) {
      memory::Read read;
      if (!window_of(each.tensor, read.window)) continue;
      // In a loop the last time that the maker ran counts: what it made a turn ago is stale.
      for (const std::uint32_t maker : each.makers) read.producers.push_back(last_run_.at(maker));
      read.until_end = each.until_end;
      accesses_.back().reads.push_back(std::move(read));
    }
  }

  void write(const Played& step) {
    for (const std::uint32_t tensor : step.writes) {
      memory::Window window;
      if (window_of(tensor, window)) accesses_.back().writes.push_back(std::move(window));
    }
    last_run_[step.number] = now();
  }

  const ProfileSpec& profile_;
  std::vector<memory::StepAccess> accesses_;
  std::vector<std::vector<std::uint32_t>> uses_;     ///< steps that touch each storage, of the use that is under way
  std::vector<memory::StorageUse> closed_;
  std::map<std::uint32_t, std::uint32_t> last_run_;  ///< by step number
};

}  // namespace

void prove(const ProfileSpec& profile, const std::vector<Played>& steps, const std::vector<PlayedRead>& finally) {
  Player player(profile);
  player.play(steps);
  player.read_finally(finally);
  player.check();
}

}  // namespace edgert::plan
