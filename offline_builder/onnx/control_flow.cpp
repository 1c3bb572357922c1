// SPDX-License-Identifier: Apache-2.0
// If, Loop and Scan: taken, unrolled, or made nodes with bodies. A Scan is a Loop that takes slices of its inputs.
#include <algorithm>

#include "onnx/importer.h"
#include "onnx/text.h"
#include "ops/compose.h"
#include "ops/control_flow.h"

namespace edgert::onnx_import {
namespace {

using ir::Dims;
using ir::ValueId;

/// A loop is unrolled when that makes at most so many nodes out of it: what then meets (constants, slices, turns that
/// can be fused) is worth more than the steps cost.
constexpr std::int64_t kMostUnrolledNodes = 256;

const proto::GraphProto* graph_attribute(const proto::NodeProto& node, const char* name) {
  for (const auto& attribute : node.attribute()) {
    if (attribute.name() == name && attribute.has_g()) return &attribute.g();
  }
  return nullptr;
}

/// Nodes of a graph and its subgraphs. The parser bounded the depth of this recursion.
std::int64_t node_count(const proto::GraphProto& graph) {
  std::int64_t count = graph.node_size();
  for (const auto& node : graph.node()) {
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) count += node_count(attribute.g());
    }
  }
  return count;
}

Binding value_binding(ValueId id) {
  Binding binding;
  binding.state = Binding::State::Value;
  binding.id = id;
  return binding;
}

bool is_one(const ir::Graph& graph, ValueId id, DType dtype) {
  const ir::TensorType& type = graph.value(id).type;
  return type.dtype == dtype && ir::element_count(type.dims) == 1 && !graph.is_bounded(id);
}

/// The value of a constant bool of one element.
std::optional<bool> known_condition(const ir::Graph& graph, ValueId id) {
  const ir::Value& value = graph.value(id);
  if (!value.is_constant() || !is_one(graph, id, DType::Bool)) return std::nullopt;
  return *value.constant.as<std::uint8_t>() != 0;
}

/// Before version 9 of Scan all of its operands have a leading batch dimension.
ValueId without_batch(ops::OnnxNode& node, ValueId x) {
  Dims dims = ops::dims_of(node, x);
  if (dims.empty() || dims[0] != 1) node.fail("before version 9 only batches of 1 are supported");
  dims.erase(dims.begin());
  return ops::reshape(node, x, dims);
}

std::string signature(const ir::Graph& graph, ValueId id) { return ir::to_string(graph.value(id).type); }

}  // namespace

/// A loop to be built, Loop or Scan.
struct Importer::LoopSpec {
  const proto::GraphProto* body = nullptr;
  std::optional<std::int64_t> turns;  ///< when they are known
  ValueId trip_count = ir::kNone;     ///< else the int64 that says how many there are; kNone: no limit
  ValueId condition = ir::kNone;      ///< bool; kNone: true
  std::vector<ValueId> carried;
  /// What each turn reads a slice of.
  struct Element {
    ValueId source;
    std::size_t axis;
    bool reverse;
  };
  std::vector<Element> elements;
  /// How what the turns make is put together.
  struct Collected {
    std::int64_t axis;
    bool reverse;
  };
  std::vector<Collected> collected;
  bool scan = false;  ///< the body takes neither the turn's number nor the condition, and makes no condition

  std::size_t body_inputs() const { return (scan ? 0 : 2) + carried.size() + elements.size(); }
  std::size_t body_outputs() const { return (scan ? 0 : 1) + carried.size() + collected.size(); }
};

std::optional<std::vector<Binding>> Importer::import_graph(const proto::GraphProto& graph, const Call& call, Scope& scope) {
  spend(call, static_cast<std::uint64_t>(graph.initializer_size() + graph.sparse_initializer_size() + 1));
  define_initializers(graph, scope);
  import_nodes(graph.node(), call.frame, scope);
  std::vector<Binding> outputs;
  bool complete = true;
  for (const auto& output : graph.output()) {
    const Binding* made = find(scope, output.name());
    if (made == nullptr || made->state == Binding::State::Absent) {
      report(call, "its branch or body does not make its output " + quoted(output.name()));
    }
    outputs.push_back(made != nullptr ? *made : Binding{});
    complete = complete && outputs.back().state == Binding::State::Value;
  }
  return complete ? std::optional<std::vector<Binding>>(outputs) : std::nullopt;
}

