// SPDX-License-Identifier: Apache-2.0
// join_concats: what becomes one, what does not, and that values stay.
#include "pass_net.h"

using namespace edgert;
using namespace edgert::test;

namespace {

ValueId part(Net& net, ValueId x, std::int64_t begin, std::int64_t size, std::int64_t step = 1) {
  Dims extents = net.dims(x);
  extents[1] = size;
  return net.slice(x, {0, begin, 0}, {1, step, 1}, extents);
}

}  // namespace

TEST_CASE("join_concats: concatenations that begin with others, or have them in the middle") {
  Net net;
  const ValueId x = net.input({2, 3, 4});
  std::vector<ValueId> parts;
  for (const PointwiseOp op : {PointwiseOp::Neg, PointwiseOp::Relu, PointwiseOp::Abs, PointwiseOp::Sigmoid}) parts.push_back(net.unary(op, x));
  net.output(net.concat({parts[0], parts[1]}, 1));
  net.output(net.concat({parts[0], parts[1], parts[2]}, 1));
  net.output(net.concat({parts[3], parts[0], parts[1], parts[2], parts[3]}, 1));
  CHECK(net.check(&passes::join_concats) == 2);
  CHECK(net.maker_of_output(1).inputs == std::vector<ValueId>{net.graph.outputs()[0].value, parts[2]});
  CHECK(net.maker_of_output(2).inputs == std::vector<ValueId>{parts[3], net.graph.outputs()[1].value, parts[3]});
}

TEST_CASE("join_concats: another axis or another order is another concatenation") {
  Net net;
  const ValueId x = net.input({2, 3, 3});
  const ValueId a = net.unary(PointwiseOp::Neg, x), b = net.unary(PointwiseOp::Abs, x);
  net.output(net.concat({a, b}, 1));
  net.output(net.concat({a, b, x}, 2));
  net.output(net.concat({b, a, x}, 1));
  CHECK(net.check(&passes::join_concats) == 0);
}

TEST_CASE("join_concats: neighbouring slices become one, or the whole value") {
  Net net;
  const ValueId x = net.input({2, 6, 4}), y = net.unary(PointwiseOp::Neg, x);
  net.output(net.concat({part(net, x, 0, 2), part(net, x, 2, 4), y}, 1));
  net.output(net.concat({y, part(net, x, 1, 2), part(net, x, 3, 2)}, 1));
  net.output(net.concat({part(net, y, 0, 3), part(net, y, 3, 3)}, 1));
  CHECK(net.check(&passes::join_concats) == 3);
  CHECK(net.maker_of_output(0).inputs == std::vector<ValueId>{x, y});
  CHECK(net.maker_of_output(1).inputs.size() == 2);
  CHECK(net.graph.outputs()[2].value == y);
}

TEST_CASE("join_concats: slices with steps, gaps or in another order stay") {
  Net net;
  const ValueId x = net.input({2, 6, 4});
  net.output(net.concat({part(net, x, 0, 3, 2), part(net, x, 3, 3)}, 1));
  net.output(net.concat({part(net, x, 0, 2), part(net, x, 3, 2)}, 1));
  net.output(net.concat({part(net, x, 3, 3), part(net, x, 0, 3)}, 1));
  net.output(net.concat({part(net, x, 0, 3), part(net, x, 3, 3)}, 0));
  CHECK(net.check(&passes::join_concats) == 0);
}
