// SPDX-License-Identifier: Apache-2.0
// What plans for GPUs compute in: each precision gives results as near to those of the CPU as it promises, pins of single
// nodes hold, the steps say what they compute in, and what cannot be is an error.
#include <set>
#include <tuple>

#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/softmax.h"
#include "families/precision.h"
#include "ops/definitions.h"
#include "plan_networks.h"

namespace {

using namespace edgert;
using families::Precision;
using test::input_of;
using test::run_on_cpu;
using test::run_on_fake_gpu;
using test::sqnr_db;

constexpr std::int64_t kRows = 24, kWidth = 32;

ir::ValueId product(ir::Graph& graph, ir::ValueId x, const std::string& name, std::int64_t columns, float scale) {
  const std::int64_t depth = graph.value(x).type.dims[1];
  std::vector<float> weights = input_of(static_cast<std::size_t>(depth * columns));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = (weights[i] - 0.5f) * scale;
  const ir::ValueId w = graph.add_constant(name + ".w", {DType::F32, {depth, columns}}, ir::Bytes::copy(weights.data(), weights.size() * sizeof(float)));
  cpu::MatMulAttributes attributes{};
  attributes.epilogue.activation = scalar::PointwiseOp::Relu;
  const ir::NodeId node = graph.add_node(ops::kMatMul, {x, w, ir::kNone, ir::kNone}, ir::AttributeBlob::of(attributes), {name});
  return graph.node(node).outputs[0];
}

/// Three products of matrices with constants, one after the other.
std::vector<ir::Graph> network(float scale = 1) {
  ir::Graph graph;
  const ir::ValueId x = graph.add_input("x", {DType::F32, {kRows, kWidth}});
  ir::ValueId value = product(graph, x, "first", 64, 1);
  value = product(graph, value, "second", 40, scale);
  value = product(graph, value, "third", kWidth, 1);
  graph.add_output("y", value);
  std::vector<ir::Graph> graphs;
  graphs.push_back(std::move(graph));
  return graphs;
}

std::vector<std::byte> build(const families::PrecisionRequest& request, float scale = 1) {
  plan::BuildOptions options = test::options_for(90);
  options.cuda->precision = request;
  return plan::build(network(scale), options).bytes;
}

/// What the steps of each node compute in, by the node's name: the type, and whether products round floats to TF32.
std::set<std::string> computed_in(const std::vector<std::byte>& bytes, const std::string& node) {
  const plan::Bytes64 aligned(bytes);
  const auto view = PlanView::load(aligned.span());
  REQUIRE(view.ok());
  std::set<std::string> found;
  for (const schema::Step* step : *view->profile(0).lists()->Get(0)->steps()) {
    for (std::uint32_t i = 0; i < rules::count(step->nodes()); ++i) {
      if (view->table().strings()->Get(step->nodes()->Get(i))->str() != node) continue;
      const schema::Module& module = *view->table().modules()->Get(step->launch()->module_());
      const std::string entry = module.entries()->Get(step->launch()->entry())->str();
      found.insert(entry == "conv_tf32" ? "tf32" : to_string(static_cast<DType>(step->compute())));
    }
  }
  return found;
}

/// All kernels of a plan, each once.
std::set<std::string> kernels_of(const std::vector<std::byte>& bytes) {
  const plan::Bytes64 aligned(bytes);
  const auto view = PlanView::load(aligned.span());
  REQUIRE(view.ok());
  std::set<std::string> found;
  for (const schema::Step* step : *view->profile(0).lists()->Get(0)->steps()) {
    found.insert(view->table().modules()->Get(step->launch()->module_())->entries()->Get(step->launch()->entry())->str());
  }
  return found;
}

families::PrecisionRequest only(Precision precision) {
  families::PrecisionRequest request;
  request.allowed = {precision};
  return request;
}

TEST_CASE("each precision is as near to float as its fraction allows") {
  const std::vector<float> x = input_of(static_cast<std::size_t>(kRows * kWidth));
  const std::vector<float> expected = run_on_cpu(plan::build(network()).bytes, x);
  const auto noise = [&](Precision precision) { return sqnr_db(run_on_fake_gpu(build(only(precision)), 90, x), expected); };
  CHECK(noise(Precision::Fp32) > 120);
  CHECK(noise(Precision::Fp16) > 55);
  const double tf32 = noise(Precision::Tf32), bf16 = noise(Precision::Bf16);
  CHECK(tf32 > 55);
  CHECK(tf32 < 100);  // it really rounds
  CHECK(bf16 > 35);
  CHECK(bf16 < 55);
  CHECK(computed_in(build(only(Precision::Tf32)), "second") == std::set<std::string>{"tf32"});
  CHECK(computed_in(build(only(Precision::Bf16)), "second") == std::set<std::string>{"bf16"});
  CHECK(computed_in(build(only(Precision::Fp32)), "second") == std::set<std::string>{"f32"});
}

TEST_CASE("first, grouped, strided and last convolutions and classifiers of floats have fast kernels") {
  test::Network net;
  test::ValueId y = net.unary(scalar::PointwiseOp::Relu, net.convolve(net.input({1, 3, 13, 11}), 32, 3, 2));
  y = net.binary(scalar::PointwiseOp::Add, net.convolve(y, 32, 3, 1, 8), y);  // groups of four channels
  net.output(net.convolve(y, 9, 3, 2));
  net.output(net.matmul(net.reshape(net.mean(y, 12), {1, 32}), net.random({32, 10})));
  const auto graphs = [&] {
    std::vector<ir::Graph> one;
    one.push_back(net.graph);
    return one;
  };
  const std::vector<float> x = input_of(3 * 13 * 11);
  const std::vector<float> expected = run_on_cpu(plan::build(graphs()).bytes, x);
  for (const Precision precision : {Precision::Fp32, Precision::Tf32}) {
    plan::BuildOptions options = test::options_for(90);
    options.cuda->precision = only(precision);
    const std::vector<std::byte> bytes = plan::build(graphs(), options).bytes;
    CHECK(kernels_of(bytes) == std::set<std::string>{precision == Precision::Fp32 ? "conv_exact" : "conv_tf32", "gemv"});
    CHECK(sqnr_db(run_on_fake_gpu(bytes, 90, x), expected) > (precision == Precision::Fp32 ? 120 : 55));
  }
}

TEST_CASE("a shortcut's convolution is computed with the one that it is added to in every precision whose products are rounded") {
  test::Network net;
  const test::ValueId x = net.unary(scalar::PointwiseOp::Relu, net.convolve(net.input({1, 3, 17, 15}), 24, 3, 1));
  const test::ValueId y = net.unary(scalar::PointwiseOp::Relu, net.convolve(x, 40, 3, 2));
  net.output(net.mean(net.unary(scalar::PointwiseOp::Relu, net.binary(scalar::PointwiseOp::Add, net.convolve(y, 56, 3), net.convolve(x, 56, 1, 2))), 12));
  std::vector<ir::Graph> graphs(1, net.graph);
  const std::vector<float> picture = input_of(3 * 17 * 15);
  const std::vector<float> expected = run_on_cpu(plan::build(std::vector<ir::Graph>(graphs)).bytes, picture);
  for (const auto& [precision, launches, least_db] : {std::tuple{Precision::Fp32, 5u, 120.0}, std::tuple{Precision::Tf32, 4u, 55.0}, std::tuple{Precision::Bf16, 4u, 40.0}}) {
    plan::BuildOptions options = test::options_for(90);
    options.cuda->precision = only(precision);
    const plan::BuildResult built = plan::build(std::vector<ir::Graph>(graphs), options);
    CHECK(built.profiles[0].steps == launches);
    CHECK(sqnr_db(run_on_fake_gpu(built.bytes, 90, picture), expected) > least_db);
  }
}

TEST_CASE("what follows the last products stays in f32, unless it is pinned or products follow") {
  test::Network net;
  const test::ValueId x = net.input({6, 8});
  const test::ValueId first = net.matmul(x, net.random({8, 8}));
  cpu::SoftmaxAttributes attributes{};
  attributes.axis = 1;
  const auto softmax = [&](test::ValueId of) { return net.node(ops::kSoftmax, {of}, attributes); };
  const test::ValueId inside = softmax(first);
  const test::ValueId last = net.matmul(inside, net.random({8, 8}));
  const test::ValueId scores = softmax(last), decoded = net.unary(scalar::PointwiseOp::Exp, scores);
  net.output(net.binary(scalar::PointwiseOp::Add, decoded, scores));
  ir::Graph pinned = net.graph;
  passes::narrow_floats(net.graph, DType::F16, {});
  for (const test::ValueId narrow : {first, inside, last}) CHECK(net.graph.value(narrow).stored == DType::F16);
  for (const test::ValueId wide : {scores, decoded}) CHECK(net.graph.value(wide).stored == DType::Undefined);
  std::vector<bool> by_user(pinned.node_count(), false);
  by_user[pinned.value(decoded).producer] = true;
  passes::narrow_floats(pinned, DType::F16, by_user);
  for (const test::ValueId narrow : {last, scores, decoded}) CHECK(pinned.value(narrow).stored == DType::F16);
}

TEST_CASE("nodes are pinned by name") {
  const std::vector<float> x = input_of(static_cast<std::size_t>(kRows * kWidth));
  const std::vector<float> expected = run_on_cpu(plan::build(network()).bytes, x);
  families::PrecisionRequest request = only(Precision::Fp16);
  request.layers = {{"*ond", Precision::Tf32}, {"s*", Precision::Fp32}, {"thi*d", Precision::Bf16}};
  const std::vector<std::byte> mixed = build(request);
  CHECK(computed_in(mixed, "first").count("f16") == 1);
  CHECK(computed_in(mixed, "second").count("f32") == 1);  // the later line
  CHECK(computed_in(mixed, "second").count("tf32") == 0);
  CHECK(computed_in(mixed, "third").count("bf16") == 1);
  CHECK(sqnr_db(run_on_fake_gpu(mixed, 90, x), expected) > 35);
  request.layers = {{"*", Precision::Fp32}};
  CHECK(sqnr_db(run_on_fake_gpu(build(request), 90, x), expected) > 120);
}

TEST_CASE("what cannot be met is an error") {
  families::PrecisionRequest request = only(Precision::Fp16);
  request.layers = {{"fourth", Precision::Fp32}};
  CHECK_THROWS_WITH_AS(build(request), doctest::Contains("'fourth'"), ir::BuildError);
  // Weights beyond the range of f16: another allowed precision takes them.
  CHECK_THROWS_WITH_AS(build(only(Precision::Fp16), 1e6f), doctest::Contains("beyond the range of f16"), ir::BuildError);
  request.layers.clear();
  request.allowed = {Precision::Fp16, Precision::Bf16};
  const std::vector<std::byte> bytes = build(request, 1e6f);
  CHECK(computed_in(bytes, "first").count("f16") == 1);
  CHECK(computed_in(bytes, "second").count("bf16") == 1);
  request.layers = {{"second", Precision::Fp16}};
  CHECK_THROWS_WITH_AS(build(request, 1e6f), doctest::Contains("beyond the range of f16"), ir::BuildError);
}

}  // namespace
