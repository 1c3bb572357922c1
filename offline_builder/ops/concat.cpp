// SPDX-License-Identifier: Apache-2.0
// Concat: every input is a window into the output, so it is placed there where it can be and copied where not.
#include <algorithm>

#include "ops/bounded_moves.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

std::vector<ir::TensorType> infer(const InferContext& context) {
  require(!context.inputs.empty(), "no inputs");
  require_inputs(context, context.inputs.size(), context.inputs.size());
  ir::TensorType y = context.type(0);
  const std::int32_t axis = context.attributes.as<ConcatAttributes>().axis;
  require(axis >= 0 && static_cast<std::size_t>(axis) < y.dims.size(),
          "axis " + std::to_string(axis) + " is out of range for shape " + ir::to_string(y.dims));
  const auto a = static_cast<std::size_t>(axis);
  for (std::size_t i = 1; i < context.inputs.size(); ++i) {
    ir::TensorType x = context.type(i);
    require_type(x, y.dtype, "each input");
    require(x.dims.size() == y.dims.size(), "inputs of different ranks");
    const std::int64_t extent = x.dims[a];
    x.dims[a] = y.dims[a];
    require_dims(x.dims, y.dims, "each input (but for the axis)");
    require(extent <= INT64_MAX - y.dims[a], "the result has too many elements");
    y.dims[a] += extent;
    ir::element_count(y.dims);
  }
  return {y};
}

/// Other dimensions are bounded alike in all inputs; along the axis, what comes second would have no fixed place.
Extents extents(const InferContext& context) {
  const auto axis = static_cast<std::uint32_t>(context.attributes.as<ConcatAttributes>().axis);
  for (std::size_t i = 0; i < context.inputs.size(); ++i) {
    for (const ir::Extent& extent : context.extents(i)) {
      require(extent.dim != axis, "an input has an extent along the axis that only a run knows");
    }
  }
  return elementwise_extents(context);
}

std::string describe(const ir::AttributeBlob& blob) {
  return "axis=" + std::to_string(blob.as<ConcatAttributes>().axis);
}

void import_concat(OnnxNode& node) {
  std::vector<ValueId> operands;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) operands.push_back(node.input(i));
  if (operands.empty()) node.fail("no inputs");
  const std::int64_t axis = node.opset < 4 ? node.int_or("axis", 1) : node.required_int("axis");
  const std::size_t a = axis_of(node, axis, node.type(0).dims.size());
  const bool is_bounded = std::any_of(operands.begin(), operands.end(), [&](ValueId operand) {
    const std::vector<ir::Extent>& extents = node.graph.value(operand).extents;
    return std::any_of(extents.begin(), extents.end(), [a](const ir::Extent& extent) { return extent.dim == a; });
  });
  node.set_output(0, is_bounded ? concat_bounded(node, operands, a) : concat(node, operands, a));
}

}  // namespace

extern const OperatorDef kConcat = [] {
  OperatorDef op;
  op.name = "Concat";
  op.attribute_bytes = sizeof(ConcatAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  return op;
}();

ValueId concat(OnnxNode& node, const std::vector<ValueId>& operands, std::size_t axis) {
  if (operands.size() == 1) return operands[0];
  ConcatAttributes attributes{};
  attributes.axis = static_cast<std::int32_t>(axis);
  return node.emit(kConcat, operands, attributes);
}

void register_concat(Registry& registry) {
  registry.add(kConcat);
  registry.add_onnx("Concat", &import_concat);
}

}  // namespace edgert::ops
