// SPDX-License-Identifier: Apache-2.0
#include "families/precision.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

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

Precisions::Precisions(const ir::Graph& graph, const PrecisionRequest& request) : default_(request.allowed.at(0)), nodes_(graph.node_count(), default_), pinned_(graph.node_count(), false) {
  std::vector<bool> used(request.layers.size(), false);
  for (NodeId id = 0; id < graph.node_count(); ++id) {
    const ir::Node& node = graph.node(id);
    if (!node.alive || !is_computed(node) || !has_floats(graph, node)) continue;
    std::optional<Precision> pinned;
    std::string by;
    for (const std::string& name : node.provenance) {
      std::optional<Precision> own;
      for (std::size_t i = 0; i < request.layers.size(); ++i) {
        if (!matches(request.layers[i].first.c_str(), name.c_str())) continue;
        used[i] = true;
        own = request.layers[i].second;
      }
      if (!own) continue;
      if (pinned && *pinned != *own) {
        throw ir::BuildError("'" + by + "' and '" + name + "' are one step of the plan, but are to compute in " + name_of(*pinned) + " and " + name_of(*own));
      }
      pinned = own, by = name;
    }
    if (pinned) nodes_[id] = *pinned, pinned_[id] = true;
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

namespace {

/// Gives the values around nodes that differ from the default the types that these want.
class Converter {
 public:
  Converter(ir::Graph& graph, const Precisions& precisions) : graph_(graph), precisions_(precisions) {}

  void run() {
    const std::vector<NodeId> order = graph_.topological_order();
    for (const NodeId id : order) {
      if (differs(id)) convert_outputs(id);
    }
    for (const NodeId id : order) {
      if (graph_.node(id).alive && is_computed(graph_.node(id))) convert_inputs(id);
    }
  }

 private:
  bool differs(NodeId id) const { return graph_.node(id).alive && precisions_.of(id) != precisions_.of_all(); }

  /// The value whose storage this one lies in; kNone for packed constants.
  ValueId root_of(ValueId id) const {
    ir::Windows windows(graph_);
    const std::optional<ir::Window> window = windows.find(id);
    return window ? window->root : kNone;
  }

  bool is_bound(ValueId root) const {
    const auto lies_there = [&](const ir::Graph::Output& output) { return root_of(output.value) == root; };
    return std::any_of(graph_.outputs().begin(), graph_.outputs().end(), lies_there);
  }

  ValueId add_copy(ValueId source, DType type, const std::vector<std::string>& provenance) {
    const NodeId copy = graph_.add_node(ops::kCopy, {source}, ir::AttributeBlob::of(cpu::NoAttributes{}), provenance);
    ir::Value& out = graph_.value(graph_.node(copy).outputs[0]);
    out.order = graph_.value(source).order;
    out.stored = type == DType::F32 ? DType::Undefined : type;
    out.name = graph_.value(source).name;
    return graph_.node(copy).outputs[0];
  }

  /// Views of a result have its type. Where it is a part of a larger storage, or of an output, that one has its own type.
  void convert_outputs(NodeId id) {
    const DType wanted = stored_as(precisions_.of(id));
    const std::vector<ValueId> outputs = graph_.node(id).outputs;
    for (const ValueId output : outputs) {
      if (graph_.value(output).type.dtype != DType::F32) continue;
      const ValueId root = root_of(output);
      const DType outside = graph_.value(root).stored_type();
      if (outside == wanted) continue;
      if (root != output || is_bound(root)) {
        const std::vector<NodeId> readers = graph_.users(output);
        const ValueId copy = add_copy(output, outside, graph_.node(id).provenance);
        for (const NodeId reader : readers) {
          for (std::size_t i = 0; i < graph_.node(reader).inputs.size(); ++i) {
            if (graph_.node(reader).inputs[i] == output) graph_.set_input(reader, i, copy);
          }
        }
        for (std::size_t i = 0; i < graph_.outputs().size(); ++i) {
          if (graph_.outputs()[i].value == output) graph_.set_output(i, copy);
        }
      }
      graph_.value(output).stored = wanted == DType::F32 ? DType::Undefined : wanted;
      made_.insert(output);
    }
  }

  void convert_inputs(NodeId id) {
    if (graph_.node(id).op == &ops::kCopy) return;  // which converts itself
    const DType wanted = stored_as(precisions_.of(id));
    for (std::size_t i = 0; i < graph_.node(id).inputs.size(); ++i) {
      const ValueId input = graph_.node(id).inputs[i];
      if (input == kNone || graph_.value(input).type.dtype != DType::F32 || graph_.value(input).format != WeightFormat::Strided) continue;
      const ValueId root = root_of(input);
      const ir::Value& storage = graph_.value(root);
      if (storage.is_constant() || storage.stored_type() == wanted || (!differs(id) && made_.count(root) == 0)) continue;
      const auto [found, added] = copies_.emplace(std::make_pair(input, wanted), kNone);
      if (added) found->second = add_copy(input, wanted, graph_.node(id).provenance);
      graph_.set_input(id, i, found->second);
    }
  }

  ir::Graph& graph_;
  const Precisions& precisions_;
  std::set<ValueId> made_;  ///< by nodes that differ
  std::map<std::pair<ValueId, DType>, ValueId> copies_;
};

}  // namespace

void Precisions::keep_wide(ir::Graph& graph, NodeId id) {
  nodes_.at(id) = Precision::Fp32;
  ir::Windows windows(graph);
  std::vector<ValueId> operands = graph.node(id).inputs;
  operands.insert(operands.end(), graph.node(id).outputs.begin(), graph.node(id).outputs.end());
  for (const ValueId operand : operands) {
    const std::optional<ir::Window> window = operand == kNone ? std::nullopt : windows.find(operand);
    if (window && graph.value(window->root).type.dtype == DType::F32) graph.value(window->root).stored = DType::F32;
  }
}

void Precisions::apply(ir::Graph& graph) const {
  if (stored_as(default_) != DType::F32) passes::narrow_floats(graph, stored_as(default_), pinned_);
  Converter(graph, *this).run();
}

}  // namespace edgert::families
