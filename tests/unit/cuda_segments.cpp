// SPDX-License-Identifier: Apache-2.0
// Plans for a GPU with CPU steps between their graphs: built only when that is allowed, run in segments on the driver without
// a device, with the results of the CPU.
#include <doctest/doctest.h>

#include "support/plan_editor.h"

#include "edgert/cuda/segmented_session.h"
#include "ops/operator.h"
#include "pass_net.h"
#include "plan_runs.h"

namespace {

using namespace edgert;
using namespace edgert::test;
using Segmented = cuda::SegmentedSession<TestSession>;

constexpr std::int64_t kSize = 208;  // a matrix that no GPU kernel takes, since it does not fit Orin's shared memory

const ir::OperatorDef& determinant() {
  for (const ir::OperatorDef* op : ops::Registry::instance().operators()) {
    if (std::string(op->name) == "Determinant") return *op;
  }
  throw std::logic_error("no Determinant");
}

/// y = mean(relu(x)) - det(relu(x))
std::vector<ir::Graph> graphs() {
  Net net;
  const ir::ValueId x = net.input({1, kSize, kSize});
  const ir::ValueId relu = net.unary(scalar::PointwiseOp::Relu, x);
  const ir::ValueId det = net.node(determinant(), {relu}, cpu::NoAttributes{});
  const ir::ValueId mean = net.reshape(net.mean(relu, 0b110), {1});
  net.output(net.binary(scalar::PointwiseOp::Sub, mean, det));
  std::vector<ir::Graph> out;
  out.push_back(std::move(net.graph));
  return out;
}

/// Nearly the identity, so that determinants are of a size that floats show.
std::vector<float> matrix() {
  std::vector<float> x = input_of(kSize * kSize);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = (x[i] - 0.5f) * 1e-3f + (i % (kSize + 1) == 0 ? 1.0f : 0.0f);
  return x;
}

plan::BuildResult build(DType precision) {
  plan::BuildOptions options = options_for(87, precision);
  options.cuda->alternatives.cpu_steps = true;
  return plan::build(graphs(), options);
}

struct World {
  explicit World(const std::vector<std::byte>& file) : bytes(file) {
    FakeDriver::get().reset();
    FakeDriver::get().set(87, 13000);
    const auto loaded = PlanView::load(bytes.span(), {sink, {}});
    REQUIRE_MESSAGE(loaded.ok(), log);
    view = *loaded;
    REQUIRE(driver.open(sink, FakeDriver::get().path()).ok());
  }
  static Span<std::byte> room(std::vector<std::max_align_t>& memory, std::uint64_t size) {
    memory.resize((size + 128) / sizeof(std::max_align_t) + 1);
    return {reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(memory.data()), 64)), static_cast<std::size_t>(size)};
  }
  Status prepare(cuda::Program& program) { return program.prepare(driver, view, room(for_program, cuda::Program::host_bytes(view)), {sink, 0}); }
  Span<std::byte> for_segments() {
    const Result<std::uint64_t> size = Segmented::host_bytes(view, options());
    REQUIRE_MESSAGE(size.ok(), log);
    return room(for_session, *size);
  }
  cuda::SessionOptions options() {
    cuda::SessionOptions options;
    options.log = sink;
    return options;
  }

  std::string log;
  LogSink sink{keep_lines, &log};
  plan::Bytes64 bytes;
  PlanView view;
  cuda::Driver driver;
  std::vector<std::max_align_t> for_program, for_session;
};

TEST_CASE("a node without a GPU kernel is an error that names it, unless CPU steps are allowed") {
  CHECK_THROWS_WITH_AS(plan::build(graphs(), options_for(87)), doctest::Contains("Determinant of n1"), ir::BuildError);
  const plan::BuildResult built = build(DType::F16);
  REQUIRE(built.notes.size() == 1);
  CHECK(built.notes[0].find("Determinant of n1") != std::string::npos);
  CHECK(built.profiles[0].cuda.on_host.size() == 1);
  CHECK(built.bytes == build(DType::F16).bytes);
}

