// SPDX-License-Identifier: Apache-2.0
// Dense kernels finish their results before they store them: y = activation(acc + residual) or activation(acc) +
// residual. What comes right behind a convolution or a matrix product, and reads nothing else, becomes that.
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/scalar/pointwise_functions.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

using scalar::Epilogue;
using scalar::ResidualMode;

/// Operations that the kernels know as an activation.
bool is_activation(PointwiseOp op) { return scalar::arity(op) == 1 && scalar::has_float_form(op); }

std::optional<Epilogue> epilogue_of(const Node& node) {
  if (node.op == &ops::kConv) return node.as<cpu::ConvAttributes>().epilogue;
  if (node.op == &ops::kDepthwiseConv) return node.as<cpu::DepthwiseConvAttributes>().epilogue;
  if (node.op == &ops::kMatMul) return node.as<cpu::MatMulAttributes>().epilogue;
  return std::nullopt;
}

template <class Attributes>
ir::AttributeBlob with_epilogue(const Node& node, const Epilogue& epilogue) {
  auto attributes = node.as<Attributes>();
  attributes.epilogue = epilogue;
  return ir::AttributeBlob::of(attributes);
}

void set_epilogue(Graph& graph, NodeId id, const Epilogue& epilogue) {
  const Node& node = graph.node(id);
  if (node.op == &ops::kConv) {
    graph.set_attributes(id, with_epilogue<cpu::ConvAttributes>(node, epilogue));
  } else if (node.op == &ops::kDepthwiseConv) {
    graph.set_attributes(id, with_epilogue<cpu::DepthwiseConvAttributes>(node, epilogue));
  } else {
    graph.set_attributes(id, with_epilogue<cpu::MatMulAttributes>(node, epilogue));
  }
}

class EpilogueFuser {
 public:
  explicit EpilogueFuser(Graph& graph)
      : graph_(graph), order_(graph.topological_order()), position_(graph.node_count(), 0) {
    for (std::size_t i = 0; i < order_.size(); ++i) position_[order_[i]] = i;
  }

  int run() {
    int fused = 0;
    for (const NodeId id : order_) {
      if (!graph_.node(id).alive || !epilogue_of(graph_.node(id))) continue;
      while (absorb_reader(id) || absorb_sum_behind_reshape(id)) ++fused;
    }
    return fused;
  }

 private:
  bool absorb_reader(NodeId id) {
    const ValueId y = graph_.node(id).outputs[0];
    if (!graph_.has_single_use(y)) return false;
    const NodeId reader = graph_.users(y)[0];
    const PointwiseStep* step = single_instruction(graph_.node(reader));
    if (step == nullptr || static_cast<DType>(step->type) != DType::F32) return false;
    const bool absorbed = step->op == PointwiseOp::Add ? absorb_residual(id, reader) : absorb_activation(id, *step);
    if (absorbed) take_place(graph_, graph_.node(reader).outputs[0], y);
    return absorbed;
  }

  bool absorb_activation(NodeId id, const PointwiseStep& step) {
    Epilogue epilogue = *epilogue_of(graph_.node(id));
    if (epilogue.activation != PointwiseOp::Identity || !is_activation(step.op)) return false;
    epilogue.activation = step.op;
    epilogue.alpha = step.alpha;
    epilogue.beta = step.beta;
    set_epilogue(graph_, id, epilogue);
    return true;
  }

  /// A reshape that only regroups a product's rows stands between it and a sum: the other term is reshaped instead.
  bool absorb_sum_behind_reshape(NodeId id) {
    const ValueId y = graph_.node(id).outputs[0];
    if (graph_.node(id).op != &ops::kMatMul || !graph_.has_single_use(y)) return false;
    const Node& reshape = graph_.node(graph_.users(y)[0]);
    if (reshape.op != &ops::kReshape) return false;
    const ValueId rows = reshape.outputs[0];
    const ir::Dims& dims = dims_of(graph_, rows);
    if (!graph_.has_single_use(rows) || dims.empty() || dims.back() != dims_of(graph_, y).back()) return false;
    const NodeId sum = graph_.users(rows)[0];
    const PointwiseStep* step = single_instruction(graph_.node(sum));
    if (step == nullptr || step->op != PointwiseOp::Add || static_cast<DType>(step->type) != DType::F32) return false;
    const ValueId first = operand(graph_.node(sum), 0);
    const ValueId other = first == rows ? operand(graph_.node(sum), 1) : first;
    if (!takes_residual(id, other)) return false;
    add_residual(id, add_reshape(graph_, other, dims_of(graph_, y), reshape.provenance));
    take_place(graph_, graph_.node(sum).outputs[0], rows);
    return true;
  }

