// SPDX-License-Identifier: Apache-2.0
// A pointwise node that only one other pointwise node reads is computed inside of that: its result never goes to
// memory. Readers come first, so that a value read along several ways into one program (x * f(x)) is absorbed once all
// of its readers are.
#include <algorithm>

#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

/// A program that grows at its front, with the values that it reads.
class Fusion {
 public:
  Fusion(const Graph& graph, NodeId root) : graph_(graph), nodes_{root} {
    const Node& node = graph.node(root);
    const auto& program = node.as<PointwiseProgram>();
    const std::vector<Operand> operands = inputs_of(node);
    append(program, operands);
  }

  /// Absorbs producers until none fits any more.
  void grow() {
    for (std::size_t i = 0; i < inputs_.size();) i = absorb(inputs_[i]) ? 0 : i + 1;
  }

  std::size_t absorbed() const { return nodes_.size() - 1; }
  const std::vector<NodeId>& nodes() const { return nodes_; }
  const std::vector<ValueId>& inputs() const { return inputs_; }

  PointwiseProgram program() const {
    PointwiseProgram result{};
    result.inputs = static_cast<unsigned>(inputs_.size());
    result.steps = static_cast<unsigned>(steps_.size());
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      const Instruction& from = steps_[i];
      PointwiseStep& to = result.step[i];
      to = from.step;
      to.a = number(from.operands[0]);
      to.b = number(from.operands[1]);
      to.c = number(from.operands[2]);
    }
    return result;
  }

  /// Why the pointwise node that makes `id`, an input of the program, is not computed inside of it; null when it can be.
  const char* refusal(ValueId id) const {
    const Node* producer = graph_.producer(id);
    if (!is_internal(id)) return "its result is read elsewhere too";
    const auto& program = producer->as<PointwiseProgram>();
    if (steps_.size() + program.steps > scalar::kMaxPointwiseSteps) return "the program would have too many instructions";
    std::size_t inputs = inputs_.size() - 1;
    for (std::size_t i = 0; i < producer->inputs.size(); ++i) {
      const ValueId each = producer->inputs[i];
      const bool repeated =
          std::find(producer->inputs.begin(), producer->inputs.begin() + static_cast<std::ptrdiff_t>(i), each) !=
          producer->inputs.begin() + static_cast<std::ptrdiff_t>(i);
      if (!repeated && std::find(inputs_.begin(), inputs_.end(), each) == inputs_.end()) ++inputs;
    }
    return inputs > scalar::kMaxPointwiseInputs ? "the program would have too many inputs" : nullptr;
  }

 private:
  bool absorb(ValueId id) {
    const Node* producer = graph_.producer(id);
    if (!is(producer, ops::kPointwise) || refusal(id) != nullptr) return false;
    prepend(*producer, producer->as<PointwiseProgram>(), id);
    nodes_.push_back(graph_.value(id).producer);
    return true;
  }

  /// What an instruction reads: an input of the program, or the result of an instruction before it.
  struct Operand {
    bool is_input = true;
    std::size_t index = 0;  ///< into inputs_ or steps_
  };
  struct Instruction {
    PointwiseStep step;
    Operand operands[3];
  };

  unsigned char number(const Operand& operand) const {
    return static_cast<unsigned char>(operand.is_input ? operand.index : inputs_.size() + operand.index);
  }

  Operand input(ValueId id) {
    const auto found = std::find(inputs_.begin(), inputs_.end(), id);
    const auto index = static_cast<std::size_t>(found - inputs_.begin());
    if (found == inputs_.end()) inputs_.push_back(id);
    return {true, index};
  }

  std::vector<Operand> inputs_of(const Node& node) {
    std::vector<Operand> operands;
    for (const ValueId id : node.inputs) operands.push_back(input(id));
    return operands;
  }

  void append(const PointwiseProgram& program, const std::vector<Operand>& operands) {
    const std::size_t first = steps_.size();
    for (unsigned i = 0; i < program.steps; ++i) {
      Instruction instruction{program.step[i], {}};
      const unsigned char numbers[] = {program.step[i].a, program.step[i].b, program.step[i].c};
      // Operands that the operation does not have stay at input 0.
      for (unsigned k = 0; k < scalar::arity(program.step[i].op); ++k) {
        const unsigned n = numbers[k];
        instruction.operands[k] = n < program.inputs ? operands[n] : Operand{false, first + n - program.inputs};
      }
      steps_.push_back(instruction);
    }
  }

  /// Whether this program is all that reads `id`.
  bool is_internal(ValueId id) const {
    if (graph_.is_output(id) || graph_.users(id).size() > scalar::kMaxPointwiseInputs * scalar::kMaxPointwiseSteps)
      return false;
    return std::all_of(graph_.users(id).begin(), graph_.users(id).end(),
                       [&](NodeId user) { return std::find(nodes_.begin(), nodes_.end(), user) != nodes_.end(); });
  }

  /// The producer's instructions come first; what read its result reads its last one.
  void prepend(const Node& producer, const PointwiseProgram& program, ValueId result) {
    const std::vector<ValueId> old_inputs = std::move(inputs_);
    const std::vector<Instruction> old_steps = std::move(steps_);
    inputs_.clear();
    steps_.clear();
    for (const ValueId id : old_inputs) {
      if (id != result) inputs_.push_back(id);
    }
    const std::vector<Operand> operands = inputs_of(producer);
    append(program, operands);
    const std::size_t shift = steps_.size();
    for (Instruction instruction : old_steps) {
      for (unsigned k = 0; k < scalar::arity(instruction.step.op); ++k) {
        Operand& operand = instruction.operands[k];
        if (!operand.is_input) {
          operand.index += shift;
        } else if (old_inputs[operand.index] == result) {
          operand = {false, shift - 1};
        } else {
          operand = input(old_inputs[operand.index]);
        }
      }
      steps_.push_back(instruction);
    }
  }

  const Graph& graph_;
  std::vector<NodeId> nodes_;
  std::vector<ValueId> inputs_;
  std::vector<Instruction> steps_;
};

int sweep(Graph& graph) {
  int fused = 0;
  const std::vector<NodeId> order = graph.topological_order();
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    if (!graph.node(*it).alive || graph.node(*it).op != &ops::kPointwise) continue;
    Fusion fusion(graph, *it);
    fusion.grow();
    if (fusion.absorbed() == 0) continue;
    const ValueId out = graph.node(*it).outputs[0];
    // Provenance in the order of computation.
    const std::vector<NodeId> first_to_last(fusion.nodes().rbegin(), fusion.nodes().rend());
    const NodeId fresh = graph.add_node(ops::kPointwise, fusion.inputs(), ir::AttributeBlob::of(fusion.program()),
                                        joined_provenance(graph, first_to_last));
    take_place(graph, out, graph.node(fresh).outputs[0]);
    fused += static_cast<int>(fusion.absorbed());
  }
  return fused;
}

}  // namespace

int fuse_pointwise(ir::Graph& graph) { return until_stable(graph, &sweep); }

void explain_fuse_pointwise(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    if (graph.node(id).op != &ops::kPointwise) continue;
    const Fusion fusion(graph, id);
    for (const ValueId input : fusion.inputs()) {
      const Node* producer = graph.producer(input);
      if (!is(producer, ops::kPointwise)) continue;
      if (const char* reason = fusion.refusal(input)) {
        refusals.push_back({"fuse_pointwise", names_of(*producer), names_of(graph.node(id)), reason});
      }
    }
  }
}

}  // namespace edgert::passes
