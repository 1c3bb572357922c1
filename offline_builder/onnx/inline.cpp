// SPDX-License-Identifier: Apache-2.0
// Bodies that are imported in place: functions, and the branch of an If whose condition is known; and those that are only
// searched for problems.
#include "onnx/importer.h"
#include "onnx/text.h"

namespace edgert::onnx_import {
namespace {

std::string display_name(const proto::FunctionProto& function) {
  return printable((function.domain().empty() ? "" : function.domain() + ".") + function.name());
}

}  // namespace

bool Importer::too_deep(const Call& call) {
  if (call.scope.depth < options_.max_depth) return false;
  report(call, "function calls and subgraphs are nested more than " + std::to_string(options_.max_depth) + " deep");
  return true;
}

const proto::FunctionProto* Importer::find_function(const Call& call) const {
  if (data_.functions.empty()) return nullptr;
  const auto it = data_.functions.find(function_key(call.domain, call.node.op_type(), call.node.overload()));
  return it == data_.functions.end() ? nullptr : it->second;
}

const std::map<std::string, int>& Importer::opsets_in(const proto::FunctionProto& function) {
  const auto it = function_opsets_.find(&function);
  if (it != function_opsets_.end()) return it->second;
  return function_opsets_.emplace(&function, opsets_of(function.opset_import())).first->second;
}

bool Importer::may_inline(const proto::FunctionProto& function, const Call& call) {
  for (const Frame* frame = &call.frame; frame != nullptr; frame = frame->caller) {
    if (frame->function != &function) continue;
    report(call, "function " + display_name(function) + " calls itself, directly or through others");
    return false;
  }
  if (too_deep(call)) return false;
  if (call.node.input_size() > function.input_size() || call.node.output_size() > function.output_size()) {
    report(call, "function " + display_name(function) + " has " + std::to_string(function.input_size()) +
                     " inputs and " + std::to_string(function.output_size()) + " outputs, but is called with " +
                     std::to_string(call.node.input_size()) + " and " + std::to_string(call.node.output_size()));
    return false;
  }
  const std::map<std::string, int>& opsets = opsets_in(function);
  const auto opset = opsets.find("");
  if (opset != opsets.end() && (opset->second < kOldestOpset || opset->second > kNewestOpset)) {
    report(call, "function " + display_name(function) + " uses version " + std::to_string(opset->second) +
                     " of ONNX's operator set");
    return false;
  }
  return true;
}

AttributeEnvironment Importer::environment_of(const proto::FunctionProto& function, const Call& call) {
  AttributeEnvironment environment;
  for (const auto& attribute : function.attribute_proto()) environment[attribute.name()] = &attribute;
  for (const auto& attribute : call.node.attribute()) {
    const proto::AttributeProto* value = resolve_attribute(attribute, call.frame.attributes);
    if (value == nullptr) continue;
    if (value->has_g() || value->graphs_size() != 0)
      throw ir::BuildError("passing a subgraph to a function is not supported");
    environment[attribute.name()] = value;
  }
  return environment;
}

void Importer::inline_function(const proto::FunctionProto& function, const Call& call) {
  Frame frame;
  try {
    // With failed operands the body is only searched for problems, and that once.
    const bool searched = !visited_.insert(&function).second;
    if ((call.failed && searched) || !may_inline(function, call)) return fail_outputs(call);
    frame.caller = &call.frame;
    frame.function = &function;
    frame.prefix = call.name + "/";
    frame.opsets = &opsets_in(function);
    frame.attributes = environment_of(function, call);
  } catch (const ImportError&) {
    throw;
  } catch (const ir::BuildError& error) {
    report(call, error.what());
    return fail_outputs(call);
  }
  spend(call, static_cast<std::uint64_t>(function.input_size() + function.attribute_proto_size()));
  const std::size_t first_new_value = call.scope.graph->value_count();
  Scope scope;
  scope.depth = call.scope.depth + 1;
  scope.graph = call.scope.graph;
  for (int i = 0; i < function.input_size(); ++i) {
    Binding absent;
    absent.state = Binding::State::Absent;
    define(scope, function.input(i), i < call.node.input_size() ? call.inputs[static_cast<std::size_t>(i)] : absent,
           &call);
  }
  import_nodes(function.node(), frame, scope);
  std::vector<Binding> outputs;
  for (int i = 0; i < call.node.output_size(); ++i) {
    const Binding* made = find(scope, function.output(i));
    if (made == nullptr && !call.node.output(i).empty()) {
      report(call, "function " + display_name(function) + " does not make its output " + quoted(function.output(i)));
    }
    outputs.push_back(made != nullptr ? *made : Binding{});
  }
  set_outputs(call, outputs, first_new_value);
}

void Importer::import_branch(const proto::GraphProto& branch, const Call& call) {
  if (branch.input_size() != 0 || branch.output_size() != call.node.output_size()) {
    report(call, "its branches must have no inputs and as many outputs as the node");
    return fail_outputs(call);
  }
  if (too_deep(call)) return fail_outputs(call);
  const std::size_t first_new_value = call.scope.graph->value_count();
  Scope scope(&call.scope, call.scope.graph, nullptr);
  const std::optional<std::vector<Binding>> outputs = import_graph(branch, call, scope);
  if (!outputs) return fail_outputs(call);
  set_outputs(call, *outputs, first_new_value);
}

void Importer::check_bodies(const Call& call) {
  for (const auto& attribute : call.node.attribute()) {
    if (attribute.has_g()) check_body(attribute.g(), call);
    for (const auto& graph : attribute.graphs()) check_body(graph, call);
  }
}

void Importer::check_body(const proto::GraphProto& body, const Call& call) {
  if (too_deep(call)) return;
  spend(call, static_cast<std::uint64_t>(body.initializer_size() + body.sparse_initializer_size() + body.input_size()));
  Scope scope(&call.scope, call.scope.graph, nullptr);
  for (const auto& input : body.input()) define(scope, input.name(), {}, &call);
  define_initializers(body, scope);
  import_nodes(body.node(), call.frame, scope);
}

}  // namespace edgert::onnx_import
