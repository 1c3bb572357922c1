// SPDX-License-Identifier: Apache-2.0
// Pointwise: a straight-line program of scalar operations on operands of the same extents.
#include "edgert/cpu/ops/pointwise.h"

#include "ops/bounded.h"
#include "ops/compose.h"
#include "ops/epilogue.h"
#include "ops/runnable.h"

namespace edgert::ops {
namespace {

using scalar::PointwiseProgram;
using scalar::PointwiseStep;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Pointwise>();

/// Type of the result of `step`, whose operands are among `types`.
DType infer_step(const PointwiseStep& step, const std::vector<DType>& types) {
  const unsigned arity = scalar::arity(step.op);
  require(arity != 0, "no such pointwise operation");
  const auto type = static_cast<DType>(step.type);
  const unsigned char operands[] = {step.a, step.b, step.c};
  for (unsigned i = 0; i < arity; ++i) {
    require(operands[i] < types.size(), "a pointwise operand is not computed yet");
    const bool condition = step.op == PointwiseOp::Where && i == 0;
    const DType expected = condition ? DType::Bool : type;
    require(types[operands[i]] == expected, std::string("operand must be ") + edgert::to_string(expected) + ", not " +
                                                edgert::to_string(types[operands[i]]));
  }
  return scalar::is_predicate(step.op) ? DType::Bool : type;
}

std::vector<ir::TensorType> infer(const InferContext& context) {
  const auto& program = context.attributes.as<PointwiseProgram>();
  require(program.inputs >= 1 && program.inputs <= scalar::kMaxPointwiseInputs && program.steps >= 1 &&
              program.steps <= scalar::kMaxPointwiseSteps,
          "a pointwise program of " + std::to_string(program.inputs) + " inputs and " + std::to_string(program.steps) +
              " steps");
  require_inputs(context, program.inputs, program.inputs);
  std::vector<DType> types;
  for (std::size_t i = 0; i < program.inputs; ++i) {
    require_dims(context.type(i).dims, context.type(0).dims, "each operand");
    types.push_back(context.type(i).dtype);
  }
  for (unsigned i = 0; i < program.steps; ++i) types.push_back(infer_step(program.step[i], types));
  return runnable(kEntry, context, {{types.back(), context.type(0).dims}});
}

/// "2 inputs: v2=Add(v0,v1) v3=Relu(v2)"
std::string describe(const ir::AttributeBlob& blob) {
  const auto& program = blob.as<PointwiseProgram>();
  std::string text;
  for (unsigned i = 0; i < program.steps && i < scalar::kMaxPointwiseSteps; ++i) {
    const PointwiseStep& step = program.step[i];
    const unsigned char operands[] = {step.a, step.b, step.c};
    if (i != 0) text += ' ';
    text += 'v' + std::to_string(program.inputs + i) + '=' + pointwise_name(step.op) + '(';
    for (unsigned k = 0; k < scalar::arity(step.op); ++k) text += (k != 0 ? ",v" : "v") + std::to_string(operands[k]);
    if (step.alpha != 0 || step.beta != 0) text += ';' + std::to_string(step.alpha) + ',' + std::to_string(step.beta);
    text += ')';
  }
  return text;
}

/// One operation on operands of the same extents, all of type `type` but for a condition.
ValueId emit_step(OnnxNode& node, PointwiseOp op, DType type, const std::vector<ValueId>& operands, float alpha,
                  float beta) {
  PointwiseProgram program{};
  program.inputs = static_cast<unsigned>(operands.size());
  program.steps = 1;
  PointwiseStep& step = program.step[0];
  step.op = op;
  step.type = static_cast<unsigned char>(type);
  step.b = operands.size() > 1 ? 1 : 0;
  step.c = operands.size() > 2 ? 2 : 0;
  step.alpha = alpha;
  step.beta = beta;
  return node.emit(kPointwise, operands, program);
}

}  // namespace

extern const OperatorDef kPointwise = [] {
  OperatorDef op;
  op.name = "Pointwise";
  op.attribute_bytes = sizeof(PointwiseProgram);
  op.infer = &infer;
  op.extents = &elementwise_extents;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.in_place = (1u << scalar::kMaxPointwiseInputs) - 1;
  return op;
}();

ValueId unary(OnnxNode& node, PointwiseOp op, ValueId x, float alpha, float beta) {
  return emit_step(node, op, dtype_of(node, x), {x}, alpha, beta);
}

ValueId binary(OnnxNode& node, PointwiseOp op, ValueId a, ValueId b) {
  const std::vector<ValueId> operands = broadcast_operands(node, {a, b});
  return emit_step(node, op, dtype_of(node, a), operands, 0, 0);
}

ValueId select(OnnxNode& node, ValueId condition, ValueId then, ValueId otherwise) {
  const std::vector<ValueId> operands = broadcast_operands(node, {condition, then, otherwise});
  return emit_step(node, PointwiseOp::Where, dtype_of(node, then), operands, 0, 0);
}

const char* pointwise_name(PointwiseOp op) {
  switch (op) {
    case PointwiseOp::Identity: return "Identity";
    case PointwiseOp::Neg: return "Neg";
    case PointwiseOp::Abs: return "Abs";
    case PointwiseOp::Sign: return "Sign";
    case PointwiseOp::Reciprocal: return "Reciprocal";
    case PointwiseOp::Sqrt: return "Sqrt";
    case PointwiseOp::Exp: return "Exp";
    case PointwiseOp::Log: return "Log";
    case PointwiseOp::Sin: return "Sin";
    case PointwiseOp::Cos: return "Cos";
    case PointwiseOp::Tan: return "Tan";
    case PointwiseOp::Asin: return "Asin";
    case PointwiseOp::Acos: return "Acos";
    case PointwiseOp::Atan: return "Atan";
    case PointwiseOp::Sinh: return "Sinh";
    case PointwiseOp::Cosh: return "Cosh";
    case PointwiseOp::Tanh: return "Tanh";
    case PointwiseOp::Asinh: return "Asinh";
    case PointwiseOp::Acosh: return "Acosh";
    case PointwiseOp::Atanh: return "Atanh";
    case PointwiseOp::Erf: return "Erf";
    case PointwiseOp::Floor: return "Floor";
    case PointwiseOp::Ceil: return "Ceil";
    case PointwiseOp::Round: return "Round";
    case PointwiseOp::Not: return "Not";
    case PointwiseOp::BitNot: return "BitNot";
    case PointwiseOp::IsNan: return "IsNan";
    case PointwiseOp::IsInf: return "IsInf";
    case PointwiseOp::Relu: return "Relu";
    case PointwiseOp::LeakyRelu: return "LeakyRelu";
    case PointwiseOp::Elu: return "Elu";
    case PointwiseOp::Selu: return "Selu";
    case PointwiseOp::Celu: return "Celu";
    case PointwiseOp::ThresholdedRelu: return "ThresholdedRelu";
    case PointwiseOp::Sigmoid: return "Sigmoid";
    case PointwiseOp::HardSigmoid: return "HardSigmoid";
    case PointwiseOp::Silu: return "Silu";
    case PointwiseOp::HardSwish: return "HardSwish";
    case PointwiseOp::Softplus: return "Softplus";
    case PointwiseOp::Softsign: return "Softsign";
    case PointwiseOp::Mish: return "Mish";
    case PointwiseOp::Gelu: return "Gelu";
    case PointwiseOp::GeluTanh: return "GeluTanh";
    case PointwiseOp::Clip: return "Clip";
    case PointwiseOp::Shrink: return "Shrink";
    case PointwiseOp::Add: return "Add";
    case PointwiseOp::Sub: return "Sub";
    case PointwiseOp::Mul: return "Mul";
    case PointwiseOp::Div: return "Div";
    case PointwiseOp::Mod: return "Mod";
    case PointwiseOp::Fmod: return "Fmod";
    case PointwiseOp::Pow: return "Pow";
    case PointwiseOp::Min: return "Min";
    case PointwiseOp::Max: return "Max";
    case PointwiseOp::And: return "And";
    case PointwiseOp::Or: return "Or";
    case PointwiseOp::Xor: return "Xor";
    case PointwiseOp::BitAnd: return "BitAnd";
    case PointwiseOp::BitOr: return "BitOr";
    case PointwiseOp::BitXor: return "BitXor";
    case PointwiseOp::ShiftLeft: return "ShiftLeft";
    case PointwiseOp::ShiftRight: return "ShiftRight";
    case PointwiseOp::PRelu: return "PRelu";
    case PointwiseOp::Equal: return "Equal";
    case PointwiseOp::Less: return "Less";
    case PointwiseOp::LessOrEqual: return "LessOrEqual";
    case PointwiseOp::Greater: return "Greater";
    case PointwiseOp::GreaterOrEqual: return "GreaterOrEqual";
    case PointwiseOp::Where: return "Where";
  }
  return "?";
}

void register_pointwise(Registry& registry) { registry.add(kPointwise); }

}  // namespace edgert::ops