TEST_CASE("segments give what the CPU gives") {
  const std::vector<float> x = matrix();
  const std::vector<float> expected = run_on_cpu(plan::build(graphs()).bytes, x);
  CHECK(std::abs(expected[0]) > 0.1f);
  World world(build(DType::F16).bytes);
  const schema::Profile& profile = world.view.profile(0);
  REQUIRE(rules::count(profile.segments()) == 3);
  CHECK(profile.segments()->Get(1)->kind() == schema::SegmentKind::Cpu);
  {
    cuda::Program program;
    REQUIRE_MESSAGE(world.prepare(program).ok(), world.log);
    Segmented session;
    CHECK(Segmented::needed(world.view));
    const Span<std::byte> memory = world.for_segments();
    CHECK(session.prepare(program, {memory.data(), memory.size() - 1}, world.options()).error() == Error::ArenaTooSmall);
    REQUIRE_MESSAGE(session.prepare(program, memory, world.options()).ok(), world.log);
    REQUIRE(session.device().write_input(0, x.data(), x.size() * sizeof(float)).ok());
    float y = 0;
    REQUIRE_MESSAGE(session.run().ok(), world.log);
    REQUIRE(session.device().read_output(0, &y, sizeof(y)).ok());
    CHECK(std::abs(y - expected[0]) < 2e-3f * std::abs(expected[0]));
    // One after the other they give the same.
    float again = 0;
    for (std::uint32_t i = 0; i < rules::count(profile.lists()->Get(0)->steps()); ++i) REQUIRE(session.run_step(i).ok());
    REQUIRE(session.device().read_output(0, &again, sizeof(again)).ok());
    CHECK(again == y);
    CHECK(session.run_step(1000).error() == Error::InvalidArgument);
    CHECK(session.select(1).error() == Error::InvalidArgument);
    // What only a graph can do.
    CHECK(session.device().run().error() == Error::NotAsync);
    CHECK(session.device().enqueue(session.device().stream()).error() == Error::NotAsync);
    CHECK(session.device().enqueue_segment(1, session.device().stream()).error() == Error::InvalidArgument);
    CHECK(session.device().enqueue_segment(3, session.device().stream()).error() == Error::InvalidArgument);
  }
  CHECK(std::string(FakeDriver::get().misuse()).empty());
  CHECK(FakeDriver::get().alive() == 0);
}

TEST_CASE("whichever driver call fails, a segmented session ends in an error and leaves nothing") {
  const std::vector<std::byte> bytes = build(DType::F32).bytes;
  const FakeDriver& fake = FakeDriver::get();
  // Kernels need not run for this.
  fake.execute(nullptr, nullptr);
  const std::vector<float> x = matrix();
  int calls = 0;
  for (int k = 0; k == 0 || k <= calls; ++k) {
    World world(bytes);
    fake.fail_at(k);
    Status status;
    {
      cuda::Program program;
      Segmented session;
      status = world.prepare(program);
      if (status.ok()) status = session.prepare(program, world.for_segments(), world.options());
      if (status.ok()) status = session.device().write_input(0, x.data(), x.size() * sizeof(float));
      if (status.ok()) status = session.run();
      if (k == 0) calls = fake.calls();
    }
    CAPTURE(k);
    CHECK(status.ok() == (k == 0));
    CHECK(std::string(fake.misuse()).empty());
    CHECK(fake.alive() == 0);
  }
  CHECK(calls > 40);
}

TEST_CASE("segments that say the wrong thing of their steps are refused") {
  const std::vector<std::byte> bytes = build(DType::F32).bytes;
  const auto refused = [&](const std::function<void(schema::ProfileT&)>& change, const char* reason) {
    PlanEditor editor(bytes);
    change(*editor.table.profiles[0]);
    World world(editor.bytes());
    cuda::Program program;
    CHECK(world.prepare(program).error() == Error::TableInvalid);
    CAPTURE(world.log);
    CHECK(world.log.find(reason) != std::string::npos);
  };
  refused([](schema::ProfileT& p) { p.segments[1]->kind = schema::SegmentKind::Graph; }, "runs on the CPU");
  refused([](schema::ProfileT& p) { p.segments[0]->kind = schema::SegmentKind::Cpu; }, "is a launch");
  refused([](schema::ProfileT& p) { p.segments.clear(); }, "runs on the CPU");
}

}  // namespace
