// SPDX-License-Identifier: Apache-2.0
// How operators pass on extents that only a run knows (ir::Extent). The kernels see the actual extents, so an operator
// needs no more than a rule that says which dimensions of its results are which of its operands.
#pragma once

#include <vector>

#include "ops/infer.h"

namespace edgert::ops {

using Extents = std::vector<std::vector<ir::OutputExtent>>;

/// Whether any operand has a bounded extent.
bool any_bounded(const InferContext& context);
/// Stops with a reason when input `i` has one.
void refuse_bounded(const InferContext& context, std::size_t i, const char* what);

/// Whether two values, which hold extents, are the same number in every run: they are computed alike from the same
/// values, or are the same sum of extents.
bool same_extent(const ir::Graph& graph, ir::ValueId a, ir::ValueId b);
/// The same for all bounded dimensions of two values.
bool same_extents(const ir::Graph& graph, const std::vector<ir::Extent>& a, const std::vector<ir::Extent>& b);

/// One output with the dims of all inputs: a dimension is bounded by the same extent in every input, or in none.
Extents elementwise_extents(const InferContext& context);
/// One output whose dimension `d` is dimension `of[d]` of input 0; -1: a new one. What input 0 has elsewhere is
/// consumed (reduced). The other inputs have none.
Extents mapped_extents(const InferContext& context, const std::vector<int>& of);

/// Adds a node whose outputs have extents that only a run knows; of constants the results are constants of the extents
/// that they really have. Returns the outputs.
std::vector<ir::ValueId> emit_bounded(OnnxNode& node, const OperatorDef& op, const std::vector<ir::ValueId>& operands,
                                      const ir::AttributeBlob& attributes);

}  // namespace edgert::ops
