// SPDX-License-Identifier: Apache-2.0
// LinearAttention against its recurrence in double.
#include "edgert/cpu/ops/linear_attention.h"

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

struct Problem {
  std::int64_t batch, steps, q_heads, heads, keys, values;
  bool past, gated, delta;
  std::vector<Tensor> in;  ///< q, k, v, past, decay, beta
  std::vector<Tensor> out;
  cpu::LinearAttentionAttributes attributes{0.7f};

  std::vector<TensorView> inputs() const {
    std::vector<TensorView> views;
    for (const Tensor& tensor : in) views.push_back(tensor.view());
    if (!past) views[3] = absent();
    if (!gated) views[4] = absent();
    if (!delta) views[5] = absent();
    return views;
  }
  std::vector<TensorView> outputs() const { return {out[0].view(), out[1].view()}; }
};

Problem make_problem(std::mt19937& random, int trial) {
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random() % static_cast<unsigned>(high - low + 1));
  };
  Problem p;
  p.batch = pick(1, 3);
  p.steps = pick(0, 6);
  p.heads = pick(1, 3);
  p.q_heads = p.heads * pick(1, 3);
  p.keys = pick(1, 9);
  p.values = pick(1, 40);
  p.past = trial % 2 == 0;
  p.gated = trial / 2 % 2 == 0;
  p.delta = trial / 4 % 2 == 0;
  const auto add = [&](std::vector<Tensor>& to, const Dims& dims, double low, double high) {
    to.emplace_back(DType::F32, dims, random() % 3 == 0 ? Order::Reversed : Order::RowMajor);
    to.back().fill(random, low, high);
  };
  add(p.in, {p.batch, p.steps, p.q_heads, p.keys}, -1, 1);
  add(p.in, {p.batch, p.steps, p.heads, p.keys}, -0.5, 0.5);
  add(p.in, {p.batch, p.steps, p.heads, p.values}, -1, 1);
  add(p.in, {p.batch, p.heads, p.keys, p.values}, -1, 1);
  add(p.in, {p.batch, p.steps, p.heads, p.keys}, -1, 0);
  add(p.in, {p.batch, p.steps, p.heads}, 0, 1);
  add(p.out, {p.batch, p.steps, p.q_heads, p.values}, 0, 0);
  add(p.out, {p.batch, p.heads, p.keys, p.values}, 0, 0);
  return p;
}

void verify_head(const Problem& p, std::int64_t b, std::int64_t h) {
  std::vector<double> state(static_cast<std::size_t>(p.keys * p.values), 0);
  const auto cell = [&](std::int64_t i, std::int64_t n) -> double& {
    return state[static_cast<std::size_t>(i * p.values + n)];
  };
  const std::int64_t head = (b * p.heads + h) * p.keys;
  const auto last_state = [&](std::int64_t i, std::int64_t n) { return (head + i) * p.values + n; };
  for (std::int64_t i = 0; i < p.keys; ++i) {
    for (std::int64_t n = 0; n < p.values; ++n) cell(i, n) = p.past ? p.in[3].get(last_state(i, n)) : 0;
  }
  for (std::int64_t t = 0; t < p.steps; ++t) {
    const std::int64_t token = (b * p.steps + t) * p.heads + h;
    for (std::int64_t n = 0; n < p.values; ++n) {
      double known = 0;
      for (std::int64_t i = 0; i < p.keys; ++i) {
        if (p.gated) cell(i, n) *= std::exp(p.in[4].get(token * p.keys + i));
        known += cell(i, n) * p.in[1].get(token * p.keys + i);
      }
      double value = p.in[2].get(token * p.values + n);
      if (p.delta) value = p.in[5].get(token) * (value - known);
      for (std::int64_t i = 0; i < p.keys; ++i) cell(i, n) += p.in[1].get(token * p.keys + i) * value;
    }
    const std::int64_t group = p.q_heads / p.heads;
    for (std::int64_t q = h * group; q < (h + 1) * group; ++q) {
      const std::int64_t query = (b * p.steps + t) * p.q_heads + q;
      for (std::int64_t n = 0; n < p.values; ++n) {
        double sum = 0;
        for (std::int64_t i = 0; i < p.keys; ++i) sum += p.in[0].get(query * p.keys + i) * cell(i, n);
        REQUIRE(close(p.out[0].get(query * p.values + n), static_cast<double>(p.attributes.scale) * sum, 1e-5, 1e-5));
      }
    }
  }
  for (std::int64_t i = 0; i < p.keys; ++i) {
    for (std::int64_t n = 0; n < p.values; ++n) {
      REQUIRE(close(p.out[1].get(last_state(i, n)), cell(i, n), 1e-5, 1e-5));
    }
  }
}

}  // namespace

TEST_CASE("LinearAttention: every rule, shared heads, any layout") {
  std::mt19937 random(421);
  for (int trial = 0; trial < 80; ++trial) {
    CAPTURE(trial);
    const Problem p = make_problem(random, trial);
    for (const cpu::Isa isa : supported_isas()) {
      for (const std::uint32_t parts : {1u, 3u}) {
        REQUIRE(run_parts<cpu::LinearAttention>(p.inputs(), p.outputs(), p.attributes, isa, parts).ok());
        for (std::int64_t b = 0; b < p.batch; ++b) {
          for (std::int64_t h = 0; h < p.heads; ++h) verify_head(p, b, h);
        }
      }
    }
  }
}

TEST_CASE("LinearAttention: check refuses what does not fit") {
  std::mt19937 random(422);
  const Problem p = make_problem(random, 0);
  const auto verdict = [&](const std::vector<TensorView>& inputs, const std::vector<TensorView>& outputs) {
    const Call call(inputs, outputs, &p.attributes);
    return cpu::LinearAttention::check(call.operands());
  };
  CHECK(verdict(p.inputs(), p.outputs()) == nullptr);
  for (std::size_t i = 0; i < 8; ++i) {
    const TensorView view = i < 6 ? p.inputs()[i] : p.outputs()[i - 6];
    for (std::uint32_t d = 0; d <= view.rank; ++d) {
      std::vector<TensorView> inputs = p.inputs();
      std::vector<TensorView> outputs = p.outputs();
      TensorView& changed = i < 6 ? inputs[i] : outputs[i - 6];
      if (d == view.rank) {
        changed.dtype = DType::F64;
      } else {
        changed.dims[d] += i == 0 && d == 2 ? 100 * p.heads : 1;
      }
      CHECK(verdict(inputs, outputs) != nullptr);
    }
  }
}

TEST_CASE("LinearAttention: changed operands and attributes stay inside") {
  std::mt19937 random(423);
  int ran = 0;
  for (int trial = 0; trial < 40; ++trial) {
    const Problem p = make_problem(random, trial);
    ran += survive_changed_operands<cpu::LinearAttention>(random, p.inputs(), p.outputs(), p.attributes, 50);
  }
  CHECK(ran > 200);
}
