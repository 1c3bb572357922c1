// SPDX-License-Identifier: Apache-2.0
// Few rows times a constant matrix, with the global average before it if there is one: kernels/gemv.cu. What a network
// that classifies ends with.
#include "codegen/window_kernel.h"

#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/reduce.h"
#include "families/dense.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using codegen::GemvShape;

constexpr std::int64_t kMaxRows = 4;
/// Each lane keeps its part of a row of weights in registers.
constexpr std::int64_t kMaxDepth = 4096;

struct Input {
  Operand x;
  std::int64_t pixels = 1;
  std::int32_t pitch = 0;
  std::vector<ir::NodeId> covered;
};

/// The mean over all pixels of a channels-last tensor whose only reader is this product.
std::optional<Input> averaged_input(const Context& context, const ir::Node& node) {
  const ir::NodeId producer = context.sole_producer(node.inputs[0]);
  if (producer == ir::kNone) return std::nullopt;
  const ir::Node& reduce = context.graph().node(producer);
  if (reduce.op != &ops::kReduce) return std::nullopt;
  const auto& a = reduce.as<cpu::ReduceAttributes>();
  const Operand x = context.input(reduce, 0);
  if (a.kind != cpu::ReduceKind::Mean || a.axes != 12u || x.dims.size() != 4) return std::nullopt;
  const auto pitch = pixel_pitch(x);
  // The product's rows must be the images, whatever views lie between.
  const Operand rows = context.input(node, 0);
  if (!pitch || rows.dims.back() != x.dims[1] || row_count(rows) != x.dims[0]) return std::nullopt;
  return Input{x, x.dims[2] * x.dims[3], *pitch, {producer}};
}

std::optional<Input> plain_input(const Context& context, const ir::Node& node) {
  const Operand x = context.input(node, 0);
  const auto pitch = row_pitch(x);
  return pitch ? std::optional<Input>(Input{x, 1, *pitch, {}}) : std::nullopt;
}

std::vector<Candidate> candidates(const Context& context, ir::NodeId id, std::size_t limit) {
  const ir::Node& node = context.graph().node(id);
  if (node.op != &ops::kMatMul) return {};
  const Operand matrix = context.input(node, 1);
  const Operand y = context.operand(node.outputs[0]);
  const scalar::Epilogue epilogue = node.as<cpu::MatMulAttributes>().epilogue;
  if (!matrix.constant || matrix.dims.size() != 2) return context.refuse("its right operand is no constant matrix");
  if (const char* problem = epilogue_problem(context, node, epilogue)) return context.refuse(problem);
  const Operand residual = context.input(node, 3);
  std::optional<Input> input = averaged_input(context, node);
  if (!input) input = plain_input(context, node);
  const std::int64_t depth = matrix.dims[0];
  const std::int64_t rows = row_count(y);
  if (rows > kMaxRows || depth > kMaxDepth || depth % 8 != 0) return context.refuse("it has too many rows, or a depth that is no multiple of eight");
  const auto element = input ? element_of(context, node, input->x.dtype) : std::nullopt;
  const bool wide = element && codegen::is_wide(*element);
  if (!element || input->x.constant || input->pitch % 8 != 0 || !loads_whole(input->x, input->pitch)) {
    return context.refuse("its left operand is not floats in multiples of eight");
  }
  const auto output_pitch = row_pitch(y);
  if (!output_pitch || (y.dtype != input->x.dtype && y.dtype != DType::F32)) return context.refuse("its result is not in rows of its operand's type or f32");
  const auto residual_pitch = residual.present() ? row_pitch(residual) : std::optional<std::int32_t>(0);
  if (!residual_pitch || (residual.present() && residual.dtype != input->x.dtype)) return context.refuse("its residual is of another type, or not in rows");
  GemvShape shape;
  shape.rows = static_cast<std::int32_t>(rows), shape.depth = static_cast<std::int32_t>(depth);
  shape.outputs = static_cast<std::int32_t>(matrix.dims[1]), shape.pixels = static_cast<std::int32_t>(input->pixels);
  shape.input_pitch = input->pitch, shape.output_pitch = *output_pitch;
  shape.residual_pitch = *residual_pitch;
  shape.float_output = y.dtype == DType::F32;
  shape.epilogue = epilogue;
  shape.float_input = shape.float_weights = wide;
  if (!wide) shape.element = *element;
  const std::vector<float> by_depth = floats_for(*element, context, node.inputs[1]);
  std::vector<float> by_output(by_depth.size());
  const std::size_t columns = static_cast<std::size_t>(matrix.dims[1]);
  for (std::size_t k = 0; k < static_cast<std::size_t>(depth); ++k) {
    for (std::size_t n = 0; n < columns; ++n) by_output[n * static_cast<std::size_t>(depth) + k] = by_depth[k * columns + n];
  }
  const ir::Bytes weights = wide ? to_bytes(by_output) : to_bytes(as_halves(*element, by_output));
  const ir::Bytes bias = bias_bytes(context, node.inputs.size() > 2 ? node.inputs[2] : ir::kNone, matrix.dims[1], 1);
  std::vector<Candidate> found;
  for (const std::int32_t cluster : {4, 1}) {
    if (found.size() == limit) break;
    // Sharing the average among blocks pays when there is one.
    if (cluster > 1 && (context.target().arch < 90 || shape.pixels == 1 || shape.depth / 8 % cluster != 0)) continue;
    Launch launch;
    launch.spec = codegen::make_gemv(shape, cluster > 1 ? codegen::GemvTile{256, 1, cluster} : codegen::gemv_tile(shape, context.target()), context.target());
    if (launch.spec.shared_bytes > static_cast<std::uint32_t>(context.target().shared_bytes)) continue;
    launch.arguments = {Argument::read(input->x), Argument::weights(0), Argument::weights(1), Argument::write(y)};
    if (residual.present()) launch.arguments.push_back(Argument::read(residual));
    Candidate candidate = Candidate::of(std::move(launch), DType::F32);
    candidate.weights = {weights, bias};
    candidate.covered = input->covered;
    found.push_back(std::move(candidate));
  }
  return found.empty() ? context.refuse("its input does not fit shared memory") : found;
}

}  // namespace

// Before "conv", which computes the same products for many rows.
void register_gemv(Registry& registry) { registry.add({"averaged product of few rows", Rank::Fused, &candidates}); }

}  // namespace edgert::families
