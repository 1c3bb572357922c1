// SPDX-License-Identifier: Apache-2.0
// Constant folding, dead code, common subexpressions and identities, each alone on numbers.
#include <limits>

#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

TEST_CASE("fold_constants computes what does not depend on an input") {
  Net net;
  const ValueId x = net.input({2, 3});
  const ValueId sum = net.binary(PointwiseOp::Add, net.random({2, 3}), net.random({2, 3}));
  const ValueId turned = net.transpose(net.reshape(sum, {3, 2}), {1, 0});
  net.output(net.binary(PointwiseOp::Mul, x, turned));
  CHECK(net.check(&passes::fold_constants) == 3);
  CHECK(net.nodes() == 1);
}

TEST_CASE("fold_constants keeps a repeated constant small") {
  Net net;
  const ValueId x = net.input({1, 4, 3, 3});
  net.output(net.binary(PointwiseOp::Mul, x, net.channels(4, 1, 4)));
  CHECK(net.check(&passes::fold_constants) == 0);
  CHECK(net.count(ops::kExpand) == 1);
}

TEST_CASE("fold_constants does not blow a view up, but computes through it") {
  Net net;
  const ValueId x = net.input({1, 1});
  const ValueId large = net.expand(net.random({1, 300}), {300, 300});
  net.output(net.binary(PointwiseOp::Add, x, net.transpose(large, {1, 0})));
  const ValueId mean = net.mean(net.binary(PointwiseOp::Mul, large, 2.0f), 3);
  net.output(net.binary(PointwiseOp::Add, x, mean));
  CHECK(net.check(&passes::fold_constants) == 2);
  CHECK(net.count(ops::kReduce) == 0);
  CHECK(net.count(ops::kTranspose) == 1);
  for (ir::ValueId id = 0; id < net.graph.value_count(); ++id) {
    if (!net.graph.users(id).empty()) CHECK(net.graph.value(id).constant.size() <= 300 * 300 * 4);
  }
}

TEST_CASE("fold_constants makes weights of a convolution whatever they are computed from") {
  Net net;
  const ValueId x = net.input({1, 2, 4, 4});
  cpu::ConvAttributes a{};
  for (std::size_t i = 0; i < 2; ++i) a.kernel[i] = a.stride[i] = a.dilation[i] = 1;
  a.groups = 1;
  const ValueId w = net.expand(net.constant(0.5f), {200, 2, 1, 1});
  net.output(net.node(ops::kConv, {x, w, kNone, kNone}, a));
  CHECK(net.check(&passes::fold_constants) == 1);
  CHECK(net.graph.value(net.maker_of_output().inputs[1]).is_constant());
}

TEST_CASE("fold_constants leaves what depends on an input") {
  Net net;
  net.output(net.unary(PointwiseOp::Relu, net.input({4})));
  CHECK(net.check(&passes::fold_constants) == 0);
}

TEST_CASE("eliminate_dead erases chains that nobody reads") {
  Net net;
  const ValueId x = net.input({4});
  net.unary(PointwiseOp::Exp, net.unary(PointwiseOp::Relu, x));
  net.output(net.unary(PointwiseOp::Tanh, x));
  CHECK(net.check(&passes::eliminate_dead) == 2);
  CHECK(net.nodes() == 1);
}

TEST_CASE("eliminate_common merges equal nodes, and equal operands of commutative ones in either order") {
  Net net;
  const ValueId x = net.input({4});
  const ValueId y = net.input({4});
  const ValueId a = net.unary(PointwiseOp::Exp, net.binary(PointwiseOp::Add, x, y));
  const ValueId b = net.unary(PointwiseOp::Exp, net.binary(PointwiseOp::Add, y, x));
  net.output(net.binary(PointwiseOp::Mul, a, b));
  net.output(net.binary(PointwiseOp::Sub, x, y));
  net.output(net.binary(PointwiseOp::Sub, y, x));
  CHECK(net.check(&passes::eliminate_common) == 2);
  CHECK(net.nodes() == 5);
  // Both names stay on record.
  const ir::Node& exp = *net.graph.producer(net.maker_of_output().inputs[0]);
  CHECK(exp.provenance == std::vector<std::string>{"n1", "n3"});
}

TEST_CASE("eliminate_common merges equal constants but not equal bytes of other shapes") {
  Net net;
  const ValueId x = net.input({2, 2});
  const ValueId a = net.binary(PointwiseOp::Add, x, net.constant({2, 2}, {1, 2, 3, 4}));
  const ValueId b = net.binary(PointwiseOp::Mul, a, net.constant({2, 2}, {1, 2, 3, 4}));
  net.output(net.matmul(b, net.reshape(net.constant({4}, {1, 2, 3, 4}), {2, 2})));
  CHECK(net.check(&passes::eliminate_common) == 1);
}