  /// The other operand never depends on y, since the sum is y's only reader.
  bool absorb_residual(NodeId id, NodeId sum) {
    const ValueId y = graph_.node(id).outputs[0];
    const ValueId first = operand(graph_.node(sum), 0);
    const ValueId other = first == y ? operand(graph_.node(sum), 1) : first;
    if (!takes_residual(id, other)) return false;
    add_residual(id, other);
    return true;
  }

  bool takes_residual(NodeId id, ValueId other) const {
    return epilogue_of(graph_.node(id))->residual == ResidualMode::None && is_stored(other) && !is_better_host(other, id);
  }

  void add_residual(NodeId id, ValueId residual) {
    Epilogue epilogue = *epilogue_of(graph_.node(id));
    epilogue.residual =
        epilogue.activation == PointwiseOp::Identity ? ResidualMode::BeforeActivation : ResidualMode::AfterActivation;
    while (graph_.node(id).inputs.size() < 4) graph_.append_input(id, kNone);
    graph_.set_input(id, 3, residual);
    set_epilogue(graph_, id, epilogue);
  }

  /// Whether the value exists element by element: kernels do not read a repeated residual, which would have to be
  /// copied.
  bool is_stored(ValueId id) const {
    const Node* producer = graph_.producer(id);
    while (producer != nullptr && producer->op->view != nullptr) {
      if (producer->op == &ops::kExpand) return false;
      id = producer->inputs[0];
      producer = graph_.producer(id);
    }
    return !graph_.value(id).is_constant();
  }

  /// Of two dense results that are added, the one computed later takes the other: it can wait for it.
  bool is_better_host(ValueId other, NodeId id) const {
    const NodeId producer = graph_.value(other).producer;
    if (producer == kNone || position_[producer] < position_[id] || !graph_.has_single_use(other)) return false;
    const std::optional<Epilogue> epilogue = epilogue_of(graph_.node(producer));
    return epilogue && epilogue->residual == ResidualMode::None;
  }

  Graph& graph_;
  std::vector<NodeId> order_;
  std::vector<std::size_t> position_;
};

/// Why `reader`, which the fusion has left beside the dense node `id`, did not become part of it.
const char* refusal(const Graph& graph, NodeId id, NodeId reader) {
  const ValueId y = graph.node(id).outputs[0];
  if (!graph.has_single_use(y)) return "the result before it is read elsewhere too";
  const PointwiseStep* step = single_instruction(graph.node(reader));
  if (step == nullptr) return "it is no single operation";
  if (static_cast<DType>(step->type) != DType::F32) return "it does not compute f32";
  const Epilogue epilogue = *epilogue_of(graph.node(id));
  if (step->op == PointwiseOp::Add) {
    if (epilogue.residual != ResidualMode::None) return "there is a sum already";
    const ValueId other = operand(graph.node(reader), operand(graph.node(reader), 0) == y ? 1 : 0);
    if (graph.value(other).is_constant()) return "what is added is a constant, and no bias";
    return "what is added is repeated, which kernels do not read, or its own node takes it in";
  }
  if (!is_activation(step->op)) return "it is neither an activation nor a sum";
  return "there is an activation already";
}

}  // namespace

int fuse_epilogue(ir::Graph& graph) { return EpilogueFuser(graph).run(); }

void explain_fuse_epilogue(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    if (!epilogue_of(graph.node(id))) continue;
    for (const NodeId reader : graph.users(graph.node(id).outputs[0])) {
      if (graph.node(reader).op != &ops::kPointwise) continue;
      refusals.push_back({"fuse_epilogue", names_of(graph.node(reader)), names_of(graph.node(id)), refusal(graph, id, reader)});
    }
  }
}

}  // namespace edgert::passes
