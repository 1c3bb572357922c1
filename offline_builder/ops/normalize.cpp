// SPDX-License-Identifier: Apache-2.0
// Normalize, and the ONNX normalizations whose statistics come from the input: layer, instance, group, RMS and Lp.
#include "edgert/cpu/ops/normalize.h"

#include "edgert/cpu/ops/reduce.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::NormalizeAttributes;
using cpu::ReduceKind;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Normalize>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 3);
  const auto& attributes = context.attributes.as<NormalizeAttributes>();
  const ir::TensorType& x = context.type(0);
  require_type(x, DType::F32, "the input");
  require_rank(x.dims);
  require(attributes.axes >> x.dims.size() == 0, "an axis is out of range for shape " + ir::to_string(x.dims));
  for (std::size_t i = 1; i < 3; ++i) {
    if (!context.has(i)) continue;
    require_type(context.type(i), DType::F32, "scale and bias");
    require_dims(context.type(i).dims, x.dims, "scale and bias");
  }
  return runnable(kEntry, context, {x});
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<NormalizeAttributes>();
  Dims axes;
  for (std::uint32_t i = 0; i < kMaxRank; ++i) {
    if ((attributes.axes >> i & 1) != 0) axes.push_back(i);
  }
  return std::string(attributes.rms != 0 ? "rms " : "") + "axes=" + ir::to_string(axes) +
         " epsilon=" + std::to_string(attributes.epsilon);
}

std::uint64_t work(const InferContext& context) {
  return static_cast<std::uint64_t>(ir::element_count({ir::element_count(context.type(0).dims), 3}));
}

std::vector<std::size_t> axes_from(std::size_t first, std::size_t rank) {
  std::vector<std::size_t> axes;
  for (std::size_t i = first; i < rank; ++i) axes.push_back(i);
  return axes;
}

/// Scale and bias broadcast to x's shape; kNone where absent.
ValueId normalize(OnnxNode& node, ValueId x, ValueId scale, ValueId bias, const std::vector<std::size_t>& axes,
                  float epsilon, bool rms) {
  const Dims dims = dims_of(node, x);
  NormalizeAttributes attributes{};
  for (const std::size_t axis : axes) attributes.axes |= 1u << axis;
  attributes.epsilon = epsilon;
  attributes.rms = rms ? 1 : 0;
  const auto full = [&](ValueId value) { return value == ir::kNone ? value : expand(node, value, dims); };
  const ValueId full_scale = full(scale);
  const ValueId full_bias = full(bias);
  return node.emit(kNormalize, {x, full_scale, full_bias}, attributes);
}

ValueId optional_input(OnnxNode& node, std::size_t i) {
  return node.has_input(i) ? cast_narrow(node, node.inputs[i]) : ir::kNone;
}

/// The optional outputs of LayerNormalization are statistics that training reads.
void set_statistics(OnnxNode& node, ValueId x, const std::vector<std::size_t>& axes, float epsilon) {
  const auto mean_of = [&](ValueId value) {
    return reduce(node, static_cast<unsigned>(ReduceKind::Mean), value, axes, true);
  };
  const ValueId mean = mean_of(x);
  const ValueId centered = binary(node, PointwiseOp::Sub, x, mean);
  const ValueId variance = mean_of(binary(node, PointwiseOp::Mul, centered, centered));
  const ValueId shifted = binary(node, PointwiseOp::Add, variance, scalar_constant(node, dtype_of(node, x), epsilon));
  node.set_output(1, mean);
  node.set_output(2, unary(node, PointwiseOp::Reciprocal, unary(node, PointwiseOp::Sqrt, shifted)));
}

void import_layer_normalization(OnnxNode& node) {
  const std::size_t rank = node.type(0).dims.size();
  const DType dtype = node.type(0).dtype;
  const ValueId x = cast_narrow(node, node.input(0));
  const std::vector<std::size_t> axes = axes_from(axis_of(node, node.int_or("axis", -1), rank), rank);
  const float epsilon = node.float_or("epsilon", 1e-5f);
  const bool rms = node.op_type != "LayerNormalization";
  const ValueId bias = rms ? ir::kNone : optional_input(node, 2);
  const ValueId y = normalize(node, x, cast_narrow(node, node.input(1)), bias, axes, epsilon, rms);
  node.set_output(0, cast(node, y, dtype));
  if (node.wants_output(1) || node.wants_output(2)) set_statistics(node, x, axes, epsilon);
}

void import_instance_normalization(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  if (dims.size() < 3) node.fail("the input must have rank 3 or more, not " + std::to_string(dims.size()));
  const ValueId x = cast_narrow(node, node.input(0));
  const ValueId scale = cast_narrow(node, node.input(1));
  const ValueId bias = cast_narrow(node, node.input(2));
  require_dims(dims_of(node, scale), {dims[1]}, "the scale");
  require_dims(dims_of(node, bias), {dims[1]}, "the bias");
  const ValueId y = normalize(node, x, along_axis(node, scale, 1, dims.size()), along_axis(node, bias, 1, dims.size()),
                              axes_from(2, dims.size()), node.float_or("epsilon", 1e-5f), false);
  node.set_output(0, cast(node, y, dtype));
}

