// SPDX-License-Identifier: Apache-2.0
// Layer or RMS normalisation inside the matrix product that reads it: kernels/conv_norm.h. Where others read the normalised
// rows later, the product's blocks store them as well.
#include "edgert/cpu/ops/normalize.h"
#include "families/dense.h"
#include "families/rows.h"
#include "ir/windows.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using codegen::ConvShape;
using ir::kNone;
using ir::Node;
using ir::NodeId;
using ir::ValueId;

/// The normalisation over the last dimension all of whose rows, in their order, are `value`.
NodeId find_norm(const ir::Graph& graph, ValueId value) {
  const std::optional<ir::Window> window = ir::Windows(graph).find(value);
  if (!window || !ir::is_row_major(window->view)) return kNone;
  const ir::Value& root = graph.value(window->root);
  if (root.producer == kNone || graph.node(root.producer).op != &ops::kNormalize) return kNone;
  const ir::Dims& dims = root.type.dims;
  const ir::Dims& seen = window->view.dims;
  if (dims.empty() || seen.empty() || seen.back() != dims.back() || ir::element_count(seen) != ir::element_count(dims)) return kNone;
  return graph.node(root.producer).as<cpu::NormalizeAttributes>().axes == 1u << (dims.size() - 1) ? root.producer : kNone;
}

/// Whether a launch of its own (kernels/rows.cu) takes less time than what all blocks of the product need for the statistics
/// of their rows, which those with other columns find as well: about a tenth of a cycle an element and multiprocessor, as
/// measured with blocks of 128 columns, against 8000 cycles. Of products by groups of warps (sm_90) the estimate knows both times;
/// the launch took 3 to 4 us for 1024 and 1576 rows.
bool is_faster_apart(const ConvShape& plain, const ConvShape& normalized, const Target& target) {
  if (target.arch != 90) return std::int64_t{plain.width} * plain.channels * ((plain.out_channels + 127) / 128) / target.multiprocessors > 80000;
  const std::vector<codegen::ConvTile> apart = codegen::rank_conv_tiles(plain, target, 1), together = codegen::rank_conv_tiles(normalized, target, 1);
  if (apart.empty() || together.empty() || !apart[0].groups_of_warps) return false;
  const double launch = 1.0 + double(plain.width) * plain.channels * 4 / 1.2e6;
  return codegen::estimate_conv(plain, apart[0], target) + launch < codegen::estimate_conv(normalized, together[0], target);
}

std::vector<Candidate> candidates(const Context& context, NodeId id, std::size_t limit) {
  const ir::Graph& graph = context.graph();
  const Node& node = graph.node(id);
  if (node.op != &ops::kMatMul) return {};
  const NodeId norm_id = find_norm(graph, node.inputs[0]);
  if (norm_id == kNone || !context.can_cover(id, {norm_id})) return {};
  const Node& norm = graph.node(norm_id);
  if (is_sum_of_gathered_rows(context, norm.inputs[0])) return context.refuse_fusion("the launch that gathers its rows normalises them");
  const Operand x = context.input(norm, 0);
  const auto product = rows_product(context, node, x);
  if (!product || codegen::is_wide(product->shape.element)) return {};
  const DType type = type_of(product->shape.element);
  const auto& a = norm.as<cpu::NormalizeAttributes>();
  ConvShape shape = product->shape;
  const auto gamma = floats_along_rows(context, context.input(norm, 1), shape.channels, 1.0f);
  const auto beta = floats_along_rows(context, context.input(norm, 2), shape.channels, 0.0f);
  if (!gamma || !beta) return context.refuse_fusion("scale or shift of its normalisation is not one constant for all rows");
  shape.layer_norm = true;
  shape.rms = a.rms != 0;
  shape.epsilon = a.epsilon;
  shape.store_normalized = context.sole_producer(node.inputs[0]) != norm_id;
  const Operand normalized = context.operand(norm.outputs[0]);
  // The blocks write it where the input lies in its own tensor.
  if (shape.store_normalized && (normalized.dtype != type || row_pitch(normalized) != shape.input_pitch)) {
    return context.refuse_fusion("others read its normalised rows, which lie otherwise than the input");
  }
  if (is_faster_apart(product->shape, shape, context.target())) return context.refuse_fusion("so many blocks would need the same statistics that a launch for them is faster");
  const std::vector<float> bias = product->bias == kNone ? std::vector<float>() : context.constant_floats(product->bias);
  const codegen::FoldedNorm folded =
      codegen::fold_layer_norm(shape, product->weights.data(), bias.empty() ? nullptr : bias.data(), gamma->data(), beta->data());
  if (type == DType::F16 && !fits_f16(folded.weights)) return context.refuse_fusion("its weights times the normalisation's scale go beyond f16");
  PackedWeights packed(shape, folded.weights);
  const ir::Bytes parameters = to_bytes(folded.bias);
  std::vector<Candidate> found;
  for (const codegen::ConvTile& tile : codegen::rank_conv_tiles(shape, context.target(), limit)) {
    Launch launch;
    launch.spec = codegen::make_conv(shape, tile, context.target());
    launch.spread = true;
    launch.arguments = {Argument::read(x), Argument::weights(0), Argument::weights(1),
                        product->residual.present() ? Argument::read(product->residual) : Argument::null(),
                        Argument::write(product->y), Argument::null(), Argument::null(),  // no splits: no workspace, no counters
                        Argument::later_weights(), Argument::later_weight_bytes()};
    if (shape.store_normalized) launch.arguments.push_back(Argument::write(normalized));
    Candidate candidate = Candidate::of(std::move(launch), type);
    candidate.weights = {packed.of(tile), parameters};
    candidate.covered = {norm_id};
    found.push_back(std::move(candidate));
  }
  return found.empty() ? context.refuse_fusion("no tile with the normalisation inside fits the target") : found;
}

}  // namespace

void register_layer_norm_product(Registry& registry) { registry.add({"normalisation in a product", Rank::Fused, &candidates}); }

}  // namespace edgert::families
