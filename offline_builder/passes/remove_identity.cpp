// SPDX-License-Identifier: Apache-2.0
// Nodes whose result is one of their operands, and nested nodes that are one: a Reshape of a Reshape, a Cast back.
#include <limits>

#include "edgert/cpu/ops/cast.h"
#include "edgert/cpu/ops/pad.h"
#include "edgert/cpu/ops/pool.h"
#include "edgert/cpu/ops/reduce.h"
#include "ops/infer.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

/// x where node is f(f(x)) with a function f that undoes itself, or (`idempotent`) f(x) where f(f(x)) is f(x).
ValueId without_double(const Graph& graph, const Node& node, const PointwiseStep& step, bool idempotent) {
  const Node* inner = graph.producer(operand(node, 0));
  const PointwiseStep* other = inner != nullptr ? single_instruction(*inner) : nullptr;
  if (other == nullptr || other->op != step.op || other->type != step.type) return kNone;
  return idempotent ? operand(node, 0) : operand(*inner, 0);
}

ValueId same_as_pointwise(const Graph& graph, const Node& node, const PointwiseStep& step) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const ValueId a = operand(node, 0);
  const auto second_is = [&](double value) { return is_uniform(graph, operand(node, 1), value); };
  const auto neutral = [&](double value) {
    if (second_is(value)) return a;
    return is_uniform(graph, a, value) ? operand(node, 1) : kNone;
  };
  switch (step.op) {
    case PointwiseOp::Identity: return a;
    case PointwiseOp::Clip: return step.alpha == -kInfinity && step.beta == kInfinity ? a : kNone;
    case PointwiseOp::Neg:
    case PointwiseOp::Not:
    case PointwiseOp::BitNot: return without_double(graph, node, step, false);
    case PointwiseOp::Abs:
    case PointwiseOp::Floor:
    case PointwiseOp::Ceil:
    case PointwiseOp::Round:
    case PointwiseOp::Sign: return without_double(graph, node, step, true);
    case PointwiseOp::Add: return neutral(0);
    case PointwiseOp::Mul: return neutral(1);
    case PointwiseOp::Sub: return second_is(0) ? a : kNone;
    case PointwiseOp::Div:
    case PointwiseOp::Pow: return second_is(1) ? a : kNone;
    case PointwiseOp::Where: {
      if (operand(node, 1) == operand(node, 2)) return operand(node, 1);
      const std::optional<double> condition = uniform_value(graph, a);
      if (!condition) return kNone;
      return operand(node, *condition != 0 ? 1 : 2);
    }
    default: return kNone;
  }
}

/// Whether every value of `narrow` is one of `wide`.
bool holds_all(DType wide, DType narrow) {
  const auto is_signed = [](DType t) {
    return t == DType::I8 || t == DType::I16 || t == DType::I32 || t == DType::I64;
  };
  const auto is_unsigned = [](DType t) {
    return t == DType::U8 || t == DType::U16 || t == DType::U32 || t == DType::U64;
  };
  if (narrow == DType::Bool) return true;
  if (is_signed(wide))
    return (is_signed(narrow) && bits_of(narrow) <= bits_of(wide)) ||
           (is_unsigned(narrow) && bits_of(narrow) < bits_of(wide));
  if (is_unsigned(wide)) return is_unsigned(narrow) && bits_of(narrow) <= bits_of(wide);
  const bool small_integer = (is_signed(narrow) || is_unsigned(narrow)) && bits_of(narrow) <= 16;
  if (wide == DType::F32) return narrow == DType::F16 || narrow == DType::BF16 || small_integer;
  if (wide == DType::F64)
    return narrow == DType::F32 || narrow == DType::F16 || narrow == DType::BF16 || small_integer ||
           narrow == DType::I32 || narrow == DType::U32;
  return false;
}

ValueId same_as_cast(const Graph& graph, const Node& node) {
  const ValueId x = node.inputs[0];
  const DType to = node.as<cpu::CastAttributes>().to;
  if (type_of(graph, x).dtype == to) return x;
  const Node* inner = graph.producer(x);
  if (!is(inner, ops::kCast) || type_of(graph, inner->inputs[0]).dtype != to) return kNone;
  return holds_all(type_of(graph, x).dtype, to) ? inner->inputs[0] : kNone;
}

