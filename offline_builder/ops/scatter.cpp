// SPDX-License-Identifier: Apache-2.0
// Scatter, and ONNX ScatterElements (once called Scatter), ScatterND and TensorScatter: each computes which rows of the
// flattened data its updates go to.
#include "ops/scatter.h"
#include "ops/bounded_moves.h"
#include "ops/pad.h"

#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::ScatterAttributes;
using cpu::ScatterReduction;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Scatter>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 3, 3);
  return runnable(kEntry, context, {context.type(0)});
}

std::string describe(const ir::AttributeBlob& blob) {
  static constexpr const char* kNames[] = {"none", "add", "mul", "max", "min"};
  return std::string("reduction=") + kNames[static_cast<unsigned>(blob.as<ScatterAttributes>().reduction) % 5];
}

std::uint64_t work(const InferContext& context) {
  return static_cast<std::uint64_t>(ir::element_count(context.type(0).dims)) +
         static_cast<std::uint64_t>(ir::element_count(context.type(2).dims));
}

const OperatorDef kScatter = [] {
  OperatorDef op;
  op.name = "Scatter";
  op.attribute_bytes = sizeof(ScatterAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.in_place = 1;
  op.work = &work;
  return op;
}();

ScatterReduction read_reduction(const OnnxNode& node) {
  const std::string reduction = node.string_or("reduction", "none");
  if (reduction == "none") return ScatterReduction::None;
  if (reduction == "add") return ScatterReduction::Add;
  if (reduction == "mul") return ScatterReduction::Mul;
  if (reduction == "max") return ScatterReduction::Max;
  if (reduction == "min") return ScatterReduction::Min;
  node.fail("reduction '" + reduction + "' is not known");
}

/// 0, step, 2 * step, ... along dimension `axis` of `rank`.
ValueId coordinates(OnnxNode& node, std::int64_t extent, std::int64_t step, std::size_t axis, std::size_t rank) {
  checked_constant_size(node, {extent});
  std::vector<std::int64_t> values = iota(extent);
  for (std::int64_t& value : values) value *= step;
  return along_axis(node, int64_constant(node, {extent}, values), axis, rank);
}

Dims part(const Dims& dims, std::size_t first, std::size_t last) {
  return Dims(dims.begin() + static_cast<std::ptrdiff_t>(first), dims.begin() + static_cast<std::ptrdiff_t>(last));
}

/// With as many updates along the first axis as only a run knows: what fills them up goes to a row behind the data, which
/// is cut off again.
void scatter_bounded_elements(OnnxNode& node) {
  ir::Graph& graph = node.graph;
  const ValueId data = node.input(0);
  const std::vector<ir::Extent> extents = graph.value(node.input(1)).extents;
  const std::vector<ir::Extent> of_data = graph.value(data).extents;
  const auto is_first = [](const std::vector<ir::Extent>& each) { return each.size() == 1 && each[0].dim == 0; };
  if (!is_first(extents) || !same_extents(graph, extents, graph.value(node.input(2)).extents) || !(of_data.empty() || is_first(of_data)) ||
      axis_of(node, node.int_or("axis", 0), dims_of(node, data).size()) != 0) {
    node.fail("only along the first axis may indices and updates have an extent that only a run knows");
  }
  const Dims dims = dims_of(node, data);
  std::vector<std::int64_t> before(dims.size(), 0);
  std::vector<std::int64_t> after = before;
  after[0] = 1;
  const ValueId longer = pad_zero(node, fill_bounded(node, data), before, after);
  const ValueId indices = fill_bounded(node, cast(node, node.input(1), DType::I64), static_cast<double>(dims[0]));
  const ValueId updates = fill_bounded(node, node.input(2));
  const ValueId y = slice(node, onnx_operator(node, "ScatterElements", 18, {longer, indices, updates}, node.attributes)[0], 0, 0, dims[0]);
  node.set_output(0, of_data.empty() ? y : first_of(node, y, 0, of_data[0].actual));
}

/// Every update is an element of its own: the data is one column.
void import_scatter_elements(OnnxNode& node) {
  if (node.graph.is_bounded(node.input(1)) || node.graph.is_bounded(node.input(2))) return scatter_bounded_elements(node);
  if (node.graph.is_bounded(node.input(0))) node.fail("data with an extent that only a run knows");
  const Dims dims = node.type(0).dims;
  const Dims index_dims = node.type(1).dims;
  if (dims.empty() || index_dims.size() != dims.size()) node.fail("data and indices must have the same rank, 1 or more");
  if (node.type(2).dims != index_dims) node.fail("updates and indices must have the same shape");
  const std::size_t axis = axis_of(node, node.int_or("axis", 0), dims.size());
  const Dims strides = ir::dense_strides(dims);
  ValueId row = row_term(node, node.input(1), dims[axis], strides[axis], true);
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i == axis) continue;
    if (index_dims[i] > dims[i])
      node.fail("indices " + ir::to_string(index_dims) + " reach beyond data " + ir::to_string(dims));
    row = binary(node, PointwiseOp::Add, row, coordinates(node, index_dims[i], strides[i], i, dims.size()));
  }
  const std::int64_t count = ir::element_count(index_dims);
  const ValueId data = reshape(node, node.input(0), {ir::element_count(dims), 1});
  const ValueId updates = reshape(node, node.input(2), {count, 1});
  node.set_output(0, reshape(node, scatter_rows(node, data, reshape(node, row, {count}), updates, read_reduction(node)), dims));
}

