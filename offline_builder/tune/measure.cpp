// SPDX-License-Identifier: Apache-2.0
#include "tune/measure.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

namespace edgert::tune {
namespace {

constexpr double kHopeless = 1.5;     ///< times the best so far
constexpr double kGain = 0.001;       ///< of the network's time: less is noise
constexpr std::size_t kWays = 3;      ///< of a piece that are tried in the network, beside the model's
constexpr int kRounds = 3;            ///< over all pieces

std::string version_text(std::uint32_t driver) { return std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10); }

class Search {
 public:
  Search(const Network& network, double seconds, const std::function<void(std::size_t, double)>& progress)
      : network_(network), progress_(progress), end_(Clock::now() + std::chrono::milliseconds(static_cast<long long>(seconds * 1000))) {}

  NetworkChoice run() {
    std::vector<std::size_t> estimated, fastest;
    for (const Network::Piece& piece : network_.pieces) {
      estimated.push_back(piece.fixed ? piece.ways.at(0) : piece.estimated);
      fastest.push_back(piece.ways.at(0));
    }
    best_ = fastest;
    choice_.untuned_us = time(estimated);
    best_us_ = estimated == fastest ? choice_.untuned_us : time(fastest);
    if (choice_.untuned_us < best_us_) best_ = estimated, best_us_ = choice_.untuned_us;
    bool changed = true;
    for (int round = 0; round < kRounds && changed && !over(); ++round) changed = improve();
    choice_.alternatives = best_;
    choice_.tuned_us = best_us_;
    for (double* time : {&choice_.untuned_us, &choice_.tuned_us}) {
      if (!std::isfinite(*time)) *time = 0;
    }
    return choice_;
  }

 private:
  using Clock = std::chrono::steady_clock;

  bool over() const { return Clock::now() >= end_; }

  double time(const std::vector<std::size_t>& alternatives) {
    const Result result = network_.time(alternatives);
    ++choice_.trials;
    return result.verdict == Verdict::Good ? result.warm.median : std::numeric_limits<double>::infinity();
  }

  /// One round over all pieces; whether anything got better.
  bool improve() {
    std::vector<std::size_t> order(network_.pieces.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) { return network_.pieces[a].share_us > network_.pieces[b].share_us; });
    bool changed = false;
    for (const std::size_t p : order) {
      const Network::Piece& piece = network_.pieces[p];
      if (piece.fixed) continue;
      std::vector<std::size_t> ways(piece.ways.begin(), piece.ways.begin() + static_cast<std::ptrdiff_t>(std::min(kWays, piece.ways.size())));
      if (std::find(piece.ways.begin(), piece.ways.end(), piece.estimated) != piece.ways.end()) ways.push_back(piece.estimated);
      for (const std::size_t way : ways) {
        if (way == best_[p]) continue;
        if (over()) return changed;
        changed = try_way(p, way) || changed;
        if (progress_) progress_(choice_.trials, best_us_);
      }
    }
    return changed;
  }

  bool try_way(std::size_t piece, std::size_t way) {
    std::vector<std::size_t> other = best_;
    other[piece] = way;
    const double wanted = best_us_ * (1 - kGain);
    if (!(time(other) < wanted)) return false;
    // Once more, and the old choice beside it: clocks drift.
    const double again = time(other), before = time(best_);
    if (!(again < before * (1 - kGain))) return false;
    best_ = std::move(other);
    best_us_ = again;
    return true;
  }

  const Network& network_;
  const std::function<void(std::size_t, double)>& progress_;
  Clock::time_point end_;
  NetworkChoice choice_;
  std::vector<std::size_t> best_;
  double best_us_ = 0;
};

}  // namespace

Stamp make_stamp(const Device& device, const Scope& scope) {
  Stamp stamp;
  Record& r = stamp.record;
  r.sm = scope.sm, r.multiprocessors = scope.multiprocessors, r.nvrtc = scope.nvrtc, r.profile = scope.profile;
  r.device = device.name, r.driver = version_text(device.driver);
  r.clock_khz = device.clock_khz, r.memory_clock_khz = device.memory_clock_khz;
  return stamp;
}

void measure(Worker& worker, const Problem& problem, const Stamp& stamp, const std::function<void(const Record&)>& found) {
  double best = 0;
  for (const Problem::Alternative& alternative : problem.alternatives) {
    Job job = alternative.job();
    if (job.request.rounds > 0) job.request.hopeless_us = best * kHopeless;
    const Result result = worker.run(job);
    Record record = stamp.record;
    record.signature = problem.signature;
    record.tactic = alternative.tactic.name, record.kernel = alternative.tactic.kernel;
    record.verdict = to_string(result.verdict);
    record.detail = result.detail;
    record.median_us = result.warm.median, record.low_us = result.warm.low, record.high_us = result.warm.high;
    record.cold_us = result.cold.median;
    found(record);
    if (record.ok() && (best == 0 || record.median_us < best)) best = record.median_us;
  }
}

NetworkChoice choose_in_network(const Network& network, double seconds, const std::function<void(std::size_t, double)>& progress) {
  return Search(network, seconds, progress).run();
}

}  // namespace edgert::tune
