// SPDX-License-Identifier: Apache-2.0
// Weights in packed form, element by element, and shape rules that know both forms.
#include <doctest/doctest.h>

#include <numeric>

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/matmul.h"
#include "ir/graph.h"
#include "ops/definitions.h"

namespace {

using namespace edgert;
using ir::Dims;

ir::ValueId counted(ir::Graph& graph, const Dims& dims) {
  std::vector<float> values(static_cast<std::size_t>(ir::element_count(dims)));
  std::iota(values.begin(), values.end(), 1.0f);
  return graph.add_constant("w", {DType::F32, dims}, ir::Bytes::copy(values.data(), values.size() * sizeof(float)));
}

template <class Attributes>
Attributes window(int kh, int kw, int pad) {
  Attributes a{};
  a.kernel[0] = kh;
  a.kernel[1] = kw;
  for (int i = 0; i < 2; ++i) {
    a.stride[i] = a.dilation[i] = 1;
    a.pad_begin[i] = a.pad_end[i] = pad;
  }
  return a;
}

/// Element (group, row, column) of format PanelF32x16, by its definition.
float panel_element(const ir::Value& packed, std::int64_t g, std::int64_t row, std::int64_t column) {
  const std::int64_t rows = packed.type.dims[1];
  const std::int64_t panels = (packed.type.dims[2] + 15) / 16;
  return packed.constant.as<float>()[((g * panels + column / 16) * rows + row) * 16 + column % 16];
}

}  // namespace

TEST_CASE("Conv packs [M, C/g, kh, kw] as rows (kh, kw, c) of panels") {
  ir::Graph graph;
  const std::int64_t groups = 2, outputs = 34, channels = 3, kh = 2, kw = 3;
  auto a = window<cpu::ConvAttributes>(kh, kw, 1);
  a.groups = groups;
  const ir::ValueId x = graph.add_input("x", {DType::F32, {1, groups * channels, 5, 7}});
  const ir::ValueId w = counted(graph, {outputs, channels, kh, kw});
  const ir::NodeId id = graph.add_node(ops::kConv, {x, w, ir::kNone, ir::kNone}, ir::AttributeBlob::of(a), {});
  const Dims before = graph.value(graph.node(id).outputs[0]).type.dims;
  CHECK(before == Dims{1, outputs, 6, 7});
  ops::kConv.pack(graph, id);
  const ir::Value& packed = graph.value(graph.node(id).inputs[1]);
  REQUIRE(packed.format == WeightFormat::PanelF32x16);
  REQUIRE(packed.type.dims == Dims{groups, kh * kw * channels, outputs / groups});
  REQUIRE(packed.constant.size() == 2u * 2u * 18u * 64u);
  for (std::int64_t m = 0; m < outputs; ++m) {
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t y = 0; y < kh; ++y) {
        for (std::int64_t z = 0; z < kw; ++z) {
          const float expected = static_cast<float>(((m * channels + c) * kh + y) * kw + z + 1);
          REQUIRE(panel_element(packed, m / 17, (y * kw + z) * channels + c, m % 17) == expected);
        }
      }
    }
  }
  CHECK(panel_element(packed, 0, 0, 17) == 0.0f);  // past the last column
  verify(graph);
  const ir::ValueId again = graph.node(id).inputs[1];
  ops::kConv.pack(graph, id);
  CHECK(graph.node(id).inputs[1] == again);
}

TEST_CASE("DepthwiseConv packs [C, 1, kh, kw] as [kh, kw, C]") {
  ir::Graph graph;
  const std::int64_t channels = 5, kh = 3, kw = 2;
  const ir::ValueId x = graph.add_input("x", {DType::F32, {2, channels, 6, 6}});
  const ir::ValueId w = counted(graph, {channels, 1, kh, kw});
  const auto a = window<cpu::DepthwiseConvAttributes>(kh, kw, 0);
  const ir::NodeId id = graph.add_node(ops::kDepthwiseConv, {x, w}, ir::AttributeBlob::of(a), {});
  ops::kDepthwiseConv.pack(graph, id);
  const ir::Value& packed = graph.value(graph.node(id).inputs[1]);
  REQUIRE(packed.type.dims == Dims{kh, kw, channels});
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t tap = 0; tap < kh * kw; ++tap) {
      REQUIRE(packed.constant.as<float>()[tap * channels + c] == static_cast<float>(c * kh * kw + tap + 1));
    }
  }
  verify(graph);
}

