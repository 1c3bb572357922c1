// SPDX-License-Identifier: Apache-2.0
// Importers of quantised and scattering operators where the node tests don't look: rounding, saturation, small types,
// what is refused and why.
#include <doctest/doctest.h>

#include "ops_node.h"

namespace {

using namespace edgert;
using ir::Dims;
using test::TestNode;
using Ints = std::vector<std::int64_t>;

/// y of a node without other attributes on constants x, scale and zero point.
TestNode quantise(std::vector<float> x, float scale, DType type, std::uint8_t zero_point) {
  TestNode node("QuantizeLinear");
  node.float32({static_cast<std::int64_t>(x.size())}, x).float32({}, {scale}).constant({type, {}}, &zero_point, 1);
  return node.import();
}

}  // namespace

TEST_CASE("QuantizeLinear rounds halves to the even neighbour before it adds the zero point") {
  const std::vector<float> x = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 1e9f, -1e9f};
  CHECK(quantise(x, 1, DType::U8, 3).values<std::uint8_t>() == std::vector<std::uint8_t>{3, 5, 5, 3, 1, 255, 0});
  CHECK(quantise(x, 1, DType::I8, 3).values<std::int8_t>() == std::vector<std::int8_t>{3, 5, 5, 3, 1, 127, -128});
}

TEST_CASE("QuantizeLinear saturates at the ends of 4 and 2 bits") {
  const std::vector<float> x = {-9, -1, 3, 100};
  CHECK(quantise(x, 1, DType::I4, 0).values<std::uint8_t>() == std::vector<std::uint8_t>{0xf8, 0x73});
  CHECK(quantise(x, 1, DType::U4, 1).values<std::uint8_t>() == std::vector<std::uint8_t>{0x00, 0xf4});
  CHECK(quantise(x, 1, DType::I2, 0).values<std::uint8_t>() == std::vector<std::uint8_t>{0x5e});
  CHECK(quantise(x, 1, DType::U2, 0).values<std::uint8_t>() == std::vector<std::uint8_t>{0xf0});
}

TEST_CASE("QuantizeLinear and DequantizeLinear say what they do not take") {
  const auto refusal = [](DType x, DType scale, DType zero_point) {
    return TestNode("DequantizeLinear").input(x, {4}).input(scale, {}).input(zero_point, {}).refusal();
  };
  CHECK(refusal(DType::U8, DType::F32, DType::U8) == "");
  CHECK(refusal(DType::F8E4M3FN, DType::F16, DType::F8E4M3FN) == "");
  CHECK(refusal(DType::I64, DType::F32, DType::I64) == "dequantising i64 is not supported");
  CHECK(refusal(DType::U8, DType::F64, DType::U8) == "dequantising to f64 is not supported");
  CHECK(refusal(DType::U8, DType::F32, DType::I8) == "the zero point has another type than the input");
  TestNode per_axis("QuantizeLinear");
  per_axis.input(DType::F32, {2, 3}).input(DType::F32, {2}).integer("axis", 1);
  CHECK(per_axis.refusal() == "the scale must have shape [3], not [2]");
  TestNode blocked("QuantizeLinear");
  blocked.input(DType::F32, {2, 5}).input(DType::F32, {2, 2}).integer("axis", 1).integer("block_size", 2);
  CHECK(blocked.refusal() == "the scale must have shape [2,3], not [2,2]");
  TestNode huge("QuantizeLinear");
  huge.input(DType::F32, {2, 5}).input(DType::F32, {2, 1}).integer("axis", 1).integer("block_size", INT64_MAX);
  CHECK(huge.refused());
}

