// SPDX-License-Identifier: Apache-2.0
// GridSample, ONNX GridSample, and ONNX DeformConv: pixels sampled where the offsets point, then one product with the
// weights.
#include "edgert/cpu/ops/grid_sample.h"

#include "ops/runnable.h"
#include "ops/window.h"

namespace edgert::ops {

extern const OperatorDef kGridSample;

namespace {

using cpu::GridCoordinates;
using cpu::GridMode;
using cpu::GridPadding;
using cpu::GridSampleAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::GridSample>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 2);
  const Dims& x = context.type(0).dims;
  const Dims& grid = context.type(1).dims;
  require(x.size() >= 3 && grid.size() == x.size(), "input " + ir::to_string(x) + " and grid " + ir::to_string(grid) +
                                                        " must have the same rank, 3 or more");
  Dims y{x[0], x[1]};
  y.insert(y.end(), grid.begin() + 1, grid.end() - 1);
  return runnable(kEntry, context, {{context.type(0).dtype, y}});
}

std::string describe(const ir::AttributeBlob& blob) {
  static constexpr const char* kModes[] = {"nearest", "linear", "cubic"};
  static constexpr const char* kPaddings[] = {"zeros", "border", "reflection"};
  static constexpr const char* kCoordinates[] = {"half_pixel", "align_corners", "pixels"};
  const auto& attributes = blob.as<GridSampleAttributes>();
  return std::string(kModes[static_cast<unsigned>(attributes.mode)]) + ' ' +
         kPaddings[static_cast<unsigned>(attributes.padding)] + ' ' +
         kCoordinates[static_cast<unsigned>(attributes.coordinates)];
}

std::uint64_t work(const InferContext& context) {
  const std::int64_t taps = 4;
  return static_cast<std::uint64_t>(
      ir::element_count({ir::element_count(context.type(1).dims), context.type(0).dims[1], taps}));
}

void import_grid_sample(OnnxNode& node) {
  GridSampleAttributes attributes{};
  const std::string mode = node.string_or("mode", "linear");
  const std::string padding = node.string_or("padding_mode", "zeros");
  if (mode == "linear" || mode == "bilinear") {
    attributes.mode = GridMode::Linear;
  } else if (mode == "cubic" || mode == "bicubic") {
    attributes.mode = GridMode::Cubic;
  } else if (mode != "nearest") {
    node.fail("mode '" + mode + "' is not known");
  }
  if (padding == "border") {
    attributes.padding = GridPadding::Border;
  } else if (padding == "reflection") {
    attributes.padding = GridPadding::Reflection;
  } else if (padding != "zeros") {
    node.fail("padding_mode '" + padding + "' is not known");
  }
  if (node.int_or("align_corners", 0) != 0) attributes.coordinates = GridCoordinates::AlignCorners;
  const DType dtype = node.type(0).dtype;
  const ValueId grid = cast(node, node.input(1), DType::F32);
  node.set_output(0, cast(node, node.emit(kGridSample, {cast_narrow(node, node.input(0)), grid}, attributes), dtype));
}

/// What the attributes and operands of a deformable convolution come to. Channels of the image fall into `groups` that
/// meet different filters and into `offset_groups` that are sampled at different places.
struct Deformable {
  Dims x, w, out;  ///< of two spatial dimensions
  Window window;
  std::int64_t groups, offset_groups, taps, pixels;
};

Deformable read_deformable(const OnnxNode& node) {
  Deformable d;
  d.x = node.type(0).dims;
  d.w = node.type(1).dims;
  if (d.x.size() != 4 || d.w.size() != 4) node.fail("only images of two dimensions are supported");
  d.groups = node.int_or("group", 1);
  d.offset_groups = node.int_or("offset_group", 1);
  if (d.groups < 1 || d.offset_groups < 1 || d.w[1] != d.x[1] / d.groups || d.x[1] % d.groups != 0 ||
      d.w[0] % d.groups != 0 || d.x[1] % d.offset_groups != 0) {
    node.fail("input " + ir::to_string(d.x) + ", weights " + ir::to_string(d.w) + " and groups don't fit");
  }
  d.window = read_window(node, {d.x[2], d.x[3]}, {d.w[2], d.w[3]});
  d.out = {d.x[0], d.w[0]};
  for (std::size_t i = 0; i < 2; ++i) {
    const Window& window = d.window;
    d.out.push_back(window_positions(d.x[i + 2] + window.begin[i] + window.end[i], window.span(i), window.stride[i]));
  }
  d.taps = d.w[2] * d.w[3];
  d.pixels = d.out[2] * d.out[3];
  require_dims(node.type(2).dims, {d.x[0], 2 * d.offset_groups * d.taps, d.out[2], d.out[3]}, "the offset");
  return d;
}

