// SPDX-License-Identifier: Apache-2.0
// Which buffers of a problem must not share bytes, as a bit matrix, and sets of buffers that pairwise must not: what
// the heuristics, the exact search and the lower bound of the planner stand on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory/planner.h"

namespace edgert::memory {

/// Rows of bits.
class BitMatrix {
 public:
  BitMatrix(std::size_t rows, std::size_t columns) : words_((columns + 63) / 64), bits_(rows * words_) {}

  std::size_t words() const { return words_; }
  bool test(std::size_t row, std::size_t column) const { return (this->row(row)[column / 64] >> (column % 64)) & 1; }
  void set(std::size_t row, std::size_t column) { this->row(row)[column / 64] |= std::uint64_t{1} << (column % 64); }
  const std::uint64_t* row(std::size_t index) const { return bits_.data() + index * words_; }
  std::uint64_t* row(std::size_t index) { return bits_.data() + index * words_; }

 private:
  std::size_t words_;
  std::vector<std::uint64_t> bits_;
};

/// Indices of buffers, pairwise in conflict.
using Clique = std::vector<std::uint32_t>;

/// Throws std::invalid_argument when steps, lifetimes, alignments or dependencies make no sense.
void validate(const Problem& problem);

/// Bit (a, b): the buffers must not share bytes. Symmetric; empty buffers conflict with nothing.
BitMatrix conflicts(const Problem& problem);

/// For a sequential schedule every maximal clique: what is live at one step. Otherwise, since finding all would be
/// exponential, one maximal clique grown greedily from each buffer, without repetitions.
std::vector<Clique> cliques(const Problem& problem, const BitMatrix& conflict);

/// No arena in which the clique's buffers lie disjoint and aligned is smaller. Throws std::overflow_error when that is
/// 2^63 or more.
std::uint64_t clique_bytes(const Problem& problem, const Clique& clique);

}  // namespace edgert::memory
