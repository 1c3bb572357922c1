// SPDX-License-Identifier: Apache-2.0
// Depthwise convolutions with what stands around them in mobile networks, as the families of kernels find them in a graph.
#pragma once

#include <optional>

#include "codegen/expand_kernel.h"
#include "families/dense.h"

namespace edgert::families {

/// A depthwise convolution and the 1x1 convolution before it, if that can be computed with it.
struct DepthwiseBlock {
  ir::NodeId depthwise = ir::kNone, widening = ir::kNone;
  Operand x, y;
  codegen::ExpandShape shape;
};

/// The block whose depthwise convolution is `id` (kNone for none). Without a widening convolution, and if `alone` allows
/// it, shape.channels are the hidden ones, which are read as they are.
std::optional<DepthwiseBlock> find_depthwise_block(const Context& context, ir::NodeId id, bool alone);

/// Why the depthwise convolution `id` is computed without the 1x1 convolution that makes what it reads; null where there is
/// no such convolution.
const char* widening_problem(const Context& context, ir::NodeId id);

/// Pitch of pixels of f16 that are loaded and stored by eight channels.
std::optional<std::int32_t> vector_pixel_pitch(const Operand& x);

/// A convolution's or product's bias.
inline ir::ValueId bias_of(const ir::Node& node) { return node.inputs.size() > 2 ? node.inputs[2] : ir::kNone; }
inline bool has_residual(const Context& context, const ir::Node& node) { return context.input(node, 3).present(); }

}  // namespace edgert::families
