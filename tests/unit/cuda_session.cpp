// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime on a driver without a device: what it computes, what it gives back, and that every failing driver
// call, one after the other, ends in an error and not in a leak, a misuse or a further call.
#include <doctest/doctest.h>

#include "support/plan_editor.h"

#include "../fake_cuda/fake_driver.h"
#include "../fake_cuda/small_cubin.h"
#include "edgert/cuda/mapped_io.h"
#include "edgert/cuda/self_test.h"

namespace {

using namespace edgert;
using fake_cuda::FakeDriver;

using Argument = std::unique_ptr<schema::LaunchArgumentT>;

Argument address(std::uint32_t storage, std::uint64_t offset = 0) {
  auto a = std::make_unique<schema::LaunchArgumentT>();
  a->kind = schema::ArgumentKind::Address, a->bytes = 8, a->storage = storage, a->value = offset;
  return a;
}
Argument immediate(std::uint64_t value) {
  auto a = std::make_unique<schema::LaunchArgumentT>();
  a->bytes = 4, a->value = value;
  return a;
}

constexpr std::uint32_t kCount = 8;

/// Storages: 0 input, 1 output, 2 arena, 3 weights, 4 state.  Steps: arena = input * weights + 1; output = arena + ++state.
schema::PlanT small_table() {
  schema::PlanT plan;
  plan.target = "sm_90";
  auto profile = std::make_unique<schema::ProfileT>();
  const schema::Region regions[5] = {schema::Region::Input, schema::Region::Output, schema::Region::Arena, schema::Region::Weights, schema::Region::State};
  for (std::uint32_t i = 0; i < 5; ++i) {
    auto storage = std::make_unique<schema::StorageT>();
    storage->region = regions[i];
    storage->size = i == 4 ? 4 : kCount * 4;
    storage->alignment = 4;
    storage->offset = i == 3 ? 64 : 0;
    storage->last_step = 1;
    profile->storages.push_back(std::move(storage));
  }
  for (std::uint32_t i = 0; i < 2; ++i) {
    auto tensor = std::make_unique<schema::TensorT>();
    tensor->dtype = schema::DType::F32;
    tensor->storage = i;
    tensor->dims = {kCount};
    tensor->strides = {1};
    profile->tensors.push_back(std::move(tensor));
    auto binding = std::make_unique<schema::BindingT>();
    binding->name = i == 0 ? "x" : "y";
    binding->dtype = schema::DType::F32;
    binding->dims = {kCount};
    (i == 0 ? plan.inputs : plan.outputs).push_back(std::move(binding));
    (i == 0 ? profile->inputs : profile->outputs).push_back(i);
  }
  auto list = std::make_unique<schema::StepListT>();
  for (std::uint16_t s = 0; s < 2; ++s) {
    auto step = std::make_unique<schema::StepT>();
    step->launch = std::make_unique<schema::LaunchT>();
    step->launch->entry = s;
    step->launch->grid = {1, 1, 1};
    step->launch->block = {32, 1, 1};
    step->launch->dynamic_shared_bytes = 1000;
    step->launch->programmatic = s == 1;
    auto& arguments = step->launch->arguments;
    arguments.push_back(address(s == 0 ? 0 : 2));
    arguments.push_back(address(s == 0 ? 3 : 4));
    arguments.push_back(address(s == 0 ? 2 : 1));
    arguments.push_back(immediate(kCount));
    list->steps.push_back(std::move(step));
  }
  profile->lists.push_back(std::move(list));
  profile->arena_bytes = kCount * 4;
  plan.profiles.push_back(std::move(profile));
  auto module = std::make_unique<schema::ModuleT>();
  module->section = 2;
  module->arch = 90;
  module->entries = {"affine", "accumulate"};
  plan.modules.push_back(std::move(module));
  plan.state_bytes = 4;
  auto state = std::make_unique<schema::StateT>();
  state->size = 4;
  state->has_initial = true;
  state->initial_offset = 0;
  plan.states.push_back(std::move(state));
  return plan;
}

/// The initial state 10, then at 64 the weights 0, 1, 2, ...
std::vector<std::byte> weights() {
  std::vector<std::byte> bytes(64 + kCount * 4);
  const float initial = 10.0f;
  std::memcpy(bytes.data(), &initial, 4);
  for (std::uint32_t i = 0; i < kCount; ++i) {
    const float w = static_cast<float>(i);
    std::memcpy(bytes.data() + 64 + i * 4, &w, 4);
  }
  return bytes;
}

plan::Bytes64 plan_bytes(schema::PlanT table, std::vector<std::byte> cubin, std::vector<std::byte> golden = {}) {
  edgert_flatbuffers::FlatBufferBuilder builder;
  schema::FinishPlanBuffer(builder, schema::CreatePlan(builder, &table));
  const auto* data = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  std::vector<std::vector<std::byte>> contents = {{data, data + builder.GetSize()}, weights(), std::move(cubin)};
  if (!golden.empty()) contents.push_back(std::move(golden));
  const SectionKind kinds[4] = {SectionKind::Table, SectionKind::Weights, SectionKind::Module, SectionKind::Golden};
  std::vector<std::byte> out(sizeof(PlanHeader) + contents.size() * sizeof(SectionEntry));
  std::vector<SectionEntry> entries(contents.size());
  for (std::size_t i = 0; i < contents.size(); ++i) {
    out.resize(align_up(out.size(), 64));
    entries[i] = {};
    entries[i].kind = kinds[i];
    entries[i].offset = out.size();
    entries[i].size = contents[i].size();
    entries[i].alignment = 64;
    out.insert(out.end(), contents[i].begin(), contents[i].end());
  }
  test::PlanEditor::seal(out, entries);
  return plan::Bytes64(out);
}
/// The same plan with a golden vector: all inputs 3, and what a first run gives then, plus `off`.
plan::Bytes64 golden_plan(float off, const std::vector<std::byte>& cubin) {
  schema::PlanT table = small_table();
  auto golden = std::make_unique<schema::GoldenT>();
  golden->input_offsets = {0};
  golden->output_offsets = {64};
  golden->abs_tolerance = 0.5f;
  table.golden.push_back(std::move(golden));
  std::vector<std::byte> data(64 + kCount * 4);
  for (std::uint32_t i = 0; i < kCount; ++i) {
    const float x = 3, y = 3.0f * static_cast<float>(i) + 12.0f + off;
    std::memcpy(data.data() + i * 4, &x, 4);
    std::memcpy(data.data() + 64 + i * 4, &y, 4);
  }
  return plan_bytes(std::move(table), cubin, data);
}
std::vector<std::byte> good_cubin() { return fake_cuda::small_cubin(0x41, 90u << 8, {"affine", "accumulate"}); }

void keep_lines(void* user, LogLevel, const char* line) { *static_cast<std::string*>(user) += std::string(line) + "\n"; }

/// A driver, a plan and memory, fresh for each use.
struct World {
  std::string log;
  LogSink sink{keep_lines, &log};
  cuda::Driver driver;
  plan::Bytes64 bytes;
  PlanView view;
  std::vector<std::max_align_t> program_memory, session_memory;