/// The last dimension of the indices holds the leading coordinates of the slice that an update is.
void import_scatter_nd(OnnxNode& node) {
  if (node.graph.is_bounded(node.input(0))) node.fail("data with an extent that only a run knows");
  const Dims dims = node.type(0).dims;
  const Dims index_dims = node.type(1).dims;
  const std::size_t rank = dims.size();
  if (index_dims.empty() || index_dims.back() < 1 || index_dims.back() > static_cast<std::int64_t>(rank))
    node.fail("indices " + ir::to_string(index_dims) + " don't fit data " + ir::to_string(dims));
  const auto depth = static_cast<std::size_t>(index_dims.back());
  const Dims covered = part(dims, 0, depth);
  const Dims rest = part(dims, depth, rank);
  Dims expected = part(index_dims, 0, index_dims.size() - 1);
  const std::int64_t count = ir::element_count(expected);
  expected.insert(expected.end(), rest.begin(), rest.end());
  require_dims(node.type(2).dims, expected, "updates");
  const ValueId indices = reshape(node, node.input(1), {count, index_dims.back()});
  const Dims strides = ir::dense_strides(covered);
  ValueId row = ir::kNone;
  for (std::size_t i = 0; i < depth; ++i) {
    const ValueId index = slice(node, indices, 1, static_cast<std::int64_t>(i), 1);
    const ValueId term = row_term(node, index, covered[i], strides[i], true);
    row = i == 0 ? term : binary(node, PointwiseOp::Add, row, term);
  }
  const std::int64_t rows = ir::element_count(covered);
  const std::int64_t columns = ir::element_count(rest);
  ValueId data = reshape(node, node.input(0), {rows, columns});
  ValueId updates = node.input(2);
  const bool bounded = node.graph.is_bounded(row) || node.graph.is_bounded(updates);
  if (bounded) {
    // What fills up the updates goes to a row behind the data.
    if (!same_extents(node.graph, node.graph.value(node.input(1)).extents, node.graph.value(updates).extents)) {
      node.fail("nothing says that indices and updates have the same extents in every run");
    }
    row = fill_bounded(node, row, static_cast<double>(rows));
    updates = fill_bounded(node, updates);
    data = pad_zero(node, data, {0, 0}, {1, 0});
  }
  updates = reshape(node, updates, {count, columns});
  ValueId y = scatter_rows(node, data, reshape(node, row, {count}), updates, read_reduction(node));
  if (bounded) y = slice(node, y, 0, 0, rows);
  node.set_output(0, reshape(node, y, dims));
}

