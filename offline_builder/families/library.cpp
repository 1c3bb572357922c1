// SPDX-License-Identifier: Apache-2.0
#include "families/library.h"

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/cuda/library_call.h"
#include "edgert/scalar/convert.h"
#include "families/dense.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using cuda::LibraryActivation;
using scalar::PointwiseOp;
using scalar::ResidualMode;

constexpr std::uint32_t kAlgorithms = 4;             ///< that compete for a node
constexpr std::uint64_t kWorkspaceBytes = 4u << 20;  ///< that a step may take; it is shared with the rest of the arena

std::optional<LibraryActivation> activation_of(const scalar::Epilogue& epilogue) {
  switch (epilogue.activation) {
    case PointwiseOp::Identity: return LibraryActivation::None;
    case PointwiseOp::Relu: return LibraryActivation::Relu;
    case PointwiseOp::GeluTanh: return LibraryActivation::GeluTanh;
    case PointwiseOp::Gelu: return LibraryActivation::Gelu;
    case PointwiseOp::Silu: return LibraryActivation::Silu;
    case PointwiseOp::Sigmoid: return LibraryActivation::Sigmoid;
    default: return std::nullopt;
  }
}

/// What both libraries ask of a node's end, and what they are told of it; empty where they cannot.
std::optional<cuda::LibraryCommon> common_of(const Context& context, const ir::Node& node, const scalar::Epilogue& epilogue, codegen::ElementType element) {
  const auto activation = activation_of(epilogue);
  const bool after = epilogue.residual == ResidualMode::AfterActivation && epilogue.activation != PointwiseOp::Identity;
  if (!activation || after || epilogue_problem(context, node, epilogue) != nullptr) return std::nullopt;
  cuda::LibraryCommon common = {};
  common.dtype = type_of(element);
  common.activation = *activation;
  common.rounds = element == codegen::ElementType::TF32;
  common.workspace_bytes = kWorkspaceBytes;
  return common;
}

ir::Bytes stored_as(const std::vector<float>& floats, DType dtype) {
  if (dtype == DType::F32) return to_bytes(floats);
  std::vector<std::uint16_t> narrow(floats.size());
  for (std::size_t i = 0; i < floats.size(); ++i) narrow[i] = dtype == DType::F16 ? scalar::to_half(floats[i]).bits : scalar::to_bfloat16(floats[i]).bits;
  return to_bytes(narrow);
}

struct Operands {
  Operand x, residual, y;
  ir::ValueId bias = ir::kNone;
  std::vector<float> weights;
};

