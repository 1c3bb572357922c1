// SPDX-License-Identifier: Apache-2.0
// Dense convolutions and products with constant matrices, on tensor cores (kernels/conv.cu) or in f32 without rounding
// (kernels/conv_exact.cu). A network's first layer reads an image as it comes: bytes or floats, in any order, normalised on
// the way. Two convolutions that are added, one of them 1x1, as at the end of a residual block, are one launch.
#include "edgert/cpu/ops/conv.h"

#include <algorithm>

#include "edgert/scalar/pointwise.h"
#include "families/dense.h"
#include "families/image_input.h"
#include "families/winograd.h"
#include "ir/windows.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using codegen::ConvShape;

/// Of groups in the graph that become one: the kernel multiplies as many zeros for each weight.
constexpr std::int32_t kMostJoined = 16;
/// Of a shortcut: each is a patch more in shared memory.
constexpr std::int32_t kMostShortcutTaps = 4;
/// Places among a launch's arguments.
constexpr std::size_t kResidual = 3, kResult = 4, kWorkspace = 5;

std::int32_t to_int(std::int64_t value) { return static_cast<std::int32_t>(value); }

struct Operands {
  Operand x, residual, y;
  Operand shortcut;          ///< input of ConvShape::shortcut
  Operand factors;           ///< of the input's channels, where ConvShape::scaled
  ir::Bytes pre_activation;  ///< factors and terms of the input's channels, where ConvShape::pre_activated
  ir::ValueId bias = ir::kNone;
  std::vector<ir::NodeId> covered;
};

/// What a family needs to know to launch a convolution or product.
struct Convolution {
  ConvShape shape;
  Operands operands;
  std::vector<float> weights;
};

/// Its launch, whose weights start at index `weights`.
Launch launch_of(const Context& context, const ConvShape& shape, const codegen::ConvTile& tile, const Operands& operands, std::size_t weights = 0) {
  Launch launch;
  launch.spec = codegen::make_conv(shape, tile, context.target());
  // Of f32 a block has few threads for its work: where there are more blocks than multiprocessors, several share one.
  launch.spread = !codegen::is_wide(shape.element) || launch.spec.grid[0] <= static_cast<std::uint32_t>(context.target().multiprocessors);
  launch.arguments = {Argument::read(operands.x),
                      Argument::weights(weights),
                      Argument::weights(weights + 1),
                      operands.residual.present() ? Argument::read(operands.residual) : Argument::null(),
                      Argument::write(operands.y),
                      launch.spec.workspace_bytes > 0 ? Argument::workspace() : Argument::null(),
                      launch.spec.counters > 0 ? Argument::counters() : Argument::null(),
                      Argument::later_weights(),
                      Argument::later_weight_bytes()};
  if (shape.scaled) launch.arguments.push_back(Argument::read(operands.factors));
  if (shape.pre_activated) launch.arguments.push_back(Argument::weights(weights + 2));
  if (operands.shortcut.present()) launch.arguments.push_back(Argument::read(operands.shortcut));
  return launch;
}

std::vector<Candidate> launches(const Context& context, const Convolution& found, std::size_t limit) {
  PackedWeights packed(found.shape, found.weights);
  const ir::Bytes bias = bias_bytes(context, found.operands.bias, found.shape.out_channels, 16);
  std::vector<Estimated> estimated;
  for (const codegen::ConvTile& tile : codegen::rank_conv_tiles(found.shape, context.target(), limit)) {
    Candidate candidate = Candidate::of(launch_of(context, found.shape, tile, found.operands), type_of(found.shape.element));
    candidate.weights = {packed.of(tile), bias};
    if (found.shape.pre_activated) candidate.weights.push_back(found.operands.pre_activation);
    candidate.covered = found.operands.covered;
    estimated.push_back({std::move(candidate), codegen::estimate_conv(found.shape, tile, context.target())});
  }
  add_winograd(context, found.shape, found.weights, limit, estimated);
  std::vector<Candidate> candidates;
  for (Estimated& each : estimated) candidates.push_back(std::move(each.candidate));
  return candidates.empty() ? context.refuse("no tile fits the target") : candidates;
}

