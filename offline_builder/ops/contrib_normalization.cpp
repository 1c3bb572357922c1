// SPDX-License-Identifier: Apache-2.0
// The normalizations of com.microsoft, which ONNX Runtime's optimiser writes: of a sum, and of a text's embedding.
#include "edgert/cpu/ops/reduce.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

constexpr float kEpsilon = 1e-12f;  // ONNX Runtime's default

ValueId optional(OnnxNode& node, std::size_t i) { return node.has_input(i) ? node.inputs[i] : ir::kNone; }

/// x over its last dimension; `beta` may be kNone.
ValueId layer_normalization(OnnxNode& node, ValueId x, ValueId gamma, ValueId beta, bool rms) {
  OnnxAttributes attributes{{"epsilon", float_attribute(node.float_or("epsilon", kEpsilon))}};
  if (rms) return onnx_operator(node, "RMSNormalization", 23, {x, gamma}, std::move(attributes))[0];
  return onnx_operator(node, "LayerNormalization", 17, {x, gamma, beta}, std::move(attributes))[0];
}

/// Normalizes input + skip + bias; the sum is an output of its own. Mean and deviation, outputs 1 and 2, are for training.
template <bool kRms>
void import_skip_normalization(OnnxNode& node) {
  if (node.wants_output(1) || node.wants_output(2)) node.fail("outputs for training are not supported");
  ValueId sum = binary(node, PointwiseOp::Add, node.input(0), node.input(1));
  const ValueId bias = optional(node, kRms ? 3 : 4);
  if (bias != ir::kNone) sum = binary(node, PointwiseOp::Add, sum, bias);
  require_dims(dims_of(node, sum), node.type(0).dims, "the sum of input and skip");
  node.set_output(0, layer_normalization(node, sum, node.input(2), kRms ? ir::kNone : optional(node, 3), kRms));
  if (node.wants_output(3)) node.set_output(3, sum);
}

/// Words, positions and segments looked up, added and normalized. Output 1 counts the mask's ones, output 2 is the sum.
void import_embed_layer_normalization(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (dims.size() != 2) node.fail("input_ids must have rank 2, not " + std::to_string(dims.size()));
  const Dims table = node.type(3).dims;
  if (table.size() != 2 || (!node.has_input(8) && table[0] < dims[1])) {
    node.fail("the embedding of positions " + ir::to_string(table) + " has no " + std::to_string(dims[1]) + " rows");
  }
  ValueId sum = gather(node, node.input(2), node.input(0), 0);
  const ValueId positions = node.has_input(8) ? gather(node, node.input(3), node.input(8), 0) : slice(node, node.input(3), 0, 0, dims[1]);
  sum = binary(node, PointwiseOp::Add, sum, positions);
  if (node.has_input(1)) sum = binary(node, PointwiseOp::Add, sum, gather(node, node.input(4), node.input(1), 0));
  node.set_output(0, layer_normalization(node, sum, node.input(5), node.input(6), false));
  if (node.wants_output(1)) {
    const ValueId ones = node.has_input(7) ? reduce(node, static_cast<unsigned>(cpu::ReduceKind::Sum), cast(node, node.input(7), DType::I32), {1}, false)
                                           : expand(node, scalar_constant(node, DType::I32, 0), {dims[0]});
    node.set_output(1, ones);
  }
  if (node.wants_output(2)) node.set_output(2, sum);
}

}  // namespace

void register_contrib_normalization(Registry& registry) {
  const auto add = [&](const char* name, OnnxImporter importer) {
    registry.add_onnx(name, importer, 1, 1 << 30, "com.microsoft");
  };
  add("SkipLayerNormalization", &import_skip_normalization<false>);
  add("SkipSimplifiedLayerNormalization", &import_skip_normalization<true>);
  add("EmbedLayerNormalization", &import_embed_layer_normalization);
}

}  // namespace edgert::ops
