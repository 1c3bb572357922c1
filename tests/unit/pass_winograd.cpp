// SPDX-License-Identifier: Apache-2.0
// choose_winograd alone on numbers: which convolutions it takes, with which tile, and that they stay what they are.
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

/// A convolution of `size` x `size` images that a pass may replace; nothing else in the graph.
struct ConvNet : Net {
  ConvNet(std::int64_t channels, std::int64_t size, std::int64_t filters, std::int32_t stride = 1,
          std::int32_t dilation = 1, int kernel = 3) {
    const ValueId x = input({1, channels, size, size});
    cpu::ConvAttributes a{};
    for (std::size_t i = 0; i < 2; ++i) {
      a.kernel[i] = kernel;
      a.stride[i] = stride;
      a.dilation[i] = dilation;
      a.pad_begin[i] = a.pad_end[i] = dilation * (kernel / 2);
    }
    a.pad_end[1] = a.pad_begin[1] + 1;  // nothing needs to be symmetric
    a.groups = 1;
    a.epilogue.activation = PointwiseOp::LeakyRelu;
    a.epilogue.alpha = 0.1f;
    output(node(ops::kConv, {x, random({filters, channels, kernel, kernel}), random({filters}), kNone}, a));
  }
  int tile() const { return maker_of_output().as<cpu::WinogradConvAttributes>().tile; }
};

}  // namespace

TEST_CASE("choose_winograd: 2x2 tiles for small images, 4x4 for large ones") {
  ConvNet small(32, 11, 33);
  CHECK(small.check(&passes::choose_winograd) == 1);
  CHECK(small.tile() == 2);
  CHECK(small.maker_of_output().provenance.size() == 1);
  ConvNet large(32, 26, 32);
  CHECK(large.check(&passes::choose_winograd) == 1);
  CHECK(large.tile() == 4);
}

TEST_CASE("choose_winograd leaves what would not gain, or cannot be done") {
  for (ConvNet net : {ConvNet(16, 26, 32), ConvNet(40, 11, 32), ConvNet(32, 11, 16), ConvNet(32, 6, 32),
                      ConvNet(32, 26, 32, 2), ConvNet(32, 16, 32, 1, 2), ConvNet(32, 12, 32, 1, 1, 1)}) {
    CHECK(net.check(&passes::choose_winograd) == 0);
    CHECK(net.count(ops::kConv) == 1);
  }
}
