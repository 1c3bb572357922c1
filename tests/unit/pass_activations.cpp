// SPDX-License-Identifier: Apache-2.0
// fuse_activation_patterns on the orders in which exporters write activations, and on what only looks like one.
#include <functional>
#include <limits>

#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

using Op = PointwiseOp;
using Formula = std::function<ValueId(Net&, ValueId)>;

/// The formula must become the one operation `expected`.
void becomes(Op expected, const Formula& formula) {
  Net net;
  const ValueId x = net.input({3, 40});
  net.output(formula(net, x));
  const auto provenance = static_cast<std::size_t>(net.count(ops::kPointwise));
  CHECK(net.check(&passes::fuse_activation_patterns) >= 1);
  REQUIRE(net.count(ops::kPointwise) == 1);
  CHECK(net.operation() == expected);
  CHECK(net.maker_of_output().inputs[0] == x);
  CHECK(net.maker_of_output().provenance.size() == provenance);
}

/// Nothing may happen.
void stays(const Formula& formula) {
  Net net;
  net.output(formula(net, net.input({3, 40})));
  CHECK(net.check(&passes::fuse_activation_patterns) == 0);
}

ValueId erf_gate(Net& net, ValueId x, bool divide = true) {
  const ValueId scaled = divide ? net.binary(Op::Div, x, 1.41421356f) : net.binary(Op::Mul, x, 0.70710678f);
  return net.binary(Op::Add, net.unary(Op::Erf, scaled), 1.0f);
}

/// sqrt(2 / pi) * (x + 0.044715 * cube)
ValueId tanh_gate(Net& net, ValueId x, ValueId cube) {
  const ValueId sum = net.binary(Op::Add, x, net.binary(Op::Mul, cube, 0.044715f));
  return net.binary(Op::Add, net.unary(Op::Tanh, net.binary(Op::Mul, sum, 0.7978845608f)), 1.0f);
}

}  // namespace

TEST_CASE("GELU with erf in three orders of multiplication") {
  becomes(Op::Gelu, [](Net& n, ValueId x) { return n.binary(Op::Mul, n.binary(Op::Mul, x, 0.5f), erf_gate(n, x)); });
  becomes(Op::Gelu,
          [](Net& n, ValueId x) { return n.binary(Op::Mul, x, n.binary(Op::Mul, erf_gate(n, x, false), 0.5f)); });
  becomes(Op::Gelu, [](Net& n, ValueId x) { return n.binary(Op::Mul, n.binary(Op::Mul, x, erf_gate(n, x)), 0.5f); });
  becomes(Op::Gelu, [](Net& n, ValueId x) { return n.binary(Op::Mul, n.binary(Op::Div, x, 2.0f), erf_gate(n, x)); });
}

TEST_CASE("GELU of a product that is itself read twice") {
  Net net;
  const ValueId x = net.binary(Op::Mul, net.input({8}), net.input({8}));
  net.output(net.binary(Op::Mul, net.binary(Op::Mul, x, 0.5f), erf_gate(net, x)));
  CHECK(net.check(&passes::fuse_activation_patterns) == 1);
  CHECK(net.operation() == Op::Gelu);
  CHECK(net.maker_of_output().inputs[0] == x);
}

TEST_CASE("what only resembles GELU stays") {
  stays([](Net& n, ValueId x) { return n.binary(Op::Mul, n.binary(Op::Mul, x, 0.6f), erf_gate(n, x)); });
  stays([](Net& n, ValueId x) {
    const ValueId gate = n.binary(Op::Add, n.unary(Op::Erf, n.binary(Op::Mul, x, 0.5f)), 1.0f);
    return n.binary(Op::Mul, n.binary(Op::Mul, x, 0.5f), gate);
  });
  stays([](Net& n, ValueId x) {
    const ValueId gate = erf_gate(n, n.unary(Op::Exp, x));
    return n.binary(Op::Mul, n.binary(Op::Mul, x, 0.5f), gate);
  });
}

