// SPDX-License-Identifier: Apache-2.0
// The model's graph: inputs, nodes, outputs.
#include "onnx/importer.h"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "onnx/shapes.h"
#include "onnx/text.h"
#include "ops/extent_sums.h"

namespace edgert::onnx_import {
namespace {

constexpr std::size_t kCycleNamesShown = 8;
constexpr std::size_t kMismatchesTold = 10;
// Operands, attribute elements and the like that a node may have on average: many times what real models have.
constexpr std::uint64_t kWorkPerNode = 64;

std::uint64_t work_of(const std::string& text) { return 1 + text.size() / 64; }

template <class Strings>
std::uint64_t work_of_all(const Strings& strings) {
  std::uint64_t work = 0;
  for (const std::string& text : strings) work += work_of(text);
  return work;
}

std::uint64_t work_of(const proto::NodeProto& node) {
  std::uint64_t work = work_of_all(node.input()) + work_of_all(node.output());
  for (const auto& attribute : node.attribute()) {
    work += work_of(attribute.name()) + work_of(attribute.s()) + work_of_all(attribute.strings()) +
            static_cast<std::uint64_t>(attribute.ints_size()) + static_cast<std::uint64_t>(attribute.floats_size());
  }
  return work;
}

bool agrees(const TensorInfo& declared, const ir::TensorType& type) {
  if (declared.dtype != DType::Undefined && declared.dtype != type.dtype) return false;
  if (!declared.has_shape) return true;
  if (declared.dims.size() != type.dims.size()) return false;
  for (std::size_t i = 0; i < type.dims.size(); ++i) {
    if (declared.dims[i].value >= 0 && declared.dims[i].value != type.dims[i]) return false;
  }
  return true;
}

}  // namespace

Importer::Importer(const Model::Data& data, const ImportOptions& options)
    : data_(data),
      options_(options),
      registry_(options.registry != nullptr ? *options.registry : ops::Registry::instance()),
      nodes_left_(options.max_nodes),
      work_left_(options.max_nodes * kWorkPerNode) {}

ir::Graph Importer::run() {
  notes_ = data_.notes;
  check_opset();
  graph_.name = printable(data_.model.graph().name());
  graph_.metadata = data_.metadata;
  Frame frame;
  frame.opsets = &data_.opsets;
  Scope scope;
  scope.graph = &graph_;
  read_declarations();
  add_inputs(scope);
  define_initializers(data_.model.graph(), scope);
  import_nodes(data_.model.graph().node(), frame, scope);
  add_outputs(scope);
  if (!problems_.empty()) throw ImportError(data_.name, std::move(problems_));
  compare_with_declared(scope);
  return std::move(graph_);
}

void Importer::check_opset() {
  const auto it = data_.opsets.find("");
  if (it == data_.opsets.end() || (it->second >= kOldestOpset && it->second <= kNewestOpset)) return;
  report("the model", "it uses version " + std::to_string(it->second) + " of ONNX's operator set; versions " +
                          std::to_string(kOldestOpset) + " to " + std::to_string(kNewestOpset) +
                          " are supported, and onnx.version_converter can convert it");
  throw ImportError(data_.name, std::move(problems_));
}

void Importer::read_declarations() {
  const auto add = [&](const TensorInfo& info, std::string_view name) {
    if (!info.has_shape) return;
    ir::Dims dims;
    for (const Dimension& dimension : info.dims) {
      const auto bound = options_.dims.find(dimension.symbol);
      dims.push_back(dimension.value >= 0 || bound == options_.dims.end() ? dimension.value : bound->second);
    }
    declared_.emplace(name, std::move(dims));
  };
  for (const auto& output : data_.model.graph().output()) add(describe(output), output.name());
  for (const auto& info : data_.model.graph().value_info()) add(describe(info), info.name());
}

std::optional<ir::Dims> Importer::declared_dims(const Call& call, int output) const {
  // Names inside of functions and subgraphs are others.
  if (call.frame.caller != nullptr || call.scope.parent != nullptr || output >= call.node.output_size()) return std::nullopt;
  const auto found = declared_.find(call.node.output(output));
  return found == declared_.end() ? std::nullopt : std::optional<ir::Dims>(found->second);
}

void Importer::add_inputs(Scope& scope) {
  const std::vector<std::optional<ir::Dims>> shapes = bind_shapes(data_.inputs, options_, problems_, notes_);
  for (std::size_t i = 0; i < data_.inputs.size(); ++i) {
    const TensorInfo& input = data_.inputs[i];
    const bool given = options_.shapes.count(input.name) + options_.values.count(input.name) +
                           options_.keep_inputs.count(input.name) != 0;
    if (input.has_default && !given) continue;
    if (input.name.empty() || !is_utf8(input.name)) {
      report("input " + quoted(input.name), "its name is empty or not UTF-8");
      continue;
    }
    Binding binding;
    if (shapes[i]) {
      const auto value = options_.values.find(input.name);
      const ir::TensorType type{input.dtype, *shapes[i]};
      if (value == options_.values.end()) {
        binding.id = graph_.add_input(input.name, type);
      } else if (value->second.bytes.size() == ir::dense_bytes(type)) {
        binding.id = graph_.add_constant(input.name, type, value->second.bytes);
      } else {
        report("--value " + printable(input.name), "the value has " + std::to_string(value->second.bytes.size()) +
                                                       " bytes where " + ir::to_string(type) + " needs " +
                                                       std::to_string(ir::dense_bytes(type)));
      }
      if (binding.id != ir::kNone) binding.state = Binding::State::Value;
    }
    define(scope, input.name, binding, nullptr);
  }
}

void Importer::add_outputs(Scope& scope) {
  if (data_.outputs.empty()) report("the graph", "it has no outputs");
  std::unordered_set<std::string_view> seen;
  for (const TensorInfo& output : data_.outputs) {
    const std::string what = "output " + quoted(output.name);
    const Binding* binding = output.name.empty() ? nullptr : find(scope, output.name);
    if (!seen.insert(output.name).second) {
      report(what, "it is declared twice");
    } else if (!is_utf8(output.name)) {
      report(what, "its name is not UTF-8");
    } else if (binding == nullptr || binding->state == Binding::State::Absent) {
      report(what, "nothing in the graph makes it");
    } else if (binding->state == Binding::State::Value) {
      graph_.add_output(output.name, binding->id);
    }
  }
}

void Importer::compare_with_declared(Scope& scope) {
  for (std::size_t i = 0; i < data_.outputs.size(); ++i) {
    const ir::TensorType& type = graph_.value(graph_.outputs()[i].value).type;
    if (!agrees(data_.outputs[i], type)) {
      notes_.push_back("output " + quoted(data_.outputs[i].name) + " is " + ir::to_string(type) +
                       ", but the model declares " + to_string(data_.outputs[i]));
    }
  }
  std::size_t mismatches = 0;
  for (const auto& info : data_.model.graph().value_info()) {
    const auto it = scope.names.find(info.name());
    if (it == scope.names.end() || it->second.state != Binding::State::Value) continue;
    const ir::TensorType& type = graph_.value(it->second.id).type;
    const TensorInfo declared = describe(info);
    if (agrees(declared, type) || ++mismatches > kMismatchesTold) continue;
    notes_.push_back("value " + quoted(info.name()) + " is " + ir::to_string(type) + ", but the model declares " +
                     to_string(declared));
  }
  if (mismatches > kMismatchesTold) {
    notes_.push_back("and " + std::to_string(mismatches - kMismatchesTold) +
                     " more values differ from their declaration");
  }
}

void Importer::import_nodes(const Repeated<proto::NodeProto>& nodes, const Frame& frame, Scope& scope) {
  const auto [it, added] = orders_.try_emplace(&nodes);
  if (added) it->second = order_nodes(nodes);
  const NodeOrder& order = it->second;
  for (const int i : order.order) import_node(nodes[i], frame, scope);
  if (order.stuck.empty()) return;
  std::string path;
  for (std::size_t i = 0; i < std::min(order.cycle.size(), kCycleNamesShown); ++i) {
    path += name_of(nodes[order.cycle[i]], frame) + " -> ";
  }
  path += order.cycle.size() > kCycleNamesShown ? "..." : name_of(nodes[order.cycle[0]], frame);
  report(name_of(nodes[order.cycle[0]], frame), "nodes form a cycle: " + path);
  for (const int i : order.stuck) {
    for (const std::string& output : nodes[i].output()) {
      if (!output.empty()) scope.names.emplace(output, Binding{});
    }
  }
}

void Importer::spend(const Call& call, std::uint64_t work) {
  if (work <= work_left_) {
    work_left_ -= work;
    return;
  }
  report(call, "the model is too large when its functions are inlined");
  throw ImportError(data_.name, std::move(problems_));
}

void Importer::import_node(const proto::NodeProto& node, const Frame& frame, Scope& scope) {
  const std::string domain = normalized_domain(node.domain());
  const auto opset = frame.opsets->find(domain);
  Call call{node, frame, scope, name_of(node, frame), domain, opset == frame.opsets->end() ? 0 : opset->second,
            {},   false};
  if (nodes_left_-- == 0) {
    report(call,
           "the model has more than " + std::to_string(options_.max_nodes) + " nodes when its functions are inlined");
    throw ImportError(data_.name, std::move(problems_));
  }
  spend(call, work_of(node));
  for (const std::string& input : node.input()) {
    Binding binding;
    binding.state = Binding::State::Absent;
    if (!input.empty()) {
      const Binding* found = find(scope, input);
      if (found == nullptr) report(call, "it reads " + quoted(input) + ", which nothing makes");
      binding = found != nullptr ? *found : Binding{};
    }
    call.failed = call.failed || binding.state == Binding::State::Failed;
    call.inputs.push_back(binding);
  }
  if (const proto::FunctionProto* function = find_function(call)) return inline_function(*function, call);
  if (domain.empty() && node.op_type() == "If") return import_if(call);
  if (domain.empty() && node.op_type() == "Loop") return import_loop(call);
  if (domain.empty() && node.op_type() == "Scan") return import_scan(call);

  const Support& support = support_of(domain, node.op_type(), call.opset);
  if (support.importer == nullptr) {
    report(call, support.reason);
    check_bodies(call);
    return fail_outputs(call);
  }
  if (call.failed) return fail_outputs(call);
  import_with(support.importer, call);
}

void Importer::import_with(ops::OnnxImporter importer, const Call& call) {
  ir::Graph& graph = *call.scope.graph;
  const std::size_t first_new_value = graph.value_count();
  try {
    const std::string refused = why_not_bounded(call);
    if (!refused.empty()) throw ir::BuildError(refused);
    ops::OnnxNode onnx_node(graph, call.name, call.node.op_type(), call.domain, call.opset);
    onnx_node.in_body = &graph != &graph_;
    onnx_node.attributes = convert_attributes(call.node, call.frame.attributes, data_);
    for (const Binding& input : call.inputs) onnx_node.inputs.push_back(input.id);
    onnx_node.output_names.assign(call.node.output().begin(), call.node.output().end());
    onnx_node.outputs.assign(onnx_node.output_names.size(), ir::kNone);
    for (int i = 0; i < call.node.output_size(); ++i) onnx_node.declared_dims.push_back(declared_dims(call, i));
    import_rows(importer, onnx_node);
    std::vector<Binding> outputs;
    for (std::size_t i = 0; i < onnx_node.output_names.size(); ++i) {
      ir::ValueId& id = onnx_node.outputs[i];
      if (id != ir::kNone) id = ops::known_elements(onnx_node, id);
      if (id == ir::kNone && onnx_node.wants_output(i))
        onnx_node.fail("output " + std::to_string(i) + " is not supported");
      outputs.push_back({id == ir::kNone ? Binding::State::Absent : Binding::State::Value, id, nullptr});
    }
    set_outputs(call, outputs, first_new_value);
  } catch (const ImportError&) {
    throw;
  } catch (const ir::BuildError& error) {
    report(call, error.what());
    fail_outputs(call);
  } catch (const std::out_of_range&) {
    // Importers look required operands up without asking whether the model has them: absent ones have the number kNone.
    report(call, "a required input is missing or has no elements");
    fail_outputs(call);
  }
}

const Importer::Support& Importer::support_of(const std::string& domain, const std::string& op_type, int opset) {
  const std::string key = domain + '\0' + op_type + '\0' + std::to_string(opset);
  const auto [it, added] = support_.try_emplace(key);
  if (added) {
    if (opset != 0) it->second.importer = registry_.find_onnx(domain, op_type, opset);
    if (it->second.importer == nullptr) it->second.reason = why_unsupported(domain, op_type, opset);
  }
  return it->second;
}

std::string Importer::why_unsupported(const std::string& domain, const std::string& op_type, int opset) const {
  const std::string named = domain.empty() ? "ONNX's own operator set" : "domain " + quoted(domain);
  if (opset == 0) return "the model imports no version of " + named;
  bool known_domain = false;
  std::string versions;
  for (const ops::Registry::OnnxEntry& entry : registry_.onnx()) {
    if (entry.domain != domain) continue;
    known_domain = true;
    if (entry.op_type != op_type) continue;
    versions += (versions.empty() ? "" : ", ") + std::to_string(entry.since) +
                (entry.until >= 1 << 30 ? " and later" : " to " + std::to_string(entry.until));
  }
  if (!versions.empty()) return "the operator is supported in versions " + versions + " of " + named + " only";
  if (!known_domain && !domain.empty()) return "no operator of " + named + " is supported";
  return "the operator is not supported";
}

ir::Bytes default_of(const Model& model, const std::string& input) {
  for (const auto& tensor : model.data().model.graph().initializer()) {
    if (tensor.name() == input) return model.data().tensors.at(&tensor).tensor.bytes;
  }
  return {};
}

ir::Graph import(const Model& model, const ImportOptions& options, std::vector<std::string>* notes) {
  Importer importer(model.data(), options);
  ir::Graph graph = importer.run();
  if (notes != nullptr) notes->insert(notes->end(), importer.notes().begin(), importer.notes().end());
  return graph;
}

}  // namespace edgert::onnx_import
