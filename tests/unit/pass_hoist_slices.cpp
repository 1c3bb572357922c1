// SPDX-License-Identifier: Apache-2.0
// hoist_slices alone, on numbers.
#include "edgert/cpu/ops/normalize.h"
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

using Op = PointwiseOp;

ValueId normalize(Net& net, ValueId x, std::uint32_t axes) {
  cpu::NormalizeAttributes a{};
  a.axes = axes;
  a.epsilon = 1e-3f;
  const Dims dims = net.dims(x);
  return net.node(ops::kNormalize, {x, net.expand(net.random({dims.back()}), dims), kNone}, a);
}

ValueId row(Net& net, ValueId x, std::int64_t i) {
  return net.slice(x, {0, i, 0}, {1, 1, 1}, {1, 1, net.dims(x)[2]});
}

/// Elements of the products' results.
std::int64_t product_elements(const Net& net) {
  std::int64_t total = 0;
  for (ir::NodeId id = 0; id < net.graph.node_count(); ++id) {
    const ir::Node& node = net.graph.node(id);
    if (node.alive && node.op == &ops::kMatMul) total += ir::element_count(net.dims(node.outputs[0]));
  }
  return total;
}

}  // namespace

TEST_CASE("hoist_slices: one row of the last block of a transformer") {
  Net net;
  const ValueId x = net.input({1, 6, 8});
  const ValueId stream = normalize(net, x, 4);
  ValueId y = net.reshape(net.matmul(net.reshape(net.unary(Op::Gelu, net.matmul(stream, net.random({8, 16}))), {6, 16}), net.random({16, 8})), {1, 6, 8});
  y = normalize(net, net.binary(Op::Add, y, stream), 4);
  net.output(net.matmul(net.reshape(row(net, y, 5), {1, 8}), net.random({8, 3})));
  CHECK(net.check(&passes::hoist_slices) > 0);
  // All that is read of the input is one row.
  CHECK(product_elements(net) == 16 + 8 + 3);
  REQUIRE(net.graph.users(x).size() == 1);
  CHECK(net.graph.node(net.graph.users(x)[0]).op == &ops::kSlice);
}

TEST_CASE("hoist_slices: batches and rows of products of two computed operands") {
  Net net;
  const ValueId a = net.unary(Op::Exp, net.input({4, 3, 5})), b = net.unary(Op::Tanh, net.input({4, 5, 2}));
  const ValueId y = net.unary(Op::Tanh, net.matmul(a, b));
  net.output(net.slice(y, {1, 0, 0}, {2, 2, 1}, {2, 2, 2}));
  CHECK(net.check(&passes::hoist_slices) > 0);
  CHECK(product_elements(net) == 2 * 2 * 2);
}

TEST_CASE("hoist_slices leaves what needs the whole, what others read, and parts that are most of it") {
  SUBCASE("statistics over the rows") {
    Net net;
    net.output(row(net, normalize(net, net.input({1, 6, 8}), 6), 2));
    CHECK(net.check(&passes::hoist_slices) == 0);
  }
  SUBCASE("two different parts") {
    Net net;
    const ValueId y = net.unary(Op::Exp, net.input({1, 6, 8}));
    net.output(row(net, y, 1));
    net.output(row(net, y, 2));
    CHECK(net.check(&passes::hoist_slices) == 0);
  }
  SUBCASE("parts of rows") {
    Net net;
    net.output(net.slice(net.unary(Op::Exp, net.input({2, 8})), {0, 0}, {1, 1}, {2, 2}));
    CHECK(net.check(&passes::hoist_slices) == 0);
  }
  SUBCASE("all but one row") {
    Net net;
    net.output(net.slice(net.unary(Op::Exp, net.input({1, 6, 8})), {0, 1, 0}, {1, 1, 1}, {1, 5, 8}));
    CHECK(net.check(&passes::hoist_slices) == 0);
  }
  SUBCASE("a reshape that regroups") {
    Net net;
    net.output(row(net, net.reshape(net.input({4, 12}), {1, 6, 8}), 2));
    CHECK(net.check(&passes::hoist_slices) == 0);
  }
}