TEST_CASE("GELU with tanh, its cube as a power and as a product") {
  becomes(Op::GeluTanh, [](Net& n, ValueId x) {
    return n.binary(Op::Mul, n.binary(Op::Mul, x, 0.5f), tanh_gate(n, x, n.binary(Op::Pow, x, 3.0f)));
  });
  becomes(Op::GeluTanh, [](Net& n, ValueId x) {
    const ValueId cube = n.binary(Op::Mul, n.binary(Op::Mul, x, x), x);
    return n.binary(Op::Mul, n.binary(Op::Mul, x, tanh_gate(n, x, cube)), 0.5f);
  });
  becomes(Op::GeluTanh, [](Net& n, ValueId x) {
    // 0.5 x (1 + tanh(0.79788 x (1 + 0.044715 x x)))
    const ValueId bracket = n.binary(Op::Add, n.binary(Op::Mul, n.binary(Op::Mul, x, 0.044715f), x), 1.0f);
    const ValueId tanh = n.unary(Op::Tanh, n.binary(Op::Mul, n.binary(Op::Mul, x, 0.7978845608f), bracket));
    return n.binary(Op::Mul, n.binary(Op::Mul, x, 0.5f), n.binary(Op::Add, tanh, 1.0f));
  });
}

TEST_CASE("SiLU, sigmoid, softplus and Mish") {
  const auto sigmoid_divisor = [](Net& n, ValueId x) {
    return n.binary(Op::Add, n.unary(Op::Exp, n.unary(Op::Neg, x)), 1.0f);
  };
  becomes(Op::Silu, [](Net& n, ValueId x) { return n.binary(Op::Mul, n.unary(Op::Sigmoid, x), x); });
  becomes(Op::Silu, [&](Net& n, ValueId x) { return n.binary(Op::Div, x, sigmoid_divisor(n, x)); });
  becomes(Op::Sigmoid, [&](Net& n, ValueId x) { return n.unary(Op::Reciprocal, sigmoid_divisor(n, x)); });
  becomes(Op::Sigmoid, [&](Net& n, ValueId x) {
    const ValueId divisor = sigmoid_divisor(n, x);
    return n.binary(Op::Div, n.expand(n.constant(1.0f), {3, 40}), divisor);
  });
  becomes(Op::Softplus,
          [](Net& n, ValueId x) { return n.unary(Op::Log, n.binary(Op::Add, n.unary(Op::Exp, x), 1.0f)); });
  becomes(Op::Mish,
          [](Net& n, ValueId x) { return n.binary(Op::Mul, x, n.unary(Op::Tanh, n.unary(Op::Softplus, x))); });
  stays([](Net& n, ValueId x) { return n.binary(Op::Mul, n.unary(Op::Sigmoid, x), n.unary(Op::Exp, x)); });
}

TEST_CASE("a gate that is read elsewhere, or is a graph output, stays") {
  Net net;
  const ValueId x = net.input({8});
  const ValueId gate = net.unary(Op::Sigmoid, x);
  net.output(net.binary(Op::Mul, x, gate));
  net.output(net.unary(Op::Exp, gate));
  CHECK(net.check(&passes::fuse_activation_patterns) == 0);

  Net other;
  const ValueId y = other.input({8});
  const ValueId seen = other.unary(Op::Sigmoid, y);
  other.output(other.binary(Op::Mul, y, seen));
  other.output(seen);
  CHECK(other.check(&passes::fuse_activation_patterns) == 0);
}

