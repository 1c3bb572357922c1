// SPDX-License-Identifier: Apache-2.0
// Gather, and ONNX Gather, GatherElements and GatherND. The last two compute positions in the flattened data.
#include "edgert/cpu/ops/gather.h"

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::GatherAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Gather>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 2);
  const std::int32_t axis = context.attributes.as<GatherAttributes>().axis;
  const ir::TensorType& data = context.type(0);
  const ir::TensorType& indices = context.type(1);
  require(indices.dtype == DType::I32 || indices.dtype == DType::I64,
          std::string("indices must be i32 or i64, not ") + edgert::to_string(indices.dtype));
  require(axis >= 0 && static_cast<std::size_t>(axis) < data.dims.size(),
          "axis " + std::to_string(axis) + " is out of range");
  const auto position = data.dims.begin() + axis;
  ir::TensorType y{data.dtype, Dims(data.dims.begin(), position)};
  y.dims.insert(y.dims.end(), indices.dims.begin(), indices.dims.end());
  y.dims.insert(y.dims.end(), position + 1, data.dims.end());
  require_rank(y.dims);
  return runnable(kEntry, context, {y});
}

/// The dims of the data before the axis, of the indices, and of the data after it. Along a bounded axis the kernel
/// counts negative indices from the actual end.
Extents extents(const InferContext& context) {
  const auto axis = static_cast<std::uint32_t>(context.attributes.as<GatherAttributes>().axis);
  const auto inserted = static_cast<std::uint32_t>(context.type(1).dims.size());
  std::vector<ir::OutputExtent> before;
  std::vector<ir::OutputExtent> after;
  for (const ir::Extent& extent : context.extents(0)) {
    if (extent.dim < axis) before.push_back({extent.dim, extent.actual});
    if (extent.dim > axis) after.push_back({extent.dim + inserted - 1, extent.actual});
  }
  for (const ir::Extent& extent : context.extents(1)) before.push_back({extent.dim + axis, extent.actual});
  before.insert(before.end(), after.begin(), after.end());
  return {before};
}

std::string describe(const ir::AttributeBlob& blob) {
  return "axis=" + std::to_string(blob.as<GatherAttributes>().axis);
}

/// A single constant index is a slice, and so a view.
void import_gather(OnnxNode& node) {
  const ValueId data = node.input(0);
  const Dims dims = dims_of(node, data);
  const Dims index_dims = node.type(1).dims;
  const std::size_t axis = axis_of(node, node.int_or("axis", 0), dims.size());
  if (node.is_constant(1) && ir::element_count(index_dims) == 1) {
    std::int64_t index = node.constant_ints(1)[0];
    if (index < -dims[axis] || index >= dims[axis]) {
      node.fail("index " + std::to_string(index) + " is out of range for shape " + ir::to_string(dims));
    }
    if (index < 0) index += dims[axis];
    const auto position = dims.begin() + static_cast<std::ptrdiff_t>(axis);
    Dims out(dims.begin(), position);
    out.insert(out.end(), index_dims.begin(), index_dims.end());
    out.insert(out.end(), position + 1, dims.end());
    return node.set_output(0, reshape(node, slice(node, data, axis, index, 1), out));
  }
  node.set_output(0, gather(node, data, node.input(1), axis));
}

/// Indices with negative ones counted from the end of `extents` (one for all, or one for each along the last
/// dimension).
ValueId positive(OnnxNode& node, ValueId indices, const Dims& extents) {
  const ValueId wide = cast(node, indices, DType::I64);
  const ValueId limit = int64_constant(node, {static_cast<std::int64_t>(extents.size())}, extents);
  const ValueId negative = binary(node, PointwiseOp::Less, wide, int64_constant(node, {1}, {0}));
  return select(node, negative, binary(node, PointwiseOp::Add, wide, limit), wide);
}

