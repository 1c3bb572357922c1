// SPDX-License-Identifier: Apache-2.0
// What InvertedResidual and StemBlock share: all but how the wide image is made.
#pragma once

#include <string>

#include "edgert/cpu/ops/inverted_residual.h"
#include "ops/infer.h"

namespace edgert::ops {

/// Checks types and extents of all operands but the first convolution's weights, and gives the type of y. `wide`: the image
/// between the convolutions, [N, E, H, W].
ir::TensorType infer_block(const InferContext& context, const cpu::InvertedResidualAttributes& attributes, const ir::Dims& wide);

std::string describe_block(const cpu::InvertedResidualAttributes& attributes);

/// Multiply-adds, no more than make as many parts as rows of results are worth. `depth`: products of an element of the wide
/// image, 0 where that is the input.
std::uint64_t block_work(const InferContext& context, const cpu::InvertedResidualAttributes& attributes, const ir::Dims& wide,
                         const ir::Dims& y, std::int64_t depth);

/// Packs all weights; those of the first convolution, [E, C, kh, kw], as [1, C * kh * kw, E].
void pack_block(ir::Graph& graph, ir::NodeId id);

}  // namespace edgert::ops
