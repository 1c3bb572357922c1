// SPDX-License-Identifier: Apache-2.0
// LinearAttention, and ONNX LinearAttention, whose operands have their heads packed into the last dimension.
#include "edgert/cpu/ops/linear_attention.h"

#include <cmath>

#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {

extern const OperatorDef kLinearAttention;

namespace {

using cpu::LinearAttentionAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::LinearAttention>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 3, 6);
  const Dims& q = context.type(0).dims;
  const Dims& k = context.type(1).dims;
  const Dims& v = context.type(2).dims;
  require(q.size() == 4 && k.size() == 4 && v.size() == 4, "q, k and v must have rank 4");
  return runnable(kEntry, context, {{DType::F32, {q[0], q[1], q[2], v[3]}}, {DType::F32, {q[0], k[2], k[3], v[3]}}});
}

std::string describe(const ir::AttributeBlob& blob) {
  return "scale=" + std::to_string(blob.as<LinearAttentionAttributes>().scale);
}

std::uint64_t work(const InferContext& context) {
  return static_cast<std::uint64_t>(
      ir::element_count({ir::element_count(context.type(1).dims), context.type(2).dims[3], 3}));
}

/// [B, T, H * D] as [B, T, H, D].
ValueId unpack(OnnxNode& node, std::size_t i, std::int64_t heads) {
  const Dims dims = node.type(i).dims;
  if (dims.size() != 3 || heads < 1 || dims[2] % heads != 0) {
    node.fail("input " + std::to_string(i) + ' ' + ir::to_string(dims) + " does not hold " + std::to_string(heads) +
              " heads");
  }
  return reshape(node, cast(node, node.input(i), DType::F32), {dims[0], dims[1], heads, dims[2] / heads});
}

void import_linear_attention(OnnxNode& node) {
  const std::string rule = node.string_or("update_rule", "gated_delta");
  if (rule != "linear" && rule != "gated" && rule != "delta" && rule != "gated_delta") {
    node.fail("update_rule '" + rule + "' is not known");
  }
  const bool gated = rule == "gated" || rule == "gated_delta";
  const bool delta = rule == "delta" || rule == "gated_delta";
  if (gated != node.has_input(4) || delta != node.has_input(5)) {
    node.fail("update_rule " + rule + " and the inputs decay and beta disagree");
  }
  const std::int64_t q_heads = node.required_int("q_num_heads");
  const std::int64_t heads = node.required_int("kv_num_heads");
  const ValueId q = unpack(node, 0, q_heads);
  const ValueId k = unpack(node, 1, heads);
  const ValueId v = unpack(node, 2, heads);
  const Dims k_dims = dims_of(node, k);
  const ValueId past = node.has_input(3) ? cast(node, node.input(3), DType::F32) : ir::kNone;
  const ValueId decay = gated ? expand(node, unpack(node, 4, heads), k_dims) : ir::kNone;
  ValueId beta = ir::kNone;
  if (delta) beta = expand(node, cast(node, node.input(5), DType::F32), {k_dims[0], k_dims[1], heads});
  LinearAttentionAttributes attributes{node.float_or("scale", 0)};
  if (attributes.scale == 0) attributes.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(k_dims[3])));

  const ir::NodeId id = node.graph.add_node(kLinearAttention, {q, k, v, past, decay, beta},
                                            ir::AttributeBlob::of(attributes), {node.provenance()});
  const std::vector<ValueId> outputs = node.graph.node(id).outputs;
  const Dims y = dims_of(node, outputs[0]);
  const DType dtype = node.type(0).dtype;
  node.set_output(0, cast(node, reshape(node, outputs[0], {y[0], y[1], y[2] * y[3]}), dtype));
  if (node.wants_output(1)) {
    node.set_output(1, cast(node, outputs[1], node.has_input(3) ? node.type(3).dtype : dtype));
  }
}

}  // namespace

const OperatorDef kLinearAttention = [] {
  OperatorDef op;
  op.name = "LinearAttention";
  op.attribute_bytes = sizeof(LinearAttentionAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

void register_linear_attention(Registry& registry) {
  registry.add(kLinearAttention);
  registry.add_onnx("LinearAttention", &import_linear_attention, 27);
}

}  // namespace edgert::ops
