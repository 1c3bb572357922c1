// SPDX-License-Identifier: Apache-2.0
// The tuner's worker, as a process, on the fake driver: right kernels are timed, and each kind of wrong one is rejected
// with its reason while the tuner goes on.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "../fake_cuda/worker_emulation.h"
#include "plan/lower_cuda.h"
#include "tune/measure.h"

namespace {

using namespace edgert;
using tune::Verdict;

constexpr std::int64_t kRows = 5, kDepth = 24, kColumns = 7;

/// y[5][7] = x[5][24] * w[24][7] + b[7], a thread an element, with a fault that EDGERT_PLANTED names.
constexpr const char* kProduct = R"(
#include "problem.h"
namespace edgert::device {
extern "C" __global__ void EDGERT_ENTRY(const float* x, const float* w, const float* b, float* y) {
  allow_next_grid();
  wait_for_previous_grid();
  const int item = static_cast<int>(blockIdx.x * 32 + threadIdx.x);
  int rows = 5, columns = 7, depth = 24;
  if (EDGERT_PLANTED == 1) depth = 20;                     // the last terms of each sum
  if (EDGERT_PLANTED == 2 && item % 7 == 6) return;        // the last column
  if (EDGERT_PLANTED == 5 && item == 35) y[35] = 1.0f;     // an element behind the last
  if (EDGERT_PLANTED == 6) { volatile int* nowhere = nullptr; *nowhere = 1; }
  if (EDGERT_PLANTED == 7) { for (volatile int i = 0; ; i = i + 1) {} }
  if (EDGERT_PLANTED == 8 && item == 63) const_cast<float*>(b)[0] = 9.0f;  // an operand, when nobody reads it any more
  if (item >= rows * columns) return;
  float sum = EDGERT_PLANTED == 3 ? 0.0f : b[item % columns];  // or no bias
  for (int k = 0; k < depth; ++k) sum += x[item / columns * 24 + k] * w[k * columns + item % columns];
  y[item] = sum;
  if (EDGERT_PLANTED == 4) {  // whoever comes last, within what rounding may do
    y[0] = sum_of_first(x, w, b) + 2e-6f * static_cast<float>(item % 3);
  }
}
}  // namespace edgert::device
)";

enum Planted { Right = 0, DroppedTail, MissingEdge, NoBias, Race, OutOfBounds, Fault, Hang, WritesOperand };

codegen::CompileJob product_job(Planted planted, unsigned idle) {
  static std::map<std::string, int> texts;  // headers are views
  const std::string problem = "#pragma once\n#define EDGERT_ENTRY product\n#define EDGERT_PLANTED " + std::to_string(static_cast<int>(planted)) +
                              "\n#define EDGERT_IDLE " + std::to_string(idle) +
                              "\nnamespace edgert::device { inline float sum_of_first(const float* x, const float* w, const float* b) {\n"
                              "  float sum = b[0];\n  for (int k = 0; k < 24; ++k) sum += x[k] * w[k * 7];\n  return sum;\n} }\n";
  codegen::CompileJob job = codegen::make_job("product", "kernels/pad.cu", "", 90);
  job.source = kProduct;
  job.headers.pop_back();
  job.headers.push_back({"problem.h", texts.emplace(problem, 0).first->first});
  return job;
}

std::vector<float> numbers(std::size_t count, std::uint32_t seed) {
  std::vector<float> out(count);
  for (float& x : out) x = static_cast<float>(static_cast<int>((seed = seed * 1664525u + 1013904223u) >> 24) - 128) / 128;
  return out;
}
tune::Blob blob(const std::vector<float>& x) { return tune::make_blob(ir::Bytes::copy(x.data(), x.size() * sizeof(float))); }

/// The product as a plan with three inputs and an output; `idle` more blocks cost time and do nothing.
std::vector<std::byte> product_plan(Planted planted, unsigned idle) {
  (void)fake_cuda::shared_kernels();  // before anything is compiled
  plan::PlanSpec spec;
  spec.target = "sm_90";
  plan::ProfileSpec profile;
  const std::vector<ir::Dims> dims = {{kRows, kDepth}, {kDepth, kColumns}, {kColumns}, {kRows, kColumns}};
  plan::StepSpec step;
  plan::LaunchSpec& launch = step.launch.emplace();
  for (std::size_t i = 0; i < dims.size(); ++i) {
    plan::StorageSpec storage;
    storage.region = i < 3 ? plan::Region::Input : plan::Region::Output;
    storage.binding = static_cast<std::uint16_t>(i < 3 ? i : 0);
    storage.size = static_cast<std::uint64_t>(ir::element_count(dims[i])) * 4;
    plan::TensorSpec tensor;
    tensor.type = {DType::F32, dims[i]};
    tensor.storage = static_cast<std::uint32_t>(i);
    tensor.strides = ir::dense_strides(dims[i]);
    profile.storages.push_back(storage);
    profile.tensors.push_back(tensor);
    (i < 3 ? profile.inputs : profile.outputs).push_back(static_cast<std::uint32_t>(i));
    (i < 3 ? step.inputs : step.outputs).push_back(static_cast<std::uint32_t>(i));
    (i < 3 ? spec.inputs : spec.outputs).push_back({"t" + std::to_string(i), DType::F32, dims[i], {}});
    launch.arguments.push_back({plan::LaunchArgumentSpec::Kind::Address, 8, 0, static_cast<std::uint32_t>(i)});
  }
  launch.grid[0] = 2 + idle;
  launch.block[0] = 32;
  profile.steps.push_back(step);
  spec.profiles.push_back(profile);
  spec.modules.push_back({90, "product", fake_cuda::PlanEmulation::get().compile(product_job(planted, idle)).cubin});
  return plan::write(spec);
}

