// SPDX-License-Identifier: Apache-2.0
// Pool, and ONNX MaxPool, AveragePool, LpPool and the global pools. One- and three-dimensional windows run as
// two-dimensional ones: both a maximum and an average of a box is one along each axis in turn.
#include "edgert/cpu/ops/pool.h"

#include "edgert/cpu/ops/reduce.h"
#include "ops/pool_indices.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::PoolAttributes;
using cpu::PoolKind;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Pool>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const auto& a = context.attributes.as<PoolAttributes>();
  const ir::TensorType& x = context.type(0);
  require(x.dims.size() == 4, "the input must have rank 4, not " + std::to_string(x.dims.size()));
  for (std::size_t i = 0; i < 2; ++i) {
    const std::int64_t span = (std::int64_t{a.kernel[i]} - 1) * a.dilation[i] + 1;
    require(a.pad_begin[i] < span && a.pad_end[i] < span,
            "padding as wide as the kernel: a window would lie outside of the image");
  }
  const bool ceil = a.ceil_mode != 0;
  return runnable(
      kEntry, context,
      {{x.dtype, {x.dims[0], x.dims[1], window_output(a, 0, x.dims[2], ceil), window_output(a, 1, x.dims[3], ceil)}}});
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& a = blob.as<PoolAttributes>();
  return (a.kind == PoolKind::Max ? "max " : "average ") + describe_window(a) + (a.ceil_mode != 0 ? " ceil" : "") +
         (a.count_include_pad != 0 ? " count_include_pad" : "");
}

std::uint64_t work(const InferContext& context) {
  const auto& a = context.attributes.as<PoolAttributes>();
  return static_cast<std::uint64_t>(
      ir::element_count({ir::element_count(infer(context)[0].dims), a.kernel[0], a.kernel[1]}));
}

/// The part of `window` along dimensions first and first + 1.
PoolAttributes part_of(const Window& window, std::size_t first, PoolAttributes attributes) {
  const auto pair = [&](const std::vector<std::int64_t>& values) {
    return std::vector<std::int64_t>(values.begin() + static_cast<std::ptrdiff_t>(first),
                                     values.begin() + static_cast<std::ptrdiff_t>(first) + 2);
  };
  store_pair(pair(window.kernel), attributes.kernel);
  store_pair(pair(window.stride), attributes.stride);
  store_pair(pair(window.dilation), attributes.dilation);
  store_pair(pair(window.begin), attributes.pad_begin);
  store_pair(pair(window.end), attributes.pad_end);
  return attributes;
}

/// x of [N, C, one to three spatial dimensions].
ValueId pool(OnnxNode& node, ValueId x, Window window, const PoolAttributes& attributes) {
  const Dims dims = dims_of(node, x);
  if (dims.size() == 4) return node.emit(kPool, {x}, part_of(window, 0, attributes));
  if (dims.size() == 3) {
    window.lift();
    const ValueId y =
        node.emit(kPool, {reshape(node, x, {dims[0], dims[1], 1, dims[2]})}, part_of(window, 0, attributes));
    return reshape(node, y, {dims[0], dims[1], dims_of(node, y)[3]});
  }
  const std::int64_t planes = ir::element_count({dims[1], dims[2]});
  const ValueId flat =
      node.emit(kPool, {reshape(node, x, {dims[0], planes, dims[3], dims[4]})}, part_of(window, 1, attributes));
  const Dims inner = dims_of(node, flat);
  // Along the depth, with rows and columns as one dimension of windows of one element.
  const ValueId columns = reshape(node, flat, {dims[0], dims[1], dims[2], inner[2] * inner[3]});
  window.kernel[1] = window.stride[1] = window.dilation[1] = 1;
  window.begin[1] = window.end[1] = 0;
  const ValueId y = node.emit(kPool, {columns}, part_of(window, 0, attributes));
  return reshape(node, y, {dims[0], dims[1], dims_of(node, y)[2], inner[2], inner[3]});
}

Window read_pool_window(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (dims.size() < 3 || dims.size() > 5)
    node.fail("the input must have rank 3, 4 or 5, not " + std::to_string(dims.size()));
  return read_window(node, Dims(dims.begin() + 2, dims.end()), kernel_shape(node, dims.size() - 2));
}

