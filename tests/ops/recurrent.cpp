// SPDX-License-Identifier: Apache-2.0
// RNN, GRU and LSTM in every variant, against ONNX's equations in double, sequence by sequence.
#include "edgert/cpu/ops/recurrent.h"

#include <algorithm>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;
using cpu::RecurrentCell;
using cpu::RecurrentDirection;
using scalar::PointwiseOp;

namespace {

struct Problem {
  std::int64_t steps, batch, directions, gates, hidden;
  cpu::RecurrentAttributes attributes;
  std::vector<Tensor> inputs;  ///< x, r, h, c, p, b, lengths
  std::vector<bool> given;
};

double activation(const cpu::RecurrentActivation& a, double x) {
  const double alpha = static_cast<double>(a.alpha);
  switch (a.op) {
    case PointwiseOp::Sigmoid: return 1 / (1 + std::exp(-x));
    case PointwiseOp::Tanh: return std::tanh(x);
    case PointwiseOp::Relu: return x > 0 ? x : 0;
    case PointwiseOp::LeakyRelu: return x < 0 ? alpha * x : x;
    case PointwiseOp::HardSigmoid: return std::min(1.0, std::max(0.0, alpha * x + static_cast<double>(a.beta)));
    default: return x;
  }
}

using Row = std::vector<double>;

/// One sequence of one direction, step by step; `y(t, n)` takes the hidden states.
class Sequence {
 public:
  Sequence(const Problem& problem, std::int64_t d, std::int64_t b) : p_(problem), d_(d), b_(b) {
    const std::size_t size = static_cast<std::size_t>(p_.hidden);
    h.assign(size, 0);
    c.assign(size, 0);
    for (std::int64_t n = 0; n < p_.hidden; ++n) {
      const std::int64_t at = (d_ * p_.batch + b_) * p_.hidden + n;
      if (p_.given[2]) h[static_cast<std::size_t>(n)] = p_.inputs[2].get(at);
      if (p_.given[3]) c[static_cast<std::size_t>(n)] = p_.inputs[3].get(at);
    }
  }

  void step(std::int64_t t) {
    const auto& a = p_.attributes;
    Row next = h;
    const Row old = h;
    Row reset(h.size());
    for (std::size_t n = 0; n < h.size(); ++n) {
      if (a.cell == RecurrentCell::Gru) reset[n] = old[n] * act(0, x(t, 1, n) + dot(1, n, old));
    }
    for (std::size_t n = 0; n < h.size(); ++n) {
      if (a.cell == RecurrentCell::Rnn) {
        next[n] = act(0, x(t, 0, n) + dot(0, n, old));
      } else if (a.cell == RecurrentCell::Gru) {
        const double z = act(0, x(t, 0, n) + dot(0, n, old));
        const double r = act(0, x(t, 1, n) + dot(1, n, old));
        const double bias = p_.given[5] ? p_.inputs[5].get(d_ * p_.hidden + static_cast<std::int64_t>(n)) : 0;
        const double product = a.linear_before_reset != 0 ? r * (dot(2, n, old) + bias) : dot(2, n, reset);
        next[n] = (1 - z) * act(1, x(t, 2, n) + product) + z * old[n];
      } else {
        const double i = act(0, x(t, 0, n) + dot(0, n, old) + peephole(0, n) * c[n]);
        const double forget = act(0, x(t, 2, n) + dot(2, n, old) + peephole(2, n) * c[n]);
        const double f = a.input_forget != 0 ? 1 - i : forget;
        c[n] = f * c[n] + i * act(1, x(t, 3, n) + dot(3, n, old));
        const double o = act(0, x(t, 1, n) + dot(1, n, old) + peephole(1, n) * c[n]);
        next[n] = o * act(2, c[n]);
      }
    }
    h = next;
  }

  Row h, c;