TEST_CASE("MatMul packs constants and gives a computed matrix its left operand's rank") {
  ir::Graph graph;
  const ir::ValueId a = graph.add_input("a", {DType::F32, {2, 3, 4, 5}});
  const ir::ValueId b = counted(graph, {5, 18});
  const ir::ValueId computed = graph.add_input("b", {DType::F32, {5, 18}});
  const ir::AttributeBlob blob = ir::AttributeBlob::of(cpu::MatMulAttributes{});
  const ir::NodeId constant = graph.add_node(ops::kMatMul, {a, b, ir::kNone, ir::kNone}, blob, {});
  const ir::NodeId dynamic = graph.add_node(ops::kMatMul, {a, computed, ir::kNone, ir::kNone}, blob, {});
  ops::kMatMul.pack(graph, constant);
  ops::kMatMul.pack(graph, dynamic);
  const ir::Value& packed = graph.value(graph.node(constant).inputs[1]);
  REQUIRE(packed.type.dims == Dims{1, 5, 18});
  for (std::int64_t k = 0; k < 5; ++k) {
    for (std::int64_t n = 0; n < 18; ++n) REQUIRE(panel_element(packed, 0, k, n) == static_cast<float>(k * 18 + n + 1));
  }
  CHECK(graph.value(graph.node(dynamic).inputs[1]).type.dims == Dims{2, 3, 5, 18});
  CHECK(graph.value(graph.node(dynamic).outputs[0]).type.dims == Dims{2, 3, 4, 18});
  verify(graph);
}

TEST_CASE("Weights that only a run knows cannot be packed") {
  ir::Graph graph;
  const ir::ValueId x = graph.add_input("x", {DType::F32, {1, 1, 4, 4}});
  const ir::ValueId w = graph.add_input("w", {DType::F32, {2, 1, 3, 3}});
  auto a = window<cpu::ConvAttributes>(3, 3, 0);
  a.groups = 1;
  const ir::NodeId id = graph.add_node(ops::kConv, {x, w}, ir::AttributeBlob::of(a), {});
  CHECK_THROWS_AS(ops::kConv.pack(graph, id), ir::BuildError);
}

TEST_CASE("Dense operators refuse operands and attributes that don't fit") {
  ir::Graph graph;
  const ir::ValueId x = graph.add_input("x", {DType::F32, {1, 4, 5, 5}});
  const ir::ValueId halves = graph.add_input("h", {DType::F16, {1, 4, 5, 5}});
  const ir::ValueId w = graph.add_input("w", {DType::F32, {6, 4, 3, 3}});
  const ir::ValueId bias = graph.add_input("bias", {DType::F32, {5}});
  const ir::ValueId residual = graph.add_input("r", {DType::F32, {1, 6, 3, 3}});
  const auto refused = [&](std::vector<ir::ValueId> inputs, const cpu::ConvAttributes& a) {
    CHECK_THROWS_AS(graph.add_node(ops::kConv, std::move(inputs), ir::AttributeBlob::of(a), {}), ir::BuildError);
  };
  auto good = window<cpu::ConvAttributes>(3, 3, 0);
  good.groups = 1;
  CHECK_NOTHROW(graph.add_node(ops::kConv, {x, w}, ir::AttributeBlob::of(good), {}));
  refused({x}, good);
  refused({halves, w}, good);
  refused({x, w, bias}, good);
  refused({x, w, ir::kNone, residual}, good);  // a residual, but no mode
  auto bad = good;
  bad.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  CHECK_NOTHROW(graph.add_node(ops::kConv, {x, w, ir::kNone, residual}, ir::AttributeBlob::of(bad), {}));
  refused({x, w}, bad);
  bad = good;
  bad.epilogue.activation = scalar::PointwiseOp::Add;
  refused({x, w}, bad);
  for (const std::int32_t groups : {0, -1, 2, 3}) {
    bad = good;
    bad.groups = groups;
    refused({x, w}, bad);
  }
  bad = good;
  bad.stride[1] = 0;
  refused({x, w}, bad);
  bad = good;
  bad.dilation[0] = 3;  // spans 7 rows of 5
  refused({x, w}, bad);
  bad = good;
  bad.kernel[0] = INT32_MAX;
  bad.dilation[0] = INT32_MAX;
  refused({x, w}, bad);
}
