// SPDX-License-Identifier: Apache-2.0
// Concatenations, and what is written into them, in plans for GPUs: how many launches they take, and that these give what the CPU gives.
#include "plan_networks.h"

namespace {

using namespace edgert;
using namespace edgert::test;
using Op = PointwiseOp;

TEST_CASE("a block of concatenations that repeat each other copies nothing") {
  Network net;
  std::vector<ValueId> parts = {net.convolve(net.input({1, 3, 12, 10}), 16, 3, 2)};
  for (int layer = 0; layer < 3; ++layer) {
    const ValueId all = parts.size() == 1 ? parts[0] : net.concat(parts, 1);
    parts.push_back(net.unary(Op::Relu, net.convolve(net.unary(Op::Relu, net.convolve(all, 32, 1)), 8, 3)));
  }
  net.output(net.mean(net.concat(parts, 1), 12));
  CHECK(check_plan(net) == 8);
}

TEST_CASE("batch normalisation and Relu before a 1x1 convolution are no launch") {
  Network net;
  std::vector<ValueId> parts = {net.convolve(net.input({2, 3, 12, 10}), 16, 3, 2)};
  for (int layer = 0; layer < 2; ++layer) {
    ValueId x = parts.size() == 1 ? parts[0] : net.concat(parts, 1);
    x = net.binary(Op::Add, net.binary(Op::Mul, net.channels(net.dims(x)[1], 1, 4), x), net.channels(net.dims(x)[1], 1, 4));
    parts.push_back(net.convolve(net.unary(Op::Relu, net.convolve(net.unary(Op::Relu, x), 32, 1)), 8, 3));
  }
  net.output(net.mean(net.concat(parts, 1), 12));
  CHECK(check_plan(net) == 6);
}

TEST_CASE("both halves of a value in a concatenation are the value") {
  Network net;
  const ValueId x = net.convolve(net.input({1, 3, 12, 10}), 32, 3, 2);
  const ValueId first = net.slice(x, {0, 0, 0, 0}, {1, 1, 1, 1}, {1, 16, 6, 5});
  const ValueId second = net.slice(x, {0, 16, 0, 0}, {1, 1, 1, 1}, {1, 16, 6, 5});
  const ValueId third = net.binary(Op::Add, net.convolve(second, 16, 3), second);
  net.output(net.mean(net.convolve(net.concat({first, second, third}, 1), 16, 1), 12));
  CHECK(check_plan(net) == 4);
}

TEST_CASE("views of all of a value are written into a concatenation, and images stay channels last") {
  Network net;
  const ValueId x = net.convolve(net.input({1, 3, 12, 12}), 16, 3, 2);
  const ValueId small = net.convolve(x, 16, 3, 2);
  // Heads of a detector: rows of five numbers, from images of two sizes.
  const auto rows = [&](ValueId y) {
    const Dims d = net.dims(y);
    return net.reshape(net.transpose(net.convolve(y, 15, 1), {0, 2, 3, 1}), {1, d[2] * d[3] * 3, 5});
  };
  net.output(net.unary(Op::Exp, net.concat({rows(x), rows(small)}, 1)));
  // Channels that change places, and phases that become pixels.
  const ValueId shuffled = net.reshape(net.transpose(net.reshape(x, {1, 2, 8, 6, 6}), {0, 2, 1, 3, 4}), {1, 16, 6, 6});
  const ValueId phases = net.reshape(net.convolve(small, 32, 1), {1, 2, 2, 8, 3, 3});
  const ValueId up = net.reshape(net.transpose(phases, {0, 3, 4, 1, 5, 2}), {1, 8, 6, 6});
  net.output(net.mean(net.convolve(net.concat({net.convolve(shuffled, 16, 3), up}, 1), 16, 3), 12));
  CHECK(check_plan(net) == 11);  // seven convolutions, exponentials, the mean, and copies that shuffle and that interleave
}

TEST_CASE("patches of several images are written behind each one's first row") {
  Network net;
  const ValueId patches = net.convolve(net.input({3, 3, 16, 16}), 16, 3, 2);
  const ValueId rows = net.reshape(net.transpose(patches, {0, 2, 3, 1}), {3, 64, 16});
  net.output(net.unary(Op::Exp, net.concat({net.unary(Op::Relu, net.graph.add_input("first", {DType::F32, {3, 1, 16}})), rows}, 1)));
  CHECK(check_plan(net) == 3);  // the convolution, the first rows, exponentials
}

}  // namespace