TEST_CASE("Requantisation wraps sums at 32 bits and rounds once") {
  // (200 - 10) * (100 - 20) = 15200; times 0.5 * 0.25 / 38 = 50.0; plus 7.
  const std::uint8_t numbers[] = {200, 10, 100, 20, 7};
  TestNode node("QLinearMatMul");
  node.constant({DType::U8, {1, 1}}, &numbers[0], 1).float32({}, {0.5f}).constant({DType::U8, {}}, &numbers[1], 1);
  node.constant({DType::U8, {1, 1}}, &numbers[2], 1).float32({}, {0.25f}).constant({DType::U8, {}}, &numbers[3], 1);
  node.float32({}, {38}).constant({DType::U8, {}}, &numbers[4], 1).import();
  CHECK(node.values<std::uint8_t>() == std::vector<std::uint8_t>{57});
  CHECK(TestNode("MatMulInteger").input(DType::I16, {2, 3}).input(DType::I16, {3, 2}).refusal() ==
        "operands must be int8 or uint8, not i16");
  CHECK(TestNode("MatMulInteger").input(DType::I8, {2, 3}).input(DType::I8, {4, 2}).refused());
  CHECK(TestNode("ConvInteger").input(DType::U8, {1, 2, 4, 4}).input(DType::U8, {3, 1, 2, 2}).refused());
  CHECK(TestNode("ConvInteger").input(DType::U8, {1, 1, 4, 4}).input(DType::U8, {1, 1, 5, 5}).refused());
}

TEST_CASE("MatMul of integers is exact") {
  TestNode node("MatMul");
  node.int64({1, 2}, {(std::int64_t{1} << 62) + 1, 3}).int64({2, 1}, {3, 5}).import();
  CHECK(node.values<std::int64_t>() == Ints{static_cast<std::int64_t>(3u * ((std::uint64_t{1} << 62) + 1) + 15)});
}

TEST_CASE("Scattered indices count from the end, and are refused beyond both") {
  const auto scattered = [](std::int64_t index) {
    return TestNode("ScatterElements").int64({2, 2}, {1, 2, 3, 4}).int64({1, 1}, {index}).int64({1, 1}, {9});
  };
  CHECK(scattered(-1).import().values<std::int64_t>() == Ints{1, 2, 9, 4});
  CHECK(scattered(2).refused());
  CHECK(scattered(-3).refused());
  CHECK(scattered(INT64_MIN).refused());
  // The second coordinate is wrong, although the row number that it would make exists.
  const auto pair = [](std::int64_t second) {
    return TestNode("ScatterND").int64({2, 2}, {1, 2, 3, 4}).int64({1, 2}, {0, second}).int64({1}, {9});
  };
  CHECK(pair(1).import().values<std::int64_t>() == Ints{1, 9, 3, 4});
  CHECK(pair(2).refused());
  CHECK(pair(-3).refused());
  CHECK(TestNode("ScatterElements").input(DType::F32, {2}).input(DType::I64, {1}).input(DType::F32, {2}).refused());
  CHECK(TestNode("ScatterND").input(DType::F32, {2}).input(DType::I64, {1, 2}).input(DType::F32, {1}).refused());
  TestNode reduction("ScatterND");
  reduction.input(DType::F32, {2}).input(DType::I64, {1, 1}).input(DType::F32, {1}).text("reduction", "avg");
  CHECK(reduction.refusal() == "reduction 'avg' is not known");
}

TEST_CASE("TensorScatter writes around the end only when it may") {
  const auto written = [](const char* mode, std::int64_t first) {
    TestNode node("TensorScatter", 24);
    node.int64({1, 3, 1}, {1, 2, 3}).int64({1, 2, 1}, {8, 9}).int64({1}, {first}).text("mode", mode);
    return node;
  };
  CHECK(written("linear", 1).import().values<std::int64_t>() == Ints{1, 8, 9});
  CHECK(written("circular", 2).import().values<std::int64_t>() == Ints{9, 2, 8});
  CHECK(written("linear", 2).refused());
  CHECK(written("linear", -1).refused());
  CHECK(written("round", 0).refused());
}

TEST_CASE("Casts to small types fold and refuse windows") {
  TestNode cast("Cast");
  cast.float32({3}, {1, -2, 7}).integer("to", 22).import();
  CHECK(cast.values<std::uint8_t>() == std::vector<std::uint8_t>{0xe1, 0x07});
  CHECK(TestNode("Cast").input(DType::F32, {2}).integer("to", 8).refused());  // strings
  CHECK(TestNode("BitCast", 26).input(DType::F32, {2}).integer("to", 11).refusal() ==
        "f32 and f64 differ in their number of bits");
}
