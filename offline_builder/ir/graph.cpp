// SPDX-License-Identifier: Apache-2.0
#include "ir/graph.h"

#include <algorithm>
#include <queue>

#include "ir/operator_def.h"

namespace edgert::ir {
namespace {

/// Folding at once is for shape arithmetic and small tables; larger constants are left to the folding pass, so that an
/// importer's intermediate never holds a blown-up copy that nobody reads.
constexpr std::int64_t kFoldAtOnceElements = 1 << 16;

}  // namespace

const std::vector<Graph>& InferContext::no_bodies() {
  static const std::vector<Graph> none;
  return none;
}

std::vector<std::vector<OutputExtent>> infer_extents(const OperatorDef& op, const InferContext& context) {
  if (op.extents != nullptr) return op.extents(context);
  for (const ValueId input : context.inputs) {
    if (input == kNone || !context.graph.is_bounded(input)) continue;
    throw BuildError("'" + context.graph.value(input).name + "' has an extent that only a run knows, and " + op.name +
                     " does not take such operands");
  }
  return {};
}

void Graph::check_operand(ValueId id) const {
  if (id != kNone && id >= values_.size()) throw std::logic_error("operand " + std::to_string(id) + " does not exist");
}

ValueId Graph::add_input(std::string input_name, TensorType type) {
  element_count(type.dims);
  const auto id = static_cast<ValueId>(values_.size());
  Value value;
  value.name = std::move(input_name);
  value.type = std::move(type);
  values_.push_back(std::move(value));
  users_.emplace_back();
  inputs_.push_back(id);
  return id;
}

ValueId Graph::add_constant(std::string constant_name, TensorType type, Bytes bytes, WeightFormat format) {
  if (format == WeightFormat::Strided && bytes.size() != dense_bytes(type)) {
    throw BuildError("constant '" + constant_name + "' of type " + to_string(type) + " needs " +
                     std::to_string(dense_bytes(type)) + " bytes but has " + std::to_string(bytes.size()));
  }
  // An empty tensor is a constant too.
  if (!bytes) bytes = Bytes::copy(nullptr, 0);
  const auto id = static_cast<ValueId>(values_.size());
  Value value;
  value.name = std::move(constant_name);
  value.type = std::move(type);
  value.format = format;
  value.constant = std::move(bytes);
  values_.push_back(std::move(value));
  users_.emplace_back();
  return id;
}

NodeId Graph::add_node(const OperatorDef& op, std::vector<ValueId> inputs, AttributeBlob attributes,
                       std::vector<std::string> provenance, std::vector<Graph> bodies) {
  for (const ValueId id : inputs) check_operand(id);
  const InferContext context{*this, inputs, attributes, bodies};
  std::vector<TensorType> types = op.infer(context);
  const std::vector<std::vector<OutputExtent>> extents = infer_extents(op, context);
  const auto id = static_cast<NodeId>(nodes_.size());
  Node node;
  node.op = &op;
  node.inputs = std::move(inputs);
  node.attributes = std::move(attributes);
  node.provenance = std::move(provenance);
  node.bodies = std::move(bodies);
  const auto first = static_cast<ValueId>(values_.size());
  for (std::size_t i = 0; i < types.size(); ++i) {
    element_count(types[i].dims);
    if (types[i].dims.size() > kMaxRank) throw BuildError("tensors of more than 8 dimensions are not supported");
    Value value;
    value.name = std::string(op.name) + "_" + std::to_string(id);
    value.type = std::move(types[i]);
    value.producer = id;
    value.output = static_cast<std::uint32_t>(i);
    for (std::size_t e = 0; i < extents.size() && e < extents[i].size(); ++e) {
      const OutputExtent& extent = extents[i][e];
      value.extents.push_back({extent.dim, extent.actual != kNone ? extent.actual : first + extent.output});
    }
    node.outputs.push_back(static_cast<ValueId>(values_.size()));
    values_.push_back(std::move(value));
    users_.emplace_back();
  }
  for (const ValueId input : node.inputs) {
    if (input != kNone) users_[input].push_back(id);
  }
  nodes_.push_back(std::move(node));
  return id;
}

ValueId Graph::emit(const OperatorDef& op, std::vector<ValueId> inputs, AttributeBlob attributes,
                    std::vector<std::string> provenance) {
  const NodeId id = add_node(op, std::move(inputs), std::move(attributes), std::move(provenance));
  const ValueId out = nodes_[id].outputs.at(0);
  if (element_count(values_[out].type.dims) > kFoldAtOnceElements) return out;
  for (const ValueId input : nodes_[id].inputs) {
    if (input != kNone && !values_[input].is_constant()) return out;
  }
  const std::optional<std::vector<Bytes>> folded = evaluate(*this, nodes_[id]);
  if (!folded) return out;
  const ValueId constant = add_constant(values_[out].name, values_[out].type, folded->at(0));
  erase(id);
  return constant;
}

const Node* Graph::producer(ValueId id) const {
  const NodeId node = values_.at(id).producer;
  return node == kNone ? nullptr : &nodes_[node];
}

bool Graph::is_output(ValueId id) const {
  return std::any_of(outputs_.begin(), outputs_.end(), [id](const Output& output) { return output.value == id; }) ||
         std::any_of(states_.begin(), states_.end(), [id](const State& state) { return state.output == id; });
}

void Graph::set_input(NodeId node, std::size_t index, ValueId value) {
  check_operand(value);
  ValueId& slot = nodes_.at(node).inputs.at(index);
  if (slot != kNone) {
    std::vector<NodeId>& users = users_[slot];
    users.erase(std::find(users.begin(), users.end(), node));
  }
  slot = value;
  if (value != kNone) users_[value].push_back(node);
}

void Graph::append_input(NodeId node, ValueId value) {
  nodes_.at(node).inputs.push_back(kNone);
  set_input(node, nodes_[node].inputs.size() - 1, value);
}

void Graph::set_attributes(NodeId node, AttributeBlob attributes) { nodes_.at(node).attributes = std::move(attributes); }

void Graph::add_provenance(NodeId node, const std::vector<std::string>& names) {
  std::vector<std::string>& own = nodes_.at(node).provenance;
  for (const std::string& extra : names) {
    if (std::find(own.begin(), own.end(), extra) == own.end()) own.push_back(extra);
  }
}

namespace {

/// Two values may hold one extent, and which of them an operand names decides which of them the results name. Follows that
/// from `readers`, of whose operands one names another value now.
void update_extents(Graph& graph, std::vector<NodeId> readers) {
  while (!readers.empty()) {
    const Node& node = graph.node(readers.back());
    readers.pop_back();
    const InferContext context{graph, node.inputs, node.attributes, node.bodies};
    const std::vector<std::vector<OutputExtent>> extents = infer_extents(*node.op, context);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      std::vector<Extent> expected;
      for (std::size_t e = 0; i < extents.size() && e < extents[i].size(); ++e) {
        const OutputExtent& extent = extents[i][e];
        expected.push_back({extent.dim, extent.actual != kNone ? extent.actual : node.outputs.at(extent.output)});
      }
      if (expected == graph.value(node.outputs[i]).extents) continue;
      graph.value(node.outputs[i]).extents = std::move(expected);
      const std::vector<NodeId>& next = graph.users(node.outputs[i]);
      readers.insert(readers.end(), next.begin(), next.end());
    }
  }
}

}  // namespace

