// SPDX-License-Identifier: Apache-2.0
// ONNX Tile: each repeated dimension gets one of its own before it, which a view repeats.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

void import_tile(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const std::vector<std::int64_t> repeats = known_ints(node, 1, "repeats");
  if (repeats.size() != dims.size()) {
    node.fail("repeats has " + std::to_string(repeats.size()) + " entries for an input of rank " +
              std::to_string(dims.size()));
  }
  Dims split;
  Dims repeated;
  Dims out;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (repeats[i] < 0) node.fail("a negative repeat");
    out.push_back(ir::element_count({dims[i], repeats[i]}));
    if (repeats[i] != 1 && dims[i] != 1) {
      split.push_back(1);
      repeated.push_back(repeats[i]);
    }
    split.push_back(dims[i]);
    repeated.push_back(dims[i] == 1 ? repeats[i] : dims[i]);
  }
  if (split.size() > kMaxRank)
    node.fail("too many dimensions of shape " + ir::to_string(dims) + " are repeated at once");
  const bool fold = node.is_constant(0);
  node.set_output(0, reshape(node, expand(node, reshape(node, node.input(0), split), repeated, fold), out));
}

}  // namespace

void register_tile(Registry& registry) { registry.add_onnx("Tile", &import_tile, 6); }

}  // namespace edgert::ops
