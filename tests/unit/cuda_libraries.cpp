// SPDX-License-Identifier: Apache-2.0
// Plans with steps that cuBLASLt and cuDNN compute, run through the runtime's own wrappers on fakes of both libraries, which
// compute on the host, and on the driver without a device.
#if __has_include(<cublasLt.h>) && __has_include(<cudnn.h>)

#include <doctest/doctest.h>

#include "support/plan_editor.h"

#include "../fake_cuda/fake_vendor.h"
#include "edgert/cuda/library/cublaslt.h"
#include "edgert/cuda/library/cudnn.h"
#include "edgert/cuda/session.h"
#include "pass_net.h"
#include "plan_runs.h"

namespace {

using namespace edgert;
using namespace edgert::test;
using fake_cuda::FakeVendor;

const FakeVendor& cublaslt() {
  static const FakeVendor library("libcublaslt.cpp");
  return library;
}
const FakeVendor& cudnn() {
  static const FakeVendor library("libcudnn.cpp");
  return library;
}

/// relu(x w + b), then relu of a product that adds x: [6, 64] to [6, 64].
std::vector<ir::Graph> products() {
  Net net;
  const ir::ValueId x = net.unary(PointwiseOp::Neg, net.input({6, 64}));
  const ir::ValueId hidden = net.unary(PointwiseOp::Relu, net.matmul(x, net.random({64, 32}), net.random({32})));
  net.output(net.unary(PointwiseOp::Relu, net.binary(PointwiseOp::Add, net.matmul(hidden, net.random({32, 64})), x)));
  std::vector<ir::Graph> out;
  out.push_back(std::move(net.graph));
  return out;
}

/// Convolutions with bias, residual and activation.
std::vector<ir::Graph> convolutions() {
  Net net;
  const ir::ValueId x = net.unary(PointwiseOp::Neg, net.input({1, 8, 5, 6}));
  const ir::ValueId hidden = net.unary(PointwiseOp::Relu, net.conv(x, 16, 3, 1, true));
  const ir::ValueId added = net.unary(PointwiseOp::Sigmoid, net.binary(PointwiseOp::Add, net.conv(hidden, 8, 1, 0, true), x));
  net.output(net.unary(PointwiseOp::Abs, net.conv(added, 8, 3, 0)));
  std::vector<ir::Graph> out;
  out.push_back(std::move(net.graph));
  return out;
}

plan::BuildResult build(std::vector<ir::Graph> graphs, DType precision = DType::F16) {
  plan::BuildOptions options = options_for(90, precision);
  options.cuda->alternatives.tactics = families::Tactics::Library;
  return plan::build(std::move(graphs), options);
}

struct World {
  explicit World(const std::vector<std::byte>& file) : bytes(file) {
    FakeDriver::get().reset();
    ::setenv("EDGERT_FAKE_DRIVER", FakeDriver::get().path(), 1);
    const auto loaded = PlanView::load(bytes.span(), {sink, {}});
    REQUIRE_MESSAGE(loaded.ok(), log);
    view = *loaded;
    REQUIRE(view.is_cuda());
    REQUIRE(driver.open(sink, FakeDriver::get().path()).ok());
  }
  static Span<std::byte> room(std::vector<std::max_align_t>& memory, std::uint64_t size) {
    memory.resize((size + 128) / sizeof(std::max_align_t) + 1);
    return {reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(memory.data()), 64)), static_cast<std::size_t>(size)};
  }
  Status prepare(cuda::Program& program, const cuda::Libraries& libraries) {
    return program.prepare(driver, view, room(for_program, cuda::Program::host_bytes(view)), {sink, 0, libraries});
  }
  Status prepare(cuda::Session& session, const cuda::Program& program) {
    cuda::SessionOptions options;
    options.log = sink;
    return session.prepare(program, room(for_session, cuda::Session::host_bytes(view)), options);
  }
  std::size_t calls() const {
    std::size_t count = 0;
    const auto* steps = view.profile(0).lists()->Get(0)->steps();
    for (std::uint32_t i = 0; i < rules::count(steps); ++i) count += steps->Get(i)->launch()->call() != nullptr;
    return count;
  }

  std::string log;
  LogSink sink{keep_lines, &log};
  plan::Bytes64 bytes;
  PlanView view;
  cuda::Driver driver;
  std::vector<std::max_align_t> for_program, for_session;
};

