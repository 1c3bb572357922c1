// SPDX-License-Identifier: Apache-2.0
// ONNX BatchNormalization at inference: a scale and a shift per channel, which a pass folds into a convolution. And
// LRN.
#include "edgert/cpu/ops/pool.h"

#include "ops/compose.h"

namespace edgert::ops {
namespace {

void import_batch_normalization(OnnxNode& node) {
  if (node.int_or("training_mode", 0) != 0) node.fail("training_mode is set; export the model for inference");
  for (std::size_t i = 1; i < 5; ++i) {
    if (node.wants_output(i)) node.fail("outputs for training are not supported; export the model for inference");
  }
  if (node.int_or("spatial", 1) != 1) node.fail("spatial = 0 is not supported");
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  if (dims.size() < 2) node.fail("the input must have rank 2 or more, not " + std::to_string(dims.size()));
  ValueId parameters[5] = {};
  for (std::size_t i = 1; i < 5; ++i) {
    parameters[i] = cast(node, node.input(i), DType::F32);
    require_dims(dims_of(node, parameters[i]), {dims[1]}, "scale, bias, mean and variance");
  }
  const ValueId epsilon = float_constant(node, {1}, {node.float_or("epsilon", 1e-5f)});
  const ValueId deviation = unary(node, PointwiseOp::Sqrt, binary(node, PointwiseOp::Add, parameters[4], epsilon));
  const ValueId scale = binary(node, PointwiseOp::Div, parameters[1], deviation);
  const ValueId shift =
      binary(node, PointwiseOp::Sub, parameters[2], binary(node, PointwiseOp::Mul, parameters[3], scale));
  const ValueId x = cast_narrow(node, node.input(0));
  const ValueId scaled = binary(node, PointwiseOp::Mul, x, along_axis(node, scale, 1, dims.size()));
  const ValueId y = binary(node, PointwiseOp::Add, scaled, along_axis(node, shift, 1, dims.size()));
  node.set_output(0, cast(node, y, dtype));
}

/// x / (bias + alpha / size * sum of squares over `size` neighbouring channels) ^ beta. The sum is an average pool
/// along the channels, with zeros beyond the first and last.
void import_lrn(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  if (dims.size() < 3) node.fail("the input must have rank 3 or more, not " + std::to_string(dims.size()));
  const std::int32_t size = to_int32(node.required_int("size"), 1, "attribute 'size'");
  const ValueId x = cast_narrow(node, node.input(0));
  const ValueId flat = reshape(node, binary(node, PointwiseOp::Mul, x, x),
                               {dims[0], 1, dims[1], ir::element_count(Dims(dims.begin() + 2, dims.end()))});
  cpu::PoolAttributes attributes{};
  attributes.kernel[0] = size;
  attributes.kernel[1] = attributes.stride[0] = attributes.stride[1] = attributes.dilation[0] = attributes.dilation[1] =
      1;
  attributes.pad_begin[0] = (size - 1) / 2;
  attributes.pad_end[0] = size - 1 - (size - 1) / 2;
  attributes.kind = cpu::PoolKind::Average;
  attributes.count_include_pad = 1;
  const ValueId mean = reshape(node, node.emit(kPool, {flat}, attributes), dims);
  const auto scalar = [&](float value) { return scalar_constant(node, dtype_of(node, x), value); };
  const ValueId scaled = binary(node, PointwiseOp::Mul, mean, scalar(node.float_or("alpha", 0.0001f)));
  const ValueId base = binary(node, PointwiseOp::Add, scaled, scalar(node.float_or("bias", 1.0f)));
  const ValueId divisor = binary(node, PointwiseOp::Pow, base, scalar(node.float_or("beta", 0.75f)));
  node.set_output(0, cast(node, binary(node, PointwiseOp::Div, x, divisor), dtype));
}

}  // namespace

void register_batch_normalization(Registry& registry) {
  registry.add_onnx("BatchNormalization", &import_batch_normalization, 7);
  registry.add_onnx("LRN", &import_lrn);
}

}  // namespace edgert::ops
