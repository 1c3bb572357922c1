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

namespace {

/// activation<kNumber>(x): of the first direction, or with kNumber from 3 on of the second.
std::string activations_text(const cpu::RecurrentAttributes& a) {
  std::string text = "template <int kNumber>\n__device__ __forceinline__ float activation(float x) {\n  ";
  for (int i = 0; i < 6; ++i) {
    const cpu::RecurrentActivation& f = a.activation[i / 3][i % 3];
    text += "if constexpr (kNumber == " + std::to_string(i) + ") return scalar::float_unary<static_cast<scalar::PointwiseOp>(" +
            std::to_string(static_cast<unsigned>(f.op)) + ")>(x, " + float_literal(f.alpha) + ", " + float_literal(f.beta) + ");\n  else ";
  }
  return text + "return x;\n}\n";
}

void set_cell(ProblemText& text, const GenericCall& call) {
  const cpu::RecurrentAttributes& a = call.operands.as<cpu::RecurrentAttributes>();
  text.set("kCell", std::int64_t{static_cast<int>(a.cell)}).set("kReverse", a.direction == cpu::RecurrentDirection::Reverse);
  text.set("kInputForget", a.input_forget != 0).set("kClip", a.clip).code(activations_text(a));
}

bool can_split_recurrent(const GenericCall& call) {
  const cpu::RecurrentAttributes& a = call.operands.as<cpu::RecurrentAttributes>();
  if (call.operands.has(4) || (a.cell == cpu::RecurrentCell::Gru && a.linear_before_reset == 0)) return false;
  if (a.direction != cpu::RecurrentDirection::Both) return true;
  for (int i = 0; i < 3; ++i) {
    const cpu::RecurrentActivation &f = a.activation[0][i], &g = a.activation[1][i];
    if (f.op != g.op || f.alpha != g.alpha || f.beta != g.beta) return false;
  }
  return true;
}

}  // namespace

std::vector<RecurrentSplit> recurrent_splits(const GenericCall& call) {
  constexpr std::int64_t kMostWeights = 64;  // in a thread's registers
  const std::int64_t hidden = call.operands.in(1).dims[1], groups = call.operands.in(0).dims[1] * call.operands.in(0).dims[2];
  const std::int64_t slots = call.operands.as<cpu::RecurrentAttributes>().cell == cpu::RecurrentCell::Rnn ? 1 : 4;
  std::vector<RecurrentSplit> splits;
  if (!can_split_recurrent(call) || groups > 4096) return splits;
  for (const std::int32_t parts : {4, 8}) {
    for (const std::int32_t share : {8, 4, 16, 2, 1}) {
      const std::int64_t threads = hidden / share * slots * parts;
      if (hidden % share != 0 || hidden % (4 * parts) != 0 || threads % 32 != 0 || threads > 512 || hidden / parts > kMostWeights) continue;
      // Blocks that no cluster brings together must all find a place at once.
      if (call.arch < 90 && groups * share > call.multiprocessors) continue;
      splits.push_back({share, parts});
    }
  }
  return splits;
}

std::vector<float> pack_recurrent_weights(const GenericCall& call, const RecurrentSplit& split, const float* r) {
  const std::int64_t hidden = call.operands.in(1).dims[1], directions = call.operands.in(0).dims[2], units = hidden / split.share;
  const cpu::RecurrentCell cell = call.operands.as<cpu::RecurrentAttributes>().cell;
  const std::int64_t gates = cpu::recurrent_detail::gates_of(cell), slots = cell == cpu::RecurrentCell::Rnn ? 1 : 4;
  const std::int64_t threads = units * slots * split.parts;
  std::vector<float> packed;
  packed.reserve(static_cast<std::size_t>(directions * slots * hidden * hidden));
  for (std::int64_t block = 0; block < directions * split.share; ++block) {
    for (std::int64_t vector = 0; vector < hidden / 4 / split.parts; ++vector) {
      for (std::int64_t thread = 0; thread < threads; ++thread) {
        const std::int64_t gate = thread / split.parts % slots;
        const std::int64_t n = block % split.share * units + thread / (split.parts * slots);
        for (std::int64_t j = 0; j < 4; ++j) {
          const std::int64_t k = (vector * split.parts + thread % split.parts) * 4 + j;
          packed.push_back(gate < gates ? r[((block / split.share * gates + gate) * hidden + k) * hidden + n] : 0.0f);
        }
      }
    }
  }
  return packed;
}

KernelSpec make_recurrent_split(const GenericCall& call, const RecurrentSplit& split) {
  const cpu::Operands& operands = call.operands;
  const TensorView& x = operands.in(0);
  const std::int64_t batch = x.dims[1], groups = batch * x.dims[2], hidden = operands.in(1).dims[1];
  const bool lstm = operands.as<cpu::RecurrentAttributes>().cell == cpu::RecurrentCell::Lstm, cluster = call.arch >= 90 && split.share > 1;
  TensorView weights, state, counters;
  weights.dtype = state.dtype = DType::F32, counters.dtype = DType::U32;
  weights.rank = state.rank = counters.rank = 1;
  weights.dims[0] = state.dims[0] = counters.dims[0] = 1;
  const TensorView none;
  ProblemText text;
  text.define("EDGERT_ENTRY", "recurrent_split").code("using Index = " + index_type(operands) + ";\n");
  define_roles(text, {{"x", &x},
                      {"weights", &weights},
                      {"h0", &operands.in(2)},
                      {"c0", &operands.in(3)},
                      {"bias", &operands.in(5)},
                      {"lengths", &operands.in(6)},
                      {"y", &operands.out(0), true},
                      {"last_h", &operands.out(1), true},
                      {"last_c", lstm ? &operands.out(2) : &none, true},
                      {"state", &state, true},
                      {"counters", &counters, true}});
  text.set("kSteps", x.dims[0]).set("kBatch", batch).set("kHidden", hidden).set("kCluster", cluster);
  text.set("kShare", std::int64_t{split.share}).set("kParts", std::int64_t{split.parts});
  set_cell(text, call);
  KernelSpec spec;
  spec.entry = "recurrent_split";
  spec.tile = "share " + std::to_string(split.share) + " parts " + std::to_string(split.parts);
  spec.cluster = cluster ? static_cast<std::uint32_t>(split.share) : 1;
  spec.shared_bytes = static_cast<std::uint32_t>(2 * hidden * 4 + 16);
  spec.workspace_bytes = cluster ? 256 : static_cast<std::uint64_t>(groups * 2 * hidden * 4);
  spec.counters = cluster ? 0 : static_cast<std::uint32_t>(groups);
  spec.job = make_job("recurrent_split" + std::to_string(split.share) + "_" + dims_text(x) + "_h" + std::to_string(hidden), "kernels/recurrent_split.cu", text.text(),
                      call.arch);
  const std::int64_t slots = operands.as<cpu::RecurrentAttributes>().cell == cpu::RecurrentCell::Rnn ? 1 : 4;
  set_grid(spec, groups * split.share, static_cast<std::int32_t>(hidden / split.share * slots * split.parts));
  return spec;
}

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
  text.set("kLinearBeforeReset", a.linear_before_reset != 0);
  set_cell(text, call);
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
