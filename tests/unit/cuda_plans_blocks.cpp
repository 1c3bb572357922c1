// SPDX-License-Identifier: Apache-2.0
// Blocks of convolutional networks in plans for GPUs: how many launches they take, and that these give what the CPU gives.
#include <cmath>

#include "pass_net.h"
#include "plan_runs.h"

namespace {

using namespace edgert;
using namespace edgert::test;
using Op = PointwiseOp;

/// Convolutions whose results are about as large as their inputs.
struct Network : Net {
  ValueId convolve(ValueId x, std::int64_t filters, int kernel, int stride = 1, std::int64_t groups = 1) {
    const std::int64_t depth = dims(x)[1] / groups * kernel * kernel;
    std::vector<float> weights = numbers.floats(filters * depth), bias = numbers.floats(filters);
    for (float& w : weights) w *= 0.8f / std::sqrt(static_cast<float>(depth));
    for (float& b : bias) b *= 0.1f;
    const ValueId w = constant({filters, dims(x)[1] / groups, kernel, kernel}, weights);
    const ValueId b = constant({filters}, bias);
    if (groups == filters) return node(ops::kDepthwiseConv, {x, w, b, kNone}, attributes<cpu::DepthwiseConvAttributes>(kernel, stride));
    auto a = attributes<cpu::ConvAttributes>(kernel, stride);
    a.groups = static_cast<std::int32_t>(groups);
    return node(ops::kConv, {x, w, b, kNone}, a);
  }
  ValueId slide(ValueId x, int kernel, int stride = 1) { return convolve(x, dims(x)[1], kernel, stride, dims(x)[1]); }
  ValueId squeeze(ValueId x, std::int64_t squeezed, Op gate) {
    const ValueId small = unary(Op::Silu, convolve(mean(x, 12), squeezed, 1));
    const ValueId factors = unary(gate, convolve(small, dims(x)[1], 1), gate == Op::HardSigmoid ? 1.0f / 6 : 0.0f, 0.5f);
    return binary(Op::Mul, factors, x);
  }

 private:
  template <class Attributes>
  static Attributes attributes(int kernel, int stride) {
    Attributes a{};
    for (std::size_t i = 0; i < 2; ++i) {
      a.kernel[i] = kernel;
      a.stride[i] = stride;
      a.dilation[i] = 1;
      a.pad_begin[i] = a.pad_end[i] = kernel / 2;
    }
    return a;
  }
};

/// Steps of the plan for a GPU, whose results are within f16's rounding of the CPU's.
std::size_t check_plan(const Network& net, std::uint32_t arch = 90, double least_db = 60) {
  const auto build = [&](const plan::BuildOptions& options) {
    std::vector<ir::Graph> graphs;
    graphs.push_back(net.graph);
    return plan::build(std::move(graphs), options);
  };
  const std::vector<float> x = input_of(static_cast<std::size_t>(ir::element_count(net.dims(net.graph.inputs()[0]))));
  const plan::BuildResult built = build(options_for(arch));
  CHECK(sqnr_db(run_on_fake_gpu(built.bytes, arch, x), run_on_cpu(build({}).bytes, x)) > least_db);
  return built.profiles[0].steps;
}

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

TEST_CASE("groups of a few channels go to tensor cores together") {
  Network net;
  ValueId y = net.unary(Op::Relu, net.convolve(net.input({2, 3, 13, 10}), 64, 3, 2));
  y = net.unary(Op::Relu, net.convolve(y, 128, 3, 1, 16));  // 4 to 8 channels: four to a group of 16 to 32
  y = net.unary(Op::Relu, net.convolve(y, 64, 1, 1, 2));
  y = net.convolve(y, 40, 3, 1, 4);                         // 16 to 10: all groups together
  net.output(net.mean(y, 12));
  CHECK(check_plan(net) == 5);
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
