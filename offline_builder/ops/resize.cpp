// SPDX-License-Identifier: Apache-2.0
// Resize: ONNX Resize in all its versions, and its predecessor Upsample.
#include "edgert/cpu/ops/resize.h"

#include <algorithm>
#include <cmath>

#include "ops/antialias.h"
#include "ops/compose.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::ResizeAttributes;
using cpu::ResizeCoordinates;
using cpu::ResizeMode;
using cpu::ResizeNearest;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Resize>();

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const auto& attributes = context.attributes.as<ResizeAttributes>();
  const ir::TensorType& x = context.type(0);
  require(attributes.mode <= ResizeMode::Cubic && attributes.coordinates <= ResizeCoordinates::TfCropAndResize &&
              attributes.nearest <= ResizeNearest::Ceil,
          "no such mode");
  if (attributes.mode != ResizeMode::Nearest) require_type(x, DType::F32, "the input");
  ir::TensorType y{x.dtype, dims_of(attributes.size, static_cast<std::uint32_t>(x.dims.size()))};
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    require(std::isfinite(attributes.scale[i]) && attributes.scale[i] > 0, "a scale must be finite and above 0");
    require(x.dims[i] > 0 || y.dims[i] == 0, "an empty axis cannot be resized");
  }
  return runnable(kEntry, context, {y});
}

std::string describe(const ir::AttributeBlob& blob) {
  static constexpr const char* kModes[] = {"nearest", "linear", "cubic"};
  static constexpr const char* kCoordinates[] = {"half_pixel",         "asymmetric",           "align_corners",
                                                 "pytorch_half_pixel", "half_pixel_symmetric", "tf_crop_and_resize"};
  const auto& attributes = blob.as<ResizeAttributes>();
  return std::string(kModes[static_cast<unsigned>(attributes.mode)]) + ' ' +
         kCoordinates[static_cast<unsigned>(attributes.coordinates)];
}

/// The position of a word in a list, or a failure that names the attribute.
template <std::size_t count>
unsigned choice(const OnnxNode& node, const char* attribute, const char* fallback, const char* const (&words)[count]) {
  const std::string word = node.string_or(attribute, fallback);
  for (unsigned i = 0; i < count; ++i) {
    if (word == words[i]) return i;
  }
  node.fail(std::string(attribute) + " '" + word + "' is not known");
}

std::int64_t scaled_extent(const OnnxNode& node, std::int64_t extent, double factor) {
  const double size = std::floor(static_cast<double>(extent) * factor);
  if (!std::isfinite(size) || size < 0 || size > 2147483647.0) node.fail("an output extent is out of range");
  return static_cast<std::int64_t>(size);
}

/// Scales of the axes named; extents follow from them.
void apply_scales(const OnnxNode& node, const Dims& dims, const std::vector<std::size_t>& axes,
                  const std::vector<float>& scales, ResizeAttributes& attributes) {
  if (scales.size() != axes.size())
    node.fail("scales has " + std::to_string(scales.size()) + " entries for " + std::to_string(axes.size()) + " axes");
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (!std::isfinite(scales[i]) || scales[i] <= 0) node.fail("a scale must be finite and above 0");
    const std::size_t axis = axes[i];
    const bool crops = attributes.coordinates == ResizeCoordinates::TfCropAndResize;
    const double part =
        crops ? static_cast<double>(attributes.roi_end[axis]) - static_cast<double>(attributes.roi_begin[axis]) : 1;
    attributes.scale[axis] = scales[i];
    attributes.size[axis] = scaled_extent(node, dims[axis], part * static_cast<double>(scales[i]));
  }
}

/// Extents of the axes named, after keep_aspect_ratio_policy; scales follow from them.
void apply_sizes(const OnnxNode& node, const Dims& dims, const std::vector<std::size_t>& axes,
                 const std::vector<std::int64_t>& sizes, ResizeAttributes& attributes) {
  if (sizes.size() != axes.size())
    node.fail("sizes has " + std::to_string(sizes.size()) + " entries for " + std::to_string(axes.size()) + " axes");
  static constexpr const char* kPolicies[] = {"stretch", "not_larger", "not_smaller"};
  const unsigned policy = choice(node, "keep_aspect_ratio_policy", "stretch", kPolicies);
  std::vector<double> scales;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (dims[axes[i]] == 0) node.fail("an empty axis cannot be resized");
    to_int32(sizes[i], 1, "an output extent");
    scales.push_back(static_cast<double>(sizes[i]) / static_cast<double>(dims[axes[i]]));
  }
  if (scales.empty()) return;
  const double common =
      policy == 1 ? *std::min_element(scales.begin(), scales.end()) : *std::max_element(scales.begin(), scales.end());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t axis = axes[i];
    attributes.scale[axis] = static_cast<float>(policy == 0 ? scales[i] : common);
    // Half up, as the specification has it.
    attributes.size[axis] =
        policy == 0 ? sizes[i] : scaled_extent(node, 1, static_cast<double>(dims[axis]) * common + 0.5);
  }
}

