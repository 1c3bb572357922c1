// SPDX-License-Identifier: Apache-2.0
// RoiAlign, and ONNX RoiAlign.
#include "edgert/cpu/ops/roi_align.h"

#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {

extern const OperatorDef kRoiAlign;

namespace {

using cpu::RoiAlignAttributes;
using cpu::RoiMode;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::RoiAlign>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 3, 3);
  const auto& attributes = context.attributes.as<RoiAlignAttributes>();
  const Dims& x = context.type(0).dims;
  const Dims& rois = context.type(1).dims;
  require(x.size() == 4 && rois.size() == 2, "x must have rank 4 and rois rank 2");
  require(attributes.height >= 1 && attributes.width >= 1, "regions need one bin or more");
  return runnable(kEntry, context, {{DType::F32, {rois[0], x[1], attributes.height, attributes.width}}});
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<RoiAlignAttributes>();
  return std::string(attributes.mode == RoiMode::Max ? "max " : "average ") + std::to_string(attributes.height) + 'x' +
         std::to_string(attributes.width) + " sampling_ratio=" + std::to_string(attributes.sampling_ratio) +
         " spatial_scale=" + std::to_string(attributes.spatial_scale) +
         (attributes.half_pixel != 0 ? " half_pixel" : "");
}

std::uint64_t work(const InferContext& context) {
  const auto& attributes = context.attributes.as<RoiAlignAttributes>();
  const std::int64_t samples = attributes.sampling_ratio > 0 ? attributes.sampling_ratio : 2;
  return static_cast<std::uint64_t>(ir::element_count({context.type(1).dims[0], context.type(0).dims[1],
                                                       attributes.height, attributes.width, 4, samples, samples}));
}

void import_roi_align(OnnxNode& node) {
  RoiAlignAttributes attributes{};
  attributes.height = to_int32(node.int_or("output_height", 1), 1, "output_height");
  attributes.width = to_int32(node.int_or("output_width", 1), 1, "output_width");
  attributes.sampling_ratio = to_int32(node.int_or("sampling_ratio", 0), 0, "sampling_ratio");
  attributes.spatial_scale = node.float_or("spatial_scale", 1);
  const std::string mode = node.string_or("mode", "avg");
  if (mode != "avg" && mode != "max") node.fail("mode '" + mode + "' is not known");
  attributes.mode = mode == "max" ? RoiMode::Max : RoiMode::Average;
  const std::string coordinates =
      node.string_or("coordinate_transformation_mode", node.opset < 16 ? "output_half_pixel" : "half_pixel");
  if (coordinates != "half_pixel" && coordinates != "output_half_pixel") {
    node.fail("coordinate_transformation_mode '" + coordinates + "' is not known");
  }
  attributes.half_pixel = coordinates == "half_pixel" ? 1 : 0;
  const DType dtype = node.type(0).dtype;
  const ValueId x = cast_narrow(node, node.input(0));
  const ValueId rois = cast_narrow(node, node.input(1));
  node.set_output(0, cast(node, node.emit(kRoiAlign, {x, rois, node.input(2)}, attributes), dtype));
}

}  // namespace

const OperatorDef kRoiAlign = [] {
  OperatorDef op;
  op.name = "RoiAlign";
  op.attribute_bytes = sizeof(RoiAlignAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

void register_roi_align(Registry& registry) {
  registry.add(kRoiAlign);
  registry.add_onnx("RoiAlign", &import_roi_align, 10);
}

}  // namespace edgert::ops
