// SPDX-License-Identifier: Apache-2.0
#include "cli/device_session.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "edgert/cuda/session.h"
#include "ir/types.h"

namespace edgert::cli {
namespace {

/// Heap memory aligned as the runtime asks.
struct Aligned {
  explicit Aligned(std::uint64_t size) : bytes(static_cast<std::size_t>(size)) {
    data.reset(static_cast<std::byte*>(std::aligned_alloc(64, align_up(bytes + 1, 64))));
    if (data == nullptr) throw std::bad_alloc();
  }
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  Span<std::byte> span() const { return {data.get(), bytes}; }
  std::size_t bytes;
  std::unique_ptr<std::byte, Free> data;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

struct DeviceSession::State {
  cuda::Driver driver;
  std::unique_ptr<Aligned> program_memory, session_memory;
  cuda::Program program;  // before the session, which must be closed first
  cuda::Session session;
  std::uint32_t profile = 0;
  /// Copies of the storages of the current profile, made when first asked for.
  std::vector<std::unique_ptr<Aligned>> mirrors;

  void must(cuda::DriverResult result, const char* call) const {
    if (result != cuda::DriverResult::Success) throw ir::BuildError(std::string("CUDA: ") + call + ": " + driver.name_of(result));
  }
  const schema::Storage& storage(std::uint32_t index) const { return *program.plan().profile(profile).storages()->Get(index); }
  const schema::Tensor& tensor(std::uint32_t index) const { return *program.plan().profile(profile).tensors()->Get(index); }

