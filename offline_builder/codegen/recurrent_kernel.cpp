// SPDX-License-Identifier: Apache-2.0
#include "codegen/recurrent_kernel.h"

#include "edgert/cpu/ops/linear_attention.h"
#include "edgert/cpu/ops/recurrent.h"

namespace edgert::codegen {

namespace {

/// What every target has for a block.
constexpr std::int64_t kSharedBytes = 99 * 1024;

std::uint32_t shared_bytes(const std::string& name, std::int64_t floats) {
  if (floats > kSharedBytes / 4) throw CompileError(name + ": its state does not fit shared memory");
  return static_cast<std::uint32_t>(floats * 4);
}

}  // namespace

KernelSpec make_recurrent(const GenericCall& call) {
  const cpu::Operands& operands = call.operands;
  const cpu::RecurrentAttributes& a = operands.as<cpu::RecurrentAttributes>();
  const TensorView& x = operands.in(0);
  const bool lstm = a.cell == cpu::RecurrentCell::Lstm;
  const std::int64_t steps = x.dims[0], batch = x.dims[1], directions = x.dims[2], hidden = operands.in(1).dims[1];
  const TensorView none;
  ProblemText text;
  text.define("EDGERT_ENTRY", "recurrent").code("using Index = " + index_type(operands) + ";\n");
  define_roles(text, {{"x", &x}, {"r", &operands.in(1)}, {"h0", &operands.in(2)}, {"c0", &operands.in(3)}, {"peepholes", &operands.in(4)},
                      {"bias", &operands.in(5)}, {"lengths", &operands.in(6)}, {"y", &operands.out(0), true}, {"last_h", &operands.out(1), true},
                      {"last_c", lstm ? &operands.out(2) : &none, true}});
  std::int64_t threads = 32;
  while (threads < hidden && threads < 512) threads *= 2;
  const auto set = [&](const char* name, std::int64_t value) { text.set(name, "Index", std::to_string(value)); };
  set("kSteps", steps), set("kBatch", batch), set("kHidden", hidden);
  text.set("kThreads", threads).set("kDirections", directions).set("kGates", cpu::recurrent_detail::gates_of(a.cell));
  text.set("kCell", std::int64_t{static_cast<int>(a.cell)}).set("kReverse", a.direction == cpu::RecurrentDirection::Reverse);
  text.set("kLinearBeforeReset", a.linear_before_reset != 0).set("kInputForget", a.input_forget != 0).set("kClip", a.clip);
  std::string activation = "template <int kNumber>\n__device__ __forceinline__ float activation(float x) {\n  ";
  for (int i = 0; i < 6; ++i) {
    const cpu::RecurrentActivation& f = a.activation[i / 3][i % 3];
    activation += "if constexpr (kNumber == " + std::to_string(i) + ") return scalar::float_unary<static_cast<scalar::PointwiseOp>(" +
                  std::to_string(static_cast<unsigned>(f.op)) + ")>(x, " + float_literal(f.alpha) + ", " + float_literal(f.beta) + ");\n  else ";
  }
  text.code(activation + "return x;\n}\n");
  KernelSpec spec;
  spec.entry = "recurrent";
  const std::string name = "recurrent" + std::to_string(static_cast<int>(a.cell)) + "_" + dims_text(x) + "_h" + std::to_string(hidden);
  spec.shared_bytes = shared_bytes(name, 4 * hidden);
  spec.job = make_job(name, "kernels/recurrent.cu", text.text(), call.arch);
  set_grid(spec, batch * directions, static_cast<std::int32_t>(threads));
  return spec;
}

KernelSpec make_linear_attention(const GenericCall& call) {
  constexpr std::int32_t kThreads = 32;
  const cpu::Operands& operands = call.operands;
  const TensorView& q = operands.in(0);
  const TensorView& k = operands.in(1);
  const TensorView& v = operands.in(2);
  const std::int64_t batch = k.dims[0], steps = k.dims[1], heads = k.dims[2], keys = k.dims[3], values = v.dims[3];
  ProblemText text;
  text.define("EDGERT_ENTRY", "linear_attention").code("using Index = " + index_type(operands) + ";\n");
  define_roles(text, {{"q", &q}, {"k", &k}, {"v", &v}, {"past", &operands.in(3)}, {"decay", &operands.in(4)}, {"beta", &operands.in(5)},
                      {"y", &operands.out(0), true}, {"last", &operands.out(1), true}});
  const auto set = [&](const char* name, std::int64_t value) { text.set(name, "Index", std::to_string(value)); };
  set("kSteps", steps), set("kHeads", heads), set("kKeys", keys), set("kValues", values), set("kGroup", q.dims[2] / heads);
  text.set("kThreads", std::int64_t{kThreads}).set("kScale", operands.as<cpu::LinearAttentionAttributes>().scale);
  KernelSpec spec;
  spec.entry = "linear_attention";
  const std::string name = "linear_attention_" + dims_text(k) + "_" + dims_text(v);
  spec.shared_bytes = shared_bytes(name, keys * kThreads);
  spec.job = make_job(name, "kernels/linear_attention.cu", text.text(), call.arch);
  set_grid(spec, batch * heads * ceil_div(values, kThreads), kThreads);
  return spec;
}

}  // namespace edgert::codegen
