// SPDX-License-Identifier: Apache-2.0
// ONNX operators that compare or combine positions: OneHot, Trilu, CumSum, CumProd.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// y = values[1] where the position along the new axis is the index, else values[0]; negative indices count from the
/// end.
void import_one_hot(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  require_constant(node, 1, "depth");
  const ir::Value& depth_constant = node.graph.value(cast(node, node.input(1), DType::I64));
  if (!depth_constant.is_constant() || ir::element_count(depth_constant.type.dims) != 1)
    node.fail("depth must have one element");
  const std::int64_t depth = *depth_constant.constant.as<std::int64_t>();
  if (depth < 1) node.fail("depth is " + std::to_string(depth));
  checked_constant_size(node, {depth});
  const std::size_t axis = axis_of(node, node.int_or("axis", -1), dims.size() + 1);
  Dims lifted = dims;
  lifted.insert(lifted.begin() + static_cast<std::ptrdiff_t>(axis), 1);
  require_rank(lifted);

  const ValueId index = reshape(node, cast(node, node.input(0), DType::I64), lifted);
  const ValueId negative = binary(node, PointwiseOp::Less, index, scalar_constant(node, DType::I64, 0));
  const ValueId wrapped =
      select(node, negative, binary(node, PointwiseOp::Add, index, int64_constant(node, {1}, {depth})), index);
  const ValueId positions = along_axis(node, int64_constant(node, {depth}, iota(depth)), axis, lifted.size());
  const ValueId hit = binary(node, PointwiseOp::Equal, wrapped, positions);
  const ValueId values = node.input(2);
  require_dims(dims_of(node, values), {2}, "values");
  node.set_output(0, select(node, hit, slice(node, values, 0, 1, 1), slice(node, values, 0, 0, 1)));
}

/// Keeps the upper or lower triangle of the last two dimensions.
void import_trilu(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (dims.size() < 2) node.fail("the input must have rank 2 or more");
  std::int64_t k = 0;
  if (node.has_input(1)) {
    const std::vector<std::int64_t> values = known_ints(node, 1, "k");
    if (values.size() != 1) node.fail("k must have one element");
    k = values[0];
  }
  const bool upper = node.int_or("upper", 1) != 0;
  const std::int64_t rows = dims[dims.size() - 2];
  const std::int64_t columns = dims.back();
  checked_constant_size(node, {rows, columns});
  // Beyond the matrix, every k has the same effect.
  k = std::min(std::max(k, -rows - 1), columns + 1);
  std::vector<std::byte> mask(static_cast<std::size_t>(rows * columns));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      mask[static_cast<std::size_t>(r * columns + c)] =
          std::byte{(upper ? c - r >= k : c - r <= k) ? std::uint8_t{1} : std::uint8_t{0}};
    }
  }
  const ValueId keep = constant(node, {DType::Bool, {rows, columns}}, ir::Bytes::adopt(std::move(mask)));
  node.set_output(0, select(node, keep, node.input(0), scalar_constant(node, node.type(0).dtype, 0)));
}

/// Running sum or product in about log2(n) steps: each adds the tensor shifted by twice as much.
void import_cumulative(OnnxNode& node) {
  const bool sums = node.op_type == "CumSum";
  const Dims dims = node.type(0).dims;
  const std::vector<std::int64_t> named = known_ints(node, 1, "axis");
  if (named.size() != 1) node.fail("axis must have one element");
  const std::size_t axis = axis_of(node, named[0], dims.size());
  const bool reverse = node.int_or("reverse", 0) != 0;
  const std::int64_t extent = dims[axis];
  const DType dtype = node.type(0).dtype;
  Dims fill_dims = dims;
  const auto shifted = [&](ValueId x, std::int64_t by) {
    fill_dims[axis] = by;
    const ValueId fill = expand(node, scalar_constant(node, dtype, sums ? 0 : 1), fill_dims);
    const ValueId kept = slice(node, x, axis, reverse ? by : 0, extent - by);
    return concat(node, reverse ? std::vector<ValueId>{kept, fill} : std::vector<ValueId>{fill, kept}, axis);
  };
  ValueId y = node.input(0);
  if (node.int_or("exclusive", 0) != 0 && extent > 0) y = shifted(y, 1);
  for (std::int64_t by = 1; by < extent; by *= 2) {
    y = binary(node, sums ? PointwiseOp::Add : PointwiseOp::Mul, y, shifted(y, by));
  }
  node.set_output(0, y);
}

}  // namespace

void register_sequence(Registry& registry) {
  registry.add_onnx("OneHot", &import_one_hot, 9);
  registry.add_onnx("Trilu", &import_trilu, 14);
  registry.add_onnx("CumSum", &import_cumulative, 11);
  registry.add_onnx("CumProd", &import_cumulative, 26);
}

}  // namespace edgert::ops