  explicit World(const plan::Bytes64& plan_file) : bytes(plan_file) {
    const FakeDriver& fake = FakeDriver::get();
    fake.reset();
    REQUIRE(driver.open(sink, fake.path()).ok());
    LoadOptions options;
    options.log = sink;
    const auto loaded = PlanView::load(bytes.span(), options);
    REQUIRE_MESSAGE(loaded.ok(), log);
    view = *loaded;
  }
  static Span<std::byte> aligned(std::vector<std::max_align_t>& memory, std::uint64_t bytes) {
    memory.resize((bytes + 128) / sizeof(std::max_align_t) + 1);
    auto* begin = reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(memory.data()), 64));
    return {begin, static_cast<std::size_t>(bytes)};
  }
  cuda::SessionOptions session_options() const {
    cuda::SessionOptions options;
    options.log = sink;
    return options;
  }
  Span<std::byte> for_program() { return aligned(program_memory, cuda::Program::host_bytes(view)); }
  Span<std::byte> for_session(std::uint32_t sets = 1) { return aligned(session_memory, cuda::Session::host_bytes(view, sets)); }
};

void check_result(const std::vector<float>& y, float state) {
  for (std::uint32_t i = 0; i < kCount; ++i) CHECK(y[i] == 3.0f * static_cast<float>(i) + 1.0f + state);
}

