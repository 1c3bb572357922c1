// SPDX-License-Identifier: Apache-2.0
// WinogradConv: what choose_winograd makes of a Conv. Its weights are packed from the start.
#include "edgert/cpu/ops/winograd_conv.h"

#include "ir/parts.h"
#include "ops/epilogue.h"
#include "ops/infer.h"
#include "ops/operator.h"

namespace edgert::ops {
namespace {

using cpu::WinogradConvAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::WinogradConv>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 4);
  const auto& a = context.attributes.as<WinogradConvAttributes>();
  const ir::TensorType& x = context.type(0);
  const ir::TensorType& w = context.type(1);
  require_type(x, DType::F32, "the input");
  require_type(w, DType::F32, "the weights");
  require(a.tile == 2 || a.tile == 4, "tiles of " + std::to_string(a.tile));
  require(x.dims.size() == 4, "the input must have rank 4, not " + std::to_string(x.dims.size()));
  require(w.dims.size() == 3, "packed weights must have rank 3");
  const std::int64_t side = a.tile + 2;
  require_dims(w.dims, {side * side, x.dims[1], w.dims[2]}, "the packed weights");
  ir::TensorType y{DType::F32, {x.dims[0], w.dims[2], x.dims[2] + a.pad_begin[0] + a.pad_end[0] - 2,
                                x.dims[3] + a.pad_begin[1] + a.pad_end[1] - 2}};
  require(y.dims[2] > 0 && y.dims[3] > 0, "the window is larger than the padded image");
  require_epilogue(context, a.epilogue, w.dims[2], y);
  return {y};
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& a = blob.as<WinogradConvAttributes>();
  const std::string tile = std::to_string(a.tile);
  return "kernel=3x3 tile=" + tile + 'x' + tile + describe_epilogue(a.epilogue);
}

/// Eight tiles fill the registers' rows once and are the least piece worth a thread's while.
std::uint64_t work(const InferContext& context) {
  const auto& a = context.attributes.as<WinogradConvAttributes>();
  const ir::TensorType y = infer(context)[0];
  const std::int64_t tiles = y.dims[0] * ((y.dims[2] + a.tile - 1) / a.tile) * ((y.dims[3] + a.tile - 1) / a.tile);
  const auto products = static_cast<std::uint64_t>(ir::element_count({tiles, context.type(1).dims[0], context.type(1).dims[1], y.dims[1]}));
  return std::min(products, static_cast<std::uint64_t>(tiles / 8) * ir::kMultiplyAddsPerPart);
}

}  // namespace

extern const OperatorDef kWinogradConv = [] {
  OperatorDef op;
  op.name = "WinogradConv";
  op.attribute_bytes = sizeof(WinogradConvAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.layout = LayoutRule::ChannelsLast;
  op.in_place = 1u << 3;
  op.work = &work;
  return op;
}();

void register_winograd_conv(Registry& registry) { registry.add(kWinogradConv); }

}  // namespace edgert::ops
