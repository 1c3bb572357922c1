// SPDX-License-Identifier: Apache-2.0
#include "tune/worker/gpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "edgert/cuda/session.h"
#include "tune/vendor_libraries.h"
#include "tune/worker/compare.h"

namespace edgert::tune {

namespace {

constexpr std::uint64_t kGuardBytes = 1u << 16;  ///< before and behind each buffer: no kernel writes there
constexpr unsigned char kGuard = 0xc5;
constexpr unsigned char kPoison = 0xff;  ///< NaN in every float type

std::string* log_text() {
  static std::string text;
  return &text;
}
void keep(void* user, LogLevel, const char* line) { *static_cast<std::string*>(user) = line; }

Timing timing_of(std::vector<double> times) {
  if (times.empty()) return {};
  std::sort(times.begin(), times.end());
  const std::size_t n = times.size();
  return {times[n / 2], times[n / 20], times[n - 1 - n / 20], static_cast<std::uint32_t>(n)};
}

}  // namespace

struct Gpu::State {
  cuda::Driver driver;
  cuda::Device device = 0;
  cuda::Context context = nullptr;
  std::unique_ptr<DevicePart> part;
  cuda::Event begin = nullptr, end = nullptr;
  cuda::DevicePointer slab = 0, flush = 0;
  std::uint64_t slab_bytes = 0, flush_bytes = 0;
  LogSink log{keep, log_text()};

  void must(cuda::DriverResult result, const char* call) const {
    if (result != cuda::DriverResult::Success) throw DeviceFault(std::string(call) + ": " + driver.name_of(result));
  }
  int attribute(cuda::DeviceAttribute which) const {
    int value = 0;
    must(driver.device_attribute(&value, which, device), "cuDeviceGetAttribute");
    return value;
  }
  /// Grows, and keeps what was allocated.
  cuda::DevicePointer room(cuda::DevicePointer& memory, std::uint64_t& have, std::uint64_t bytes) {
    if (bytes <= have) return memory;
    if (memory != 0) must(driver.memory_free(memory), "cuMemFree");
    memory = 0, have = 0;
    must(driver.memory_alloc(&memory, static_cast<std::size_t>(bytes)), "cuMemAlloc");
    have = bytes;
    return memory;
  }
};

namespace {

/// One job's buffers and graphs.
class Run {
 public:
  Run(const cuda::Driver& driver, const LogSink& log, const JobRequest& job, const PlanView& plan, const Store& store)
      : driver_(driver), log_(log), job_(job), plan_(plan), store_(store) {
    const std::uint32_t count = plan.input_count() + plan.output_count();
    if (job.bindings.size() != count) throw BadRequest("a job with another number of bindings than its plan has");
    std::uint64_t at = kGuardBytes;
    for (std::uint32_t b = 0; b < count; ++b) {
      Buffer buffer;
      buffer.input = b < plan.input_count();
      buffer.offset = at;
      buffer.bytes = bytes_of(b);
      if (job.bindings[b]) {
        buffer.initial = find(*job.bindings[b]);
        if (buffer.initial.size() != buffer.bytes) throw BadRequest("a binding and its content differ in size");
      } else {
        buffer.poison.assign(static_cast<std::size_t>(buffer.bytes), std::byte{kPoison});
        buffer.initial = {buffer.poison.data(), buffer.poison.size()};
      }
      at = align_up(at + buffer.bytes + kGuardBytes, cuda::kDeviceAlignment);
      buffers_.push_back(std::move(buffer));
    }
    memory_ = {{}, false, at, cuda::Session::device_bytes(plan, true), {}, {}, {}};
    total_ = align_up(at + memory_.bytes + kGuardBytes, cuda::kDeviceAlignment);
    for (const Check& check : job.checks) {
      if (check.binding >= count) throw BadRequest("a check of a binding that the plan has not");
      const CheckData data = {&check, find(check.expected), check.bound ? find(*check.bound) : Span<const std::byte>()};
      if (const char* problem = problem_of(data, buffers_[check.binding].bytes)) throw BadRequest(problem);
      buffers_[check.binding].checks.push_back(data);
    }
  }