TEST_CASE("a plan runs, keeps its state, resets it, and gives everything back") {
  World world(plan_bytes(small_table(), good_cubin()));
  const FakeDriver& fake = FakeDriver::get();
  {
    cuda::Program program;
    REQUIRE_MESSAGE(program.prepare(world.driver, world.view, world.for_program(), {world.sink, 0}).ok(), world.log);
    cuda::Session session;
    REQUIRE_MESSAGE(session.prepare(program, world.for_session(), world.session_options()).ok(), world.log);
    CHECK(fake.programmatic() == 1);
    const std::vector<float> x(kCount, 3.0f);
    std::vector<float> y(kCount);
    REQUIRE(session.write_input(0, x.data(), kCount * 4).ok());
    const int launches = fake.launches();
    for (int run = 0; run < 3; ++run) REQUIRE(session.run().ok());
    CHECK(fake.launches() == launches);  // replayed, not launched again
    REQUIRE(session.read_output(0, y.data(), kCount * 4).ok());
    check_result(y, 13.0f);
    REQUIRE(session.reset().ok());
    REQUIRE(session.enqueue(session.stream()).ok());
    fake.busy(3);
    CHECK(session.poll().error() == Error::Timeout);
    CHECK(session.wait(1000000000).ok());
    fake.busy(1 << 30);
    CHECK(session.wait(1000000).error() == Error::Timeout);
    fake.busy(0);
    REQUIRE(session.read_output(0, y.data(), kCount * 4).ok());
    check_result(y, 11.0f);
    REQUIRE(session.run_step(1).ok());
    REQUIRE(session.read_output(0, y.data(), kCount * 4).ok());
    check_result(y, 12.0f);
    CHECK(session.write_input(0, x.data(), kCount * 4 + 1).error() == Error::InvalidArgument);
    CHECK(session.write_input(1, x.data(), 4).error() == Error::InvalidArgument);
    CHECK(session.select(1).error() == Error::InvalidArgument);
  }
  CHECK(fake.alive() == 0);
  CHECK(std::string(fake.misuse()).empty());
}

TEST_CASE("rotating buffers of the caller, and the caller's device memory") {
  World world(plan_bytes(small_table(), good_cubin()));
  cuda::Program program;
  REQUIRE(program.prepare(world.driver, world.view, world.for_program(), {world.sink, 0}).ok());
  const cuda::ContextScope scope(world.driver, program.context());
  const std::uint64_t needed = cuda::Session::device_bytes(world.view, true);
  CHECK(cuda::Session::device_bytes(world.view) == needed + 512);
  cuda::DevicePointer buffers[4], memory = 0;
  for (cuda::DevicePointer& buffer : buffers) REQUIRE(world.driver.memory_alloc(&buffer, kCount * 4) == cuda::DriverResult::Success);
  REQUIRE(world.driver.memory_alloc(&memory, needed) == cuda::DriverResult::Success);
  {
    cuda::SessionOptions options;
    options.log = world.sink;
    options.memory = memory;
    options.bindings = buffers;
    cuda::Session session;
    REQUIRE_MESSAGE(session.prepare(program, world.for_session(2), options).ok(), world.log);
    for (std::uint32_t set = 0; set < 2; ++set) {
      REQUIRE(session.select(0, set).ok());
      CHECK(session.input(0) == buffers[2 * set]);
      const std::vector<float> x(kCount, static_cast<float>(set));
      std::vector<float> y(kCount);
      REQUIRE(session.write_input(0, x.data(), kCount * 4).ok());
      REQUIRE(session.run().ok());
      REQUIRE(session.read_output(0, y.data(), kCount * 4).ok());
      CHECK(y[2] == 2.0f * static_cast<float>(set) + 1.0f + 11.0f + static_cast<float>(set));
    }
    options.bindings = {buffers, 3};
    CHECK(session.prepare(program, world.for_session(2), options).error() == Error::InvalidArgument);
  }
  for (const cuda::DevicePointer buffer : buffers) (void)world.driver.memory_free(buffer);
  (void)world.driver.memory_free(memory);
  CHECK(std::string(FakeDriver::get().misuse()).empty());
}

TEST_CASE("inputs and outputs in mapped host memory need no copies") {
  World world(plan_bytes(small_table(), good_cubin()));
  const FakeDriver& fake = FakeDriver::get();
  {
    cuda::Program program;
    REQUIRE(program.prepare(world.driver, world.view, world.for_program(), {world.sink, 0}).ok());
    std::vector<std::max_align_t> table;
    cuda::MappedIo io;
    CHECK(io.bindings().empty());
    CHECK(io.prepare(program, World::aligned(table, cuda::MappedIo::host_bytes(world.view) - 1), world.sink).error() == Error::ArenaTooSmall);
    REQUIRE(io.prepare(program, World::aligned(table, cuda::MappedIo::host_bytes(world.view)), world.sink).ok());
    cuda::SessionOptions options = world.session_options();
    options.bindings = io.bindings();
    cuda::Session session;
    REQUIRE_MESSAGE(session.prepare(program, world.for_session(), options).ok(), world.log);
    for (std::uint32_t i = 0; i < kCount; ++i) static_cast<float*>(io.input(0))[i] = 3.0f;
    REQUIRE(session.run().ok());
    const auto* y = static_cast<const float*>(io.output(0));
    check_result({y, y + kCount}, 11.0f);
  }
  CHECK(fake.alive() == 0);
  CHECK(std::string(fake.misuse()).empty());
}

