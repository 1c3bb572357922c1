// SPDX-License-Identifier: Apache-2.0
// Step lists inside of steps: what a session makes of them, of data that does not fit and of plans that lie; and that
// the memory checker finds what one turn of a loop would destroy for the next.
#include "support/plan_editor.h"

#include <doctest/doctest.h>

#include "edgert/cpu/ops/loop.h"
#include "ops/compose.h"
#include "ops/control_flow.h"
#include "plan/build.h"
#include "plan/lower.h"
#include "plan/proof.h"
#include "support/prepared.h"

using namespace edgert;
using test::Block;
using test::PlanEditor;
using test::TestSession;
using scalar::PointwiseOp;

namespace {

ops::OnnxNode words(ir::Graph& graph) { return ops::OnnxNode(graph, "test", "Test", "", 17); }

/// x [1, width] and trips; each turn x = x * k + 1 where k is another input; collects the sum of x; goes on while the sum
/// is under a limit. At most `most` turns. Also an If on the result: its negation, or twice itself.
std::vector<std::byte> loop_plan(std::int64_t most, std::int64_t width = 40000) {
  ir::Graph graph;
  graph.name = "loop";
  const ir::TensorType type{DType::F32, {1, width}};
  const ir::ValueId x = graph.add_input("x", type);
  const ir::ValueId trips = graph.add_input("trips", {DType::I64, {}});
  const ir::ValueId k = graph.add_input("k", {DType::F32, {}});
  const ir::ValueId limit = graph.add_input("limit", {DType::F32, {}});
  ops::OnnxNode node = words(graph);

  ir::Graph body;
  body.add_input("turn", {DType::I64, {}});
  const ir::ValueId x_in = body.add_input("x", type);
  const ir::ValueId k_in = body.add_input("k", {DType::F32, {}});
  const ir::ValueId limit_in = body.add_input("limit", {DType::F32, {}});
  ops::OnnxNode inside = words(body);
  const ir::ValueId scaled = ops::binary(inside, PointwiseOp::Mul, x_in, k_in);
  const ir::ValueId next = ops::binary(inside, PointwiseOp::Add, scaled, ops::float_constant(inside, {}, {1}));
  const ir::ValueId sum = ops::reduce(inside, 0, next, {0, 1}, false);
  body.add_output("go", ops::binary(inside, PointwiseOp::Less, sum, limit_in));
  body.add_output("x", next);
  body.add_output("sum", sum);

  ops::LoopNode loop;
  loop.trip_count = trips;
  loop.carried = {x};
  loop.captured = {k, limit};
  loop.most_turns = most;
  loop.tests_condition = true;
  const std::vector<ir::ValueId> made = ops::add_loop(node, loop, std::move(body));

  ir::Graph branches[2];
  for (const int b : {0, 1}) {
    const ir::ValueId y = branches[b].add_input("y", type);
    ops::OnnxNode in = words(branches[b]);
    branches[b].add_output("z", b == 0 ? ops::unary(in, PointwiseOp::Neg, y) : ops::binary(in, PointwiseOp::Add, y, y));
  }
  const ir::ValueId small = ops::binary(node, PointwiseOp::Less, k, limit);
  graph.add_output("z", ops::add_if(node, {small, made[0], made[0]}, std::move(branches[0]), std::move(branches[1]))[0]);
  graph.add_output("sums", made[1]);
  std::vector<ir::Graph> graphs;
  graphs.push_back(std::move(graph));
  return plan::build(std::move(graphs)).bytes;
}

struct PreparedLoop : test::Prepared {
  using Prepared::Prepared;
  Status run(float x, std::int64_t trips, float k, float limit) {
    const Result<TensorView> input = session.input("x");
    for (std::int64_t i = 0; i < input->elements(); ++i) input->as<float>()[i] = x;
    *session.input("trips")->as<std::int64_t>() = trips;
    *session.input("k")->as<float>() = k;
    *session.input("limit")->as<float>() = limit;
    return session.run();
  }
};

/// A pool that runs the parts in another order and says that it has three threads.
void backwards(void*, std::uint32_t parts, void (*body)(void*, std::uint32_t, std::uint32_t), void* context) {
  for (std::uint32_t part = parts; part-- > 0;) body(context, part, part % 3);
}

}  // namespace

