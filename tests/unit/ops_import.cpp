// SPDX-License-Identifier: Apache-2.0
// ONNX importers where the node tests don't look: older operator sets, values at the edge of their types, hostile
// nodes.
#include <doctest/doctest.h>

#include <cmath>

#include "ops_node.h"

namespace {

using namespace edgert;
using ir::Dims;
using test::TestNode;
using Ints = std::vector<std::int64_t>;

constexpr std::int64_t kLowest = INT64_MIN;
constexpr std::int64_t kHighest = INT64_MAX;

}  // namespace

TEST_CASE("Slice clamps whatever starts, ends and steps say") {
  const auto slice = [](std::int64_t start, std::int64_t end, std::int64_t step) {
    return TestNode("Slice")
        .int64({5}, {10, 11, 12, 13, 14})
        .int64({1}, {start})
        .int64({1}, {end})
        .int64({1}, {0})
        .int64({1}, {step})
        .import()
        .values<std::int64_t>();
  };
  CHECK(slice(kLowest, kHighest, 1) == Ints{10, 11, 12, 13, 14});
  CHECK(slice(1, -1, 2) == Ints{11, 13});
  CHECK(slice(0, kHighest, kHighest) == Ints{10});
  CHECK(slice(4, 1, 1) == Ints{});
  CHECK(slice(kHighest, kLowest, -1) == Ints{14, 13, 12, 11, 10});
  CHECK(slice(-2, 0, -2) == Ints{13, 11});
  CHECK(slice(kHighest, kLowest, kLowest) == Ints{14});
  CHECK(slice(0, 4, -1) == Ints{});
  CHECK(slice(kLowest, kLowest, -1) == Ints{});
}

TEST_CASE("Slice took attributes before opset 10") {
  TestNode node("Slice", 9);
  node.int64({2, 3}, {1, 2, 3, 4, 5, 6}).ints("starts", {0, 1}).ints("ends", {1, kHighest}).import();
  CHECK(node.dims() == Dims{1, 2});
  CHECK(node.values<std::int64_t>() == Ints{2, 3});
}

TEST_CASE("Reshape resolves 0 and -1") {
  const auto reshaped = [](const Dims& dims, const Ints& shape, std::int64_t allow_zero = 0) {
    return TestNode("Reshape")
        .input(DType::F32, dims)
        .int64({static_cast<std::int64_t>(shape.size())}, shape)
        .integer("allowzero", allow_zero)
        .import()
        .dims();
  };
  CHECK(reshaped({2, 3, 4}, {0, -1}) == Dims{2, 12});
  CHECK(reshaped({2, 3, 4}, {4, -1, 3}) == Dims{4, 2, 3});
  CHECK(reshaped({0, 3}, {3, 0}, 1) == Dims{3, 0});
  CHECK(reshaped({1}, {}) == Dims{});
  const auto refused = [](const Dims& dims, const Ints& shape, std::int64_t allow_zero = 0) {
    return TestNode("Reshape")
        .input(DType::F32, dims)
        .int64({static_cast<std::int64_t>(shape.size())}, shape)
        .integer("allowzero", allow_zero)
        .refused();
  };
  CHECK(refused({2, 3}, {-1, -1}));
  CHECK(refused({2, 3}, {5, -1}));
  CHECK(refused({2, 3}, {2, 3, 0}));
  CHECK(refused({2, 3}, {-2, -3}));
  CHECK(refused({2, 3}, {kHighest, kHighest, -1}));
  CHECK(refused({0, 3}, {0, -1}, 1));
  CHECK(refused({1}, {1, 1, 1, 1, 1, 1, 1, 1, 1}));
  CHECK(TestNode("Reshape").input(DType::F32, {4}).input(DType::I64, {1}).refused());
}

