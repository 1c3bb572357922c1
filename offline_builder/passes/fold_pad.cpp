// SPDX-License-Identifier: Apache-2.0
// A constant Pad of rows and columns right before a window operator that can pad by itself.
#include <algorithm>
#include <cstring>
#include <limits>

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/pad.h"
#include "edgert/cpu/ops/pool.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

/// The Pad node behind `id` when it only adds rows and columns of `value` to f32 images.
const cpu::PadAttributes* image_pad(const Graph& graph, ValueId id, float value) {
  const Node* pad = graph.producer(id);
  if (!is(pad, ops::kPad) || type_of(graph, id).dtype != DType::F32 || dims_of(graph, id).size() != 4) return nullptr;
  if (graph.is_bounded(pad->inputs[0])) return nullptr;  // it fills up what only a run knows
  const auto& attributes = pad->as<cpu::PadAttributes>();
  if (attributes.mode != cpu::PadMode::Constant || std::memcmp(attributes.value, &value, sizeof(value)) != 0)
    return nullptr;
  for (std::size_t i = 0; i < 2; ++i) {
    if (attributes.before[i] != 0 || attributes.after[i] != 0) return nullptr;
  }
  return &attributes;
}

/// Adds the pad's rows and columns to the operator's own; false when they don't fit.
template <class Attributes>
bool widen(const cpu::PadAttributes& pad, Attributes& attributes) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  for (std::size_t i = 0; i < 2; ++i) {
    const std::int64_t begin = pad.before[i + 2] + attributes.pad_begin[i];
    const std::int64_t end = pad.after[i + 2] + attributes.pad_end[i];
    if (begin > kMost || end > kMost) return false;
    attributes.pad_begin[i] = static_cast<std::int32_t>(begin);
    attributes.pad_end[i] = static_cast<std::int32_t>(end);
  }
  return true;
}

template <class Attributes>
std::optional<ir::AttributeBlob> widened_convolution(const Graph& graph, const Node& node) {
  const cpu::PadAttributes* pad = image_pad(graph, node.inputs[0], 0.0f);
  auto attributes = node.as<Attributes>();
  if (pad == nullptr || !widen(*pad, attributes)) return std::nullopt;
  return ir::AttributeBlob::of(attributes);
}

std::optional<ir::AttributeBlob> widened_pool(const Graph& graph, const Node& node) {
  auto attributes = node.as<cpu::PoolAttributes>();
  const bool maximum = attributes.kind == cpu::PoolKind::Max;
  // Rounding up places the last window by where the declared padding begins.
  if (attributes.ceil_mode != 0) return std::nullopt;
  const cpu::PadAttributes* pad =
      image_pad(graph, node.inputs[0], maximum ? -std::numeric_limits<float>::infinity() : 0.0f);
  if (pad == nullptr) return std::nullopt;
  if (!maximum && attributes.count_include_pad == 0) {
    // Padded zeros were elements of the image; declared padding would not have been.
    const auto is_zero = [](std::int32_t extent) { return extent == 0; };
    if (!std::all_of(attributes.pad_begin, attributes.pad_begin + 2, is_zero)) return std::nullopt;
    if (!std::all_of(attributes.pad_end, attributes.pad_end + 2, is_zero)) return std::nullopt;
    attributes.count_include_pad = 1;
  }
  if (!widen(*pad, attributes)) return std::nullopt;
  return ir::AttributeBlob::of(attributes);
}

std::optional<ir::AttributeBlob> widened(const Graph& graph, const Node& node) {
  if (node.op == &ops::kConv) return widened_convolution<cpu::ConvAttributes>(graph, node);
  if (node.op == &ops::kDepthwiseConv) return widened_convolution<cpu::DepthwiseConvAttributes>(graph, node);
  if (node.op == &ops::kPool) return widened_pool(graph, node);
  return std::nullopt;
}

}  // namespace

void explain_fold_pad(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const bool is_pool = node.op == &ops::kPool;
    if (!is_pool && node.op != &ops::kConv && node.op != &ops::kDepthwiseConv) continue;
    const Node* pad = graph.producer(node.inputs[0]);
    if (!is(pad, ops::kPad)) continue;
    const auto& attributes = pad->as<cpu::PadAttributes>();
    const char* reason = is_pool ? "the pool would count or round otherwise" : "it pads with something else than zeros, or more than rows and columns";
    if (attributes.mode != cpu::PadMode::Constant) reason = "it pads with elements of the image";
    refusals.push_back({"fold_pad", names_of(*pad), names_of(node), reason});
  }
}

int fold_pad(ir::Graph& graph) {
  int folded = 0;
  for (const NodeId id : graph.topological_order()) {
    // Once more for a Pad of a Pad.
    while (const std::optional<ir::AttributeBlob> attributes = widened(graph, graph.node(id))) {
      const ValueId padded = graph.node(id).inputs[0];
      const Node& pad = *graph.producer(padded);
      std::vector<ValueId> inputs = graph.node(id).inputs;
      inputs[0] = pad.inputs[0];
      if (!makes(graph, *graph.node(id).op, inputs, *attributes, type_of(graph, graph.node(id).outputs[0]))) break;
      const std::vector<std::string> provenance = pad.provenance;
      graph.set_input(id, 0, inputs[0]);
      graph.set_attributes(id, *attributes);
      graph.add_provenance(id, provenance);
      prune(graph, padded);
      ++folded;
    }
  }
  return folded;
}

}  // namespace edgert::passes
