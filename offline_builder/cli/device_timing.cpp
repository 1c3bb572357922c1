// SPDX-License-Identifier: Apache-2.0
#include "cli/device_timing.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "ir/types.h"

namespace edgert::cli {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double, std::micro>(Clock::now() - start).count(); }

constexpr std::size_t kWarmUp = 3;

}  // namespace

/// A graph of the session's first steps, of its own.
struct DeviceTiming::Captured {
  Captured(const DeviceTiming& timing, std::uint32_t steps) : timing_(timing) {
    const cuda::Driver& driver = timing.driver();
    const cuda::Stream stream = timing.session_.stream();
    cuda::Graph graph = nullptr;
    timing.must(driver.stream_begin_capture(stream, cuda::CaptureMode::ThreadLocal), "cuStreamBeginCapture");
    const Status captured = timing.session_.enqueue_steps(0, steps, stream);
    timing.must(driver.stream_end_capture(stream, &graph), "cuStreamEndCapture");
    if (!captured.ok()) throw ir::BuildError("step " + std::to_string(steps - 1) + " cannot be captured");
    const cuda::DriverResult counted = driver.graph_nodes(graph, nullptr, &nodes);
    const cuda::DriverResult made = driver.graph_instantiate(&exec, graph, 0);
    (void)driver.graph_destroy(graph);
    timing.must(made, "cuGraphInstantiateWithFlags");
    timing.must(counted, "cuGraphGetNodes");
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  ~Captured() {
    if (exec != nullptr) (void)timing_.driver().graph_exec_destroy(exec);
  }
  cuda::GraphExec exec = nullptr;
  std::size_t nodes = 0;

 private:
  const DeviceTiming& timing_;
};

DeviceTiming::DeviceTiming(const cuda::Program& program, cuda::Session& session) : program_(program), session_(session) {
  const cuda::ContextScope scope(driver(), program_.context());
  must(driver().event_create(&begin_, 0), "cuEventCreate");
  must(driver().event_create(&end_, 0), "cuEventCreate");
}

DeviceTiming::~DeviceTiming() {
  const cuda::ContextScope scope(driver(), program_.context());
  if (begin_ != nullptr) (void)driver().event_destroy(begin_);
  if (end_ != nullptr) (void)driver().event_destroy(end_);
  if (flush_ != 0) (void)driver().memory_free(flush_);
}

void DeviceTiming::must(cuda::DriverResult result, const char* call) const {
  if (result != cuda::DriverResult::Success) throw ir::BuildError(std::string("CUDA: ") + call + ": " + driver().name_of(result));
}

void DeviceTiming::make_cold() {
  if (flush_ == 0) {
    int l2 = 0;
    must(driver().device_attribute(&l2, cuda::DeviceAttribute::L2CacheBytes, program_.device()), "cuDeviceGetAttribute");
    flush_bytes_ = std::max<std::size_t>(static_cast<std::size_t>(l2), 1u << 20) * 4;
    must(driver().memory_alloc(&flush_, flush_bytes_), "cuMemAlloc");
  }
  must(driver().fill_bytes_async(flush_, 0, flush_bytes_, session_.stream()), "cuMemsetD8Async");
}

/// `exec`, or the session's own graph when it is null.
void DeviceTiming::launch(cuda::GraphExec exec) {
  const cuda::Stream stream = session_.stream();
  if (exec != nullptr) {
    must(driver().graph_launch(exec, stream), "cuGraphLaunch");
  } else if (!session_.enqueue(stream).ok()) {
    throw ir::BuildError("the session failed");
  }
}

/// What precedes the first event keeps the GPU busy until all is queued: else the host's time between its calls is measured too.
double DeviceTiming::run(cuda::GraphExec exec, CacheState cache) {
  const cuda::Stream stream = session_.stream();
  if (cache == CacheState::Cold) make_cold();
  else launch(exec);
  must(driver().event_record(begin_, stream), "cuEventRecord");
  launch(exec);
  must(driver().event_record(end_, stream), "cuEventRecord");
  must(driver().event_synchronize(end_), "cuEventSynchronize");
  float ms = 0;
  must(driver().event_elapsed(&ms, begin_, end_), "cuEventElapsedTime");
  return 1000.0 * static_cast<double>(ms);
}

std::vector<double> DeviceTiming::gpu(std::size_t runs, CacheState cache) {
  const cuda::ContextScope scope(driver(), program_.context());
  std::vector<double> us;
  us.reserve(runs);
  for (std::size_t i = 0; i < kWarmUp; ++i) (void)run(nullptr, cache);
  for (std::size_t i = 0; i < runs; ++i) us.push_back(run(nullptr, cache));
  std::sort(us.begin(), us.end());
  return us;
}

DeviceTiming::Host DeviceTiming::host(std::size_t runs) {
  const cuda::ContextScope scope(driver(), program_.context());
  const cuda::Stream stream = session_.stream();
  const auto* steps = program_.plan().profile(session_.profile()).lists()->Get(0)->steps();
  const Captured same(*this, rules::count(steps));
  Host times;
  times.session.reserve(runs);
  times.driver.reserve(runs);
  for (std::size_t i = 0; i < runs + kWarmUp; ++i) {
    Clock::time_point start = Clock::now();
    const Status status = session_.enqueue(stream);
    const double ours = since(start);
    if (!status.ok()) throw ir::BuildError("the session failed");
    must(driver().stream_synchronize(stream), "cuStreamSynchronize");
    start = Clock::now();
    const cuda::DriverResult launched = driver().graph_launch(same.exec, stream);
    const double bare = since(start);
    must(launched, "cuGraphLaunch");
    must(driver().stream_synchronize(stream), "cuStreamSynchronize");
    if (i < kWarmUp) continue;
    times.session.push_back(ours);
    times.driver.push_back(bare);
  }
  std::sort(times.session.begin(), times.session.end());
  std::sort(times.driver.begin(), times.driver.end());
  return times;
}

std::vector<double> DeviceTiming::steps(std::uint32_t count, std::size_t runs, CacheState cache) {
  const cuda::ContextScope scope(driver(), program_.context());
  std::vector<double> added;
  double before = 0;
  for (std::uint32_t steps = 1; steps <= count; ++steps) {
    const Captured first(*this, steps);
    std::vector<double> us;
    for (std::size_t i = 0; i < runs + kWarmUp; ++i) {
      const double time = run(first.exec, cache);
      if (i >= kWarmUp) us.push_back(time);
    }
    std::sort(us.begin(), us.end());
    const double now = us.at(us.size() / 2);
    added.push_back(now - before);
    before = now;
  }
  return added;
}

std::size_t DeviceTiming::graph_nodes(std::uint32_t steps) {
  const cuda::ContextScope scope(driver(), program_.context());
  return Captured(*this, steps).nodes;
}

}  // namespace edgert::cli