void Importer::import_if(const Call& call) {
  const proto::GraphProto* then_branch = graph_attribute(call.node, "then_branch");
  const proto::GraphProto* else_branch = graph_attribute(call.node, "else_branch");
  const bool given = call.inputs.size() == 1 && call.inputs[0].state == Binding::State::Value;
  std::string reason;
  if (then_branch == nullptr || else_branch == nullptr || call.node.output_size() == 0 || (!given && !call.failed)) {
    reason = "it needs a condition and two branches";
  } else if (given && !is_one(*call.scope.graph, call.inputs[0].id, DType::Bool)) {
    reason = "its condition is " + signature(*call.scope.graph, call.inputs[0].id) + ", not one bool";
  }
  if (!reason.empty()) report(call, reason);
  if (!reason.empty() || call.failed) {
    check_bodies(call);
    return fail_outputs(call);
  }
  const std::optional<bool> taken = known_condition(*call.scope.graph, call.inputs[0].id);
  if (taken) return import_branch(*taken ? *then_branch : *else_branch, call);
  import_either(call, *then_branch, *else_branch);
}

void Importer::import_either(const Call& call, const proto::GraphProto& then_branch, const proto::GraphProto& else_branch) {
  if (too_deep(call)) return fail_outputs(call);
  Body bodies[2];
  std::vector<ValueId> inputs{call.inputs[0].id};
  bool complete = true;
  for (const int i : {0, 1}) {
    const proto::GraphProto& branch = i == 0 ? then_branch : else_branch;
    if (branch.input_size() != 0 || branch.output_size() != call.node.output_size()) {
      report(call, "its branches must have no inputs and as many outputs as the node");
      return fail_outputs(call);
    }
    Scope scope(&call.scope, &bodies[i].graph, &bodies[i]);
    const std::optional<std::vector<Binding>> outputs = import_graph(branch, call, scope);
    complete = complete && outputs.has_value();
    for (std::size_t k = 0; outputs && k < outputs->size(); ++k) {
      bodies[i].graph.add_output(printable(branch.output(static_cast<int>(k)).name()), (*outputs)[k].id);
    }
    inputs.insert(inputs.end(), bodies[i].captured.begin(), bodies[i].captured.end());
  }
  if (!complete) return fail_outputs(call);
  ir::Graph& graph = *call.scope.graph;
  const std::size_t first_new_value = graph.value_count();
  try {
    ops::OnnxNode node(graph, call.name, call.node.op_type(), call.domain, call.opset);
    std::vector<Binding> outputs;
    for (const ValueId id : ops::add_if(node, inputs, std::move(bodies[0].graph), std::move(bodies[1].graph))) {
      outputs.push_back(value_binding(id));
    }
    set_outputs(call, outputs, first_new_value);
  } catch (const ir::BuildError& error) {
    report(call, error.what());
    fail_outputs(call);
  }
}

void Importer::import_loop(const Call& call) {
  LoopSpec spec;
  spec.body = graph_attribute(call.node, "body");
  const ir::Graph& graph = *call.scope.graph;
  const auto given = [&](std::size_t i) {
    return i < call.inputs.size() && call.inputs[i].state == Binding::State::Value ? call.inputs[i].id : ir::kNone;
  };
  std::string reason;
  spec.trip_count = given(0);
  spec.condition = given(1);
  for (std::size_t i = 2; i < call.inputs.size(); ++i) spec.carried.push_back(given(i));
  const auto outputs = static_cast<std::size_t>(call.node.output_size());
  if (spec.body == nullptr || outputs < spec.carried.size()) {
    reason = "it needs a body and an output for each carried value";
  } else if (spec.trip_count != ir::kNone && !is_one(graph, spec.trip_count, DType::I64)) {
    reason = "its trip count is " + signature(graph, spec.trip_count) + ", not one int64";
  } else if (spec.condition != ir::kNone && !is_one(graph, spec.condition, DType::Bool)) {
    reason = "its condition is " + signature(graph, spec.condition) + ", not one bool";
  } else if (!call.failed && std::count(spec.carried.begin(), spec.carried.end(), ir::kNone) != 0) {
    reason = "a carried value has no initial value";
  }
  if (reason.empty()) {
    spec.collected.assign(outputs - spec.carried.size(), {0, false});
    if (static_cast<std::size_t>(spec.body->input_size()) != spec.body_inputs() ||
        static_cast<std::size_t>(spec.body->output_size()) != spec.body_outputs()) {
      reason = "its body has other inputs or outputs than the node";
    }
  }
  if (!reason.empty()) report(call, reason);
  if (!reason.empty() || call.failed) {
    check_bodies(call);
    return fail_outputs(call);
  }
  if (spec.trip_count != ir::kNone && graph.value(spec.trip_count).is_constant()) {
    spec.turns = std::max<std::int64_t>(*graph.value(spec.trip_count).constant.as<std::int64_t>(), 0);
  }
  if (spec.condition != ir::kNone && known_condition(graph, spec.condition) == false) spec.turns = 0;
  if (spec.condition != ir::kNone && known_condition(graph, spec.condition)) spec.condition = ir::kNone;
  const std::size_t first_new_value = graph.value_count();
  const std::optional<std::vector<ValueId>> made = build_loop(call, spec);
  if (!made) return fail_outputs(call);
  std::vector<Binding> bindings;
  for (const ValueId id : *made) bindings.push_back(value_binding(id));
  set_outputs(call, bindings, first_new_value);
}

