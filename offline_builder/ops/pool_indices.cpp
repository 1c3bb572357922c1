// SPDX-License-Identifier: Apache-2.0
// The indices of MaxPool, and MaxUnpool, which puts maxima back where they came from.
#include "ops/pool_indices.h"

#include <limits>

#include "ops/pad.h"
#include "ops/scatter.h"

namespace edgert::ops {
namespace {

constexpr std::int64_t kMostTaps = 4096;

/// What one step along each spatial dimension adds to a position.
Dims spatial_strides(Dims spatial, bool column_major) {
  if (!column_major) return ir::dense_strides(spatial);
  Dims strides(spatial.size());
  std::int64_t step = 1;
  for (std::size_t i = 0; i < spatial.size(); step *= spatial[i++]) strides[i] = step;
  return strides;
}

/// x with enough of its lowest value around it for every window.
ValueId pad_lowest(OnnxNode& node, ValueId x, const Window& window, const Dims& out) {
  const Dims dims = dims_of(node, x);
  std::vector<std::int64_t> before(dims.size(), 0);
  std::vector<std::int64_t> after(dims.size(), 0);
  for (std::size_t i = 0; i < window.rank(); ++i) {
    const std::int64_t needed = (out[i + 2] - 1) * window.stride[i] + window.span(i);
    before[i + 2] = window.begin[i];
    after[i + 2] = std::max<std::int64_t>(needed - dims[i + 2] - window.begin[i], 0);
  }
  return pad_constant(node, x, before, after, -std::numeric_limits<double>::infinity());
}

void import_max_unpool(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (dims.size() < 3) node.fail("the input must have rank 3 or more, not " + std::to_string(dims.size()));
  require_dims(node.type(1).dims, dims, "indices");
  const Dims spatial(dims.begin() + 2, dims.end());
  const Window window = read_window(node, spatial, kernel_shape(node, spatial.size()));
  Dims pooled{dims[0], dims[1]};  // the extents that the indices count in
  for (std::size_t i = 0; i < spatial.size(); ++i) {
    const std::int64_t extent = (spatial[i] - 1) * window.stride[i] - window.begin[i] - window.end[i] + window.kernel[i];
    if (extent < 1) node.fail("pads leave nothing of axis " + std::to_string(i + 2));
    pooled.push_back(extent);
  }
  const std::int64_t count = ir::element_count(dims);
  const std::int64_t total = ir::element_count(pooled);
  const ValueId rows = row_term(node, reshape(node, node.input(1), {count}), total, 1, false);
  const ValueId zeros = expand(node, scalar_constant(node, node.type(0).dtype, 0), {total, 1});
  const ValueId updates = reshape(node, node.input(0), {count, 1});
  const ValueId y = reshape(node, scatter_rows(node, zeros, rows, updates, cpu::ScatterReduction::None), pooled);
  if (!node.has_input(2)) return node.set_output(0, y);
  const Dims wanted = known_ints(node, 2, "the output's shape");
  if (wanted.size() != pooled.size()) node.fail("output_shape must have " + std::to_string(pooled.size()) + " entries");
  std::vector<std::int64_t> after(pooled.size());
  for (std::size_t i = 0; i < pooled.size(); ++i) {
    after[i] = wanted[i] - pooled[i];
    if (wanted[i] < pooled[i]) node.fail("output_shape is smaller than what the input covers, " + ir::to_string(pooled));
  }
  node.set_output(0, pad_zero(node, y, std::vector<std::int64_t>(pooled.size(), 0), after));
}

}  // namespace

ValueId max_pool_indices(OnnxNode& node, ValueId x, const Window& window, const Dims& out, bool column_major) {
  const Dims dims = dims_of(node, x);
  const Dims spatial(dims.begin() + 2, dims.end());
  const Dims strides = spatial_strides(spatial, column_major);
  const std::int64_t taps = ir::element_count(window.kernel);
  if (taps > kMostTaps) node.fail("indices of windows of more than " + std::to_string(kMostTaps) + " elements are not supported");
  // The windows' elements side by side: the first largest one says which of the window it is.
  const ValueId padded = pad_lowest(node, x, window, out);
  Dims layer = out;
  layer.insert(layer.begin(), 1);
  std::vector<ValueId> layers;
  std::vector<std::int64_t> offsets;
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    ValueId elements = padded;
    std::int64_t offset = 0;
    std::int64_t rest = tap;
    for (std::size_t i = window.rank(); i-- > 0; rest /= window.kernel[i]) {
      const std::int64_t start = rest % window.kernel[i] * window.dilation[i];
      elements = slice(node, elements, i + 2, start, out[i + 2], window.stride[i]);
      offset += start * strides[i];
    }
    layers.push_back(reshape(node, elements, layer));
    offsets.push_back(offset);
  }
  const ValueId chosen = reshape(node, arg_reduce(node, concat(node, layers, 0), 0, false, false), out);
  ValueId index = gather(node, int64_constant(node, {taps}, offsets), chosen, 0);
  const auto add = [&](std::size_t axis, std::int64_t first, std::int64_t step) {
    checked_constant_size(node, {out[axis]});
    std::vector<std::int64_t> terms = iota(out[axis]);
    for (std::int64_t& term : terms) term = first + term * step;
    const ValueId along = along_axis(node, int64_constant(node, {out[axis]}, terms), axis, out.size());
    index = binary(node, PointwiseOp::Add, index, along);
  };
  const std::int64_t plane = ir::element_count(spatial);
  add(0, 0, dims[1] * plane);
  add(1, 0, plane);
  for (std::size_t i = 0; i < window.rank(); ++i) add(i + 2, -window.begin[i] * strides[i], window.stride[i] * strides[i]);
  return index;
}

void register_pool_indices(Registry& registry) { registry.add_onnx("MaxUnpool", &import_max_unpool, 9); }

}  // namespace edgert::ops
