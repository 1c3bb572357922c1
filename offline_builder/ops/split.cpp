// SPDX-License-Identifier: Apache-2.0
// ONNX Split: one slice an output.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

void import_split(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const std::size_t axis = axis_of(node, node.int_or("axis", 0), dims.size());
  const auto outputs = static_cast<std::int64_t>(node.output_names.size());
  std::vector<std::int64_t> sizes;
  if (node.opset < 13) {
    sizes = node.ints_or("split", {});
  } else if (node.has_input(1)) {
    sizes = known_ints(node, 1, "split");
  }
  if (sizes.empty()) {
    const std::int64_t parts = node.opset >= 18 ? node.int_or("num_outputs", outputs) : outputs;
    if (parts < 1 || parts != outputs) {
      node.fail(std::to_string(outputs) + " outputs for a split in " + std::to_string(parts) + " parts");
    }
    // Equal parts; since opset 18 the last may be smaller.
    if (node.opset < 18 && dims[axis] % parts != 0) {
      node.fail(std::to_string(dims[axis]) + " elements cannot be split in " + std::to_string(parts) + " equal parts");
    }
    const std::int64_t part = dims[axis] / parts + (dims[axis] % parts != 0 ? 1 : 0);
    for (std::int64_t i = 0, left = dims[axis]; i < parts; ++i) {
      sizes.push_back(std::min(part, left));
      left -= sizes.back();
    }
  }
  if (static_cast<std::int64_t>(sizes.size()) != outputs) {
    node.fail("split names " + std::to_string(sizes.size()) + " parts, the node has " + std::to_string(outputs) +
              " outputs");
  }
  std::int64_t start = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 0 || sizes[i] > dims[axis] - start)
      node.fail("split " + ir::to_string(sizes) + " does not fit shape " + ir::to_string(dims));
    node.set_output(i, slice(node, node.input(0), axis, start, sizes[i]));
    start += sizes[i];
  }
  if (start != dims[axis]) node.fail("split " + ir::to_string(sizes) + " does not cover shape " + ir::to_string(dims));
}

}  // namespace

void register_split(Registry& registry) { registry.add_onnx("Split", &import_split, 2); }

}  // namespace edgert::ops
