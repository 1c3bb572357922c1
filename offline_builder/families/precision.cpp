// SPDX-License-Identifier: Apache-2.0
#include "families/precision.h"

#include <algorithm>
#include <cmath>

#include "edgert/cpu/operator.h"
#include "ir/operator_def.h"
#include "ir/windows.h"
#include "ops/definitions.h"
#include "passes/pipeline.h"

namespace edgert::families {
namespace {

using ir::kNone;
using ir::NodeId;
using ir::ValueId;

struct Named {
  Precision precision;
  const char* name;
  DType stored;
};
constexpr Named kNames[] = {
    {Precision::Fp32, "fp32", DType::F32}, {Precision::Tf32, "tf32", DType::F32}, {Precision::Fp16, "fp16", DType::F16}, {Precision::Bf16, "bf16", DType::BF16}};

/// Whether the name is what the pattern says, * standing for any characters.
bool matches(const char* pattern, const char* name) {
  if (*pattern == '*') return matches(pattern + 1, name) || (*name != '\0' && matches(pattern, name + 1));
  return *pattern == *name && (*pattern == '\0' || matches(pattern + 1, name + 1));
}

bool is_computed(const ir::Node& node) { return node.op->view == nullptr && !ir::is_concat(*node.op); }

bool has_floats(const ir::Graph& graph, const ir::Node& node) {
  const auto is_float = [&](ValueId value) { return value != kNone && graph.value(value).type.dtype == DType::F32; };
  return std::any_of(node.inputs.begin(), node.inputs.end(), is_float) || std::any_of(node.outputs.begin(), node.outputs.end(), is_float);
}

/// A constant operand of a product that f16 cannot hold; kNone where there is none.
ValueId beyond_f16(const ir::Graph& graph, const ir::Node& node) {
  if (node.op != &ops::kConv && node.op != &ops::kDepthwiseConv && node.op != &ops::kMatMul) return kNone;
  ir::Windows windows(graph);
  const std::optional<ir::Window> window = windows.find(node.inputs[1]);
  if (!window || !graph.value(window->root).is_constant() || graph.value(window->root).type.dtype != DType::F32) return kNone;
  const ir::Bytes& bytes = graph.value(window->root).constant;
  const float* begin = bytes.as<float>();
  const auto large = [](float x) { return std::fabs(x) >= 65520.0f; };
  return std::any_of(begin, begin + bytes.size() / sizeof(float), large) ? window->root : kNone;
}

}  // namespace

const char* name_of(Precision precision) {
  for (const Named& each : kNames) {
    if (each.precision == precision) return each.name;
  }
  return "";
}

std::optional<Precision> precision_named(const std::string& name) {
  for (const Named& each : kNames) {
    if (name == each.name) return each.precision;
  }
  return std::nullopt;
}

DType stored_as(Precision precision) { return kNames[static_cast<std::size_t>(precision)].stored; }

PrecisionRequest::PrecisionRequest(DType stored) {
  const auto is_stored = [stored](const Named& each) { return each.stored == stored; };
  const Named* found = std::find_if(std::begin(kNames), std::end(kNames), is_stored);
  if (found == std::end(kNames)) throw ir::BuildError(std::string("nothing computes in ") + to_string(stored));
  allowed = {found->precision};
}

Precisions::Precisions(const ir::Graph& graph, const PrecisionRequest& request) : default_(request.allowed.at(0)), nodes_(graph.node_count(), default_) {
  std::vector<bool> used(request.layers.size(), false);
  for (NodeId id = 0; id < graph.node_count(); ++id) {
    const ir::Node& node = graph.node(id);
    if (!node.alive || !is_computed(node) || !has_floats(graph, node)) continue;
    std::optional<Precision> pinned;
    std::string by;
    for (const std::string& name : node.provenance) {
      for (std::size_t i = request.layers.size(); i-- > 0;) {
        const auto& [pattern, precision] = request.layers[i];
        if (!matches(pattern.c_str(), name.c_str())) continue;
        used[i] = true;
        if (pinned && *pinned != precision) {
          throw ir::BuildError("'" + by + "' and '" + name + "' are one step of the plan, but are to compute in " + name_of(*pinned) + " and " + name_of(precision));
        }
        pinned = precision, by = name;
        break;
      }
    }
    if (pinned) nodes_[id] = *pinned;
    const ValueId large = nodes_[id] == Precision::Fp16 ? beyond_f16(graph, node) : kNone;
    if (large == kNone) continue;
    const auto other = std::find_if(request.allowed.begin(), request.allowed.end(), [](Precision p) { return p != Precision::Fp16; });
    if (pinned || other == request.allowed.end()) {
      throw ir::BuildError("constant '" + graph.value(large).name + "' has elements beyond the range of f16; allow another precision, as in --precision fp16,bf16");
    }
    nodes_[id] = *other;
  }
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) throw ir::BuildError("layer precision: no step that computes floats comes from a node '" + request.layers[i].first + "'");
  }
}

