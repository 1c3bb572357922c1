// SPDX-License-Identifier: Apache-2.0
// ai.onnx.preview.training: Momentum, Adam and Adagrad, each for any number of tensors at once. Inputs: rate r, step
// count t, then all tensors, all gradients and all states; outputs: new tensors and new states.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

constexpr const char* kDomain = "ai.onnx.preview.training";

/// The operands of one tensor's update, and its results.
struct Update {
  ValueId rate, step, x, gradient;
  std::vector<ValueId> states;
};

class Arithmetic {
 public:
  Arithmetic(OnnxNode& node, DType dtype) : node_(node), dtype_(dtype) {}
  ValueId number(double value) const { return scalar_constant(node_, dtype_, value); }
  ValueId add(ValueId a, ValueId b) const { return binary(node_, PointwiseOp::Add, a, b); }
  ValueId sub(ValueId a, ValueId b) const { return binary(node_, PointwiseOp::Sub, a, b); }
  ValueId mul(ValueId a, ValueId b) const { return binary(node_, PointwiseOp::Mul, a, b); }
  ValueId mul(double a, ValueId b) const { return mul(number(a), b); }
  ValueId div(ValueId a, ValueId b) const { return binary(node_, PointwiseOp::Div, a, b); }
  ValueId pow(double a, ValueId b) const { return binary(node_, PointwiseOp::Pow, number(a), b); }
  ValueId root(ValueId x) const { return unary(node_, PointwiseOp::Sqrt, x); }
  /// Of the steps: whether this is not the first one.
  ValueId later(ValueId step, ValueId then, ValueId otherwise) const {
    return select(node_, binary(node_, PointwiseOp::Greater, step, number(0)), then, otherwise);
  }
  double attribute(const char* name, float fallback) const { return static_cast<double>(node_.float_or(name, fallback)); }
  /// The gradient of the loss and of the regularisation.
  ValueId regularised(const Update& u) const { return add(mul(attribute("norm_coefficient", 0.0f), u.x), u.gradient); }

 private:
  OnnxNode& node_;
  DType dtype_;
};

/// Results: the tensor, then its states.
std::vector<ValueId> momentum(OnnxNode& node, const Arithmetic& a, const Update& u) {
  const std::string mode = node.string_or("mode", "");
  if (mode != "standard" && mode != "nesterov") node.fail("mode '" + mode + "' is not known");
  const double alpha = a.attribute("alpha", 0.0f);
  const ValueId gradient = a.regularised(u);
  const ValueId beta = a.later(u.step, a.number(a.attribute("beta", 0.0f)), a.number(1));
  const ValueId velocity = a.add(a.mul(alpha, u.states[0]), a.mul(beta, gradient));
  const ValueId direction = mode == "standard" ? velocity : a.add(gradient, a.mul(alpha, velocity));
  return {a.sub(u.x, a.mul(u.rate, direction)), velocity};
}

std::vector<ValueId> adam(OnnxNode&, const Arithmetic& a, const Update& u) {
  const double alpha = a.attribute("alpha", 0.9f);
  const double beta = a.attribute("beta", 0.999f);
  const ValueId gradient = a.regularised(u);
  const ValueId mean = a.add(a.mul(alpha, u.states[0]), a.mul(1 - alpha, gradient));
  const ValueId square = a.add(a.mul(beta, u.states[1]), a.mul(1 - beta, a.mul(gradient, gradient)));
  const ValueId deviation = a.add(a.root(square), a.number(a.attribute("epsilon", 0.0f)));
  const ValueId correction = a.div(a.root(a.sub(a.number(1), a.pow(beta, u.step))), a.sub(a.number(1), a.pow(alpha, u.step)));
  const ValueId rate = a.later(u.step, a.mul(u.rate, correction), u.rate);
  const ValueId x = a.sub(u.x, a.mul(rate, a.div(mean, deviation)));
  return {a.mul(1 - a.attribute("norm_coefficient_post", 0.0f), x), mean, square};
}

std::vector<ValueId> adagrad(OnnxNode&, const Arithmetic& a, const Update& u) {
  const ValueId gradient = a.regularised(u);
  const ValueId decay = a.add(a.number(1), a.mul(a.attribute("decay_factor", 0.0f), u.step));
  const ValueId squares = a.add(u.states[0], a.mul(gradient, gradient));
  const ValueId deviation = a.add(a.root(squares), a.number(a.attribute("epsilon", 0.0f)));
  return {a.sub(u.x, a.div(a.mul(a.div(u.rate, decay), gradient), deviation)), squares};
}

/// `states` tensors of state belong to each tensor.
template <std::vector<ValueId> (*rule)(OnnxNode&, const Arithmetic&, const Update&), std::size_t states>
void import_optimizer(OnnxNode& node) {
  const std::size_t group = 2 + states;
  if (node.inputs.size() < 2 + group || (node.inputs.size() - 2) % group != 0)
    node.fail("the inputs are not a rate, a step and " + std::to_string(group) + " for each tensor");
  const std::size_t tensors = (node.inputs.size() - 2) / group;
  for (std::size_t i = 0; i < tensors; ++i) {
    const auto operand = [&](std::size_t kind) { return node.input(2 + kind * tensors + i); };
    const DType dtype = dtype_of(node, operand(0));
    const auto scalar = [&](std::size_t index) {
      if (ir::element_count(node.type(index).dims) != 1) node.fail("rate and step must be one number each");
      return cast(node, reshape(node, node.input(index), {}), dtype);
    };
    Update update{scalar(0), scalar(1), operand(0), operand(1), {}};
    for (std::size_t k = 0; k < states; ++k) update.states.push_back(operand(2 + k));
    const std::vector<ValueId> results = rule(node, Arithmetic(node, dtype), update);
    for (std::size_t k = 0; k < results.size(); ++k) node.set_output(k * tensors + i, results[k]);
  }
}

}  // namespace

void register_optimizer(Registry& registry) {
  registry.add_onnx("Momentum", &import_optimizer<&momentum, 1>, 1, 1 << 30, kDomain);
  registry.add_onnx("Adam", &import_optimizer<&adam, 2>, 1, 1 << 30, kDomain);
  registry.add_onnx("Adagrad", &import_optimizer<&adagrad, 1>, 1, 1 << 30, kDomain);
}

}  // namespace edgert::ops
