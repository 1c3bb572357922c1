// SPDX-License-Identifier: Apache-2.0
// Transformers as plans for GPUs: blocks become five launches each, and give in the host emulation what plans for the CPU
// give, for every form of mask that the fused attention knows.
#include <doctest/doctest.h>

#include <functional>
#include <limits>
#include <string>

#include "edgert/cpu/ops/gather.h"
#include "edgert/cpu/ops/normalize.h"
#include "edgert/cpu/ops/softmax.h"
#include "pass_net.h"
#include "plan_runs.h"

namespace {

using namespace edgert;
using namespace edgert::test;
using Op = scalar::PointwiseOp;

ir::Bytes bytes_of(const std::vector<float>& x) { return ir::Bytes::copy(x.data(), x.size() * sizeof(float)); }

ValueId scaled_random(Net& net, const Dims& dims, float scale) {
  std::vector<float> values = net.numbers.floats(ir::element_count(dims));
  for (float& x : values) x *= scale;
  return net.constant(dims, values);
}

/// [..., K] times a matrix that keeps the size of its elements about as it is, plus a bias.
ValueId dense(Net& net, ValueId x, std::int64_t columns) {
  const std::int64_t depth = net.dims(x).back();
  const float scale = 0.9f / std::sqrt(static_cast<float>(depth));
  return net.matmul(x, scaled_random(net, {depth, columns}, scale), scaled_random(net, {columns}, 0.1f));
}

ValueId normalize(Net& net, ValueId x, bool rms = false) {
  const Dims dims = net.dims(x);
  cpu::NormalizeAttributes a{};
  a.axes = 1u << (dims.size() - 1);
  a.epsilon = 1e-5f;
  a.rms = rms ? 1 : 0;
  const ValueId scale = net.expand(net.random({dims.back()}), dims);
  const ValueId shift = net.expand(net.random({dims.back()}), dims);
  return net.node(ops::kNormalize, {x, scale, rms ? ir::kNone : shift}, a);
}

ValueId softmax(Net& net, ValueId x, bool zero_hidden = false) {
  cpu::SoftmaxAttributes a{};
  a.axis = static_cast<std::int32_t>(net.dims(x).size()) - 1;
  a.zero_hidden = zero_hidden ? 1 : 0;
  return net.node(ops::kSoftmax, {x}, a);
}

ValueId gather(Net& net, ValueId table, ValueId index) { return net.node(ops::kGather, {table, index}, cpu::GatherAttributes{}); }

/// [N, L, C] as [N, heads, L, C / heads].
ValueId to_heads(Net& net, ValueId x, std::int64_t heads) {
  const Dims dims = net.dims(x);
  return net.transpose(net.reshape(x, {dims[0], dims[1], heads, dims[2] / heads}), {0, 2, 1, 3});
}

using Mask = std::function<ValueId(ValueId scores)>;

/// softmax(mask(Q K^T)) V of [N, heads, L, D] operands as [N, L, heads * D].
ValueId attend(Net& net, ValueId q, ValueId k, ValueId v, const Mask& mask, bool zero_hidden = false) {
  const ValueId scores = net.matmul(q, net.transpose(k, {0, 1, 3, 2}));
  const ValueId y = net.transpose(net.matmul(softmax(net, mask(scores), zero_hidden), v), {0, 2, 1, 3});
  const Dims dims = net.dims(y);
  return net.reshape(y, {dims[0], dims[1], dims[2] * dims[3]});
}

struct Outcome {
  double sqnr;
  std::uint32_t steps;
  std::vector<float> expected, actual;
};

Outcome outcome_of(const std::function<void(Net&)>& make, const std::vector<ir::Bytes>& inputs, std::uint32_t arch = 90) {
  const auto build = [&](const plan::BuildOptions& options) {
    Net net;
    make(net);
    std::vector<ir::Graph> graphs;
    graphs.push_back(std::move(net.graph));
    return plan::build(std::move(graphs), options);
  };
  Outcome outcome;
  outcome.expected = run_on_cpu(build({}).bytes, inputs);
  const plan::BuildResult built = build(options_for(arch));
  outcome.steps = built.profiles[0].steps;
  outcome.actual = run_on_fake_gpu(built.bytes, arch, inputs);
  outcome.sqnr = sqnr_db(outcome.actual, outcome.expected);
  return outcome;
}

TEST_CASE("normalisation behind the sums: embeddings, joined projections, an additive mask, rows stored by the product that normalises them") {
  constexpr std::int64_t kBatch = 2, kTokens = 11, kWidth = 48, kHeads = 3, kWords = 29;
  const auto make = [](Net& net) {
    const ValueId ids = net.graph.add_input("ids", {DType::I64, {kBatch, kTokens}});
    const ValueId lengths = net.graph.add_input("mask", {DType::F32, {kBatch, 1, 1, kTokens}});
    const ValueId mask = net.binary(Op::Mul, net.binary(Op::Sub, lengths, 1.0f), 3.4028235e38f);
    ValueId x = net.binary(Op::Add, gather(net, net.random({kWords, kWidth}), ids), net.random({1, kTokens, kWidth}));
    x = normalize(net, x);
    for (int block = 0; block < 2; ++block) {
      const ValueId q = to_heads(net, dense(net, x, kWidth), kHeads), k = to_heads(net, dense(net, x, kWidth), kHeads);
      const ValueId v = to_heads(net, dense(net, x, kWidth), kHeads);
      const ValueId y = attend(net, q, k, v, [&](ValueId scores) { return net.binary(Op::Add, net.binary(Op::Mul, scores, 0.25f), mask); });
      x = normalize(net, net.binary(Op::Add, dense(net, y, kWidth), x));
      x = normalize(net, net.binary(Op::Add, dense(net, net.unary(Op::Gelu, dense(net, x, 2 * kWidth)), kWidth), x));
    }
    net.output(x);
  };
  std::vector<std::int64_t> ids;
  std::vector<float> keep;
  for (std::int64_t i = 0; i < kBatch * kTokens; ++i) ids.push_back(i * 7 % kWords), keep.push_back(i % kTokens < 6 + i / kTokens * 3 ? 1.0f : 0.0f);
  ids[3] = -2;  // from the end
  const Outcome outcome = outcome_of(make, {ir::Bytes::copy(ids.data(), ids.size() * 8), bytes_of(keep)});
  // The mask, the embeddings, two blocks of five, the last normalisation, which writes f32.
  CHECK(outcome.steps == 13);
  CHECK(outcome.sqnr > 45);
}

TEST_CASE("normalisation before the products: a causal mask, products over rows without batch, the last rows alone") {
  constexpr std::int64_t kTokens = 19, kWidth = 32, kHeads = 2, kWords = 13, kLast = 6;
  const auto make = [](Net& net) {
    const ValueId ids = net.graph.add_input("ids", {DType::I32, {1, kTokens}});
    std::vector<std::uint8_t> sees;
    for (std::int64_t i = 0; i < kTokens * kTokens; ++i) sees.push_back(i % kTokens <= i / kTokens);
    const ValueId visible = net.graph.add_constant("visible", {DType::Bool, {1, 1, kTokens, kTokens}}, ir::Bytes::copy(sees.data(), sees.size()));
    ValueId x = net.binary(Op::Add, gather(net, net.random({kWords, kWidth}), ids), net.random({1, kTokens, kWidth}));
    const auto rows = [&](ValueId y, std::int64_t columns) {  // as Gemm computes it
      return net.reshape(dense(net, net.reshape(y, {kTokens, net.dims(y).back()}), columns), {1, kTokens, columns});
    };
    const ValueId joint = rows(normalize(net, x), 3 * kWidth);
    const auto part = [&](std::int64_t i) { return to_heads(net, net.slice(joint, {0, 0, i * kWidth}, {1, 1, 1}, {1, kTokens, kWidth}), kHeads); };
    const ValueId y = attend(net, part(0), part(1), part(2), [&](ValueId scores) {
      const ValueId lowest = net.expand(net.constant(-3.4028235e38f), net.dims(scores));
      return net.pointwise(Op::Where, {net.expand(visible, net.dims(scores)), net.binary(Op::Mul, scores, 0.25f), lowest}, 0, 0);
    });
    x = net.binary(Op::Add, x, rows(y, kWidth));
    x = net.binary(Op::Add, x, rows(net.unary(Op::GeluTanh, rows(normalize(net, x, true), 4 * kWidth)), kWidth));
    x = net.slice(normalize(net, x, true), {0, kTokens - kLast, 0}, {1, 1, 1}, {1, kLast, kWidth});
    net.output(dense(net, net.reshape(x, {kLast, kWidth}), 24));
  };
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < kTokens; ++i) ids.push_back(i * 5 % kWords);
  const Outcome outcome = outcome_of(make, {ir::Bytes::copy(ids.data(), ids.size() * 4)}, 87);
  // The embeddings, a block of five, the scores, their conversion to f32.
  CHECK(outcome.steps == 8);
  CHECK(outcome.sqnr > 45);
}

