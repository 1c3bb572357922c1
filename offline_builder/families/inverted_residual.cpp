// SPDX-License-Identifier: Apache-2.0
// Whole inverted-residual blocks without squeeze-and-excitation, and depthwise-separable convolutions, in one launch:
// kernels/inverted_residual.cu. The node is the narrowing convolution, the last of the block.
#include "codegen/inverted_residual_mma_kernel.h"

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

/// The weights of the products, then what else the kernel takes: the floats, or with `words` what windows on tensor cores want.
std::vector<ir::Bytes> packed_weights(const Context& context, const Found& found, const Node& narrowing, bool words) {
  const Node& depthwise = context.graph().node(found.block.depthwise);
  std::vector<float> widening, widening_bias;
  if (found.shape.widens) {
    const Node& node = context.graph().node(found.block.widening);
    widening = floats_for_f16(context, node.inputs[1]);
    widening_bias = bias_floats(context, node);
  }
  const std::vector<float> last = floats_for_f16(context, narrowing.inputs[1]);
  const std::vector<float> window = words ? floats_for_f16(context, depthwise.inputs[1]) : context.constant_floats(depthwise.inputs[1]);
  const std::vector<float> window_bias = bias_floats(context, depthwise), last_bias = bias_floats(context, narrowing);
  const auto data = [](const std::vector<float>& floats) { return floats.empty() ? nullptr : floats.data(); };
  const ir::Bytes products = to_bytes(codegen::pack_inverted_residual_weights(found.shape, data(widening), last.data()));
  if (words) return {products, to_bytes(codegen::pack_inverted_residual_words(found.shape, window.data(), data(widening_bias), data(window_bias), data(last_bias)))};
  return {products, to_bytes(codegen::pack_inverted_residual_floats(found.shape, window.data(), data(widening_bias), data(window_bias), data(last_bias)))};
}

Candidate candidate_of(const Found& found, codegen::KernelSpec spec, bool splits) {
  Launch launch;
  launch.spec = std::move(spec);
  launch.spread = true;
  launch.arguments = {Argument::read(found.block.x), Argument::weights(0), Argument::weights(1),
                      found.residual.present() ? Argument::read(found.residual) : Argument::null(), Argument::write(found.y)};
  if (splits) {
    launch.arguments.push_back(launch.spec.workspace_bytes > 0 ? Argument::workspace() : Argument::null());
    launch.arguments.push_back(launch.spec.counters > 0 ? Argument::counters() : Argument::null());
  }
  launch.arguments.push_back(Argument::later_weights());
  launch.arguments.push_back(Argument::later_weight_bytes());
  Candidate candidate = Candidate::of(std::move(launch), DType::F16);
  candidate.covered = found.covered;
  return candidate;
}

/// Without clusters, more output channels than a warp computes by itself are faster in two launches: blocks that share a tile
/// meet in a workspace, and warps that share its channels slide the windows again.
constexpr std::int32_t kMostOutputs = 80;

std::vector<Candidate> candidates(const Context& context, NodeId id, std::size_t limit) {
  const std::optional<Found> found = find(context, id);
  if (!found) return {};
  // Windows on tensor cores take fewer instructions, which few multiprocessors are short of, and longer by themselves.
  const bool mma = context.target().arch < 90;
  if (mma && found->shape.out_channels > kMostOutputs) return {};
  std::vector<Candidate> out;
  if (mma) {
    for (const auto& tile : codegen::rank_inverted_residual_mma_tiles(found->shape, context.target(), limit)) {
      out.push_back(candidate_of(*found, codegen::make_inverted_residual_mma(found->shape, tile, context.target()), false));
    }
  } else {
    for (const InvertedResidualTile& tile : codegen::rank_inverted_residual_tiles(found->shape, context.target(), limit)) {
      out.push_back(candidate_of(*found, codegen::make_inverted_residual(found->shape, tile, context.target()), true));
    }
  }
  if (out.empty()) return {};
  const std::vector<ir::Bytes> weights = packed_weights(context, *found, context.graph().node(id), mma);
  for (Candidate& candidate : out) candidate.weights = weights;
  return out;
}

}  // namespace

void register_inverted_residual(Registry& registry) { registry.add({"inverted residual in one launch", Rank::Fused, &candidates}); }

}  // namespace edgert::families