TEST_CASE("golden vectors are run, and a difference is named") {
  for (const float off : {0.0f, 0.25f, 2.0f}) {
    World world(golden_plan(off, good_cubin()));
    cuda::Program program;
    REQUIRE(program.prepare(world.driver, world.view, world.for_program(), {world.sink, 0}).ok());
    cuda::Session session;
    REQUIRE(session.prepare(program, world.for_session(), world.session_options()).ok());
    std::vector<std::max_align_t> room;
    const Span<std::byte> host = World::aligned(room, cuda::self_test_bytes(world.view));
    CHECK(cuda::self_test(session, world.view, {host.data(), host.size() - 1}).error() == Error::ArenaTooSmall);
    for (int round = 0; round < 2; ++round) {  // states are reset before each vector
      const Status status = cuda::self_test(session, world.view, host, world.sink);
      CHECK(status.error() == (off < 1 ? Error::Ok : Error::ResultMismatch));
    }
    CHECK((world.log.find("golden vector 0, output y differs") != std::string::npos) == (off > 1));
  }
  World world(plan_bytes(small_table(), good_cubin()));
  cuda::Program program;
  REQUIRE(program.prepare(world.driver, world.view, world.for_program(), {world.sink, 0}).ok());
  cuda::Session session;
  REQUIRE(session.prepare(program, world.for_session(), world.session_options()).ok());
  CHECK(cuda::self_test(session, world.view, {}).error() == Error::NameNotFound);
}

TEST_CASE("whichever driver call fails, there is an error, nothing is left, and nothing is misused") {
  const plan::Bytes64 bytes = golden_plan(0, good_cubin());
  const FakeDriver& fake = FakeDriver::get();
  int calls = 0;
  for (int k = 0; k == 0 || k <= calls; ++k) {
    World world(bytes);
    fake.fail_at(k);
    Status status;
    {
      std::vector<std::max_align_t> table, room;
      cuda::Program program;
      cuda::MappedIo io;
      cuda::Session session;
      cuda::SessionOptions options = world.session_options();
      status = program.prepare(world.driver, world.view, world.for_program(), {world.sink, 0});
      if (status.ok()) status = io.prepare(program, World::aligned(table, cuda::MappedIo::host_bytes(world.view)), world.sink);
      options.bindings = io.bindings();
      if (status.ok()) status = session.prepare(program, world.for_session(), options);
      if (status.ok()) status = cuda::self_test(session, world.view, World::aligned(room, cuda::self_test_bytes(world.view)), world.sink);
      const float x[kCount] = {};
      float y[kCount];
      if (status.ok()) status = session.write_input(0, x, sizeof(x));
      if (status.ok()) status = session.run();
      if (status.ok()) status = session.read_output(0, y, sizeof(y));
      if (k == 0) calls = fake.calls();
      if (session.failed()) {
        const int before = fake.calls();
        CHECK(session.run().error() == Error::DeviceFailed);
        CHECK(session.poll().error() == Error::DeviceFailed);
        CHECK(session.reset().error() == Error::DeviceFailed);
        CHECK(fake.calls() == before);
      }
    }
    CAPTURE(k);
    CHECK(status.ok() == (k == 0));
    CHECK(std::string(fake.misuse()).empty());
    CHECK(fake.alive() == 0);
  }
  CHECK(calls > 30);
}