TEST_CASE("a loop turns as often as its trip count and its condition say, and an If takes one of its branches") {
  SessionOptions pooled;
  pooled.pool.run = &backwards;
  pooled.pool.threads = 3;
  const std::vector<std::byte> bytes = loop_plan(20);
  PreparedLoop alone(bytes);
  PreparedLoop together(bytes, pooled);
  for (PreparedLoop* prepared : {&alone, &together}) {
    for (const std::int64_t trips : {0, 1, 7, 20}) {
      for (const float limit : {0.25f, 100000.0f, 1e30f}) {
        REQUIRE(prepared->run(0.5f, trips, 0.5f, limit).ok());
        float x = 0.5f;
        std::vector<float> sums;
        for (std::int64_t turn = 0; turn < trips; ++turn) {
          x = x * 0.5f + 1;
          sums.push_back(x * 40000);
          if (sums.back() >= limit) break;
        }
        const Result<Shape> shape = prepared->session.output_shape(1);
        REQUIRE(shape.ok());
        CHECK(shape->rank == 1);
        REQUIRE(shape->dims[0] == static_cast<std::int64_t>(sums.size()));
        for (std::size_t i = 0; i < sums.size(); ++i) {
          CHECK(prepared->session.output(1u)->as<float>()[i] == doctest::Approx(sums[i]).epsilon(1e-5));
        }
        const float expected = 0.5f < limit ? -x : x + x;
        CHECK(prepared->session.output(0u)->as<float>()[0] == expected);
        CHECK(prepared->session.output(0u)->as<float>()[39999] == expected);
      }
    }
  }
}

TEST_CASE("more turns than there is room for are an error that names the loop, and the session goes on") {
  std::string message;
  SessionOptions options;
  options.log.user = &message;
  options.log.write = [](void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; };
  PreparedLoop prepared(loop_plan(5), options);
  CHECK(prepared.run(1, 6, 1, 1e30f).error() == Error::ExtentMismatch);
  CHECK(message.find("(Loop) failed: ExtentMismatch") != std::string::npos);
  CHECK(prepared.run(1, INT64_MAX, 1, 1e30f).error() == Error::ExtentMismatch);
  REQUIRE(prepared.run(1, INT64_MIN, 1, 1e30f).ok());
  CHECK(prepared.session.output(1u)->dims[0] == 0);
  REQUIRE(prepared.run(1, 5, 1, 1e30f).ok());
  CHECK(prepared.session.output(1u)->dims[0] == 5);
}

TEST_CASE("a step with the wrong number of bodies is refused") {
  for (const std::size_t count : {std::size_t{0}, std::size_t{2}}) {
    PlanEditor editor(loop_plan(5));
    schema::ProfileT& profile = *editor.table.profiles[0];
    for (auto& step : profile.lists[0]->steps) {
      if (step->op != cpu::Loop::kId) continue;
      const std::uint16_t body = step->bodies.at(0);
      step->bodies.resize(count);
      if (count == 2) {
        profile.lists.push_back(std::make_unique<schema::StepListT>());
        step->bodies = {body, static_cast<std::uint16_t>(profile.lists.size() - 1)};
      } else {
        // The list must still be somebody's.
        for (auto& other : profile.lists[0]->steps) {
          if (other->bodies.size() == 2) other->bodies.push_back(body);
        }
      }
    }
    const plan::Bytes64 bytes(editor.bytes());
    const Result<PlanView> view = PlanView::load(bytes.span());
    REQUIRE(view.ok());
    CHECK(TestSession::needs(*view).status().rule() == static_cast<std::uint16_t>(Rule::OperatorOperands));
  }
}

TEST_CASE("a flipped bit in a plan with bodies, behind right checksums, is refused or runs inside of its memory") {
  // The sanitizer build judges what runs.
  const std::vector<std::byte> plan = loop_plan(3, 8);
  std::size_t ran = 0;
  std::size_t refused = 0;
  const std::size_t header = sizeof(PlanHeader) + 2 * sizeof(SectionEntry);
  for (std::size_t i = header * 8; i < plan.size() * 8; ++i) {
    PlanEditor editor(plan);
    editor.pack_table = false;
    editor.edit_bytes = [i](std::vector<std::byte>& file) { file[i / 8] ^= static_cast<std::byte>(1u << (i % 8)); };
    const plan::Bytes64 bytes(editor.bytes());
    const Result<PlanView> view = PlanView::load(bytes.span());
    const Result<std::uint64_t> needed = view.ok() ? TestSession::memory_bytes(*view) : Result<std::uint64_t>(view.status());
    if (!needed.ok() || *needed > (1u << 22)) {
      ++refused;
      continue;
    }
    const Block memory(*needed);
    TestSession session;
    if (!session.prepare(*view, memory.span()).ok() || session.step_count() == 0) continue;
    if (const Result<TensorView> trips = session.input(1u); trips.ok() && trips->dtype == DType::I64 && trips->rank == 0) {
      *trips->as<std::int64_t>() = 3;
    }
    session.run().ok() ? ++ran : ++refused;
  }
  CHECK(ran > 0);
  CHECK(refused > 0);
  MESSAGE(ran << " mutants ran, " << refused << " were refused");
}

