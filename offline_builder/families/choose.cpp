// SPDX-License-Identifier: Apache-2.0
#include "families/choose.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "families/library.h"
#include "ir/windows.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using ir::kNone;
using ir::Node;
using ir::NodeId;
using ir::ValueId;

bool is_computed(const Node& node) { return node.op->view == nullptr && !ir::is_concat(*node.op); }

/// Whether an operand has an extent that only a run knows.
bool is_bounded(const ir::Graph& graph, NodeId id) {
  const auto bounded = [&](ValueId value) { return value != kNone && graph.is_bounded(value); };
  const Node& node = graph.node(id);
  return std::any_of(node.inputs.begin(), node.inputs.end(), bounded) || std::any_of(node.outputs.begin(), node.outputs.end(), bounded);
}

/// What a family that may take the node makes of it.
std::vector<Candidate> ask(const Family& family, const Context& context, NodeId id, std::size_t limit) {
  if (family.rank != Rank::General && is_bounded(context.graph(), id)) return {};
  std::vector<Candidate> candidates = family.candidates(context, id, limit);
  const auto covers_bounded = [&](const Candidate& candidate) {
    return std::any_of(candidate.covered.begin(), candidate.covered.end(), [&](NodeId node) { return is_bounded(context.graph(), node); });
  };
  if (std::any_of(candidates.begin(), candidates.end(), covers_bounded)) return {};
  return candidates;
}

/// Whether a family better than the general ones takes the node.
bool is_fast(const Context& context, NodeId id) {
  for (const Family& family : Registry::instance().families()) {
    if (family.rank != Rank::General && !ask(family, context, id, 1).empty()) return true;
  }
  return false;
}

class Converter {
 public:
  Converter(ir::Graph& graph, const Target& target, const Precisions& precisions)
      : graph_(graph), target_(target), precisions_(precisions), narrow_(stored_as(precisions.of_all())) {}

  int run() {
    const std::vector<NodeId> order = graph_.topological_order();
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
      const Node& node = graph_.node(*it);
      const bool narrow = stored_as(precisions_.of(*it)) == narrow_;
      if (narrow && is_computed(node) && node.op != &ops::kCopy && node.outputs.size() == 1) visit(*it);
    }
    return inserted_;
  }

 private:
  void visit(NodeId id) {
    Context context(graph_, target_, &precisions_);
    const Node& node = graph_.node(id);
    std::vector<ValueId> wide;
    for (const ValueId input : node.inputs) {
      if (input == kNone || graph_.value(input).is_constant() || graph_.value(input).format != WeightFormat::Strided) continue;
      const Operand operand = context.operand(input);
      if (!operand.constant && operand.dtype == DType::F32 && std::find(wide.begin(), wide.end(), input) == wide.end()) wide.push_back(input);
    }
    const bool output = context.operand(node.outputs[0]).dtype == DType::F32;
    if ((wide.empty() && !output) || is_fast(context, id)) return;
    // As little as helps: the output alone, the inputs alone, both.
    for (const unsigned which : {1u, 2u, 3u}) {
      if (((which & 1) != 0 && !output) || ((which & 2) != 0 && wide.empty())) continue;
      context.suppose_nothing();
      if ((which & 1) != 0) context.suppose(node.outputs[0], narrow_);
      for (const ValueId input : wide) {
        if ((which & 2) != 0) context.suppose(input, narrow_);
      }
      if (!is_fast(context, id)) continue;
      if ((which & 1) != 0) widen_after(node.outputs[0]);
      for (const ValueId input : wide) {
        if ((which & 2) != 0) narrow_before(id, input);
      }
      return;
    }
  }

  /// By value: the graph's own values and nodes move when it grows.
  ValueId add_copy(ValueId source, std::vector<std::uint8_t> order, DType stored, std::vector<std::string> provenance) {
    const NodeId copy = graph_.add_node(ops::kCopy, {source}, ir::AttributeBlob::of(cpu::NoAttributes{}), std::move(provenance));
    ir::Value& out = graph_.value(graph_.node(copy).outputs[0]);
    out.order = std::move(order);
    out.stored = stored;
    out.name = graph_.value(source).name;
    ++inserted_;
    return graph_.node(copy).outputs[0];
  }

  /// Every reader of `input` in `reader` reads a narrow copy.
  void narrow_before(NodeId reader, ValueId input) {
    ValueId copy = kNone;
    for (const NodeId user : graph_.users(input)) {
      const Node& node = graph_.node(user);
      if (node.op == &ops::kCopy && graph_.value(node.outputs[0]).stored == narrow_ &&
          graph_.value(node.outputs[0]).order == graph_.value(input).order) copy = node.outputs[0];
    }
    if (copy == kNone) copy = add_copy(input, graph_.value(input).order, narrow_, graph_.node(reader).provenance);
    for (std::size_t i = 0; i < graph_.node(reader).inputs.size(); ++i) {
      if (graph_.node(reader).inputs[i] == input) graph_.set_input(reader, i, copy);
    }
  }

  /// Outputs of the graph that lie in this value's storage are copied out of it, and it becomes narrow.
  void widen_after(ValueId root) {
    for (std::size_t i = 0; i < graph_.outputs().size(); ++i) {
      const ValueId value = graph_.outputs()[i].value;
      if (ir::Windows(graph_).find(value).value().root != root) continue;
      graph_.set_output(i, add_copy(value, {}, DType::Undefined, {}));
    }
    ir::Windows windows(graph_);
    for (ValueId id = 0; id < graph_.value_count(); ++id) {
      ir::Value& value = graph_.value(id);
      const bool computed = !value.is_constant() && value.producer != kNone && graph_.node(value.producer).alive;
      if (computed && value.type.dtype == DType::F32 && windows.find(id).value().root == root) value.stored = narrow_;
    }
  }

  ir::Graph& graph_;
  const Target& target_;
  const Precisions& precisions_;
  DType narrow_;
  int inserted_ = 0;
};

