// SPDX-License-Identifier: Apache-2.0
#include "families/image_input.h"

#include <algorithm>

#include "edgert/scalar/pointwise.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using scalar::PointwiseOp;

/// scale * x + shift for each channel.
struct Affine {
  std::vector<double> scale, shift;

  static Affine constant(std::vector<double> values) { return {std::vector<double>(values.size(), 0.0), std::move(values)}; }
  bool is_constant() const {
    return std::all_of(scale.begin(), scale.end(), [](double s) { return s == 0.0; });
  }
};

std::optional<Affine> combine(PointwiseOp op, Affine a, const Affine& b) {
  if (op == PointwiseOp::Mul && a.is_constant()) return b.is_constant() ? std::nullopt : combine(op, b, a);
  const bool product = op == PointwiseOp::Mul || op == PointwiseOp::Div;
  if (product && !b.is_constant()) return std::nullopt;
  for (std::size_t c = 0; c < a.scale.size(); ++c) {
    if (op == PointwiseOp::Add) {
      a.scale[c] += b.scale[c], a.shift[c] += b.shift[c];
    } else if (op == PointwiseOp::Sub) {
      a.scale[c] -= b.scale[c], a.shift[c] -= b.shift[c];
    } else if (product) {
      if (op == PointwiseOp::Div && b.shift[c] == 0.0) return std::nullopt;
      const double factor = op == PointwiseOp::Mul ? b.shift[c] : 1.0 / b.shift[c];
      a.scale[c] *= factor, a.shift[c] *= factor;
    } else {
      return std::nullopt;
    }
  }
  return a;
}

/// Where `view` (with the elements of `out`, perhaps in another order of dimensions) finds its elements in `in`, which has
/// the dimensions of `out` but strides of its own.
std::optional<ir::Dims> strides_in(const Operand& in, const Operand& out, const Operand& view) {
  if (in.dims != out.dims || ir::element_count(view.dims) != ir::element_count(out.dims)) return std::nullopt;
  ir::Dims strides(view.dims.size(), 1);
  for (std::size_t d = 0; d < view.dims.size(); ++d) {
    if (view.dims[d] == 1) continue;
    std::size_t axis = 0;
    while (axis < out.dims.size() && (out.dims[axis] != view.dims[d] || out.strides[axis] != view.strides[d])) ++axis;
    if (axis == out.dims.size() || view.strides[d] <= 0 || in.strides[axis] <= 0) return std::nullopt;
    strides[d] = in.strides[axis];
  }
  return strides;
}

/// The constant's value in each channel of `view`, whose elements `out` has; nothing where it varies inside one.
std::optional<std::vector<double>> channel_values(const Context& context, const Operand& constant, const Operand& out, const Operand& view) {
  const std::int64_t channels = view.dims[1];
  const std::vector<float> all = context.constant_floats(constant.value);
  if (all.size() == 1) return std::vector<double>(static_cast<std::size_t>(channels), all[0]);
  if (constant.dims != out.dims) return std::nullopt;
  std::int64_t step = 0, elements = 1;
  for (std::size_t axis = out.dims.size(); axis-- > 0; elements *= out.dims[axis]) {
    if (out.dims[axis] == 1) continue;
    const bool of_channels = out.dims[axis] == channels && out.strides[axis] == view.strides[1];
    if (of_channels) step = elements;
    else if (constant.strides[axis] != 0) return std::nullopt;
  }
  std::vector<double> values;
  for (std::int64_t c = 0; c < channels; ++c) values.push_back(all[static_cast<std::size_t>(c * step)]);
  return values;
}

/// The program of `node` as a function of its one input that is no constant, which `variable` names then.
std::optional<Affine> affine_of(const Context& context, const ir::Node& node, const Operand& view, std::size_t& variable) {
  const auto& program = node.as<scalar::PointwiseProgram>();
  const Operand out = context.operand(node.outputs[0]);
  const auto channels = static_cast<std::size_t>(view.dims[1]);
  std::vector<Affine> values;
  variable = program.inputs;
  for (unsigned i = 0; i < program.inputs; ++i) {
    const Operand input = context.input(node, i);
    if (input.constant && (input.dtype == DType::F32 || input.dtype == DType::F16)) {
      const auto constants = channel_values(context, input, out, view);
      if (!constants) return std::nullopt;
      values.push_back(Affine::constant(*constants));
    } else if (variable == program.inputs) {
      variable = i;
      values.push_back({std::vector<double>(channels, 1.0), std::vector<double>(channels, 0.0)});
    } else {
      return std::nullopt;
    }
  }
  for (unsigned s = 0; s < program.steps; ++s) {
    const scalar::PointwiseStep& step = program.step[s];
    const bool binary = scalar::arity(step.op) == 2;
    if (!binary && step.op != PointwiseOp::Identity) return std::nullopt;
    const auto value = binary ? combine(step.op, values[step.a], values[step.b]) : values[step.a];
    if (!value) return std::nullopt;
    values.push_back(*value);
  }
  return variable < program.inputs ? std::optional<Affine>(values.back()) : std::nullopt;
}

}  // namespace

bool ImageInput::normalized() const {
  return std::any_of(scale.begin(), scale.end(), [](float s) { return s != 1.0f; }) ||
         std::any_of(shift.begin(), shift.end(), [](float s) { return s != 0.0f; });
}

std::optional<ImageInput> find_image(const Context& context, const ir::Node& node) {
  Operand view = context.input(node, 0);
  if (view.dims.size() != 4 || view.dims[1] > 8 || !view.extents.empty()) return std::nullopt;
  const auto channels = static_cast<std::size_t>(view.dims[1]);
  Affine whole = {std::vector<double>(channels, 1.0), std::vector<double>(channels, 0.0)};
  ImageInput image;
  for (ir::ValueId value = view.value;;) {
    const ir::NodeId id = context.sole_producer(value);
    if (id == ir::kNone || context.is_taken(id)) break;
    const ir::Node& producer = context.graph().node(id);
    std::size_t from = 0;
    std::optional<Affine> own;
    if (producer.op == &ops::kPointwise) {
      own = affine_of(context, producer, view, from);
      if (!own) break;
    } else if (producer.op != &ops::kCopy && (producer.op != &ops::kCast || context.input(producer, 0).dtype != DType::U8)) {
      break;
    }
    const Operand in = context.input(producer, from);
    const auto strides = strides_in(in, context.operand(producer.outputs[0]), view);
    if (!strides || in.constant) break;
    if (own) {
      for (std::size_t c = 0; c < channels; ++c) {
        whole.shift[c] += whole.scale[c] * own->shift[c];
        whole.scale[c] *= own->scale[c];
      }
    }
    const ir::Dims dims = view.dims;
    view = in, view.dims = dims, view.strides = *strides;
    image.covered.push_back(id);
    value = producer.inputs[from];
    if (in.dtype == DType::U8) break;
  }
  if ((view.dtype != DType::U8 && view.dtype != DType::F32) || view.constant) return std::nullopt;
  image.source = view;
  image.scale.assign(whole.scale.begin(), whole.scale.end());
  image.shift.assign(whole.shift.begin(), whole.shift.end());
  return image;
}

}  // namespace edgert::families
