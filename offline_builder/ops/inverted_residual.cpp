// SPDX-License-Identifier: Apache-2.0
// InvertedResidual: what fuse_inverted_residual makes of a depthwise convolution and its pointwise neighbours. Weights
// come as the convolutions had them, [E, C, 1, 1], [E, 1, kh, kw] and [M, E, 1, 1], and are packed at last.
#include "ops/inverted_residual.h"

#include <algorithm>

#include "edgert/cpu/ops/depthwise_conv.h"
#include "ir/parts.h"
#include "ops/epilogue.h"
#include "ops/pack.h"
#include "ops/window.h"

namespace edgert::ops {
namespace {

using cpu::InvertedResidualAttributes;
using In = cpu::InvertedResidualInput;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::InvertedResidual>();

/// Rows of results of a part, since each part computes the rows of the hidden image under the edge between it and the one
/// before it once more. From that many on there are two parts.
constexpr std::int64_t kRowsPerPart = 14;

/// The block's window as that of the depthwise convolution alone.
cpu::DepthwiseConvAttributes window_of(const InvertedResidualAttributes& a) {
  cpu::DepthwiseConvAttributes window{};
  for (int i = 0; i < 2; ++i) {
    window.kernel[i] = a.kernel[i];
    window.stride[i] = a.stride[i];
    window.dilation[i] = 1;
    window.pad_begin[i] = a.pad_begin[i];
    window.pad_end[i] = a.pad_end[i];
  }
  return window;
}

bool is_packed(const InferContext& context, std::size_t input) {
  return context.graph.value(context.inputs[input]).format == WeightFormat::PanelF32x16;
}

/// Output channels of the pointwise convolution of `from` channels whose weights are input `weights`.
std::int64_t pointwise_channels(const InferContext& context, std::size_t weights, std::int64_t from) {
  if (!context.has(weights)) {
    require(!context.has(weights + 1), "a bias without its weights");
    return from;
  }
  const ir::Dims& dims = context.type(weights).dims;
  require_type(context.type(weights), DType::F32, "the weights");
  const bool packed = is_packed(context, weights);
  require(dims.size() == (packed ? 3u : 4u), "pointwise weights of rank " + std::to_string(dims.size()));
  const std::int64_t to = packed ? dims[2] : dims[0];
  require_dims(dims, packed ? ir::Dims{1, from, to} : ir::Dims{to, from, 1, 1}, "the pointwise weights");
  if (context.has(weights + 1)) require_dims(context.type(weights + 1).dims, {to}, "the bias");
  return to;
}

/// The image between the convolutions.
ir::Dims wide_dims(const InferContext& context) {
  require_inputs(context, 2, In::kCount);
  ir::Dims dims = context.type(In::kX).dims;
  require(dims.size() == 4, "the input must have rank 4, not " + std::to_string(dims.size()));
  dims[1] = pointwise_channels(context, In::kExpand, dims[1]);
  return dims;
}

std::vector<ir::TensorType> infer(const InferContext& context) {
  return {infer_block(context, context.attributes.as<InvertedResidualAttributes>(), wide_dims(context))};
}

std::string describe(const ir::AttributeBlob& blob) { return describe_block(blob.as<InvertedResidualAttributes>()); }

std::uint64_t work(const InferContext& context) {
  return block_work(context, context.attributes.as<InvertedResidualAttributes>(), wide_dims(context), infer(context)[0].dims,
                    context.has(In::kExpand) ? context.type(In::kX).dims[1] : 0);
}

void pack_product(ir::Graph& graph, ir::NodeId id, std::size_t input) {
  if (graph.node(id).inputs[input] == ir::kNone) return;
  const ir::Value& w = constant_weights(graph, graph.node(id), input);
  if (w.format != WeightFormat::Strided) return;
  const std::int64_t to = w.type.dims[0], from = ir::element_count({w.type.dims[1], w.type.dims[2], w.type.dims[3]});
  const float* data = w.constant.as<float>();
  ir::Bytes bytes = pack_panels(1, from, to, [&](std::int64_t, std::int64_t k, std::int64_t m) { return data[m * from + k]; });
  graph.set_input(id, input, graph.add_constant(w.name, {DType::F32, {1, from, to}}, std::move(bytes), WeightFormat::PanelF32x16));
}

}  // namespace

ir::TensorType infer_block(const InferContext& context, const InvertedResidualAttributes& a, const ir::Dims& wide) {
  require_inputs(context, 2, In::kCount);
  require(context.inputs.size() == In::kCount, "a block has " + std::to_string(In::kCount) + " inputs");
  const ir::TensorType& w = context.type(In::kDepthwise);
  require_type(context.type(In::kX), DType::F32, "the input");
  require_type(w, DType::F32, "the weights");
  const std::int64_t hidden = wide[1];
  require_dims(w.dims,
               w.dims.size() == 3 ? ir::Dims{a.kernel[0], a.kernel[1], hidden} : ir::Dims{hidden, 1, a.kernel[0], a.kernel[1]},
               "the depthwise weights");
  if (context.has(In::kDepthwiseBias)) require_dims(context.type(In::kDepthwiseBias).dims, {hidden}, "the bias");
  const std::int64_t filters = pointwise_channels(context, In::kProject, hidden);
  const cpu::DepthwiseConvAttributes window = window_of(a);
  ir::TensorType y{DType::F32, {wide[0], filters, window_output(window, 0, wide[2]), window_output(window, 1, wide[3])}};
  require(context.has(In::kResidual) == (a.project.residual != scalar::ResidualMode::None),
          "a residual without its mode, or the reverse");
  if (context.has(In::kResidual)) {
    require(context.has(In::kProject), "a residual without a projection");
    require_dims(context.type(In::kResidual).dims, y.dims, "the residual");
  }
  return y;
}

std::string describe_block(const InvertedResidualAttributes& a) {
  const auto part = [](const char* name, const scalar::Epilogue& epilogue) {
    const std::string text = describe_epilogue(epilogue);
    return text.empty() ? text : std::string(" ") + name + ":" + text;
  };
  return describe_window(window_of(a)) + part("expand", a.expand) + part("depthwise", a.depthwise) + part("project", a.project);
}

std::uint64_t block_work(const InferContext& context, const InvertedResidualAttributes& a, const ir::Dims& wide,
                         const ir::Dims& y, std::int64_t depth) {
  const std::int64_t pixels = y[0] * y[2] * y[3];
  std::int64_t products = ir::element_count({pixels, wide[1], a.kernel[0], a.kernel[1]});
  products += ir::element_count({wide[0], wide[2], wide[3], depth, wide[1]});
  if (context.has(In::kProject)) products += ir::element_count({pixels, wide[1], y[1]});
  const std::int64_t rows = y[0] * y[2];
  const std::int64_t parts = rows < kRowsPerPart ? 1 : std::max<std::int64_t>(2, rows / kRowsPerPart);
  return std::min(static_cast<std::uint64_t>(products), static_cast<std::uint64_t>(parts) * ir::kMultiplyAddsPerPart);
}

void pack_block(ir::Graph& graph, ir::NodeId id) {
  pack_depthwise(graph, id, In::kDepthwise);
  pack_product(graph, id, In::kExpand);
  pack_product(graph, id, In::kProject);
}

extern const OperatorDef kInvertedResidual = [] {
  OperatorDef op;
  op.name = "InvertedResidual";
  op.attribute_bytes = sizeof(InvertedResidualAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.layout = LayoutRule::ChannelsLast;
  op.work = &work;
  op.pack = &pack_block;
  return op;
}();

void register_inverted_residual(Registry& registry) { registry.add(kInvertedResidual); }

}  // namespace edgert::ops