/// Twice the same run, after which nothing is left.
std::vector<float> run(World& world, const std::vector<float>& x, std::size_t elements) {
  std::vector<float> y(elements), again(elements);
  {
    cuda::CublasLt products(cublaslt().path());
    cuda::Cudnn convolutions(cudnn().path());
    cuda::Program program;
    REQUIRE_MESSAGE(world.prepare(program, {products.runner(), convolutions.runner()}).ok(), world.log);
    cuda::Session session;
    REQUIRE_MESSAGE(world.prepare(session, program).ok(), world.log);
    const int calls = cublaslt().calls() + cudnn().calls();
    REQUIRE(session.write_input(0, x.data(), x.size() * sizeof(float)).ok());
    REQUIRE(session.run().ok());
    REQUIRE(session.read_output(0, y.data(), y.size() * sizeof(float)).ok());
    REQUIRE(session.run().ok());
    REQUIRE(session.read_output(0, again.data(), again.size() * sizeof(float)).ok());
    CHECK(cublaslt().calls() + cudnn().calls() == calls);  // a run is the graph's launch and nothing else
  }
  CHECK(y == again);
  CHECK(std::string(FakeDriver::get().misuse()).empty());
  CHECK(std::string(cublaslt().misuse()).empty());
  CHECK(std::string(cudnn().misuse()).empty());
  CHECK(FakeDriver::get().alive() == 0);
  CHECK(cublaslt().alive() + cudnn().alive() == 0);
  return y;
}

TEST_CASE("products of cuBLASLt give what the CPU gives") {
  const std::vector<float> x = input_of(6 * 64);
  const std::vector<float> expected = run_on_cpu(plan::build(products()).bytes, x);
  for (const DType precision : {DType::F16, DType::BF16}) {
    World world(build(products(), precision).bytes);
    CHECK(world.calls() == 2);
    CHECK(sqnr_db(run(world, x, expected.size()), expected) > (precision == DType::F16 ? 55 : 38));
  }
}

TEST_CASE("convolutions of cuDNN give what the CPU gives") {
  const std::vector<float> x = input_of(8 * 5 * 6);
  const std::vector<float> expected = run_on_cpu(plan::build(convolutions()).bytes, x);
  World world(build(convolutions()).bytes);
  CHECK(world.calls() == 2);  // cuDNN has no Abs in a convolution's graph
  CHECK(sqnr_db(run(world, x, expected.size()), expected) > 50);
}

TEST_CASE("a plan that needs a library says so to a program without it") {
  World world(build(products()).bytes);
  cuda::Program program;
  CHECK(world.prepare(program, {}).error() == Error::UnknownOperator);
  CHECK(world.log.find("edgert/cuda/library/cublaslt.h") != std::string::npos);
  cuda::CublasLt missing("libthere-is-none.so");
  REQUIRE(world.prepare(program, {missing.runner(), {}}).ok());
  cuda::Session session;
  CHECK(world.prepare(session, program).error() == Error::DeviceUnavailable);
  CHECK(world.log.find("libthere-is-none.so") != std::string::npos);
}

TEST_CASE("whichever call of a library fails, a session ends in an error and leaves nothing") {
  for (const bool product : {true, false}) {
    const std::vector<std::byte> bytes = build(product ? products() : convolutions()).bytes;
    const FakeVendor& fake = product ? cublaslt() : cudnn();
    int calls = 0;
    for (int k = 0; k == 0 || k <= calls; ++k) {
      World world(bytes);
      fake.reset(k);
      Status status;
      {
        cuda::CublasLt products(cublaslt().path());
        cuda::Cudnn convolutions(cudnn().path());
        cuda::Program program;
        cuda::Session session;
        status = world.prepare(program, {products.runner(), convolutions.runner()});
        if (status.ok()) status = world.prepare(session, program);
        if (k == 0) calls = fake.calls();
      }
      CAPTURE(k);
      // cuDNN's second engine takes the place of one that cannot be prepared.
      if (product || k == 0) CHECK(status.ok() == (k == 0));
      CHECK(std::string(FakeDriver::get().misuse()).empty());
      CHECK(fake.alive() == 0);
      CHECK(FakeDriver::get().alive() == 0);
    }
    fake.reset(0);
    CHECK(calls > 30);
  }
}

