// SPDX-License-Identifier: Apache-2.0
#include "codegen/pointwise_kernel.h"

#include "edgert/cpu/strip_io.h"
#include "edgert/scalar/pointwise_functions.h"

namespace edgert::codegen {

namespace {

using cpu::arithmetic_of;
using scalar::Arithmetic;
using scalar::PointwiseOp;
using scalar::PointwiseStep;

constexpr int kMaxOperands = 1 + static_cast<int>(scalar::kMaxPointwiseInputs);
constexpr std::int32_t kThreads = 128;

/// One kernel: the operands' types, output last, and the text that computes `v<n>` from v0, v1, ...
struct Chain {
  std::string name;
  std::vector<std::string> types;
  std::string body;
  std::string result;
};

/// Operand 0 is the output.
cpu::Nest<kMaxOperands> walk_of(const cpu::Operands& operands) {
  const TensorView& y = operands.out(0);
  cpu::Nest<kMaxOperands> nest;
  for (std::uint32_t d = 0; d < y.rank; ++d) {
    std::int64_t strides[kMaxOperands] = {y.strides[d]};
    for (std::size_t i = 0; i < operands.inputs.size(); ++i) strides[1 + i] = operands.in(i).strides[d];
    nest.append(y.dims[d], strides);
  }
  nest.sort();
  nest.merge();
  return nest;
}

KernelSpec make_chain(const GenericCall& call, const Chain& chain) {
  const cpu::Operands& operands = call.operands;
  const cpu::Nest<kMaxOperands> nest = walk_of(operands);
  const std::size_t inputs = operands.inputs.size();
  std::int64_t bytes[kMaxOperands] = {};
  bytes[0] = static_cast<std::int64_t>(cpu::bytes_of(operands.out(0).dtype));
  for (std::size_t i = 0; i < inputs; ++i) bytes[1 + i] = static_cast<std::int64_t>(cpu::bytes_of(operands.in(i).dtype));
  const std::int32_t vector = vector_length(nest, bytes, call.alignment);
  const std::string count = std::to_string(vector);
  std::string load, unpack;
  for (std::size_t i = 0; i < inputs; ++i) {
    const std::string n = std::to_string(i);
    const std::int64_t step = nest.inner_stride(static_cast<int>(i) + 1);
    load += "  const auto a" + n + " = load_values<" + chain.types[i] + ", " + count + ">(x" + n + " + offset[" + std::to_string(i + 1) + "]" +
            (step == 1 && vector > 1 ? "" : ", Index{" + std::to_string(vector > 1 ? step : 0) + "}") + ");\n";
    unpack += "    const " + chain.types[i] + "::Value v" + n + " = a" + n + ".value[i];\n";
  }
  ProblemText text;
  text.define("EDGERT_ENTRY", "pointwise");
  define_parameters(text, chain.types);
  text.code("using Index = " + index_type(operands) + ";\n").set("kThreads", std::int64_t{kThreads});
  text.code(nest_struct("Walk", nest, static_cast<int>(inputs) + 1, vector));
  text.code("__device__ __forceinline__ void evaluate(const Index (&offset)[" + std::to_string(inputs + 1) +
            "], EDGERT_PARAMETERS) {\n" + load + "  Values<" + chain.types.back() + ", " + count +
            "> out;\n#pragma unroll\n  for (int i = 0; i < " + count + "; ++i) {\n" + unpack + chain.body +
            "    out.value[i] = " + chain.result + ";\n  }\n  store_values(y + offset[0], out);\n}\n");
  KernelSpec spec;
  spec.entry = "pointwise";
  spec.job = make_job(chain.name + "_" + dims_text(operands.out(0)), "kernels/pointwise.cu", text.text(), call.arch);
  set_grid(spec, nest.count / vector, kThreads);
  return spec;
}

std::string op_text(PointwiseOp op) { return "static_cast<scalar::PointwiseOp>(" + std::to_string(static_cast<unsigned>(op)) + ")"; }

std::string boolean_text(const PointwiseStep& step, const std::string& a, const std::string& b) {
  switch (step.op) {
    case PointwiseOp::Not: return "!" + a;
    case PointwiseOp::And: return a + " && " + b;
    case PointwiseOp::Or: return a + " || " + b;
    case PointwiseOp::Xor: return a + " != " + b;
    default: return a + " == " + b;  // Equal
  }
}

/// The expression of one checked instruction.
std::string step_text(const PointwiseStep& step) {
  const std::string a = "v" + std::to_string(step.a), b = "v" + std::to_string(step.b), c = "v" + std::to_string(step.c);
  const DType type = static_cast<DType>(step.type);
  const Arithmetic arithmetic = arithmetic_of(type);
  if (step.op == PointwiseOp::Where) return a + " ? " + b + " : " + c;
  if (step.op == PointwiseOp::Identity) return a;
  if (arithmetic == Arithmetic::Bool) return boolean_text(step, a, b);
  if (step.op == PointwiseOp::IsNan) return a + " != " + a;
  if (step.op == PointwiseOp::IsInf) {
    const std::string infinity = arithmetic == Arithmetic::F32 ? "scalar::infinity_f32()" : "scalar::infinity_f64()";
    return a + " == " + infinity + " || " + a + " == -" + infinity;
  }
  const std::string op = op_text(step.op);
  if (scalar::is_predicate(step.op)) return "scalar::compare<" + op + ">(" + a + ", " + b + ")";
  const bool one = scalar::arity(step.op) == 1;
  if (arithmetic == Arithmetic::F32 || arithmetic == Arithmetic::F64) {
    if (one) return "scalar::unary<" + op + ">(" + a + ", " + float_literal(step.alpha) + ", " + float_literal(step.beta) + ")";
    return "scalar::floating_binary<" + op + ">(" + a + ", " + b + ")";
  }
  const std::string bits = std::to_string(bits_of(type));
  const std::string value = one ? "scalar::integer_unary<" + op + ">(" + a + ")"
                                : "scalar::integer_binary<" + op + ">(" + a + ", " + b + ", " + bits + ")";
  return "scalar::narrow(" + value + ", " + bits + ")";
}

}  // namespace

KernelSpec make_pointwise(const GenericCall& call) {
  const cpu::Operands& operands = call.operands;
  const scalar::PointwiseProgram& program = operands.as<scalar::PointwiseProgram>();
  Chain chain;
  chain.name = "pointwise";
  for (std::uint32_t i = 0; i < program.inputs; ++i) chain.types.push_back(type_name(operands.in(i).dtype));
  chain.types.push_back(type_name(operands.out(0).dtype));
  for (std::uint32_t s = 0; s < program.steps; ++s) {
    const PointwiseStep& step = program.step[s];
    chain.result = "v" + std::to_string(program.inputs + s);
    const std::string type = scalar::is_predicate(step.op) ? "bool" : type_name(static_cast<DType>(step.type)) + "::Value";
    chain.body += "    const " + type + " " + chain.result + " = " + step_text(step) + ";\n";
    chain.name += "_" + std::to_string(static_cast<unsigned>(step.op));
  }
  return make_chain(call, chain);
}

KernelSpec make_cast(const GenericCall& call) {
  const std::string from = type_name(call.operands.in(0).dtype), to = type_name(call.operands.out(0).dtype);
  return make_chain(call, {std::string("cast_") + to_string(call.operands.in(0).dtype) + "_" + to_string(call.operands.out(0).dtype),
                           {from, to}, "", "convert<" + to + ", " + from + ">(v0)"});
}

KernelSpec make_copy(const GenericCall& call) {
  return make_chain(call, {"copy", {raw_type_name(call.operands.in(0).dtype), raw_type_name(call.operands.out(0).dtype)}, "", "v0"});
}

}  // namespace edgert::codegen
