// SPDX-License-Identifier: Apache-2.0
#include "ops/bounded_moves.h"

#include <algorithm>

#include "edgert/cpu/ops/compress.h"
#include "ops/compose.h"
#include "ops/pad.h"

namespace edgert::ops {
namespace {

/// Whether each of `count` places is below `limit` (int64, one element): a bool vector.
ValueId is_below(OnnxNode& node, std::int64_t count, ValueId limit) {
  checked_constant_size(node, {count});
  return binary(node, PointwiseOp::Less, int64_constant(node, {count}, iota(count)), reshape(node, limit, {}));
}

ValueId compress(OnnxNode& node, ValueId x, ValueId condition, std::size_t axis) {
  const cpu::CompressAttributes attributes{static_cast<std::int32_t>(axis), 0};
  return emit_bounded(node, kCompress, {x, condition}, ir::AttributeBlob::of(attributes))[0];
}

ValueId flags(OnnxNode& node, const std::vector<bool>& values) {
  std::vector<std::byte> bytes;
  for (const bool each : values) bytes.push_back(static_cast<std::byte>(each));
  return constant(node, {DType::Bool, {static_cast<std::int64_t>(values.size())}}, ir::Bytes::adopt(std::move(bytes)));
}

/// What holds the extent of dimension `dim`; kNone when the builder knows it.
ValueId actual_extent(const OnnxNode& node, ValueId x, std::size_t dim) {
  for (const ir::Extent& extent : node.graph.value(x).extents) {
    if (extent.dim == dim) return extent.actual;
  }
  return ir::kNone;
}

}  // namespace

ValueId vector_of_extent(OnnxNode& node, ValueId actual) {
  const ir::Node* producer = node.graph.producer(actual);
  for (const ValueId output : producer != nullptr ? producer->outputs : node.graph.inputs()) {
    const std::vector<ir::Extent> extents = node.graph.value(output).extents;
    if (extents.size() != 1 || extents[0].actual != actual) continue;
    const Dims dims = dims_of(node, output);
    ValueId x = output;
    for (std::size_t d = 0; d < dims.size(); ++d) {
      if (d != extents[0].dim) x = slice(node, x, d, 0, 1);
    }
    return reshape(node, x, {dims[extents[0].dim]});
  }
  node.fail("an extent that only a run knows cannot be told from another");
}

ValueId slice_bounded(OnnxNode& node, ValueId x, std::size_t axis, std::int64_t start, std::int64_t end, std::int64_t step) {
  const std::int64_t most = dims_of(node, x)[axis];
  const std::int64_t count = std::min(end, most);
  std::vector<bool> wanted(static_cast<std::size_t>(checked_constant_size(node, {count})), false);
  for (auto i = static_cast<std::size_t>(start); i < wanted.size(); i += static_cast<std::size_t>(std::min(step, most))) wanted[i] = true;
  ValueId condition = is_below(node, count, actual_extent(node, x, axis));
  if (std::find(wanted.begin(), wanted.end(), false) != wanted.end()) {
    condition = binary(node, PointwiseOp::And, condition, flags(node, wanted));
  }
  return compress(node, x, condition, axis);
}

ValueId slice_at(OnnxNode& node, ValueId x, std::size_t axis, ValueId start, ValueId end, std::int64_t step) {
  const std::int64_t most = checked_constant_size(node, {dims_of(node, x).at(axis)});
  const ValueId actual = actual_extent(node, x, axis);
  const ValueId extent = actual == ir::kNone ? int64_constant(node, {}, {most}) : reshape(node, actual, {});
  const ValueId zero = int64_constant(node, {}, {0});
  const auto from_front = [&](ValueId place) {
    const std::optional<std::vector<ExtentSum>> sums = extent_sums(node.graph, place);
    place = reshape(node, cast(node, place, DType::I64), {});
    if (sums && largest_sum(node.graph, (*sums)[0])) return place;
    const ValueId negative = binary(node, PointwiseOp::Less, place, zero);
    return select(node, negative, binary(node, PointwiseOp::Add, place, extent), place);
  };
  const ValueId places = int64_constant(node, {most}, iota(most));
  const ValueId first = binary(node, PointwiseOp::Max, from_front(start), zero);
  ValueId condition = is_below(node, most, from_front(end));
  const auto demand = [&](ValueId also) { condition = binary(node, PointwiseOp::And, condition, also); };
  if (first != zero) demand(binary(node, PointwiseOp::GreaterOrEqual, places, first));
  if (actual != ir::kNone) demand(is_below(node, most, actual));
  if (step > 1) {
    const ValueId distance = binary(node, PointwiseOp::Mod, binary(node, PointwiseOp::Sub, places, first), int64_constant(node, {}, {step}));
    demand(binary(node, PointwiseOp::Equal, distance, zero));
  }
  return compress(node, x, condition, axis);
}

ValueId concat_bounded(OnnxNode& node, const std::vector<ValueId>& operands, std::size_t axis) {
  std::vector<ValueId> filled;
  std::vector<ValueId> there;
  for (const ValueId operand : operands) {
    for (const ir::Extent& extent : node.graph.value(operand).extents) {
      if (extent.dim != axis) node.fail("operands with two extents that only a run knows");
    }
    const std::int64_t most = dims_of(node, operand).at(axis);
    const ValueId actual = actual_extent(node, operand, axis);
    filled.push_back(actual == ir::kNone ? operand : fill_bounded(node, operand));
    there.push_back(actual == ir::kNone ? flags(node, std::vector<bool>(static_cast<std::size_t>(checked_constant_size(node, {most})), true))
                                        : is_below(node, most, actual));
  }
  return compress(node, concat(node, filled, axis), concat(node, there, 0), axis);
}

ValueId first_of(OnnxNode& node, ValueId x, std::size_t axis, ValueId count) {
  return compress(node, x, is_below(node, dims_of(node, x).at(axis), cast(node, count, DType::I64)), axis);
}

ValueId join_bounded(OnnxNode& node, ValueId x, const Dims& dims) {
  const std::int64_t times = dims.at(0) / dims_of(node, x).at(0);
  const ValueId extent = reshape(node, actual_extent(node, x, 0), {});
  const ValueId whole = reshape(node, fill_bounded(node, x), dims);
  return first_of(node, whole, 0, binary(node, PointwiseOp::Mul, extent, int64_constant(node, {}, {times})));
}

}  // namespace edgert::ops
