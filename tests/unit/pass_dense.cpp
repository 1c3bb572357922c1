// SPDX-License-Identifier: Apache-2.0
// What goes into convolutions and matrix products: fold_affine, fold_pad and fuse_epilogue, each alone on numbers.
#include <limits>

#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

using Op = PointwiseOp;

ValueId pool(Net& net, ValueId x, cpu::PoolKind kind, int pad, bool count_pad, bool ceil = false) {
  cpu::PoolAttributes a{};
  for (std::size_t i = 0; i < 2; ++i) {
    a.kernel[i] = 3;
    a.stride[i] = 2;
    a.dilation[i] = 1;
    a.pad_begin[i] = a.pad_end[i] = pad;
  }
  a.kind = kind;
  a.count_include_pad = count_pad ? 1 : 0;
  a.ceil_mode = ceil ? 1 : 0;
  return net.node(ops::kPool, {x}, a);
}

const scalar::Epilogue& epilogue(const ir::Node& node) {
  if (node.op == &ops::kConv) return node.as<cpu::ConvAttributes>().epilogue;
  if (node.op == &ops::kDepthwiseConv) return node.as<cpu::DepthwiseConvAttributes>().epilogue;
  return node.as<cpu::MatMulAttributes>().epilogue;
}

}  // namespace

TEST_CASE("fold_affine: batch normalization behind a convolution") {
  for (const bool bias : {false, true}) {
    Net net;
    ValueId y = net.conv(net.input({2, 3, 5, 5}), 4, 3, 1, bias);
    y = net.binary(Op::Mul, y, net.channels(4, 1, 4));
    net.output(net.binary(Op::Add, y, net.channels(4, 1, 4)));
    CHECK(net.check(&passes::fold_affine) == 2);
    CHECK(net.nodes() == 1);
    CHECK(net.maker_of_output().provenance.size() == 3);
  }
}

TEST_CASE("fold_affine: every form of scale and shift, depthwise too") {
  Net net;
  ValueId y = net.depthwise(net.input({1, 4, 5, 5}), 3);
  y = net.binary(Op::Div, y, net.channels(4, 1, 4));
  y = net.binary(Op::Sub, y, net.channels(4, 1, 4));
  y = net.binary(Op::Sub, net.channels(4, 1, 4), y);
  y = net.binary(Op::Mul, y, 0.25f);
  net.output(net.binary(Op::Add, y, 3.0f));
  CHECK(net.check(&passes::fold_affine) == 5);
  CHECK(net.nodes() == 1);
}

TEST_CASE("fold_affine: matrix products, along their columns") {
  Net net;
  ValueId y = net.matmul(net.input({2, 3, 5}), net.random({5, 4}), net.random({4}));
  y = net.binary(Op::Mul, y, net.random({4}));
  net.output(net.binary(Op::Add, y, net.random({1, 1, 4})));
  CHECK(net.check(&passes::fold_affine) == 2);
  CHECK(net.nodes() == 1);
}

TEST_CASE("fold_affine: only a bias goes into a product of two computed matrices") {
  Net net;
  ValueId y = net.matmul(net.input({3, 5}), net.input({5, 4}));
  y = net.binary(Op::Add, y, net.random({4}));
  net.output(net.binary(Op::Mul, y, net.random({4})));
  CHECK(net.check(&passes::fold_affine) == 1);
  CHECK(net.count(ops::kPointwise) == 1);
}

TEST_CASE("fold_affine leaves what is no affine per channel of the one reader") {
  const auto unchanged = [](auto build) {
    Net net;
    build(net, net.conv(net.input({1, 3, 4, 4}), 4));
    CHECK(net.check(&passes::fold_affine) == 0);
  };
  unchanged([](Net& n, ValueId y) { n.output(n.binary(Op::Mul, y, n.channels(4, 2, 4))); });
  unchanged([](Net& n, ValueId y) { n.output(n.binary(Op::Add, y, n.random({1, 4, 4, 4}))); });
  unchanged([](Net& n, ValueId y) { n.output(n.binary(Op::Add, y, n.input({1, 4, 4, 4}))); });
  unchanged([](Net& n, ValueId y) { n.output(n.binary(Op::Div, n.channels(4, 1, 4), y)); });
  unchanged([](Net& n, ValueId y) { n.output(n.binary(Op::Max, y, n.channels(4, 1, 4))); });
  unchanged([](Net& n, ValueId y) { n.output(n.binary(Op::Add, y, y)); });
  unchanged([](Net& n, ValueId y) { n.output(n.binary(Op::Div, y, 0.0f)); });
  unchanged([](Net& n, ValueId y) {
    n.output(n.binary(Op::Mul, y, 2.0f));
    n.output(y);
  });
  unchanged([](Net& n, ValueId y) {
    n.output(n.binary(Op::Mul, y, 2.0f));
    n.output(n.unary(Op::Exp, y));
  });
}

