// SPDX-License-Identifier: Apache-2.0
// Names and problems: what names stand for, and how a problem gets into the list.
#include "onnx/importer.h"
#include "onnx/text.h"
#include "ops/bounded.h"

namespace edgert::onnx_import {
namespace {

// Nobody reads more, and a hostile model must not fill the memory with messages.
constexpr std::size_t kMaxProblems = 10'000;

/// A name of the model with the calls that lead to it.
std::string name_in(const Frame& frame, std::string_view name) {
  return printable(frame.prefix + std::string(name.substr(0, kMaxNameBytes)));
}

}  // namespace

void Importer::report(const Call& call, const std::string& reason) {
  if (!reported_.emplace(&call.node, reason).second) return;
  problems_.push_back({call.name, call.node.op_type(), call.domain, call.opset, reason});
  if (problems_.size() >= kMaxProblems) throw ImportError(data_.name, std::move(problems_));
}

void Importer::report(const std::string& what, const std::string& reason) {
  if (!reported_.emplace(nullptr, what + ": " + reason).second) return;
  problems_.push_back({what, "", "", 0, reason});
  if (problems_.size() >= kMaxProblems) throw ImportError(data_.name, std::move(problems_));
}

std::string Importer::name_of(const proto::NodeProto& node, const Frame& frame) const {
  std::string_view name = node.name();
  for (int i = 0; name.empty() && i < node.output_size(); ++i) name = node.output(i);
  if (name.empty()) name = node.op_type();
  return name_in(frame, name);
}

void Importer::define(Scope& scope, std::string_view name, Binding binding, const Call* call) {
  if (name.empty()) return;
  if (scope.names.emplace(name, binding).second) return;
  const std::string reason = "the name " + quoted(name) + " is defined twice";
  if (call != nullptr) {
    report(*call, reason);
  } else {
    report("the graph", reason);
  }
}

void Importer::define_initializers(const proto::GraphProto& graph, Scope& scope) {
  const auto add = [&](const std::string& name, const void* key) {
    Binding binding;
    binding.state = Binding::State::Tensor;
    binding.tensor = &data_.tensors.at(key);
    // An input that was given a shape or a value comes first and hides the initializer of its name.
    const auto it = scope.names.find(name);
    if (it != scope.names.end() && it->second.tensor == nullptr) return;
    define(scope, name, binding, nullptr);
    if (binding.tensor->malformed) {
      report("initializer " + quoted(name), binding.tensor->error);
      scope.names[name].state = Binding::State::Failed;
    }
  };
  for (const auto& tensor : graph.initializer()) add(tensor.name(), &tensor);
  for (const auto& sparse : graph.sparse_initializer()) add(sparse.values().name(), &sparse);
}

Binding* Importer::find(Scope& scope, std::string_view name) {
  const auto it = scope.names.find(name);
  if (it != scope.names.end()) {
    if (it->second.state == Binding::State::Tensor) materialize(name, it->second, *scope.graph);
    return &it->second;
  }
  if (scope.parent == nullptr) return nullptr;
  Binding* outer = find(*scope.parent, name);
  if (outer == nullptr || scope.body == nullptr || outer->state != Binding::State::Value) return outer;
  const auto [at, added] = scope.captures.emplace(name, *outer);
  if (added) at->second.id = capture(*scope.body, *scope.parent->graph, outer->id);
  return &at->second;
}

ir::ValueId Importer::capture(Body& body, const ir::Graph& around, ir::ValueId id) {
  const auto known = body.known.find(id);
  if (known != body.known.end()) return known->second;
  const ir::Value& value = around.value(id);
  if (value.is_constant()) {
    return body.known[id] = body.graph.add_constant(value.name, value.type, value.constant, value.format);
  }
  std::vector<ir::Extent> extents;
  for (const ir::Extent& extent : value.extents) extents.push_back({extent.dim, capture_extent(body, around, extent.actual)});
  const ir::ValueId inner = body.graph.add_input(value.name, value.type);
  body.graph.value(inner).extents = std::move(extents);
  body.captured.push_back(id);
  return body.known[id] = inner;
}

ir::ValueId Importer::capture_extent(Body& body, const ir::Graph& around, ir::ValueId actual) {
  for (const ir::ValueId known : body.extents) {
    if (ops::same_extent(around, known, actual)) return body.known.at(known);
  }
  body.extents.push_back(actual);
  return capture(body, around, actual);
}

void Importer::materialize(std::string_view name, Binding& binding, ir::Graph& graph) {
  if (!binding.tensor->error.empty()) {
    report("initializer " + quoted(name), binding.tensor->error);
    binding.state = Binding::State::Failed;
    return;
  }
  binding.id = graph.add_constant(printable(name), binding.tensor->tensor.type, binding.tensor->tensor.bytes);
  binding.state = Binding::State::Value;
}

void Importer::fail_outputs(const Call& call) {
  for (const std::string& output : call.node.output()) define(call.scope, output, {}, &call);
}

void Importer::set_outputs(const Call& call, const std::vector<Binding>& outputs, std::size_t first_new_value) {
  // Backwards, so that of two names for one value the first stays.
  for (int i = call.node.output_size(); i-- > 0;) {
    const std::string& name = call.node.output(i);
    const Binding binding =
        static_cast<std::size_t>(i) < outputs.size() ? outputs[static_cast<std::size_t>(i)] : Binding{};
    define(call.scope, name, binding, &call);
    if (!name.empty() && binding.state == Binding::State::Value && binding.id >= first_new_value) {
      call.scope.graph->value(binding.id).name = name_in(call.frame, name);
    }
  }
}

}  // namespace edgert::onnx_import
