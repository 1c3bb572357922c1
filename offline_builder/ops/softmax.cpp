// SPDX-License-Identifier: Apache-2.0
// Softmax and LogSoftmax.
#include "edgert/cpu/ops/softmax.h"

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::SoftmaxAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Softmax>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const std::int32_t axis = context.attributes.as<SoftmaxAttributes>().axis;
  const ir::TensorType& x = context.type(0);
  require(axis >= 0 && static_cast<std::size_t>(axis) < x.dims.size(),
          "axis " + std::to_string(axis) + " is out of range");
  return runnable(kEntry, context, {x});
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<SoftmaxAttributes>();
  return std::string(attributes.log != 0 ? "log " : attributes.zero_hidden != 0 ? "zero_hidden " : "") + "axis=" + std::to_string(attributes.axis);
}

/// Before opset 13 the input counts as a matrix, its columns the dimensions from `axis` on.
void import_softmax(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  ValueId x = cast_narrow(node, node.input(0));
  std::size_t axis = axis_of(node, node.int_or("axis", node.opset < 13 ? 1 : -1), dims.size());
  if (node.opset < 13 && axis + 1 != dims.size()) {
    const auto split = dims.begin() + static_cast<std::ptrdiff_t>(axis);
    x = reshape(node, x, {ir::element_count({dims.begin(), split}), ir::element_count({split, dims.end()})});
    axis = 1;
  }
  SoftmaxAttributes attributes{};
  attributes.axis = static_cast<std::int32_t>(axis);
  attributes.log = node.op_type == "LogSoftmax" ? 1 : 0;
  node.set_output(0, cast(node, reshape(node, node.emit(kSoftmax, {x}, attributes), dims), dtype));
}

}  // namespace

extern const OperatorDef kSoftmax = [] {
  OperatorDef op;
  op.name = "Softmax";
  op.attribute_bytes = sizeof(SoftmaxAttributes);
  op.infer = &infer;
  op.extents = &elementwise_extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.in_place = 1;
  return op;
}();

void register_softmax(Registry& registry) {
  registry.add(kSoftmax);
  registry.add_onnx("Softmax", &import_softmax);
  registry.add_onnx("LogSoftmax", &import_softmax);
}

}  // namespace edgert::ops