TEST_CASE("eliminate_common keeps what differs in an attribute") {
  Net net;
  const ValueId x = net.input({4});
  net.output(net.unary(PointwiseOp::LeakyRelu, x, 0.1f));
  net.output(net.unary(PointwiseOp::LeakyRelu, x, 0.2f));
  CHECK(net.check(&passes::eliminate_common) == 0);
}

TEST_CASE("remove_identity drops neutral operands") {
  Net net;
  const ValueId x = net.input({2, 3});
  ValueId y = net.binary(PointwiseOp::Add, net.expand(net.constant(0.0f), {2, 3}), x);
  y = net.binary(PointwiseOp::Mul, y, net.constant({3}, {1, 1, 1}));
  y = net.binary(PointwiseOp::Sub, y, 0.0f);
  y = net.binary(PointwiseOp::Div, y, 1.0f);
  y = net.binary(PointwiseOp::Pow, y, 1.0f);
  y = net.unary(PointwiseOp::Neg, net.unary(PointwiseOp::Neg, y));
  y = net.unary(PointwiseOp::Clip, y, -std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity());
  y = net.unary(PointwiseOp::Identity, y);
  net.output(net.unary(PointwiseOp::Exp, y));
  CHECK(net.check(&passes::remove_identity) == 8);
  CHECK(net.nodes() == 1);
}

TEST_CASE("remove_identity keeps operands that are not neutral") {
  Net net;
  const ValueId x = net.input({2, 3});
  net.output(net.binary(PointwiseOp::Mul, x, net.constant({3}, {1, 1, 2})));
  net.output(net.binary(PointwiseOp::Sub, net.constant({2, 3}, {0, 0, 0, 0, 0, 0}), x));
  net.output(net.binary(PointwiseOp::Div, net.constant({2, 3}, {1, 1, 1, 1, 1, 1}), x));
  CHECK(net.check(&passes::remove_identity) == 0);
}

TEST_CASE("remove_identity merges nested views") {
  Net net;
  const ValueId x = net.input({4, 6});
  net.output(net.reshape(net.reshape(net.reshape(x, {24}), {2, 12}), {3, 8}));
  const ValueId once = net.slice(x, {1, 0}, {1, 2}, {3, 3});
  net.output(net.slice(once, {1, 1}, {1, 1}, {2, 2}));
  net.output(net.expand(net.expand(net.slice(x, {0, 0}, {1, 1}, {1, 6}), {4, 6}), {2, 4, 6}));
  net.output(net.slice(net.reshape(net.reshape(x, {6, 4}), {4, 6}), {0, 0}, {1, 1}, {4, 6}));
  net.check(&passes::remove_identity);
  CHECK(net.count(ops::kReshape) == 1);
  CHECK(net.count(ops::kSlice) == 2);
  CHECK(net.count(ops::kExpand) == 1);
  CHECK(net.graph.outputs()[3].value == x);
}

TEST_CASE("remove_identity merges slices that leave nothing, whatever their steps") {
  Net net;
  const ValueId one = net.slice(net.input({4}), {3}, {INT64_MAX}, {1});
  net.output(net.slice(one, {1}, {1}, {0}));
  CHECK(net.check(&passes::remove_identity) == 1);
  CHECK(net.count(ops::kSlice) == 1);
}

TEST_CASE("remove_identity drops views, pads, pools and reductions that change nothing") {
  Net net;
  const ValueId x = net.input({1, 4, 1, 1});
  ValueId y = net.pad(x, {0, 0, 0, 0}, {0, 0, 0, 0});
  y = net.mean(y, 12);
  y = net.concat({y}, 1);
  y = net.transpose(y, {0, 1, 2, 3});
  cpu::PoolAttributes pool{};
  for (std::size_t i = 0; i < 2; ++i) pool.kernel[i] = pool.stride[i] = pool.dilation[i] = 1;
  y = net.node(ops::kPool, {y}, pool);
  net.output(net.unary(PointwiseOp::Exp, y));
  CHECK(net.check(&passes::remove_identity) == 5);
  CHECK(net.nodes() == 1);
}

TEST_CASE("remove_identity undoes a cast only when nothing was lost on the way") {
  Net net;
  const ValueId x = net.input({4});
  net.output(net.cast(net.cast(x, DType::F64), DType::F32));
  net.output(net.cast(net.cast(x, DType::I32), DType::F32));
  CHECK(net.check(&passes::remove_identity) == 1);
  CHECK(net.count(ops::kCast) == 2);
  CHECK(net.graph.outputs()[0].value == x);
}

TEST_CASE("remove_identity takes the branch that a constant condition names") {
  Net net;
  const ValueId x = net.input({2});
  const ValueId y = net.input({2});
  const std::uint8_t truth[] = {1, 1};
  const ValueId yes = net.graph.add_constant("c", {DType::Bool, {2}}, ir::Bytes::copy(truth, 2));
  net.output(net.unary(PointwiseOp::Exp, net.pointwise(PointwiseOp::Where, {yes, x, y}, 0, 0)));
  CHECK(net.check(&passes::remove_identity) == 1);
  CHECK(net.maker_of_output().inputs[0] == x);
}