std::optional<std::vector<ir::ValueId>> Importer::build_loop(const Call& call, const LoopSpec& spec) {
  if (too_deep(call)) return std::nullopt;
  try {
    bool failed = false;
    std::optional<std::vector<ValueId>> outputs = unroll(call, spec, failed);
    if (outputs || failed) return outputs;
    return add_loop_node(call, spec);
  } catch (const ImportError&) {
    throw;
  } catch (const ir::BuildError& error) {
    report(call, error.what());
    return std::nullopt;
  }
}

std::optional<std::vector<ir::ValueId>> Importer::unroll(const Call& call, const LoopSpec& spec, bool& failed) {
  const std::int64_t nodes = node_count(*spec.body) + 1;
  if (!spec.turns || spec.condition != ir::kNone || *spec.turns > kMostUnrolledNodes / nodes) return std::nullopt;
  // What no turn makes has no type to put an empty tensor together from.
  if (*spec.turns == 0 && !spec.collected.empty()) return std::nullopt;
  ir::Graph& graph = *call.scope.graph;
  ops::OnnxNode node(graph, call.name, call.node.op_type(), call.domain, call.opset);
  std::vector<ValueId> carried = spec.carried;
  std::vector<std::vector<ValueId>> collected(spec.collected.size());
  bool going = true;
  for (std::int64_t turn = 0; going && turn < *spec.turns; ++turn) {
    Scope scope(&call.scope, &graph, nullptr);
    int input = 0;
    const auto bind = [&](ValueId id) { define(scope, spec.body->input(input++).name(), value_binding(id), &call); };
    if (!spec.scan) {
      bind(ops::int64_constant(node, {}, {turn}));
      bind(ops::scalar_constant(node, DType::Bool, 1));
    }
    for (const ValueId id : carried) bind(id);
    for (const LoopSpec::Element& element : spec.elements) {
      Dims dims = ops::dims_of(node, element.source);
      const std::int64_t at = element.reverse ? *spec.turns - 1 - turn : turn;
      const ValueId slice = ops::slice(node, element.source, element.axis, at, 1);
      dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(element.axis));
      bind(ops::reshape(node, slice, dims));
    }
    const std::optional<std::vector<Binding>> outputs = import_graph(*spec.body, call, scope);
    failed = !outputs;
    if (failed) return std::nullopt;
    std::size_t next = 0;
    if (!spec.scan) {
      const std::optional<bool> condition = known_condition(graph, (*outputs)[next++].id);
      if (!condition) return std::nullopt;
      going = *condition;
    }
    for (ValueId& id : carried) id = (*outputs)[next++].id;
    for (std::vector<ValueId>& each : collected) each.push_back((*outputs)[next++].id);
  }
  std::vector<ValueId> result = carried;
  for (std::size_t i = 0; i < collected.size(); ++i) {
    const Dims dims = ops::dims_of(node, collected[i][0]);
    const std::size_t axis = ops::axis_of(node, spec.collected[i].axis, dims.size() + 1);
    Dims lifted = dims;
    lifted.insert(lifted.begin() + static_cast<std::ptrdiff_t>(axis), 1);
    for (ValueId& id : collected[i]) id = ops::reshape(node, id, lifted);
    if (spec.collected[i].reverse) std::reverse(collected[i].begin(), collected[i].end());
    result.push_back(ops::concat(node, collected[i], axis));
  }
  return result;
}

