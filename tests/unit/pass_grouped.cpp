// SPDX-License-Identifier: Apache-2.0
// choose_grouped: which grouped convolutions become depthwise ones, and that they stay what they are.
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

struct GroupedNet : Net {
  GroupedNet(std::int64_t channels, std::int64_t group, std::int64_t filters) {
    const ValueId x = input({2, channels, 7, 8});
    cpu::ConvAttributes a{};
    for (std::size_t i = 0; i < 2; ++i) {
      a.kernel[i] = 3;
      a.stride[i] = a.dilation[i] = a.pad_begin[i] = 1;
    }
    a.stride[1] = 2;
    a.groups = static_cast<std::int32_t>(channels / group);
    a.epilogue.activation = PointwiseOp::Relu;
    output(node(ops::kConv, {x, random({filters, group, 3, 3}), random({filters}), kNone}, a));
  }
};

}  // namespace

TEST_CASE("choose_grouped: groups of four and eight channels") {
  for (GroupedNet net : {GroupedNet(32, 4, 32), GroupedNet(48, 8, 48)}) {
    CHECK(net.check(&passes::choose_grouped) == 1);
    CHECK(net.count(ops::kDepthwiseConv) == 1);
    passes::pack_weights(net.graph);
    ir::verify(net.graph);
    CHECK(net.graph.value(net.maker_of_output().inputs[1]).type.dims.size() == 3);
  }
}

TEST_CASE("choose_grouped leaves what the kernel does not have") {
  for (GroupedNet net : {GroupedNet(32, 16, 32), GroupedNet(32, 4, 64), GroupedNet(24, 4, 24), GroupedNet(32, 2, 32),
                         GroupedNet(32, 32, 32)}) {
    CHECK(net.check(&passes::choose_grouped) == 0);
    CHECK(net.count(ops::kConv) == 1);
  }
}
