// SPDX-License-Identifier: Apache-2.0
// ONNX CausalConvWithState: a depthwise convolution over time that carries its last inputs from call to call.
#include "ops/window.h"

namespace edgert::ops {
namespace {

void import_causal_conv(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const Dims w_dims = node.type(1).dims;
  const DType dtype = node.type(0).dtype;
  if (dims.size() != 3 || w_dims.size() != 3 || w_dims[0] != dims[1] || w_dims[1] != 1 || w_dims[2] < 1 || dims[1] < 1) {
    node.fail("input " + ir::to_string(dims) + " and weights " + ir::to_string(w_dims) + " don't fit");
  }
  const std::int64_t past = w_dims[2] - 1;
  ValueId x = cast_narrow(node, node.input(0));
  if (node.has_input(3)) {
    require_dims(node.type(3).dims, {dims[0], dims[1], past}, "past_state");
    if (past > 0) x = concat(node, {cast_narrow(node, node.input(3)), x}, 2);
  } else {
    x = pad_zero(node, x, {0, 0, past}, {0, 0, 0});
  }
  const ValueId bias = node.has_input(2) ? cast_narrow(node, node.input(2)) : ir::kNone;
  if (bias != ir::kNone) require_dims(dims_of(node, bias), {dims[1]}, "the bias");
  const Window window{{w_dims[2]}, {1}, {1}, {0}, {0}};
  ValueId y = convolve(node, x, cast_narrow(node, node.input(1)), bias, window, dims[1]);
  const std::string activation = node.string_or("activation", "none");
  if (activation == "silu" || activation == "swish") {
    y = unary(node, PointwiseOp::Silu, y);
  } else if (activation != "none") {
    node.fail("activation must be none, silu or swish, not '" + activation + "'");
  }
  node.set_output(0, cast(node, y, dtype));
  if (node.wants_output(1)) node.set_output(1, cast(node, slice(node, x, 2, dims[2], past), dtype));
}

}  // namespace

void register_causal_conv(Registry& registry) {
  registry.add_onnx("CausalConvWithState", &import_causal_conv, 27);
}

}  // namespace edgert::ops
