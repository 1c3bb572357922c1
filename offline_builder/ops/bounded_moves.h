// SPDX-License-Identifier: Apache-2.0
// Views of tensors with extents that only a run knows which are no views: elements move to where the run's extents put
// them. Added to graphs by importers.
#pragma once

#include <vector>

#include "ops/extent_sums.h"

namespace edgert::ops {

/// x repeated to extents, of which some only a run knows: each of those must be one extent by itself.
ir::ValueId expand_to(OnnxNode& node, ir::ValueId x, const std::vector<ExtentSum>& sums);
/// A vector, of unspecified elements, whose only dimension has the extent held by `actual`.
ir::ValueId vector_of_extent(OnnxNode& node, ir::ValueId actual);
/// Elements start, start + step, ... before `end` along a bounded axis; start, end >= 0, step >= 1.
ir::ValueId slice_bounded(OnnxNode& node, ir::ValueId x, std::size_t axis, std::int64_t start, std::int64_t end, std::int64_t step);
/// Elements start, start + step, ... before `end`, numbers (integers, one element) that only a run knows; negative ones
/// count from the end of the axis, whose extent may be bounded. step >= 1.
ir::ValueId slice_at(OnnxNode& node, ir::ValueId x, std::size_t axis, ir::ValueId start, ir::ValueId end, std::int64_t step);
/// Operands, of which some are bounded along `axis`, one behind the other.
ir::ValueId concat_bounded(OnnxNode& node, const std::vector<ir::ValueId>& operands, std::size_t axis);
/// The first `count` slices (int64, one element) of x, whose extents the builder knows, along `axis`.
ir::ValueId first_of(OnnxNode& node, ir::ValueId x, std::size_t axis, ir::ValueId count);
/// x, whose only bounded dimension is the first, reshaped to `dims`, of which the first is a multiple of x's.
ir::ValueId join_bounded(OnnxNode& node, ir::ValueId x, const ir::Dims& dims);

}  // namespace edgert::ops
