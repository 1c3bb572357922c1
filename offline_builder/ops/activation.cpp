// SPDX-License-Identifier: Apache-2.0
// ONNX's activation functions and Clip.
#include <limits>

#include "ops/compose.h"

namespace edgert::ops {
namespace {

template <PointwiseOp op>
void import_plain(OnnxNode& node) {
  node.set_output(0, unary(node, op, node.input(0)));
}

void import_leaky_relu(OnnxNode& node) {
  node.set_output(0, unary(node, PointwiseOp::LeakyRelu, node.input(0), node.float_or("alpha", 0.01f)));
}

void import_elu(OnnxNode& node) {
  node.set_output(0, unary(node, PointwiseOp::Elu, node.input(0), node.float_or("alpha", 1.0f)));
}

void import_celu(OnnxNode& node) {
  const float alpha = node.float_or("alpha", 1.0f);
  if (alpha == 0) node.fail("alpha must not be 0");
  node.set_output(0, unary(node, PointwiseOp::Celu, node.input(0), alpha));
}

void import_selu(OnnxNode& node) {
  node.set_output(0, unary(node, PointwiseOp::Selu, node.input(0), node.float_or("alpha", 1.67326319217681884765625f),
                           node.float_or("gamma", 1.05070102214813232421875f)));
}

void import_thresholded_relu(OnnxNode& node) {
  node.set_output(0, unary(node, PointwiseOp::ThresholdedRelu, node.input(0), node.float_or("alpha", 1.0f)));
}

void import_hard_sigmoid(OnnxNode& node) {
  node.set_output(0, unary(node, PointwiseOp::HardSigmoid, node.input(0), node.float_or("alpha", 0.2f),
                           node.float_or("beta", 0.5f)));
}

void import_shrink(OnnxNode& node) {
  node.set_output(
      0, unary(node, PointwiseOp::Shrink, node.input(0), node.float_or("lambd", 0.5f), node.float_or("bias", 0.0f)));
}

void import_gelu(OnnxNode& node) {
  const std::string approximate = node.string_or("approximate", "none");
  if (approximate != "none" && approximate != "tanh")
    node.fail("approximate must be none or tanh, not '" + approximate + "'");
  node.set_output(0, unary(node, approximate == "tanh" ? PointwiseOp::GeluTanh : PointwiseOp::Gelu, node.input(0)));
}

/// x * sigmoid(alpha * x)
ValueId swish(OnnxNode& node, ValueId x) {
  const float alpha = node.float_or("alpha", 1.0f);
  if (alpha == 1.0f) return unary(node, PointwiseOp::Silu, x);
  const ValueId scaled = binary(node, PointwiseOp::Mul, x, scalar_constant(node, dtype_of(node, x), alpha));
  return binary(node, PointwiseOp::Mul, x, unary(node, PointwiseOp::Sigmoid, scaled));
}

void import_swish(OnnxNode& node) { node.set_output(0, swish(node, node.input(0))); }

void import_swiglu(OnnxNode& node) {
  require_dims(node.type(1).dims, node.type(0).dims, "B");
  node.set_output(0, binary(node, PointwiseOp::Mul, swish(node, node.input(0)), node.input(1)));
}

/// Min and max are attributes before opset 11, inputs since. Constant float bounds become one operation that the passes
/// know as an activation; others two with operands of their own.
void import_clip(OnnxNode& node) {
  ValueId x = node.input(0);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto known = [&](std::size_t i) { return !node.has_input(i) || node.is_constant(i); };
  const auto bound = [&](std::size_t i, const char* attribute, float fallback) {
    if (node.opset < 11) return node.float_or(attribute, fallback);
    if (!node.has_input(i)) return fallback;
    const std::vector<float> values = node.constant_floats(i);
    if (values.size() != 1) node.fail("min and max must be scalars");
    return values[0];
  };
  if (dtype_of(node, x) == DType::F32 && (node.opset < 11 || (known(1) && known(2)))) {
    const float low = bound(1, "min", -kInfinity);
    const float high = bound(2, "max", kInfinity);
    if (low == -kInfinity && high == kInfinity) return node.set_output(0, x);
    // ONNX: where min > max, every element becomes max.
    return node.set_output(0, unary(node, PointwiseOp::Clip, x, low < high ? low : high, high));
  }
  if (node.opset < 11) {
    const DType dtype = dtype_of(node, x);
    if (node.has("min")) x = binary(node, PointwiseOp::Max, x, scalar_constant(node, dtype, node.float_or("min", 0)));
    if (node.has("max")) x = binary(node, PointwiseOp::Min, x, scalar_constant(node, dtype, node.float_or("max", 0)));
    return node.set_output(0, x);
  }
  if (node.has_input(1)) x = binary(node, PointwiseOp::Max, x, node.input(1));
  if (node.has_input(2)) x = binary(node, PointwiseOp::Min, x, node.input(2));
  node.set_output(0, x);
}

}  // namespace

void register_activation(Registry& registry) {
  registry.add_onnx("Relu", &import_plain<PointwiseOp::Relu>, 6);
  registry.add_onnx("Sigmoid", &import_plain<PointwiseOp::Sigmoid>, 6);
  registry.add_onnx("HardSwish", &import_plain<PointwiseOp::HardSwish>, 14);
  registry.add_onnx("Softplus", &import_plain<PointwiseOp::Softplus>);
  registry.add_onnx("Softsign", &import_plain<PointwiseOp::Softsign>);
  registry.add_onnx("Mish", &import_plain<PointwiseOp::Mish>, 18);
  registry.add_onnx("LeakyRelu", &import_leaky_relu, 6);
  registry.add_onnx("Elu", &import_elu, 6);
  registry.add_onnx("Celu", &import_celu, 12);
  registry.add_onnx("Selu", &import_selu, 6);
  registry.add_onnx("ThresholdedRelu", &import_thresholded_relu);
  registry.add_onnx("HardSigmoid", &import_hard_sigmoid, 6);
  registry.add_onnx("Shrink", &import_shrink, 9);
  registry.add_onnx("Gelu", &import_gelu, 20);
  registry.add_onnx("Swish", &import_swish, 24);
  registry.add_onnx("SwiGLU", &import_swiglu, 28);
  registry.add_onnx("Clip", &import_clip, 6);
}

}  // namespace edgert::ops