/// A first layer's image, read as the application has it.
bool use_image(const Context& context, const ir::Node& node, ConvShape& shape, Operands& operands) {
  const bool aligned = codegen::is_wide(shape.element) || shape.stride[1] * codegen::stem_pixel_channels(shape) % 8 == 0;
  if (shape.channels > 8 || shape.dilation[0] != 1 || shape.dilation[1] != 1 || !aligned) return false;
  const std::optional<ImageInput> found = find_image(context, node);
  if (!found || !fits_int32(found->source)) return false;
  shape.image = true;
  shape.image_bytes = found->source.dtype == DType::U8;
  for (std::size_t d = 0; d < 4; ++d) shape.image_stride[d] = to_int(found->source.strides[d]);
  shape.image_normalized = found->normalized();
  std::copy(found->scale.begin(), found->scale.end(), shape.image_scale);
  std::copy(found->shift.begin(), found->shift.end(), shape.image_shift);
  operands.x = found->source;
  operands.covered = found->covered;
  return true;
}

/// Whether `x` is [N, C, 1, 1] for a tensor of these extents, one image after the other.
bool is_factors(const Operand& x, const ir::Dims& dims, DType type) {
  return x.dims == ir::Dims{dims[0], dims[1], 1, 1} && x.dtype == type && !x.constant && x.alignment >= 16 && dims[1] % 8 == 0 &&
         x.strides[1] == 1 && (dims[0] == 1 || x.strides[0] == dims[1]);
}

/// A product of the input's channels with a factor each, as squeeze-and-excitation has it, right before a 1x1 convolution.
bool find_factors(const Context& context, const ir::Node& node, Operands& operands) {
  const ir::NodeId id = context.sole_producer(node.inputs[0]);
  if (id == ir::kNone || context.graph().node(id).op != &ops::kPointwise) return false;
  const ir::Node& producer = context.graph().node(id);
  const auto& program = producer.as<scalar::PointwiseProgram>();
  if (producer.outputs[0] != node.inputs[0] || program.inputs != 2 || program.steps != 1 || program.step[0].op != scalar::PointwiseOp::Mul) return false;
  for (const std::size_t i : {0u, 1u}) {
    // As the program reads it, the factor is repeated.
    const Operand x = context.input(producer, 1 - i);
    const ir::Node* repeat = context.graph().producer(producer.inputs[i]);
    const Operand factors = repeat != nullptr && repeat->op == &ops::kExpand ? context.input(*repeat, 0) : context.input(producer, i);
    if (x.dims != operands.x.dims || x.constant || !is_factors(factors, x.dims, operands.x.dtype)) continue;
    operands.x = x, operands.factors = factors;
    operands.covered = {id};
    return true;
  }
  return false;
}

/// Appends the elements of a constant [C, 1, 1] or [1, C, 1, 1], repeated or not, as f16 or bf16; false for anything else.
bool append_channels(const Context& context, ir::ValueId value, std::int64_t channels, codegen::ElementType element, std::vector<std::uint16_t>& to) {
  const ir::Node* repeat = context.graph().producer(value);
  const ir::ValueId source = repeat != nullptr && repeat->op == &ops::kExpand ? repeat->inputs[0] : value;
  const Operand x = context.operand(source);
  const std::size_t rank = x.dims.size();
  const bool along = rank >= 3 && x.dims[rank - 3] == channels && ir::element_count(x.dims) == channels;
  if (!x.constant || x.dtype != DType::F32 || !along) return false;
  const std::vector<float> floats = context.constant_floats(source);
  if (element == codegen::ElementType::F16 && !fits_f16(floats)) return false;
  const std::vector<std::uint16_t> halves = as_halves(element, floats);
  to.insert(to.end(), halves.begin(), halves.end());
  return true;
}

