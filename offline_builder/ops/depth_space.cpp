// SPDX-License-Identifier: Apache-2.0
// ONNX DepthToSpace and SpaceToDepth: a transposition of six dimensions.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

std::int64_t block_size(const OnnxNode& node) {
  if (node.type(0).dims.size() != 4) node.fail("the input must have rank 4");
  return to_int32(node.required_int("blocksize"), 1, "attribute 'blocksize'");
}

/// Whether the block is the outer part of the depth (mode DCR), or the inner one (CRD).
bool depth_first(const OnnxNode& node) {
  const std::string mode = node.string_or("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") node.fail("mode must be DCR or CRD, not '" + mode + "'");
  return mode == "DCR";
}

void import_depth_to_space(OnnxNode& node) {
  const std::int64_t block = block_size(node);
  const Dims dims = node.type(0).dims;
  const std::int64_t channels = dims[1] / (block * block);
  if (dims[1] % (block * block) != 0)
    node.fail(std::to_string(dims[1]) + " channels don't fill blocks of " + std::to_string(block));
  const Dims split = depth_first(node) ? Dims{dims[0], block, block, channels, dims[2], dims[3]}
                                       : Dims{dims[0], channels, block, block, dims[2], dims[3]};
  const std::vector<std::int64_t> perm =
      depth_first(node) ? std::vector<std::int64_t>{0, 3, 4, 1, 5, 2} : std::vector<std::int64_t>{0, 1, 4, 2, 5, 3};
  const ValueId y = transpose(node, reshape(node, node.input(0), split), perm);
  node.set_output(0, reshape(node, y, {dims[0], channels, dims[2] * block, dims[3] * block}));
}

void import_space_to_depth(OnnxNode& node) {
  const std::int64_t block = block_size(node);
  const Dims dims = node.type(0).dims;
  if (dims[2] % block != 0 || dims[3] % block != 0)
    node.fail("shape " + ir::to_string(dims) + " is no multiple of the block");
  const ValueId split =
      reshape(node, node.input(0), {dims[0], dims[1], dims[2] / block, block, dims[3] / block, block});
  const ValueId y = transpose(
      node, split,
      depth_first(node) ? std::vector<std::int64_t>{0, 3, 5, 1, 2, 4} : std::vector<std::int64_t>{0, 1, 3, 5, 2, 4});
  node.set_output(
      0, reshape(node, y, {dims[0], ir::element_count({dims[1], block, block}), dims[2] / block, dims[3] / block}));
}

}  // namespace

void register_depth_space(Registry& registry) {
  registry.add_onnx("DepthToSpace", &import_depth_to_space);
  registry.add_onnx("SpaceToDepth", &import_space_to_depth);
}

}  // namespace edgert::ops
