// SPDX-License-Identifier: Apache-2.0
// Expand: broadcasting as a view with stride 0.
#include <algorithm>
#include <map>

#include "ops/bounded_moves.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// Inputs after the first are not read: they are operands beside this one, whose bounded extents it takes on.
std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 8);
  const auto& attributes = context.attributes.as<ExpandAttributes>();
  const ir::TensorType& x = context.type(0);
  Dims dims = dims_of(attributes.dims, attributes.rank);
  require(ir::broadcast(x.dims, dims) == dims,
          "shape " + ir::to_string(x.dims) + " does not broadcast to " + ir::to_string(dims));
  return {{x.dtype, std::move(dims)}};
}

/// Calls visit(extent, its dimension of the output) for the bounded dimensions of input i.
template <class Visit>
void visit_extents(const InferContext& context, std::size_t i, std::size_t rank, Visit visit) {
  const std::size_t leading = rank - context.type(i).dims.size();
  for (const ir::Extent& extent : context.extents(i)) visit(extent, static_cast<std::uint32_t>(leading + extent.dim));
}

Extents extents(const InferContext& context) {
  const auto& attributes = context.attributes.as<ExpandAttributes>();
  const Dims to = dims_of(attributes.dims, attributes.rank);
  std::map<std::uint32_t, ir::ValueId> found;
  for (std::size_t i = 0; i < context.inputs.size(); ++i) {
    const Dims& from = context.type(i).dims;
    require(from.size() <= to.size(), "an operand has more dimensions than the result");
    visit_extents(context, i, to.size(), [&](const ir::Extent& extent, std::uint32_t dim) {
      const auto [at, added] = found.emplace(dim, extent.actual);
      require(same_extent(context.graph, at->second, extent.actual) && from[extent.dim] == to[dim],
              "dimension " + std::to_string(dim) + " of the result has an extent that only a run knows, and nothing says "
              "that it is the same in all operands");
      // A dimension of the first input that is there and not repeated must be the bounded one itself.
      const std::size_t leading = to.size() - context.type(0).dims.size();
      require(!added || i == 0 || dim < leading || context.type(0).dims[dim - leading] == 1,
              "dimension " + std::to_string(dim) + " is known only at run time in one operand and fixed in another");
    });
  }
  std::vector<ir::OutputExtent> out;
  for (const auto& [dim, actual] : found) out.push_back({dim, actual});
  return {out};
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<ExpandAttributes>();
  return "dims=" + ir::to_string(dims_of(attributes.dims, attributes.rank));
}

std::optional<StridedView> view(const ir::AttributeBlob&, const StridedView& input, const Dims& out) {
  StridedView result{input.offset, out, Dims(out.size(), 0)};
  const std::size_t leading = out.size() - input.dims.size();
  for (std::size_t i = 0; i < input.dims.size(); ++i) {
    if (input.dims[i] == out[leading + i]) result.strides[leading + i] = input.strides[i];
  }
  return result;
}

void import_expand(OnnxNode& node) {
  if (!node.is_constant(1)) {
    if (const auto sums = extent_sums(node.graph, node.input(1))) return node.set_output(0, expand_to(node, node.input(0), *sums));
  }
  const Dims dims = ir::broadcast(node.type(0).dims, known_ints(node, 1, "the shape"));
  ir::element_count(dims);
  node.set_output(0, expand(node, node.input(0), dims, true));
}

}  // namespace

extern const OperatorDef kExpand = [] {
  OperatorDef op;
  op.name = "Expand";
  op.attribute_bytes = sizeof(ExpandAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.view = &view;
  return op;
}();

ValueId expand(OnnxNode& node, ValueId x, const Dims& dims, bool fold) {
  if (dims_of(node, x) == dims) return x;
  ExpandAttributes attributes{};
  store_dims(dims, attributes.dims, attributes.rank);
  if (fold) return node.emit(kExpand, {x}, attributes);
  const ir::NodeId id = node.graph.add_node(kExpand, {x}, ir::AttributeBlob::of(attributes), {node.provenance()});
  return node.graph.node(id).outputs[0];
}

/// expand() to dims some of which are bounded as those of `bounded` are.
static ValueId expand_like(OnnxNode& node, ValueId x, const Dims& dims, const std::vector<ValueId>& bounded) {
  if (dims_of(node, x) == dims) return x;
  ExpandAttributes attributes{};
  store_dims(dims, attributes.dims, attributes.rank);
  std::vector<ValueId> inputs{x};
  for (const ValueId like : bounded) {
    if (like != x) inputs.push_back(like);
  }
  return node.graph.node(node.graph.add_node(kExpand, inputs, ir::AttributeBlob::of(attributes), {node.provenance()}))
      .outputs[0];
}

ValueId expand_to(OnnxNode& node, ValueId x, const std::vector<ExtentSum>& sums) {
  Dims dims;
  std::vector<ValueId> bounded;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    dims.push_back(sums[i].constant);
    if (sums[i].is_known()) continue;
    const ValueId extent = sums[i].extent();
    if (extent == ir::kNone) node.fail("extent " + std::to_string(i) + " of the shape is computed from extents that only a run knows");
    Dims lifted(sums.size() - i, 1);
    const ValueId vector = vector_of_extent(node, extent);
    lifted[0] = dims.back() = dims_of(node, vector)[0];
    bounded.push_back(reshape(node, vector, lifted));
  }
  dims = ir::broadcast(dims_of(node, x), dims);
  return bounded.empty() ? expand(node, x, dims, true) : expand_like(node, x, dims, bounded);
}

std::vector<ValueId> broadcast_operands(OnnxNode& node, std::vector<ValueId> operands) {
  Dims dims;
  for (const ValueId operand : operands) dims = ir::broadcast(dims, dims_of(node, operand));
  const bool all_constant = std::all_of(operands.begin(), operands.end(),
                                        [&](ValueId operand) { return node.graph.value(operand).is_constant(); });
  std::vector<ValueId> bounded;
  std::copy_if(operands.begin(), operands.end(), std::back_inserter(bounded),
               [&](ValueId operand) { return node.graph.is_bounded(operand); });
  for (ValueId& operand : operands) {
    operand = bounded.empty() ? expand(node, operand, dims, all_constant) : expand_like(node, operand, dims, bounded);
  }
  return operands;
}

ValueId along_axis(OnnxNode& node, ValueId vector, std::size_t axis, std::size_t rank) {
  Dims dims(rank, 1);
  dims.at(axis) = ir::element_count(dims_of(node, vector));
  return reshape(node, vector, dims);
}

void register_expand(Registry& registry) {
  registry.add(kExpand);
  registry.add_onnx("Expand", &import_expand);
}

}  // namespace edgert::ops
