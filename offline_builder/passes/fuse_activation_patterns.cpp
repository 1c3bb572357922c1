// SPDX-License-Identifier: Apache-2.0
// Exporters write activations out of smaller operators, in many orders. Here products are taken apart into a
// coefficient and factors, so that x * 0.5 * (1 + erf(x / sqrt 2)) is the same pattern in whichever order it was
// multiplied.
#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// No pattern has more; longer chains are left alone so that matching stays linear.
constexpr std::size_t kMostFactors = 4;
constexpr std::size_t kMostNodes = 16;

/// What is to be put in the place of a value.
struct Activation {
  PointwiseOp op = PointwiseOp::Identity;
  ValueId x = kNone;
  float alpha = 0;
  float beta = 0;
};

/// Constants in models have been rounded to float and often to a few digits.
bool near(double a, double b) { return std::fabs(a - b) <= 1e-5 * std::fabs(b); }

/// One attempt to see a value as a pattern. Remembers the nodes that the pattern would take the place of: nobody else
/// may read what they make.
class Matcher {
 public:
  Matcher(const Graph& graph, ValueId root) : graph_(graph), root_(root) {}

  std::optional<Activation> run() {
    if (type_of(graph_, root_).dtype != DType::F32) return std::nullopt;
    using Rule = std::optional<Activation> (Matcher::*)();
    for (const Rule rule :
         {&Matcher::clamp, &Matcher::sigmoid, &Matcher::softplus, &Matcher::linear_clamp, &Matcher::gated}) {
      nodes_.clear();
      const std::optional<Activation> found = (this->*rule)();
      if (found && is_closed()) return found;
    }
    return std::nullopt;
  }

  const std::vector<NodeId>& nodes() const { return nodes_; }

 private:
  struct Product {
    double coefficient = 1;
    std::vector<ValueId> factors;
  };
  struct Bounds {
    ValueId x = kNone;
    double low = -kInfinity;
    double high = kInfinity;
  };

  /// The node behind `id` when it is instruction `op`; it then belongs to the pattern.
  const Node* take(ValueId id, PointwiseOp op) {
    const Node* node = match(graph_, id, op);
    if (node != nullptr) nodes_.push_back(graph_.value(id).producer);
    return node;
  }

  bool is_closed() const {
    for (const NodeId id : nodes_) {
      const ValueId out = graph_.node(id).outputs[0];
      if (out == root_) continue;
      if (graph_.is_output(out)) return false;
      for (const NodeId user : graph_.users(out)) {
        if (std::find(nodes_.begin(), nodes_.end(), user) == nodes_.end()) return false;
      }
    }
    return true;
  }

  /// op(x, c) or op(c, x) with a constant c.
  bool with_constant(ValueId id, PointwiseOp op, ValueId& x, double& c) {
    const Node* node = match(graph_, id, op);
    if (node == nullptr) return false;
    for (unsigned i = 0; i < 2; ++i) {
      const std::optional<double> value = uniform_value(graph_, operand(*node, i));
      if (!value || constant_window(graph_, operand(*node, 1 - i))) continue;
      c = *value;
      x = operand(*node, 1 - i);
      take(id, op);
      return true;
    }
    return false;
  }

  /// Products, quotients by constants and small powers, taken apart as far as nobody else reads the parts.
  void multiply_out(ValueId id, bool is_root, Product& product) {
    const bool divides = match(graph_, id, PointwiseOp::Div) != nullptr;
    const Node* node = match(graph_, id, divides ? PointwiseOp::Div : PointwiseOp::Mul);
    if (const std::optional<double> c = uniform_value(graph_, id)) {
      product.coefficient *= *c;
    } else if (node != nullptr && (is_root || graph_.has_single_use(id)) && has_room(product)) {
      const std::optional<double> divisor = divides ? uniform_value(graph_, operand(*node, 1)) : std::nullopt;
      if (divides && !divisor) return product.factors.push_back(id);
      nodes_.push_back(graph_.value(id).producer);
      multiply_out(operand(*node, 0), false, product);
      if (divides) {
        product.coefficient /= *divisor;
      } else {
        multiply_out(operand(*node, 1), false, product);
      }
    } else if (!add_power(id, product)) {
      product.factors.push_back(id);
    }
  }