 private:
  double x(std::int64_t t, std::int64_t gate, std::size_t n) const {
    const std::int64_t row = (t * p_.batch + b_) * p_.directions + d_;
    return p_.inputs[0].get((row * p_.gates + gate) * p_.hidden + static_cast<std::int64_t>(n));
  }
  double dot(std::int64_t gate, std::size_t n, const Row& row) const {
    double sum = 0;
    for (std::int64_t k = 0; k < p_.hidden; ++k) {
      const std::int64_t at = ((d_ * p_.gates + gate) * p_.hidden + k) * p_.hidden + static_cast<std::int64_t>(n);
      sum += row[static_cast<std::size_t>(k)] * p_.inputs[1].get(at);
    }
    return sum;
  }
  double peephole(std::int64_t gate, std::size_t n) const {
    return p_.given[4] ? p_.inputs[4].get((d_ * 3 + gate) * p_.hidden + static_cast<std::int64_t>(n)) : 0;
  }
  double act(int which, double value) const {
    const double limit = static_cast<double>(p_.attributes.clip);
    if (limit > 0) value = std::min(limit, std::max(-limit, value));
    return activation(p_.attributes.activation[d_][which], value);
  }

  const Problem& p_;
  std::int64_t d_, b_;
};

/// r as the builder packs it.
std::vector<float> panels_of(const Problem& p) {
  std::vector<float> panels;
  for (std::int64_t group = 0; group < p.directions * p.gates; ++group) {
    for (std::int64_t column = 0; column < p.hidden; column += 16) {
      for (std::int64_t k = 0; k < p.hidden; ++k) {
        for (std::int64_t n = column; n < column + 16; ++n) {
          const std::int64_t at = (group * p.hidden + k) * p.hidden + n;
          panels.push_back(n < p.hidden ? static_cast<float>(p.inputs[1].get(at)) : 0.0f);
        }
      }
    }
  }
  return panels;
}

std::vector<TensorView> input_views(const Problem& p) {
  std::vector<TensorView> views;
  for (std::size_t i = 0; i < p.inputs.size(); ++i) views.push_back(p.given[i] ? p.inputs[i].view() : absent());
  return views;
}

Status run_recurrent(const Problem& p, const std::vector<TensorView>& inputs, const std::vector<Tensor>& outputs,
                     cpu::Isa isa, std::uint32_t parts) {
  std::vector<TensorView> views;
  for (const Tensor& output : outputs) views.push_back(output.view());
  return run_parts<cpu::Recurrent>(inputs, views, p.attributes, isa, parts);
}

std::vector<Tensor> make_outputs(const Problem& p, Order order) {
  std::vector<Tensor> outputs;
  outputs.emplace_back(DType::F32, Dims{p.steps, p.directions, p.batch, p.hidden}, order);
  for (int i = 0; i < (p.attributes.cell == RecurrentCell::Lstm ? 2 : 1); ++i) {
    outputs.emplace_back(DType::F32, Dims{p.directions, p.batch, p.hidden}, order);
  }
  return outputs;
}

Problem make_problem(std::mt19937& random, RecurrentCell cell, RecurrentDirection direction) {
  const auto pick = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random() % static_cast<unsigned>(high - low + 1));
  };
  Problem p;
  p.attributes = {};
  p.attributes.cell = cell;
  p.attributes.direction = direction;
  p.attributes.linear_before_reset = static_cast<std::uint8_t>(random() % 2);
  p.attributes.input_forget = static_cast<std::uint8_t>(random() % 4 == 0);
  p.attributes.clip = random() % 3 == 0 ? 0.4f : 0.0f;
  const PointwiseOp ops[] = {PointwiseOp::Sigmoid, PointwiseOp::Tanh,       PointwiseOp::Tanh,
                             PointwiseOp::Relu,    PointwiseOp::HardSigmoid, PointwiseOp::LeakyRelu};
  const bool usual = random() % 2 == 0;
  for (auto& each : p.attributes.activation) {
    for (std::size_t i = 0; i < 3; ++i) each[i] = {ops[usual ? i : random() % 6], {}, 0.2f, 0.5f};
  }
  p.steps = pick(0, 5);
  p.batch = pick(0, 3) == 0 ? pick(30, 40) : pick(1, 6);
  p.directions = direction == RecurrentDirection::Both ? 2 : 1;
  p.gates = cpu::recurrent_detail::gates_of(cell);
  const std::int64_t sizes[] = {1, 5, 16, 17, 40};
  p.hidden = sizes[random() % 5];
  const auto order = [&] { return random() % 3 == 0 ? Order::Reversed : Order::RowMajor; };
  const auto add = [&](DType type, const Dims& dims, double low, double high, bool given) {
    p.inputs.emplace_back(type, dims, order());
    p.inputs.back().fill(random, low, high);
    p.given.push_back(given);
  };
  const bool lstm = cell == RecurrentCell::Lstm;
  add(DType::F32, {p.steps, p.batch, p.directions, p.gates * p.hidden}, -2, 2, true);
  // Activations without bounds must not let the state, and with it rounding errors, grow.
  const double weight = usual ? 0.4 : 0.2 / static_cast<double>(p.hidden);
  add(DType::F32, {p.directions * p.gates, p.hidden, p.hidden}, -weight, weight, true);
  add(DType::F32, {p.directions, p.batch, p.hidden}, -1, 1, random() % 2 == 0);
  add(DType::F32, {p.directions, p.batch, p.hidden}, -1, 1, lstm && random() % 2 == 0);
  add(DType::F32, {p.directions, 3 * p.hidden}, -1, 1, lstm && random() % 2 == 0);
  add(DType::F32, {p.directions, p.hidden}, -1, 1, cell == RecurrentCell::Gru && random() % 2 == 0);
  add(DType::I32, {p.batch}, 0, static_cast<double>(p.steps) + 0.99, random() % 2 == 0);
  return p;
}

