// SPDX-License-Identifier: Apache-2.0
// DepthwiseConv: one filter a channel, or groups of a few channels. ONNX Conv becomes one where groups, input and output
// channels agree; choose_grouped makes the others.
#include "edgert/cpu/ops/depthwise_conv.h"

#include <algorithm>

#include "ops/epilogue.h"
#include "ops/pack.h"
#include "ops/window.h"

namespace edgert::ops {
namespace {

using cpu::DepthwiseConvAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::DepthwiseConv>();

/// Channels of a group, by the weights.
std::int64_t group_channels(const ir::Dims& w, const DepthwiseConvAttributes& a) {
  require(w.size() == 3 || w.size() == 4, "the weights must have rank 4, not " + std::to_string(w.size()));
  return w.size() == 4 ? w[1] : w[1] / std::max(a.kernel[1], 1);
}

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 4);
  const auto& a = context.attributes.as<DepthwiseConvAttributes>();
  const ir::TensorType& x = context.type(0);
  const ir::TensorType& w = context.type(1);
  require_type(x, DType::F32, "the input");
  require_type(w, DType::F32, "the weights");
  require(x.dims.size() == 4, "the input must have rank 4, not " + std::to_string(x.dims.size()));
  const std::int64_t channels = x.dims[1];
  const std::int64_t group = group_channels(w.dims, a);
  // [C, G, kh, kw] as ONNX has it, or packed.
  const ir::Dims expected = w.dims.size() == 3 ? ir::Dims{a.kernel[0], a.kernel[1] * group, channels}
                                               : ir::Dims{channels, group, a.kernel[0], a.kernel[1]};
  require_dims(w.dims, expected, "the weights");
  require(group >= 1 && channels % group == 0, "groups of " + std::to_string(group) + " channels");
  ir::TensorType y{DType::F32, {x.dims[0], channels, window_output(a, 0, x.dims[2]), window_output(a, 1, x.dims[3])}};
  require_epilogue(context, a.epilogue, channels, y);
  return {y};
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& a = blob.as<DepthwiseConvAttributes>();
  return describe_window(a) + describe_epilogue(a.epilogue);
}

std::uint64_t work(const InferContext& context) {
  const auto& a = context.attributes.as<DepthwiseConvAttributes>();
  return static_cast<std::uint64_t>(
      ir::element_count({ir::element_count(infer(context)[0].dims), a.kernel[0], a.kernel[1],
                         group_channels(context.type(1).dims, a)}));
}

void pack(ir::Graph& graph, ir::NodeId id) { pack_depthwise(graph, id, 1); }

}  // namespace

extern const OperatorDef kDepthwiseConv = [] {
  OperatorDef op;
  op.name = "DepthwiseConv";
  op.attribute_bytes = sizeof(DepthwiseConvAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.layout = LayoutRule::ChannelsLast;
  op.in_place = 1u << 3;
  op.work = &work;
  op.pack = &pack;
  return op;
}();

void register_depthwise_conv(Registry& registry) { registry.add(kDepthwiseConv); }

}  // namespace edgert::ops
