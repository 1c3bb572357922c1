// SPDX-License-Identifier: Apache-2.0
#include "families/depthwise_block.h"

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using ir::kNone;
using ir::Node;
using ir::NodeId;

std::int32_t to_int(std::int64_t value) { return static_cast<std::int32_t>(value); }

/// A convolution of each pixel by itself, all of them.
bool is_widening(const Context& context, const Node* node) {
  if (node == nullptr || node->op != &ops::kConv) return false;
  const auto& a = node->as<cpu::ConvAttributes>();
  const Operand x = context.input(*node, 0);
  const Operand y = context.operand(node->outputs[0]);
  return a.groups == 1 && a.kernel[0] == 1 && a.kernel[1] == 1 && x.dims[2] == y.dims[2] && x.dims[3] == y.dims[3] && a.pad_begin[0] == 0 &&
         a.pad_begin[1] == 0;
}

/// Takes the 1x1 convolution that makes all that the depthwise one reads; else says why not.
const char* find_widening(const Context& context, const Node& depthwise, DepthwiseBlock& block) {
  const ir::Graph& graph = context.graph();
  if (!is_widening(context, graph.producer(depthwise.inputs[0]))) return "no 1x1 convolution makes what it reads";
  const NodeId id = context.sole_producer(depthwise.inputs[0]);
  if (id == kNone) return "others read the widened tensor, or it is computed with something else";
  const Node& node = graph.node(id);
  const auto& a = node.as<cpu::ConvAttributes>();
  const Operand x = context.input(node, 0);
  const auto pitch = vector_pixel_pitch(x);
  if (!pitch || context.operand(node.outputs[0]).dtype != DType::F16) return "its tensors are not pixels of f16 in multiples of eight channels";
  if (!context.input(node, 1).constant) return "the widening weights are not constant";
  if (has_residual(context, node)) return "the widening convolution adds a residual";
  if (const char* problem = epilogue_problem(context, node, a.epilogue)) return problem;
  block.widening = id;
  block.x = x;
  block.shape.channels = to_int(x.dims[1]), block.shape.input_pitch = *pitch;
  block.shape.expand = a.epilogue;
  return nullptr;
}

}  // namespace

std::optional<std::int32_t> vector_pixel_pitch(const Operand& x) {
  const auto pitch = pixel_pitch(x);
  const bool usable = pitch && x.dtype == DType::F16 && !x.constant && x.dims[1] % 8 == 0 && loads_by_eight(x, *pitch);
  return usable ? pitch : std::nullopt;
}

const char* widening_problem(const Context& context, NodeId id) {
  const Node& node = context.graph().node(id);
  if (node.op != &ops::kDepthwiseConv || !is_widening(context, context.graph().producer(node.inputs[0]))) return nullptr;
  DepthwiseBlock block;
  const char* problem = find_widening(context, node, block);
  return problem != nullptr ? problem : "the depthwise convolution adds, is dilated, not square, or not f16 in multiples of eight";
}

std::optional<DepthwiseBlock> find_depthwise_block(const Context& context, NodeId id, bool alone) {
  if (id == kNone) return std::nullopt;
  const Node& node = context.graph().node(id);
  if (node.op != &ops::kDepthwiseConv) return std::nullopt;
  const auto& a = node.as<cpu::DepthwiseConvAttributes>();
  DepthwiseBlock block;
  block.depthwise = id;
  block.y = context.operand(node.outputs[0]);
  const Operand hidden = context.input(node, 0);
  const auto pitch = vector_pixel_pitch(block.y);
  const bool square = a.kernel[0] == a.kernel[1] && a.stride[0] == a.stride[1] && a.dilation[0] == 1 && a.dilation[1] == 1;
  if (!pitch || !square || !context.input(node, 1).constant || has_residual(context, node) || !fits_int32(hidden)) return std::nullopt;
  if (epilogue_problem(context, node, a.epilogue) != nullptr) return std::nullopt;
  codegen::ExpandShape& s = block.shape;
  s.batch = to_int(hidden.dims[0]), s.hidden = to_int(hidden.dims[1]), s.height = to_int(hidden.dims[2]), s.width = to_int(hidden.dims[3]);
  s.out_height = to_int(block.y.dims[2]), s.out_width = to_int(block.y.dims[3]);
  s.window = a.kernel[0], s.stride = a.stride[0], s.pad[0] = a.pad_begin[0], s.pad[1] = a.pad_begin[1];
  s.output_pitch = *pitch;
  s.epilogue = a.epilogue;
  if (find_widening(context, node, block) == nullptr) return block;
  const auto input_pitch = vector_pixel_pitch(hidden);
  if (!alone || !input_pitch) return std::nullopt;
  block.x = hidden;
  s.channels = s.hidden, s.input_pitch = *input_pitch;
  return block;
}

}  // namespace edgert::families