/// Batch normalisation and Relu, which read nothing else, right before a 1x1 convolution without padding.
bool find_pre_activation(const Context& context, const ir::Node& node, codegen::ElementType element, Operands& operands) {
  using scalar::PointwiseOp;
  const ir::NodeId id = context.sole_producer(node.inputs[0]);
  if (id == ir::kNone || context.graph().node(id).op != &ops::kPointwise) return false;
  const ir::Node& producer = context.graph().node(id);
  const auto& program = producer.as<scalar::PointwiseProgram>();
  if (producer.outputs[0] != node.inputs[0] || program.inputs != 3 || program.steps != 3) return false;
  const scalar::PointwiseStep* step = program.step;
  if (step[0].op != PointwiseOp::Mul || step[1].op != PointwiseOp::Add || step[2].op != PointwiseOp::Relu) return false;
  // Values 0 to 2 are the inputs, 3 is the product, 4 the sum.
  const unsigned char product = 3, term = step[1].a == product ? step[1].b : step[1].a;
  if ((step[1].a != product && step[1].b != product) || step[2].a != 4 || step[0].a > 2 || step[0].b > 2 || term > 2) return false;
  const bool first = context.input(producer, step[0].b).constant;
  const Operand x = context.input(producer, first ? step[0].a : step[0].b);
  std::vector<std::uint16_t> channels;
  if (x.constant || x.dims != operands.x.dims || x.dims[1] % 8 != 0) return false;
  if (!append_channels(context, producer.inputs[first ? step[0].b : step[0].a], x.dims[1], element, channels)) return false;
  if (!append_channels(context, producer.inputs[term], x.dims[1], element, channels)) return false;
  operands.x = x;
  operands.pre_activation = to_bytes(channels);
  operands.covered = {id};
  return true;
}

ConvShape shape_of(const cpu::ConvAttributes& a, const Operand& x, const Operand& y) {
  ConvShape shape;
  shape.batch = to_int(x.dims[0]);
  shape.channels = to_int(x.dims[1]), shape.height = to_int(x.dims[2]), shape.width = to_int(x.dims[3]);
  shape.out_channels = to_int(y.dims[1]), shape.out_height = to_int(y.dims[2]), shape.out_width = to_int(y.dims[3]);
  for (int d = 0; d < 2; ++d) {
    shape.kernel[d] = a.kernel[d], shape.stride[d] = a.stride[d], shape.dilation[d] = a.dilation[d], shape.pad[d] = a.pad_begin[d];
  }
  shape.epilogue = a.epilogue;
  return shape;
}

/// Without neighbours every pixel is a row of a matrix.
void flatten(ConvShape& shape) {
  shape.width = shape.out_width = shape.batch * shape.height * shape.width;
  shape.batch = shape.height = shape.out_height = 1;
}

/// Groups as kernels/conv.cu takes them, each of several neighbouring ones of the `groups` in the graph.
std::int32_t joined_groups(std::int32_t groups, std::int32_t channels, std::int32_t out_channels) {
  for (std::int32_t joined = groups; joined > 1; --joined) {
    if (groups % joined == 0 && channels % (16 * joined) == 0 && out_channels % (16 * joined) == 0) return joined;
  }
  return 1;
}

/// Weights [out_channels][channels / groups][taps] for the shape's groups, of which each joins several of the graph's: zeros
/// between channels that these do not connect. `channels` are the input's.
std::vector<float> join_weights(const std::vector<float>& weights, const ConvShape& shape, std::int64_t channels, std::int64_t groups) {
  const std::int64_t taps = std::int64_t{shape.kernel[0]} * shape.kernel[1];
  const std::int64_t own = channels / groups, depth = channels / shape.groups;
  std::vector<float> out(static_cast<std::size_t>(shape.out_channels * depth * taps), 0.0f);
  for (std::int64_t n = 0; n < shape.out_channels; ++n) {
    const std::int64_t first = n / (shape.out_channels / groups) * own - n / (shape.out_channels / shape.groups) * depth;
    const auto from = weights.begin() + static_cast<std::ptrdiff_t>(n * own * taps);
    std::copy(from, from + static_cast<std::ptrdiff_t>(own * taps), out.begin() + static_cast<std::ptrdiff_t>((n * depth + first) * taps));
  }
  return out;
}

