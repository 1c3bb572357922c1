// SPDX-License-Identifier: Apache-2.0
// eliminate_transposes, alone on numbers.
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

TEST_CASE("a transpose and its inverse cancel") {
  Net net;
  const ValueId x = net.input({2, 3, 4});
  net.output(net.unary(PointwiseOp::Exp, net.transpose(net.transpose(x, {1, 2, 0}), {2, 0, 1})));
  CHECK(net.check(&passes::eliminate_transposes) == 1);
  CHECK(net.nodes() == 1);
}

TEST_CASE("chains of transposes become one") {
  Net net;
  const ValueId x = net.input({2, 3, 4, 5});
  net.output(net.transpose(net.transpose(net.transpose(x, {0, 2, 3, 1}), {1, 0, 2, 3}), {3, 2, 1, 0}));
  CHECK(net.check(&passes::eliminate_transposes) == 2);
  CHECK(net.count(ops::kTranspose) == 1);
}

TEST_CASE("a transpose that only moves extents of 1 is a reshape") {
  Net net;
  const ValueId x = net.input({1, 6, 1, 2});
  net.output(net.transpose(x, {2, 1, 3, 0}));
  CHECK(net.check(&passes::eliminate_transposes) == 1);
  CHECK(net.count(ops::kReshape) == 1);
  CHECK(net.count(ops::kTranspose) == 0);
}

TEST_CASE("inverse transposes cancel across pointwise nodes with per-channel constants") {
  Net net;
  const ValueId x = net.input({2, 3, 4, 5});
  ValueId y = net.transpose(x, {0, 2, 3, 1});
  y = net.binary(PointwiseOp::Mul, y, net.channels(3, 3, 4));
  y = net.binary(PointwiseOp::Add, y, net.random({3}));
  y = net.binary(PointwiseOp::Max, y, 0.5f);
  y = net.binary(PointwiseOp::Sub, y, net.random({2, 4, 5, 3}));
  net.output(net.unary(PointwiseOp::Exp, net.transpose(y, {0, 3, 1, 2})));
  CHECK(net.check(&passes::eliminate_transposes) > 0);
  CHECK(net.count(ops::kTranspose) == 0);
  CHECK(net.count(ops::kPointwise) == 5);
}

TEST_CASE("two branches under one permutation meet above it") {
  Net net;
  const ValueId a = net.transpose(net.input({2, 3, 4}), {2, 0, 1});
  const ValueId b = net.transpose(net.input({2, 3, 4}), {2, 0, 1});
  net.output(net.unary(PointwiseOp::Exp, net.transpose(net.binary(PointwiseOp::Add, a, b), {1, 2, 0})));
  net.check(&passes::eliminate_transposes);
  CHECK(net.count(ops::kTranspose) == 0);
}

TEST_CASE("operands of different orders keep their transposes") {
  Net net;
  const ValueId a = net.transpose(net.input({4, 4}), {1, 0});
  const ValueId b = net.input({4, 4});
  net.output(net.unary(PointwiseOp::Exp, net.binary(PointwiseOp::Add, a, b)));
  CHECK(net.check(&passes::eliminate_transposes) == 0);
}

TEST_CASE("a pointwise graph output stays one") {
  Net net;
  net.output(net.unary(PointwiseOp::Exp, net.transpose(net.input({3, 4}), {1, 0})));
  CHECK(net.check(&passes::eliminate_transposes) == 0);
}

TEST_CASE("reshapes that drop an extent of 1 sink too, with what broadcasts beside them") {
  Net net;
  const ValueId x = net.input({2, 3, 1, 5});
  ValueId y = net.reshape(x, {2, 3, 5});
  y = net.binary(PointwiseOp::Mul, y, net.channels(3, 1, 3));
  y = net.binary(PointwiseOp::Add, y, net.random({5}));
  y = net.unary(PointwiseOp::Relu, y);
  net.output(net.reshape(y, {2, 15}));
  CHECK(net.check(&passes::eliminate_transposes) == 3);
  const ir::Node& last = *net.graph.producer(net.maker_of_output().inputs[0]);
  CHECK(last.op == &ops::kReshape);
  CHECK(net.dims(last.inputs[0]) == Dims{2, 3, 1, 5});
}

TEST_CASE("reshapes that regroup elements sink past scalars only") {
  Net net;
  ValueId y = net.reshape(net.input({4, 6}), {3, 8});
  y = net.unary(PointwiseOp::Relu, net.binary(PointwiseOp::Mul, y, 2.0f));
  y = net.binary(PointwiseOp::Add, y, net.random({8}));
  net.output(net.reshape(y, {24}));
  CHECK(net.check(&passes::eliminate_transposes) == 2);
  const ir::Node& sum = *net.graph.producer(net.maker_of_output().inputs[0]);
  CHECK(sum.op == &ops::kPointwise);
  CHECK(net.graph.producer(sum.inputs[0])->op == &ops::kReshape);
}

TEST_CASE("a reshape that regroups elements for two readers stays, since it may be a copy") {
  Net net;
  const ValueId x = net.reshape(net.input({4, 6}), {3, 8});
  const ValueId sum = net.binary(PointwiseOp::Add, net.unary(PointwiseOp::Relu, x), net.unary(PointwiseOp::Exp, x));
  net.output(net.reshape(sum, {24}));
  CHECK(net.check(&passes::eliminate_transposes) == 0);
}

TEST_CASE("a scale behind the reshapes of attention reaches the projection") {
  Net net;
  const ValueId q = net.matmul(net.input({1, 6, 8}), net.random({8, 8}));
  const ValueId heads = net.transpose(net.reshape(q, {1, 6, 2, 4}), {0, 2, 1, 3});
  const ValueId scaled = net.binary(PointwiseOp::Mul, heads, 0.5f);
  net.output(net.matmul(scaled, net.input({1, 2, 4, 6})));
  CHECK(net.check(&passes::eliminate_transposes) == 2);
  REQUIRE(net.graph.users(q).size() == 1);
  CHECK(net.graph.node(net.graph.users(q)[0]).op == &ops::kPointwise);
}

TEST_CASE("operands under different permutations keep them") {
  Net net;
  const ValueId a = net.transpose(net.input({3, 3, 3}), {1, 2, 0});
  const ValueId b = net.transpose(net.input({3, 3, 3}), {2, 0, 1});
  net.output(net.unary(PointwiseOp::Exp, net.transpose(net.binary(PointwiseOp::Sub, a, b), {1, 2, 0})));
  CHECK(net.check(&passes::eliminate_transposes) == 0);
}

TEST_CASE("what is added to an image of one row is lifted above the reshape") {
  Net net;
  const ValueId x = net.reshape(net.input({2, 3, 1, 5}), {2, 3, 5});
  const ValueId sum = net.binary(PointwiseOp::Add, x, net.unary(PointwiseOp::Exp, net.input({2, 3, 5})));
  net.output(net.reshape(sum, {2, 15}));
  CHECK(net.check(&passes::eliminate_transposes) == 1);
  const ir::Node& last = *net.graph.producer(net.maker_of_output().inputs[0]);
  CHECK(last.op == &ops::kReshape);
  CHECK(net.graph.producer(last.inputs[0])->op == &ops::kPointwise);
}