void Graph::replace_uses(ValueId from, ValueId to) {
  check_operand(to);
  if (from == to) return;
  const std::vector<NodeId> readers = users_.at(from);
  for (const NodeId reader : readers) {
    for (std::size_t i = 0; i < nodes_[reader].inputs.size(); ++i) {
      if (nodes_[reader].inputs[i] == from) set_input(reader, i, to);
    }
  }
  for (Output& output : outputs_) {
    if (output.value == from) output.value = to;
  }
  for (State& state : states_) {
    if (state.output == from) state.output = to;
  }
  for (Value& value : values_) {
    for (Extent& extent : value.extents) {
      if (extent.actual == from) extent.actual = to;
    }
  }
  if (values_[from].extents != values_[to].extents) update_extents(*this, readers);
}

void Graph::erase(NodeId id) {
  Node& node = nodes_.at(id);
  for (const ValueId output : node.outputs) {
    if (!users_[output].empty() || is_output(output)) throw std::logic_error("erasing a node that is still read");
  }
  for (std::size_t i = 0; i < node.inputs.size(); ++i) set_input(id, i, kNone);
  node.alive = false;
}

std::vector<NodeId> Graph::topological_order() const {
  std::vector<std::uint32_t> missing(nodes_.size(), 0);
  std::priority_queue<NodeId, std::vector<NodeId>, std::greater<>> ready;
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    if (!nodes_[id].alive) continue;
    for (const ValueId input : nodes_[id].inputs) {
      if (input != kNone && values_[input].producer != kNone) ++missing[id];
    }
    if (missing[id] == 0) ready.push(id);
  }
  std::vector<NodeId> order;
  while (!ready.empty()) {
    const NodeId id = ready.top();
    ready.pop();
    order.push_back(id);
    for (const ValueId output : nodes_[id].outputs) {
      for (const NodeId user : users_[output]) {
        if (--missing[user] == 0) ready.push(user);
      }
    }
  }
  return order;
}

void Graph::add_output(std::string output_name, ValueId value) {
  check_operand(value);
  outputs_.push_back({std::move(output_name), value});
}

void Graph::make_state(std::size_t input, std::size_t output, Bytes initial) {
  const ValueId in = inputs_.at(input);
  const Output out = outputs_.at(output);
  const std::string what = "state '" + values_[in].name + "' = '" + out.name + "'";
  if (values_[in].type != values_[out.value].type) {
    throw BuildError(what + ": the input is " + to_string(values_[in].type) + ", the output " +
                     to_string(values_[out.value].type));
  }
  if (is_bounded(out.value)) throw BuildError(what + ": the output has an extent that only a run knows");
  if (initial && initial.size() != dense_bytes(values_[in].type)) throw BuildError(what + ": the initial value has another size");
  states_.push_back({values_[in].name, in, out.value, std::move(initial)});
  inputs_.erase(inputs_.begin() + static_cast<std::ptrdiff_t>(input));
  outputs_.erase(outputs_.begin() + static_cast<std::ptrdiff_t>(output));
}

void Graph::set_state_output(std::size_t state, ValueId value) {
  check_operand(value);
  states_.at(state).output = value;
}

void Graph::set_output(std::size_t index, ValueId value) {
  check_operand(value);
  outputs_.at(index).value = value;
}

}  // namespace edgert::ir
