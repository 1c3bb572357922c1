// SPDX-License-Identifier: Apache-2.0
// What a session does with things that the builder does not make yet or seldom makes: persistent tensors, extents that
// only a run knows, several storages of one binding, data that a kernel refuses.
#include "support/plan_editor.h"

#include <doctest/doctest.h>

#include <cmath>

#include "edgert/cpu/ops/gather.h"
#include "support/prepared.h"
#include "support/small_plan.h"

using namespace edgert;
using test::PlanEditor;
using test::Prepared;

namespace {

using scalar::PointwiseOp;

ir::ValueId pointwise(ir::Graph& graph, PointwiseOp op, const std::vector<ir::ValueId>& operands) {
  scalar::PointwiseProgram program{};
  program.inputs = static_cast<unsigned>(operands.size());
  program.steps = 1;
  program.step[0].op = op;
  program.step[0].type = static_cast<unsigned char>(DType::F32);
  program.step[0].b = operands.size() > 1 ? 1 : 0;
  return graph.emit(ops::kPointwise, operands, ir::AttributeBlob::of(program), {});
}

std::vector<std::byte> build(ir::Graph graph) {
  std::vector<ir::Graph> graphs;
  graphs.push_back(std::move(graph));
  return plan::build(std::move(graphs)).bytes;
}

/// total = total + x; y = -total: a plan whose sum, an activation when built, and whose first summand, a weight when
/// built, are put into one storage of state.
std::vector<std::byte> accumulator(bool has_initial) {
  ir::Graph graph;
  graph.name = "accumulator";
  const float start[4] = {10, 20, 30, 40};
  const ir::ValueId x = graph.add_input("x", {DType::F32, {4}});
  const ir::ValueId c = graph.add_constant("c", {DType::F32, {4}}, ir::Bytes::copy(start, sizeof(start)));
  // Two nodes that no pass fuses: a product of matrices between them.
  const ir::ValueId sum = pointwise(graph, PointwiseOp::Add, {x, c});
  cpu::SoftmaxAttributes softmax{};
  softmax.axis = 0;
  graph.add_output("y", graph.emit(ops::kSoftmax, {sum}, ir::AttributeBlob::of(softmax), {}));

  PlanEditor editor(build(std::move(graph)));
  schema::ProfileT& profile = *editor.table.profiles[0];
  schema::StepT& add = *profile.lists[0]->steps[0];
  REQUIRE(profile.lists[0]->steps.size() == 2);
  const auto is_weight = [&](std::uint32_t tensor) {
    return profile.storages[profile.tensors[tensor]->storage]->region == schema::Region::Weights;
  };
  const std::uint32_t weight = is_weight(add.inputs[0]) ? add.inputs[0] : add.inputs[1];
  REQUIRE(is_weight(weight));
  schema::StorageT& storage = *profile.storages[profile.tensors[weight]->storage];
  auto state = std::make_unique<schema::StateT>();
  state->name = "total";
  state->size = sizeof(start);
  state->has_initial = has_initial;
  state->initial_offset = storage.offset;
  editor.table.states.push_back(std::move(state));
  editor.table.state_bytes = sizeof(start);
  storage.region = schema::Region::State;
  storage.offset = 0;
  storage.size = sizeof(start);
  profile.tensors[add.outputs[0]]->storage = profile.tensors[weight]->storage;
  profile.tensors[add.outputs[0]]->offset = profile.tensors[weight]->offset;
  return editor.bytes();
}

/// The probability of element 0 after the sums `a`, for the reference.
double softmax0(const double (&a)[4]) {
  double sum = 0;
  for (const double value : a) sum += std::exp(value - a[0]);
  return 1 / sum;
}

}  // namespace

TEST_CASE("state lives from run to run, and reset writes its initial value") {
  Prepared prepared(accumulator(true));
  for (int round = 0; round < 2; ++round) {
    double total[4] = {10, 20, 30, 40};
    for (int run = 0; run < 3; ++run) {
      const float x[4] = {9.5f, 3.25f, 0, -3};
      std::memcpy(prepared.input(), x, sizeof(x));
      REQUIRE(prepared.session.run().ok());
      for (int i = 0; i < 4; ++i) total[i] += static_cast<double>(x[i]);
      CHECK(static_cast<double>(prepared.output()) == doctest::Approx(softmax0(total)));
    }
    prepared.session.reset();
  }
}