/// How many neighbouring elements of a residual or a result of the kernel are moved at once.
std::int32_t moved_at_once(codegen::ElementType element, const Operand& x, std::int32_t pitch) {
  return codegen::is_wide(element) ? floats_at_once(x, pitch) : at_once(x, pitch);
}

/// Where a convolution's result goes: channels last, or float planes for `planes`.
const char* place_output(const Operand& y, bool planes, ConvShape& shape) {
  if (planes) {
    shape.plane_output = true;
    if (codegen::is_wide(shape.element)) shape.output_at_once = 4;
    return y.dtype == DType::F32 && y.dims.size() == 4 && fits_int32(y) && ir::is_row_major({0, y.dims, y.strides}) ? nullptr : "its result is not f32 planes";
  }
  std::int64_t between_images = 0;
  const auto pitch = pixel_pitch(y, &between_images);
  if (!pitch || y.dtype != type_of(shape.element)) return "its result is not channels last";
  if (between_images != 0) {
    if (shape.epilogue.residual != scalar::ResidualMode::None) return "the images of its result do not follow each other, and it adds a residual";
    shape.output_image_pixels = to_int(between_images);
  }
  shape.output_pitch = *pitch, shape.output_at_once = moved_at_once(shape.element, y, *pitch);
  return nullptr;
}

/// The convolution `node`, whose result goes to `y`; nothing, with a reason, where the kernels cannot compute it.
std::optional<Convolution> describe(const Context& context, const ir::Node& node, const Operand& y, const std::vector<ir::NodeId>& covered) {
  const auto refuse = [&context](const char* reason) {
    context.refuse(reason);
    return std::nullopt;
  };
  const auto& a = node.as<cpu::ConvAttributes>();
  Convolution found;
  Operands& operands = found.operands;
  ConvShape& shape = found.shape;
  operands.x = context.input(node, 0);
  operands.residual = context.input(node, 3);
  operands.y = y;
  operands.bias = node.inputs.size() > 2 ? node.inputs[2] : ir::kNone;
  if (!context.input(node, 1).constant) return refuse("its weights are not constant");
  if (const char* problem = epilogue_problem(context, node, a.epilogue)) return refuse(problem);
  shape = shape_of(a, operands.x, operands.y);
  shape.groups = joined_groups(a.groups, shape.channels, shape.out_channels);
  if (a.groups / shape.groups > kMostJoined) return refuse("its groups are too small");
  const auto element = element_of(context, node, context.operand(node.outputs[0]).dtype);
  if (!element) return refuse("its result is not of the type that it is to compute in");
  shape.element = *element;
  const bool wide = codegen::is_wide(*element);
  if (const char* problem = place_output(y, !covered.empty(), shape)) return refuse(problem);
  if (operands.residual.present()) {
    const auto pitch = pixel_pitch(operands.residual);
    if (!pitch || operands.residual.dtype != type_of(*element)) return refuse("its residual is of another type, or not channels last");
    shape.residual_pitch = *pitch, shape.residual_at_once = moved_at_once(*element, operands.residual, *pitch);
  } else if (wide) {
    shape.residual_at_once = 4;
  }
  if (a.groups != 1 || !use_image(context, node, shape, operands)) {
    const bool product = a.groups == 1 && a.kernel[0] == 1 && a.kernel[1] == 1;
    shape.scaled = product && !wide && find_factors(context, node, operands);
    const bool padded = a.pad_begin[0] != 0 || a.pad_begin[1] != 0 || a.pad_end[0] != 0 || a.pad_end[1] != 0;
    shape.pre_activated = product && !wide && !padded && !shape.scaled && find_pre_activation(context, node, *element, operands);
    const auto pitch = pixel_pitch(operands.x);
    const std::int32_t halves = !pitch ? 0 : wide ? 2 * floats_at_once(operands.x, *pitch) : at_once(operands.x, *pitch);
    if (operands.x.dtype != type_of(*element) || halves < 2) {
      return refuse("its input is of another type, or not channels last in multiples of two");
    }
    // Of floats the kernel counts 16-bit halves.
    if (wide) shape.channels *= 2;
    shape.input_pitch = wide ? 2 * *pitch : *pitch, shape.input_at_once = halves;
    const bool pointwise = product && a.stride[0] == 1 && a.stride[1] == 1 && a.pad_begin[0] == 0 && a.pad_begin[1] == 0 &&
                           shape.out_height == shape.height && shape.out_width == shape.width;
    // Each image has factors, and planes, of its own.
    if (pointwise && ((!shape.scaled && !shape.plane_output && shape.output_image_pixels == 0) || shape.batch == 1)) flatten(shape);
  }
  operands.covered.insert(operands.covered.end(), covered.begin(), covered.end());
  found.weights = floats_for(*element, context, node.inputs[1]);
  if (a.groups > 1) found.weights = join_weights(found.weights, shape, context.input(node, 0).dims[1], a.groups);
  return found;
}


