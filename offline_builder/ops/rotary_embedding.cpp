// SPDX-License-Identifier: Apache-2.0
// ONNX RotaryEmbedding: pairs of elements of each head are rotated by an angle that depends on the token's position.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// Cosines or sines as a tensor that broadcasts to one half of the heads [B, H, S, D] or [B, S, H, D].
ValueId angles(OnnxNode& node, std::size_t input, const Dims& tokens, std::int64_t half, bool heads_first) {
  ValueId cache = cast_narrow(node, node.input(input));
  if (node.has_input(3)) {
    if (dims_of(node, cache).size() != 2) node.fail("with position_ids, the caches must have rank 2");
    require_dims(node.type(3).dims, tokens, "position_ids");
    cache = gather(node, cache, node.input(3), 0);
  }
  require_dims(dims_of(node, cache), {tokens[0], tokens[1], half}, "the cache of angles");
  return reshape(node, cache, heads_first ? Dims{tokens[0], 1, tokens[1], half} : Dims{tokens[0], tokens[1], 1, half});
}

void import_rotary_embedding(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  const bool heads_first = dims.size() == 4;
  ValueId x = cast_narrow(node, node.input(0));
  if (dims.size() == 3) {
    const std::int64_t heads = node.required_int("num_heads");
    if (heads < 1 || dims[2] % heads != 0) node.fail("the input " + ir::to_string(dims) + " has no " +
                                                     std::to_string(heads) + " heads");
    x = reshape(node, x, {dims[0], dims[1], heads, dims[2] / heads});
  } else if (!heads_first) {
    node.fail("the input must have rank 3 or 4");
  }
  const Dims full = dims_of(node, x);
  std::int64_t rotated = node.int_or("rotary_embedding_dim", 0);
  if (rotated == 0) rotated = full[3];
  if (rotated < 0 || rotated > full[3] || rotated % 2 != 0) {
    node.fail("rotary_embedding_dim is " + std::to_string(rotated) + " with heads of " + std::to_string(full[3]));
  }
  const std::int64_t half = rotated / 2;
  const Dims tokens{full[0], full[heads_first ? 2 : 1]};
  const ValueId cosines = angles(node, 1, tokens, half, heads_first);
  const ValueId sines = angles(node, 2, tokens, half, heads_first);
  const bool interleaved = node.int_or("interleaved", 0) != 0;
  const ValueId a = interleaved ? slice(node, x, 3, 0, half, 2) : slice(node, x, 3, 0, half);
  const ValueId b = interleaved ? slice(node, x, 3, 1, half, 2) : slice(node, x, 3, half, half);
  const auto times = [&](ValueId left, ValueId right) { return binary(node, PointwiseOp::Mul, left, right); };
  ValueId re = binary(node, PointwiseOp::Sub, times(cosines, a), times(sines, b));
  ValueId im = binary(node, PointwiseOp::Add, times(sines, a), times(cosines, b));
  std::vector<ValueId> parts{re, im};
  if (interleaved) {
    const Dims lifted{full[0], full[1], full[2], half, 1};
    const ValueId pairs = concat(node, {reshape(node, re, lifted), reshape(node, im, lifted)}, 4);
    parts = {reshape(node, pairs, {full[0], full[1], full[2], rotated})};
  }
  if (rotated < full[3]) parts.push_back(slice(node, x, 3, rotated, full[3] - rotated));
  const ValueId y = parts.size() == 1 ? parts[0] : concat(node, parts, 3);
  node.set_output(0, cast(node, reshape(node, y, dims), dtype));
}

}  // namespace

void register_rotary_embedding(Registry& registry) {
  registry.add_onnx("RotaryEmbedding", &import_rotary_embedding, 23);
}

}  // namespace edgert::ops
