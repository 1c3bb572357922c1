// SPDX-License-Identifier: Apache-2.0
// Products of one input with several constant matrices (queries, keys and values) are one product with the matrices side
// by side, of which each takes its part; so are convolutions of one input with the same window. One kernel instead of
// several, the input read once. Only where every reader can read its part in place.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <set>

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/matmul.h"
#include "ir/windows.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

using ops::StridedView;

/// Parts begin where kernels can load eight elements at once.
constexpr std::int64_t kPartMultiple = 8;

/// Which dimension of the result the constants decide, and how the result lies in memory.
struct Form {
  std::size_t axis;
  std::vector<std::uint8_t> order;
};

Form form_of(const Graph& graph, const Node& node) {
  if (node.op == &ops::kConv) return {1, {0, 2, 3, 1}};
  return {dims_of(graph, node.outputs[0]).size() - 1, {}};
}

scalar::Epilogue epilogue_of(const Node& node) {
  return node.op == &ops::kConv ? node.as<cpu::ConvAttributes>().epilogue : node.as<cpu::MatMulAttributes>().epilogue;
}

/// A constant that lies dense.
bool is_dense_constant(const Graph& graph, ValueId id) {
  const ir::Value& value = graph.value(id);
  return value.is_constant() && value.format == WeightFormat::Strided && value.type.dtype == DType::F32;
}

/// Whether everybody who reads `value` finds it as well where it lies as `part` says instead of `whole`.
bool readers_take(const Graph& graph, ValueId value, const StridedView& whole, const StridedView& part) {
  if (graph.is_output(value)) return false;
  for (const NodeId user : graph.users(value)) {
    const Node& node = graph.node(user);
    // What goes into a Concat is written there by whoever computes it, and a part could not be.
    if (ir::is_concat(*node.op) || node.op->layout == ops::LayoutRule::RowMajor || !node.bodies.empty()) return false;
    if (node.op->view == nullptr) continue;
    const ir::Dims& dims = dims_of(graph, node.outputs[0]);
    const std::optional<StridedView> of_whole = node.op->view(node.attributes, whole, dims);
    const std::optional<StridedView> of_part = node.op->view(node.attributes, part, dims);
    if (of_whole && !of_part) return false;
    if (of_whole && !readers_take(graph, node.outputs[0], *of_whole, *of_part)) return false;
  }
  return true;
}

/// Why the node is joined with no other; null where it may be.
const char* own_refusal(const Graph& graph, const Node& node) {
  if (node.op == &ops::kConv && node.as<cpu::ConvAttributes>().groups != 1) return "it has groups";
  if (!is_dense_constant(graph, node.inputs[1])) return "its weights are not constant";
  if (node.op == &ops::kMatMul && dims_of(graph, node.inputs[1]).size() != 2) return "its weights are a batch of matrices";
  if (epilogue_of(node).residual != scalar::ResidualMode::None) return "it adds a residual";
  const ValueId bias = node.inputs.size() > 2 ? node.inputs[2] : kNone;
  const ValueId y = node.outputs[0];
  if (bias != kNone && !is_dense_constant(graph, bias)) return "its bias is not constant";
  if (graph.is_bounded(y)) return "only a run knows its extents";
  return dims_of(graph, y)[form_of(graph, node).axis] % kPartMultiple == 0 ? nullptr : "its width is no multiple of 8";
}

/// Whether the node's readers take its result as a part of one that is `total` wide.
bool takes_part(const Graph& graph, const Node& node, std::int64_t total) {
  const Form form = form_of(graph, node);
  const ir::Dims& dims = dims_of(graph, node.outputs[0]);
  ir::Dims joined = dims;
  joined[form.axis] = total;
  return readers_take(graph, node.outputs[0], {0, dims, ir::ordered_strides(dims, form.order)}, {0, dims, ir::ordered_strides(joined, form.order)});
}

/// Matrices [K, N] side by side, filters [M, ...] or biases [N] one behind the other; zeros for an absent bias.
ValueId joined_constant(Graph& graph, const std::vector<NodeId>& nodes, std::size_t input, std::size_t axis) {
  std::vector<float> values;
  ir::Dims dims;
  std::int64_t total = 0;
  std::string name;
  struct Source {
    const float* data;  ///< null: zeros
    std::int64_t extent;
  };
  std::vector<Source> sources;
  for (const NodeId id : nodes) {
    const Node& node = graph.node(id);
    const ValueId constant = input < node.inputs.size() ? node.inputs[input] : kNone;
    const std::int64_t extent = dims_of(graph, node.outputs[0])[form_of(graph, node).axis];
    sources.push_back({constant == kNone ? nullptr : graph.value(constant).constant.as<float>(), extent});
    total += extent;
    if (constant == kNone) continue;
    dims = dims_of(graph, constant);
    name = graph.value(constant).name;
  }
  if (dims.empty()) return kNone;
  dims[axis] = total;
  std::int64_t outer = 1, inner = 1;
  for (std::size_t d = 0; d < dims.size(); ++d) (d < axis ? outer : inner) *= d == axis ? 1 : dims[d];
  values.reserve(static_cast<std::size_t>(ir::element_count(dims)));
  for (std::int64_t o = 0; o < outer; ++o) {
    for (const Source& source : sources) {
      const std::int64_t count = source.extent * inner;
      if (source.data == nullptr) values.resize(values.size() + static_cast<std::size_t>(count), 0.0f);
      else values.insert(values.end(), source.data + o * count, source.data + (o + 1) * count);
    }
  }
  return add_floats(graph, name, dims, values);
}