/// A 1x1 convolution as the shortcut of `main`, whose result it is added to; false where the kernel cannot add it.
bool add_shortcut(const Context& context, const ir::Node& node, const Convolution& shortcut, const Convolution& main, ConvShape& shape) {
  const auto& a = node.as<cpu::ConvAttributes>();
  const bool padded = a.pad_begin[0] != 0 || a.pad_begin[1] != 0 || a.pad_end[0] != 0 || a.pad_end[1] != 0;
  if (a.kernel[0] != 1 || a.kernel[1] != 1 || a.groups != 1 || padded || main.shape.groups != 1) return false;
  const ir::Dims &x = shortcut.operands.x.dims, y = context.operand(node.outputs[0]).dims;
  shape = main.shape;
  shape.shortcut.channels = shortcut.shape.channels, shape.shortcut.pitch = shortcut.shape.input_pitch;
  shape.shortcut.height = to_int(x[2]), shape.shortcut.width = to_int(x[3]);
  shape.shortcut.stride[0] = a.stride[0], shape.shortcut.stride[1] = a.stride[1];
  shape.shortcut.out_height = to_int(y[2]), shape.shortcut.out_width = to_int(y[3]);
  return shape.channels % 8 == 0 && shape.shortcut.channels % 8 == 0 && shape.input_at_once == 8 && shortcut.shape.input_at_once == 8 &&
         codegen::shortcut_taps(shape) <= kMostShortcutTaps;
}

/// Input channels that each output pixel is the sum over, zeros in the shortcut's last tap among them.
std::int64_t depth_of(const ConvShape& shape) {
  return std::int64_t{shape.channels} * (shape.kernel[0] * shape.kernel[1] + codegen::shortcut_taps(shape));
}

/// One launch for `own` and `other`, which are added: the one in which fewer input channels are multiplied is the other's
/// shortcut. Weights are those of both, packed behind each other.
struct Joined {
  Convolution convolution;
  ir::Bytes weights, bias;
};
std::optional<Joined> join(const Context& context, const ir::Node& own, const Convolution& first, const ir::Node& other, const Convolution& second) {
  ConvShape with_other, with_own;
  const bool other_fits = add_shortcut(context, other, second, first, with_other), own_fits = add_shortcut(context, own, first, second, with_own);
  if (!other_fits && !own_fits) return std::nullopt;
  const std::int64_t other_depth = depth_of(with_other), own_depth = depth_of(with_own);
  const bool swapped = !other_fits || (own_fits && (own_depth < other_depth || (own_depth == other_depth && second.shape.stride[0] < first.shape.stride[0])));
  const Convolution &main = swapped ? second : first, &shortcut = swapped ? first : second;
  Joined joined{main, {}, {}};
  ConvShape& shape = joined.convolution.shape;
  shape = swapped ? with_own : with_other;
  shape.epilogue = first.shape.epilogue;
  shape.epilogue.residual = scalar::ResidualMode::None;
  shape.output_pitch = first.shape.output_pitch, shape.output_at_once = first.shape.output_at_once;
  Operands& operands = joined.convolution.operands;
  operands.y = first.operands.y, operands.residual = {}, operands.shortcut = shortcut.operands.x;
  operands.covered = {context.graph().value(other.outputs[0]).producer};
  joined.weights = to_bytes(codegen::pack_conv_weights(shape, main.weights.data(), shortcut.weights.data()));
  std::vector<float> bias(static_cast<std::size_t>(shape.out_channels + 15) / 16 * 16, 0.0f);
  for (const Convolution* each : {&main, &shortcut}) {
    if (each->operands.bias == ir::kNone) continue;
    const std::vector<float> own_bias = context.constant_floats(each->operands.bias);
    for (std::size_t c = 0; c < own_bias.size(); ++c) bias[c] += own_bias[c];
  }
  joined.bias = to_bytes(bias);
  return joined;
}

