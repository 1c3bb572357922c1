// SPDX-License-Identifier: Apache-2.0
// StemBlock: what fuse_inverted_residual makes of a network's first convolution and the depthwise and pointwise ones behind
// it. Weights come as the convolutions had them, [E, C, kh, kw], [E, 1, kh, kw] and [M, E, 1, 1], and are packed at last.
#include "edgert/cpu/ops/stem_block.h"

#include "edgert/cpu/ops/conv.h"
#include "ops/inverted_residual.h"
#include "ops/window.h"

namespace edgert::ops {
namespace {

using cpu::StemBlockAttributes;
using In = cpu::InvertedResidualInput;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::StemBlock>();

/// The first convolution's window.
cpu::ConvAttributes window_of(const StemBlockAttributes& a) {
  cpu::ConvAttributes window{};
  for (int i = 0; i < 2; ++i) {
    window.kernel[i] = a.kernel[i];
    window.stride[i] = a.stride[i];
    window.dilation[i] = 1;
    window.pad_begin[i] = a.pad_begin[i];
    window.pad_end[i] = a.pad_end[i];
  }
  return window;
}

std::int64_t depth_of(const InferContext& context) {
  const auto& a = context.attributes.as<StemBlockAttributes>();
  return ir::element_count({context.type(In::kX).dims[1], a.kernel[0], a.kernel[1]});
}

/// The image between the convolutions.
ir::Dims wide_dims(const InferContext& context) {
  require_inputs(context, 2, In::kCount);
  require(context.has(In::kExpand), "the first convolution's weights are missing");
  const auto& a = context.attributes.as<StemBlockAttributes>();
  const ir::Dims& x = context.type(In::kX).dims;
  const ir::TensorType& w = context.type(In::kExpand);
  require(x.size() == 4, "the input must have rank 4, not " + std::to_string(x.size()));
  require_type(w, DType::F32, "the weights");
  const bool packed = context.graph.value(context.inputs[In::kExpand]).format == WeightFormat::PanelF32x16;
  require(w.dims.size() == (packed ? 3u : 4u), "weights of rank " + std::to_string(w.dims.size()));
  const std::int64_t hidden = packed ? w.dims[2] : w.dims[0];
  require_dims(w.dims, packed ? ir::Dims{1, depth_of(context), hidden} : ir::Dims{hidden, x[1], a.kernel[0], a.kernel[1]},
               "the weights");
  if (context.has(In::kExpandBias)) require_dims(context.type(In::kExpandBias).dims, {hidden}, "the bias");
  const cpu::ConvAttributes window = window_of(a);
  return {x[0], hidden, window_output(window, 0, x[2]), window_output(window, 1, x[3])};
}

std::vector<ir::TensorType> infer(const InferContext& context) {
  return {infer_block(context, context.attributes.as<StemBlockAttributes>().block, wide_dims(context))};
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& a = blob.as<StemBlockAttributes>();
  return "first: " + describe_window(window_of(a)) + " block: " + describe_block(a.block);
}

std::uint64_t work(const InferContext& context) {
  return block_work(context, context.attributes.as<StemBlockAttributes>().block, wide_dims(context), infer(context)[0].dims,
                    depth_of(context));
}

}  // namespace

extern const OperatorDef kStemBlock = [] {
  OperatorDef op;
  op.name = "StemBlock";
  op.attribute_bytes = sizeof(StemBlockAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.layout = LayoutRule::ChannelsLast;
  op.work = &work;
  op.pack = &pack_block;
  return op;
}();

void register_stem_block(Registry& registry) { registry.add(kStemBlock); }

}  // namespace edgert::ops
