// SPDX-License-Identifier: Apache-2.0
// Tuning a network end to end without a GPU: candidates of the kernel families are verified and timed by the worker on the
// fake driver, which runs their very sources; what it records builds the same plan without any device.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "../fake_cuda/fake_vendor.h"
#include "../fake_cuda/worker_emulation.h"
#include "codegen/target.h"
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/matmul.h"
#include "ops/definitions.h"
#include "passes/pipeline.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"
#include "plan/tuning_trial.h"
#if __has_include(<cublasLt.h>)
#include "edgert/cuda/library/cublaslt.h"
#endif

namespace {

using namespace edgert;

std::vector<float> numbers(std::size_t count) {
  std::vector<float> out(count);
  std::uint32_t state = 7;
  for (float& x : out) x = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f;
  return out;
}

/// relu(x [24, 40] times a constant [40, 24] + bias): neither extent is a multiple of a tile.
std::vector<ir::Graph> product_graph() {
  std::vector<ir::Graph> graphs(1);
  ir::Graph& graph = graphs[0];
  const ir::ValueId x = graph.add_input("x", {DType::F32, {24, 40}});
  const std::vector<float> weights = numbers(40 * 24), bias = numbers(24);
  const ir::ValueId w = graph.add_constant("w", {DType::F32, {40, 24}}, ir::Bytes::copy(weights.data(), weights.size() * sizeof(float)));
  const ir::ValueId b = graph.add_constant("b", {DType::F32, {24}}, ir::Bytes::copy(bias.data(), bias.size() * sizeof(float)));
  cpu::MatMulAttributes attributes{};
  attributes.epilogue.activation = scalar::PointwiseOp::Relu;
  const ir::NodeId node = graph.add_node(ops::kMatMul, {x, w, b, ir::kNone}, ir::AttributeBlob::of(attributes), {"product"});
  graph.add_output("y", graph.node(node).outputs[0]);
  return graphs;
}

/// relu(3x3 convolution of [1, 128, 16, 16] + bias), deep enough for Winograd's algorithm to pay on two multiprocessors, and a
/// convolution that writes the graph's planes.
std::vector<ir::Graph> convolution_graph() {
  std::vector<ir::Graph> graphs(1);
  ir::Graph& graph = graphs[0];
  const ir::ValueId x = graph.add_input("x", {DType::F32, {1, 128, 16, 16}});
  const std::vector<float> weights = numbers(64 * 128 * 9), bias = numbers(64);
  const ir::ValueId w = graph.add_constant("w", {DType::F32, {64, 128, 3, 3}}, ir::Bytes::copy(weights.data(), weights.size() * sizeof(float)));
  const ir::ValueId b = graph.add_constant("b", {DType::F32, {64}}, ir::Bytes::copy(bias.data(), bias.size() * sizeof(float)));
  cpu::ConvAttributes attributes{};
  for (int d = 0; d < 2; ++d) attributes.kernel[d] = 3, attributes.stride[d] = attributes.dilation[d] = attributes.pad_begin[d] = attributes.pad_end[d] = 1;
  attributes.groups = 1;
  attributes.epilogue.activation = scalar::PointwiseOp::Relu;
  const ir::NodeId node = graph.add_node(ops::kConv, {x, w, b, ir::kNone}, ir::AttributeBlob::of(attributes), {"convolution"});
  const std::vector<float> last = numbers(8 * 64);
  const ir::ValueId l = graph.add_constant("l", {DType::F32, {8, 64, 1, 1}}, ir::Bytes::copy(last.data(), last.size() * sizeof(float)));
  for (int d = 0; d < 2; ++d) attributes.kernel[d] = 1, attributes.pad_begin[d] = attributes.pad_end[d] = 0;
  const ir::NodeId planes = graph.add_node(ops::kConv, {graph.node(node).outputs[0], l, ir::kNone, ir::kNone}, ir::AttributeBlob::of(attributes), {"planes"});
  graph.add_output("y", graph.node(planes).outputs[0]);
  return graphs;
}

/// A kernel without its activation if its name is `wrong`, or whatever its name if that is "all".
codegen::CompiledKernel compile(const codegen::CompileJob& job, const std::string& wrong) {
  codegen::CompileJob changed = job;
  static std::string problem;  // a header is a view
  if (job.name == wrong || (wrong == "all" && job.name.find("conv") == 0)) {
    problem = changed.headers.back().text;
    const std::string relu = "kActivation = static_cast<scalar::PointwiseOp>(" + std::to_string(static_cast<unsigned>(scalar::PointwiseOp::Relu)) + ")";
    const std::size_t at = problem.find(relu);
    REQUIRE(at != std::string::npos);
    problem.replace(at, relu.size(), "kActivation = static_cast<scalar::PointwiseOp>(" + std::to_string(static_cast<unsigned>(scalar::PointwiseOp::Identity)) + ")");
    changed.headers.back().text = problem;
  }
  return fake_cuda::PlanEmulation::get().compile(changed);
}

plan::BuildOptions options_for(bool device, const std::vector<tune::Record>& records, const std::string& wrong = "") {
  (void)fake_cuda::shared_kernels();
  plan::CudaOptions cuda;
  cuda.device = codegen::target_named("sm_90").value();
  cuda.device.multiprocessors = 4;
  cuda.compiler.substitute = [wrong](const codegen::CompileJob& job) { return compile(job, wrong); };
  plan::TuningOptions& tuning = cuda.tuning.emplace();
  tuning.candidates = 3;
  tuning.records = records;
  tuning.effort = {{}, {}, 1, 1, 2, 2, 0, 0};
  tuning.network_samples = 2;
  if (device) tuning.worker = std::make_shared<tune::Worker>(fake_cuda::emulated_worker(EDGERT_WORKER));
  plan::BuildOptions options;
  options.cuda = cuda;
  return options;
}

plan::BuildResult build(const plan::BuildOptions& options) { return plan::build(product_graph(), options); }

const plan::TuningReport& report_of(const plan::BuildResult& result) { return result.profiles[0].cuda.tuning; }

/// Tuned once for all tests.
struct Tuned {
  std::vector<tune::Record> records;
  plan::BuildResult result;
};
const Tuned& tuned() {
  static const Tuned once = [] {
    Tuned out;
    plan::BuildOptions options = options_for(true, {});
    options.cuda->tuning->on_record = [&out](const tune::Record& record) { out.records.push_back(record); };
    out.result = build(options);
    return out;
  }();
  return once;
}

TEST_CASE("a network is tuned: every candidate verified, the best recorded") {
  const plan::TuningReport& report = report_of(tuned().result);
  for (const std::string& rejected : report.rejected) MESSAGE(rejected);
  CHECK(report.shapes == 1);
  CHECK(report.measured == 1);
  CHECK(report.kernels == 3);
  CHECK(report.rejected.empty());
  CHECK(report.tuned_us > 0);
  CHECK(report.tuned_us <= report.untuned_us);
  REQUIRE(tuned().records.size() == 4);  // three alone, and the choice in the network
  CHECK(tuned().records[0].tactic.find("conv tile ") == 0);
  CHECK(tuned().records[0].profile == "fake");
  CHECK(tuned().records[3].network.size() == 32);
  CHECK(tuned().result.profiles[0].steps == 3);
}

TEST_CASE("records build the same plan without a device, and say what they do not know") {
  plan::BuildOptions options = options_for(false, tuned().records);
  options.cuda->tuning->error_on_miss = true;
  const plan::BuildResult again = build(options);
  CHECK(again.bytes == tuned().result.bytes);
  CHECK(report_of(again).from_records == 1);
  CHECK(report_of(again).missed == 0);

  // With a device nothing is left to be measured.
  const plan::BuildResult beside = build(options_for(true, tuned().records));
  CHECK(beside.bytes == again.bytes);
  CHECK(report_of(beside).kernels == 0);
  CHECK(report_of(beside).trials == 0);

  plan::BuildOptions other = options_for(false, tuned().records);
  other.cuda->device = codegen::target_named("sm_87").value();
  const plan::BuildResult estimated = build(other);
  CHECK(report_of(estimated).other_devices == 4);
  CHECK(report_of(estimated).missed == 1);
  other.cuda->tuning->error_on_miss = true;
  CHECK_THROWS_WITH_AS(build(other), doctest::Contains("no tuning record says how to compute 1 of 1 shapes, 4 of other devices"), ir::BuildError);
}

TEST_CASE("a pinned tactic is taken whatever was measured") {
  std::vector<tune::Record> records = tuned().records;
  for (std::size_t i = 0; i < 3; ++i) {
    std::vector<tune::Record> pinned = records;
    pinned.push_back(records[i]);
    pinned.back().pin = true;
    const std::vector<std::byte> bytes = build(options_for(false, pinned)).bytes;
    CHECK((bytes == tuned().result.bytes) == (records[i].tactic == records[3].tactic));
  }
}

TEST_CASE("a wrong kernel is found and does not win, and if all are wrong nothing is built") {
  // The one that would have won.
  std::string wrong;
  plan::BuildOptions probe = options_for(false, {});
  probe.cuda->compiler.substitute = [&](const codegen::CompileJob& job) {
    if (job.name.find("conv") == 0) wrong = job.name;
    return compile(job, "");
  };
  (void)build(probe);
  REQUIRE(!wrong.empty());
  const plan::BuildResult built = build(options_for(true, {}, wrong));
  REQUIRE(report_of(built).rejected.size() == 1);
  MESSAGE(report_of(built).rejected[0]);
  CHECK(report_of(built).rejected[0].find("wrong: ") != std::string::npos);
  CHECK(report_of(built).kernels == 3);
  CHECK_THROWS_WITH_AS(build(options_for(true, {}, "all")), doctest::Contains("none of 3 kernels"), ir::BuildError);
}

TEST_CASE("tuned on a part of the device, for as many multiprocessors") {
  std::vector<tune::Record> records;
  plan::BuildOptions options = options_for(false, {});
  options.cuda->device.multiprocessors = 2;
  tune::WorkerOptions worker = fake_cuda::emulated_worker(EDGERT_WORKER);
  worker.multiprocessors = 2;
  options.cuda->tuning->worker = std::make_shared<tune::Worker>(worker);
  options.cuda->tuning->on_record = [&records](const tune::Record& record) { records.push_back(record); };
  const plan::BuildResult part = build(options);
  CHECK(report_of(part).measured == 1);
  CHECK(report_of(part).rejected.empty());
  REQUIRE(records.size() == 4);
  for (const tune::Record& record : records) CHECK(record.multiprocessors == 2);

  // They are for nothing else than as many multiprocessors, and the whole device's are not for a part.
  plan::BuildOptions again = options_for(false, records);
  again.cuda->device.multiprocessors = 2;
  again.cuda->tuning->error_on_miss = true;
  CHECK(build(again).bytes == part.bytes);
  CHECK(report_of(build(options_for(false, records))).other_devices == 4);
  plan::BuildOptions whole = options_for(false, tuned().records);
  whole.cuda->device.multiprocessors = 2;
  CHECK(report_of(build(whole)).other_devices == 4);

  worker.multiprocessors = 1;  // for which the driver gives two
  options.cuda->device.multiprocessors = 1;
  options.cuda->tuning->worker = std::make_shared<tune::Worker>(worker);
  CHECK_THROWS_WITH_AS(build(options), doctest::Contains("for sm_90 with 1 multiprocessors, but the device here, fake, is sm_90 with 2"), ir::BuildError);
}

TEST_CASE("Winograd's algorithm is verified within the bound of all tactics, and left out on request") {
  std::vector<tune::Record> records;
  plan::BuildOptions options = options_for(false, {});
  options.cuda->device.multiprocessors = 2;
  tune::WorkerOptions worker = fake_cuda::emulated_worker(EDGERT_WORKER);
  worker.multiprocessors = 2;
  options.cuda->tuning->candidates = 2;
  options.cuda->tuning->worker = std::make_shared<tune::Worker>(worker);
  options.cuda->tuning->on_record = [&records](const tune::Record& record) { records.push_back(record); };
  const plan::BuildResult built = plan::build(convolution_graph(), options);
  for (const std::string& rejected : report_of(built).rejected) MESSAGE(rejected);
  CHECK(report_of(built).rejected.empty());
  CHECK(report_of(built).kernels == 4);
  CHECK(std::any_of(records.begin(), records.end(), [](const tune::Record& record) { return record.tactic.find("winograd tile ") == 0; }));

  plan::BuildOptions plain = options_for(false, {});
  plain.cuda->device.multiprocessors = 2;
  plain.winograd = false;
  bool found = false;
  plain.cuda->compiler.substitute = [&](const codegen::CompileJob& job) {
    found = found || job.name.find("winograd") == 0;
    return compile(job, "");
  };
  (void)plan::build(convolution_graph(), plain);
  CHECK(!found);
}

#if __has_include(<cublasLt.h>)
/// A worker that finds the fake of cuBLASLt, or no library that has a device to work on.
plan::BuildOptions options_with_library(bool found) {
  static const fake_cuda::FakeVendor library("libcublaslt.cpp");
  const std::filesystem::path folder = std::filesystem::path(library.path()).parent_path();
  if (!std::filesystem::exists(folder / cuda::kCublasLtName)) std::filesystem::create_symlink(library.path(), folder / cuda::kCublasLtName);
  plan::BuildOptions options = options_for(false, {});
  tune::WorkerOptions worker = fake_cuda::emulated_worker(EDGERT_WORKER);
  worker.command.insert(worker.command.begin(), {"env", "LD_LIBRARY_PATH=" + (found ? folder.string() : std::string("/nowhere"))});
  options.cuda->tuning->worker = std::make_shared<tune::Worker>(worker);
  options.cuda->alternatives.tactics = families::Tactics::All;
  return options;
}

TEST_CASE("a library's tactics are verified, timed and recorded beside this project's") {
  std::vector<tune::Record> records;
  plan::BuildOptions options = options_with_library(true);
  options.cuda->tuning->on_record = [&records](const tune::Record& record) { records.push_back(record); };
  const plan::BuildResult built = build(options);
  CHECK(report_of(built).rejected.size() == 2);
  for (const std::string& rejected : report_of(built).rejected) {
    CAPTURE(rejected);
    CHECK(rejected.find("cuBLASLt has no algorithm") != std::string::npos);  // the fake proposes two of the four that are tried
  }
  const auto is_library = [](const tune::Record& record) { return record.tactic.find("cublaslt algorithm ") == 0; };
  const auto found = std::find_if(records.begin(), records.end(), is_library);
  REQUIRE(found != records.end());
  CHECK(report_of(built).kernels == 7);

  // Pinned, it is in the plan, which says what it needs.
  plan::BuildOptions pinned = options_for(false, records);
  pinned.cuda->alternatives.tactics = families::Tactics::All;
  pinned.cuda->tuning->records.push_back(*found);
  pinned.cuda->tuning->records.back().pin = true;
  const plan::Bytes64 bytes(build(pinned).bytes);
  const auto view = PlanView::load(bytes.span());
  REQUIRE(view.ok());
  std::size_t calls = 0;
  const auto* steps = view->profile(0).lists()->Get(0)->steps();
  for (std::uint32_t i = 0; i < rules::count(steps); ++i) calls += steps->Get(i)->launch()->call() != nullptr;
  CHECK(calls == 1);
}

TEST_CASE("without a library that works its tactics are left out, and say why") {
  const plan::BuildResult built = build(options_with_library(false));
  REQUIRE(!report_of(built).rejected.empty());
  for (const std::string& rejected : report_of(built).rejected) {
    CAPTURE(rejected);
    CHECK(rejected.find("cublaslt algorithm ") != std::string::npos);
    CHECK(rejected.find("failed: cuBLASLt") != std::string::npos);
  }
  CHECK(report_of(built).kernels >= 3);
}
#endif

TEST_CASE("a device of another kind than the target is refused") {
  plan::BuildOptions options = options_for(true, {});
  options.cuda->device = codegen::target_named("sm_87").value();
  CHECK_THROWS_WITH_AS(build(options), doctest::Contains("the plan is for sm_87 with 16 multiprocessors, but the device here, fake, is sm_90 with 4"), ir::BuildError);
}

TEST_CASE("bounds let pass what rounding does, and little more") {
  const auto folder = std::filesystem::path(__FILE__).parent_path() / "../../examples/models";
  for (const char* name : {"digits_resnet.onnx", "digits_mobilenet.onnx", "digits_vit.onnx"}) {
    CAPTURE(name);
    ir::Graph graph = onnx_import::import(onnx_import::parse_file((folder / name).string()), {}, nullptr);
    passes::PipelineOptions pipeline;
    pipeline.for_cpu = false;
    (void)passes::run_pipeline(graph, pipeline);
    const families::Target target = codegen::target_named("sm_90").value();
    const families::Precisions precisions(graph, DType::F16);
    precisions.apply(graph);
    families::insert_conversions(graph, target, precisions);
    int tried = 0;
    for (const families::Choice& choice : families::choose_kernels(graph, target, 4)) {
      if (choice.candidates.size() < 2) continue;
      CAPTURE(choice.candidates[0].tactic);
      const plan::TuningTrial trial = plan::make_tuning_trial(graph, choice);
      REQUIRE(trial.checks.size() >= 1);
      REQUIRE(trial.checks[0].bound.has_value());
      const ir::Bytes& expected = trial.checks[0].expected.bytes;
      const ir::Bytes& bound = trial.checks[0].bound->bytes;
      double size = 0, mean = 0;
      const std::size_t count = expected.size() / sizeof(float);
      for (std::size_t i = 0; i < count; ++i) {
        size += double(expected.as<float>()[i]) * double(expected.as<float>()[i]);
        mean += double(bound.as<float>()[i]) / static_cast<double>(count);
      }
      size = std::sqrt(size / static_cast<double>(count));
      CHECK(mean > 0x1p-11 * size);  // what storing the result alone does
      CHECK(mean < 0.02 * size);     // a term more or less of a sum of a thousand is more
      ++tried;
    }
    CHECK(tried >= 3);
  }
}

}  // namespace
