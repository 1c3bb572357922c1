// SPDX-License-Identifier: Apache-2.0
// ArgReduce: ONNX ArgMax and ArgMin, and Hardmax, which is where the maximum is.
#include "edgert/cpu/ops/arg_reduce.h"

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::ArgReduceAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::ArgReduce>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const std::int32_t axis = context.attributes.as<ArgReduceAttributes>().axis;
  ir::TensorType y{DType::I64, context.type(0).dims};
  require(axis >= 0 && static_cast<std::size_t>(axis) < y.dims.size(),
          "axis " + std::to_string(axis) + " is out of range");
  std::int64_t& extent = y.dims[static_cast<std::size_t>(axis)];
  require(extent >= 1, "no element to choose from along axis " + std::to_string(axis));
  extent = 1;
  return runnable(kEntry, context, {y});
}

Extents extents(const InferContext& context) {
  const std::int32_t axis = context.attributes.as<ArgReduceAttributes>().axis;
  std::vector<int> of;
  for (int i = 0; i < static_cast<int>(context.type(0).dims.size()); ++i) of.push_back(i == axis ? -1 : i);
  return mapped_extents(context, of);
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<ArgReduceAttributes>();
  return (attributes.minimum != 0 ? "min axis=" : "max axis=") + std::to_string(attributes.axis);
}

std::uint64_t work(const InferContext& context) {
  return static_cast<std::uint64_t>(ir::element_count(context.type(0).dims));
}

void import_arg_reduce(OnnxNode& node) {
  Dims dims = node.type(0).dims;
  const std::size_t axis = axis_of(node, node.int_or("axis", 0), dims.size());
  const ValueId x = cast_narrow(node, node.input(0));
  const ValueId y = arg_reduce(node, x, axis, node.op_type == "ArgMin", node.int_or("select_last_index", 0) != 0);
  if (node.int_or("keepdims", 1) != 0) return node.set_output(0, y);
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  node.set_output(0, reshape(node, y, dims));
}

/// 1 at the first maximum along the axis, 0 elsewhere. Before opset 13 the axis splits the input into a matrix.
void import_hardmax(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  ValueId x = cast_narrow(node, node.input(0));
  std::size_t axis = axis_of(node, node.int_or("axis", node.opset < 13 ? 1 : -1), dims.size());
  if (node.opset < 13) {
    const auto split = dims.begin() + static_cast<std::ptrdiff_t>(axis);
    x = reshape(node, x, {ir::element_count({dims.begin(), split}), ir::element_count({split, dims.end()})});
    axis = 1;
  }
  const Dims shape = dims_of(node, x);
  checked_constant_size(node, {shape[axis]});
  const ValueId positions =
      along_axis(node, int64_constant(node, {shape[axis]}, iota(shape[axis])), axis, shape.size());
  const ValueId hit = binary(node, PointwiseOp::Equal, positions, arg_reduce(node, x, axis, false, false));
  node.set_output(0, reshape(node, cast(node, hit, dtype), dims));
}

}  // namespace

extern const OperatorDef kArgReduce = [] {
  OperatorDef op;
  op.name = "ArgReduce";
  op.attribute_bytes = sizeof(ArgReduceAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

ValueId arg_reduce(OnnxNode& node, ValueId x, std::size_t axis, bool minimum, bool select_last) {
  ArgReduceAttributes attributes{};
  attributes.axis = static_cast<std::int32_t>(axis);
  attributes.minimum = minimum ? 1 : 0;
  attributes.select_last = select_last ? 1 : 0;
  return node.emit(kArgReduce, {x}, attributes);
}

void register_arg_reduce(Registry& registry) {
  registry.add(kArgReduce);
  registry.add_onnx("ArgMax", &import_arg_reduce);
  registry.add_onnx("ArgMin", &import_arg_reduce);
  registry.add_onnx("Hardmax", &import_hardmax);
}

}  // namespace edgert::ops