  std::uint64_t bytes() const { return total_; }

  /// Guards and contents in place; the plan loaded and run once. False, with the reason in `result`, when a vendor's library does
  /// not offer what the plan asks it for.
  bool prepare(Result& result, cuda::DevicePointer slab, std::uint64_t slab_bytes, cuda::Stream stream) {
    slab_ = slab;
    must(driver_.fill_bytes_async(slab, kGuard, slab_bytes, stream), "cuMemsetD8Async");
    must(driver_.stream_synchronize(stream), "cuStreamSynchronize");
    for (const Buffer& buffer : buffers_) write(buffer);
    for (const Buffer& buffer : buffers_) addresses_.push_back(slab + buffer.offset);
    program_memory_ = AlignedBytes(cuda::Program::host_bytes(plan_));
    require(program_.prepare(driver_, plan_, program_memory_.span(), {log_, 0, libraries_.runners()}));
    session_memory_ = AlignedBytes(cuda::Session::host_bytes(plan_));
    cuda::SessionOptions options;
    options.log = log_;
    options.memory = slab + memory_.offset;
    options.bindings = {addresses_.data(), addresses_.size()};
    const Status prepared = session_.prepare(program_, session_memory_.span(), options);
    if (prepared.error() == Error::UnknownOperator) {
      result.verdict = Verdict::Failed;
      result.detail = *log_text();
      return false;
    }
    require(prepared);
    return true;
  }

  /// False, with the reason in `result`, when the results are not what they must be.
  bool verify(Result& result) {
    // A plan has run once when it is prepared, and may have written where it must not.
    for (const Buffer& buffer : buffers_) {
      if (buffer.input && !job_.checks.empty()) write(buffer);
    }
    for (std::uint32_t round = 0; round <= job_.repetitions; ++round) {
      reset();
      require(session_.run());
      for (Buffer& buffer : buffers_) {
        if (buffer.input) continue;
        const std::vector<std::byte> now = read(buffer);
        if (round == 0) {
          buffer.first = now;
          if (!is_right(buffer, result)) return false;
        } else if (now != buffer.first) {
          result.verdict = Verdict::Unsteady;
          result.detail = "run " + std::to_string(round + 1) + " gave other bits than the first";
          return false;
        }
      }
      if (round == 0 && !is_inside(result)) return false;
    }
    return is_inside(result);
  }

  void time(Result& result, cuda::Event begin, cuda::Event end, cuda::DevicePointer flush, std::uint64_t flush_bytes) {
    const cuda::GraphExec once = capture(1);
    const double copies = job_.copies;
    if (job_.rounds == 0) {
      result.warm = timing_of(sample(once, begin, end, job_.samples, 0));
    } else {
      const cuda::GraphExec many = capture(1 + job_.rounds);
      const double base = timing_of(sample(once, begin, end, job_.samples, 0)).median;
      const double more = copies * job_.rounds;
      const std::vector<double> times = sample(many, begin, end, job_.samples, job_.hopeless_us > 0 ? base + more * job_.hopeless_us : 0);
      result.stopped = times.size() < job_.samples;
      result.warm = timing_of(times);
      for (double* time : {&result.warm.median, &result.warm.low, &result.warm.high}) *time = std::max((*time - base) / more, 0.0);
      must(driver_.graph_exec_destroy(many), "cuGraphExecDestroy");
      if (!result.stopped && job_.cold_samples > 0) result.cold = cold(once, begin, end, base, result.warm.median, flush, flush_bytes);
    }
    must(driver_.graph_exec_destroy(once), "cuGraphExecDestroy");
    // What hundreds of runs left must be what the first one did.
    for (const Buffer& buffer : buffers_) {
      if (buffer.input || read(buffer) == buffer.first) continue;
      result.verdict = Verdict::Unsteady;
      result.detail = "while being timed it gave other bits than in the first run";
      return;
    }
    (void)is_inside(result);
  }