/// Q, K and V from one input [1, L, 16]; what the mask makes of the scores is up to the case.
struct MaskCase {
  std::string name;
  std::uint32_t steps;  ///< x to f16, the joint product, the attention, its result to f32, and what makes the mask
  std::function<ValueId(Net&, ValueId scores, ValueId input)> mask;
  bool zero_hidden;
  Dims mask_dims;
  std::vector<float> mask_values;  ///< as the CPU's plan reads them
  bool boolean;
};

constexpr std::int64_t kQueries = 10, kMaskHeads = 2;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Outcome outcome_of(const MaskCase& test, std::uint32_t arch) {
  const auto make = [&](Net& net) {
    const ValueId x = net.graph.add_input("x", {DType::F32, {1, kQueries, 16}});
    const ValueId mask = net.graph.add_input("mask", {test.boolean ? DType::Bool : DType::F32, test.mask_dims});
    const auto part = [&] { return to_heads(net, dense(net, x, 32), kMaskHeads); };
    const ValueId q = net.binary(Op::Mul, part(), 0.5f), k = part(), v = part();
    net.output(attend(net, q, k, v, [&](ValueId scores) { return test.mask(net, scores, mask); }, test.zero_hidden));
  };
  std::vector<std::uint8_t> bytes;
  for (const float value : test.mask_values) bytes.push_back(value != 0);
  const ir::Bytes mask = test.boolean ? ir::Bytes::copy(bytes.data(), bytes.size()) : bytes_of(test.mask_values);
  return outcome_of(make, {bytes_of(input_of(kQueries * 16)), mask}, arch);
}

