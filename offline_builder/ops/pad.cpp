// SPDX-License-Identifier: Apache-2.0
// Pad. Pads and value are attributes before opset 11, inputs since; negative pads cut elements off and become slices.
#include "edgert/cpu/ops/pad.h"

#include <algorithm>
#include <set>

#include "ops/bounded_moves.h"
#include "ops/pad.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using cpu::PadAttributes;
using cpu::PadMode;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Pad>();
constexpr std::int64_t kMaxPad = std::int64_t{1} << 40;

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 1, 1);
  const auto& attributes = context.attributes.as<PadAttributes>();
  require(attributes.mode <= PadMode::Wrap, "no such mode");
  ir::TensorType y = context.type(0);
  require_rank(y.dims);
  for (std::size_t i = 0; i < y.dims.size(); ++i) {
    const std::int64_t before = attributes.before[i];
    const std::int64_t after = attributes.after[i];
    require(before >= 0 && before <= kMaxPad && after >= 0 && after <= kMaxPad, "a pad is negative or too large");
    // Reflection and repetition need something to take elements from.
    const std::int64_t source = y.dims[i] - (attributes.mode == PadMode::Reflect ? 1 : 0);
    require(attributes.mode == PadMode::Constant || source > 0 || (before == 0 && after == 0),
            "axis " + std::to_string(i) + " of shape " + ir::to_string(y.dims) + " has too few elements for this mode");
    y.dims[i] += before + after;
  }
  return runnable(kEntry, context, {y});
}

/// A bounded dimension is filled up to its largest extent: the kernel writes the whole output, whatever of it the input
/// has.
Extents extents(const InferContext& context) {
  require(context.extents(0).empty() || context.attributes.as<PadAttributes>().mode == PadMode::Constant,
          "only a constant can fill up a dimension whose extent only a run knows");
  return {};
}

std::string describe(const ir::AttributeBlob& blob) {
  static constexpr const char* kModes[] = {"constant", "reflect", "edge", "wrap"};
  const auto& attributes = blob.as<PadAttributes>();
  return std::string(kModes[static_cast<unsigned>(attributes.mode)]) +
         " before=" + ir::to_string(Dims(attributes.before, attributes.before + kMaxRank)) +
         " after=" + ir::to_string(Dims(attributes.after, attributes.after + kMaxRank));
}

/// Cuts off what negative pads say, then pads with the rest.
ValueId pad(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& before, const std::vector<std::int64_t>& after,
            PadMode mode, const std::vector<std::byte>& value) {
  const Dims dims = dims_of(node, x);
  require_rank(dims);
  PadAttributes attributes{};
  attributes.mode = mode;
  std::memcpy(attributes.value, value.data(), std::min(value.size(), sizeof(attributes.value)));
  bool grows = false;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (std::max(before[i], after[i]) > kMaxPad || std::min(before[i], after[i]) < -kMaxPad)
      node.fail("a pad is too large");
    const std::int64_t cut_before = std::max<std::int64_t>(-before[i], 0);
    const std::int64_t cut_after = std::max<std::int64_t>(-after[i], 0);
    if (cut_before + cut_after > dims[i])
      node.fail("pads cut off more than axis " + std::to_string(i) + " of " + ir::to_string(dims));
    x = slice(node, x, i, cut_before, dims[i] - cut_before - cut_after);
    attributes.before[i] = std::max<std::int64_t>(before[i], 0);
    attributes.after[i] = std::max<std::int64_t>(after[i], 0);
    grows = grows || attributes.before[i] != 0 || attributes.after[i] != 0;
  }
  return grows || node.graph.is_bounded(x) ? node.emit(kPad, {x}, attributes) : x;
}

/// The pads of input 1. One behind a bounded dimension may depend on its extent: so that what comes out is as long in every
/// run. Then the pad is what is missing to the largest extent, and the axis goes to `filled`.
std::vector<std::int64_t> read_pads(OnnxNode& node, const std::vector<std::int64_t>& axes, std::set<std::size_t>& filled) {
  const ValueId x = node.input(0);
  if (node.opset < 11) return node.ints_or("pads", {});
  if (node.is_constant(1) || !node.graph.is_bounded(x)) return known_ints(node, 1, "pads");
  const std::optional<std::vector<ExtentSum>> sums = extent_sums(node.graph, node.input(1));
  if (!sums || sums->size() != 2 * axes.size()) return known_ints(node, 1, "pads");
  const Dims dims = dims_of(node, x);
  std::vector<std::int64_t> pads(sums->size());
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t axis = axis_of(node, axes[i], dims.size());
    const ExtentSum& before = (*sums)[i];
    const ExtentSum& after = (*sums)[axes.size() + i];
    const std::optional<ExtentSum> extent = extent_sum(node.graph, x, axis);
    const std::optional<ExtentSum> sum = extent ? plus(*extent, after) : std::nullopt;
    if (!before.is_known() || !sum || (!sum->is_known() && !after.is_known())) {
      node.fail("the padded extent of axis " + std::to_string(axis) + " is known only at run time");
    }
    pads[i] = before.constant;
    pads[axes.size() + i] = after.constant;
    if (!sum->is_known()) continue;
    if (sum->constant < dims[axis]) node.fail("what is padded to " + std::to_string(sum->constant) + " may be longer already");
    pads[axes.size() + i] = sum->constant - dims[axis];
    filled.insert(axis);
  }
  return pads;
}