TEST_CASE("Shape takes a range of dimensions") {
  const auto shape = [](std::int64_t start, std::int64_t end) {
    return TestNode("Shape")
        .input(DType::F32, {2, 3, 4})
        .integer("start", start)
        .integer("end", end)
        .import()
        .values<std::int64_t>();
  };
  CHECK(shape(0, 3) == Ints{2, 3, 4});
  CHECK(shape(-1, 3) == Ints{4});
  CHECK(shape(1, -1) == Ints{3});
  CHECK(shape(2, 1) == Ints{});
  CHECK(shape(kLowest, kHighest) == Ints{2, 3, 4});
}

TEST_CASE("Range counts up, down and not at all") {
  const auto range = [](std::int64_t start, std::int64_t limit, std::int64_t delta) {
    return TestNode("Range").int64({}, {start}).int64({}, {limit}).int64({}, {delta}).import().values<std::int64_t>();
  };
  CHECK(range(3, 9, 3) == Ints{3, 6});
  CHECK(range(5, 0, -2) == Ints{5, 3, 1});
  CHECK(range(5, 0, 2) == Ints{});
  CHECK(range(kLowest, kHighest, std::int64_t{1} << 62).size() == 4);
  const auto refused = [](std::int64_t start, std::int64_t limit, std::int64_t delta) {
    return TestNode("Range").int64({}, {start}).int64({}, {limit}).int64({}, {delta}).refused();
  };
  CHECK(refused(0, 1, 0));
  CHECK(refused(0, kHighest, 1));
  CHECK(TestNode("Range").float32({}, {0}).float32({}, {INFINITY}).float32({}, {1}).refused());
  CHECK(TestNode("Range").float32({}, {NAN}).float32({}, {1}).float32({}, {1}).refused());
}

TEST_CASE("Split makes parts of any kind") {
  TestNode uneven("Split", 18);
  uneven.int64({5}, {0, 1, 2, 3, 4}).outputs(3).integer("num_outputs", 3).import();
  CHECK(uneven.values<std::int64_t>(0) == Ints{0, 1});
  CHECK(uneven.values<std::int64_t>(2) == Ints{4});
  TestNode named("Split", 11);
  named.int64({5}, {0, 1, 2, 3, 4}).ints("split", {4, 1}).outputs(2).import();
  CHECK(named.values<std::int64_t>(1) == Ints{4});
  CHECK(TestNode("Split", 13).int64({5}, {0, 1, 2, 3, 4}).outputs(2).refused());
  CHECK(TestNode("Split", 13).int64({2}, {0, 1}).int64({2}, {kHighest, kHighest}).outputs(2).refused());
  CHECK(TestNode("Split", 13).int64({2}, {0, 1}).int64({2}, {3, -1}).outputs(2).refused());
  CHECK(TestNode("Split", 13).int64({2}, {0, 1}).int64({1}, {2}).outputs(2).refused());
}

TEST_CASE("Convolutions in one dimension, depthwise and of computed weights") {
  TestNode line("Conv");
  line.input(DType::F32, {1, 4, 9}).float32({2, 4, 3}, std::vector<float>(24, 1)).ints("pads", {1, 1}).import();
  CHECK(line.dims() == Dims{1, 2, 9});
  TestNode depthwise("Conv");
  depthwise.input(DType::F32, {1, 4, 9, 9})
      .float32({4, 1, 3, 3}, std::vector<float>(36, 1))
      .integer("group", 4)
      .import();
  CHECK(depthwise.dims() == Dims{1, 4, 7, 7});
  CHECK(std::string(depthwise.graph().producer(depthwise.graph().node(0).outputs[0])->op->name) == "DepthwiseConv");
  TestNode computed("Conv");
  computed.input(DType::F32, {1, 4, 9, 9, 9}).input(DType::F32, {6, 2, 3, 3, 3}).integer("group", 2).import();
  CHECK(computed.dims() == Dims{1, 6, 7, 7, 7});
}