TEST_CASE("plans that do not fit the device or the rules are refused with a reason") {
  const auto refused = [](const std::function<void(schema::PlanT&)>& change, const std::vector<std::byte>& cubin, Error error, const char* reason) {
    schema::PlanT table = small_table();
    change(table);
    World world(plan_bytes(std::move(table), cubin));
    cuda::Program program;
    const Status status = program.prepare(world.driver, world.view, world.for_program(), {world.sink, 0});
    CAPTURE(world.log);
    CHECK(status.error() == error);
    CHECK(world.log.find(reason) != std::string::npos);
    CHECK(FakeDriver::get().alive() == 0);
  };
  const auto launch = [](schema::PlanT& plan) -> schema::LaunchT& { return *plan.profiles[0]->lists[0]->steps[1]->launch; };
  const auto nothing = [](schema::PlanT&) {};
  refused([](schema::PlanT& p) { p.modules[0]->arch = 87; }, good_cubin(), Error::DeviceMismatch, "sm_87");
  refused(nothing, fake_cuda::small_cubin(0x41, 87u << 8, {"affine", "accumulate"}), Error::DeviceMismatch, "sm_87");
  refused(nothing, fake_cuda::small_cubin(0x41, 90u << 8, {"affine"}), Error::SectionCorrupt, "accumulate");
  auto damaged = good_cubin();
  damaged[1] ^= std::byte{1};
  refused(nothing, damaged, Error::SectionCorrupt, "ELF");
  const Error bad = Error::TableInvalid;
  refused([&](schema::PlanT& p) { launch(p).module_ = 1; }, good_cubin(), bad, "module");
  refused([&](schema::PlanT& p) { launch(p).entry = 2; }, good_cubin(), bad, "entry");
  refused([&](schema::PlanT& p) { launch(p).grid = {1, 1}; }, good_cubin(), bad, "three extents");
  refused([&](schema::PlanT& p) { launch(p).grid = {0, 1, 1}; }, good_cubin(), bad, "too large");
  refused([&](schema::PlanT& p) { launch(p).block = {1024, 2, 1}; }, good_cubin(), bad, "too large");
  refused([&](schema::PlanT& p) { launch(p).cluster = {2, 1, 1}; }, good_cubin(), bad, "cluster");
  refused([&](schema::PlanT& p) { launch(p).dynamic_shared_bytes = 1u << 20; }, good_cubin(), bad, "shared");
  refused([&](schema::PlanT& p) { launch(p).arguments[0]->storage = 9; }, good_cubin(), bad, "no storage");
  refused([&](schema::PlanT& p) { launch(p).arguments[0]->value = 1000; }, good_cubin(), bad, "outside its storage");
  refused([&](schema::PlanT& p) { launch(p).arguments[0]->bytes = 4; }, good_cubin(), bad, "address");
  refused([&](schema::PlanT& p) { launch(p).arguments[3]->bytes = 3; }, good_cubin(), bad, "immediate");
  refused([&](schema::PlanT& p) { launch(p).arguments[0]->kind = schema::ArgumentKind::TensorMap; }, good_cubin(), bad, "tensor map");
  refused([&](schema::PlanT& p) { p.profiles[0]->storages[2]->alignment = 512; }, good_cubin(), bad, "alignment");
}

TEST_CASE("too little or misaligned memory is refused, and an old driver says what it lacks") {
  World world(plan_bytes(small_table(), good_cubin()));
  cuda::Program program;
  const Span<std::byte> memory = world.for_program();
  CHECK(program.prepare(world.driver, world.view, {memory.data(), memory.size() - 1}, {world.sink, 0}).error() == Error::ArenaTooSmall);
  CHECK(program.prepare(world.driver, world.view, {memory.data() + 8, memory.size()}, {world.sink, 0}).error() == Error::ArenaMisaligned);
  cuda::Session session;
  CHECK(session.prepare(program, world.for_session(), world.session_options()).error() == Error::NotPrepared);
  CHECK(session.run().error() == Error::NotPrepared);
  REQUIRE(program.prepare(world.driver, world.view, memory, {world.sink, 0}).ok());
  const Span<std::byte> host = world.for_session();
  CHECK(session.prepare(program, {host.data(), host.size() - 1}, world.session_options()).error() == Error::ArenaTooSmall);
  cuda::SessionOptions options;
  options.memory = 8;
  CHECK(session.prepare(program, host, options).error() == Error::ArenaMisaligned);
  program.close();

  const FakeDriver& fake = FakeDriver::get();
  fake.reset();
  fake.set(90, 11020);
  cuda::Driver old;
  world.log.clear();
  CHECK(old.open(world.sink, fake.path()).error() == Error::DeviceUnavailable);
  CHECK(world.log.find("too old") != std::string::npos);
  fake.set(87, 11040);
  REQUIRE(old.open(world.sink, fake.path()).ok());
  CHECK_FALSE(old.has(cuda::Feature::LaunchAttributes));
  CHECK_FALSE(old.has(cuda::Feature::GreenContexts));
}

}  // namespace