void read_roi(const OnnxNode& node, const std::vector<std::size_t>& axes, ResizeAttributes& attributes) {
  for (std::size_t i = 0; i < kMaxRank; ++i) attributes.roi_end[i] = 1;
  if (attributes.coordinates != ResizeCoordinates::TfCropAndResize) return;
  require_constant(node, 1, "roi");
  const std::vector<float> roi = node.constant_floats(1);
  if (roi.size() != 2 * axes.size())
    node.fail("roi has " + std::to_string(roi.size()) + " entries for " + std::to_string(axes.size()) + " axes");
  for (std::size_t i = 0; i < axes.size(); ++i) {
    attributes.roi_begin[axes[i]] = roi[i];
    attributes.roi_end[axes[i]] = roi[axes.size() + i];
  }
}

/// Whether input i is there and has elements: an empty tensor stands for an absent one.
bool has_elements(const OnnxNode& node, std::size_t i) {
  return node.has_input(i) && ir::element_count(node.type(i).dims) != 0;
}

/// Where output element `o` of an axis lies in the input.
double coordinate(const ResizeAttributes& attributes, const Resampling& axis, std::int64_t o) {
  const auto x = static_cast<double>(o);
  const auto in = static_cast<double>(axis.in);
  const double out = axis.scale * in;
  switch (attributes.coordinates) {
    case ResizeCoordinates::Asymmetric: return x / axis.scale;
    case ResizeCoordinates::AlignCorners: return out == 1 ? 0 : x * (in - 1) / (out - 1);
    case ResizeCoordinates::PytorchHalfPixel: return out == 1 ? -0.5 : (x + 0.5) / axis.scale - 0.5;
    case ResizeCoordinates::HalfPixelSymmetric:
      return in / 2 * (1 - static_cast<double>(axis.out) / out) + (x + 0.5) / axis.scale - 0.5;
    default: return (x + 0.5) / axis.scale - 0.5;
  }
}

/// Shrinking with a filter: a product with a constant matrix along each axis that changes.
ValueId resize_antialiased(OnnxNode& node, ValueId x, const ResizeAttributes& attributes) {
  if (attributes.coordinates == ResizeCoordinates::TfCropAndResize)
    node.fail("antialias with tf_crop_and_resize is not supported");
  const Dims dims = dims_of(node, x);
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (attributes.size[i] == dims[i] && attributes.scale[i] == 1.0f) continue;
    Resampling axis;
    axis.in = dims[i];
    axis.out = attributes.size[i];
    axis.scale = static_cast<double>(attributes.scale[i]);
    // Also bounds the filter's width.
    if (axis.out < 1 || axis.scale * static_cast<double>(axis.in) < 0.5)
      node.fail("antialias with an output of less than one element");
    axis.cubic = attributes.mode == ResizeMode::Cubic;
    axis.cubic_coefficient = static_cast<double>(attributes.cubic_coefficient);
    axis.exclude_outside = attributes.exclude_outside != 0;
    checked_constant_size(node, {axis.in, axis.out});
    const std::vector<float> matrix =
        resampling_matrix(axis, [&](std::int64_t o) { return coordinate(attributes, axis, o); });
    std::vector<std::int64_t> swap = iota(static_cast<std::int64_t>(dims.size()));
    std::swap(swap[i], swap.back());
    const bool vector = dims.size() == 1;
    const ValueId rows = vector ? reshape(node, x, {1, axis.in}) : transpose(node, x, swap);
    const ValueId product = matmul(node, rows, float_constant(node, {axis.in, axis.out}, matrix));
    x = vector ? reshape(node, product, {axis.out}) : transpose(node, product, swap);
  }
  return x;
}

/// Where a scale leaves a fraction of an element, ONNX's align_corners counts it: x * (in - 1) / (scale * in - 1), with
/// scale * in not rounded. The kernel knows whole extents only; asymmetric coordinates with another scale are the same.
void keep_fractions(const Dims& dims, ResizeAttributes& attributes) {
  if (attributes.coordinates != ResizeCoordinates::AlignCorners) return;
  bool fractional = false;
  float scale[kMaxRank] = {};
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const auto in = static_cast<double>(dims[i]);
    const double out = static_cast<double>(attributes.scale[i]) * in;
    fractional = fractional || std::abs(out - static_cast<double>(attributes.size[i])) > 1e-3;
    scale[i] = in > 1 && out > 1 ? static_cast<float>((out - 1) / (in - 1)) : attributes.scale[i];
  }
  if (!fractional) return;
  attributes.coordinates = ResizeCoordinates::Asymmetric;
  std::copy(scale, scale + dims.size(), attributes.scale);
}

