// SPDX-License-Identifier: Apache-2.0
// Blocks of convolutional networks in plans for GPUs: how many launches they take, and that these give what the CPU gives.
#include "edgert/cpu/ops/cast.h"
#include "plan_networks.h"

namespace {

using namespace edgert;
using namespace edgert::test;
using Op = PointwiseOp;

TEST_CASE("an inverted-residual block is one launch") {
  Network net;
  const ValueId x = net.convolve(net.input({1, 3, 14, 19}), 16, 3, 2);
  ValueId y = net.unary(Op::Relu, net.slide(net.unary(Op::Relu, net.convolve(x, 40, 1)), 3));
  y = net.binary(Op::Add, net.convolve(y, 16, 1), x);
  y = net.convolve(net.unary(Op::Relu, net.slide(net.unary(Op::Relu, net.convolve(y, 56, 1)), 5, 2)), 24, 1);
  net.output(net.mean(y, 12));
  CHECK(check_plan(net) == 4);  // the stem, one and one, the mean
}

TEST_CASE("an inverted-residual block with channels that are no multiple of eight behind it is two launches") {
  Network net;
  const ValueId x = net.convolve(net.input({1, 3, 14, 19}), 16, 3, 2);
  const ValueId y = net.slide(net.unary(Op::Relu, net.convolve(x, 40, 1)), 3);
  net.output(net.mean(net.convolve(y, 20, 1), 12));
  CHECK(check_plan(net) == 4);  // the stem, two, the mean
}

TEST_CASE("squeeze-and-excitation is one launch in the block") {
  for (const std::int64_t batch : {1, 2}) {
    Network net;
    const ValueId x = net.convolve(net.input({batch, 3, 11, 18}), 16, 3, 2);
    ValueId y = net.unary(Op::Silu, net.slide(net.unary(Op::Silu, net.convolve(x, 64, 1)), 5));
    y = net.binary(Op::Add, net.convolve(net.squeeze(y, 6, Op::Sigmoid), 16, 1), x);
    // Without a widening convolution.
    y = net.convolve(net.squeeze(net.unary(Op::HardSwish, net.slide(y, 3, 2)), 8, Op::HardSigmoid), 24, 1);
    net.output(net.mean(y, 12));
    CHECK(check_plan(net, batch == 1 ? 90 : 87) == 8);
  }
}

TEST_CASE("squeeze-and-excitation behind a convolution that is no depthwise one") {
  Network net;
  ValueId y = net.unary(Op::Silu, net.convolve(net.input({1, 3, 12, 12}), 24, 3, 2));
  y = net.squeeze(y, 3, Op::Sigmoid);
  net.output(net.mean(net.convolve(y, 16, 1), 12));
  CHECK(check_plan(net) == 4);
}

TEST_CASE("a widened tensor that another step reads too stays") {
  Network net;
  const ValueId x = net.convolve(net.input({1, 3, 8, 8}), 16, 3, 2);
  const ValueId wide = net.unary(Op::Relu, net.convolve(x, 32, 1));
  const ValueId y = net.convolve(net.slide(wide, 3), 16, 1);
  net.output(net.mean(y, 12));
  net.output(net.mean(wide, 12));
  CHECK(check_plan(net) == 5);
}

/// A residual block: windows of `kernel`, and a 1x1 shortcut of every `stride`-th pixel.
ValueId residual_block(Network& net, ValueId x, std::int64_t filters, int kernel, int stride) {
  const ValueId y = net.unary(Op::Relu, net.convolve(x, 24, 3, stride));
  return net.unary(Op::Relu, net.binary(Op::Add, net.convolve(y, filters, kernel), net.convolve(x, filters, 1, stride)));
}

TEST_CASE("a residual block's shortcut is computed with the convolution that it is added to") {
  for (const std::uint32_t arch : {90u, 87u}) {
    Network net;
    ValueId y = net.unary(Op::Relu, net.convolve(net.input({2, 3, 27, 22}), 40, 3, 2));
    y = residual_block(net, y, 56, 3, 2);  // fewer channels than the convolution's, and more
    y = residual_block(net, y, 48, 1, 1);
    y = residual_block(net, y, 64, 1, 2);
    net.output(net.mean(y, 12));
    CHECK(check_plan(net, arch) == 8);  // the stem, two each, the mean
  }
}

TEST_CASE("a shortcut with an activation, or with channels that are no multiple of eight, stays a launch") {
  Network net;
  const ValueId x = net.unary(Op::Relu, net.convolve(net.input({1, 3, 19, 14}), 40, 3, 2));
  ValueId y = net.binary(Op::Add, net.convolve(x, 20, 3), net.unary(Op::Relu, net.convolve(x, 20, 1)));
  y = net.binary(Op::Add, net.convolve(y, 24, 3), net.convolve(net.slide(y, 3), 24, 1));
  net.output(net.mean(y, 12));
  CHECK(check_plan(net) == 7);
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

/// A picture with its channels `last` or as planes, whose bytes or floats the graph normalises before the first convolution.
void check_picture(bool bytes, bool last, std::size_t steps) {
  Network net;
  const Dims dims = last ? Dims{1, 9, 14, 3} : Dims{1, 3, 9, 14};
  ValueId x = net.input(dims, bytes ? DType::U8 : DType::F32);
  if (bytes) {
    cpu::CastAttributes to{};
    to.to = DType::F32;
    x = net.node(ops::kCast, {x}, to);
  }
  const Dims along = last ? Dims{1, 1, 1, 3} : Dims{1, 3, 1, 1};
  const float size = bytes ? 255.0f : 1.0f;
  x = net.binary(PointwiseOp::Sub, x, net.expand(net.constant(along, {0.48f * size, 0.46f * size, 0.41f * size}), dims));
  x = net.binary(PointwiseOp::Div, x, net.expand(net.constant(along, {0.23f * size, 0.22f * size, 0.225f * size}), dims));
  if (last) x = net.transpose(x, {0, 3, 1, 2});
  net.output(net.unary(PointwiseOp::Relu, net.convolve(x, 16, 3, 2)));
  const auto build = [&](const plan::BuildOptions& options) {
    std::vector<ir::Graph> graphs;
    graphs.push_back(net.graph);
    return plan::build(std::move(graphs), options);
  };
  const std::vector<float> floats = input_of(3 * 9 * 14);
  std::vector<std::uint8_t> picture;
  for (const float value : floats) picture.push_back(static_cast<std::uint8_t>(value * 256));
  const std::vector<ir::Bytes> inputs = bytes ? std::vector<ir::Bytes>{ir::Bytes::copy(picture.data(), picture.size())} : one_input(floats);
  const plan::BuildResult built = build(options_for(87));
  CHECK(built.profiles[0].steps == steps);
  CHECK(sqnr_db(run_on_fake_gpu(built.bytes, 87, inputs), run_on_cpu(build({}).bytes, inputs)) > 60);
}

TEST_CASE("the first convolution reads a picture as the application has it, and normalises it") {
  check_picture(true, true, 1);
  check_picture(true, false, 1);
  check_picture(false, true, 1);
  check_picture(false, false, 1);
}

}  // namespace