void join(Graph& graph, const std::vector<NodeId>& nodes) {
  const Node first = graph.node(nodes[0]);
  const Form form = form_of(graph, first);
  const ValueId weights = joined_constant(graph, nodes, 1, first.op == &ops::kConv ? 0 : 1);
  const ValueId bias = joined_constant(graph, nodes, 2, 0);
  const NodeId joined = graph.add_node(*first.op, {first.inputs[0], weights, bias, kNone}, first.attributes, joined_provenance(graph, nodes));
  const ValueId y = graph.node(joined).outputs[0];
  graph.value(y).name = graph.value(first.outputs[0]).name;
  std::int64_t start = 0;
  for (const NodeId id : nodes) {
    const ValueId old = graph.node(id).outputs[0];
    ops::SliceAttributes slice{};
    slice.rank = static_cast<std::uint32_t>(dims_of(graph, old).size());
    std::fill(slice.step, slice.step + slice.rank, 1);
    const ir::Dims& dims = dims_of(graph, old);
    std::copy(dims.begin(), dims.end(), slice.size);
    slice.start[form.axis] = start;
    start += slice.size[form.axis];
    const NodeId part = graph.add_node(ops::kSlice, {y}, ir::AttributeBlob::of(slice), graph.node(id).provenance);
    take_place(graph, old, graph.node(part).outputs[0]);
  }
}

/// What siblings have in common, as a key.
std::string key_of(const Graph& graph, const Node& node) {
  ir::Dims dims = dims_of(graph, node.inputs[1]);
  dims[node.op == &ops::kConv ? 0 : 1] = 0;
  const std::vector<std::byte>& attributes = node.attributes.bytes();
  return std::string(node.op->name) + ir::to_string(dims) + std::string(reinterpret_cast<const char*>(attributes.data()), attributes.size());
}

/// The products and convolutions of `input`, each once.
std::vector<NodeId> readers_of(const Graph& graph, ValueId input) {
  std::set<NodeId> readers;
  for (const NodeId user : graph.users(input)) {
    const Node& node = graph.node(user);
    if ((node.op == &ops::kConv || node.op == &ops::kMatMul) && node.inputs[0] == input) readers.insert(user);
  }
  return {readers.begin(), readers.end()};
}

/// Those that may be joined, by what they must have in common.
std::map<std::string, std::vector<NodeId>> families_of(const Graph& graph, const std::vector<NodeId>& readers) {
  std::map<std::string, std::vector<NodeId>> families;
  for (const NodeId id : readers) {
    if (own_refusal(graph, graph.node(id)) == nullptr) families[key_of(graph, graph.node(id))].push_back(id);
  }
  return families;
}

std::int64_t width_of(const Graph& graph, const std::vector<NodeId>& nodes) {
  std::int64_t total = 0;
  for (const NodeId id : nodes) total += dims_of(graph, graph.node(id).outputs[0])[form_of(graph, graph.node(id)).axis];
  return total;
}

}  // namespace

void explain_join_siblings(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (ValueId input = 0; input < graph.value_count(); ++input) {
    const std::vector<NodeId> readers = readers_of(graph, input);
    if (readers.size() < 2) continue;
    const std::map<std::string, std::vector<NodeId>> families = families_of(graph, readers);
    for (const NodeId id : readers) {
      const Node& node = graph.node(id);
      const char* reason = own_refusal(graph, node);
      if (reason == nullptr) {
        const std::vector<NodeId>& family = families.at(key_of(graph, node));
        if (family.size() < 2) reason = "its siblings have another window or activation, or are not joined themselves";
        else if (!takes_part(graph, node, width_of(graph, family))) reason = "who reads it needs it in one piece";
        else reason = "who reads its siblings needs them in one piece";
      }
      refusals.push_back({"join_siblings", names_of(node), "", reason});
    }
  }
}

int join_siblings(ir::Graph& graph) {
  int joined = 0;
  for (ValueId input = 0; input < graph.value_count(); ++input) {
    for (auto& [key, nodes] : families_of(graph, readers_of(graph, input))) {
      // Whoever cannot be read as a part stays alone. How wide the rest is makes no difference to the others.
      const std::int64_t total = width_of(graph, nodes);
      std::vector<NodeId> parts;
      std::copy_if(nodes.begin(), nodes.end(), std::back_inserter(parts),
                   [&](NodeId id) { return takes_part(graph, graph.node(id), total); });
      if (parts.size() < 2) continue;
      join(graph, parts);
      joined += static_cast<int>(parts.size()) - 1;
    }
  }
  return joined;
}

}  // namespace edgert::passes
