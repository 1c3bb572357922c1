// SPDX-License-Identifier: Apache-2.0
// Compress; without an axis, of the flattened input.
#include "edgert/cpu/ops/compress.h"

#include <algorithm>

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::CompressAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Compress>();

std::size_t checked_axis(const InferContext& context) {
  const std::int32_t axis = context.attributes.as<CompressAttributes>().axis;
  require(axis >= 0 && static_cast<std::size_t>(axis) < context.type(0).dims.size(),
          "axis " + std::to_string(axis) + " is out of range");
  return static_cast<std::size_t>(axis);
}

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 2);
  require(context.type(1).dims.size() == 1, "the condition must be a vector");
  ir::TensorType y = context.type(0);
  std::int64_t& extent = y.dims[checked_axis(context)];
  extent = std::min(extent, context.type(1).dims[0]);
  return runnable(kEntry, context, {y, {DType::I64, {}}});
}

Extents extents(const InferContext& context) {
  const auto axis = static_cast<std::uint32_t>(checked_axis(context));
  std::vector<ir::OutputExtent> out{{axis, ir::kNone, 1}};
  for (const ir::Extent& extent : context.extents(0)) {
    if (extent.dim != axis) out.push_back({extent.dim, extent.actual});
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.dim < b.dim; });
  return {out};
}

std::string describe(const ir::AttributeBlob& blob) {
  return "axis=" + std::to_string(blob.as<CompressAttributes>().axis);
}

std::uint64_t work(const InferContext&) { return 0; }  // one part: each slice's place depends on all before it

void import_compress(OnnxNode& node) {
  ValueId x = node.input(0);
  const Dims dims = dims_of(node, x);
  std::size_t axis = 0;
  if (node.has("axis")) {
    axis = axis_of(node, node.required_int("axis"), dims.size());
  } else {
    x = reshape(node, x, {ir::element_count(dims)});
  }
  const CompressAttributes attributes{static_cast<std::int32_t>(axis), 0};
  node.set_output(0, emit_bounded(node, kCompress, {x, node.input(1)}, ir::AttributeBlob::of(attributes))[0]);
}

}  // namespace

extern const OperatorDef kCompress = [] {
  OperatorDef op;
  op.name = "Compress";
  op.attribute_bytes = sizeof(CompressAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

void register_compress(Registry& registry) {
  registry.add(kCompress);
  registry.add_onnx("Compress", &import_compress, 9);
}

}  // namespace edgert::ops
