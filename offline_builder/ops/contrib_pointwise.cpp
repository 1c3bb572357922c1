// SPDX-License-Identifier: Apache-2.0
// The activations of com.microsoft, which ONNX Runtime's optimiser writes, some with a bias that is added first.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

ValueId biased(OnnxNode& node) {
  return node.has_input(1) ? binary(node, PointwiseOp::Add, node.input(0), node.input(1)) : node.input(0);
}

template <PointwiseOp op>
void import_biased(OnnxNode& node) {
  node.set_output(0, unary(node, op, biased(node)));
}

/// x * sigmoid(alpha * x)
void import_quick_gelu(OnnxNode& node) {
  const ValueId x = node.input(0);
  const auto alpha = static_cast<double>(node.float_or("alpha", 1.702f));
  const ValueId scaled = binary(node, PointwiseOp::Mul, x, scalar_constant(node, dtype_of(node, x), alpha));
  node.set_output(0, binary(node, PointwiseOp::Mul, x, unary(node, PointwiseOp::Sigmoid, scaled)));
}

/// The left half of the last dimension, times GELU of the right half; after a bias.
void import_bias_split_gelu(OnnxNode& node) {
  const ValueId x = biased(node);
  const Dims dims = dims_of(node, x);
  if (dims.empty() || dims.back() % 2 != 0) node.fail("the last extent of " + ir::to_string(dims) + " is odd");
  const std::int64_t half = dims.back() / 2;
  const ValueId left = slice(node, x, dims.size() - 1, 0, half);
  const ValueId right = slice(node, x, dims.size() - 1, half, half);
  node.set_output(0, binary(node, PointwiseOp::Mul, left, unary(node, PointwiseOp::Gelu, right)));
}

/// X + bias + skip
void import_bias_add(OnnxNode& node) { node.set_output(0, binary(node, PointwiseOp::Add, biased(node), node.input(2))); }

}  // namespace

void register_contrib_pointwise(Registry& registry) {
  const auto add = [&](const char* name, OnnxImporter importer) {
    registry.add_onnx(name, importer, 1, 1 << 30, "com.microsoft");
  };
  add("Gelu", &import_biased<PointwiseOp::Gelu>);
  add("BiasGelu", &import_biased<PointwiseOp::Gelu>);
  add("FastGelu", &import_biased<PointwiseOp::GeluTanh>);
  add("QuickGelu", &import_quick_gelu);
  add("BiasSplitGelu", &import_bias_split_gelu);
  add("BiasAdd", &import_bias_add);
}

}  // namespace edgert::ops
