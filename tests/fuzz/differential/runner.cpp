// SPDX-License-Identifier: Apache-2.0
// Builds and runs one model after the other for differential.py, each in a process of its own, so that a crash costs one
// model.
//
// Input: "MODEL-BYTES INPUTS-BYTES\n", the ONNX model, its inputs as an .npz file; until the end.
// Answer: "KIND BYTES\n" and that many bytes. KIND is
//   ok           lines "VARIANT OUTPUT TYPE RANK DIMS... BYTES\n", each with an output's elements behind it
//   unsupported  why the model is refused
//   error        what went wrong: a crash, a run that failed, results that depend on the number of threads
// Variants: the instruction sets that this CPU has, and "plain", a plan that no optional pass has seen.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <set>
#include <sstream>

#include "edgert/thread_pool.h"
#include "io/npz.h"
#include "onnx/import.h"
#include "plan/aligned_bytes.h"
#include "plan/build.h"
#include "support/test_session.h"

namespace {

using namespace edgert;

constexpr unsigned kSeconds = 240;  // a machine that does other things as well must not look like an endless loop
[[maybe_unused]] constexpr rlim_t kMemoryBytes = rlim_t{4} << 30;

struct RunError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void require(const Status& status, const std::string& what, const std::string& message) {
  if (!status.ok()) throw RunError(what + ": " + (message.empty() ? to_string(status.error()) : message));
}

/// A scalar or vector that the importer says must be known when the plan is built becomes a constant: what a user does
/// with --value.
bool fix_value(const std::string& message, const io::Arrays& inputs, onnx_import::ImportOptions& options) {
  bool added = false;
  for (const auto& [name, array] : inputs) {
    if (array.dims.size() > 1 || message.find("--value " + name + "=") == std::string::npos) continue;
    const auto [at, fresh] = options.values.try_emplace(name);
    if (!fresh) continue;
    at->second = {{array.dtype, array.dims}, ir::Bytes::copy(array.bytes.data(), array.bytes.size())};
    options.shapes.erase(name);
    added = true;
  }
  return added;
}

std::vector<std::byte> build(const onnx_import::Model& model, const io::Arrays& inputs, bool optimize) {
  onnx_import::ImportOptions shapes;
  for (const auto& [name, array] : inputs) shapes.shapes[name] = array.dims;
  while (true) {
    plan::BuildOptions options;
    options.profiles = {shapes};
    options.optimize = optimize;
    try {
      return plan::build(model, options).bytes;
    } catch (const onnx_import::ImportError& error) {
      if (!fix_value(error.what(), inputs, shapes)) throw;
    }
  }
}

std::vector<std::byte> dense_copy(const TensorView& view) {
  const std::size_t element = bits_of(view.dtype) / 8;
  std::vector<std::byte> bytes(static_cast<std::size_t>(view.elements()) * element);
  for (std::int64_t i = 0; i < view.elements(); ++i) {
    std::int64_t offset = 0;
    std::int64_t rest = i;
    for (std::uint32_t d = view.rank; d-- > 0; rest /= view.dims[d]) offset += rest % view.dims[d] * view.strides[d];
    std::memcpy(bytes.data() + static_cast<std::size_t>(i) * element,
                static_cast<const std::byte*>(view.data) + offset * static_cast<std::int64_t>(element), element);
  }
  return bytes;
}

/// The outputs as lines of an answer.
std::string run(const PlanView& plan, const io::Arrays& inputs, const std::string& variant, cpu::Isa isa,
                std::uint32_t threads) {
  std::string message;
  SessionOptions options;
  options.log = {[](void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; }, &message};
  StaticThreadPool<> pool(threads);
  if (threads > 1) options.pool = pool.hook();
  const Result<std::uint64_t> needed = test::TestSession::memory_bytes(plan, options);
  require(needed.status(), "memory", message);
  plan::Bytes64 memory(std::vector<std::byte>(static_cast<std::size_t>(*needed), std::byte{0xcd}));
  test::TestSession session;
  require(session.prepare(plan, memory.mutable_span(), options), "prepare", message);
  session.limit_isa(isa);
  for (std::uint32_t i = 0; i < plan.input_count(); ++i) {
    const io::Array& array = inputs.at(plan.input_name(i));
    if (!array.bytes.empty()) std::memcpy(session.input(i)->data, array.bytes.data(), array.bytes.size());
  }
  require(session.run(), "run", message);
  std::ostringstream text;
  for (std::uint32_t i = 0; i < plan.output_count(); ++i) {
    const Result<TensorView> view = session.output(i);
    require(view.status(), "output", message);
    const std::vector<std::byte> bytes = dense_copy(*view);
    text << variant << ' ' << i << ' ' << to_string(view->dtype) << ' ' << std::uint32_t{view->rank};
    for (std::uint32_t d = 0; d < view->rank; ++d) text << ' ' << view->dims[d];
    text << ' ' << bytes.size() << '\n';
    text.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  return text.str();
}

PlanView load(const plan::Bytes64& bytes) {
  const Result<PlanView> view = PlanView::load(bytes.span());
  require(view.status(), "load", "");
  return *view;
}

std::string run_all(const std::string& model_bytes, const std::string& inputs_bytes) {
  const auto span = [](const std::string& bytes) {
    return Span<const std::byte>(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
  };
  const io::Arrays inputs = io::parse_npz(span(inputs_bytes), "inputs");
  const onnx_import::Model model = onnx_import::parse_bytes(span(model_bytes), "");
  const plan::Bytes64 optimized(build(model, inputs, true));
  const PlanView view = load(optimized);
  std::string answer;
  for (const auto& [name, isa] : {std::pair{"avx512", cpu::Isa::Avx512}, {"avx2", cpu::Isa::Avx2}, {"baseline", cpu::Isa::Baseline}}) {
    const std::string one = run(view, inputs, name, isa, 1);
    if (one != run(view, inputs, name, isa, 3)) throw RunError(std::string(name) + ": three threads change the result");
    answer += one;
  }
  const plan::Bytes64 plain(build(model, inputs, false));
  return answer + run(load(plain), inputs, "plain", cpu::Isa::Avx512, 1);
}

std::pair<std::string, std::string> outcome_of(const std::string& model, const std::string& inputs) {
  try {
    return {"ok", run_all(model, inputs)};
  } catch (const ir::BuildError& error) {
    return {"unsupported", error.what()};
  } catch (const std::exception& error) {
    return {"error", error.what()};
  }
}

void limit() {
#if !defined(__SANITIZE_ADDRESS__)  // which reserves more than any limit
  const rlimit memory{kMemoryBytes, kMemoryBytes};
  setrlimit(RLIMIT_AS, &memory);
#endif
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  alarm(kSeconds);
}

/// The answer of a child process, or how it died.
std::string isolated(const std::string& model, const std::string& inputs) {
  int channel[2];
  if (pipe(channel) != 0) return "error 7\nno pipe";
  const pid_t child = fork();
  if (child == 0) {
    close(channel[0]);
    limit();
    const auto [kind, detail] = outcome_of(model, inputs);
    const std::string answer = kind + " " + std::to_string(detail.size()) + "\n" + detail;
    std::size_t written = 0;
    while (written < answer.size()) {
      const ssize_t now = write(channel[1], answer.data() + written, answer.size() - written);
      if (now <= 0) _exit(1);
      written += static_cast<std::size_t>(now);
    }
    _exit(0);
  }
  close(channel[1]);
  std::string answer;
  char buffer[1 << 16];
  for (ssize_t got = 0; (got = read(channel[0], buffer, sizeof(buffer))) > 0;) answer.append(buffer, static_cast<std::size_t>(got));
  close(channel[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFSIGNALED(status) && !answer.empty()) return answer;
  const std::string death = std::string("killed: ") + (WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "no answer");
  return "error " + std::to_string(death.size()) + "\n" + death;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::size_t model_bytes = 0;
    std::size_t inputs_bytes = 0;
    words >> model_bytes >> inputs_bytes;
    std::string model(model_bytes, '\0');
    std::string inputs(inputs_bytes, '\0');
    std::cin.read(model.data(), static_cast<std::streamsize>(model_bytes));
    std::cin.read(inputs.data(), static_cast<std::streamsize>(inputs_bytes));
    if (!words || !std::cin) return 2;
    std::cout << isolated(model, inputs) << std::flush;
  }
  return 0;
}
