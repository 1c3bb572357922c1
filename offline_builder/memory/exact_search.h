// SPDX-License-Identifier: Apache-2.0
// Exhaustive search for a placement within a given arena, bounded in search nodes.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/conflicts.h"
#include "memory/planner.h"

namespace edgert::memory {

/// Branch and bound over the order of offsets, in the way of MiniMalloc (Moffitt, ASPLOS 2023), generalised from
/// intervals to conflict graphs.
///
/// Take the solution with the smallest sum of offsets. In it every buffer lies at 0 or on a buffer that it conflicts
/// with (else it could sink), so that taking buffers by ascending offset, each one's offset follows from those before:
/// its floor, the highest end among its conflicts so far. The search therefore only chooses which buffer is next, and
///  - offsets never descend along a branch, equal ones go by rank;
///  - a next offset at or above the floor + size of an unplaced buffer is no candidate, since that buffer would fit
///    below and could sink there;
///  - of two buffers alike in size, alignment and conflicts the one of lower rank goes first;
///  - buffers left over that have no conflicts across fall into parts that are solved one by one;
///  - a clique that cannot fit above its members' floors ends the branch.
class ExactSearch {
 public:
  enum class Outcome { Found, Impossible, OutOfNodes };

  /// `order` holds every buffer with bytes: candidates are tried in that order. Sizes and alignments up to 2^60.
  ExactSearch(const Problem& problem, const BitMatrix& conflict, const std::vector<Clique>& cliques,
              const std::vector<std::uint32_t>& order);

  /// Looks for a placement of at most `capacity` bytes. `nodes` is lowered by what was spent; a node of a big problem
  /// may count as several, in proportion to what it updates. `offsets` is written when the outcome is Found.
  Outcome search(std::uint64_t capacity, std::uint64_t& nodes, std::vector<std::uint64_t>& offsets);

 private:
  /// Buffers are numbered by rank here, their place in `order`.
  using Rank = std::uint32_t;
  struct Item {
    std::uint64_t size;
    std::uint64_t alignment;
    std::uint64_t floor;
    std::uint64_t offset;
    Rank twin;  ///< the next lower rank that is alike, or its own
    bool placed;
    std::vector<std::uint32_t> cliques;
  };
  struct Group {
    std::vector<Rank> members;
    std::uint64_t alignment;
    std::uint64_t slack;
    std::uint64_t visited = 0;
  };
  struct Undo {
    Rank rank;
    bool placement;
    std::uint64_t floor;
  };

  void find_twins();
  bool solve(const std::vector<Rank>& unplaced, std::uint64_t last_offset, Rank last_rank);
  bool branch(const std::vector<Rank>& part, std::uint64_t last_offset, Rank last_rank);
  std::vector<std::vector<Rank>> split(const std::vector<Rank>& unplaced);
  bool place(Rank rank, const std::vector<Rank>& part);
  bool group_fits(Group& group, std::uint64_t last_offset);
  void undo_to(std::size_t mark);

  std::vector<std::uint32_t> order_;
  std::vector<Item> items_;
  std::vector<Group> groups_;
  BitMatrix conflict_;
  std::vector<Undo> undo_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> floors_;  ///< scratch of group_fits
  std::uint64_t capacity_ = 0;
  std::uint64_t visit_ = 0;
  std::uint64_t nodes_ = 0;
  std::uint64_t work_ = 0;
  std::uint64_t limit_ = 0;
  bool exhausted_ = false;  ///< the node limit was reached
};

}  // namespace edgert::memory
