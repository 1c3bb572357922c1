// SPDX-License-Identifier: Apache-2.0
#include <sstream>

#include "ir/graph.h"
#include "ir/operator_def.h"

namespace edgert::ir {
namespace {

std::string value_label(const Graph& graph, ValueId id) {
  if (id == kNone) return "-";
  const Value& value = graph.value(id);
  std::string label = "%" + std::to_string(id) + ":" + to_string(value.type);
  if (!value.order.empty()) {
    label += "@";
    for (const std::uint8_t dim : value.order) label += static_cast<char>('0' + dim);
  }
  for (const Extent& extent : value.extents) {
    label += " d" + std::to_string(extent.dim) + "<=%" + std::to_string(extent.actual);
  }
  if (value.is_constant()) label += " const";
  return label;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string to_text(const Graph& graph) {
  std::ostringstream out;
  for (const ValueId id : graph.inputs()) out << "input  " << value_label(graph, id) << "  " << graph.value(id).name << "\n";
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) out << (i ? ", " : "") << value_label(graph, node.outputs[i]);
    out << " = " << node.op->name << "(";
    for (std::size_t i = 0; i < node.inputs.size(); ++i) out << (i ? ", " : "") << value_label(graph, node.inputs[i]);
    out << ")";
    if (node.op->describe != nullptr) out << " {" << node.op->describe(node.attributes) << "}";
    for (const std::string& name : node.provenance) out << "  # " << name;
    out << "\n";
    for (const Graph& body : node.bodies) {
      std::istringstream lines(to_text(body));
      for (std::string line; std::getline(lines, line);) out << "  | " << line << "\n";
    }
  }
  for (const Graph::Output& output : graph.outputs()) out << "output %" << output.value << "  " << output.name << "\n";
  for (const Graph::State& state : graph.states()) {
    out << "state  %" << state.input << " = %" << state.output << "  " << state.name << "\n";
  }
  return out.str();
}

std::string to_dot(const Graph& graph) {
  std::ostringstream out;
  out << "digraph \"" << escaped(graph.name) << "\" {\n  node [shape=box, fontname=monospace];\n";
  const auto source = [&](ValueId id) {
    const NodeId producer = graph.value(id).producer;
    return producer == kNone ? "v" + std::to_string(id) : "n" + std::to_string(producer);
  };
  for (const ValueId id : graph.inputs()) {
    out << "  v" << id << " [shape=ellipse, label=\"" << escaped(graph.value(id).name) << "\"];\n";
  }
  for (const NodeId id : graph.topological_order()) {
    const Node& node = graph.node(id);
    const std::string text = node.op->describe != nullptr ? node.op->describe(node.attributes) : "";
    out << "  n" << id << " [label=\"" << node.op->name << "\\n" << escaped(text) << "\"];\n";
    for (const ValueId input : node.inputs) {
      if (input == kNone || graph.value(input).is_constant()) continue;
      out << "  " << source(input) << " -> n" << id << " [label=\"" << to_string(graph.value(input).type) << "\"];\n";
    }
  }
  for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
    const Graph::Output& output = graph.outputs()[i];
    out << "  o" << i << " [shape=ellipse, label=\"" << escaped(output.name) << "\"];\n";
    out << "  " << source(output.value) << " -> o" << i << ";\n";
  }
  out << "}\n";
  return out.str();
}

}  // namespace edgert::ir
