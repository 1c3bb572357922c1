// SPDX-License-Identifier: Apache-2.0
// Inverted-residual blocks: the widening 1x1 convolution and the depthwise one in a launch (kernels/expand.cu), and
// squeeze-and-excitation, the mean over pixels and two small products, in a launch of kernels/squeeze.cu or two of
// kernels/gemv.cu. Where both meet, the mean is taken of sums that the first launch leaves, so that nobody reads the widened
// tensor for it.
#include "codegen/expand_mma_kernel.h"
#include "codegen/squeeze_kernel.h"

#include "edgert/checked.h"
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/reduce.h"
#include "edgert/scalar/convert.h"
#include "families/depthwise_block.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using codegen::ExpandShape;
using codegen::GemvShape;
using codegen::SqueezeShape;
using ir::kNone;
using ir::Node;
using ir::NodeId;
using ir::ValueId;

std::int32_t to_int(std::int64_t value) { return static_cast<std::int32_t>(value); }

/// Before sm_90 windows slide on tensor cores (families/inverted_residual.cpp says why).
bool is_mma(const Context& context) { return context.target().arch < 90; }

std::vector<ir::Bytes> block_weights(const Context& context, const DepthwiseBlock& block) {
  const ExpandShape& s = block.shape;
  std::vector<float> widening(static_cast<std::size_t>(s.hidden) * static_cast<std::size_t>(s.channels), 0.0f);
  ValueId bias = kNone;
  if (block.widening != kNone) {
    const Node& node = context.graph().node(block.widening);
    widening = floats_for_f16(context, node.inputs[1]);
    bias = bias_of(node);
  } else {
    for (std::size_t c = 0; c < static_cast<std::size_t>(s.channels); ++c) widening[c * static_cast<std::size_t>(s.channels) + c] = 1.0f;
  }
  const Node& depthwise = context.graph().node(block.depthwise);
  const std::vector<float> window = floats_for_f16(context, depthwise.inputs[1]);
  std::vector<ir::Bytes> weights = {to_bytes(codegen::pack_conv_weights(codegen::expand_conv_shape(s), widening.data())), bias_bytes(context, bias, s.hidden, 16)};
  const ValueId window_bias = bias_of(depthwise);
  if (is_mma(context)) {
    const std::vector<float> floats = window_bias == kNone ? std::vector<float>(static_cast<std::size_t>(s.hidden), 0.0f) : context.constant_floats(window_bias);
    weights.push_back(to_bytes(codegen::pack_window_words(s, window.data(), floats.data())));
  } else {
    weights.push_back(to_bytes(codegen::pack_depthwise_weights(codegen::expand_window_shape(s), window.data())));
    weights.push_back(bias_bytes(context, window_bias, s.hidden, 16));
  }
  return weights;
}

/// A kernel for the block, and how many tiles of an image leave sums.
struct Widening {
  codegen::KernelSpec spec;
  std::int32_t tiles = 1;
};

std::vector<Widening> rank_widenings(const Context& context, const ExpandShape& shape, std::size_t limit) {
  std::vector<Widening> out;
  if (is_mma(context)) {
    for (const auto& tile : codegen::rank_expand_mma_tiles(shape, context.target(), limit)) {
      out.push_back({codegen::make_expand_mma(shape, tile, context.target()), codegen::expand_mma_tiles(shape, tile)});
    }
  } else {
    for (const auto& tile : codegen::rank_expand_tiles(shape, context.target(), limit)) {
      out.push_back({codegen::make_expand(shape, tile, context.target()), codegen::expand_tiles(shape, tile)});
    }
  }
  return out;
}

/// Reads `weights`, those of block_weights(), as weights[0] and following; sums go to the beginning of the workspace.
Launch expand_launch(const DepthwiseBlock& block, const Widening& widening, std::size_t weights) {
  Launch launch;
  launch.spec = widening.spec;
  launch.spread = true;
  launch.arguments = {Argument::read(block.x)};
  for (std::size_t i = 0; i < weights; ++i) launch.arguments.push_back(Argument::weights(i));
  for (const Argument& argument : {Argument::write(block.y), block.shape.pool ? Argument::workspace() : Argument::null(), Argument::later_weights(),
                                   Argument::later_weight_bytes()}) {
    launch.arguments.push_back(argument);
  }
  return launch;
}