/// Tactics of candidates that differ in nothing that their kernels name are numbered.
void name_tactics(std::vector<Candidate>& candidates) {
  std::map<std::string, int> known;
  for (Candidate& candidate : candidates) {
    candidate.tactic.clear();
    for (const Launch& launch : candidate.launches) {
      candidate.tactic += (candidate.tactic.empty() ? "" : " + ") + launch.spec.entry + (launch.spec.tile.empty() ? "" : " " + launch.spec.tile);
    }
    const int number = ++known[candidate.tactic];
    if (number > 1) candidate.tactic += " #" + std::to_string(number);
  }
}

/// The family of nodes that no other takes; it is not registered.
constexpr Family kHost{"cpu", Rank::General, nullptr};

Candidate on_host(const Context& context, const Node& node) {
  Launch operands;
  for (const ValueId input : node.inputs) {
    if (input != kNone) operands.arguments.push_back(Argument::read(context.operand(input)));
  }
  for (const ValueId output : node.outputs) operands.arguments.push_back(Argument::write(context.operand(output)));
  Candidate candidate = Candidate::of(std::move(operands), context.operand(node.outputs[0]).dtype);
  candidate.on_host = true;
  return candidate;
}

}  // namespace

std::string name_of(const Node& node) {
  std::string name = node.op->name;
  for (const std::string& onnx : node.provenance) name += (&onnx == &node.provenance.front() ? " of " : ", ") + onnx;
  return name;
}

int insert_conversions(ir::Graph& graph, const Target& target, const Precisions& precisions) {
  return stored_as(precisions.of_all()) == DType::F32 ? 0 : Converter(graph, target, precisions).run();
}

std::vector<Choice> choose_kernels(const ir::Graph& graph, const Target& target, std::size_t limit, const Precisions* precisions,
                                   const Alternatives& alternatives) {
  Context context(graph, target, precisions, alternatives.winograd);
  const std::vector<NodeId> order = graph.topological_order();
  std::vector<Choice> choices;
  std::vector<std::string> missing;
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    const Node& node = graph.node(*it);
    if (!is_computed(node) || context.is_taken(*it)) continue;
    Choice choice;
    choice.node = *it;
    for (const Family& family : Registry::instance().families()) {
      choice.family = &family;
      choice.candidates = ask(family, context, *it, limit);
      if (!choice.candidates.empty()) break;
      for (const std::string& reason : context.take_fusion_reasons()) choice.refused.push_back({family.name, reason});
    }
    context.take_fusion_reasons();
    std::string why;
    for (const std::string& reason : context.take_reasons()) why += (why.empty() ? ": " : "; ") + reason;
    if (choice.candidates.empty() && alternatives.cpu_steps && node.op->kernel != nullptr && node.bodies.empty()) {
      choice.family = &kHost;
      choice.candidates = {on_host(context, node)};
      choices.push_back(std::move(choice));
      continue;
    }
    if (choice.candidates.empty()) {
      missing.push_back("\n  " + name_of(node) + " " + ir::to_string(graph.value(node.outputs[0]).type) + why);
      continue;
    }
    if (alternatives.tactics != Tactics::Native && choice.candidates[0].covered.empty() && !is_bounded(graph, *it)) {
      std::vector<Candidate> others = library_candidates(context, *it);
      if (alternatives.tactics == Tactics::Library && !others.empty()) choice.candidates.clear();
      std::move(others.begin(), others.end(), std::back_inserter(choice.candidates));
    }
    name_tactics(choice.candidates);
    const std::vector<NodeId>& nodes = choice.candidates[0].covered;
    for (const Candidate& candidate : choice.candidates) {
      if (candidate.covered != nodes) throw std::logic_error(std::string(choice.family->name) + ": candidates that cover different nodes");
    }
    if (!context.can_cover(*it, nodes)) throw std::logic_error(std::string(choice.family->name) + ": covers nodes that others need earlier");
    context.take(nodes);
    choices.push_back(std::move(choice));
  }
  if (!missing.empty()) {
    std::string text = std::to_string(missing.size()) + " node" + (missing.size() == 1 ? " has" : "s have") + " no GPU kernel:";
    for (auto it = missing.rbegin(); it != missing.rend(); ++it) text += *it;
    throw ir::BuildError(text);
  }
  std::reverse(choices.begin(), choices.end());
  return choices;
}

}  // namespace edgert::families