TEST_CASE("HardSigmoid and HardSwish from clamps") {
  const auto relu6_of_shifted = [](Net& n, ValueId x) { return n.unary(Op::Clip, n.binary(Op::Add, x, 3.0f), 0, 6); };
  becomes(Op::HardSigmoid, [&](Net& n, ValueId x) { return n.binary(Op::Div, relu6_of_shifted(n, x), 6.0f); });
  becomes(Op::HardSigmoid, [&](Net& n, ValueId x) { return n.binary(Op::Mul, relu6_of_shifted(n, x), 1.0f / 6); });
  becomes(Op::HardSigmoid, [](Net& n, ValueId x) {
    return n.unary(Op::Clip, n.binary(Op::Add, n.binary(Op::Mul, x, 0.2f), 0.5f), 0, 1);
  });
  becomes(Op::HardSwish,
          [&](Net& n, ValueId x) { return n.binary(Op::Mul, x, n.binary(Op::Div, relu6_of_shifted(n, x), 6.0f)); });
  becomes(Op::HardSwish,
          [&](Net& n, ValueId x) { return n.binary(Op::Div, n.binary(Op::Mul, x, relu6_of_shifted(n, x)), 6.0f); });
  becomes(Op::HardSwish,
          [&](Net& n, ValueId x) { return n.binary(Op::Mul, n.binary(Op::Div, x, 6.0f), relu6_of_shifted(n, x)); });
  becomes(Op::HardSwish,
          [](Net& n, ValueId x) { return n.binary(Op::Mul, x, n.unary(Op::HardSigmoid, x, 1.0f / 6, 0.5f)); });
  stays([](Net& n, ValueId x) { return n.binary(Op::Mul, x, n.unary(Op::HardSigmoid, x, 0.2f, 0.5f)); });
  stays([&](Net& n, ValueId x) { return n.binary(Op::Mul, x, relu6_of_shifted(n, x)); });
}

TEST_CASE("Max and Min with constants are clamps, nested ones are one") {
  becomes(Op::Relu, [](Net& n, ValueId x) { return n.binary(Op::Max, x, 0.0f); });
  becomes(Op::Clip, [](Net& n, ValueId x) { return n.binary(Op::Min, x, 1.0f); });
  becomes(Op::Clip, [](Net& n, ValueId x) { return n.binary(Op::Min, n.binary(Op::Max, x, 0.0f), 1.0f); });
  becomes(Op::Clip, [](Net& n, ValueId x) { return n.binary(Op::Max, n.binary(Op::Min, x, 1.5f), -0.5f); });
  becomes(Op::Clip, [](Net& n, ValueId x) { return n.binary(Op::Max, n.binary(Op::Min, x, -0.5f), 0.5f); });
  becomes(Op::Clip, [](Net& n, ValueId x) { return n.binary(Op::Min, n.unary(Op::Relu, x), 6.0f); });
  becomes(Op::Relu, [](Net& n, ValueId x) { return n.unary(Op::Relu, n.unary(Op::Relu, x)); });
  becomes(Op::Clip, [](Net& n, ValueId x) { return n.unary(Op::Relu, n.unary(Op::Clip, x, -1, 1)); });
  stays([](Net& n, ValueId x) { return n.unary(Op::Relu, x); });
  stays([](Net& n, ValueId x) { return n.unary(Op::Clip, x, 0, 6); });
  stays([](Net& n, ValueId x) { return n.binary(Op::Max, x, n.random({3, 40})); });
}

TEST_CASE("a clamp that is read elsewhere is not merged away") {
  Net net;
  const ValueId x = net.unary(Op::Relu, net.input({8}));
  net.output(net.unary(Op::Clip, x, -1, 1));
  net.output(net.unary(Op::Exp, x));
  CHECK(net.check(&passes::fuse_activation_patterns) == 0);
}

TEST_CASE("long chains of products are left alone in reasonable time") {
  Net net;
  ValueId y = net.input({1});
  for (int i = 0; i < 3000; ++i) y = net.binary(Op::Mul, y, i % 2 == 0 ? 0.5f : 2.0f);
  net.output(y);
  CHECK(net.check(&passes::fuse_activation_patterns) == 0);
}