/// Microseconds beside its own time that a launch more costs in a network, as measured on a large GPU.
constexpr double kLaunch = 1.0;

/// `first`, which adds the result of `second` to its own, in two launches. What is between them lies in the workspace.
Candidate two_launches(const Context& context, const Convolution& first, const codegen::ConvTile& tile, const Convolution& second,
                       const codegen::ConvTile& second_tile, ir::NodeId covered) {
  const ConvShape& between = second.shape;
  const std::int64_t bytes = std::int64_t{between.batch} * between.out_height * between.out_width * between.output_pitch * (codegen::is_wide(between.element) ? 4 : 2);
  const std::uint64_t own = (static_cast<std::uint64_t>(bytes) + 255) / 256 * 256;
  Candidate candidate;
  candidate.launches = {launch_of(context, second.shape, second_tile, second.operands, 2), launch_of(context, first.shape, tile, first.operands)};
  for (Launch& launch : candidate.launches) {
    if (launch.spec.workspace_bytes > 0) launch.arguments[kWorkspace] = Argument::workspace(own);
    launch.spec.workspace_bytes += own;
  }
  candidate.launches[0].arguments[kResult] = candidate.launches[1].arguments[kResidual] = Argument::workspace();
  candidate.weights = {to_bytes(codegen::pack_conv_weights(first.shape, tile, first.weights.data())), bias_bytes(context, first.operands.bias, first.shape.out_channels, 16),
                       to_bytes(codegen::pack_conv_weights(second.shape, second_tile, second.weights.data())), bias_bytes(context, second.operands.bias, second.shape.out_channels, 16)};
  candidate.covered = {covered};
  candidate.compute = type_of(first.shape.element);
  return candidate;
}

