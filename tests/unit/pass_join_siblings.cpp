// SPDX-License-Identifier: Apache-2.0
// join_siblings alone, on numbers.
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

using Op = PointwiseOp;

/// The product's columns [first, first + size) as heads of 4.
ValueId heads(Net& net, ValueId y) {
  const Dims dims = net.dims(y);
  return net.transpose(net.reshape(y, {dims[0], dims[1], dims[2] / 4, 4}), {0, 2, 1, 3});
}

ValueId with_epilogue(Net& net, ValueId x, std::int64_t columns, PointwiseOp activation) {
  cpu::MatMulAttributes a{};
  a.epilogue.activation = activation;
  return net.node(ops::kMatMul, {x, net.random({net.dims(x).back(), columns}), kNone, kNone}, a);
}

}  // namespace

TEST_CASE("join_siblings: queries, keys and values, with and without biases, of different widths") {
  Net net;
  const ValueId x = net.input({2, 5, 6});
  const ValueId q = heads(net, net.matmul(x, net.random({6, 8}), net.random({8})));
  const ValueId k = heads(net, net.matmul(x, net.random({6, 8})));
  const ValueId v = net.reshape(net.matmul(x, net.random({6, 16}), net.random({16})), {2, 2, 5, 8});
  net.output(net.matmul(net.matmul(q, net.transpose(k, {0, 1, 3, 2})), v));
  // The last reshape needs rows without gaps, which a part does not have, so the values stay alone.
  CHECK(net.check(&passes::join_siblings) == 1);
  CHECK(net.count(ops::kMatMul) == 4);
  CHECK(net.count(ops::kSlice) == 2);
}

TEST_CASE("join_siblings: three products become one") {
  Net net;
  const ValueId x = net.input({1, 5, 6});
  const ValueId q = heads(net, net.matmul(x, net.random({6, 8}), net.random({8})));
  const ValueId k = heads(net, net.matmul(x, net.random({6, 8}), net.random({8})));
  const ValueId v = heads(net, net.matmul(x, net.random({6, 8}), net.random({8})));
  net.output(net.matmul(net.matmul(q, net.transpose(k, {0, 1, 3, 2})), v));
  CHECK(net.check(&passes::join_siblings) == 2);
  CHECK(net.count(ops::kMatMul) == 3);
}

TEST_CASE("join_siblings: convolutions with the same window") {
  Net net;
  const ValueId x = net.input({2, 4, 5, 5});
  const ValueId boxes = net.conv(net.conv(x, 8, 3, 1, true), 3);
  const ValueId classes = net.conv(net.conv(x, 16, 3, 1), 2);
  const ValueId other = net.conv(net.conv(x, 8, 1), 2);  // of another window
  net.output(boxes);
  net.output(classes);
  net.output(other);
  CHECK(net.check(&passes::join_siblings) == 1);
  CHECK(net.count(ops::kConv) == 5);
}

TEST_CASE("join_siblings leaves what cannot be read in place, and what is finished otherwise") {
  SUBCASE("a graph output") {
    Net net;
    const ValueId x = net.input({3, 6});
    net.output(net.matmul(x, net.random({6, 8})));
    net.output(net.unary(Op::Exp, net.matmul(x, net.random({6, 8}))));
    CHECK(net.check(&passes::join_siblings) == 0);
  }
  SUBCASE("parts of a concatenation") {
    Net net;
    const ValueId x = net.input({1, 4, 3, 3});
    net.output(net.concat({net.conv(x, 8), net.conv(x, 8)}, 1));
    CHECK(net.check(&passes::join_siblings) == 0);
  }
  SUBCASE("other activations") {
    Net net;
    const ValueId x = net.input({3, 6});
    net.output(net.binary(Op::Mul, with_epilogue(net, x, 8, Op::Silu), with_epilogue(net, x, 8, Op::Identity)));
    CHECK(net.check(&passes::join_siblings) == 0);
  }
  SUBCASE("widths that kernels cannot load eight at a time") {
    Net net;
    const ValueId x = net.input({3, 6});
    net.output(net.binary(Op::Mul, net.matmul(x, net.random({6, 12})), net.matmul(x, net.random({6, 12}))));
    CHECK(net.check(&passes::join_siblings) == 0);
  }
}
