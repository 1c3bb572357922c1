// SPDX-License-Identifier: Apache-2.0
// Measuring: the tactics for one piece of work, each alone, and a network with one tactic for each piece.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "tune/records.h"
#include "tune/worker_process.h"

namespace edgert::tune {

/// One piece of work and the ways to do it.
struct Problem {
  std::string signature;
  struct Alternative {
    Tactic tactic;
    std::function<Job()> job;  ///< called when its turn comes
  };
  std::vector<Alternative> alternatives;  ///< the most promising first
};

/// A record with where it was measured; the rest is filled in.
struct Stamp {
  Record record;
};
Stamp make_stamp(const Device& device, const Scope& scope);

/// Runs all alternatives, one after the other, and gives a record of each to `found`: right ones with their times, others
/// with the reason. What is far slower than the best so far is timed in a few samples only.
void measure(Worker& worker, const Problem& problem, const Stamp& stamp, const std::function<void(const Record&)>& found);

/// A network whose pieces can be computed in several ways.
struct Network {
  struct Piece {
    std::vector<std::size_t> ways;  ///< right alternatives, the fastest alone first
    std::size_t estimated = 0;      ///< what the model would take
    double share_us = 0;            ///< time alone of the fastest way, in all places where the piece occurs
    bool fixed = false;             ///< ways[0] it is
  };
  std::vector<Piece> pieces;
  /// Runs the network with one alternative for each piece.
  std::function<Result(const std::vector<std::size_t>&)> time;
};

struct NetworkChoice {
  std::vector<std::size_t> alternatives;  ///< for each piece
  double untuned_us = 0, tuned_us = 0;    ///< with the model's choices, and with these; 0: the network did not run
  std::size_t trials = 0;
};

/// The fastest that is found before time is over. It starts from the better of the model's choices and of each piece's
/// fastest alone, and swaps one piece's tactic at a time, those with the largest share of the time first, for as long as
/// that helps: the best alone is not always the best beside its neighbours, whose blocks share the device with its own.
NetworkChoice choose_in_network(const Network& network, double seconds, const std::function<void(std::size_t trials, double best_us)>& progress);

}  // namespace edgert::tune
