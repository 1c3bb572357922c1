// SPDX-License-Identifier: Apache-2.0
// Whole inverted-residual blocks without squeeze-and-excitation, and depthwise-separable convolutions, in one launch:
// kernels/inverted_residual.cu. The node is the narrowing convolution, the last of the block.
#include "codegen/inverted_residual_kernel.h"

#include "edgert/cpu/ops/conv.h"
#include "families/depthwise_block.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using codegen::InvertedResidualShape;
using codegen::InvertedResidualTile;
using ir::kNone;
using ir::Node;
using ir::NodeId;

/// The block that ends with a 1x1 convolution.
struct Found {
  DepthwiseBlock block;
  Operand residual, y;
  InvertedResidualShape shape;
  std::vector<NodeId> covered;
};

bool is_product(const Context& context, const Node& node) {
  const auto& a = node.as<cpu::ConvAttributes>();
  const Operand x = context.input(node, 0), y = context.operand(node.outputs[0]);
  return a.groups == 1 && a.kernel[0] == 1 && a.kernel[1] == 1 && a.pad_begin[0] == 0 && a.pad_begin[1] == 0 && x.dims[2] == y.dims[2] &&
         x.dims[3] == y.dims[3] && context.input(node, 1).constant && epilogue_problem(context, node, a.epilogue) == nullptr;
}

std::optional<Found> find(const Context& context, NodeId id) {
  const Node& node = context.graph().node(id);
  if (node.op != &ops::kConv || !is_product(context, node)) return std::nullopt;
  const NodeId depthwise = context.sole_producer(node.inputs[0]);
  const std::optional<DepthwiseBlock> block = find_depthwise_block(context, depthwise, true);
  if (!block || context.graph().node(depthwise).outputs[0] != node.inputs[0]) return std::nullopt;
  Found found = {*block, context.input(node, 3), context.operand(node.outputs[0]), {}, {depthwise}};
  const auto pitch = vector_pixel_pitch(found.y);
  if (!pitch) return std::nullopt;
  if (block->widening != kNone) found.covered.push_back(block->widening);
  if (!context.can_cover(id, found.covered)) return std::nullopt;
  InvertedResidualShape& shape = found.shape;
  shape.first = block->shape;
  shape.widens = block->widening != kNone;
  shape.out_channels = static_cast<std::int32_t>(found.y.dims[1]), shape.output_pitch = *pitch;
  shape.epilogue = node.as<cpu::ConvAttributes>().epilogue;
  if (found.residual.present()) {
    const auto residual_pitch = vector_pixel_pitch(found.residual);
    if (!residual_pitch) return std::nullopt;
    shape.residual_pitch = *residual_pitch;
  }
  return found;
}

std::vector<float> bias_floats(const Context& context, const Node& node) {
  return bias_of(node) == kNone ? std::vector<float>() : context.constant_floats(bias_of(node));
}

/// The weights of the products, then the floats.
std::vector<ir::Bytes> packed_weights(const Context& context, const Found& found, const Node& narrowing) {
  const Node& depthwise = context.graph().node(found.block.depthwise);
  std::vector<float> widening, widening_bias;
  if (found.shape.widens) {
    const Node& node = context.graph().node(found.block.widening);
    widening = floats_for_f16(context, node.inputs[1]);
    widening_bias = bias_floats(context, node);
  }
  const std::vector<float> last = floats_for_f16(context, narrowing.inputs[1]), window = context.constant_floats(depthwise.inputs[1]);
  const std::vector<float> window_bias = bias_floats(context, depthwise), last_bias = bias_floats(context, narrowing);
  const auto data = [](const std::vector<float>& floats) { return floats.empty() ? nullptr : floats.data(); };
  return {to_bytes(codegen::pack_inverted_residual_weights(found.shape, data(widening), last.data())),
          to_bytes(codegen::pack_inverted_residual_floats(found.shape, window.data(), data(widening_bias), data(window_bias), data(last_bias)))};
}

std::vector<Candidate> candidates(const Context& context, NodeId id, std::size_t limit) {
  const std::optional<Found> found = find(context, id);
  if (!found) return {};
  const std::vector<InvertedResidualTile> tiles = codegen::rank_inverted_residual_tiles(found->shape, context.target(), limit);
  if (tiles.empty()) return {};
  const std::vector<ir::Bytes> weights = packed_weights(context, *found, context.graph().node(id));
  std::vector<Candidate> out;
  for (const InvertedResidualTile& tile : tiles) {
    Launch launch;
    launch.spec = codegen::make_inverted_residual(found->shape, tile, context.target());
    launch.spread = true;
    launch.arguments = {Argument::read(found->block.x),
                        Argument::weights(0),
                        Argument::weights(1),
                        found->residual.present() ? Argument::read(found->residual) : Argument::null(),
                        Argument::write(found->y),
                        launch.spec.workspace_bytes > 0 ? Argument::workspace() : Argument::null(),
                        launch.spec.counters > 0 ? Argument::counters() : Argument::null(),
                        Argument::later_weights(),
                        Argument::later_weight_bytes()};
    Candidate candidate = Candidate::of(std::move(launch), DType::F16);
    candidate.weights = weights;
    candidate.covered = found->covered;
    out.push_back(std::move(candidate));
  }
  return out;
}

}  // namespace

void register_inverted_residual(Registry& registry) { registry.add({"inverted residual in one launch", Rank::Fused, &candidates}); }

}  // namespace edgert::families