  TensorView view(std::uint32_t index) {
    TensorView view = program.plan().tensor(profile, index);
    std::unique_ptr<Aligned>& mirror = mirrors.at(tensor(index).storage());
    if (mirror == nullptr) mirror = std::make_unique<Aligned>(storage(tensor(index).storage()).size());
    view.data = mirror->data.get() + tensor(index).offset();
    return view;
  }
};

DeviceSession::DeviceSession(const LoadedPlan& plan) : PlanSession(plan), state_(std::make_unique<State>()) {
  State& s = *state_;
  require(s.driver.open(log()), plan.path() + " needs a GPU");
  s.program_memory = std::make_unique<Aligned>(cuda::Program::host_bytes(plan.view()));
  require(s.program.prepare(s.driver, plan.view(), s.program_memory->span(), {log(), 0}), plan.path());
  s.session_memory = std::make_unique<Aligned>(cuda::Session::host_bytes(plan.view()));
  cuda::SessionOptions options;
  options.log = log();
  require(s.session.prepare(s.program, s.session_memory->span(), options), plan.path());
  require(set_profile(0), plan.path());
}

DeviceSession::~DeviceSession() = default;

Status DeviceSession::run() { return state_->session.run(); }

Status DeviceSession::set_profile(std::uint32_t index) {
  const Status status = state_->session.select(index);
  if (!status.ok()) return status;
  state_->profile = index;
  state_->mirrors.clear();
  state_->mirrors.resize(rules::count(plan().profile(index).storages()));
  return status;
}

std::uint32_t DeviceSession::profile() const { return state_->profile; }
Status DeviceSession::run_step(std::uint32_t step) { return state_->session.run_step(step); }

TensorView DeviceSession::input(std::uint32_t i) { return state_->view(plan().profile(state_->profile).inputs()->Get(i)); }

void DeviceSession::commit_inputs() {
  for (std::uint32_t i = 0; i < plan().input_count(); ++i) commit(plan().profile(state_->profile).inputs()->Get(i));
}

TensorView DeviceSession::output(std::uint32_t i) { return fetch(plan().profile(state_->profile).outputs()->Get(i)); }

TensorView DeviceSession::fetch(std::uint32_t tensor) {
  const TensorView view = state_->view(tensor);
  const std::uint32_t storage = state_->tensor(tensor).storage();
  require(state_->session.read_storage(storage, state_->mirrors[storage]->data.get()), "reading a tensor");
  return view;
}

void DeviceSession::commit(std::uint32_t tensor) {
  const std::uint32_t storage = state_->tensor(tensor).storage();
  require(state_->session.write_storage(storage, state_->mirrors.at(storage)->data.get()), "writing a tensor");
}

std::string DeviceSession::device_name() const {
  char name[128] = {};
  state_->must(state_->driver.device_name(name, sizeof(name), state_->program.device()), "cuDeviceGetName");
  return std::string(name) + " (sm_" + std::to_string(state_->program.arch()) + ", driver for CUDA " +
         std::to_string(state_->driver.version() / 1000) + "." + std::to_string(state_->driver.version() % 1000 / 10) + ")";
}

std::uint64_t DeviceSession::memory_bytes() const { return cuda::Session::device_bytes(plan()) + plan().weights().size(); }

DeviceTimes DeviceSession::time_runs(std::size_t runs) {
  using Clock = std::chrono::steady_clock;
  State& s = *state_;
  const cuda::ContextScope scope(s.driver, s.program.context());
  cuda::Event begin = nullptr, end = nullptr;
  s.must(s.driver.event_create(&begin, 0), "cuEventCreate");
  s.must(s.driver.event_create(&end, 0), "cuEventCreate");
  DeviceTimes times;
  times.gpu.reserve(runs);
  times.host.reserve(runs);
  for (std::size_t i = 0; i < runs; ++i) {
    s.must(s.driver.event_record(begin, s.session.stream()), "cuEventRecord");
    require(s.session.enqueue(s.session.stream()), "run");
    s.must(s.driver.event_record(end, s.session.stream()), "cuEventRecord");
    s.must(s.driver.event_synchronize(end), "cuEventSynchronize");
    float ms = 0;
    s.must(s.driver.event_elapsed(&ms, begin, end), "cuEventElapsedTime");
    times.gpu.push_back(1000.0 * static_cast<double>(ms));
  }
  for (std::size_t i = 0; i < runs; ++i) {
    const Clock::time_point start = Clock::now();
    const Status status = s.session.enqueue(s.session.stream());
    times.host.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    require(status, "run");
    s.must(s.driver.stream_synchronize(s.session.stream()), "cuStreamSynchronize");
  }
  s.must(s.driver.event_destroy(begin), "cuEventDestroy");
  s.must(s.driver.event_destroy(end), "cuEventDestroy");
  std::sort(times.gpu.begin(), times.gpu.end());
  std::sort(times.host.begin(), times.host.end());
  return times;
}

std::vector<double> DeviceSession::time_steps(std::size_t runs) {
  State& s = *state_;
  const cuda::ContextScope scope(s.driver, s.program.context());
  const cuda::Stream stream = s.session.stream();
  cuda::Event begin = nullptr, end = nullptr;
  s.must(s.driver.event_create(&begin, 0), "cuEventCreate");
  s.must(s.driver.event_create(&end, 0), "cuEventCreate");
  std::vector<double> added;
  double before = 0;
  for (std::uint32_t steps = 1; steps <= step_count(); ++steps) {
    cuda::Graph graph = nullptr;
    cuda::GraphExec exec = nullptr;
    s.must(s.driver.stream_begin_capture(stream, cuda::CaptureMode::ThreadLocal), "cuStreamBeginCapture");
    const Status captured = s.session.enqueue_steps(0, steps, stream);
    s.must(s.driver.stream_end_capture(stream, &graph), "cuStreamEndCapture");
    require(captured, "step " + std::to_string(steps - 1));
    s.must(s.driver.graph_instantiate(&exec, graph, 0), "cuGraphInstantiateWithFlags");
    s.must(s.driver.graph_destroy(graph), "cuGraphDestroy");
    std::vector<double> times;
    for (std::size_t i = 0; i < runs + 3; ++i) {
      s.must(s.driver.event_record(begin, stream), "cuEventRecord");
      s.must(s.driver.graph_launch(exec, stream), "cuGraphLaunch");
      s.must(s.driver.event_record(end, stream), "cuEventRecord");
      s.must(s.driver.event_synchronize(end), "cuEventSynchronize");
      float ms = 0;
      s.must(s.driver.event_elapsed(&ms, begin, end), "cuEventElapsedTime");
      if (i >= 3) times.push_back(1000.0 * static_cast<double>(ms));
    }
    s.must(s.driver.graph_exec_destroy(exec), "cuGraphExecDestroy");
    const double now = median(std::move(times));
    added.push_back(now - before);
    before = now;
  }
  s.must(s.driver.event_destroy(begin), "cuEventDestroy");
  s.must(s.driver.event_destroy(end), "cuEventDestroy");
  return added;
}

}  // namespace edgert::cli