/// A cache [batch, ..., positions, ...] of which each batch gets its update from its own write index on.
void import_tensor_scatter(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const Dims update_dims = node.type(1).dims;
  const std::size_t rank = dims.size();
  const std::size_t axis = axis_of(node, node.int_or("axis", -2), rank);
  const std::string mode = node.string_or("mode", "linear");
  if (mode != "linear" && mode != "circular") node.fail("mode '" + mode + "' is not known");
  if (axis == 0) node.fail("axis 0 is the batch");
  Dims expected = dims;
  if (update_dims.size() == rank) expected[axis] = update_dims[axis];
  require_dims(update_dims, expected, "the update");
  const std::int64_t positions = dims[axis];
  const std::int64_t length = update_dims[axis];
  if (length > positions) node.fail("the update is longer than the cache");
  const std::int64_t batch = dims[0];
  const std::int64_t heads = ir::element_count(part(dims, 1, axis));
  const std::int64_t columns = ir::element_count(part(dims, axis + 1, rank));
  ValueId position = coordinates(node, length, 1, 2, 3);
  if (node.has_input(2)) {
    const ValueId first = cast(node, reshape(node, node.input(2), {batch, 1, 1}), DType::I64);
    position = binary(node, PointwiseOp::Add, first, position);
  }
  if (mode == "circular") position = binary(node, PointwiseOp::Mod, position, int64_constant(node, {1, 1, 1}, {positions}));
  ValueId row = row_term(node, position, positions, 1, false);
  row = binary(node, PointwiseOp::Add, row, coordinates(node, batch, heads * positions, 0, 3));
  row = binary(node, PointwiseOp::Add, row, coordinates(node, heads, positions, 1, 3));
  const std::int64_t count = ir::element_count({batch, heads, length});
  const ValueId data = reshape(node, node.input(0), {ir::element_count({batch, heads, positions}), columns});
  const ValueId updates = reshape(node, node.input(1), {count, columns});
  const ValueId scattered = scatter_rows(node, data, reshape(node, row, {count}), updates, ScatterReduction::None);
  node.set_output(0, reshape(node, scattered, dims));
}

}  // namespace

ValueId scatter_rows(OnnxNode& node, ValueId data, ValueId indices, ValueId updates, ScatterReduction reduction) {
  return node.emit(kScatter, {data, indices, updates}, ScatterAttributes{reduction});
}

ValueId row_term(OnnxNode& node, ValueId indices, std::int64_t extent, std::int64_t stride, bool wrap) {
  constexpr std::int64_t kOutOfRange = -(std::int64_t{1} << 59);  // eight of them, and rows below 2^56, stay negative
  const auto number = [&](std::int64_t value) { return int64_constant(node, {}, {value}); };
  ValueId index = cast(node, indices, DType::I64);
  const auto is_negative = [&](ValueId x) { return binary(node, PointwiseOp::Less, x, number(0)); };
  if (wrap) {
    index = select(node, is_negative(index), binary(node, PointwiseOp::Add, index, number(extent)), index);
  }
  const ValueId beyond = binary(node, PointwiseOp::GreaterOrEqual, index, number(extent));
  const ValueId outside = binary(node, PointwiseOp::Or, is_negative(index), beyond);
  return select(node, outside, number(kOutOfRange), binary(node, PointwiseOp::Mul, index, number(stride)));
}

void register_scatter(Registry& registry) {
  registry.add(kScatter);
  registry.add_onnx("Scatter", &import_scatter_elements, 9, 10);
  registry.add_onnx("ScatterElements", &import_scatter_elements, 11);
  registry.add_onnx("ScatterND", &import_scatter_nd, 11);
  registry.add_onnx("TensorScatter", &import_tensor_scatter, 24);
}

}  // namespace edgert::ops
