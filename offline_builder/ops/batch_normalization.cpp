// SPDX-License-Identifier: Apache-2.0
// ONNX BatchNormalization: at inference a scale and a shift per channel, which a pass folds into a convolution. And LRN.
#include "edgert/cpu/ops/pool.h"
#include "edgert/cpu/ops/reduce.h"

#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// In training mode mean and variance are those of x, and the running ones, which move towards them, are outputs 1, 2.
void use_batch_statistics(OnnxNode& node, ValueId& mean, ValueId& variance) {
  const std::size_t rank = node.type(0).dims.size();
  std::vector<std::size_t> axes;
  for (std::size_t i = 0; i < rank; ++i) {
    if (i != 1) axes.push_back(i);
  }
  const ValueId x = cast(node, node.input(0), DType::F32);
  const auto average = [&](ValueId value) {
    return reduce(node, static_cast<unsigned>(cpu::ReduceKind::Mean), value, axes, false);
  };
  const float momentum = node.float_or("momentum", 0.9f);
  const auto moved = [&](ValueId running, ValueId batch) {
    const ValueId old = binary(node, PointwiseOp::Mul, running, float_constant(node, {1}, {momentum}));
    const ValueId added = binary(node, PointwiseOp::Mul, batch, float_constant(node, {1}, {1.0f - momentum}));
    return cast(node, binary(node, PointwiseOp::Add, old, added), node.type(3).dtype);
  };
  const ValueId batch_mean = average(x);
  const ValueId centred = binary(node, PointwiseOp::Sub, x, along_axis(node, batch_mean, 1, rank));
  const ValueId batch_variance = average(binary(node, PointwiseOp::Mul, centred, centred));
  node.set_output(1, moved(mean, batch_mean));
  node.set_output(2, moved(variance, batch_variance));
  mean = batch_mean;
  variance = batch_variance;
}

void import_batch_normalization(OnnxNode& node) {
  if (node.opset < 7 && node.int_or("is_test", 0) == 0) node.fail("is_test = 0: export the model for inference");
  const bool training = node.opset >= 14 && node.int_or("training_mode", 0) != 0;
  for (std::size_t i = training ? 3 : 1; i < 5; ++i) {
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
  if (training) use_batch_statistics(node, parameters[3], parameters[4]);
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
  registry.add_onnx("BatchNormalization", &import_batch_normalization, 1);
  registry.add_onnx("LRN", &import_lrn);
}

}  // namespace edgert::ops
