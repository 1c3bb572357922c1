// SPDX-License-Identifier: Apache-2.0
// CenterCropPad: cuts off or adds zeros on both sides, the odd one behind.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

void import_center_crop_pad(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const std::size_t rank = dims.size();
  const std::vector<std::int64_t> shape = known_ints(node, 1, "the shape");
  const std::vector<std::int64_t> axes = node.ints_or("axes", iota(static_cast<std::int64_t>(rank)));
  axes_of(node, axes, rank);
  if (shape.size() != axes.size())
    node.fail("the shape has " + std::to_string(shape.size()) + " entries for " + std::to_string(axes.size()) + " axes");
  std::vector<std::int64_t> before(rank, 0);
  std::vector<std::int64_t> after(rank, 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t axis = axis_of(node, axes[i], rank);
    if (shape[i] < 0) node.fail("an extent of the shape is negative");
    const std::int64_t added = shape[i] - dims[axis];
    before[axis] = added / 2;
    after[axis] = added - added / 2;
  }
  node.set_output(0, pad_zero(node, node.input(0), before, after));
}

}  // namespace

void register_center_crop_pad(Registry& registry) { registry.add_onnx("CenterCropPad", &import_center_crop_pad, 18); }

}  // namespace edgert::ops
