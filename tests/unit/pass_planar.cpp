// SPDX-License-Identifier: Apache-2.0
// choose_planar: which convolutions read planes, and that the layout that follows copies nothing for them.
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

/// A convolution of a graph input, of what one operation makes of it, or of a transposed one.
struct FirstConv : Net {
  enum class Of { Input, Scaled, Transposed, Pooled };
  FirstConv(Of of, std::int64_t channels, int kernel = 3) {
    ValueId x = input(of == Of::Transposed ? Dims{1, 9, 10, channels} : Dims{1, channels, 9, 10});
    if (of == Of::Scaled) x = binary(PointwiseOp::Mul, x, factors(channels));
    if (of == Of::Transposed) x = transpose(x, {0, 3, 1, 2});
    if (of == Of::Pooled) x = mean(x, 1u << 2);
    output(conv(x, 20, kernel, kernel / 2, true));
  }
  ValueId factors(std::int64_t count) { return channels(count, 1, 4); }
  bool planar() const { return maker_of_output().as<cpu::ConvAttributes>().planar == 1; }
};

using Of = FirstConv::Of;

}  // namespace

TEST_CASE("choose_planar: convolutions of few channels that read an input") {
  for (FirstConv net : {FirstConv(Of::Input, 3), FirstConv(Of::Input, 2, 5), FirstConv(Of::Scaled, 4)}) {
    CHECK(net.check(&passes::choose_planar) == 1);
    CHECK(net.planar());
    passes::choose_layout(net.graph);
    ir::verify(net.graph);
    // The only copy is the one that brings the result into the caller's order.
    CHECK(net.count(ops::kCopy) == 1);
  }
}

TEST_CASE("choose_planar leaves what would not gain") {
  for (FirstConv net : {FirstConv(Of::Input, 5), FirstConv(Of::Input, 1), FirstConv(Of::Input, 3, 1),
                        FirstConv(Of::Transposed, 3), FirstConv(Of::Pooled, 3)}) {
    CHECK(net.check(&passes::choose_planar) == 0);
    CHECK(!net.planar());
  }
}
