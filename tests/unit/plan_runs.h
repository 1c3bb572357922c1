// SPDX-License-Identifier: Apache-2.0
// Builds plans for the CPU and for a GPU from one graph, and runs them: those for a GPU on the fake driver, whose kernels
// are the specialised sources in the host emulation.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "../fake_cuda/plan_emulation.h"
#include "codegen/target.h"
#include "edgert/cuda/self_test.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"
#include "support/test_session.h"

namespace edgert::test {

using fake_cuda::FakeDriver;
using fake_cuda::PlanEmulation;

inline plan::BuildOptions options_for(std::uint32_t arch, DType precision = DType::F16) {
  plan::CudaOptions cuda;
  cuda.device = codegen::target_named("sm_" + std::to_string(arch)).value();
  // Few multiprocessors: grids are padded to their number, and every block of the emulation costs time.
  cuda.device.multiprocessors = 4;
  cuda.precision = precision;
  cuda.compiler.substitute = [](const codegen::CompileJob& job) { return PlanEmulation::get().compile(job); };
  plan::BuildOptions options;
  options.cuda = cuda;
  return options;
}

inline std::vector<float> input_of(std::size_t count) {
  std::vector<float> x(count);
  std::uint32_t state = 7;
  for (float& value : x) value = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24f;
  return x;
}

inline std::vector<ir::Bytes> one_input(const std::vector<float>& x) { return {ir::Bytes::copy(x.data(), x.size() * sizeof(float))}; }

/// Outputs, all f32, one behind the other.
inline std::vector<float> run_on_cpu(const std::vector<std::byte>& bytes, const std::vector<ir::Bytes>& inputs) {
  const plan::Bytes64 aligned(bytes);
  const auto view = PlanView::load(aligned.span());
  REQUIRE(view.ok());
  const auto needed = TestSession::memory_bytes(*view, {});
  REQUIRE(needed.ok());
  std::vector<std::max_align_t> memory((*needed + 128) / sizeof(std::max_align_t) + 1);
  auto* begin = reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(memory.data()), 64));
  TestSession session;
  REQUIRE(session.prepare(*view, {begin, static_cast<std::size_t>(*needed)}, {}).ok());
  for (std::uint32_t i = 0; i < inputs.size(); ++i) std::memcpy(session.input(i).value().data, inputs[i].data(), inputs[i].size());
  REQUIRE(session.run().ok());
  std::vector<float> out;
  for (std::uint32_t i = 0; i < view->output_count(); ++i) {
    const TensorView y = *session.output(i);
    out.insert(out.end(), y.as<float>(), y.as<float>() + y.elements());
  }
  return out;
}

inline void keep_lines(void* user, LogLevel, const char* line) { *static_cast<std::string*>(user) += std::string(line) + "\n"; }

/// The outputs of the last run. A plan's golden vectors, if it has any, must hold there.
inline std::vector<float> run_on_fake_gpu(const std::vector<std::byte>& bytes, std::uint32_t arch, const std::vector<ir::Bytes>& inputs, int runs = 1) {
  const FakeDriver& fake = FakeDriver::get();
  fake.reset();
  fake.set(static_cast<int>(arch), 13000);
  std::string log;
  const LogSink sink{keep_lines, &log};
  const plan::Bytes64 aligned(bytes);
  const auto view = PlanView::load(aligned.span(), {sink, {}});
  REQUIRE_MESSAGE(view.ok(), log);
  CHECK(view->is_cuda());
  cuda::Driver driver;
  REQUIRE(driver.open(sink, fake.path()).ok());
  const auto room = [](std::vector<std::max_align_t>& memory, std::uint64_t size) {
    memory.resize((size + 128) / sizeof(std::max_align_t) + 1);
    return Span<std::byte>(reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uintptr_t>(memory.data()), 64)), static_cast<std::size_t>(size));
  };
  std::vector<std::max_align_t> for_program, for_session;
  std::vector<float> out;
  {
    cuda::Program program;
    REQUIRE_MESSAGE(program.prepare(driver, *view, room(for_program, cuda::Program::host_bytes(*view)), {sink, 0}).ok(), log);
    cuda::Session session;
    cuda::SessionOptions options;
    options.log = sink;
    REQUIRE_MESSAGE(session.prepare(program, room(for_session, cuda::Session::host_bytes(*view)), options).ok(), log);
    if (rules::count(view->table().golden()) != 0) {
      std::vector<std::max_align_t> for_outputs;
      REQUIRE_MESSAGE(cuda::self_test(session, *view, room(for_outputs, cuda::self_test_bytes(*view)), sink).ok(), log);
    }
    for (std::uint32_t i = 0; i < inputs.size(); ++i) REQUIRE(session.write_input(i, inputs[i].data(), inputs[i].size()).ok());
    for (int i = 0; i < runs; ++i) REQUIRE(session.run().ok());
    for (std::uint32_t i = 0; i < view->output_count(); ++i) {
      std::vector<float> y(static_cast<std::size_t>(view->output(0, i).elements()));
      REQUIRE(session.read_output(i, y.data(), y.size() * sizeof(float)).ok());
      out.insert(out.end(), y.begin(), y.end());
    }
  }
  CHECK(std::string(fake.misuse()).empty());
  CHECK(fake.alive() == 0);
  return out;
}

inline std::vector<float> run_on_cpu(const std::vector<std::byte>& bytes, const std::vector<float>& x) { return run_on_cpu(bytes, one_input(x)); }
inline std::vector<float> run_on_fake_gpu(const std::vector<std::byte>& bytes, std::uint32_t arch, const std::vector<float>& x, int runs = 1) {
  return run_on_fake_gpu(bytes, arch, one_input(x), runs);
}

inline double sqnr_db(const std::vector<float>& actual, const std::vector<float>& expected) {
  REQUIRE(actual.size() == expected.size());
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    signal += double(expected[i]) * expected[i];
    noise += (double(actual[i]) - expected[i]) * (double(actual[i]) - expected[i]);
  }
  return noise == 0 ? 200 : 10 * std::log10(signal / noise);
}

}  // namespace edgert::test
