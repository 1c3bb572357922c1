// SPDX-License-Identifier: Apache-2.0
// DepthwiseConv: one filter a channel. ONNX Conv becomes one where groups, input and output channels agree.
#include "edgert/cpu/ops/depthwise_conv.h"

#include "ops/epilogue.h"
#include "ops/pack.h"
#include "ops/window.h"

namespace edgert::ops {
namespace {

using cpu::DepthwiseConvAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::DepthwiseConv>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 4);
  const auto& a = context.attributes.as<DepthwiseConvAttributes>();
  const ir::TensorType& x = context.type(0);
  const ir::TensorType& w = context.type(1);
  require_type(x, DType::F32, "the input");
  require_type(w, DType::F32, "the weights");
  require(x.dims.size() == 4, "the input must have rank 4, not " + std::to_string(x.dims.size()));
  const std::int64_t channels = x.dims[1];
  // [C, 1, kh, kw] as ONNX has it, or packed.
  const bool packed = w.dims.size() == 3;
  const ir::Dims expected =
      packed ? ir::Dims{a.kernel[0], a.kernel[1], channels} : ir::Dims{channels, 1, a.kernel[0], a.kernel[1]};
  require_dims(w.dims, expected, "the weights");
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
      ir::element_count({ir::element_count(infer(context)[0].dims), a.kernel[0], a.kernel[1]}));
}

void pack(ir::Graph& graph, ir::NodeId id) {
  const ir::Value& w = constant_weights(graph, graph.node(id), 1);
  if (w.type.dims.size() == 3) return;
  const std::int64_t channels = w.type.dims[0];
  const std::int64_t taps = w.type.dims[2] * w.type.dims[3];
  const float* from = w.constant.as<float>();
  std::vector<std::byte> bytes(w.constant.size());
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    for (std::int64_t c = 0; c < channels; ++c) {
      std::memcpy(bytes.data() + static_cast<std::size_t>(tap * channels + c) * sizeof(float), from + c * taps + tap,
                  sizeof(float));
    }
  }
  const ir::TensorType type{DType::F32, {w.type.dims[2], w.type.dims[3], channels}};
  graph.set_input(id, 1, graph.add_constant(w.name, type, ir::Bytes::adopt(std::move(bytes))));
}

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