ValueId chosen(Net& net, ValueId condition, ValueId yes, ValueId no) {
  const Dims dims = {1, kMaskHeads, kQueries, kQueries};
  return net.pointwise(Op::Where, {net.expand(condition, dims), net.expand(yes, dims), net.expand(no, dims)}, 0, 0);
}

TEST_CASE("every form of mask, and queries that see no key") {
  std::vector<float> by_key(kQueries), by_query(kQueries * kQueries), full(kMaskHeads * kQueries * kQueries), bias(full.size());
  for (std::int64_t i = 0; i < kQueries; ++i) by_key[i] = i % 3 != 1;
  for (std::int64_t i = 0; i < kQueries * kQueries; ++i) by_query[i] = i / kQueries != 4 && i % 3 != 1;  // query 4 sees none
  for (std::size_t i = 0; i < full.size(); ++i) full[i] = i / kQueries % kQueries != 4 && i % 5 != 2, bias[i] = 0.25f * static_cast<float>(i % 7);
  const std::vector<MaskCase> cases = {
      {"added, of the scores' own shape", 4, [](Net& net, ValueId s, ValueId m) { return net.binary(Op::Add, s, m); }, false,
       {1, kMaskHeads, kQueries, kQueries}, bias, false},
      {"a choice of 0 and minus infinity is added; hidden queries give zeros", 5,
       [](Net& net, ValueId s, ValueId m) { return net.binary(Op::Add, s, chosen(net, m, net.constant(0.0f), net.constant(-kInfinity))); },
       true, {1, kMaskHeads, kQueries, kQueries}, full, true},
      {"scores are replaced by the lowest float where a condition holds; hidden queries give the mean", 5,
       [](Net& net, ValueId s, ValueId m) {
         return chosen(net, net.unary(Op::Not, m), net.constant(-3.4028235e38f), net.binary(Op::Div, s, 1.5f));
       },
       false, {1, 1, kQueries, kQueries}, by_query, true},
      {"the same for all heads and queries", 4, [](Net& net, ValueId s, ValueId m) { return chosen(net, m, s, net.constant(-kInfinity)); }, false,
       {kQueries}, by_key, true},
  };
  for (const MaskCase& test : cases) {
    CAPTURE(test.name);
    const Outcome outcome = outcome_of(test, 87);
    CHECK(outcome.steps == test.steps);
    CHECK(outcome.sqnr > 50);
  }
}

TEST_CASE("heads that share keys and values") {
  const auto make = [](Net& net) {
    const ValueId x = net.input({1, 9, 32});
    const ValueId q = net.reshape(to_heads(net, dense(net, x, 64), 4), {1, 2, 2, 9, 16});
    const ValueId shared = net.reshape(to_heads(net, dense(net, x, 32), 2), {1, 2, 1, 9, 16});
    const ValueId k = net.transpose(net.expand(shared, {1, 2, 2, 9, 16}), {0, 1, 2, 4, 3});
    const ValueId v = net.expand(net.reshape(to_heads(net, dense(net, x, 32), 2), {1, 2, 1, 9, 16}), {1, 2, 2, 9, 16});
    const ValueId p = net.reshape(softmax(net, net.reshape(net.matmul(q, k), {1, 4, 9, 9})), {1, 2, 2, 9, 9});
    const ValueId y = net.transpose(net.reshape(net.matmul(p, v), {1, 4, 9, 16}), {0, 2, 1, 3});
    net.output(net.reshape(y, {1, 9, 64}));
  };
  const Outcome outcome = outcome_of(make, {bytes_of(input_of(9 * 32))}, 87);
  CHECK(outcome.steps == 4);
  CHECK(outcome.sqnr > 50);
}

}  // namespace
