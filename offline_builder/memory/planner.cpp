// SPDX-License-Identifier: Apache-2.0
// Runs the placement methods one after the other, cheap ones first, and keeps the smallest result.
#include "memory/planner.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "memory/conflicts.h"
#include "memory/exact_search.h"
#include "memory/heuristics.h"

namespace edgert::memory {
namespace {

/// Bounds that keep the exact search's arithmetic far from wrapping and its tables small; greedy results stand beyond.
constexpr std::uint64_t kLargestExactBytes = std::uint64_t{1} << 60;
constexpr std::size_t kMostExactBuffers = 4096;

std::uint64_t highest_end(const Problem& problem, const std::vector<std::uint64_t>& offsets) {
  std::uint64_t result = 0;
  for (std::size_t b = 0; b < offsets.size(); ++b) result = std::max(result, offsets[b] + problem.buffers[b].size);
  return result;
}

/// Narrows the interval between what is impossible and what was found, in units of which every size and alignment is a
/// multiple.
class Bisection {
 public:
  Bisection(const Problem& problem, const BitMatrix& conflict, const std::vector<Clique>& all_cliques,
            const std::vector<Order>& orders, std::uint64_t nodes, Placement& best)
      : problem_(problem), nodes_(nodes), best_(best), offsets_(best.offsets) {
    for (std::size_t i = 0; i < kOrders; ++i) searches_.emplace_back(problem, conflict, all_cliques, orders[i].buffers);
    for (const Buffer& buffer : problem.buffers) unit_ = std::gcd(unit_, std::gcd(buffer.size, buffer.alignment));
  }

  /// Returns whether best is proved optimal.
  bool run() {
    const std::uint64_t share = std::max<std::uint64_t>(nodes_ / 16, 1);
    possible_ = round_up(best_.lower_bound);
    // The lower bound itself is met more often than not.
    for (std::size_t i = 0; i < kOrders && nodes_ > 0 && possible_ < best_.bytes; ++i) {
      if (attempt(possible_, share, i) != ExactSearch::Outcome::OutOfNodes) break;
    }
    std::uint64_t low = possible_;
    for (std::size_t turn = 0; nodes_ > 0 && low < best_.bytes; ++turn) {
      const std::uint64_t capacity = low + (best_.bytes - unit_ - low) / unit_ / 2 * unit_;
      if (attempt(capacity, share, turn % kOrders) != ExactSearch::Outcome::Found) low = capacity + unit_;
    }
    // What is left of the nodes goes into the smallest improvement, or the proof that there is none.
    while (nodes_ > 0 && possible_ < best_.bytes) attempt(best_.bytes - unit_, nodes_, 0);
    return possible_ >= best_.bytes;
  }

 private:
  static constexpr std::size_t kOrders = 4;

  std::uint64_t round_up(std::uint64_t bytes) const { return (bytes + unit_ - 1) / unit_ * unit_; }

  ExactSearch::Outcome attempt(std::uint64_t capacity, std::uint64_t share, std::size_t order) {
    const std::uint64_t given = std::min(share, nodes_);
    std::uint64_t left = given;
    const ExactSearch::Outcome outcome = searches_[order].search(capacity, left, offsets_);
    // An attempt costs at least one node, so that a sequence of free ones ends too.
    nodes_ -= std::max<std::uint64_t>(given - left, 1);
    if (outcome == ExactSearch::Outcome::Impossible) possible_ = std::max(possible_, capacity + unit_);
    if (outcome == ExactSearch::Outcome::Found) {
      best_.offsets = offsets_;
      best_.bytes = highest_end(problem_, offsets_);
      best_.heuristic = "exact search";
    }
    return outcome;
  }

  const Problem& problem_;
  std::uint64_t nodes_;
  Placement& best_;
  std::vector<std::uint64_t> offsets_;
  std::vector<ExactSearch> searches_;
  std::uint64_t unit_ = 0;
  std::uint64_t possible_ = 0;  ///< nothing smaller is possible
};

/// The best of the greedy placements. Returns which of `all` it came from.
std::size_t best_greedy(const Problem& problem, const BitMatrix& conflict, const std::vector<Order>& all,
                        Placement& best) {
  std::vector<std::uint64_t> offsets;
  std::uint64_t bytes = 0;
  std::size_t winner = all.size();
  for (const Fit fit : {Fit::Smallest, Fit::Lowest}) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!place(problem, conflict, all[i].buffers, fit, offsets, bytes)) continue;
      if (winner != all.size() && bytes >= best.bytes) continue;
      best.offsets = offsets;
      best.bytes = bytes;
      best.heuristic = all[i].name + (fit == Fit::Lowest ? ", lowest fit" : "");
      winner = i;
      if (bytes == best.lower_bound) return winner;
    }
  }
  if (winner == all.size()) throw std::overflow_error("memory plan: the buffers don't fit 2^63 bytes");
  return winner;
}

}  // namespace

Placement plan(const Problem& problem, const PlannerOptions& options) {
  validate(problem);
  const BitMatrix conflict = conflicts(problem);
  const std::vector<Clique> all_cliques = cliques(problem, conflict);
  Placement best;
  for (const Clique& clique : all_cliques) best.lower_bound = std::max(best.lower_bound, clique_bytes(problem, clique));

  const std::vector<Order> all_orders = orders(problem, conflict);
  const std::size_t winner = best_greedy(problem, conflict, all_orders, best);
  const std::uint64_t greedy_bytes = best.bytes;
  hill_climb(problem, conflict, all_orders[winner].buffers, best.lower_bound, best.offsets, best.bytes);
  if (best.bytes < greedy_bytes) best.heuristic = "hill climbing";
  best.optimal = best.bytes == best.lower_bound;
  if (best.optimal || best.bytes > kLargestExactBytes || problem.buffers.size() > kMostExactBuffers) return best;

  best.optimal = Bisection(problem, conflict, all_cliques, all_orders, options.exact_search_nodes, best).run();
  return best;
}

}  // namespace edgert::memory