std::vector<Candidate> widened(const Context& context, NodeId id, std::size_t limit) {
  const std::optional<DepthwiseBlock> block = find_depthwise_block(context, id, false);
  if (!block) {
    const char* problem = widening_problem(context, id);
    return problem == nullptr ? std::vector<Candidate>() : context.refuse_fusion(problem);
  }
  const std::vector<Widening> widenings = rank_widenings(context, block->shape, limit);
  if (widenings.empty()) return context.refuse_fusion("no tile of an inverted residual fits the target");
  const std::vector<ir::Bytes> weights = block_weights(context, *block);
  std::vector<Candidate> found;
  for (const Widening& widening : widenings) {
    Candidate candidate = Candidate::of(expand_launch(*block, widening, weights.size()), DType::F16);
    candidate.weights = weights;
    candidate.covered = {block->widening};
    found.push_back(std::move(candidate));
  }
  return found;
}

/// One vector an image times a constant matrix, however the graph says it.
struct Product {
  NodeId node = kNone;
  Operand x, y;
  std::int64_t depth = 0, outputs = 0;
  scalar::Epilogue epilogue = {};
};

std::int64_t images_of(const Operand& x) { return x.dims.size() == 4 ? x.dims[0] : row_count(x); }

std::optional<Product> find_product(const Context& context, NodeId id) {
  if (id == kNone) return std::nullopt;
  const Node& node = context.graph().node(id);
  if (node.op != &ops::kConv && node.op != &ops::kMatMul) return std::nullopt;
  const Operand matrix = context.input(node, 1);
  Product product;
  product.node = id;
  product.x = context.input(node, 0), product.y = context.operand(node.outputs[0]);
  if (!matrix.constant || has_residual(context, node)) return std::nullopt;
  if (node.op == &ops::kConv) {
    const auto& a = node.as<cpu::ConvAttributes>();
    const auto is_vector = [](const Operand& x) { return x.dims[2] == 1 && x.dims[3] == 1; };
    if (a.groups != 1 || a.kernel[0] != 1 || a.kernel[1] != 1 || !is_vector(product.x) || !is_vector(product.y)) return std::nullopt;
    product.outputs = matrix.dims[0], product.depth = matrix.dims[1], product.epilogue = a.epilogue;
  } else {
    if (matrix.dims.size() != 2) return std::nullopt;
    product.depth = matrix.dims[0], product.outputs = matrix.dims[1], product.epilogue = node.as<cpu::MatMulAttributes>().epilogue;
  }
  if (images_of(product.x) != images_of(product.y) || epilogue_problem(context, node, product.epilogue) != nullptr) return std::nullopt;
  return product;
}

/// Weights of kernels/gemv.cu, zeros up to `outputs` rows of `depth`, and the bias.
std::vector<ir::Bytes> product_weights(const Context& context, const Product& product, std::int64_t depth, std::int64_t outputs) {
  const Node& node = context.graph().node(product.node);
  const std::vector<float> floats = floats_for_f16(context, node.inputs[1]);
  const bool by_output = node.op == &ops::kConv;
  std::vector<std::uint16_t> packed(static_cast<std::size_t>(outputs * depth), 0);
  for (std::int64_t n = 0; n < product.outputs; ++n) {
    for (std::int64_t k = 0; k < product.depth; ++k) {
      const std::int64_t from = by_output ? n * product.depth + k : k * product.outputs + n;
      packed[static_cast<std::size_t>(n * depth + k)] = scalar::to_half(floats[static_cast<std::size_t>(from)]).bits;
    }
  }
  return {to_bytes(packed), bias_bytes(context, bias_of(node), outputs, 1)};
}

/// Mean, product, activation, product, activation. The two products' values in between exist nowhere else.
struct Squeeze {
  NodeId mean = kNone;
  Operand pixels;
  Product first, second;
  std::int32_t squeezed = 0;  ///< outputs of the first product, rounded up to a multiple of eight
};

/// Whether `value` is what `producer` makes, as it is or, for a single image, under other extents.
bool same_vector(const Context& context, ValueId value, NodeId producer, std::int64_t elements) {
  const Operand x = context.operand(value);
  const ValueId made = context.graph().node(producer).outputs[0];
  return ir::element_count(x.dims) == elements && (value == made || images_of(x) == 1);
}

std::optional<Squeeze> find_squeeze(const Context& context, NodeId id) {
  const std::optional<Product> second = find_product(context, id);
  if (!second || second->y.dtype != DType::F16) return std::nullopt;
  const std::optional<Product> first = find_product(context, context.sole_producer(context.graph().node(id).inputs[0]));
  if (!first) return std::nullopt;
  const Node& first_node = context.graph().node(first->node);
  const NodeId mean = context.sole_producer(first_node.inputs[0]);
  if (mean == kNone || context.graph().node(mean).op != &ops::kReduce) return std::nullopt;
  const Node& reduce = context.graph().node(mean);
  const auto& a = reduce.as<cpu::ReduceAttributes>();
  Squeeze squeeze = {mean, context.input(reduce, 0), *first, *second, to_int((first->outputs + 7) / 8 * 8)};
  const std::int64_t images = images_of(squeeze.pixels);
  if (a.kind != cpu::ReduceKind::Mean || a.axes != 12u || !vector_pixel_pitch(squeeze.pixels)) return std::nullopt;
  if (!same_vector(context, first_node.inputs[0], mean, images * first->depth) || squeeze.pixels.dims[1] != first->depth) return std::nullopt;
  if (!same_vector(context, context.graph().node(id).inputs[0], first->node, images * second->depth)) return std::nullopt;
  return second->depth == first->outputs && images == images_of(second->y) ? std::optional<Squeeze>(squeeze) : std::nullopt;
}

