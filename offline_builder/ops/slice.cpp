// SPDX-License-Identifier: Apache-2.0
// Slice with positive steps: always a view. ONNX's negative steps become a Gather.
#include <algorithm>

#include "ops/bounded_moves.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const auto& attributes = context.attributes.as<SliceAttributes>();
  const ir::TensorType& x = context.type(0);
  require(attributes.rank == x.dims.size(),
          "slice of rank " + std::to_string(attributes.rank) + " on an input of rank " + std::to_string(x.dims.size()));
  ir::TensorType y{x.dtype, dims_of(attributes.size, attributes.rank)};
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    const std::int64_t start = attributes.start[i];
    const std::int64_t step = attributes.step[i];
    const std::int64_t size = attributes.size[i];
    require(start >= 0 && step >= 1 && size >= 0 && start <= x.dims[i], "slice outside of its input");
    // Elements that remain from `start` on, at distance `step`; written by division, so nothing can wrap.
    require(size <= (x.dims[i] - start) / step + ((x.dims[i] - start) % step != 0 ? 1 : 0),
            "slice outside of its input");
  }
  return {y};
}

/// What is cut along a dimension that only a run knows would depend on its extent.
Extents extents(const InferContext& context) {
  const auto& attributes = context.attributes.as<SliceAttributes>();
  std::vector<int> of;
  for (std::uint32_t i = 0; i < attributes.rank; ++i) of.push_back(static_cast<int>(i));
  for (const ir::Extent& extent : context.extents(0)) {
    require(attributes.size[extent.dim] == context.type(0).dims[extent.dim],
            "it cuts along dimension " + std::to_string(extent.dim) + ", whose extent only a run knows");
  }
  return mapped_extents(context, of);
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& attributes = blob.as<SliceAttributes>();
  return "start=" + ir::to_string(dims_of(attributes.start, attributes.rank)) +
         " step=" + ir::to_string(dims_of(attributes.step, attributes.rank)) +
         " size=" + ir::to_string(dims_of(attributes.size, attributes.rank));
}

std::optional<StridedView> view(const ir::AttributeBlob& blob, const StridedView& input, const Dims& out) {
  const auto& attributes = blob.as<SliceAttributes>();
  StridedView result{input.offset, out, {}};
  // An empty window starts nowhere: an offset at the very end would point past the storage.
  const bool empty = std::find(out.begin(), out.end(), 0) != out.end();
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!empty) result.offset += attributes.start[i] * input.strides[i];
    // A step matters only where there is a second element; a huge one must not overflow.
    result.strides.push_back(out[i] > 1 ? attributes.step[i] * input.strides[i] : input.strides[i]);
  }
  return result;
}

/// One axis of ONNX Slice, whose start and end may lie anywhere, INT64_MIN and INT64_MAX included.
ValueId slice_axis(OnnxNode& node, ValueId x, std::size_t axis, std::int64_t start, std::int64_t end,
                   std::int64_t step) {
  const std::int64_t extent = dims_of(node, x)[axis];
  if (step == 0) node.fail("a step of 0");
  for (const ir::Extent& bounded : node.graph.value(x).extents) {
    if (bounded.dim != axis) continue;
    if (step < 0) node.fail("it reverses a dimension whose extent only a run knows");
    if (start == 0 && step == 1 && end >= extent) return x;
    if (start < 0 || end < 0) return slice_at(node, x, axis, int64_constant(node, {}, {start}), int64_constant(node, {}, {end}), step);
    return slice_bounded(node, x, axis, start, end, step);
  }
  if (start < 0) start += extent;
  if (end < 0) end += extent;
  if (step > 0) {
    start = std::clamp<std::int64_t>(start, 0, extent);
    end = std::clamp<std::int64_t>(end, 0, extent);
    const std::int64_t size = end > start ? (end - start - 1) / step + 1 : 0;
    return slice(node, x, axis, start, size, step);
  }
  start = std::clamp<std::int64_t>(start, -1, extent - 1);
  end = std::clamp<std::int64_t>(end, -1, extent - 1);
  // A step below -extent has the effect of -extent; so no sum below can wrap.
  step = std::max(step, -std::max<std::int64_t>(extent, 1));
  const std::int64_t count = start > end ? (start - end - 1) / -step + 1 : 0;
  if (count == 0) return slice(node, x, axis, 0, 0);
  std::vector<std::int64_t> indices = iota(count);
  for (std::int64_t& each : indices) each = start + each * step;
  return gather(node, x, int64_constant(node, {count}, indices), axis);
}

/// A start or an end: a number, or what only a run knows.
struct Place {
  ExtentSum sum;  ///< where `value` is kNone, or it is computed from extents
  ValueId value = ir::kNone;
  bool is_sum = true;

  bool is_known() const { return is_sum && sum.is_known(); }
};

