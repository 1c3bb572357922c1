// SPDX-License-Identifier: Apache-2.0
// Weights in the forms that dense kernels read.
#pragma once

#include <cstring>

#include "ops/infer.h"

namespace edgert::ops {

/// The constant that input `index` of `node` is; dense kernels can pack nothing else.
inline const ir::Value& constant_weights(const ir::Graph& graph, const ir::Node& node, std::size_t index) {
  const ir::Value& value = graph.value(node.inputs.at(index));
  require(value.is_constant(), "weights '" + value.name + "' must be constant");
  return value;
}

/// Format PanelF32x16 of [groups, rows, columns]; element(group, row, column) gives the floats.
template <class Element>
ir::Bytes pack_panels(std::int64_t groups, std::int64_t rows, std::int64_t columns, Element element) {
  const std::int64_t panels = (columns + 15) / 16;
  std::vector<std::byte> bytes(static_cast<std::size_t>(ir::element_count({groups, panels, rows, 16})) * sizeof(float));
  std::byte* out = bytes.data();
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t p = 0; p < panels; ++p) {
      for (std::int64_t k = 0; k < rows; ++k) {
        float row[16] = {};
        for (std::int64_t n = p * 16; n < columns && n < p * 16 + 16; ++n) row[n - p * 16] = element(g, k, n);
        std::memcpy(out, row, sizeof(row));
        out += sizeof(row);
      }
    }
  }
  return ir::Bytes::adopt(std::move(bytes));
}

/// Input `input`, depthwise weights [C, G, kh, kw], becomes [kh, kw * G, C], rows ordered (kh, kw, g).
inline void pack_depthwise(ir::Graph& graph, ir::NodeId id, std::size_t input) {
  const ir::Value& w = constant_weights(graph, graph.node(id), input);
  if (w.type.dims.size() == 3) return;
  const std::int64_t channels = w.type.dims[0];
  const std::int64_t group = w.type.dims[1];
  const std::int64_t taps = w.type.dims[2] * w.type.dims[3];
  const float* from = w.constant.as<float>();
  std::vector<std::byte> bytes(w.constant.size());
  for (std::int64_t row = 0; row < taps * group; ++row) {
    const std::int64_t element = row % group * taps + row / group;
    for (std::int64_t c = 0; c < channels; ++c) {
      std::memcpy(bytes.data() + static_cast<std::size_t>(row * channels + c) * sizeof(float),
                  from + c * taps * group + element, sizeof(float));
    }
  }
  const ir::TensorType type{DType::F32, {w.type.dims[2], w.type.dims[3] * group, channels}};
  graph.set_input(id, input, graph.add_constant(w.name, type, ir::Bytes::adopt(std::move(bytes))));
}

}  // namespace edgert::ops