TEST_CASE("Hostile convolutions and pools are refused") {
  const auto conv = [] {
    return TestNode("Conv").input(DType::F32, {1, 1, 5, 5}).float32({1, 1, 3, 3}, std::vector<float>(9, 1));
  };
  CHECK(conv().ints("strides", {0, 1}).refused());
  CHECK(conv().ints("strides", {1}).refused());
  CHECK(conv().ints("strides", {1, 1, 1}).refused());
  CHECK(conv().ints("dilations", {kHighest, kHighest}).refused());
  CHECK(conv().ints("dilations", {3, 1}).refused());
  CHECK(conv().ints("pads", {0, 0}).refused());
  CHECK(conv().ints("pads", {-1, 0, 0, 0}).refused());
  CHECK(conv().ints("pads", {kHighest, 0, kHighest, 0}).refused());
  CHECK(conv().ints("kernel_shape", {2, 2}).refused());
  CHECK(conv().integer("group", 0).refused());
  CHECK(conv().integer("group", kLowest).refused());
  CHECK(conv().integer("strides", 1).refused());  // the attribute has another type
  CHECK(conv().text("auto_pad", "SAME").refused());
  CHECK(TestNode("Conv").input(DType::F32, {5}).float32({1}, {1}).refused());
  CHECK(TestNode("Conv").input(DType::F32, {1, 1, 5, 5}).refused());
  const auto pool = [](const char* op) { return TestNode(op).input(DType::F32, {1, 1, 5, 5}); };
  CHECK(pool("MaxPool").refused());
  CHECK(pool("MaxPool").ints("kernel_shape", {6, 6}).refused());
  CHECK(pool("MaxPool").ints("kernel_shape", {2, 2}).ints("pads", {2, 2, 2, 2}).refused());
  CHECK(pool("MaxPool").ints("kernel_shape", {0, 2}).refused());
  CHECK(pool("AveragePool").ints("kernel_shape", {kHighest, kHighest}).refused());
  CHECK(TestNode("MaxPool").input(DType::F32, {1, 1}).ints("kernel_shape", {}).refused());
}

TEST_CASE("Rounding up never adds a window behind the image") {
  TestNode node("MaxPool");
  node.input(DType::F32, {1, 1, 5, 6}).ints("kernel_shape", {2, 2}).ints("strides", {3, 4}).ints("pads", {0, 0, 1, 0});
  node.integer("ceil_mode", 1).import();
  // Rows: windows at 0 and 3, and none at 6. Columns: at 0 and 4.
  CHECK(node.dims() == Dims{1, 1, 2, 2});
}

TEST_CASE("Hostile shapes are refused before anything is allocated") {
  const std::int64_t huge = std::int64_t{1} << 50;
  CHECK(TestNode("ConstantOfShape").int64({2}, {huge, huge}).refused());
  CHECK(TestNode("ConstantOfShape").int64({1}, {huge}).refused());
  CHECK(TestNode("ConstantOfShape").int64({1}, {-1}).refused());
  CHECK(TestNode("Expand").int64({1}, {1}).int64({2}, {huge, huge}).refused());
  CHECK(TestNode("Expand").input(DType::F32, {2}).int64({1}, {-3}).refused());
  CHECK(TestNode("Tile").input(DType::F32, {3}).int64({1}, {kHighest}).refused());
  CHECK(TestNode("Tile").input(DType::F32, {3}).int64({1}, {-1}).refused());
  CHECK(TestNode("Pad").input(DType::F32, {3}).int64({2}, {kHighest, kHighest}).refused());
  CHECK(TestNode("Pad").input(DType::F32, {3}).int64({2}, {kLowest, 0}).refused());
  CHECK(TestNode("Pad").input(DType::F32, {3}).int64({2}, {-2, -2}).refused());
  CHECK(TestNode("Pad").input(DType::F32, {0}).int64({2}, {1, 0}).text("mode", "edge").refused());
  CHECK(TestNode("OneHot").input(DType::I64, {3}).int64({}, {huge}).float32({2}, {0, 1}).refused());
  CHECK(TestNode("EyeLike").input(DType::F32, {std::int64_t{1} << 20, std::int64_t{1} << 20}).refused());
  CHECK(TestNode("Resize").input(DType::F32, {1, 1, 4, 4}).absent().float32({4}, {1, 1, 1e30f, 1}).refused());
  CHECK(TestNode("Resize").input(DType::F32, {1, 1, 4, 4}).absent().float32({4}, {1, 1, NAN, 1}).refused());
  CHECK(TestNode("Resize").input(DType::F32, {1, 1, 4, 4}).absent().float32({4}, {1, 1, -1, 1}).refused());
  CHECK(TestNode("Resize").input(DType::F32, {1, 1, 4, 4}).absent().float32({3}, {1, 1, 2}).refused());
  CHECK(TestNode("DepthToSpace").input(DType::F32, {1, 4, 2, 2}).integer("blocksize", 0).refused());
  CHECK(TestNode("DepthToSpace").input(DType::F32, {1, 4, 2, 2}).integer("blocksize", 3).refused());
}

