// SPDX-License-Identifier: Apache-2.0
// fuse_inverted_residual: which convolutions become one step, and that they stay what they are.
#include "edgert/cpu/ops/stem_block.h"
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

/// An inverted residual block on images of 88 x 88 pixels: 16 hidden channels make the threshold.
struct BlockNet : Net {
  ValueId x = kNone;
  ValueId wide = kNone;
  ValueId filtered = kNone;
  BlockNet(std::int64_t channels, std::int64_t hidden, std::int64_t size = 88) {
    x = input({1, channels, size, size});
    wide = conv(x, hidden, 1, 0, true);
    filtered = depthwise(wide, 3);
  }
  const cpu::InvertedResidualAttributes& block(std::size_t i = 0) const {
    REQUIRE(maker_of_output(i).op == &ops::kInvertedResidual);
    return maker_of_output(i).as<cpu::InvertedResidualAttributes>();
  }
};

}  // namespace

TEST_CASE("fuse_inverted_residual: a whole block with activations and its shortcut") {
  BlockNet net(2, 16);
  net.output(net.binary(PointwiseOp::Add, net.conv(net.unary(PointwiseOp::Relu, net.filtered), 2, 1, 0, true),
                        net.random({1, 2, 86, 86})));
  passes::fuse_epilogue(net.graph);
  CHECK(net.check(&passes::fuse_inverted_residual) == 1);
  CHECK(net.count(ops::kConv) == 0);
  CHECK(net.count(ops::kDepthwiseConv) == 0);
}

TEST_CASE("fuse_inverted_residual: a residual stays the projection's") {
  BlockNet net(2, 16);
  const ValueId shortcut = net.depthwise(net.x, 3);
  net.output(net.binary(PointwiseOp::Add, shortcut, net.conv(net.filtered, 2)));
  passes::fuse_epilogue(net.graph);
  CHECK(net.check(&passes::fuse_inverted_residual) == 1);
  CHECK(net.block().project.residual == scalar::ResidualMode::BeforeActivation);
  CHECK(net.maker_of_output().provenance.size() == 4);
}

TEST_CASE("fuse_inverted_residual: without what another step reads") {
  BlockNet expanded(2, 16);
  expanded.output(expanded.filtered);
  expanded.output(expanded.mean(expanded.filtered, 1u << 2));
  CHECK(expanded.check(&passes::fuse_inverted_residual) == 1);
  CHECK(expanded.block().kernel[0] == 3);
  BlockNet projected(2, 16);
  projected.output(projected.conv(projected.filtered, 3));
  projected.output(projected.mean(projected.wide, 1u << 2));
  CHECK(projected.check(&passes::fuse_inverted_residual) == 1);
  CHECK(projected.count(ops::kConv) == 1);
}

TEST_CASE("fuse_inverted_residual leaves what would not gain, or cannot be done") {
  BlockNet small(2, 16, 20);
  small.output(small.conv(small.filtered, 3));
  CHECK(small.check(&passes::fuse_inverted_residual) == 0);
  BlockNet heavy(1100, 16, 80);
  heavy.output(heavy.filtered);
  CHECK(heavy.count(ops::kConv) == 1);
  CHECK(passes::fuse_inverted_residual(heavy.graph) == 0);
  BlockNet window(2, 16);
  window.output(window.conv(window.filtered, 3, 3));
  CHECK(window.check(&passes::fuse_inverted_residual) == 1);  // the expansion only
  CHECK(window.count(ops::kConv) == 1);
  BlockNet shared(2, 16);
  shared.output(shared.wide);
  shared.output(shared.filtered);
  CHECK(shared.check(&passes::fuse_inverted_residual) == 0);
}

TEST_CASE("fuse_inverted_residual: a network's first convolution") {
  Net net;
  const ValueId x = net.input({1, 3, 90, 90});
  const ValueId first = net.unary(PointwiseOp::Relu, net.conv(x, 16, 3, 0, true));
  net.output(net.conv(net.depthwise(first, 3), 4, 1, 0, true));
  passes::fuse_epilogue(net.graph);
  passes::choose_planar(net.graph);
  CHECK(net.check(&passes::fuse_inverted_residual) == 1);
  CHECK(net.count(ops::kConv) == 0);
  REQUIRE(net.maker_of_output().op == &ops::kStemBlock);
  CHECK(net.maker_of_output().as<cpu::StemBlockAttributes>().kernel[0] == 3);
  passes::choose_layout(net.graph);
  ir::verify(net.graph);
  CHECK(net.count(ops::kCopy) == 1);  // of the result, into the caller's order
}