 private:
  struct Buffer {
    Span<const std::byte> initial;
    bool input = false;
    std::uint64_t offset = 0, bytes = 0;
    std::vector<std::byte> poison, first;
    std::vector<CheckData> checks;
  };

  void must(cuda::DriverResult result, const char* call) const {
    if (result != cuda::DriverResult::Success) throw DeviceFault(std::string(call) + ": " + driver_.name_of(result));
  }
  void require(const Status& status) const {
    if (!status.ok()) throw DeviceFault(log_text()->empty() ? edgert::to_string(status.error()) : *log_text());
  }
  Span<const std::byte> find(const Digest& digest) const {
    const auto found = store_.find(digest);
    if (found == store_.end()) throw BadRequest("a job names bytes that were not stored");
    return found->second.span();
  }
  std::uint64_t bytes_of(std::uint32_t b) const {
    const schema::Profile& profile = plan_.profile(0);
    const std::uint32_t tensor = b < plan_.input_count() ? profile.inputs()->Get(b) : profile.outputs()->Get(b - plan_.input_count());
    return profile.storages()->Get(profile.tensors()->Get(tensor)->storage())->size();
  }

  /// There when this returns: the copy alone may end while bytes are still on their way, which the session's stream would
  /// not wait for.
  void write(const Buffer& buffer) const {
    if (buffer.bytes == 0) return;
    must(driver_.copy_to_device(slab_ + buffer.offset, buffer.initial.data(), static_cast<std::size_t>(buffer.bytes)), "cuMemcpyHtoD");
    must(driver_.stream_synchronize(nullptr), "cuStreamSynchronize");
  }
  std::vector<std::byte> read(std::uint64_t offset, std::uint64_t bytes) const {
    std::vector<std::byte> out(static_cast<std::size_t>(bytes));
    if (bytes > 0) must(driver_.copy_to_host(out.data(), slab_ + offset, out.size()), "cuMemcpyDtoH");
    return out;
  }
  std::vector<std::byte> read(const Buffer& buffer) const { return read(buffer.offset, buffer.bytes); }

  /// Outputs and arena as if nothing had run.
  void reset() {
    for (const Buffer& buffer : buffers_) {
      if (!buffer.input) write(buffer);
    }
    const std::uint64_t arena = plan_.profile(0).arena_bytes();
    if (arena > 0) must(driver_.fill_bytes_async(slab_ + memory_.offset, kPoison, static_cast<std::size_t>(arena), session_.stream()), "cuMemsetD8Async");
    must(driver_.stream_synchronize(session_.stream()), "cuStreamSynchronize");
  }

  bool is_right(const Buffer& buffer, Result& result) const {
    if (buffer.checks.empty()) return true;
    const Comparison comparison = compare(buffer.initial, {buffer.first.data(), buffer.first.size()}, buffer.checks);
    result.worst = std::max(result.worst, std::isfinite(comparison.worst) ? comparison.worst : 1e30);
    if (comparison.good) return true;
    result.verdict = Verdict::Wrong;
    result.detail = comparison.detail;
    return false;
  }

  /// Guards and inputs are as they were.
  bool is_inside(Result& result) const {
    std::uint64_t at = 0;
    const auto guarded = [&](std::uint64_t until) {
      const std::vector<std::byte> guard = read(at, until - at);
      return std::all_of(guard.begin(), guard.end(), [](std::byte b) { return b == std::byte{kGuard}; });
    };
    bool inside = true;
    for (const Buffer& buffer : buffers_) {
      inside = inside && guarded(buffer.offset);
      at = buffer.offset + buffer.bytes;
      if (!buffer.input || job_.checks.empty()) continue;
      const std::vector<std::byte> now = read(buffer);
      inside = inside && (now.empty() || std::memcmp(now.data(), buffer.initial.data(), now.size()) == 0);
    }
    inside = inside && guarded(memory_.offset);
    at = memory_.offset + memory_.bytes;
    inside = inside && guarded(total_);
    if (inside) return true;
    result.verdict = Verdict::OutOfBounds;
    result.detail = "it wrote to an input or outside of its buffers";
    return false;
  }

