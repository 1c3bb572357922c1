// SPDX-License-Identifier: Apache-2.0
// fuse_pointwise, alone on numbers.
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

using Op = PointwiseOp;

const scalar::PointwiseProgram& program(const ir::Node& node) { return node.as<scalar::PointwiseProgram>(); }

}  // namespace

TEST_CASE("a chain becomes one program with its constants as operands") {
  Net net;
  const ValueId x = net.input({2, 3});
  ValueId y = net.binary(Op::Mul, x, 2.0f);
  y = net.unary(Op::LeakyRelu, y, 0.1f);
  y = net.binary(Op::Sub, net.random({3}), y);
  net.output(net.unary(Op::Tanh, y));
  CHECK(net.check(&passes::fuse_pointwise) == 3);
  CHECK(net.count(ops::kPointwise) == 1);
  CHECK(program(net.maker_of_output()).steps == 4);
  CHECK(program(net.maker_of_output()).inputs == 3);
  CHECK(net.maker_of_output().provenance.size() == 4);
}

TEST_CASE("a value read along three ways into one program is computed once, inside of it") {
  Net net;
  const ValueId x = net.unary(Op::Exp, net.input({5}));
  const ValueId a = net.unary(Op::Tanh, x);
  const ValueId b = net.unary(Op::Sqrt, x);
  net.output(net.binary(Op::Mul, net.binary(Op::Add, a, b), x));
  CHECK(net.check(&passes::fuse_pointwise) == 4);
  CHECK(net.nodes() == 1);
  CHECK(program(net.maker_of_output()).steps == 5);
  CHECK(program(net.maker_of_output()).inputs == 1);
}

TEST_CASE("operands in common are one input") {
  Net net;
  const ValueId x = net.input({5});
  const ValueId y = net.input({5});
  net.output(net.binary(Op::Mul, net.binary(Op::Add, x, y), net.binary(Op::Sub, x, y)));
  CHECK(net.check(&passes::fuse_pointwise) == 2);
  CHECK(program(net.maker_of_output()).inputs == 2);
}

TEST_CASE("a value with readers outside is stored") {
  Net net;
  const ValueId x = net.unary(Op::Exp, net.input({5}));
  net.output(net.unary(Op::Tanh, x));
  net.output(net.unary(Op::Sqrt, x));
  CHECK(net.check(&passes::fuse_pointwise) == 0);

  Net output;
  const ValueId y = output.unary(Op::Exp, output.input({5}));
  output.output(y);
  output.output(output.unary(Op::Tanh, y));
  CHECK(output.check(&passes::fuse_pointwise) == 0);
}

TEST_CASE("a smaller tensor behind a broadcast is computed once") {
  Net net;
  const ValueId gate = net.unary(Op::Sigmoid, net.input({2, 1}));
  net.output(net.binary(Op::Mul, net.input({2, 3}), gate));
  CHECK(net.check(&passes::fuse_pointwise) == 0);
}

TEST_CASE("conditions and selections of several types") {
  Net net;
  const ValueId x = net.input({8});
  const ValueId y = net.input({8});
  const ValueId less = net.binary(Op::Less, x, y);
  const ValueId keep = net.pointwise(Op::Where, {less, net.unary(Op::Exp, x), y}, 0, 0);
  net.output(net.unary(Op::Neg, keep));
  CHECK(net.check(&passes::fuse_pointwise) == 3);
  CHECK(net.nodes() == 1);
}

TEST_CASE("programs end where the format does") {
  Net net;
  ValueId y = net.input({5});
  for (int i = 0; i < 60; ++i) y = net.unary(i % 2 == 0 ? Op::Tanh : Op::Exp, y);
  net.output(y);
  net.check(&passes::fuse_pointwise);
  CHECK(net.count(ops::kPointwise) == 3);

  Net wide;
  ValueId sum = wide.input({5});
  for (int i = 0; i < 30; ++i) sum = wide.binary(Op::Add, sum, wide.input({5}));
  wide.output(sum);
  wide.check(&passes::fuse_pointwise);
  CHECK(wide.count(ops::kPointwise) == 3);
}