/// y[i, j] = data[indices[i, j], j] for axis 0, and so on: the other coordinates are the output's own.
void import_gather_elements(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const Dims out = node.type(1).dims;
  if (dims.empty() || out.size() != dims.size()) node.fail("data and indices must have the same rank, 1 or more");
  const std::size_t axis = axis_of(node, node.int_or("axis", 0), dims.size());
  const Dims strides = ir::dense_strides(dims);
  const ValueId index = positive(node, node.input(1), {dims[axis]});
  ValueId position = binary(node, PointwiseOp::Mul, index, int64_constant(node, {1}, {strides[axis]}));
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i == axis) continue;
    if (out[i] > dims[i]) node.fail("indices " + ir::to_string(out) + " reach beyond data " + ir::to_string(dims));
    checked_constant_size(node, {out[i]});
    std::vector<std::int64_t> own = iota(out[i]);
    for (std::int64_t& coordinate : own) coordinate *= strides[i];
    const ValueId coordinates = along_axis(node, int64_constant(node, {out[i]}, own), i, dims.size());
    position = binary(node, PointwiseOp::Add, position, coordinates);
  }
  const ValueId flat = reshape(node, node.input(0), {ir::element_count(dims)});
  node.set_output(0, gather(node, flat, position, 0));
}

/// The last dimension of the indices holds the leading coordinates of what is gathered, behind `batch_dims` common
/// ones.
void import_gather_nd(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const Dims index_dims = node.type(1).dims;
  const std::int64_t batch_dims = node.int_or("batch_dims", 0);
  if (index_dims.empty() || batch_dims < 0 || batch_dims >= static_cast<std::int64_t>(index_dims.size()) ||
      batch_dims > static_cast<std::int64_t>(dims.size()) ||
      index_dims.back() > static_cast<std::int64_t>(dims.size()) - batch_dims || index_dims.back() < 1) {
    node.fail("indices " + ir::to_string(index_dims) + " with batch_dims " + std::to_string(batch_dims) +
              " don't fit data " + ir::to_string(dims));
  }
  if (node.graph.is_bounded(node.input(0))) node.fail("data with an extent that only a run knows");
  const auto split = [](const Dims& from, std::int64_t first, std::int64_t last) {
    return Dims(from.begin() + first, from.begin() + last);
  };
  const std::int64_t coordinates = index_dims.back();
  const auto rank = static_cast<std::int64_t>(dims.size());
  const auto index_rank = static_cast<std::int64_t>(index_dims.size());
  const Dims batch = split(dims, 0, batch_dims);
  if (batch != split(index_dims, 0, batch_dims)) node.fail("batch dimensions of data and indices differ");
  const Dims covered = split(dims, batch_dims, batch_dims + coordinates);
  const Dims rest = split(dims, batch_dims + coordinates, rank);
  const std::int64_t batches = ir::element_count(batch);
  checked_constant_size(node, batch);
  const std::int64_t rows = ir::element_count(split(index_dims, batch_dims, index_rank - 1));

  const ValueId index = positive(node, reshape(node, node.input(1), {batches, rows, coordinates}), covered);
  const ValueId strides = int64_constant(node, {coordinates}, ir::dense_strides(covered));
  ValueId position = binary(node, PointwiseOp::Mul, index, strides);
  ValueId sum = slice(node, position, 2, 0, 1);
  for (std::int64_t i = 1; i < coordinates; ++i)
    sum = binary(node, PointwiseOp::Add, sum, slice(node, position, 2, i, 1));
  std::vector<std::int64_t> starts = iota(batches);
  for (std::int64_t& start : starts) start *= ir::element_count(covered);
  position = binary(node, PointwiseOp::Add, sum, int64_constant(node, {batches, 1, 1}, starts));

  const std::int64_t slices = ir::element_count({batches, ir::element_count(covered)});
  const ValueId flat = reshape(node, node.input(0), {slices, ir::element_count(rest)});
  Dims out = split(index_dims, 0, index_rank - 1);
  out.insert(out.end(), rest.begin(), rest.end());
  node.set_output(0, reshape(node, gather(node, flat, reshape(node, position, {batches * rows}), 0), out));
}

}  // namespace

extern const OperatorDef kGather = [] {
  OperatorDef op;
  op.name = "Gather";
  op.attribute_bytes = sizeof(GatherAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  return op;
}();

ValueId gather(OnnxNode& node, ValueId data, ValueId indices, std::size_t axis) {
  return node.emit(kGather, {data, indices}, GatherAttributes{static_cast<std::int32_t>(axis), 0});
}

void register_gather(Registry& registry) {
  registry.add(kGather);
  registry.add_onnx("Gather", &import_gather);
  registry.add_onnx("GatherElements", &import_gather_elements, 11);
  registry.add_onnx("GatherND", &import_gather_nd, 11);
}

}  // namespace edgert::ops
