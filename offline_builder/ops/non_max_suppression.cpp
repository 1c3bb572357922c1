// SPDX-License-Identifier: Apache-2.0
// NonMaxSuppression. How many boxes come out is known at run time only; the most there can be follow from the number of
// boxes and, where that is a constant, from the limit a class.
#include "edgert/cpu/ops/non_max_suppression.h"

#include <algorithm>

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::NonMaxSuppressionAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::NonMaxSuppression>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 5);
  const Dims& scores = context.type(1).dims;
  require(context.type(0).dims.size() == 3 && scores.size() == 3, "boxes and scores must have rank 3");
  const std::int64_t each = std::clamp<std::int64_t>(context.attributes.as<NonMaxSuppressionAttributes>().most, 0, scores[2]);
  const ir::TensorType selected{DType::I64, {ir::element_count({scores[0], scores[1], each}), 3}};
  return runnable(kEntry, context, {selected, {DType::I64, {}}});
}

Extents extents(const InferContext&) { return {{{0, ir::kNone, 1}}}; }

std::string describe(const ir::AttributeBlob& blob) {
  return blob.as<NonMaxSuppressionAttributes>().center_point_box != 0 ? "centers" : "corners";
}

std::uint64_t work(const InferContext&) { return 0; }  // one part: each row's place depends on all before it

void import_non_max_suppression(OnnxNode& node) {
  NonMaxSuppressionAttributes attributes{};
  attributes.center_point_box = node.int_or("center_point_box", 0) != 0 ? 1 : 0;
  std::vector<ValueId> inputs{cast_narrow(node, node.input(0)), cast_narrow(node, node.input(1))};
  attributes.most = node.has_input(2) ? INT64_MAX : 0;
  if (node.is_constant(2)) {
    const std::vector<std::int64_t> most = node.constant_ints(2);
    if (most.size() != 1) node.fail("max_output_boxes_per_class must have one element");
    attributes.most = most[0];
  }
  for (std::size_t i = 2; i < 5; ++i) inputs.push_back(node.has_input(i) ? node.input(i) : ir::kNone);
  node.set_output(0, emit_bounded(node, kNonMaxSuppression, inputs, ir::AttributeBlob::of(attributes))[0]);
}

}  // namespace

extern const OperatorDef kNonMaxSuppression = [] {
  OperatorDef op;
  op.name = "NonMaxSuppression";
  op.attribute_bytes = sizeof(NonMaxSuppressionAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

void register_non_max_suppression(Registry& registry) {
  registry.add(kNonMaxSuppression);
  registry.add_onnx("NonMaxSuppression", &import_non_max_suppression, 10);
}

}  // namespace edgert::ops