  bool has_room(const Product& product) const {
    return product.factors.size() < kMostFactors && nodes_.size() < kMostNodes;
  }

  /// x^2 and x^3 count as two and three factors.
  bool add_power(ValueId id, Product& product) {
    const Node* node = match(graph_, id, PointwiseOp::Pow);
    if (node == nullptr || !graph_.has_single_use(id)) return false;
    const std::optional<double> exponent = uniform_value(graph_, operand(*node, 1));
    if (exponent != 2.0 && exponent != 3.0) return false;
    nodes_.push_back(graph_.value(id).producer);
    product.factors.insert(product.factors.end(), static_cast<std::size_t>(*exponent), operand(*node, 0));
    return true;
  }

  Product product_of(ValueId id, bool is_root = false) {
    Product product;
    multiply_out(id, is_root, product);
    return product;
  }

  /// Whether `id` is coefficient * x^count, also when it is no product at all.
  bool is_scaled(ValueId id, double coefficient, ValueId x, std::size_t count = 1) {
    const Product product = product_of(id);
    return near(product.coefficient, coefficient) && product.factors == std::vector<ValueId>(count, x);
  }

  /// Relu, Clip, Max and Min with constants are all clamps.
  std::optional<Bounds> bounds_of(ValueId id) {
    const Node* producer = graph_.producer(id);
    const PointwiseStep* step = producer != nullptr ? single_instruction(*producer) : nullptr;
    if (step == nullptr || static_cast<DType>(step->type) != DType::F32) return std::nullopt;
    Bounds bounds;
    if (step->op == PointwiseOp::Relu || step->op == PointwiseOp::Clip) {
      take(id, step->op);
      bounds.x = operand(*producer, 0);
      bounds.low = step->op == PointwiseOp::Relu ? 0 : step->alpha;
      if (step->op == PointwiseOp::Clip) bounds.high = step->beta;
      if (bounds.low <= bounds.high) return bounds;
    } else if (with_constant(id, PointwiseOp::Max, bounds.x, bounds.low) ||
               with_constant(id, PointwiseOp::Min, bounds.x, bounds.high)) {
      return bounds;
    }
    return std::nullopt;
  }

  /// One clamp, or one of another's result, in its plainest form.
  std::optional<Activation> clamp() {
    const std::optional<Bounds> outer = bounds_of(root_);
    if (!outer) return std::nullopt;
    Bounds merged = *outer;
    const std::size_t own = nodes_.size();
    const std::optional<Bounds> inner = graph_.has_single_use(outer->x) ? bounds_of(outer->x) : std::nullopt;
    nodes_.resize(inner ? nodes_.size() : own);
    if (inner) {
      // A clamp is monotone, so it acts on the inner one's bounds as on any other value.
      merged = {inner->x, std::clamp(inner->low, outer->low, outer->high),
                std::clamp(inner->high, outer->low, outer->high)};
    }
    const bool relu = merged.low == 0 && merged.high == kInfinity;
    Activation result{relu ? PointwiseOp::Relu : PointwiseOp::Clip, merged.x, 0, 0};
    if (!relu) {
      result.alpha = static_cast<float>(merged.low);
      result.beta = static_cast<float>(merged.high);
    }
    // Already in that form?
    if (!inner && match(graph_, root_, result.op) != nullptr) return std::nullopt;
    return result;
  }

  /// 1 + exp(-x), the divisor of a sigmoid.
  bool is_one_plus_exp(ValueId id, bool negated, ValueId& x) {
    ValueId power = kNone;
    double one = 0;
    if (!with_constant(id, PointwiseOp::Add, power, one) || one != 1) return false;
    const Node* exp = take(power, PointwiseOp::Exp);
    if (exp == nullptr) return false;
    x = operand(*exp, 0);
    if (!negated) return true;
    const Node* negation = take(x, PointwiseOp::Neg);
    if (negation == nullptr) return false;
    x = operand(*negation, 0);
    return true;
  }