tune::Job product(Planted planted, unsigned idle = 0) {
  const std::vector<float> x = numbers(kRows * kDepth, 1), w = numbers(kDepth * kColumns, 2), b = numbers(kColumns, 3);
  std::vector<float> y, bound;
  for (std::size_t m = 0; m < kRows; ++m) {
    for (std::size_t n = 0; n < kColumns; ++n) {
      double sum = double(b[n]), size = std::fabs(sum);
      for (std::size_t k = 0; k < kDepth; ++k) {
        sum += double(x[m * kDepth + k]) * double(w[k * kColumns + n]);
        size += std::fabs(double(x[m * kDepth + k]) * double(w[k * kColumns + n]));
      }
      y.push_back(static_cast<float>(sum));
      bound.push_back(static_cast<float>((kDepth + 1) * 0x1p-24 * size + 4e-6));
    }
  }
  tune::Job job;
  job.plan = product_plan(planted, idle);
  job.bindings = {blob(x), blob(w), blob(b), std::nullopt};
  tune::Job::Expectation expectation;
  expectation.check = {3, DType::F32, 0, {kRows, kColumns}, {kColumns, 1}, {}, {}};
  expectation.expected = blob(y);
  expectation.bound = blob(bound);
  job.checks.push_back(expectation);
  job.request.repetitions = 3, job.request.rounds = 2, job.request.samples = 5, job.request.cold_samples = 2;
  return job;
}

TEST_CASE("the worker describes its device, checks a right kernel and times it") {
  tune::Worker worker(fake_cuda::emulated_worker(EDGERT_WORKER));
  CHECK(worker.device().arch == 90);
  CHECK(worker.device().multiprocessors == 4);
  const tune::Result result = worker.run(product(Right));
  CAPTURE(result.detail);
  CHECK(result.verdict == Verdict::Good);
  CHECK(result.worst <= 1);
  CHECK(result.warm.samples == 5);
  // The fake clock gives each thread a nanosecond.
  CHECK(result.warm.median == doctest::Approx(0.064).epsilon(0.01));
  CHECK(result.cold.samples == 2);
  CHECK(worker.starts() == 1);
}

TEST_CASE("the worker runs jobs on a part of its device where it is told so") {
  const auto part_of = [](std::uint32_t multiprocessors) {
    tune::WorkerOptions options = fake_cuda::emulated_worker(EDGERT_WORKER);
    options.multiprocessors = multiprocessors;
    return options;
  };
  tune::Worker half(part_of(2));
  CHECK(half.device().multiprocessors == 2);
  const tune::Result slow = half.run(product(Right));
  CHECK(slow.verdict == Verdict::Good);
  CHECK(slow.warm.median == doctest::Approx(0.128).epsilon(0.01));  // twice what the whole device takes
  CHECK(half.run(product(Fault)).verdict == Verdict::Crashed);
  CHECK(half.run(product(Right)).warm.median == doctest::Approx(0.128).epsilon(0.01));  // the next worker is confined, too
  CHECK(half.starts() == 2);

  tune::Worker rounded(part_of(1));  // the driver has no smaller parts
  CHECK(rounded.device().multiprocessors == 2);
  tune::Worker whole(part_of(5));  // more than there are
  CHECK(whole.device().multiprocessors == 4);
  CHECK(whole.run(product(Right)).warm.median == doctest::Approx(0.064).epsilon(0.01));
}

TEST_CASE("planted wrong kernels are rejected for what they are, and the tuner goes on") {
  tune::WorkerOptions options = fake_cuda::emulated_worker(EDGERT_WORKER);
  tune::Worker worker(options);
  const auto verdict = [&](Planted planted) {
    const tune::Result result = worker.run(product(planted));
    MESSAGE(std::string(tune::to_string(result.verdict)) << ": " << result.detail);
    return result.verdict;
  };
  CHECK(verdict(DroppedTail) == Verdict::Wrong);
  CHECK(verdict(MissingEdge) == Verdict::Wrong);
  CHECK(verdict(NoBias) == Verdict::Wrong);
  CHECK(verdict(Race) == Verdict::Unsteady);
  CHECK(verdict(OutOfBounds) == Verdict::OutOfBounds);
  CHECK(verdict(WritesOperand) == Verdict::OutOfBounds);
  CHECK(worker.starts() == 1);  // so far nobody was hurt
  CHECK(verdict(Right) == Verdict::Good);
  CHECK(verdict(Fault) == Verdict::Crashed);
  CHECK(verdict(Right) == Verdict::Good);
  CHECK(worker.starts() == 2);
}