TEST_CASE("Axes are checked wherever they occur") {
  CHECK(TestNode("Concat").input(DType::F32, {2}).input(DType::F32, {2}).integer("axis", 1).refused());
  CHECK(TestNode("Concat").input(DType::F32, {2}).input(DType::F32, {2}).refused());
  CHECK(TestNode("Transpose").input(DType::F32, {2, 3}).ints("perm", {0, 0}).refused());
  CHECK(TestNode("Transpose").input(DType::F32, {2, 3}).ints("perm", {0}).refused());
  CHECK(TestNode("Transpose").input(DType::F32, {2, 3}).ints("perm", {0, 2}).refused());
  CHECK(TestNode("Squeeze").input(DType::F32, {2, 1}).int64({1}, {0}).refused());
  CHECK(TestNode("Unsqueeze").input(DType::F32, {2}).int64({2}, {0, 0}).refused());
  CHECK(TestNode("Unsqueeze").input(DType::F32, {2}).int64({1}, {kLowest}).refused());
  CHECK(TestNode("ReduceSum").input(DType::F32, {2}).int64({1}, {1}).refused());
  CHECK(TestNode("ReduceSum").input(DType::F32, {2}).int64({2}, {0, -1}).refused());
  CHECK(TestNode("ArgMax").input(DType::F32, {2}).integer("axis", kHighest).refused());
  CHECK(TestNode("ArgMax").input(DType::F32, {0}).refused());
  CHECK(TestNode("Softmax").input(DType::F32, {}).refused());
  CHECK(TestNode("Gather").input(DType::F32, {2}).int64({}, {2}).refused());
  CHECK(TestNode("Gather").input(DType::F32, {2}).int64({}, {kLowest}).refused());
  CHECK(TestNode("Gather").input(DType::F32, {}).int64({}, {0}).refused());
  CHECK(TestNode("GatherND").input(DType::F32, {2, 2}).int64({1, 3}, {0, 0, 0}).refused());
  CHECK(TestNode("GatherND").input(DType::F32, {2, 2}).int64({1, 1}, {0}).integer("batch_dims", kHighest).refused());
  CHECK(TestNode("LayerNormalization").input(DType::F32, {2, 3}).input(DType::F32, {3}).integer("axis", 2).refused());
  CHECK(TestNode("GroupNormalization")
            .input(DType::F32, {1, 4, 2})
            .input(DType::F32, {4})
            .input(DType::F32, {4})
            .integer("num_groups", 0)
            .refused());
  CHECK(TestNode("Slice")
            .input(DType::F32, {4})
            .int64({1}, {0})
            .int64({1}, {1})
            .int64({1}, {0})
            .int64({1}, {0})
            .refused());
  CHECK(TestNode("Slice").input(DType::F32, {4}).int64({1}, {0}).int64({2}, {1, 1}).refused());
  CHECK(TestNode("Slice").input(DType::F32, {4}).int64({2}, {0, 0}).int64({2}, {1, 1}).int64({2}, {0, 0}).refused());
}