/// The most turns that there can be, for whom the outputs have room.
std::optional<std::int64_t> Importer::most_turns(const Call& call, const LoopSpec& spec) {
  if (spec.turns) return spec.turns;
  if (spec.collected.empty()) return INT64_MAX;
  for (std::size_t i = 0; i < spec.collected.size(); ++i) {
    const std::optional<Dims> dims = declared_dims(call, static_cast<int>(spec.carried.size() + i));
    if (dims && !dims->empty() && dims->front() >= 0) return dims->front();
  }
  if (options_.most_turns) return options_.most_turns;
  report(call,
         "how often it turns is known only at run time, and its outputs grow with the turns: declare the shape of such an "
         "output in the model, fix the model input that decides it with --value, or give --most-turns");
  return std::nullopt;
}

std::optional<std::vector<ir::ValueId>> Importer::add_loop_node(const Call& call, const LoopSpec& spec) {
  ir::Graph& graph = *call.scope.graph;
  ops::OnnxNode node(graph, call.name, call.node.op_type(), call.domain, call.opset);
  const std::optional<std::int64_t> most = most_turns(call, spec);
  Body body;
  Scope scope(&call.scope, &body.graph, &body);
  ops::OnnxNode inside(body.graph, call.name, call.node.op_type(), call.domain, call.opset);
  int input = 0;
  const auto bind = [&](ValueId id) { define(scope, spec.body->input(input++).name(), value_binding(id), &call); };
  const TensorInfo declared = spec.scan ? TensorInfo{} : describe(spec.body->input(0));
  const ValueId turn = body.graph.add_input("turn", {DType::I64, Dims(declared.dims.size() == 1 ? 1 : 0, 1)});
  if (!spec.scan) {
    bind(turn);
    // Inside the body it is true, or the body would not run.
    bind(ops::scalar_constant(inside, DType::Bool, 1));
  }
  for (const ValueId id : spec.carried) {
    if (graph.is_bounded(id)) node.fail("carried value '" + graph.value(id).name + "' has an extent that only a run knows");
    bind(body.graph.add_input(graph.value(id).name, graph.value(id).type));
  }
  for (const LoopSpec::Element& element : spec.elements) {
    ValueId at = turn;
    if (element.reverse) {
      const std::int64_t last = ops::dims_of(node, element.source)[element.axis] - 1;
      at = ops::binary(inside, scalar::PointwiseOp::Sub, ops::int64_constant(inside, {}, {last}), turn);
    }
    bind(ops::gather(inside, capture(body, graph, element.source), at, element.axis));
  }
  const std::optional<std::vector<Binding>> outputs = import_graph(*spec.body, call, scope);
  if (!outputs || !most) return std::nullopt;
  std::size_t next = 0;
  bool tests = false;
  if (!spec.scan) {
    const ValueId condition = (*outputs)[next++].id;
    tests = known_condition(body.graph, condition) != true;
    if (!is_one(body.graph, condition, DType::Bool)) node.fail("its body makes no bool as condition");
    if (!tests && !spec.turns && spec.trip_count == ir::kNone) {
      node.fail("it has no trip count and its condition is always true");
    }
    if (tests) body.graph.add_output("condition", condition);
  }
  for (; next < outputs->size(); ++next) {
    body.graph.add_output(printable(spec.body->output(static_cast<int>(next)).name()), (*outputs)[next].id);
  }
  ops::LoopNode loop;
  loop.trip_count = spec.trip_count;
  if (spec.turns && spec.trip_count == ir::kNone) loop.trip_count = ops::int64_constant(node, {}, {*spec.turns});
  // A constant trip count that a false condition has overruled.
  if (spec.turns && *spec.turns == 0) loop.trip_count = ops::int64_constant(node, {}, {0});
  loop.condition = spec.condition;
  loop.carried = spec.carried;
  loop.captured = body.captured;
  loop.most_turns = *most;
  loop.exact = spec.turns && spec.condition == ir::kNone && !tests;
  loop.tests_condition = tests;
  std::vector<ValueId> made = ops::add_loop(node, loop, std::move(body.graph));
  for (std::size_t i = 0; i < spec.collected.size(); ++i) {
    ValueId& id = made[spec.carried.size() + i];
    const auto rank = static_cast<std::int64_t>(ops::dims_of(node, id).size());
    if (spec.collected[i].reverse) {
      std::vector<std::int64_t> backwards = ops::iota(*most);
      std::reverse(backwards.begin(), backwards.end());
      id = ops::gather(node, id, ops::int64_constant(node, {*most}, backwards), 0);
    }
    std::vector<std::int64_t> perm;
    for (std::int64_t d = 1; d < rank; ++d) perm.push_back(d);
    perm.insert(perm.begin() + static_cast<std::ptrdiff_t>(ops::axis_of(node, spec.collected[i].axis, static_cast<std::size_t>(rank))), 0);
    id = ops::transpose(node, id, perm);
  }
  return made;
}