std::vector<Place> read_places(OnnxNode& node, const char* attribute, std::size_t input) {
  std::vector<Place> places;
  if (node.opset < 10 || node.is_constant(input)) {
    for (const std::int64_t each : node.opset < 10 ? node.ints_or(attribute, {}) : node.constant_ints(input)) places.push_back({{each, {}}, ir::kNone, true});
    return places;
  }
  const ValueId all = node.input(input);
  if (dims_of(node, all).size() != 1 || node.graph.is_bounded(all)) node.fail(std::string(attribute) + " must be a vector of a known length");
  const std::optional<std::vector<ExtentSum>> sums = extent_sums(node.graph, all);
  for (std::int64_t i = 0; i < dims_of(node, all)[0]; ++i) {
    places.push_back({sums ? sums->at(static_cast<std::size_t>(i)) : ExtentSum{}, slice(node, all, 0, i, 1), sums.has_value()});
  }
  return places;
}

/// Between places of which the run knows one or both.
ValueId slice_between(OnnxNode& node, ValueId x, std::size_t axis, const Place& start, const Place& end, std::int64_t step) {
  if (step < 1) {
    for (const std::size_t i : {std::size_t{1}, std::size_t{2}}) require_constant(node, i, "places between which it goes backwards");
  }
  const std::optional<ExtentSum> extent = extent_sum(node.graph, x, axis);
  if (start.is_sum && end.is_sum && extent && step == 1) {
    const std::optional<ExtentSum> beyond = plus(end.sum, *extent, -1);
    if (start.is_known() && start.sum.constant == 0 && beyond && beyond->is_known() && beyond->constant >= 0) return x;
    // A window of one size, wherever it is, unless it may reach beyond the end and be cut off.
    const std::optional<ExtentSum> size = plus(end.sum, start.sum, -1);
    const std::optional<std::int64_t> furthest = largest_sum(node.graph, end.sum);
    if (size && size->is_known() && size->constant >= 0 && extent->is_known() && furthest && *furthest <= extent->constant && largest_sum(node.graph, start.sum)) {
      const ValueId first = reshape(node, cast(node, start.value, DType::I64), {1});
      const ValueId places = binary(node, PointwiseOp::Add, int64_constant(node, {size->constant}, iota(size->constant)), first);
      return gather(node, x, places, axis);
    }
  }
  const auto number = [&](const Place& place) {
    return place.value != ir::kNone && !place.is_known() ? place.value : int64_constant(node, {1}, {place.sum.constant});
  };
  return slice_at(node, x, axis, number(start), number(end), step);
}

void import_slice(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const bool from_attributes = node.opset < 10;
  if (from_attributes && (!node.has("starts") || !node.has("ends")))
    node.fail("attribute 'starts' or 'ends' is missing");
  const auto operand = [&](const char* attribute, std::size_t input) {
    if (from_attributes) return node.ints_or(attribute, {});
    return node.has_input(input) ? known_ints(node, input, attribute) : std::vector<std::int64_t>();
  };
  const std::vector<Place> starts = read_places(node, "starts", 1);
  const std::vector<Place> ends = read_places(node, "ends", 2);
  std::vector<std::int64_t> axes = operand("axes", 3);
  std::vector<std::int64_t> steps = from_attributes ? std::vector<std::int64_t>() : operand("steps", 4);
  if (axes.empty() && !(from_attributes ? node.has("axes") : node.has_input(3)))
    axes = iota(static_cast<std::int64_t>(starts.size()));
  if (steps.empty() && (from_attributes || !node.has_input(4))) steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size()) {
    node.fail("starts, ends, axes and steps have different lengths");
  }
  axes_of(node, axes, dims.size());
  ValueId x = node.input(0);
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t axis = axis_of(node, axes[i], dims.size());
    const bool known = starts[i].is_known() && ends[i].is_known();
    x = known ? slice_axis(node, x, axis, starts[i].sum.constant, ends[i].sum.constant, steps[i])
              : slice_between(node, x, axis, starts[i], ends[i], steps[i]);
  }
  node.set_output(0, x);
}

}  // namespace

extern const OperatorDef kSlice = [] {
  OperatorDef op;
  op.name = "Slice";
  op.attribute_bytes = sizeof(SliceAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.view = &view;
  return op;
}();

ValueId slice(OnnxNode& node, ValueId x, std::size_t axis, std::int64_t start, std::int64_t size, std::int64_t step) {
  const Dims dims = dims_of(node, x);
  if (start == 0 && step == 1 && size == dims.at(axis)) return x;
  SliceAttributes attributes{};
  store_dims(dims, attributes.size, attributes.rank);
  for (std::size_t i = 0; i < dims.size(); ++i) attributes.step[i] = 1;
  attributes.start[axis] = start;
  attributes.step[axis] = step;
  attributes.size[axis] = size;
  return node.emit(kSlice, {x}, attributes);
}

void register_slice(Registry& registry) {
  registry.add(kSlice);
  registry.add_onnx("Slice", &import_slice);
}

}  // namespace edgert::ops