/// Elements from image to image of a product's result.
std::optional<std::int32_t> image_pitch(const Operand& y) { return y.dims.size() == 4 ? pixel_pitch(y) : row_pitch(y); }

constexpr std::int64_t kMaxImages = 16;
/// A lane of kernels/gemv.cu keeps its part of a row of weights in registers.
constexpr std::int64_t kMaxDepth = 4096;
/// Floats whose mean one block takes at no cost worth a cluster.
constexpr std::int64_t kFewSums = 8192;
/// What a block of kernels/squeeze.cu can have in shared memory at less cost than another launch.
constexpr std::uint32_t kFewSqueezeBytes = 24 * 1024;

/// The mean with the first product, which reads `from`, and the second product. The first one's result lies `between`
/// bytes into the workspace; the weights of both start at index `weights`.
std::optional<std::vector<Launch>> product_launches(const Context& context, const Squeeze& squeeze, const Argument& from, GemvShape first,
                                                    std::uint64_t between, std::size_t weights, std::int32_t cluster) {
  const auto pitch = image_pitch(squeeze.second.y);
  if (!pitch) return std::nullopt;
  first.rows = to_int(images_of(squeeze.pixels));
  first.depth = to_int(squeeze.first.depth), first.outputs = first.output_pitch = squeeze.squeezed;
  first.epilogue = squeeze.first.epilogue;
  first.float_output = true;  // an error in a factor is one of all the channel's pixels
  GemvShape second;
  second.rows = first.rows, second.depth = second.input_pitch = squeeze.squeezed;
  second.outputs = to_int(squeeze.second.outputs), second.output_pitch = *pitch;
  second.epilogue = squeeze.second.epilogue;
  second.float_input = true;
  std::vector<Launch> out(2);
  out[0].spec = codegen::make_gemv(first, cluster > 1 ? codegen::GemvTile{256, 1, cluster} : codegen::gemv_tile(first, context.target()), context.target());
  out[1].spec = codegen::make_gemv(second, codegen::gemv_tile(second, context.target()), context.target());
  out[0].arguments = {from, Argument::weights(weights), Argument::weights(weights + 1), Argument::workspace(between)};
  out[1].arguments = {Argument::workspace(between), Argument::weights(weights + 2), Argument::weights(weights + 3), Argument::write(squeeze.second.y)};
  for (Launch& launch : out) {
    launch.spec.workspace_bytes = between + static_cast<std::uint64_t>(first.rows) * static_cast<std::uint64_t>(squeeze.squeezed) * 4;
    if (launch.spec.shared_bytes > static_cast<std::uint32_t>(context.target().shared_bytes)) return std::nullopt;
  }
  return out;
}

/// What computes the factors from the sums or pixels that `mean` describes, one launch or two, the better choice first. The
/// weights of both products start at index `weights`.
std::vector<std::vector<Launch>> factor_launches(const Context& context, const Squeeze& squeeze, const Argument& from, const GemvShape& mean,
                                                 std::uint64_t between, std::size_t weights) {
  std::vector<std::vector<Launch>> ways;
  const auto pitch = image_pitch(squeeze.second.y);
  if (!pitch) return ways;
  SqueezeShape shape;
  shape.images = to_int(images_of(squeeze.pixels)), shape.depth = to_int(squeeze.first.depth);
  shape.squeezed = squeeze.squeezed, shape.outputs = to_int(squeeze.second.outputs);
  shape.pixels = mean.pixels, shape.input_pitch = mean.input_pitch, shape.output_pitch = *pitch;
  shape.float_input = mean.float_input, shape.divisor = mean.divisor == 0 ? mean.pixels : mean.divisor;
  shape.first = squeeze.first.epilogue, shape.epilogue = squeeze.second.epilogue;
  const bool clusters = context.target().arch >= 90;
  const std::int64_t sums = std::int64_t{mean.pixels} * shape.depth;
  const std::int32_t cluster = clusters && shape.images <= 4 && shape.depth / 8 % 4 == 0 && sums > kFewSums ? 4 : 1;
  if (auto products = product_launches(context, squeeze, from, mean, between, weights, cluster)) ways.push_back(std::move(*products));
  const std::int32_t blocks = clusters ? 8 : 1;
  if (const auto shared = codegen::squeeze_shared_bytes(shape, blocks, context.target())) {
    Launch launch;
    launch.spec = codegen::make_squeeze(shape, blocks, context.target());
    launch.spec.workspace_bytes = between;
    launch.arguments = {from, Argument::weights(weights), Argument::weights(weights + 1), Argument::weights(weights + 2), Argument::weights(weights + 3),
                        Argument::write(squeeze.second.y)};
    ways.insert(*shared <= kFewSqueezeBytes ? ways.begin() : ways.end(), std::vector<Launch>{std::move(launch)});
  }
  return ways;
}

