// SPDX-License-Identifier: Apache-2.0
// Unique; without an axis, of the flattened input.
#include "edgert/cpu/ops/unique.h"

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::UniqueAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Unique>();

/// Outputs of the node: ONNX's four, and how many slices differ.
constexpr std::uint32_t kCount = 4;

std::size_t checked_axis(const InferContext& context) {
  const std::int32_t axis = context.attributes.as<UniqueAttributes>().axis;
  require(axis >= 0 && static_cast<std::size_t>(axis) < context.type(0).dims.size(),
          "axis " + std::to_string(axis) + " is out of range");
  return static_cast<std::size_t>(axis);
}

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const ir::TensorType each{DType::I64, {context.type(0).dims[checked_axis(context)]}};
  return runnable(kEntry, context, {context.type(0), each, each, each, {DType::I64, {}}});
}

Extents extents(const InferContext& context) {
  const auto axis = static_cast<std::uint32_t>(checked_axis(context));
  std::vector<ir::OutputExtent> y;
  std::vector<ir::OutputExtent> inverse;
  bool placed = false;
  for (const ir::Extent& extent : context.extents(0)) {
    if (extent.dim > axis && !placed) y.push_back({axis, ir::kNone, kCount});
    placed = placed || extent.dim > axis;
    if (extent.dim != axis) y.push_back({extent.dim, extent.actual});
    if (extent.dim == axis) inverse.push_back({0, extent.actual});
  }
  if (!placed) y.push_back({axis, ir::kNone, kCount});
  const std::vector<ir::OutputExtent> counted{{0, ir::kNone, kCount}};
  return {y, counted, inverse, counted};
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<UniqueAttributes>();
  return "axis=" + std::to_string(attributes.axis) + (attributes.sorted != 0 ? " sorted" : "");
}

std::uint64_t work(const InferContext&) { return 0; }  // one part: it sorts

void import_unique(OnnxNode& node) {
  ValueId x = node.input(0);
  const Dims dims = dims_of(node, x);
  std::size_t axis = 0;
  if (node.has("axis")) {
    axis = axis_of(node, node.required_int("axis"), dims.size());
  } else {
    x = reshape(node, x, {ir::element_count(dims)});
  }
  const UniqueAttributes attributes{static_cast<std::int32_t>(axis), node.int_or("sorted", 1) != 0 ? 1u : 0u};
  const std::vector<ValueId> outputs = emit_bounded(node, kUnique, {x}, ir::AttributeBlob::of(attributes));
  for (std::size_t i = 0; i < kCount && i < node.output_names.size(); ++i) {
    if (node.wants_output(i)) node.set_output(i, outputs[i]);
  }
}

}  // namespace

extern const OperatorDef kUnique = [] {
  OperatorDef op;
  op.name = "Unique";
  op.attribute_bytes = sizeof(UniqueAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

void register_unique(Registry& registry) {
  registry.add(kUnique);
  registry.add_onnx("Unique", &import_unique, 11);
}

}  // namespace edgert::ops