void Importer::import_scan(const Call& call) {
  LoopSpec spec;
  spec.scan = true;
  const bool batched = call.opset < 9;
  spec.body = graph_attribute(call.node, "body");
  const ir::Graph& graph = *call.scope.graph;
  if (call.failed || spec.body == nullptr) {
    if (spec.body == nullptr) report(call, "it needs a body");
    check_bodies(call);
    return fail_outputs(call);
  }
  const std::size_t first_new_value = graph.value_count();
  try {
    ops::OnnxNode node(*call.scope.graph, call.name, call.node.op_type(), call.domain, call.opset);
    node.attributes = convert_attributes(call.node, call.frame.attributes, data_);
    if (batched && !call.inputs.empty() && call.inputs[0].state == Binding::State::Value) {
      node.fail("sequence lengths are not supported");
    }
    std::vector<ValueId> inputs;
    for (std::size_t i = batched ? 1 : 0; i < call.inputs.size(); ++i) {
      const Binding& input = call.inputs[i];
      if (input.state != Binding::State::Value) node.fail("an input is missing");
      if (graph.is_bounded(input.id)) node.fail("an input has an extent that only a run knows");
      inputs.push_back(batched ? without_batch(node, input.id) : input.id);
    }
    const std::int64_t count = node.required_int("num_scan_inputs");
    if (count < 1 || count > static_cast<std::int64_t>(inputs.size())) node.fail("num_scan_inputs does not fit the inputs");
    const std::size_t states = inputs.size() - static_cast<std::size_t>(count);
    const auto outputs = static_cast<std::size_t>(call.node.output_size());
    if (outputs < states) node.fail("it has fewer outputs than states");
    spec.carried.assign(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(states));
    const auto list = [&](const char* name, std::size_t size) {
      std::vector<std::int64_t> values = node.ints_or(name, std::vector<std::int64_t>(size, 0));
      if (values.size() != size) node.fail(std::string("attribute '") + name + "' has the wrong length");
      return values;
    };
    const auto elements = static_cast<std::size_t>(count);
    const std::vector<std::int64_t> axes = list("scan_input_axes", elements);
    const std::vector<std::int64_t> directions = list(batched ? "directions" : "scan_input_directions", elements);
    const std::vector<std::int64_t> out_axes = list("scan_output_axes", outputs - states);
    const std::vector<std::int64_t> out_directions = list("scan_output_directions", outputs - states);
    for (std::size_t i = 0; i < elements; ++i) {
      const ValueId source = inputs[states + i];
      const Dims dims = ops::dims_of(node, source);
      const std::size_t axis = ops::axis_of(node, axes[i], dims.size());
      if (spec.turns && *spec.turns != dims[axis]) node.fail("its inputs have different lengths");
      spec.turns = dims[axis];
      spec.elements.push_back({source, axis, directions[i] != 0});
    }
    for (std::size_t i = 0; i + states < outputs; ++i) spec.collected.push_back({out_axes[i], out_directions[i] != 0});
    if (static_cast<std::size_t>(spec.body->input_size()) != spec.body_inputs() ||
        static_cast<std::size_t>(spec.body->output_size()) != spec.body_outputs()) {
      node.fail("its body has other inputs or outputs than the node");
    }
  } catch (const ir::BuildError& error) {
    report(call, error.what());
    check_bodies(call);
    return fail_outputs(call);
  }
  const std::optional<std::vector<ValueId>> made = build_loop(call, spec);
  if (!made) return fail_outputs(call);
  ops::OnnxNode node(*call.scope.graph, call.name, call.node.op_type(), call.domain, call.opset);
  std::vector<Binding> bindings;
  for (const ValueId id : *made) {
    Dims dims = ops::dims_of(node, id);
    dims.insert(dims.begin(), 1);
    bindings.push_back(value_binding(batched ? ops::reshape(node, id, dims) : id));
  }
  set_outputs(call, bindings, first_new_value);
}

}  // namespace edgert::onnx_import