void import_pool(OnnxNode& node) {
  const Window window = read_pool_window(node);
  PoolAttributes attributes{};
  attributes.kind = node.op_type == "MaxPool" ? PoolKind::Max : PoolKind::Average;
  attributes.count_include_pad = node.int_or("count_include_pad", 0) != 0 ? 1 : 0;
  attributes.ceil_mode = node.int_or("ceil_mode", 0) != 0 ? 1 : 0;
  const DType dtype = node.type(0).dtype;
  const ValueId x = cast_narrow(node, node.input(0));
  const ValueId y = pool(node, x, window, attributes);
  node.set_output(0, cast(node, y, dtype));
  if (node.op_type == "MaxPool" && node.wants_output(1))
    node.set_output(1, max_pool_indices(node, x, window, dims_of(node, y), node.int_or("storage_order", 0) != 0));
}

/// (sum |x|^p) ^ (1 / p) over each window, whose padding counts as zeros.
void import_lp_pool(OnnxNode& node) {
  Window window = read_pool_window(node);
  const DType dtype = node.type(0).dtype;
  const ValueId x = cast_narrow(node, node.input(0));
  const double p = static_cast<double>(node.int_or("p", 2));
  if (p < 1) node.fail("p must be at least 1");
  if (node.int_or("ceil_mode", 0) != 0) node.fail("ceil_mode is not supported");
  std::vector<std::int64_t> before{0, 0};
  std::vector<std::int64_t> after{0, 0};
  before.insert(before.end(), window.begin.begin(), window.begin.end());
  after.insert(after.end(), window.end.begin(), window.end.end());
  window.begin.assign(window.rank(), 0);
  window.end.assign(window.rank(), 0);
  const auto scalar = [&](double value) { return scalar_constant(node, dtype_of(node, x), value); };
  const ValueId magnitude = unary(node, PointwiseOp::Abs, pad_zero(node, x, before, after));
  PoolAttributes attributes{};
  attributes.kind = PoolKind::Average;
  const ValueId mean = pool(node, binary(node, PointwiseOp::Pow, magnitude, scalar(p)), window, attributes);
  const ValueId sum =
      binary(node, PointwiseOp::Mul, mean, scalar(static_cast<double>(ir::element_count(window.kernel))));
  node.set_output(0, cast(node, binary(node, PointwiseOp::Pow, sum, scalar(1 / p)), dtype));
}

/// The global pools reduce everything behind the channels.
void import_global_pool(OnnxNode& node) {
  const std::size_t rank = node.type(0).dims.size();
  if (rank < 3) node.fail("the input must have rank 3 or more, not " + std::to_string(rank));
  std::vector<std::size_t> axes;
  for (std::size_t i = 2; i < rank; ++i) axes.push_back(i);
  const DType dtype = node.type(0).dtype;
  const ValueId x = cast_narrow(node, node.input(0));
  const auto finish = [&](cpu::ReduceKind kind) {
    node.set_output(0, cast(node, reduce(node, static_cast<unsigned>(kind), x, axes, true), dtype));
  };
  if (node.op_type == "GlobalAveragePool") return finish(cpu::ReduceKind::Mean);
  if (node.op_type == "GlobalMaxPool") return finish(cpu::ReduceKind::Max);
  const std::int64_t p = node.int_or("p", 2);
  if (p != 1 && p != 2) node.fail("p must be 1 or 2, not " + std::to_string(p));
  finish(p == 1 ? cpu::ReduceKind::L1 : cpu::ReduceKind::L2);
}

}  // namespace

extern const OperatorDef kPool = [] {
  OperatorDef op;
  op.name = "Pool";
  op.attribute_bytes = sizeof(PoolAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

void register_pool(Registry& registry) {
  registry.add(kPool);
  registry.add_onnx("MaxPool", &import_pool);
  registry.add_onnx("AveragePool", &import_pool, 1);
  registry.add_onnx("LpPool", &import_lp_pool, 2);
  registry.add_onnx("GlobalAveragePool", &import_global_pool);
  registry.add_onnx("GlobalMaxPool", &import_global_pool);
  registry.add_onnx("GlobalLpPool", &import_global_pool, 2);
}

}  // namespace edgert::ops