TEST_CASE("calls that say the wrong thing are refused before a library sees them") {
  const auto refused = [](const std::vector<std::byte>& bytes, const std::function<void(schema::ProfileT&, schema::LaunchT&)>& change, const char* reason) {
    PlanEditor editor(bytes);
    for (const auto& step : editor.table.profiles[0]->lists[0]->steps) {
      if (step->launch->call == nullptr) continue;
      change(*editor.table.profiles[0], *step->launch);
      break;
    }
    World world(editor.bytes());
    cuda::CublasLt products(cublaslt().path());
    cuda::Cudnn convolutions(cudnn().path());
    cuda::Program program;
    CAPTURE(reason);
    CHECK(world.prepare(program, {products.runner(), convolutions.runner()}).error() == Error::TableInvalid);
    CAPTURE(world.log);
    CHECK(world.log.find(reason) != std::string::npos);
  };
  const auto changed = [](auto problem, auto edit) {
    return [problem, edit](schema::ProfileT&, schema::LaunchT& launch) mutable {
      REQUIRE(launch.call->problem.size() == sizeof(problem));
      std::memcpy(&problem, launch.call->problem.data(), sizeof(problem));
      edit(problem);
      std::memcpy(launch.call->problem.data(), &problem, sizeof(problem));
    };
  };
  const std::vector<std::byte> product = build(products()).bytes, convolution = build(convolutions()).bytes;
  using MatMul = cuda::LibraryMatMul;
  using Conv = cuda::LibraryConv;
  refused(product, [](auto&, auto& launch) { launch.call->problem.pop_back(); }, "wrong size");
  refused(product, [](auto&, auto& launch) { launch.call->library = static_cast<schema::Library>(7); }, "no library");
  refused(product, [](auto&, auto& launch) { launch.call->library = schema::Library::Cudnn; }, "wrong size");
  refused(product, changed(MatMul(), [](MatMul& m) { m.rows = 0; }), "extents");
  refused(product, changed(MatMul(), [](MatMul& m) { m.rows = 7; }), "outside its storage");
  refused(product, changed(MatMul(), [](MatMul& m) { m.columns = 0x7fffffff; }), "pitches");
  refused(product, changed(MatMul(), [](MatMul& m) { m.input_pitch = 63; }), "pitches");
  refused(product, changed(MatMul(), [](MatMul& m) { m.rows = m.depth = m.input_pitch = 0x7fffffff; }), "outside its storage");
  refused(product, changed(MatMul(), [](MatMul& m) { m.residual_pitch = 32; }), "lacks an operand");
  refused(product, changed(MatMul(), [](MatMul& m) { m.common.workspace_bytes = std::uint64_t{1} << 36; }), "outside its storage");
  refused(product, changed(MatMul(), [](MatMul& m) { m.common.dtype = DType::I8; }), "unknown type");
  refused(product, changed(MatMul(), [](MatMul& m) { m.common.activation = cuda::LibraryActivation::Silu; }), "no such activation");
  refused(product, changed(MatMul(), [](MatMul& m) { m.common.reserved = 1; }), "flags");
  refused(product, [](auto&, auto& launch) { launch.arguments.pop_back(); }, "six arguments");
  refused(product, [](auto&, auto& launch) { launch.arguments[0]->kind = schema::ArgumentKind::Immediate; }, "lacks an operand");
  refused(product, [](auto&, auto& launch) { launch.arguments[0]->value += 2; }, "outside its storage");
  refused(product, [](auto&, auto& launch) { launch.arguments[4]->storage = launch.arguments[1]->storage; }, "writes to weights");
  refused(convolution, changed(Conv(), [](Conv& c) { c.out_height += 1; }), "windows");
  refused(convolution, changed(Conv(), [](Conv& c) { c.pad_begin[1] = 0xffffffff; }), "windows");
  refused(convolution, changed(Conv(), [](Conv& c) { c.kernel[0] = 0x7fffffff; }), "windows");
  refused(convolution, changed(Conv(), [](Conv& c) { c.groups = 3; }), "groups");
  refused(convolution, changed(Conv(), [](Conv& c) { c.batch = 2; }), "outside its storage");
  refused(convolution, changed(Conv(), [](Conv& c) { c.channels = 0; }), "extents");
  refused(convolution, changed(Conv(), [](Conv& c) { c.reserved = 1; }), "extents");
}

TEST_CASE("an algorithm that the library does not propose is an error") {
  PlanEditor editor(build(products()).bytes);
  for (const auto& step : editor.table.profiles[0]->lists[0]->steps) {
    if (step->launch->call != nullptr) step->launch->call->problem[offsetof(cuda::LibraryCommon, algorithm)] = 5;
  }
  World world(editor.bytes());
  cuda::CublasLt products(cublaslt().path());
  cuda::Program program;
  REQUIRE(world.prepare(program, {products.runner(), {}}).ok());
  cuda::Session session;
  CHECK(world.prepare(session, program).error() == Error::UnknownOperator);
  CHECK(world.log.find("no algorithm 5") != std::string::npos);
}

TEST_CASE("without tuning, all tactics give the kernels of this project") {
  plan::BuildOptions options = options_for(90);
  const std::vector<std::byte> native = plan::build(products(), options).bytes;
  options.cuda->alternatives.tactics = families::Tactics::All;
  CHECK(plan::build(products(), options).bytes == native);
}

}  // namespace

#endif
