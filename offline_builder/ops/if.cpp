// SPDX-License-Identifier: Apache-2.0
// If, with two bodies. Inputs: the condition, the inputs of body 0, those of body 1. Outputs: those of the bodies, and an
// int64 scalar for each of their dimensions that is bounded, which the bodies' last outputs are.
#include "edgert/cpu/ops/if.h"

#include <algorithm>

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/control_flow.h"

namespace edgert::ops {
namespace {

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::If>();

const ir::Value& output_of(const ir::Graph& body, std::size_t i) { return body.value(body.outputs().at(i).value); }

bool is_bounded(const ir::Value& value, std::size_t dim) {
  return std::any_of(value.extents.begin(), value.extents.end(), [&](const ir::Extent& e) { return e.dim == dim; });
}

/// The dimensions of output i that are bounded.
std::vector<std::uint32_t> bounded_dims(const std::vector<ir::Graph>& bodies, std::size_t i) {
  const ir::Value& a = output_of(bodies[0], i);
  const ir::Value& b = output_of(bodies[1], i);
  std::vector<std::uint32_t> dims;
  for (std::size_t d = 0; d < a.type.dims.size(); ++d) {
    if (a.type.dims[d] != b.type.dims[d] || is_bounded(a, d) || is_bounded(b, d)) dims.push_back(static_cast<std::uint32_t>(d));
  }
  return dims;
}

/// Both bodies write to the same place, so an element must lie at the same distance from the first in both: extents may
/// differ in the first dimension, which no stride depends on.
ir::TensorType joined_type(const std::vector<ir::Graph>& bodies, std::size_t i) {
  const ir::TensorType& a = output_of(bodies[0], i).type;
  const ir::TensorType& b = output_of(bodies[1], i).type;
  const std::string both = ir::to_string(a) + " in one branch and " + ir::to_string(b) + " in the other";
  require(a.dtype == b.dtype && a.dims.size() == b.dims.size(), "output " + std::to_string(i) + " is " + both);
  ir::TensorType joined = a;
  for (std::size_t d = 0; d < a.dims.size(); ++d) {
    require(d == 0 || a.dims[d] == b.dims[d],
            "output " + std::to_string(i) + " is " + both + "; only the first extent may differ");
    joined.dims[d] = std::max(a.dims[d], b.dims[d]);
  }
  return joined;
}

/// How many outputs the bodies have that are no extents.
std::size_t value_count(const std::vector<ir::Graph>& bodies) {
  std::size_t extents = 0;
  std::size_t count = 0;
  for (; count + extents < bodies[0].outputs().size(); ++count) extents += bounded_dims(bodies, count).size();
  return count;
}

std::vector<ir::TensorType> infer(const InferContext& context) {
  const std::vector<ir::Graph>& bodies = context.bodies;
  require(bodies.size() == 2 && bodies[0].outputs().size() == bodies[1].outputs().size(),
          "two bodies with equally many outputs expected");
  const std::size_t captured = bodies[0].inputs().size() + bodies[1].inputs().size();
  require_inputs(context, 1 + captured, 1 + captured);
  require_type(context.type(0), DType::Bool, "the condition");
  for (std::size_t i = 0; i < captured; ++i) {
    const std::size_t first = bodies[0].inputs().size();
    const ir::ValueId input = i < first ? bodies[0].inputs()[i] : bodies[1].inputs()[i - first];
    require(context.type(1 + i) == bodies[i < first ? 0 : 1].value(input).type, "a body's input has another type outside");
  }
  std::vector<ir::TensorType> types;
  for (std::size_t i = 0; i < bodies[0].outputs().size(); ++i) types.push_back(joined_type(bodies, i));
  return types;
}

Extents extents(const InferContext& context) {
  Extents result;
  auto next = static_cast<std::uint32_t>(value_count(context.bodies));
  for (std::size_t i = 0; i < value_count(context.bodies); ++i) {
    result.emplace_back();
    for (const std::uint32_t dim : bounded_dims(context.bodies, i)) result.back().push_back({dim, ir::kNone, next++});
  }
  return result;
}

/// Makes the extent of dimension `dim` of output i one more output of the body.
void add_extent(ir::Graph& body, std::size_t i, std::uint32_t dim) {
  const ir::Value& value = output_of(body, i);
  ir::ValueId actual = ir::kNone;
  for (const ir::Extent& extent : value.extents) {
    if (extent.dim == dim) actual = extent.actual;
  }
  if (actual == ir::kNone) {
    const std::int64_t extent = value.type.dims[dim];
    actual = body.add_constant("extent", {DType::I64, {}}, ir::Bytes::copy(&extent, sizeof(extent)));
  }
  body.add_output("extent", actual);
}

}  // namespace

extern const OperatorDef kIf = [] {
  OperatorDef op;
  op.name = "If";
  op.attribute_bytes = sizeof(cpu::NoAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.kernel = &kEntry;
  op.layout = LayoutRule::RowMajor;
  return op;
}();

std::vector<ir::ValueId> add_if(OnnxNode& node, const std::vector<ir::ValueId>& inputs, ir::Graph taken,
                                ir::Graph otherwise) {
  const std::size_t count = taken.outputs().size();
  std::vector<ir::Graph> bodies;
  bodies.push_back(std::move(taken));
  bodies.push_back(std::move(otherwise));
  for (std::size_t i = 0; i < count; ++i) {
    joined_type(bodies, i);
    const std::vector<std::uint32_t> dims = bounded_dims(bodies, i);
    for (ir::Graph& body : bodies) {
      for (const std::uint32_t dim : dims) add_extent(body, i, dim);
    }
  }
  const ir::NodeId id =
      node.graph.add_node(kIf, inputs, ir::AttributeBlob::of(cpu::NoAttributes{}), {node.provenance()}, std::move(bodies));
  const std::vector<ir::ValueId>& outputs = node.graph.node(id).outputs;
  return {outputs.begin(), outputs.begin() + static_cast<std::ptrdiff_t>(count)};
}

void register_if(Registry& registry) { registry.add(kIf); }

}  // namespace edgert::ops