/// A convolution together with the one whose result it adds to its own, where that is expected to be faster than two launches.
std::vector<Candidate> sum_of_convolutions(const Context& context, ir::NodeId id, std::size_t limit) {
  const ir::Node& node = context.graph().node(id);
  if (node.as<cpu::ConvAttributes>().epilogue.residual != scalar::ResidualMode::BeforeActivation) return {};
  const ir::NodeId other_id = context.sole_producer(node.inputs[3]);
  if (other_id == ir::kNone || context.graph().node(other_id).op != &ops::kConv || context.graph().node(other_id).outputs[0] != node.inputs[3]) return {};
  const ir::Node& other = context.graph().node(other_id);
  const scalar::Epilogue& inner = other.as<cpu::ConvAttributes>().epilogue;
  if (inner.activation != scalar::PointwiseOp::Identity || inner.residual != scalar::ResidualMode::None) {
    return context.refuse_fusion("the convolution that it adds has an activation or a sum of its own");
  }
  if (!context.can_cover(id, {other_id})) return context.refuse_fusion("the convolution that it adds is computed with something else");
  const auto first = describe(context, node, context.operand(node.outputs[0]), {});
  const auto second = describe(context, other, context.operand(other.outputs[0]), {});
  if (!first || !second) return {};
  if (first->shape.element != second->shape.element) return context.refuse_fusion("the convolution that it adds has another precision");
  if (second->shape.output_image_pixels != 0) return context.refuse_fusion("the images of the result that it adds do not follow each other");
  if (first->shape.image || second->shape.image || !first->operands.covered.empty() || !second->operands.covered.empty()) {
    return context.refuse_fusion("one of the two convolutions takes in what is before it");
  }
  const auto joined = join(context, node, *first, other, *second);
  if (!joined) return context.refuse_fusion("neither convolution is 1x1 without groups, with multiples of eight channels on both sides");
  const Target& target = context.target();
  const std::vector<codegen::ConvTile> tiles = codegen::rank_conv_tiles(joined->convolution.shape, target, limit);
  const std::size_t pairs = limit / 4;  // where the tuner decides
  const std::vector<codegen::ConvTile> first_tiles = codegen::rank_conv_tiles(first->shape, target, std::max<std::size_t>(pairs, 1));
  const std::vector<codegen::ConvTile> second_tiles = codegen::rank_conv_tiles(second->shape, target, std::max<std::size_t>(pairs, 1));
  if (tiles.empty() || first_tiles.empty() || second_tiles.empty()) return context.refuse_fusion("no tile fits the target");
  const double apart = codegen::estimate_conv(first->shape, first_tiles[0], target) + codegen::estimate_conv(second->shape, second_tiles[0], target) + kLaunch;
  if (codegen::estimate_conv(joined->convolution.shape, tiles[0], target) > apart) return context.refuse_fusion("two launches are expected to be faster");
  std::vector<Candidate> found;
  for (const codegen::ConvTile& tile : tiles) {
    if (found.size() + pairs >= limit) break;
    found.push_back(Candidate::of(launch_of(context, joined->convolution.shape, tile, joined->convolution.operands), type_of(first->shape.element)));
    found.back().weights = {joined->weights, joined->bias};
    found.back().covered = {other_id};
  }
  for (std::size_t i = 0; i < std::min({pairs, first_tiles.size(), second_tiles.size()}); ++i) {
    found.push_back(two_launches(context, *first, first_tiles[i], *second, second_tiles[i], other_id));
  }
  return found;
}

/// The convolution `node`, whose result goes to `y`.
std::vector<Candidate> convolution(const Context& context, const ir::Node& node, const Operand& y, const std::vector<ir::NodeId>& covered, std::size_t limit) {
  const std::optional<Convolution> found = describe(context, node, y, covered);
  return found ? launches(context, *found, limit) : std::vector<Candidate>();
}

/// A convolution whose only reader copies its result to the float planes that the graph's output is.
std::vector<Candidate> last_convolution(const Context& context, const ir::Node& copy, std::size_t limit) {
  const ir::NodeId id = context.sole_producer(copy.inputs[0]);
  if (id == ir::kNone || context.graph().node(id).op != &ops::kConv || context.graph().node(id).outputs[0] != copy.inputs[0]) return {};
  return convolution(context, context.graph().node(id), context.operand(copy.outputs[0]), {id}, limit);
}

/// [..., M, K] times a constant [K, N].
std::vector<Candidate> product(const Context& context, const ir::Node& node, std::size_t limit) {
  Operands operands;
  operands.x = context.input(node, 0);
  const std::optional<RowsProduct> found = rows_product(context, node, operands.x);
  if (!found) return {};
  operands.residual = found->residual;
  operands.y = found->y;
  operands.bias = found->bias;
  return launches(context, {found->shape, operands, found->weights}, limit);
}

std::vector<Candidate> candidates(const Context& context, ir::NodeId id, std::size_t limit) {
  const ir::Node& node = context.graph().node(id);
  if (node.op == &ops::kConv) {
    std::vector<Candidate> sum = sum_of_convolutions(context, id, limit);
    return sum.empty() ? convolution(context, node, context.operand(node.outputs[0]), {}, limit) : sum;
  }
  if (node.op == &ops::kCopy) return last_convolution(context, node, limit);
  if (node.op == &ops::kMatMul) return product(context, node, limit);
  return {};
}

}  // namespace

void register_conv(Registry& registry) { registry.add({"conv", Rank::Fast, &candidates}); }

}  // namespace edgert::families