TEST_CASE("fold_affine does not change weights that another node reads") {
  Net net;
  const ValueId x = net.input({3, 5});
  const ValueId w = net.random({5, 4});
  net.output(net.binary(Op::Mul, net.matmul(x, w), 2.0f));
  net.output(net.matmul(x, w));
  CHECK(net.check(&passes::fold_affine) == 1);
}

TEST_CASE("fold_affine sees a constant that was written out in full") {
  Net net;
  const ValueId y = net.conv(net.input({1, 3, 2, 1}), 2);
  net.output(net.binary(Op::Mul, y, net.constant({1, 2, 2, 1}, {3, 3, 5, 5})));
  CHECK(net.check(&passes::fold_affine) == 1);
}

TEST_CASE("fold_pad: zeros before convolutions") {
  Net net;
  const ValueId x = net.input({1, 3, 5, 5});
  net.output(net.conv(net.pad(net.pad(x, {0, 0, 1, 0}, {0, 0, 2, 1}), {0, 0, 0, 1}, {0, 0, 0, 0}), 2, 3, 1));
  net.output(net.depthwise(net.pad(x, {0, 0, 2, 1}, {0, 0, 0, 3}), 3));
  CHECK(net.check(&passes::fold_pad) == 3);
  CHECK(net.nodes() == 2);
  CHECK(net.maker_of_output().as<cpu::ConvAttributes>().pad_end[0] == 3);
}

TEST_CASE("fold_pad: a pad that another node reads serves that one") {
  Net net;
  const ValueId padded = net.pad(net.input({1, 3, 5, 5}), {0, 0, 1, 1}, {0, 0, 1, 1});
  net.output(net.conv(padded, 2, 3));
  net.output(net.unary(Op::Exp, padded));
  CHECK(net.check(&passes::fold_pad) == 1);
  CHECK(net.count(ops::kPad) == 1);
}

TEST_CASE("fold_pad: averages that count the padding") {
  Net net;
  const ValueId x = net.input({1, 2, 6, 6});
  const Dims ones{0, 0, 1, 1};
  net.output(pool(net, net.pad(x, ones, ones), cpu::PoolKind::Average, 0, false));
  net.output(pool(net, net.pad(x, ones, ones), cpu::PoolKind::Average, 1, true));
  net.output(pool(net, net.pad(x, ones, ones, -std::numeric_limits<float>::infinity()), cpu::PoolKind::Max, 0, false));
  CHECK(net.check(&passes::fold_pad) == 3);
  CHECK(net.count(ops::kPad) == 0);
}

TEST_CASE("fold_pad leaves what would not be exact") {
  const auto unchanged = [](auto build) {
    Net net;
    build(net, net.input({1, 2, 6, 6}));
    CHECK(net.check(&passes::fold_pad) == 0);
  };
  const Dims ones{0, 0, 1, 1};
  unchanged([&](Net& n, ValueId x) { n.output(n.conv(n.pad(x, ones, ones, 0.5f), 2, 3)); });
  unchanged([&](Net& n, ValueId x) { n.output(n.conv(n.pad(x, {0, 1, 0, 0}, {0, 0, 0, 0}), 2, 3)); });
  unchanged([&](Net& n, ValueId x) { n.output(pool(n, n.pad(x, ones, ones), cpu::PoolKind::Average, 1, false)); });
  unchanged([&](Net& n, ValueId x) { n.output(pool(n, n.pad(x, ones, ones), cpu::PoolKind::Max, 0, false)); });
  unchanged([&](Net& n, ValueId x) { n.output(pool(n, n.pad(x, ones, ones), cpu::PoolKind::Average, 0, true, true)); });
  // Padding as wide as the window would make averages of nothing.
  unchanged([&](Net& n, ValueId x) {
    n.output(pool(n, n.pad(x, {0, 0, 3, 3}, {0, 0, 3, 3}), cpu::PoolKind::Average, 0, true));
  });
}

TEST_CASE("fuse_epilogue: an activation") {
  Net net;
  net.output(net.unary(Op::Clip, net.conv(net.input({1, 3, 4, 4}), 4), 0, 6));
  net.output(net.unary(Op::HardSwish, net.depthwise(net.input({1, 3, 4, 4}), 3)));
  net.output(net.unary(Op::Gelu, net.matmul(net.input({3, 5}), net.random({5, 4}))));
  CHECK(net.check(&passes::fuse_epilogue) == 3);
  CHECK(net.nodes() == 3);
  CHECK(epilogue(net.maker_of_output()).activation == Op::Clip);
  CHECK(epilogue(net.maker_of_output()).beta == 6);
}

