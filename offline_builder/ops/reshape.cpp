// SPDX-License-Identifier: Apache-2.0
// Reshape, a view where the input's strides allow it.
#include "ops/bounded_moves.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const auto& attributes = context.attributes.as<ReshapeAttributes>();
  const ir::TensorType& x = context.type(0);
  Dims dims = dims_of(attributes.dims, attributes.rank);
  require(ir::element_count(dims) == ir::element_count(x.dims),
          "cannot reshape " + ir::to_string(x.dims) + " to " + ir::to_string(dims));
  return {{x.dtype, std::move(dims)}};
}

/// A bounded dimension stays whole: what lies before it and what lies after it keep their numbers of elements.
Extents extents(const InferContext& context) {
  const Dims& from = context.type(0).dims;
  const auto& attributes = context.attributes.as<ReshapeAttributes>();
  const Dims to = dims_of(attributes.dims, attributes.rank);
  std::vector<int> of(to.size(), -1);
  for (const ir::Extent& extent : context.extents(0)) {
    const std::int64_t before = ir::element_count({from.begin(), from.begin() + extent.dim});
    std::size_t place = 0;
    std::int64_t count = 1;
    while (place < to.size() && (count != before || to[place] == 1)) count *= to[place++];
    // Of extents of 0 and 1 it cannot be told which dimension is which.
    require(from[extent.dim] > 1 && place < to.size() && to[place] == from[extent.dim],
            "dimension " + std::to_string(extent.dim) + " of " + ir::to_string(from) +
                " is known only at run time and does not stay whole in " + ir::to_string(to));
    of[place] = static_cast<int>(extent.dim);
  }
  return mapped_extents(context, of);
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<ReshapeAttributes>();
  return "dims=" + ir::to_string(dims_of(attributes.dims, attributes.rank));
}

/// Cuts both shapes into the shortest runs of dimensions with the same number of elements. Inside each run the input
/// must lie at one distance from element to element; the output then walks at that distance.
std::optional<StridedView> view(const ir::AttributeBlob&, const StridedView& input, const Dims& out) {
  if (ir::element_count(out) == 0) return StridedView{input.offset, out, ir::dense_strides(out)};
  Dims from;
  Dims from_strides;
  for (std::size_t i = 0; i < input.dims.size(); ++i) {
    if (input.dims[i] == 1) continue;
    from.push_back(input.dims[i]);
    from_strides.push_back(input.strides[i]);
  }
  StridedView result{input.offset, out, Dims(out.size(), 0)};
  std::size_t i = 0;
  std::size_t o = 0;
  while (i < from.size()) {
    while (out[o] == 1) ++o;
    const std::size_t first_in = i;
    const std::size_t first_out = o;
    std::int64_t in_count = from[i++];
    std::int64_t out_count = out[o++];
    while (in_count != out_count) {
      if (in_count < out_count) {
        in_count *= from[i++];
      } else {
        out_count *= out[o++];
      }
    }
    for (std::size_t k = first_in; k + 1 < i; ++k) {
      if (from_strides[k] != from_strides[k + 1] * from[k + 1]) return std::nullopt;
    }
    std::int64_t step = from_strides[i - 1];
    for (std::size_t k = o; k-- > first_out;) {
      result.strides[k] = step;
      step *= out[k];
    }
  }
  return result;
}

/// The shape's numbers. One that is an extent that only a run knows is taken as the largest: the input has it too, or
/// Reshape refuses.
std::vector<std::int64_t> read_shape(OnnxNode& node) {
  if (node.is_constant(1)) return node.constant_ints(1);
  const std::optional<std::vector<ExtentSum>> sums = extent_sums(node.graph, node.input(1));
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; sums && i < sums->size(); ++i) {
    const ExtentSum& sum = (*sums)[i];
    const std::optional<std::int64_t> most = sum.is_known() ? sum.constant : largest_extent(node.graph, sum.extent());
    if (most) shape.push_back(*most);
  }
  return sums && shape.size() == sums->size() ? shape : known_ints(node, 1, "the shape");
}

/// Bounded rows that become a part of a longer dimension are filled up, and what is behind them is cut off again.
ValueId reshape_or_join(OnnxNode& node, ValueId x, const Dims& target) {
  const Dims dims = dims_of(node, x);
  const std::vector<ir::Extent>& extents = node.graph.value(x).extents;
  const bool joins = extents.size() == 1 && extents[0].dim == 0 && !target.empty() && dims[0] > 1 && target[0] > dims[0] && target[0] % dims[0] == 0;
  return joins ? join_bounded(node, x, target) : reshape(node, x, target);
}

/// ONNX: 0 copies the input's extent (unless allowzero), -1 is what remains.
void import_reshape(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const bool from_attribute = node.opset < 5;
  if (from_attribute && !node.has("shape")) node.fail("attribute 'shape' is missing");
  Dims target = from_attribute ? node.ints_or("shape", {}) : read_shape(node);
  const bool allow_zero = node.int_or("allowzero", 0) != 0;
  std::int64_t known = 1;
  std::optional<std::size_t> open;
  for (std::size_t i = 0; i < target.size(); ++i) {
    if (target[i] == 0 && !allow_zero) {
      if (i >= dims.size())
        node.fail("shape " + ir::to_string(target) + " copies extent " + std::to_string(i) + " of an input of rank " +
                  std::to_string(dims.size()));
      target[i] = dims[i];
    }
    if (target[i] == -1) {
      if (open) node.fail("shape " + ir::to_string(target) + " has more than one -1");
      open = i;
    } else {
      known = ir::element_count({known, target[i]});
    }
  }
  if (open) {
    const std::int64_t count = ir::element_count(dims);
    if (known == 0 || count % known != 0) {
      node.fail("cannot reshape " + ir::to_string(dims) + " to " + ir::to_string(target));
    }
    target[*open] = count / known;
  }
  node.set_output(0, reshape_or_join(node, node.input(0), target));
}

/// All dimensions before `axis` become the first, the others the second.
void import_flatten(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const auto rank = static_cast<std::int64_t>(dims.size());
  std::int64_t axis = node.int_or("axis", 1);
  if (axis < -rank || axis > rank)
    node.fail("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  if (axis < 0) axis += rank;
  const auto split = dims.begin() + axis;
  const Dims flat{ir::element_count({dims.begin(), split}), ir::element_count({split, dims.end()})};
  node.set_output(0, reshape_or_join(node, node.input(0), flat));
}

}  // namespace

extern const OperatorDef kReshape = [] {
  OperatorDef op;
  op.name = "Reshape";
  op.attribute_bytes = sizeof(ReshapeAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.view = &view;
  return op;
}();

ValueId reshape(OnnxNode& node, ValueId x, const Dims& dims) {
  if (dims_of(node, x) == dims) return x;
  ReshapeAttributes attributes{};
  store_dims(dims, attributes.dims, attributes.rank);
  return node.emit(kReshape, {x}, attributes);
}

void register_reshape(Registry& registry) {
  registry.add(kReshape);
  registry.add_onnx("Reshape", &import_reshape);
  registry.add_onnx("Flatten", &import_flatten);
}

}  // namespace edgert::ops