TEST_CASE("a kernel that hangs is given up on") {
  const tune::Job hangs = product(Hang), right = product(Right);
  tune::WorkerOptions options = fake_cuda::emulated_worker(EDGERT_WORKER);
  options.job_seconds = 5;
  tune::Worker worker(options);
  CHECK(worker.run(hangs).verdict == Verdict::Hung);
  CHECK(worker.run(right).verdict == Verdict::Good);
  CHECK(worker.starts() == 2);
}

TEST_CASE("measuring keeps a record of every tactic, and the fastest right one is best") {
  tune::Worker worker(fake_cuda::emulated_worker(EDGERT_WORKER));
  tune::Problem problem;
  problem.signature = "product";
  const auto add = [&](const char* name, Planted planted, unsigned idle) {
    problem.alternatives.push_back({{name, std::string("hash of ") + name}, [planted, idle] { return product(planted, idle); }});
  };
  add("slow", Right, 6);
  add("wrong", DroppedTail, 0);
  add("fast", Right, 1);
  add("as fast", Right, 1);
  add("crashing", Fault, 0);
  const tune::Scope scope{90, 4, "13.0", "here"};
  tune::Records records({}, scope);
  std::vector<std::string> verdicts;
  tune::measure(worker, problem, tune::make_stamp(worker.device(), scope), [&](const tune::Record& record) {
    // What is kept is what a file of it would say.
    const std::vector<tune::Record> again = tune::parse_records(tune::to_line(record), "line");
    REQUIRE(again.size() == 1);
    CHECK(tune::to_line(again[0]) == tune::to_line(record));
    records.add(again[0]);
    verdicts.push_back(record.verdict);
  });
  CHECK(verdicts == std::vector<std::string>{"ok", "wrong", "ok", "ok", "crashed"});
  std::vector<tune::Tactic> tactics;
  for (const auto& alternative : problem.alternatives) tactics.push_back(alternative.tactic);
  CHECK(records.find("product", tactics, "").best == 2);  // of equals the first
}

TEST_CASE("a job that makes no sense is an error, and so is a worker that is none") {
  tune::Worker worker(fake_cuda::emulated_worker(EDGERT_WORKER));
  tune::Job job = product(Right);
  job.checks[0].check.dims = {kRows, kColumns + 1};
  CHECK_THROWS_WITH_AS(worker.run(job), doctest::Contains("outside of its buffer"), ir::BuildError);
  job = product(Right);
  job.bindings.pop_back();
  CHECK_THROWS_WITH_AS(worker.run(job), doctest::Contains("number of bindings"), ir::BuildError);
  job = product(Right);
  job.plan[job.plan.size() / 2] ^= std::byte{1};
  CHECK_THROWS_AS(worker.run(job), ir::BuildError);
  CHECK(worker.run(product(Right)).verdict == Verdict::Good);

  const auto open = [](std::vector<std::string> command) {
    tune::WorkerOptions options;
    options.command = std::move(command);
    options.start_seconds = 5;
    (void)tune::Worker(options).device();
  };
  CHECK_THROWS_WITH_AS(open({"/nonexistent/worker"}), doctest::Contains("cannot start"), ir::BuildError);
  CHECK_THROWS_WITH_AS(open({"true"}), doctest::Contains("the worker ended"), ir::BuildError);
  CHECK_THROWS_WITH_AS(open({"sh", "-c", "cat; echo -n something else entirely"}), doctest::Contains("answer"), ir::BuildError);
  CHECK_THROWS_WITH_AS(open({EDGERT_WORKER, "--driver", "libnone.so.1"}), doctest::Contains("no CUDA driver"), ir::BuildError);
}

TEST_CASE("a network is tuned by swapping one piece at a time") {
  // Alone the first way of each piece is the fastest, but two first ways beside each other are slow.
  tune::Network network;
  for (int p = 0; p < 3; ++p) network.pieces.push_back({{0, 1, 2}, 2, 10.0 - p, false});
  network.pieces.push_back({{1}, 1, 1.0, true});
  network.time = [](const std::vector<std::size_t>& ways) {
    CHECK(ways[3] == 1);
    tune::Result result;
    result.verdict = Verdict::Good;
    result.warm.median = 100 + static_cast<double>(ways[0] + ways[1] + ways[2]);
    for (std::size_t p = 0; p + 1 < 3; ++p) result.warm.median += ways[p] == 0 && ways[p + 1] == 0 ? 20 : 0;
    if (ways[2] == 1) result.verdict = Verdict::Failed;
    return result;
  };
  const tune::NetworkChoice choice = tune::choose_in_network(network, 1000, {});
  CHECK(choice.untuned_us == 106);
  CHECK(choice.alternatives == std::vector<std::size_t>{0, 1, 0, 1});
  CHECK(choice.tuned_us == 101);
  CHECK(tune::choose_in_network(network, 0, {}).tuned_us == 106);  // no time: the better of the two that are always timed
}

}  // namespace