  cuda::GraphExec capture(std::uint32_t rounds) {
    const std::uint32_t steps = rules::count(plan_.profile(0).lists()->Get(0)->steps());
    cuda::Graph graph = nullptr;
    cuda::GraphExec exec = nullptr;
    must(driver_.stream_begin_capture(session_.stream(), cuda::CaptureMode::ThreadLocal), "cuStreamBeginCapture");
    Status status;
    for (std::uint32_t r = 0; status.ok() && r < rounds; ++r) status = session_.enqueue_steps(0, steps, session_.stream());
    must(driver_.stream_end_capture(session_.stream(), &graph), "cuStreamEndCapture");
    require(status);
    must(driver_.graph_instantiate(&exec, graph, 0), "cuGraphInstantiateWithFlags");
    must(driver_.graph_destroy(graph), "cuGraphDestroy");
    must(driver_.graph_upload(exec, session_.stream()), "cuGraphUpload");
    return exec;
  }

  double launch(cuda::GraphExec exec, cuda::Event begin, cuda::Event end) const {
    must(driver_.event_record(begin, session_.stream()), "cuEventRecord");
    must(driver_.graph_launch(exec, session_.stream()), "cuGraphLaunch");
    must(driver_.event_record(end, session_.stream()), "cuEventRecord");
    must(driver_.event_synchronize(end), "cuEventSynchronize");
    float ms = 0;
    must(driver_.event_elapsed(&ms, begin, end), "cuEventElapsedTime");
    return 1000.0 * static_cast<double>(ms);
  }

  /// Fewer samples when all of the first few are above `hopeless`.
  std::vector<double> sample(cuda::GraphExec exec, cuda::Event begin, cuda::Event end, std::uint32_t samples, double hopeless) const {
    constexpr std::size_t kEnough = 4;
    // The device's clocks rise with work.
    for (std::uint32_t i = 0; i < samples / 2 + 1; ++i) (void)launch(exec, begin, end);
    std::vector<double> times;
    while (times.size() < samples) {
      times.push_back(launch(exec, begin, end));
      if (hopeless > 0 && times.size() == kEnough && *std::min_element(times.begin(), times.end()) > hopeless) break;
    }
    return times;
  }

  /// Of the first copy, when everything must come from memory: what a run then takes longer, added to a copy's time.
  Timing cold(cuda::GraphExec once, cuda::Event begin, cuda::Event end, double base, double warm, cuda::DevicePointer flush, std::uint64_t flush_bytes) const {
    std::vector<double> times;
    for (std::uint32_t i = 0; i < job_.cold_samples; ++i) {
      must(driver_.fill_bytes_async(flush, static_cast<unsigned char>(i), static_cast<std::size_t>(flush_bytes), session_.stream()), "cuMemsetD8Async");
      times.push_back(std::max(launch(once, begin, end) - base + warm, 0.0));
    }
    return timing_of(std::move(times));
  }

