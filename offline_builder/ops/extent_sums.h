// SPDX-License-Identifier: Apache-2.0
// Integers that models compute from extents which only a run knows: "300 - n", "n * 6". Where such a number decides an
// extent, what matters is whether the run cancels out of it, or which extent it is.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "ops/bounded.h"

namespace edgert::ops {

/// constant + sum of factor * extent; extents are named by the value that holds the actual one (ir::Extent::actual) and
/// are 0 or more. Factors are never 0.
struct ExtentSum {
  std::int64_t constant = 0;
  std::map<ir::ValueId, std::int64_t> factors;

  bool is_known() const { return factors.empty(); }
  /// The one extent that this is; kNone when it is something else.
  ir::ValueId extent() const {
    return constant == 0 && factors.size() == 1 && factors.begin()->second == 1 ? factors.begin()->first : ir::kNone;
  }
  bool operator==(const ExtentSum& other) const { return constant == other.constant && factors == other.factors; }
};

/// The elements of an integer or bool tensor in row-major order; nothing when one of them is something else.
std::optional<std::vector<ExtentSum>> extent_sums(const ir::Graph& graph, ir::ValueId x);
/// Dimension `dim` of x.
std::optional<ExtentSum> extent_sum(const ir::Graph& graph, ir::ValueId x, std::size_t dim);
/// An integer or bool tensor as a constant where its elements are the same in every run; else `x` itself.
ir::ValueId known_elements(OnnxNode& node, ir::ValueId x);
/// a + factor * b; nothing when a number leaves int64.
std::optional<ExtentSum> plus(const ExtentSum& a, const ExtentSum& b, std::int64_t factor = 1);
/// The most that a sum of at least 0 can be; nothing when a term is subtracted or has no bound.
std::optional<std::int64_t> largest_sum(const ir::Graph& graph, const ExtentSum& sum);
/// The most that the extent held by `actual` can be; nothing for kNone and for values that hold none.
std::optional<std::int64_t> largest_extent(const ir::Graph& graph, ir::ValueId actual);

}  // namespace edgert::ops