/// Channels in groups, each with statistics of its own. Scale and bias are per group before opset 21, per channel
/// since.
void import_group_normalization(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  const std::int64_t groups = node.required_int("num_groups");
  if (dims.size() < 3 || groups < 1 || dims[1] % groups != 0) {
    node.fail("an input " + ir::to_string(dims) + " in " + std::to_string(groups) + " groups");
  }
  const std::int64_t channels = dims[1] / groups;
  const std::int64_t pixels = ir::element_count(Dims(dims.begin() + 2, dims.end()));
  const ValueId x = reshape(node, cast_narrow(node, node.input(0)), {dims[0], groups, channels, pixels});
  const Dims parameter_dims = node.opset < 21 ? Dims{1, groups, 1, 1} : Dims{1, groups, channels, 1};
  const auto parameter = [&](std::size_t i) {
    const ValueId value = cast_narrow(node, node.input(i));
    require_dims(dims_of(node, value), {node.opset < 21 ? groups : dims[1]}, i == 1 ? "the scale" : "the bias");
    return reshape(node, value, parameter_dims);
  };
  const ValueId scale = parameter(1);
  const ValueId bias = parameter(2);
  const ValueId y = normalize(node, x, scale, bias, {2, 3}, node.float_or("epsilon", 1e-5f), false);
  node.set_output(0, cast(node, reshape(node, y, dims), dtype));
}

/// x / sqrt(mean(x * x)) and the like, where a norm of 0 leaves zeros.
void import_lp_normalization(OnnxNode& node) {
  const std::int64_t p = node.int_or("p", 2);
  if (p != 1 && p != 2) node.fail("p must be 1 or 2, not " + std::to_string(p));
  const std::size_t axis = axis_of(node, node.int_or("axis", -1), node.type(0).dims.size());
  const DType dtype = node.type(0).dtype;
  const ValueId x = cast_narrow(node, node.input(0));
  const ValueId norm = reduce(node, static_cast<unsigned>(p == 1 ? ReduceKind::L1 : ReduceKind::L2), x, {axis}, true);
  const ValueId is_zero = binary(node, PointwiseOp::Equal, norm, scalar_constant(node, dtype_of(node, x), 0));
  const ValueId divisor = select(node, is_zero, scalar_constant(node, dtype_of(node, x), 1), norm);
  node.set_output(0, cast(node, binary(node, PointwiseOp::Div, x, divisor), dtype));
}

/// (x - mean) / (deviation + 1e-9) over `axes`, as ONNX's function body has it.
void import_mean_variance_normalization(OnnxNode& node) {
  const std::vector<std::size_t> axes = axes_of(node, node.ints_or("axes", {0, 2, 3}), node.type(0).dims.size());
  const DType dtype = node.type(0).dtype;
  const ValueId x = cast_narrow(node, node.input(0));
  const auto mean_of = [&](ValueId value) {
    return reduce(node, static_cast<unsigned>(ReduceKind::Mean), value, axes, true);
  };
  const ValueId centered = binary(node, PointwiseOp::Sub, x, mean_of(x));
  const ValueId deviation = unary(node, PointwiseOp::Sqrt, mean_of(binary(node, PointwiseOp::Mul, centered, centered)));
  const ValueId divisor = binary(node, PointwiseOp::Add, deviation, scalar_constant(node, dtype_of(node, x), 1e-9));
  node.set_output(0, cast(node, binary(node, PointwiseOp::Div, centered, divisor), dtype));
}

}  // namespace

extern const OperatorDef kNormalize = [] {
  OperatorDef op;
  op.name = "Normalize";
  op.attribute_bytes = sizeof(NormalizeAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.in_place = 1;
  op.work = &work;
  return op;
}();

void register_normalize(Registry& registry) {
  registry.add(kNormalize);
  // ONNX has it from opset 17 on; ONNX Runtime's optimiser writes it, and its RMS form under a name of its own, into
  // models of any opset.
  registry.add_onnx("LayerNormalization", &import_layer_normalization);
  registry.add_onnx("SimplifiedLayerNormalization", &import_layer_normalization);
  registry.add_onnx("RMSNormalization", &import_layer_normalization, 23);
  registry.add_onnx("InstanceNormalization", &import_instance_normalization, 6);
  registry.add_onnx("GroupNormalization", &import_group_normalization, 18);
  registry.add_onnx("LpNormalization", &import_lp_normalization);
  registry.add_onnx("MeanVarianceNormalization", &import_mean_variance_normalization, 9);
}

}  // namespace edgert::ops