void import_resize(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  require_rank(dims);
  static constexpr const char* kModes[] = {"nearest", "linear", "cubic"};
  static constexpr const char* kCoordinates[] = {"half_pixel",         "asymmetric",           "align_corners",
                                                 "pytorch_half_pixel", "half_pixel_symmetric", "tf_crop_and_resize"};
  static constexpr const char* kNearest[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
  ResizeAttributes attributes{};
  attributes.mode = static_cast<ResizeMode>(choice(node, "mode", "nearest", kModes));
  attributes.coordinates =
      static_cast<ResizeCoordinates>(choice(node, "coordinate_transformation_mode", "half_pixel", kCoordinates));
  attributes.nearest = static_cast<ResizeNearest>(choice(node, "nearest_mode", "round_prefer_floor", kNearest));
  attributes.cubic_coefficient = node.float_or("cubic_coeff_a", -0.75f);
  attributes.exclude_outside = node.int_or("exclude_outside", 0) != 0 ? 1 : 0;
  attributes.extrapolation_value = node.float_or("extrapolation_value", 0.0f);
  for (std::size_t i = 0; i < dims.size(); ++i) {
    attributes.scale[i] = 1;
    attributes.size[i] = dims[i];
  }
  const std::vector<std::int64_t> named = node.ints_or("axes", iota(static_cast<std::int64_t>(dims.size())));
  axes_of(node, named, dims.size());
  std::vector<std::size_t> axes;
  for (const std::int64_t axis : named) axes.push_back(axis_of(node, axis, dims.size()));
  read_roi(node, axes, attributes);
  if (has_elements(node, 2)) {
    require_constant(node, 2, "scales");
    apply_scales(node, dims, axes, node.constant_floats(2), attributes);
  } else if (has_elements(node, 3)) {
    apply_sizes(node, dims, axes, known_ints(node, 3, "sizes"), attributes);
  } else {
    node.fail("neither scales nor sizes are given");
  }
  const bool shrinks =
      std::any_of(attributes.scale, attributes.scale + dims.size(), [](float scale) { return scale < 1; });
  const ValueId x = attributes.mode == ResizeMode::Nearest ? node.input(0) : cast_narrow(node, node.input(0));
  if (node.int_or("antialias", 0) != 0 && shrinks && attributes.mode != ResizeMode::Nearest) {
    return node.set_output(0, cast(node, resize_antialiased(node, x, attributes), dtype));
  }
  keep_fractions(dims, attributes);
  node.set_output(0, cast(node, node.emit(kResize, {x}, attributes), dtype));
}

/// Upsample and Resize before opset 11: only scales, coordinates from the corner. Where the specification says nothing
/// of rounding, enlarging rounds down and shrinking up, as ONNX Runtime has it.
void import_upsample(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  require_rank(dims);
  const std::string mode = node.string_or("mode", "nearest");
  if (mode != "nearest" && mode != "linear" && mode != "bilinear") node.fail("mode '" + mode + "' is not known");
  ResizeAttributes attributes{};
  attributes.mode = mode == "nearest" ? ResizeMode::Nearest : ResizeMode::Linear;
  attributes.coordinates = ResizeCoordinates::Asymmetric;
  const std::vector<std::int64_t> all = iota(static_cast<std::int64_t>(dims.size()));
  if (node.opset >= 9) require_constant(node, 1, "scales");
  const std::vector<float> scales = node.opset < 9 ? node.floats_or("scales", {}) : node.constant_floats(1);
  apply_scales(node, dims, axes_of(node, all, dims.size()), scales, attributes);
  const bool shrinks = std::any_of(scales.begin(), scales.end(), [](float scale) { return scale < 1; });
  const bool grows = std::any_of(scales.begin(), scales.end(), [](float scale) { return scale > 1; });
  if (shrinks && grows && attributes.mode == ResizeMode::Nearest)
    node.fail("scales both above and below 1 are not supported");
  attributes.nearest = shrinks ? ResizeNearest::Ceil : ResizeNearest::Floor;
  for (std::size_t i = 0; i < kMaxRank; ++i) attributes.roi_end[i] = 1;
  node.set_output(0, node.emit(kResize, {node.input(0)}, attributes));
}

}  // namespace

extern const OperatorDef kResize = [] {
  OperatorDef op;
  op.name = "Resize";
  op.attribute_bytes = sizeof(ResizeAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  return op;
}();

void register_resize(Registry& registry) {
  registry.add(kResize);
  registry.add_onnx("Resize", &import_upsample, 10, 10);
  registry.add_onnx("Resize", &import_resize, 11);
  registry.add_onnx("Upsample", &import_upsample, 7, 9);
}

}  // namespace edgert::ops