TEST_CASE("state without an initial value starts from zero") {
  Prepared prepared(accumulator(false));
  const double total[4] = {1, 2, 3, 4};
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 4; ++i) prepared.input()[i] = static_cast<float>(total[i]);
    REQUIRE(prepared.session.run().ok());
    CHECK(static_cast<double>(prepared.output()) == doctest::Approx(softmax0(total)));
    prepared.session.reset();
  }
}

namespace {

/// y = relu(x) whose first dimension is bounded by the input n.
std::vector<std::byte> bounded() {
  ir::Graph graph;
  graph.name = "bounded";
  const ir::ValueId x = graph.add_input("x", {DType::F32, {6, 2}});
  const ir::ValueId n = graph.add_input("n", {DType::I64, {1}});
  graph.add_output("y", pointwise(graph, PointwiseOp::Relu, {x}));
  // The output that carries n through keeps the input alive.
  graph.add_output("m", graph.emit(ops::kCopy, {n}, ir::AttributeBlob::of(cpu::NoAttributes{}), {}));
  PlanEditor editor(build(std::move(graph)));
  schema::ProfileT& profile = *editor.table.profiles[0];
  // What an operator reads and writes must agree in each run.
  for (const std::uint32_t tensor : {profile.inputs[0], profile.outputs[0]}) {
    auto extent = std::make_unique<schema::ExtentT>();
    extent->dim = 0;
    extent->tensor = profile.inputs[1];
    profile.tensors[tensor]->extents.push_back(std::move(extent));
  }
  return editor.bytes();
}

}  // namespace

TEST_CASE("an output's bounded extent is the actual one") {
  Prepared prepared(bounded());
  std::int64_t* n = prepared.session.input("n")->as<std::int64_t>();
  for (const std::int64_t count : {0, 1, 6}) {
    *n = count;
    REQUIRE(prepared.session.run().ok());
    const Result<TensorView> y = prepared.session.output("y");
    REQUIRE(y.ok());
    CHECK(y->dims[0] == count);
    CHECK(y->dims[1] == 2);
  }
  for (const std::int64_t count : {std::int64_t{-1}, std::int64_t{7}, INT64_MIN, INT64_MAX}) {
    *n = count;
    CHECK(prepared.session.run().error() == Error::ExtentMismatch);
  }
  SessionOptions external;
  external.external_io = true;
  const Prepared unbound(bounded(), external);
  CHECK(unbound.session.output("y").status().error() == Error::NotPrepared);
}

TEST_CASE("a step that meets data it cannot take fails, is named, and the session goes on") {
  ir::Graph graph;
  graph.name = "gather";
  const ir::ValueId x = graph.add_input("x", {DType::F32, {5, 3}});
  const ir::ValueId i = graph.add_input("i", {DType::I64, {2}});
  cpu::GatherAttributes gather{};
  graph.add_output("y", graph.emit(ops::kGather, {x, i}, ir::AttributeBlob::of(gather), {"pick (Gather)"}));
  std::string message;
  SessionOptions options;
  options.log.user = &message;
  options.log.write = [](void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; };
  Prepared prepared(build(std::move(graph)), options);
  std::int64_t* indices = prepared.session.input("i")->as<std::int64_t>();
  for (int k = 0; k < 15; ++k) prepared.input()[k] = static_cast<float>(k);
  indices[0] = 1;
  for (const std::int64_t bad : {std::int64_t{5}, std::int64_t{-6}, INT64_MAX, INT64_MIN}) {
    indices[1] = bad;
    CHECK(prepared.session.run().error() == Error::IndexOutOfRange);
    CHECK(message.find("step 0 (Gather) failed: IndexOutOfRange") != std::string::npos);
  }
  indices[1] = -1;
  REQUIRE(prepared.session.run().ok());
  CHECK(prepared.output(0) == 3);
  CHECK(prepared.output(3) == 12);
}

TEST_CASE("a program without the plan's operators says so") {
  const plan::Bytes64 bytes(test::small_plan());
  const Result<PlanView> view = PlanView::load(bytes.span());
  REQUIRE(view.ok());
  const Status status = Session<cpu::OperatorSet<cpu::MatMul>>::needs(*view).status();
  CHECK(status.error() == Error::UnknownOperator);
  CHECK(status.index() == 1);
  CHECK(status.value() == cpu::Softmax::kId);
}