  const cuda::Driver& driver_;
  LogSink log_;
  const JobRequest& job_;
  const PlanView& plan_;
  const Store& store_;
  std::vector<Buffer> buffers_;
  Buffer memory_;  ///< arena and states
  std::uint64_t total_ = 0;
  cuda::DevicePointer slab_ = 0;
  std::vector<cuda::DevicePointer> addresses_;
  AlignedBytes program_memory_, session_memory_;
  VendorLibraries libraries_;
  cuda::Program program_;  // before the session, which must be closed first
  cuda::Session session_;
};

}  // namespace

Gpu::Gpu(const std::string& driver, std::uint32_t multiprocessors) : state_(std::make_unique<State>()) {
  State& s = *state_;
  if (!s.driver.open(s.log, driver.c_str()).ok()) throw DeviceFault(*log_text());
  s.must(s.driver.device_get(&s.device, 0), "cuDeviceGet");
  s.must(s.driver.primary_context_retain(&s.context, s.device), "cuDevicePrimaryCtxRetain");
  s.must(s.driver.context_push(s.context), "cuCtxPushCurrent");
  if (multiprocessors != 0 && multiprocessors < describe().multiprocessors) s.part = std::make_unique<DevicePart>(s.driver, static_cast<int>(multiprocessors));
  s.must(s.driver.event_create(&s.begin, 0), "cuEventCreate");
  s.must(s.driver.event_create(&s.end, 0), "cuEventCreate");
}

Gpu::~Gpu() {
  State& s = *state_;
  if (s.slab != 0) (void)s.driver.memory_free(s.slab);
  if (s.flush != 0) (void)s.driver.memory_free(s.flush);
  (void)s.driver.event_destroy(s.begin);
  (void)s.driver.event_destroy(s.end);
  s.part.reset();
  cuda::Context popped = nullptr;
  (void)s.driver.context_pop(&popped);
  (void)s.driver.primary_context_release(s.device);
}

Device Gpu::describe() const {
  const State& s = *state_;
  Device device;
  char name[128] = {};
  s.must(s.driver.device_name(name, sizeof(name), s.device), "cuDeviceGetName");
  device.name = name;
  const auto number = [&s](cuda::DeviceAttribute which) { return static_cast<std::uint32_t>(std::max(s.attribute(which), 0)); };
  device.arch = number(cuda::DeviceAttribute::ComputeCapabilityMajor) * 10 + number(cuda::DeviceAttribute::ComputeCapabilityMinor);
  device.multiprocessors = s.part != nullptr ? static_cast<std::uint32_t>(s.part->multiprocessors()) : number(cuda::DeviceAttribute::MultiprocessorCount);
  device.shared_bytes = number(cuda::DeviceAttribute::SharedBytesPerBlockOptIn);
  device.l2_bytes = number(cuda::DeviceAttribute::L2CacheBytes);
  device.clock_khz = number(cuda::DeviceAttribute::ClockKilohertz);
  device.memory_clock_khz = number(cuda::DeviceAttribute::MemoryClockKilohertz);
  device.driver = static_cast<std::uint32_t>(s.driver.version());
  return device;
}

Result Gpu::run(const JobRequest& job, Span<const std::byte> plan, const Store& store) {
  State& s = *state_;
  log_text()->clear();
  const edgert::Result<PlanView> view = PlanView::load(plan, {s.log, {}});
  if (!view.ok() || !view->is_cuda() || view->profile_count() != 1) throw BadRequest("no plan for a GPU with one profile: " + *log_text());
  Run run(s.driver, s.log, job, *view, store);
  const cuda::DevicePointer slab = s.room(s.slab, s.slab_bytes, run.bytes());
  Result result;
  result.verdict = Verdict::Good;
  cuda::Stream stream = nullptr;
  s.must(s.driver.stream_create(&stream, cuda::kStreamNonBlocking, 0), "cuStreamCreateWithPriority");
  const bool prepared = run.prepare(result, slab, run.bytes(), stream);
  s.must(s.driver.stream_destroy(stream), "cuStreamDestroy");
  if (!prepared || !run.verify(result) || job.samples == 0) return result;
  std::uint64_t flush_bytes = 0;
  if (job.cold_samples > 0) {
    flush_bytes = std::clamp<std::uint64_t>(2 * describe().l2_bytes, 1u << 20, 1u << 30);
    (void)s.room(s.flush, s.flush_bytes, flush_bytes);
  }
  run.time(result, s.begin, s.end, s.flush, flush_bytes);
  return result;
}

}  // namespace edgert::tune