/// Where each tap of each window looks without an offset, along one spatial dimension: [1, taps, rows, columns].
ValueId undeformed(OnnxNode& node, const Deformable& d, std::size_t axis) {
  std::vector<float> values;
  checked_constant_size(node, {d.taps, d.out[axis + 2]});
  for (std::int64_t tap = 0; tap < d.taps; ++tap) {
    const std::int64_t step = axis == 0 ? tap / d.w[3] : tap % d.w[3];
    for (std::int64_t o = 0; o < d.out[axis + 2]; ++o) {
      values.push_back(static_cast<float>(o * d.window.stride[axis] - d.window.begin[axis] +
                                          step * d.window.dilation[axis]));
    }
  }
  return float_constant(node, axis == 0 ? Dims{1, d.taps, d.out[2], 1} : Dims{1, d.taps, 1, d.out[3]}, values);
}

void import_deform_conv(OnnxNode& node) {
  const Deformable d = read_deformable(node);
  const DType dtype = node.type(0).dtype;
  const std::int64_t samples = d.x[0] * d.offset_groups;
  // Positions as GridSample has them, column before row: [samples, taps * rows, columns, 2].
  const ValueId offset = reshape(node, cast_narrow(node, node.input(2)), {samples, d.taps, 2, d.pixels});
  std::vector<ValueId> coordinates;
  for (const std::size_t axis : {std::size_t{1}, std::size_t{0}}) {
    const ValueId shift = reshape(node, slice(node, offset, 2, static_cast<std::int64_t>(axis), 1),
                                  {samples, d.taps, d.out[2], d.out[3]});
    const ValueId place = binary(node, PointwiseOp::Add, shift, undeformed(node, d, axis));
    coordinates.push_back(reshape(node, place, {samples, d.taps * d.out[2], d.out[3], 1}));
  }
  GridSampleAttributes attributes{};
  attributes.mode = GridMode::Linear;
  attributes.coordinates = GridCoordinates::Pixels;
  const std::int64_t channels = d.x[1] / d.offset_groups;
  const ValueId x = reshape(node, cast_narrow(node, node.input(0)), {samples, channels, d.x[2], d.x[3]});
  ValueId pixels = node.emit(kGridSample, {x, concat(node, coordinates, 3)}, attributes);
  if (node.has_input(4)) {
    require_dims(node.type(4).dims, {d.x[0], d.offset_groups * d.taps, d.out[2], d.out[3]}, "the mask");
    const ValueId mask = reshape(node, cast_narrow(node, node.input(4)), {samples, 1, d.taps * d.out[2], d.out[3]});
    pixels = binary(node, PointwiseOp::Mul, pixels, mask);
  }
  const std::int64_t depth = d.w[1] * d.taps;
  const ValueId windows = reshape(node, pixels, {d.x[0], d.groups, depth, d.pixels});
  const ValueId filters = reshape(node, cast_narrow(node, node.input(1)), {1, d.groups, d.w[0] / d.groups, depth});
  ValueId y = reshape(node, matmul(node, filters, windows), d.out);
  if (node.has_input(3)) {
    const ValueId bias = cast_narrow(node, node.input(3));
    require_dims(dims_of(node, bias), {d.w[0]}, "the bias");
    y = binary(node, PointwiseOp::Add, y, along_axis(node, bias, 1, 4));
  }
  node.set_output(0, cast(node, y, dtype));
}

}  // namespace

const OperatorDef kGridSample = [] {
  OperatorDef op;
  op.name = "GridSample";
  op.attribute_bytes = sizeof(GridSampleAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.work = &work;
  return op;
}();

void register_grid_sample(Registry& registry) {
  registry.add(kGridSample);
  registry.add_onnx("GridSample", &import_grid_sample, 16);
  registry.add_onnx("DeformConv", &import_deform_conv, 19);
}

}  // namespace edgert::ops
