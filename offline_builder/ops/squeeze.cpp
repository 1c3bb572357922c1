// SPDX-License-Identifier: Apache-2.0
// ONNX Squeeze and Unsqueeze: axes are an attribute before opset 13, an input since.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

std::vector<std::int64_t> read_axes(const OnnxNode& node) {
  if (node.opset < 13) return node.ints_or("axes", {});
  return node.has_input(1) ? known_ints(node, 1, "axes") : std::vector<std::int64_t>();
}

/// Without axes, every dimension of extent 1 goes.
void import_squeeze(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const std::vector<std::int64_t> named = read_axes(node);
  std::vector<bool> gone(dims.size(), false);
  for (const std::size_t axis : axes_of(node, named, dims.size())) {
    if (dims[axis] != 1) node.fail("cannot squeeze axis " + std::to_string(axis) + " of shape " + ir::to_string(dims));
    gone[axis] = true;
  }
  Dims kept;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (!(named.empty() ? dims[i] == 1 : gone[i])) kept.push_back(dims[i]);
  }
  node.set_output(0, reshape(node, node.input(0), kept));
}

/// Axes count in the output's rank.
void import_unsqueeze(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const std::vector<std::int64_t> named = read_axes(node);
  const std::size_t rank = dims.size() + named.size();
  std::vector<bool> added(rank, false);
  for (const std::size_t axis : axes_of(node, named, rank)) added[axis] = true;
  Dims out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < rank; ++i) out.push_back(added[i] ? 1 : dims[next++]);
  node.set_output(0, reshape(node, node.input(0), out));
}

}  // namespace

void register_squeeze(Registry& registry) {
  registry.add_onnx("Squeeze", &import_squeeze);
  registry.add_onnx("Unsqueeze", &import_unsqueeze);
}

}  // namespace edgert::ops
