// SPDX-License-Identifier: Apache-2.0
// The branch and bound behind the planner's proofs of optimality.
#include "memory/exact_search.h"

#include <algorithm>
#include <functional>

#include "edgert/checked.h"

namespace edgert::memory {
namespace {

/// Elementary updates that one search node stands for: a node that makes more counts as more.
constexpr std::uint64_t kWorkPerNode = 192;

std::uint64_t lowest_bit(std::uint64_t word) { return static_cast<std::uint64_t>(__builtin_ctzll(word)); }

}  // namespace

ExactSearch::ExactSearch(const Problem& problem, const BitMatrix& conflict, const std::vector<Clique>& cliques,
                         const std::vector<std::uint32_t>& order)
    : order_(order), conflict_(order.size(), order.size()) {
  std::vector<Rank> rank_of(problem.buffers.size(), 0);
  for (Rank rank = 0; rank < order.size(); ++rank) {
    const Buffer& buffer = problem.buffers[order[rank]];
    rank_of[order[rank]] = rank;
    items_.push_back({buffer.size, buffer.alignment, 0, 0, rank, false, {}});
  }
  for (Rank a = 0; a < order.size(); ++a) {
    for (Rank b = 0; b < order.size(); ++b) {
      if (conflict.test(order[a], order[b])) conflict_.set(a, b);
    }
  }
  for (const Clique& clique : cliques) {
    Group group = {{}, UINT64_MAX, 0};
    for (const std::uint32_t buffer : clique) {
      const Rank rank = rank_of[buffer];
      group.members.push_back(rank);
      group.alignment = std::min(group.alignment, items_[rank].alignment);
      items_[rank].cliques.push_back(static_cast<std::uint32_t>(groups_.size()));
    }
    for (const Rank rank : group.members) {
      group.slack = std::max(group.slack, align_up(items_[rank].size, group.alignment) - items_[rank].size);
    }
    groups_.push_back(std::move(group));
  }
  find_twins();
}

void ExactSearch::find_twins() {
  const auto alike = [&](Rank a, Rank b) {
    if (items_[a].size != items_[b].size || items_[a].alignment != items_[b].alignment) return false;
    // Their own two bits may differ: twins in conflict with each other are twins all the same.
    for (std::size_t w = 0; w < conflict_.words(); ++w) {
      std::uint64_t differ = conflict_.row(a)[w] ^ conflict_.row(b)[w];
      if (a / 64 == w) differ &= ~(std::uint64_t{1} << (a % 64));
      if (b / 64 == w) differ &= ~(std::uint64_t{1} << (b % 64));
      if (differ != 0) return false;
    }
    return true;
  };
  for (Rank b = 0; b < items_.size(); ++b) {
    for (Rank a = b; a-- > 0;) {
      if (!alike(a, b)) continue;
      items_[b].twin = a;
      break;
    }
  }
}

ExactSearch::Outcome ExactSearch::search(std::uint64_t capacity, std::uint64_t& nodes,
                                         std::vector<std::uint64_t>& offsets) {
  capacity_ = capacity;
  limit_ = nodes;
  nodes_ = 0;
  work_ = 0;
  exhausted_ = false;
  undo_.clear();
  std::vector<Rank> all;
  for (Rank rank = 0; rank < items_.size(); ++rank) {
    items_[rank].floor = 0;
    items_[rank].placed = false;
    all.push_back(rank);
  }
  bool found = std::all_of(items_.begin(), items_.end(), [&](const Item& item) { return item.size <= capacity; });
  found = found && std::all_of(groups_.begin(), groups_.end(), [&](Group& group) { return group_fits(group, 0); });
  found = found && solve(all, 0, 0);
  const std::uint64_t spent = std::max(nodes_, work_ / kWorkPerNode);
  nodes -= std::min(nodes, spent);
  if (!found) return exhausted_ ? Outcome::OutOfNodes : Outcome::Impossible;
  for (Rank rank = 0; rank < items_.size(); ++rank) offsets[order_[rank]] = items_[rank].offset;
  return Outcome::Found;
}

/// Parts of `unplaced` without conflicts across, small ones first: they are cheap to refute.
std::vector<std::vector<ExactSearch::Rank>> ExactSearch::split(const std::vector<Rank>& unplaced) {
  std::vector<std::uint64_t> open(conflict_.words(), 0);
  for (const Rank rank : unplaced) open[rank / 64] |= std::uint64_t{1} << (rank % 64);
  std::vector<std::vector<Rank>> parts;
  for (const Rank seed : unplaced) {
    if (((open[seed / 64] >> (seed % 64)) & 1) == 0) continue;
    open[seed / 64] &= ~(std::uint64_t{1} << (seed % 64));
    std::vector<Rank> part = {seed};
    for (std::size_t next = 0; next < part.size(); ++next) {
      const std::uint64_t* row = conflict_.row(part[next]);
      work_ += conflict_.words();
      for (std::size_t w = 0; w < conflict_.words(); ++w) {
        std::uint64_t reached = row[w] & open[w];
        open[w] &= ~reached;
        for (; reached != 0; reached &= reached - 1) part.push_back(static_cast<Rank>(w * 64 + lowest_bit(reached)));
      }
    }
    std::sort(part.begin(), part.end());
    parts.push_back(std::move(part));
  }
  std::stable_sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  return parts;
}

bool ExactSearch::solve(const std::vector<Rank>& unplaced, std::uint64_t last_offset, Rank last_rank) {
  if (unplaced.empty()) return true;
  const std::vector<std::vector<Rank>> parts = split(unplaced);
  return std::all_of(parts.begin(), parts.end(),
                     [&](const std::vector<Rank>& part) { return branch(part, last_offset, last_rank); });
}

bool ExactSearch::branch(const std::vector<Rank>& part, std::uint64_t last_offset, Rank last_rank) {
  std::uint64_t lowest_end = UINT64_MAX;
  for (const Rank rank : part) lowest_end = std::min(lowest_end, items_[rank].floor + items_[rank].size);
  work_ += part.size();
  for (const Rank rank : part) {
    const Item& item = items_[rank];
    if (item.floor >= lowest_end || item.floor < last_offset) continue;
    if (item.floor == last_offset && rank < last_rank) continue;
    if (item.twin != rank && std::binary_search(part.begin(), part.end(), item.twin)) continue;
    if (++nodes_ > limit_ || work_ / kWorkPerNode > limit_) {
      exhausted_ = true;
      return false;
    }
    const std::size_t mark = undo_.size();
    if (place(rank, part)) {
      std::vector<Rank> rest;
      rest.reserve(part.size() - 1);
      std::copy_if(part.begin(), part.end(), std::back_inserter(rest), [&](Rank other) { return other != rank; });
      if (solve(rest, item.offset, rank)) return true;
    }
    undo_to(mark);
    if (exhausted_) return false;
  }
  return false;
}

/// Puts a buffer on its floor and raises its conflicts'. False when what is left cannot fit any more.
bool ExactSearch::place(Rank rank, const std::vector<Rank>& part) {
  Item& item = items_[rank];
  undo_.push_back({rank, true, item.floor});
  item.placed = true;
  item.offset = item.floor;
  const std::uint64_t end = item.offset + item.size;
  const std::size_t mark = undo_.size();
  work_ += part.size();
  for (const Rank other : part) {
    Item& neighbour = items_[other];
    if (neighbour.placed || !conflict_.test(rank, other)) continue;
    const std::uint64_t floor = align_up(end, neighbour.alignment);
    if (floor <= neighbour.floor) continue;
    if (!in_range(floor, neighbour.size, capacity_)) return false;
    undo_.push_back({other, false, neighbour.floor});
    neighbour.floor = floor;
  }
  ++visit_;
  for (std::size_t i = mark; i < undo_.size(); ++i) {
    for (const std::uint32_t index : items_[undo_[i].rank].cliques) {
      Group& group = groups_[index];
      if (group.visited == visit_) continue;
      group.visited = visit_;
      if (!group_fits(group, item.offset)) return false;
    }
  }
  return true;
}

/// Whether the clique's unplaced members fit: those with the highest floors above the lowest of these, for every number
/// of them. No offset will be below `last_offset` any more.
bool ExactSearch::group_fits(Group& group, std::uint64_t last_offset) {
  floors_.clear();
  for (const Rank rank : group.members) {
    const Item& item = items_[rank];
    if (item.placed) continue;
    floors_.emplace_back(std::max(item.floor, last_offset), align_up(item.size, group.alignment));
  }
  work_ += group.members.size() + 6 * floors_.size();  // they are sorted
  std::sort(floors_.begin(), floors_.end(), std::greater<>());
  std::uint64_t sum = 0;
  for (const auto& [floor, size] : floors_) {
    sum += size;
    if (sum - group.slack > capacity_ || floor > capacity_ - (sum - group.slack)) return false;
  }
  return true;
}

void ExactSearch::undo_to(std::size_t mark) {
  while (undo_.size() > mark) {
    const Undo& entry = undo_.back();
    Item& item = items_[entry.rank];
    if (entry.placement) item.placed = false;
    item.floor = entry.floor;
    undo_.pop_back();
  }
}

}  // namespace edgert::memory