  /// 1 / (1 + exp(-x)), and x / (1 + exp(-x)), which is SiLU.
  std::optional<Activation> sigmoid() {
    ValueId x = kNone;
    if (const Node* node = take(root_, PointwiseOp::Reciprocal)) {
      if (!is_one_plus_exp(operand(*node, 0), true, x)) return std::nullopt;
      return Activation{PointwiseOp::Sigmoid, x};
    }
    const Node* node = take(root_, PointwiseOp::Div);
    if (node == nullptr || !is_one_plus_exp(operand(*node, 1), true, x)) return std::nullopt;
    if (is_uniform(graph_, operand(*node, 0), 1)) return Activation{PointwiseOp::Sigmoid, x};
    if (operand(*node, 0) == x) return Activation{PointwiseOp::Silu, x};
    return std::nullopt;
  }

  /// log(1 + exp(x))
  std::optional<Activation> softplus() {
    const Node* node = take(root_, PointwiseOp::Log);
    ValueId x = kNone;
    if (node == nullptr || !is_one_plus_exp(operand(*node, 0), false, x)) return std::nullopt;
    return Activation{PointwiseOp::Softplus, x};
  }

  /// scale * x + shift, with scale or shift where they are there.
  void linear(ValueId id, ValueId& x, double& scale, double& shift) {
    x = id;
    with_constant(id, PointwiseOp::Add, x, shift);
    const std::size_t taken = nodes_.size();
    const Product product = product_of(x);
    if (product.factors.size() != 1) return nodes_.resize(taken);
    scale = product.coefficient;
    x = product.factors[0];
  }

  /// clamp(scale * x + shift, 0, high) / high is HardSigmoid.
  bool is_hard_sigmoid(ValueId id, double coefficient, Activation& result) {
    if (const Node* node = take(id, PointwiseOp::HardSigmoid)) {
      const PointwiseStep* step = single_instruction(*node);
      result = {PointwiseOp::HardSigmoid, operand(*node, 0), step->alpha, step->beta};
      return near(coefficient, 1);
    }
    const std::optional<Bounds> bounds = bounds_of(id);
    if (!bounds || bounds->low != 0 || bounds->high == kInfinity || !near(bounds->high * coefficient, 1)) return false;
    double scale = 1;
    double shift = 0;
    linear(bounds->x, result.x, scale, shift);
    result.op = PointwiseOp::HardSigmoid;
    result.alpha = static_cast<float>(scale * coefficient);
    result.beta = static_cast<float>(shift * coefficient);
    return result.x != bounds->x;
  }

  std::optional<Activation> linear_clamp() {
    const Product product = product_of(root_, true);
    Activation result;
    if (product.factors.size() != 1) return std::nullopt;
    if (match(graph_, product.factors[0], PointwiseOp::HardSigmoid) != nullptr) return std::nullopt;
    if (!is_hard_sigmoid(product.factors[0], product.coefficient, result)) return std::nullopt;
    return result;
  }

  /// x times a function of x between 0 and 1 (or twice that, with a coefficient of a half).
  std::optional<Activation> gated() {
    const Product product = product_of(root_, true);
    if (product.factors.size() != 2) return std::nullopt;
    const std::vector<NodeId> spine = nodes_;
    for (std::size_t i = 0; i < 2; ++i) {
      const ValueId x = product.factors[i];
      const ValueId gate = product.factors[1 - i];
      nodes_ = spine;
      if (const std::optional<PointwiseOp> op = gate_of(gate, x, product.coefficient)) return Activation{*op, x};
    }
    return std::nullopt;
  }