ValueId same_as_reduce(const Graph& graph, const Node& node) {
  const auto& attributes = node.as<cpu::ReduceAttributes>();
  if (attributes.kind > cpu::ReduceKind::Prod) return kNone;
  return dims_of(graph, node.inputs[0]) == dims_of(graph, node.outputs[0]) ? node.inputs[0] : kNone;
}

ValueId same_as_pool(const Graph& graph, const Node& node) {
  const auto& a = node.as<cpu::PoolAttributes>();
  const bool single = a.kernel[0] == 1 && a.kernel[1] == 1;
  return single && dims_of(graph, node.inputs[0]) == dims_of(graph, node.outputs[0]) ? node.inputs[0] : kNone;
}

bool is_identity_perm(const ops::TransposeAttributes& attributes) {
  for (std::uint32_t i = 0; i < attributes.rank; ++i) {
    if (attributes.perm[i] != i) return false;
  }
  return true;
}

/// The operand that `node` only passes on, or kNone.
ValueId same_as(const Graph& graph, const Node& node) {
  if (node.op == &ops::kPointwise) {
    const PointwiseStep* step = single_instruction(node);
    return step != nullptr ? same_as_pointwise(graph, node, *step) : kNone;
  }
  if (node.op == &ops::kCast) return same_as_cast(graph, node);
  if (node.op == &ops::kReduce) return same_as_reduce(graph, node);
  if (node.op == &ops::kPool) return same_as_pool(graph, node);
  if (node.op == &ops::kConcat) return node.inputs.size() == 1 ? node.inputs[0] : kNone;
  if (node.op == &ops::kTranspose)
    return is_identity_perm(node.as<ops::TransposeAttributes>()) ? node.inputs[0] : kNone;
  const bool placed =
      node.op == &ops::kReshape || node.op == &ops::kExpand || node.op == &ops::kSlice || node.op == &ops::kPad;
  return placed && dims_of(graph, node.inputs[0]) == dims_of(graph, node.outputs[0]) ? node.inputs[0] : kNone;
}

/// Slice of a slice: the outer one counts in the inner one's steps.
ops::SliceAttributes merged_slice(const ops::SliceAttributes& inner, const ops::SliceAttributes& outer) {
  ops::SliceAttributes merged = outer;
  for (std::uint32_t i = 0; i < outer.rank; ++i) {
    // What is empty starts anywhere; one element past the last could lie beyond the input.
    const bool moves = outer.size[i] > 0 && outer.start[i] != 0;
    merged.start[i] = inner.start[i] + (moves ? inner.step[i] * outer.start[i] : 0);
    // A step is of no account where there is no second element, and could overflow.
    merged.step[i] = outer.size[i] > 1 ? inner.step[i] * outer.step[i] : 1;
  }
  return merged;
}

/// Two nested views of one kind as one; kNone when they are not that.
ValueId merge_views(Graph& graph, NodeId id) {
  const ops::OperatorDef* op = graph.node(id).op;
  if (op != &ops::kReshape && op != &ops::kExpand && op != &ops::kSlice) return kNone;
  const Node* inner = graph.producer(graph.node(id).inputs[0]);
  if (inner == nullptr || inner->op != op) return kNone;
  ir::AttributeBlob attributes = graph.node(id).attributes;
  if (op == &ops::kSlice) {
    attributes =
        ir::AttributeBlob::of(merged_slice(inner->as<ops::SliceAttributes>(), attributes.as<ops::SliceAttributes>()));
  }
  const std::vector<std::string> provenance =
      joined_provenance(graph, {graph.value(graph.node(id).inputs[0]).producer, id});
  const ValueId source = inner->inputs[0];
  return graph.node(graph.add_node(*op, {source}, attributes, provenance)).outputs[0];
}

int sweep(Graph& graph) {
  int changes = 0;
  for (const NodeId id : graph.topological_order()) {
    if (!graph.node(id).alive || graph.node(id).outputs.size() != 1) continue;
    const ValueId out = graph.node(id).outputs[0];
    const ValueId other = same_as(graph, graph.node(id));
    if (other != kNone && graph.value(other).extents == graph.value(out).extents) {
      replace_value(graph, out, other);
    } else if (const ValueId merged = graph.is_bounded(out) ? kNone : merge_views(graph, id); merged != kNone) {
      take_place(graph, out, merged);
    } else {
      continue;
    }
    ++changes;
  }
  return changes;
}

}  // namespace

int remove_identity(ir::Graph& graph) { return until_stable(graph, &sweep); }

}  // namespace edgert::passes
