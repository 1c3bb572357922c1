// SPDX-License-Identifier: Apache-2.0
// fuse_normalization, alone on numbers.
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

using Op = PointwiseOp;
constexpr std::uint32_t kLast = 4;  // axis 2

ValueId centered(Net& net, ValueId x) { return net.binary(Op::Sub, x, net.mean(x, kLast)); }

ValueId deviation(Net& net, ValueId square, std::uint32_t axes = kLast) {
  return net.unary(Op::Sqrt, net.binary(Op::Add, net.mean(square, axes), 1e-3f));
}

}  // namespace

TEST_CASE("layer normalization with a power, scale and bias") {
  Net net;
  const ValueId x = net.input({2, 3, 8});
  const ValueId d = centered(net, x);
  ValueId y = net.binary(Op::Div, d, deviation(net, net.binary(Op::Pow, d, 2.0f)));
  y = net.binary(Op::Mul, y, net.random({8}));
  net.output(net.binary(Op::Add, net.random({8}), y));
  CHECK(net.check(&passes::fuse_normalization) == 3);
  CHECK(net.count(ops::kNormalize) == 1);
  CHECK(net.count(ops::kPointwise) == 0);
  CHECK(net.count(ops::kReduce) == 0);
  CHECK(net.maker_of_output().as<cpu::NormalizeAttributes>().axes == kLast);
  CHECK(net.maker_of_output().as<cpu::NormalizeAttributes>().rms == 0);
}

TEST_CASE("layer normalization by a reciprocal, with a product as square") {
  Net net;
  const ValueId x = net.input({2, 3, 8});
  const ValueId d = centered(net, x);
  const ValueId inverse = net.unary(Op::Reciprocal, deviation(net, net.binary(Op::Mul, d, d)));
  net.output(net.binary(Op::Mul, d, inverse));
  CHECK(net.check(&passes::fuse_normalization) == 1);
  CHECK(net.nodes() == 1);
}

TEST_CASE("RMS normalization takes a scale but no bias") {
  Net net;
  const ValueId x = net.input({2, 3, 8});
  ValueId y = net.binary(Op::Div, x, deviation(net, net.binary(Op::Mul, x, x)));
  y = net.binary(Op::Mul, y, net.random({8}));
  net.output(net.binary(Op::Add, y, net.random({8})));
  CHECK(net.check(&passes::fuse_normalization) == 2);
  CHECK(net.count(ops::kNormalize) == 1);
  CHECK(net.count(ops::kPointwise) == 1);
}

TEST_CASE("a centered tensor that is read elsewhere stays") {
  Net net;
  const ValueId x = net.input({2, 3, 8});
  const ValueId d = centered(net, x);
  net.output(net.binary(Op::Div, d, deviation(net, net.binary(Op::Mul, d, d))));
  net.output(net.unary(Op::Exp, d));
  net.check(&passes::fuse_normalization);
  CHECK(net.count(ops::kNormalize) == 1);
  CHECK(net.maker_of_output().as<cpu::NormalizeAttributes>().rms == 1);
  CHECK(net.maker_of_output().inputs[0] == d);
}

TEST_CASE("means over different axes are no normalization that one kernel does") {
  Net net;
  const ValueId x = net.input({2, 3, 8});
  const ValueId d = net.binary(Op::Sub, x, net.mean(x, 2));
  net.output(net.binary(Op::Div, d, deviation(net, net.binary(Op::Mul, d, d))));
  net.check(&passes::fuse_normalization);
  CHECK(net.maker_of_output().as<cpu::NormalizeAttributes>().rms == 1);
  CHECK(net.maker_of_output().inputs[0] == d);
}

TEST_CASE("a spread that is read elsewhere, or of another tensor, stays") {
  Net net;
  const ValueId x = net.input({2, 3, 8});
  const ValueId spread = deviation(net, net.binary(Op::Mul, x, x));
  net.output(net.binary(Op::Div, x, spread));
  net.output(spread);
  const ValueId other = net.input({2, 3, 8});
  net.output(net.binary(Op::Div, x, deviation(net, net.binary(Op::Mul, other, other))));
  CHECK(net.check(&passes::fuse_normalization) == 0);
}

TEST_CASE("parameters that only a run knows stay outside") {
  Net net;
  const ValueId x = net.input({2, 3, 8});
  const ValueId y = net.binary(Op::Div, x, deviation(net, net.binary(Op::Mul, x, x)));
  net.output(net.binary(Op::Mul, y, net.input({2, 3, 8})));
  CHECK(net.check(&passes::fuse_normalization) == 1);
  CHECK(net.count(ops::kPointwise) == 1);
}
