// SPDX-License-Identifier: Apache-2.0
// ReverseSequence: of each batch the first elements along the time axis in reverse order, the others as they are.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

void import_reverse_sequence(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (dims.size() < 2) node.fail("the input must have rank 2 or more");
  const std::size_t time = axis_of(node, node.int_or("time_axis", 0), dims.size());
  const std::size_t batch = axis_of(node, node.int_or("batch_axis", 1), dims.size());
  if (time > 1 || batch > 1 || time == batch) node.fail("time_axis and batch_axis must be 0 and 1 in some order");
  require_dims(node.type(1).dims, {dims[batch]}, "sequence_lens");
  checked_constant_size(node, {dims[0] + dims[1]});
  const auto positions = [&](std::size_t axis) {
    return along_axis(node, int64_constant(node, {dims[axis]}, iota(dims[axis])), axis, 2);
  };
  const auto number = [&](std::int64_t value) { return int64_constant(node, {1, 1}, {value}); };
  const ValueId length = along_axis(node, cast(node, node.input(1), DType::I64), batch, 2);
  const ValueId at = positions(time);
  const ValueId inside = binary(node, PointwiseOp::Less, at, length);
  const ValueId last = binary(node, PointwiseOp::Sub, length, number(1));
  const ValueId source = select(node, inside, binary(node, PointwiseOp::Sub, last, at), at);
  // Rows of the first two dimensions, flattened.
  const std::int64_t time_stride = time == 0 ? dims[1] : 1;
  const std::int64_t batch_stride = time == 0 ? 1 : dims[1];
  const ValueId row = binary(node, PointwiseOp::Add, binary(node, PointwiseOp::Mul, source, number(time_stride)),
                             binary(node, PointwiseOp::Mul, positions(batch), number(batch_stride)));
  const std::int64_t rows = ir::element_count({dims[0], dims[1]});
  const std::int64_t columns = ir::element_count(Dims(dims.begin() + 2, dims.end()));
  const ValueId flat = reshape(node, node.input(0), {rows, columns});
  node.set_output(0, reshape(node, gather(node, flat, reshape(node, row, {rows}), 0), dims));
}

}  // namespace

void register_reverse_sequence(Registry& registry) {
  registry.add_onnx("ReverseSequence", &import_reverse_sequence, 10);
}

}  // namespace edgert::ops
