// SPDX-License-Identifier: Apache-2.0
// Expand: broadcasting as a view with stride 0.
#include <algorithm>

#include "ops/compose.h"

namespace edgert::ops {
namespace {

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const auto& attributes = context.attributes.as<ExpandAttributes>();
  const ir::TensorType& x = context.type(0);
  Dims dims = dims_of(attributes.dims, attributes.rank);
  require(ir::broadcast(x.dims, dims) == dims,
          "shape " + ir::to_string(x.dims) + " does not broadcast to " + ir::to_string(dims));
  return {{x.dtype, std::move(dims)}};
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<ExpandAttributes>();
  return "dims=" + ir::to_string(dims_of(attributes.dims, attributes.rank));
}

std::optional<StridedView> view(const ir::AttributeBlob&, const StridedView& input, const Dims& out) {
  StridedView result{input.offset, out, Dims(out.size(), 0)};
  const std::size_t leading = out.size() - input.dims.size();
  for (std::size_t i = 0; i < input.dims.size(); ++i) {
    if (input.dims[i] == out[leading + i]) result.strides[leading + i] = input.strides[i];
  }
  return result;
}

void import_expand(OnnxNode& node) {
  const Dims dims = ir::broadcast(node.type(0).dims, known_ints(node, 1, "the shape"));
  ir::element_count(dims);
  node.set_output(0, expand(node, node.input(0), dims, true));
}

}  // namespace

extern const OperatorDef kExpand = [] {
  OperatorDef op;
  op.name = "Expand";
  op.attribute_bytes = sizeof(ExpandAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.view = &view;
  return op;
}();

ValueId expand(OnnxNode& node, ValueId x, const Dims& dims, bool fold) {
  if (dims_of(node, x) == dims) return x;
  ExpandAttributes attributes{};
  store_dims(dims, attributes.dims, attributes.rank);
  if (fold) return node.emit(kExpand, {x}, attributes);
  const ir::NodeId id = node.graph.add_node(kExpand, {x}, ir::AttributeBlob::of(attributes), {node.provenance()});
  return node.graph.node(id).outputs[0];
}

std::vector<ValueId> broadcast_operands(OnnxNode& node, std::vector<ValueId> operands) {
  Dims dims;
  for (const ValueId operand : operands) dims = ir::broadcast(dims, dims_of(node, operand));
  const bool all_constant = std::all_of(operands.begin(), operands.end(),
                                        [&](ValueId operand) { return node.graph.value(operand).is_constant(); });
  for (ValueId& operand : operands) operand = expand(node, operand, dims, all_constant);
  return operands;
}

ValueId along_axis(OnnxNode& node, ValueId vector, std::size_t axis, std::size_t rank) {
  Dims dims(rank, 1);
  dims.at(axis) = ir::element_count(dims_of(node, vector));
  return reshape(node, vector, dims);
}

void register_expand(Registry& registry) {
  registry.add(kExpand);
  registry.add_onnx("Expand", &import_expand);
}

}  // namespace edgert::ops