TEST_CASE("what a turn destroys for the next one is found") {
  // A loop carries `carried`; its body makes `temporary` of that and `next` of both `temporary` and `captured`.
  enum { kCarried, kTemporary, kNext, kCaptured };
  const auto proved = [](std::uint64_t carried, std::uint64_t temporary, std::uint64_t next, std::uint64_t captured) {
    plan::ProfileSpec profile;
    profile.arena.bytes = 256;
    for (const std::uint64_t offset : {carried, temporary, next, captured}) {
      plan::StorageSpec storage;
      storage.offset = offset;
      storage.size = 64;
      plan::TensorSpec tensor;
      tensor.type = {DType::F32, {16}};
      tensor.strides = {1};
      tensor.storage = static_cast<std::uint32_t>(profile.storages.size());
      profile.storages.push_back(storage);
      profile.tensors.push_back(tensor);
    }
    std::vector<plan::Played> steps(2);
    steps[0].writes = {kCaptured};
    steps[1].number = 1;
    steps[1].reads = {{kCaptured, {0}}};
    steps[1].writes = {kCarried};
    steps[1].repeats = true;
    steps[1].bodies.resize(1);
    plan::Played::Body& body = steps[1].bodies[0];
    body.steps.resize(2);
    body.steps[0].number = 2;
    body.steps[0].reads = {{kCarried, {1}}};
    body.steps[0].writes = {kTemporary};
    body.steps[1].number = 3;
    body.steps[1].reads = {{kTemporary, {2}}, {kCaptured, {0}}};
    body.steps[1].writes = {kNext};
    body.results = {{kNext, {3}}, {kCarried, {1}}};
    try {
      plan::prove(profile, steps, {{kCarried, {1}}});
    } catch (const std::logic_error&) {
      return false;
    }
    return true;
  };
  CHECK(proved(0, 64, 128, 192));
  CHECK_FALSE(proved(0, 64, 192, 192));   // next over captured: the second turn finds the first one's result
  CHECK_FALSE(proved(0, 64, 0, 192));     // next over carried
  CHECK_FALSE(proved(0, 64, 64, 192));    // next over temporary, while it is read
  CHECK_FALSE(proved(0, 192, 128, 192));  // temporary over captured
  CHECK_FALSE(proved(0, 0, 128, 192));    // temporary over carried, though nobody reads that any more in this turn
}

TEST_CASE("a result that nothing in its list computes is a defect of whoever lowers, not zeros") {
  const ir::TensorType type{DType::F32, {4}};
  // An If one of whose branches passes `captured` on, lowered without the passes that would copy it.
  const auto lowered = [&](bool constant, bool passes_on) {
    ir::Graph graph;
    ops::OnnxNode node = words(graph);
    const ir::ValueId condition = graph.add_input("condition", {DType::Bool, {}});
    const ir::ValueId captured = constant ? ops::float_constant(node, {4}, {1, 2, 3, 4}) : graph.add_input("x", type);
    ir::Graph branches[2];
    for (const bool passing : {false, true}) {
      const ir::ValueId x = branches[passing].add_input("x", type);
      ops::OnnxNode inside = words(branches[passing]);
      branches[passing].add_output("y", passing && passes_on ? x : ops::unary(inside, PointwiseOp::Neg, x));
    }
    graph.add_output("y", ops::add_if(node, {condition, captured, captured}, std::move(branches[0]), std::move(branches[1]))[0]);
    plan::WeightStore weights;
    plan::lower(graph, weights);
  };
  CHECK_NOTHROW(lowered(false, false));
  CHECK_NOTHROW(lowered(true, false));
  CHECK_THROWS_AS(lowered(false, true), std::logic_error);
  CHECK_THROWS_AS(lowered(true, true), std::logic_error);
}