TEST_CASE("Matrix products refuse what does not multiply") {
  CHECK(TestNode("MatMul").input(DType::F32, {}).input(DType::F32, {2}).refused());
  CHECK(TestNode("MatMul").input(DType::F32, {2, 3}).input(DType::F32, {2, 3}).refused());
  CHECK(TestNode("MatMul").input(DType::F32, {2, 2, 3}).input(DType::F32, {3, 3, 2}).refused());
  CHECK(TestNode("Gemm").input(DType::F32, {2, 3}).input(DType::F32, {3, 4}).input(DType::F32, {5}).refused());
  CHECK(TestNode("Gemm").input(DType::F32, {2, 3, 1}).input(DType::F32, {3, 4}).refused());
  TestNode vectors("MatMul");
  CHECK(vectors.input(DType::F32, {3}).input(DType::F32, {3}).import().dims() == Dims{});
  TestNode batches("MatMul");
  CHECK(batches.input(DType::F32, {5, 1, 2, 3}).input(DType::F32, {4, 3, 6}).import().dims() == Dims{5, 4, 2, 6});
}

TEST_CASE("Elementwise operators refuse operands of other types or shapes") {
  CHECK(TestNode("Add").input(DType::F32, {2}).input(DType::I64, {2}).refused());
  CHECK(TestNode("Add").input(DType::F32, {2}).input(DType::F32, {3}).refused());
  CHECK(TestNode("Add").input(DType::F32, {2}).refused());
  CHECK(TestNode("Where").input(DType::F32, {2}).input(DType::F32, {2}).input(DType::F32, {2}).refused());
  CHECK(TestNode("PRelu").input(DType::F32, {2}).input(DType::F32, {3, 2}).refused());
  CHECK(TestNode("BitShift").input(DType::U8, {2}).input(DType::U8, {2}).text("direction", "UP").refused());
  CHECK(TestNode("Cast").input(DType::F32, {2}).integer("to", 8).refused());
  CHECK(TestNode("Cast").input(DType::F32, {2}).integer("to", kLowest).refused());
  CHECK(TestNode("Dropout").input(DType::F32, {2}).absent().input(DType::Bool, {}).refused());
}

TEST_CASE("What no kernel can run is refused at import") {
  CHECK(TestNode("Softmax").input(DType::I64, {2, 3}).refused());
  CHECK(TestNode("Sin").input(DType::I64, {2}).refusal().find("i64[2]") != std::string::npos);
  CHECK(TestNode("BitwiseAnd").input(DType::F32, {2}).input(DType::F32, {2}).refused());
  CHECK(TestNode("Pad").input(DType::I4, {4}).int64({2}, {1, 1}).refused());
  CHECK(!TestNode("Sin").input(DType::F32, {2}).refused());
}

TEST_CASE("A shape that depends on model inputs names them") {
  const std::string reason = TestNode("Expand").input(DType::F32, {1}).input(DType::I64, {2}).refusal();
  CHECK(reason.find("--value x1=...") != std::string::npos);
  CHECK(reason.find("x0") == std::string::npos);
}

TEST_CASE("Sums stand in for matrix products of double") {
  const double a[] = {1, 2, 3, 4, 5, 6};
  const double b[] = {1, 0, 0, 1, 2, 2};
  TestNode node("MatMul");
  node.constant({DType::F64, {2, 3}}, a, sizeof(a)).constant({DType::F64, {3, 2}}, b, sizeof(b)).import();
  CHECK(node.values<double>() == std::vector<double>{7, 8, 16, 17});
  const std::int64_t large = 4096;
  CHECK(TestNode("MatMul").input(DType::F64, {large, large}).input(DType::F64, {large, large}).refused());
}