/// Of a bounded dimension that got pads of a fixed size, as much as there is.
ValueId cut_padded(OnnxNode& node, ValueId y, const ir::Extent& extent, std::int64_t pads) {
  if (pads < 0) node.fail("pads cut off a part of axis " + std::to_string(extent.dim) + ", whose extent only a run knows");
  const ValueId actual = reshape(node, extent.actual, {});
  return first_of(node, y, extent.dim, pads == 0 ? actual : binary(node, PointwiseOp::Add, actual, int64_constant(node, {}, {pads})));
}

PadMode read_mode(const OnnxNode& node) {
  const std::string mode = node.string_or("mode", "constant");
  if (mode == "constant") return PadMode::Constant;
  if (mode == "reflect") return PadMode::Reflect;
  if (mode == "edge") return PadMode::Edge;
  if (mode == "wrap") return PadMode::Wrap;
  node.fail("mode '" + mode + "' is not known");
}

std::vector<std::byte> read_value(const OnnxNode& node, DType dtype) {
  if (node.opset < 11) return scalar_bytes(node, dtype, node.float_or("value", 0.0f));
  if (!node.has_input(2)) return scalar_bytes(node, dtype, 0);
  const ir::Value& value = node.graph.value(node.inputs[2]);
  require_constant(node, 2, "the value to pad with");
  if (value.type.dtype != dtype || ir::element_count(value.type.dims) != 1)
    node.fail("the value to pad with must be one element of the input's type");
  return std::vector<std::byte>(value.constant.data(), value.constant.data() + value.constant.size());
}

void import_pad(OnnxNode& node) {
  const ir::TensorType type = node.type(0);
  const std::size_t rank = type.dims.size();
  const bool some_axes = node.opset >= 18 && node.has_input(3);
  const std::vector<std::int64_t> axes =
      some_axes ? known_ints(node, 3, "axes") : iota(static_cast<std::int64_t>(rank));
  axes_of(node, axes, rank);
  std::set<std::size_t> filled;
  const std::vector<std::int64_t> pads = read_pads(node, axes, filled);
  if (pads.size() != 2 * axes.size()) {
    node.fail("pads has " + std::to_string(pads.size()) + " entries for " + std::to_string(axes.size()) + " axes");
  }
  std::vector<std::int64_t> before(rank, 0);
  std::vector<std::int64_t> after(rank, 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::size_t axis = axis_of(node, axes[i], rank);
    before[axis] = pads[i];
    after[axis] = pads[axes.size() + i];
  }
  const std::vector<ir::Extent> extents = node.graph.value(node.input(0)).extents;
  ValueId y = pad(node, node.input(0), before, after, read_mode(node), read_value(node, type.dtype));
  for (const ir::Extent& extent : extents) {
    if (filled.count(extent.dim) == 0) y = cut_padded(node, y, extent, before[extent.dim] < 0 || after[extent.dim] < 0 ? -1 : before[extent.dim] + after[extent.dim]);
  }
  node.set_output(0, y);
}

}  // namespace

extern const OperatorDef kPad = [] {
  OperatorDef op;
  op.name = "Pad";
  op.attribute_bytes = sizeof(PadAttributes);
  op.infer = &infer;
  op.extents = &extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  return op;
}();

ValueId pad_constant(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& before,
                     const std::vector<std::int64_t>& after, double value) {
  return pad(node, x, before, after, PadMode::Constant, scalar_bytes(node, dtype_of(node, x), value));
}

ValueId fill_bounded(OnnxNode& node, ValueId x, double value) {
  const std::vector<std::int64_t> none(dims_of(node, x).size(), 0);
  return pad_constant(node, x, none, none, value);
}

ValueId pad_zero(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& before,
                 const std::vector<std::int64_t>& after) {
  return pad_constant(node, x, before, after, 0);
}

void register_pad(Registry& registry) {
  registry.add(kPad);
  registry.add_onnx("Pad", &import_pad, 2);
}

}  // namespace edgert::ops