template <class Problem>
std::vector<Candidate> candidates_of(const Context& context, schema::Library library, Problem problem, const Operands& operands) {
  const DType dtype = problem.common.dtype;
  std::vector<ir::Bytes> weights{stored_as(operands.weights, dtype)};
  if (operands.bias != ir::kNone) weights.push_back(stored_as(context.constant_floats(operands.bias), dtype));
  std::vector<Candidate> candidates;
  for (std::uint32_t algorithm = 0; algorithm < kAlgorithms; ++algorithm) {
    problem.common.algorithm = algorithm;
    Launch launch;
    launch.spec.entry = std::string(cuda::to_string(library)) + (problem.common.rounds != 0 ? "_tf32" : "");
    launch.spec.tile = "algorithm " + std::to_string(algorithm);
    launch.spec.workspace_bytes = problem.common.workspace_bytes;
    launch.call = codegen::LibraryCall{library, {}};
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&problem);
    launch.call->problem.assign(bytes, bytes + sizeof(problem));
    launch.arguments = {Argument::read(operands.x),
                        Argument::weights(0),
                        operands.bias != ir::kNone ? Argument::weights(1) : Argument::null(),
                        operands.residual.present() ? Argument::read(operands.residual) : Argument::null(),
                        Argument::write(operands.y),
                        Argument::workspace()};
    Candidate candidate = Candidate::of(std::move(launch), dtype);
    candidate.weights = weights;
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

std::vector<Candidate> product(const Context& context, const ir::Node& node) {
  Operands operands;
  operands.x = context.input(node, 0);
  std::optional<RowsProduct> found = rows_product(context, node, operands.x);
  if (!found) return {};
  const auto common = common_of(context, node, found->shape.epilogue, found->shape.element);
  if (!common || common->activation > LibraryActivation::GeluTanh) return {};
  const Operand matrix = context.input(node, 1);
  cuda::LibraryMatMul problem = {};
  problem.common = *common;
  problem.rows = static_cast<std::uint32_t>(row_count(operands.x));
  problem.depth = static_cast<std::uint32_t>(matrix.dims[0]), problem.columns = static_cast<std::uint32_t>(matrix.dims[1]);
  problem.input_pitch = static_cast<std::uint32_t>(*row_pitch(operands.x));
  problem.output_pitch = static_cast<std::uint32_t>(*row_pitch(found->y));
  if (found->residual.present()) problem.residual_pitch = static_cast<std::uint32_t>(*row_pitch(found->residual));
  operands.residual = found->residual, operands.y = found->y, operands.bias = found->bias;
  operands.weights = std::move(found->weights);
  return candidates_of(context, schema::Library::CublasLt, problem, operands);
}

/// [out][in][taps] to [out][taps][in].
std::vector<float> taps_first(const std::vector<float>& weights, std::size_t out, std::size_t in, std::size_t taps) {
  std::vector<float> result(weights.size());
  for (std::size_t n = 0; n < out; ++n) {
    for (std::size_t c = 0; c < in; ++c) {
      for (std::size_t t = 0; t < taps; ++t) result[(n * taps + t) * in + c] = weights[(n * in + c) * taps + t];
    }
  }
  return result;
}

std::vector<Candidate> convolution(const Context& context, const ir::Node& node) {
  const auto& a = node.as<cpu::ConvAttributes>();
  Operands operands;
  operands.x = context.input(node, 0), operands.residual = context.input(node, 3), operands.y = context.operand(node.outputs[0]);
  operands.bias = node.inputs.size() > 2 ? node.inputs[2] : ir::kNone;
  const auto element = element_of(context, node, operands.y.dtype);
  // cuDNN may round the floats that it multiplies to TF32.
  if (!context.input(node, 1).constant || !element || *element == codegen::ElementType::F32) return {};
  const auto common = common_of(context, node, a.epilogue, *element);
  const auto usable = [&](const Operand& pixels) {
    const auto pitch = pixel_pitch(pixels);
    return pitch && pixels.dtype == type_of(*element) && !pixels.constant && loads_whole(pixels, *pitch);
  };
  if (!common || !usable(operands.x) || !usable(operands.y) || (operands.residual.present() && !usable(operands.residual))) return {};
  const auto extent = [](std::int64_t value) { return static_cast<std::uint32_t>(value); };
  cuda::LibraryConv problem = {};
  problem.common = *common;
  problem.batch = extent(operands.x.dims[0]), problem.channels = extent(operands.x.dims[1]);
  problem.height = extent(operands.x.dims[2]), problem.width = extent(operands.x.dims[3]);
  problem.out_channels = extent(operands.y.dims[1]), problem.out_height = extent(operands.y.dims[2]), problem.out_width = extent(operands.y.dims[3]);
  problem.groups = extent(a.groups);
  for (int d = 0; d < 2; ++d) {
    problem.kernel[d] = extent(a.kernel[d]), problem.stride[d] = extent(a.stride[d]), problem.dilation[d] = extent(a.dilation[d]);
    problem.pad_begin[d] = extent(a.pad_begin[d]), problem.pad_end[d] = extent(a.pad_end[d]);
  }
  problem.input_pitch = extent(*pixel_pitch(operands.x)), problem.output_pitch = extent(*pixel_pitch(operands.y));
  if (operands.residual.present()) problem.residual_pitch = extent(*pixel_pitch(operands.residual));
  operands.weights = taps_first(floats_for(*element, context, node.inputs[1]), problem.out_channels, problem.channels / problem.groups,
                                std::size_t{problem.kernel[0]} * problem.kernel[1]);
  return candidates_of(context, schema::Library::Cudnn, problem, operands);
}

}  // namespace

std::vector<Candidate> library_candidates(const Context& context, ir::NodeId id) {
  const ir::Node& node = context.graph().node(id);
  std::vector<Candidate> candidates;
  if (node.op == &ops::kMatMul) candidates = product(context, node);
  if (node.op == &ops::kConv) candidates = convolution(context, node);
  (void)context.take_reasons();
  return candidates;
}

}  // namespace edgert::families