void append(std::vector<ir::Bytes>& to, const std::vector<ir::Bytes>& from) { to.insert(to.end(), from.begin(), from.end()); }

/// The depthwise convolution before the mean leaves sums over its pixels.
std::vector<Candidate> squeezed_block(const Context& context, const Squeeze& squeeze, DepthwiseBlock block, std::size_t limit) {
  std::vector<NodeId> covered = {squeeze.mean, squeeze.first.node, block.depthwise};
  if (block.widening != kNone) covered.push_back(block.widening);
  if (!context.can_cover(squeeze.second.node, covered)) return {};
  block.shape.pool = true;
  const std::vector<Widening> widenings = rank_widenings(context, block.shape, limit);
  if (widenings.empty()) return {};
  std::vector<ir::Bytes> weights = block_weights(context, block);
  const std::size_t own = weights.size();
  append(weights, product_weights(context, squeeze.first, squeeze.first.depth, squeeze.squeezed));
  append(weights, product_weights(context, squeeze.second, squeeze.squeezed, squeeze.second.outputs));
  std::vector<Candidate> found;
  for (const Widening& widening : widenings) {
    GemvShape mean;
    mean.pixels = widening.tiles, mean.input_pitch = block.shape.hidden;
    mean.float_input = true, mean.divisor = block.shape.out_height * block.shape.out_width;
    const std::int64_t sums = std::int64_t{mean.pixels} * block.shape.hidden;
    const std::uint64_t between = align_up(static_cast<std::uint64_t>(block.shape.batch * sums) * 4, 256);
    for (std::vector<Launch>& factors : factor_launches(context, squeeze, Argument::workspace(), mean, between, own)) {
      if (found.size() == limit) break;
      Candidate candidate = Candidate::of(expand_launch(block, widening, own), DType::F16);
      candidate.launches[0].spec.workspace_bytes = between;
      candidate.launches.insert(candidate.launches.end(), factors.begin(), factors.end());
      candidate.weights = weights;
      candidate.covered = covered;
      found.push_back(std::move(candidate));
      if (&widening != widenings.data()) break;  // other ways with the first tile only
    }
  }
  return found;
}

std::vector<Candidate> squeezed(const Context& context, NodeId id, std::size_t limit) {
  const std::optional<Squeeze> squeeze = find_squeeze(context, id);
  if (!squeeze || images_of(squeeze->pixels) > kMaxImages || squeeze->first.depth > kMaxDepth || squeeze->squeezed > kMaxDepth) return {};
  if (const std::optional<DepthwiseBlock> block = find_depthwise_block(context, context.graph().value(squeeze->pixels.value).producer, true)) {
    std::vector<Candidate> found = squeezed_block(context, *squeeze, *block, limit);
    if (!found.empty()) return found;
  }
  std::vector<ir::Bytes> weights = product_weights(context, squeeze->first, squeeze->first.depth, squeeze->squeezed);
  append(weights, product_weights(context, squeeze->second, squeeze->squeezed, squeeze->second.outputs));
  GemvShape mean;
  mean.pixels = to_int(squeeze->pixels.dims[2] * squeeze->pixels.dims[3]), mean.input_pitch = *pixel_pitch(squeeze->pixels);
  std::vector<Candidate> found;
  for (std::vector<Launch>& factors : factor_launches(context, *squeeze, Argument::read(squeeze->pixels), mean, 0, 0)) {
    if (found.size() == limit) break;
    Candidate candidate;
    candidate.launches = std::move(factors);
    candidate.weights = weights;
    candidate.covered = {squeeze->mean, squeeze->first.node};
    found.push_back(std::move(candidate));
  }
  return found;
}

std::vector<Candidate> candidates(const Context& context, NodeId id, std::size_t limit) {
  std::vector<Candidate> found = squeezed(context, id, limit);
  return found.empty() ? widened(context, id, limit) : found;
}

}  // namespace

void register_expand(Registry& registry) { registry.add({"inverted residual", Rank::Fused, &candidates}); }

}  // namespace edgert::families
