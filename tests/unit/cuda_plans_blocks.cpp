// SPDX-License-Identifier: Apache-2.0
// Blocks of convolutional networks in plans for GPUs: how many launches they take, and that these give what the CPU gives.
#include "plan_networks.h"

namespace {

using namespace edgert;
using namespace edgert::test;
using Op = PointwiseOp;

TEST_CASE("an inverted-residual block is two launches") {
  Network net;
  const ValueId x = net.convolve(net.input({1, 3, 14, 19}), 16, 3, 2);
  ValueId y = net.unary(Op::Relu, net.slide(net.unary(Op::Relu, net.convolve(x, 40, 1)), 3));
  y = net.binary(Op::Add, net.convolve(y, 16, 1), x);
  y = net.convolve(net.unary(Op::Relu, net.slide(net.unary(Op::Relu, net.convolve(y, 56, 1)), 5, 2)), 24, 1);
  net.output(net.mean(y, 12));
  CHECK(check_plan(net) == 6);  // the stem, two and two, the mean
}

TEST_CASE("squeeze-and-excitation is two launches in the block") {
  for (const std::int64_t batch : {1, 2}) {
    Network net;
    const ValueId x = net.convolve(net.input({batch, 3, 11, 18}), 16, 3, 2);
    ValueId y = net.unary(Op::Silu, net.slide(net.unary(Op::Silu, net.convolve(x, 64, 1)), 5));
    y = net.binary(Op::Add, net.convolve(net.squeeze(y, 6, Op::Sigmoid), 16, 1), x);
    // Without a widening convolution.
    y = net.convolve(net.squeeze(net.unary(Op::HardSwish, net.slide(y, 3, 2)), 8, Op::HardSigmoid), 24, 1);
    net.output(net.mean(y, 12));
    CHECK(check_plan(net, batch == 1 ? 90 : 87) == 10);
  }
}

TEST_CASE("squeeze-and-excitation behind a convolution that is no depthwise one") {
  Network net;
  ValueId y = net.unary(Op::Silu, net.convolve(net.input({1, 3, 12, 12}), 24, 3, 2));
  y = net.squeeze(y, 3, Op::Sigmoid);
  net.output(net.mean(net.convolve(y, 16, 1), 12));
  CHECK(check_plan(net) == 5);
}

TEST_CASE("a widened tensor that another step reads too stays") {
  Network net;
  const ValueId x = net.convolve(net.input({1, 3, 8, 8}), 16, 3, 2);
  const ValueId wide = net.unary(Op::Relu, net.convolve(x, 32, 1));
  const ValueId y = net.convolve(net.slide(wide, 3), 16, 1);
  net.output(net.mean(y, 12));
  net.output(net.mean(wide, 12));
  CHECK(check_plan(net) == 6);
}

TEST_CASE("groups of a few channels go to tensor cores together") {
  Network net;
  ValueId y = net.unary(Op::Relu, net.convolve(net.input({2, 3, 13, 10}), 64, 3, 2));
  y = net.unary(Op::Relu, net.convolve(y, 128, 3, 1, 16));  // 4 to 8 channels: four to a group of 16 to 32
  y = net.unary(Op::Relu, net.convolve(y, 64, 1, 1, 2));
  y = net.convolve(y, 40, 3, 1, 4);                         // 16 to 10: all groups together
  net.output(net.mean(y, 12));
  CHECK(check_plan(net) == 5);
}

TEST_CASE("channels that are no multiple of eight, and a last convolution") {
  Network net;
  const ValueId x = net.unary(Op::Relu, net.convolve(net.input({2, 3, 9, 13}), 10, 3, 2));
  const ValueId y = net.slide(net.binary(Op::Add, net.convolve(x, 10, 3), x), 3);
  const ValueId z = net.concat({net.convolve(y, 58, 1), net.convolve(x, 58, 3)}, 1);
  net.output(net.unary(Op::Sigmoid, net.convolve(net.slide(z, 3), 21, 1)));
  net.output(net.convolve(z, 5, 3));
  CHECK(check_plan(net) == 8);
}

}  // namespace