TEST_CASE("fuse_epilogue: a residual before the activation") {
  Net net;
  const ValueId x = net.input({1, 4, 4, 4});
  net.output(net.unary(Op::Relu, net.binary(Op::Add, x, net.conv(x, 4, 3, 1))));
  CHECK(net.check(&passes::fuse_epilogue) == 2);
  CHECK(net.nodes() == 1);
  CHECK(epilogue(net.maker_of_output()).residual == scalar::ResidualMode::BeforeActivation);
}

TEST_CASE("fuse_epilogue: a residual after the activation, and nothing behind it") {
  Net net;
  const ValueId x = net.input({1, 4, 4, 4});
  const ValueId sum = net.binary(Op::Add, net.unary(Op::Relu, net.conv(x, 4, 3, 1)), x);
  net.output(net.unary(Op::Tanh, sum));
  CHECK(net.check(&passes::fuse_epilogue) == 2);
  CHECK(net.count(ops::kPointwise) == 1);
  CHECK(epilogue(*net.graph.producer(net.maker_of_output().inputs[0])).residual ==
        scalar::ResidualMode::AfterActivation);
}

TEST_CASE("fuse_epilogue: of two convolutions the later one takes the sum") {
  Net net;
  const ValueId x = net.input({1, 4, 4, 4});
  const ValueId first = net.conv(x, 4);
  const ValueId second = net.conv(x, 4, 3, 1);
  net.output(net.unary(Op::Relu, net.binary(Op::Add, first, second)));
  CHECK(net.check(&passes::fuse_epilogue) == 2);
  CHECK(net.nodes() == 2);
  CHECK(net.graph.outputs()[0].value == second);
  CHECK(net.maker_of_output().inputs[3] == first);
}

TEST_CASE("fuse_epilogue: chains of residual blocks keep their order") {
  Net net;
  ValueId x = net.input({1, 4, 3, 3});
  for (int i = 0; i < 5; ++i)
    x = net.unary(Op::Relu, net.binary(Op::Add, net.conv(net.unary(Op::Relu, net.conv(x, 4)), 4), x));
  net.output(x);
  CHECK(net.check(&passes::fuse_epilogue) == 15);
  CHECK(net.count(ops::kConv) == 10);
  CHECK(net.nodes() == 10);
}

TEST_CASE("fuse_epilogue: a sum behind a reshape that regroups the product's rows") {
  for (const bool rows : {true, false}) {
    Net net;
    const ValueId x = net.input({1, 6, 8});
    const ValueId y = net.matmul(net.reshape(x, {6, 8}), net.random({8, 8}));
    const Dims dims = rows ? Dims{1, 6, 8} : Dims{1, 12, 4};
    net.output(net.unary(Op::Exp, net.binary(Op::Add, net.input(dims), net.reshape(y, dims))));
    CHECK(net.check(&passes::fuse_epilogue) == (rows ? 1 : 0));
    CHECK(net.count(ops::kPointwise) == (rows ? 1 : 2));
  }
}

TEST_CASE("fuse_epilogue leaves what a kernel cannot finish") {
  const auto unchanged = [](auto build) {
    Net net;
    const ValueId x = net.input({1, 3, 4, 4});
    build(net, x, net.conv(x, 3));
    CHECK(net.check(&passes::fuse_epilogue) == 0);
  };
  unchanged([](Net& n, ValueId, ValueId y) {
    n.output(n.unary(Op::Relu, y));
    n.output(y);
  });
  unchanged([](Net& n, ValueId, ValueId y) {
    n.output(n.unary(Op::Relu, y));
    n.output(n.unary(Op::Exp, y));
  });
  unchanged([](Net& n, ValueId, ValueId y) { n.output(n.binary(Op::Add, y, y)); });
  unchanged([](Net& n, ValueId x, ValueId y) { n.output(n.binary(Op::Mul, y, x)); });
  unchanged([](Net& n, ValueId x, ValueId y) { n.output(n.binary(Op::Sub, y, x)); });
  unchanged([](Net& n, ValueId, ValueId y) { n.output(n.binary(Op::Add, y, n.random({1, 3, 4, 4}))); });
  unchanged([](Net& n, ValueId, ValueId y) { n.output(n.binary(Op::Add, y, n.input({1, 3, 1, 1}))); });
}