void verify(const Problem& p, const std::vector<Tensor>& outputs) {
  for (std::int64_t d = 0; d < p.directions; ++d) {
    for (std::int64_t b = 0; b < p.batch; ++b) {
      Sequence sequence(p, d, b);
      const std::int64_t length = p.given[6] ? p.inputs[6].get_int(b) : p.steps;
      const bool reverse = p.attributes.direction == RecurrentDirection::Reverse || d == 1;
      for (std::int64_t step = 0; step < p.steps; ++step) {
        const std::int64_t t = reverse && step < length ? length - 1 - step : step;
        if (step < length) sequence.step(t);
        for (std::int64_t n = 0; n < p.hidden; ++n) {
          const double expected = step < length ? sequence.h[static_cast<std::size_t>(n)] : 0.0;
          const std::int64_t at = ((t * p.directions + d) * p.batch + b) * p.hidden + n;
          REQUIRE(close(outputs[0].get(at), expected, 2e-5, 1e-4));
        }
      }
      for (std::int64_t n = 0; n < p.hidden; ++n) {
        const std::int64_t at = (d * p.batch + b) * p.hidden + n;
        REQUIRE(close(outputs[1].get(at), sequence.h[static_cast<std::size_t>(n)], 2e-5, 1e-4));
        if (outputs.size() > 2) {
          REQUIRE(close(outputs[2].get(at), sequence.c[static_cast<std::size_t>(n)], 2e-5, 1e-4));
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("Recurrent: every cell, direction and option") {
  std::mt19937 random(301);
  for (int trial = 0; trial < 180; ++trial) {
    CAPTURE(trial);
    const Problem p = make_problem(random, static_cast<RecurrentCell>(trial % 3),
                                   static_cast<RecurrentDirection>(trial / 3 % 3));
    std::vector<float> panels = panels_of(p);
    for (const bool packed : {false, true}) {
      std::vector<TensorView> inputs = input_views(p);
      if (packed) {
        inputs[1].format = WeightFormat::PanelF32x16;
        inputs[1].data = panels.data();
      }
      for (const cpu::Isa isa : supported_isas()) {
        const std::vector<Tensor> whole = make_outputs(p, trial % 4 == 0 ? Order::Reversed : Order::RowMajor);
        REQUIRE(run_recurrent(p, inputs, whole, isa, 1).ok());
        verify(p, whole);
        for (const std::uint32_t parts : {2u, 5u}) {
          const std::vector<Tensor> again = make_outputs(p, trial % 4 == 0 ? Order::Reversed : Order::RowMajor);
          REQUIRE(run_recurrent(p, inputs, again, isa, parts).ok());
          for (std::size_t i = 0; i < whole.size(); ++i) CHECK(again[i].same_bytes(whole[i]));
        }
      }
    }
  }
}

TEST_CASE("Recurrent: lengths out of range are an error") {
  std::mt19937 random(302);
  for (const std::int32_t length : {-1, 100}) {
    Problem p = make_problem(random, RecurrentCell::Lstm, RecurrentDirection::Both);
    p.given[6] = true;
    p.inputs[6].set_int(p.batch - 1, length);
    const Status status = run_recurrent(p, input_views(p), make_outputs(p, Order::RowMajor), cpu::Isa::Baseline, 1);
    CHECK(status.error() == Error::IndexOutOfRange);
  }
}

TEST_CASE("Recurrent: check refuses what does not fit") {
  std::mt19937 random(303);
  Problem p = make_problem(random, RecurrentCell::Lstm, RecurrentDirection::Forward);
  const std::vector<Tensor> outputs = make_outputs(p, Order::RowMajor);
  const auto verdict = [&](const std::vector<TensorView>& inputs) {
    std::vector<TensorView> views;
    for (const Tensor& output : outputs) views.push_back(output.view());
    const Call call(inputs, views, &p.attributes);
    return cpu::Recurrent::check(call.operands());
  };
  CHECK(verdict(input_views(p)) == nullptr);
  for (std::size_t i = 0; i < 7; ++i) {
    p.given.assign(7, true);
    for (std::uint32_t d = 0; d < p.inputs[i].view().rank; ++d) {
      std::vector<TensorView> inputs = input_views(p);
      ++inputs[i].dims[d];
      // The hidden extent is r's own; every other operand then disagrees.
      CHECK(verdict(inputs) != nullptr);
    }
    std::vector<TensorView> inputs = input_views(p);
    inputs[i].dtype = DType::I64;
    CHECK(verdict(inputs) != nullptr);
  }
  p.attributes.cell = static_cast<RecurrentCell>(3);
  CHECK(verdict(input_views(p)) != nullptr);
  p.attributes.cell = RecurrentCell::Lstm;
  p.attributes.direction = RecurrentDirection::Both;
  CHECK(verdict(input_views(p)) != nullptr);
  p.attributes.direction = RecurrentDirection::Forward;
  p.attributes.activation[1][2].op = PointwiseOp::Add;
  CHECK(verdict(input_views(p)) != nullptr);
  p.attributes.activation[1][2].op = static_cast<PointwiseOp>(250);
  CHECK(verdict(input_views(p)) != nullptr);
}

TEST_CASE("Recurrent: changed operands and attributes stay inside") {
  std::mt19937 random(304);
  int ran = 0;
  for (int trial = 0; trial < 90; ++trial) {
    const Problem p = make_problem(random, static_cast<RecurrentCell>(trial % 3),
                                   static_cast<RecurrentDirection>(trial / 3 % 3));
    std::vector<TensorView> outputs;
    for (const Tensor& output : make_outputs(p, Order::RowMajor)) outputs.push_back(output.view());
    ran += survive_changed_operands<cpu::Recurrent>(random, input_views(p), outputs, p.attributes, 50);
  }
  CHECK(ran > 500);
}
