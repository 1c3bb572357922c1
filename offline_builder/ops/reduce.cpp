// SPDX-License-Identifier: Apache-2.0
// Reduce: the ONNX Reduce* family. Axes are an attribute in older opsets and an input in newer ones.
#include "edgert/cpu/ops/reduce.h"

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::ReduceAttributes;
using cpu::ReduceKind;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Reduce>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const auto& attributes = context.attributes.as<ReduceAttributes>();
  require(attributes.kind <= ReduceKind::SumSquare, "no such reduction");
  ir::TensorType y = context.type(0);
  require_rank(y.dims);
  require(attributes.axes >> y.dims.size() == 0, "an axis is out of range for shape " + ir::to_string(y.dims));
  for (std::size_t i = 0; i < y.dims.size(); ++i) {
    if ((attributes.axes >> i & 1) != 0) y.dims[i] = 1;
  }
  return runnable(kEntry, context, {y});
}

/// Reduced dimensions may be bounded: the kernel counts what is there.
Extents extents(const InferContext& context) {
  const std::uint32_t axes = context.attributes.as<ReduceAttributes>().axes;
  std::vector<int> of;
  for (std::size_t i = 0; i < context.type(0).dims.size(); ++i) {
    of.push_back((axes >> i & 1u) != 0 ? -1 : static_cast<int>(i));
  }
  return mapped_extents(context, of);
}

std::string describe(const ir::AttributeBlob& blob) {
  static constexpr const char* kNames[] = {"sum", "mean", "max",     "min",         "prod",
                                           "l1",  "l2",   "log_sum", "log_sum_exp", "sum_square"};
  const auto& attributes = blob.as<ReduceAttributes>();
  Dims axes;
  for (std::uint32_t i = 0; i < kMaxRank; ++i) {
    if ((attributes.axes >> i & 1) != 0) axes.push_back(i);
  }
  return std::string(kNames[static_cast<unsigned>(attributes.kind)]) + " axes=" + ir::to_string(axes);
}

std::uint64_t work(const InferContext& context) {
  return static_cast<std::uint64_t>(ir::element_count(context.type(0).dims));
}

/// Whether reducing over no axis at all passes the elements on unchanged.
bool is_plain(ReduceKind kind) { return kind <= ReduceKind::Prod; }

void import_reduce(OnnxNode& node, ReduceKind kind, int axes_input_since) {
  const std::size_t rank = node.type(0).dims.size();
  const bool keepdims = node.int_or("keepdims", 1) != 0;
  std::vector<std::int64_t> named;
  if (node.opset < axes_input_since) {
    named = node.ints_or("axes", {});
  } else if (node.has_input(1)) {
    named = known_ints(node, 1, "axes");
  }
  const bool all = named.empty() && node.int_or("noop_with_empty_axes", 0) == 0;
  std::vector<std::size_t> axes = axes_of(node, all ? iota(static_cast<std::int64_t>(rank)) : named, rank);
  const DType dtype = node.type(0).dtype;
  // A maximum of booleans is that of their bytes.
  const bool as_bytes = dtype == DType::Bool;
  const ValueId x = as_bytes ? cast(node, node.input(0), DType::U8) : cast_narrow(node, node.input(0));
  if (axes.empty() && is_plain(kind)) return node.set_output(0, node.input(0));
  node.set_output(0, cast(node, reduce(node, static_cast<unsigned>(kind), x, axes, keepdims), dtype));
}

template <ReduceKind kind, int axes_input_since>
void import_as(OnnxNode& node) {
  import_reduce(node, kind, axes_input_since);
}

}  // namespace

extern const OperatorDef kReduce = [] {
  OperatorDef op;
  op.name = "Reduce";
  op.attribute_bytes = sizeof(ReduceAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

ValueId reduce(OnnxNode& node, unsigned kind, ValueId x, const std::vector<std::size_t>& axes, bool keepdims) {
  ReduceAttributes attributes{};
  attributes.kind = static_cast<ReduceKind>(kind);
  for (const std::size_t axis : axes) attributes.axes |= 1u << axis;
  const Dims dims = dims_of(node, x);
  const ValueId y = node.emit(kReduce, {x}, attributes);
  if (keepdims) return y;
  Dims kept;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if ((attributes.axes >> i & 1) == 0) kept.push_back(dims[i]);
  }
  return reshape(node, y, kept);
}

void register_reduce(Registry& registry) {
  registry.add(kReduce);
  registry.add_onnx("ReduceSum", &import_as<ReduceKind::Sum, 13>);
  registry.add_onnx("ReduceMean", &import_as<ReduceKind::Mean, 18>);
  registry.add_onnx("ReduceMax", &import_as<ReduceKind::Max, 18>);
  registry.add_onnx("ReduceMin", &import_as<ReduceKind::Min, 18>);
  registry.add_onnx("ReduceProd", &import_as<ReduceKind::Prod, 18>);
  registry.add_onnx("ReduceL1", &import_as<ReduceKind::L1, 18>);
  registry.add_onnx("ReduceL2", &import_as<ReduceKind::L2, 18>);
  registry.add_onnx("ReduceLogSum", &import_as<ReduceKind::LogSum, 18>);
  registry.add_onnx("ReduceLogSumExp", &import_as<ReduceKind::LogSumExp, 18>);
  registry.add_onnx("ReduceSumSquare", &import_as<ReduceKind::SumSquare, 18>);
}

}  // namespace edgert::ops
