// SPDX-License-Identifier: Apache-2.0
// TopK. k decides an extent, so it is a constant, or the declared shape of an output says it and the run checks it; of an
// input with an extent that only a run knows it may be the run's.
#include "edgert/cpu/ops/top_k.h"

#include <limits>

#include "edgert/cpu/ops/reduce.h"
#include "ops/bounded_moves.h"
#include "ops/compose.h"
#include "ops/pad.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::TopK>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 2);
  const auto& attributes = context.attributes.as<cpu::TopKAttributes>();
  ir::TensorType values = context.type(0);
  require(attributes.axis >= 0 && static_cast<std::size_t>(attributes.axis) < values.dims.size(),
          "axis " + std::to_string(attributes.axis) + " is out of range");
  std::int64_t& extent = values.dims[static_cast<std::size_t>(attributes.axis)];
  require(attributes.k >= 0 && attributes.k <= extent,
          "k is " + std::to_string(attributes.k) + ", but there are " + std::to_string(extent) + " elements");
  extent = attributes.k;
  return runnable(kEntry, context, {values, {DType::I64, values.dims}});
}

/// Along the axis there must be k elements, which a bounded extent does not promise.
Extents extents(const InferContext& context) {
  const std::int32_t axis = context.attributes.as<cpu::TopKAttributes>().axis;
  for (const ir::Extent& extent : context.extents(0)) {
    require(extent.dim != static_cast<std::uint32_t>(axis), "the extent along the axis is known only at run time");
  }
  std::vector<int> of;
  for (int i = 0; i < static_cast<int>(context.type(0).dims.size()); ++i) of.push_back(i);
  const Extents values = mapped_extents(context, of);
  return {values[0], values[0]};
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<cpu::TopKAttributes>();
  return std::string(attributes.smallest != 0 ? "smallest " : "largest ") + std::to_string(attributes.k) +
         " axis=" + std::to_string(attributes.axis);
}

std::uint64_t work(const InferContext& context) {
  return static_cast<std::uint64_t>(ir::element_count(context.type(0).dims)) * 16;
}

/// The extent along `axis` that the model declares for one of the outputs.
std::optional<std::int64_t> declared_extent(const OnnxNode& node, std::size_t axis, std::size_t rank) {
  for (std::size_t i = 0; i < 2; ++i) {
    const std::optional<Dims> dims = node.declared(i);
    if (dims && dims->size() == rank && (*dims)[axis] >= 0) return (*dims)[axis];
  }
  return std::nullopt;
}

/// The most that k can be: an operand of a minimum that k is, or all that there is.
std::int64_t largest_k(const OnnxNode& node, std::int64_t extent) {
  const ir::Node* producer = node.graph.producer(node.input(1));
  while (producer != nullptr && (producer->op == &kReshape || producer->op == &kCast)) producer = node.graph.producer(producer->inputs[0]);
  if (producer == nullptr || producer->op != &kReduce || producer->as<cpu::ReduceAttributes>().kind != cpu::ReduceKind::Min) return extent;
  const std::optional<std::vector<ExtentSum>> operands = extent_sums(node.graph, producer->inputs[0]);
  for (std::size_t i = 0; operands && i < operands->size(); ++i) {
    const std::optional<std::int64_t> most = largest_sum(node.graph, (*operands)[i]);
    if (most) extent = std::min(extent, *most);
  }
  return extent;
}

/// With an extent and a k that only a run knows: the best of a row filled up with what comes last, and of those the first
/// k. ONNX demands that there are k.
void import_bounded_top_k(OnnxNode& node, std::size_t axis, cpu::TopKAttributes attributes) {
  const ValueId x = node.input(0);
  const DType dtype = dtype_of(node, x);
  const bool floats = dtype == DType::F32 || dtype == DType::F64 || dtype == DType::F16 || dtype == DType::BF16;
  if (!floats) node.fail("integers with an extent that only a run knows");
  const double last = attributes.smallest != 0 ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
  const ValueId filled = fill_bounded(node, x, last);
  attributes.k = largest_k(node, dims_of(node, x)[axis]);
  const std::vector<ValueId> best = emit_bounded(node, kTopK, {filled}, ir::AttributeBlob::of(attributes));
  for (std::size_t i = 0; i < 2; ++i) node.set_output(i, first_of(node, best[i], axis, node.input(1)));
}

void import_top_k(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const std::size_t axis = axis_of(node, node.int_or("axis", -1), dims.size());
  cpu::TopKAttributes attributes{};
  attributes.axis = static_cast<std::int32_t>(axis);
  attributes.smallest = node.int_or("largest", 1) != 0 ? 0 : 1;
  std::vector<ValueId> inputs{node.input(0)};
  const std::vector<ir::Extent> extents = node.graph.value(node.input(0)).extents;
  const bool bounded = extents.size() == 1 && extents[0].dim == axis;
  if (bounded && node.opset >= 10 && !node.is_constant(1)) return import_bounded_top_k(node, axis, attributes);
  if (node.opset < 10) {
    attributes.k = node.required_int("k");
  } else if (const std::optional<std::int64_t> declared = declared_extent(node, axis, dims.size());
             declared && !node.is_constant(1)) {
    attributes.k = *declared;
    inputs.push_back(node.input(1));
  } else {
    const std::vector<std::int64_t> k = known_ints(node, 1, "k");
    if (k.size() != 1) node.fail("k must have one element");
    attributes.k = k[0];
  }
  const std::vector<ValueId> outputs = emit_bounded(node, kTopK, inputs, ir::AttributeBlob::of(attributes));
  for (std::size_t i = 0; i < 2; ++i) node.set_output(i, outputs[i]);
}

}  // namespace

extern const OperatorDef kTopK = [] {
  OperatorDef op;
  op.name = "TopK";
  op.attribute_bytes = sizeof(cpu::TopKAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

void register_top_k(Registry& registry) {
  registry.add(kTopK);
  registry.add_onnx("TopK", &import_top_k);
}

}  // namespace edgert::ops