  std::optional<PointwiseOp> gate_of(ValueId gate, ValueId x, double coefficient) {
    const std::vector<NodeId> spine = nodes_;
    const auto again = [&] {
      nodes_ = spine;
      return true;
    };
    if (near(coefficient, 1)) {
      const Node* sigmoid = take(gate, PointwiseOp::Sigmoid);
      if (sigmoid != nullptr && operand(*sigmoid, 0) == x) return PointwiseOp::Silu;
      const Node* tanh = again() ? take(gate, PointwiseOp::Tanh) : nullptr;
      const Node* softplus = tanh != nullptr ? take(operand(*tanh, 0), PointwiseOp::Softplus) : nullptr;
      if (softplus != nullptr && operand(*softplus, 0) == x) return PointwiseOp::Mish;
    }
    Activation hard;
    if (again() && is_hard_sigmoid(gate, coefficient, hard) && hard.x == x && near(hard.alpha, 1.0 / 6) &&
        near(hard.beta, 0.5)) {
      return PointwiseOp::HardSwish;
    }
    if (near(coefficient, 0.5) && again()) return gelu_gate(gate, x);
    return std::nullopt;
  }

  /// 1 + erf(x / sqrt 2), or 1 + tanh of a cubic polynomial that comes near it.
  std::optional<PointwiseOp> gelu_gate(ValueId gate, ValueId x) {
    ValueId curve = kNone;
    double one = 0;
    if (!with_constant(gate, PointwiseOp::Add, curve, one) || one != 1) return std::nullopt;
    if (const Node* erf = take(curve, PointwiseOp::Erf)) {
      if (is_scaled(operand(*erf, 0), std::sqrt(0.5), x)) return PointwiseOp::Gelu;
      return std::nullopt;
    }
    const Node* tanh = take(curve, PointwiseOp::Tanh);
    if (tanh != nullptr && is_gelu_polynomial(operand(*tanh, 0), x)) return PointwiseOp::GeluTanh;
    return std::nullopt;
  }

  /// sqrt(2 / pi) * (x + 0.044715 x^3), or with x taken out of the bracket.
  bool is_gelu_polynomial(ValueId id, ValueId x) {
    constexpr double kCubic = 0.044715;
    const double scale = std::sqrt(2 / 3.14159265358979323846);
    const Product product = product_of(id);
    if (!near(product.coefficient, scale)) return false;
    if (product.factors.size() == 1) {
      const Node* sum = take(product.factors[0], PointwiseOp::Add);
      if (sum == nullptr) return false;
      const unsigned linear = operand(*sum, 0) == x ? 0 : 1;
      return operand(*sum, linear) == x && is_scaled(operand(*sum, 1 - linear), kCubic, x, 3);
    }
    if (product.factors.size() != 2) return false;
    const ValueId bracket = product.factors[0] == x ? product.factors[1] : product.factors[0];
    ValueId square = kNone;
    double one = 0;
    const bool has_x = product.factors[0] == x || product.factors[1] == x;
    return has_x && with_constant(bracket, PointwiseOp::Add, square, one) && one == 1 &&
           is_scaled(square, kCubic, x, 2);
  }

  const Graph& graph_;
  ValueId root_;
  std::vector<NodeId> nodes_;
};

int sweep(Graph& graph) {
  int changes = 0;
  for (const NodeId id : graph.topological_order()) {
    if (!graph.node(id).alive || single_instruction(graph.node(id)) == nullptr) continue;
    const ValueId out = graph.node(id).outputs[0];
    Matcher matcher(graph, out);
    const std::optional<Activation> found = matcher.run();
    if (!found) continue;
    const NodeId fresh = add_pointwise(graph, found->op, DType::F32, {found->x}, found->alpha, found->beta,
                                       joined_provenance(graph, matcher.nodes()));
    take_place(graph, out, graph.node(fresh).outputs[0]);
    ++changes;
  }
  return changes;
}

}  // namespace

int fuse_activation_patterns(ir::Graph& graph) { return until_stable(graph, &sweep); }

}  // namespace edgert::passes