void Precisions::apply(ir::Graph& graph) {
  if (stored_as(default_) != DType::F32) passes::narrow_floats(graph, stored_as(default_));
  const std::size_t count = nodes_.size();
  ir::Windows before(graph);
  const auto stored = [&](ValueId id) {
    ir::Windows windows(graph);
    const std::optional<ir::Window> window = windows.find(id);
    return window ? graph.value(window->root).stored_type() : DType::Undefined;
  };
  const auto add_copy = [&](ValueId source, DType type, const std::vector<std::string>& provenance) {
    const NodeId copy = graph.add_node(ops::kCopy, {source}, ir::AttributeBlob::of(cpu::NoAttributes{}), provenance);
    ir::Value& out = graph.value(graph.node(copy).outputs[0]);
    out.order = graph.value(source).order;
    out.stored = type == DType::F32 ? DType::Undefined : type;
    out.name = graph.value(source).name;
    return graph.node(copy).outputs[0];
  };
  for (const NodeId id : graph.topological_order()) {
    if (id >= count || nodes_[id] == default_ || !graph.node(id).alive) continue;
    const DType wanted = stored_as(nodes_[id]);
    const std::vector<std::string> provenance = graph.node(id).provenance;
    for (std::size_t i = 0; i < graph.node(id).inputs.size(); ++i) {
      ValueId input = graph.node(id).inputs[i];
      if (input == kNone || graph.value(input).is_constant() || graph.value(input).type.dtype != DType::F32) continue;
      if (graph.value(input).format != WeightFormat::Strided || stored(input) == wanted) continue;
      // What a neighbour of the same precision made is read as it was before its conversion.
      const ir::Node* producer = graph.producer(input);
      const bool converted = producer != nullptr && producer->op == &ops::kCopy && stored(producer->inputs[0]) == wanted;
      graph.set_input(id, i, converted ? producer->inputs[0] : add_copy(input, wanted, provenance));
    }
    for (std::size_t o = 0; o < graph.node(id).outputs.size(); ++o) {
      const ValueId output = graph.node(id).outputs[o];
      if (graph.value(output).type.dtype != DType::F32 || stored(output) == wanted) continue;
      const DType outside = stored(output);
      const std::vector<NodeId> readers = graph.users(output);
      const ValueId copy = add_copy(output, outside, provenance);
      for (const NodeId reader : readers) {
        for (std::size_t i = 0; i < graph.node(reader).inputs.size(); ++i) {
          if (graph.node(reader).inputs[i] == output) graph.set_input(reader, i, copy);
        }
      }
      for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
        if (graph.outputs()[i].value == output) graph.set_output(i, copy);
      }
      graph.value(output).stored = wanted == DType::F32 ? DType::Undefined : wanted;
    }
  }
}

}  // namespace edgert::families
