// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 1 by Winograd's algorithm, where the fewer multiplications outweigh the transforms and the
// larger weights: with tiles of 4x4 a quarter of the products and 4 times the weights, with 2x2 1/2.25 and 1.8 times.
#include <array>
#include <cstring>

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/winograd_conv.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

/// Below these the transforms, which are linear in the channels, cost more than the products save.
constexpr std::int64_t kFewestInputs = 32;
constexpr std::int64_t kFewestOutputs = 32;
/// Each weight is loaded for the products of all tiles; with fewer tiles than these, loading is what bounds.
constexpr std::int64_t kFewestTiles[2] = {32, 40};

/// Rows of G for tiles of 2x2 and 4x4: the points 0, 1, -1 (, 2, -2) and infinity.
constexpr double kWeights2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
constexpr double kWeights4[6][3] = {{1.0 / 4, 0, 0},
                                    {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                    {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                    {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                    {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                    {0, 0, 1}};

std::int64_t tiles_of(const ir::Dims& y, std::int64_t tile) {
  return y[0] * ((y[2] + tile - 1) / tile) * ((y[3] + tile - 1) / tile);
}

bool is_unit(const std::int32_t (&pair)[2], std::int32_t value) { return pair[0] == value && pair[1] == value; }

/// Whether the algorithm could compute the node at all.
bool is_candidate(const Graph& graph, const Node& node) {
  if (node.op != &ops::kConv) return false;
  const auto& a = node.as<cpu::ConvAttributes>();
  if (!is_unit(a.kernel, 3) || !is_unit(a.stride, 1) || !is_unit(a.dilation, 1) || a.groups != 1) return false;
  const ir::Value& w = graph.value(node.inputs[1]);
  return w.is_constant() && w.format == WeightFormat::Strided;
}

/// Outputs a side of a tile, or why the definition is the better way.
struct Choice {
  int tile;
  const char* reason;
};
Choice tile_for(const Graph& graph, const Node& node) {
  const ir::Dims& x = dims_of(graph, node.inputs[0]);
  const ir::Dims& y = dims_of(graph, node.outputs[0]);
  if (x[1] % 16 != 0) return {0, "its input channels are no multiple of 16"};
  if (x[1] < kFewestInputs || y[1] < kFewestOutputs) return {0, "it has too few channels for the transforms to pay off"};
  if (tiles_of(y, 4) >= kFewestTiles[1]) return {4, nullptr};
  if (tiles_of(y, 2) >= kFewestTiles[0]) return {2, nullptr};
  return {0, "its image is too small for the larger weights to pay off"};
}

/// G g G^T of every filter in panels, written where they belong: the tensor in between would be as large again.
ir::Bytes transformed(const ir::Value& w, int tile) {
  const double(*rows)[3] = tile == 2 ? kWeights2 : kWeights4;
  const auto side = static_cast<std::size_t>(tile + 2);
  const std::int64_t outputs = w.type.dims[0], inputs = w.type.dims[1];
  const std::int64_t panels = (outputs + 15) / 16;
  const auto position = static_cast<std::size_t>(ir::element_count({panels, inputs, 16})) * sizeof(float);
  const float* from = w.constant.as<float>();
  std::vector<std::byte> bytes(side * side * position);  // [position][panel][input][16]
  for (std::int64_t m = 0; m < outputs; ++m) {
    for (std::int64_t c = 0; c < inputs; ++c) {
      const float* g = from + (m * inputs + c) * 9;
      std::array<std::array<double, 3>, 6> half{};
      for (std::size_t i = 0; i < side; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
          for (std::size_t k = 0; k < 3; ++k) half[i][j] += rows[i][k] * static_cast<double>(g[k * 3 + j]);
        }
      }
      std::byte* to = bytes.data() + static_cast<std::size_t>((m / 16 * inputs + c) * 16 + m % 16) * sizeof(float);
      for (std::size_t i = 0; i < side; ++i) {
        for (std::size_t j = 0; j < side; ++j, to += position) {
          double sum = 0;
          for (std::size_t k = 0; k < 3; ++k) sum += half[i][k] * rows[j][k];
          const auto value = static_cast<float>(sum);
          std::memcpy(to, &value, sizeof(value));
        }
      }
    }
  }
  return ir::Bytes::spill(std::move(bytes));
}

void replace(Graph& graph, NodeId id, int tile) {
  const Node& node = graph.node(id);
  const auto& a = node.as<cpu::ConvAttributes>();
  cpu::WinogradConvAttributes attributes{};
  attributes.tile = tile;
  for (int i = 0; i < 2; ++i) {
    attributes.pad_begin[i] = a.pad_begin[i];
    attributes.pad_end[i] = a.pad_end[i];
  }
  attributes.epilogue = a.epilogue;
  const ir::Value& w = graph.value(node.inputs[1]);
  const ir::TensorType type{DType::F32, {(tile + 2) * (tile + 2), w.type.dims[1], w.type.dims[0]}};
  ir::Bytes bytes = transformed(w, tile);
  std::vector<ValueId> inputs = node.inputs;
  const ValueId y = node.outputs[0];
  const std::vector<std::string> provenance = node.provenance;
  inputs[1] = graph.add_constant(w.name, type, std::move(bytes), WeightFormat::PanelF32x16);
  const NodeId fresh = graph.add_node(ops::kWinogradConv, inputs, ir::AttributeBlob::of(attributes), provenance);
  take_place(graph, y, graph.node(fresh).outputs[0]);
}

}  // namespace

int choose_winograd(ir::Graph& graph) {
  int replaced = 0;
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    if (!node.alive || !is_candidate(graph, node)) continue;
    const int tile = tile_for(graph, node).tile;
    if (tile == 0) continue;
    replace(graph, id, tile);
    ++replaced;
  }
  return replaced;
}

void explain_choose_winograd(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    if (!is_candidate(graph, graph.node(id))) continue;
    refusals.push_back({"choose_winograd", names_of(graph.node(id)), "", tile_for(graph, graph.node(id)).reason});
  }
}

}  // namespace edgert::passes
