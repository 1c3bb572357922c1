// SPDX-License-Identifier: Apache-2.0
// Running a plan on a GPU: prepare() lays out device memory and captures each profile's launches into a graph; run() is
// one graph launch. After prepare() nothing is allocated, on host or device, by this code.
#pragma once

#include <ctime>

#include "edgert/cuda/launch.h"
#include "edgert/shape.h"

namespace edgert::cuda {

struct SessionOptions {
  LogSink log;
  int priority = 0;  ///< of the session's own stream
  /// Device memory of device_bytes(), aligned to 256, kept by the caller; 0: prepare() makes the one allocation.
  DevicePointer memory = 0;
  /// Sets of the caller's device addresses: for each set all inputs, then all outputs, aligned to 256. One graph a set and
  /// profile is captured, so that rotating buffers never change a graph. Empty: one set, in the session's memory.
  Span<const DevicePointer> bindings;
};

/// One caller at a time. Several sessions may share a program, and run at once if their memory is not shared.
class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() { close(); }

  /// Host memory, aligned to 64, that prepare() needs for that many sets of bindings (at least 1).
  static std::uint64_t host_bytes(const PlanView& plan, std::uint32_t sets = 1) noexcept {
    return align_up(std::uint64_t{sets} * binding_count(plan) * sizeof(DevicePointer), 64) +
           align_up(std::uint64_t{sets} * graphs_in_set(plan) * sizeof(GraphExec), 64);
  }
  /// Device memory that prepare() needs, exactly: arena, states, and buffers of inputs and outputs unless the caller binds.
  static std::uint64_t device_bytes(const PlanView& plan, bool external_io = false) noexcept {
    std::uint64_t bytes = arena_bytes(plan) + align_up(plan.table().state_bytes(), kDeviceAlignment);
    for (std::uint32_t b = 0; !external_io && b < binding_count(plan); ++b) bytes += align_up(plan.binding_bytes(b), kDeviceAlignment);
    return bytes;
  }

  /// Captures a graph for every profile (every segment of launches, where it has CPU steps between them) and set of bindings
  /// and runs each once, so that nothing is left to happen later.
  Status prepare(const Program& program, Span<std::byte> host, const SessionOptions& options = {}) noexcept {
    close();
    if (!program.prepared()) return Error::NotPrepared;
    program_ = &program;
    options_ = options;
    const PlanView& plan = program.plan();
    const std::uint32_t bindings = binding_count(plan);
    segments_ = most_segments(plan);
    external_io_ = !options.bindings.empty();
    if (external_io_ && (bindings == 0 || options.bindings.size() % bindings != 0)) return fail(Error::InvalidArgument);
    sets_ = external_io_ ? static_cast<std::uint32_t>(options.bindings.size() / bindings) : 1;
    if (reinterpret_cast<std::uintptr_t>(host.data()) % 64 != 0) return fail({Error::ArenaMisaligned, 0, 64});
    if (host.size() < host_bytes(plan, sets_)) return fail({Error::ArenaTooSmall, 0, host_bytes(plan, sets_)});
    if (options.memory % kDeviceAlignment != 0) return fail({Error::ArenaMisaligned, 0, kDeviceAlignment});
    bindings_ = reinterpret_cast<DevicePointer*>(host.data());
    graphs_ = reinterpret_cast<GraphExec*>(host.data() + align_up(std::uint64_t{sets_} * bindings * sizeof(DevicePointer), 64));
    for (std::uint32_t g = 0; g < sets_ * graphs_in_set(plan); ++g) graphs_[g] = nullptr;
    const ContextScope scope(driver(), program.context());
    Status status = entered(scope);
    if (status.ok()) status = allocate();
    if (status.ok()) status = reset();
    for (std::uint32_t g = 0; status.ok() && g < sets_ * graphs_in_set(plan); ++g) status = capture(g);
    if (status.ok()) status = reset();
    if (!status.ok()) return fail(status);
    state_code_ = State::Ready;
    return {};
  }

  void close() noexcept {
    if (program_ == nullptr) return;
    {
      const ContextScope scope(driver(), program_->context());
      for (std::uint32_t g = 0; graphs_ != nullptr && g < sets_ * graphs_in_set(program_->plan()); ++g) {
        if (graphs_[g] != nullptr) (void)driver().graph_exec_destroy(graphs_[g]);
      }
      if (stream_ != nullptr) (void)driver().stream_destroy(stream_);
      if (own_memory_ != 0) (void)driver().memory_free(own_memory_);
    }
    program_ = nullptr;
    graphs_ = nullptr;
    stream_ = nullptr;
    last_stream_ = nullptr;
    own_memory_ = 0;
    profile_ = set_ = 0;
    state_code_ = State::Empty;
  }

  /// Which shape profile, and which set of bindings, the next run takes.
  Status select(std::uint32_t profile, std::uint32_t set = 0) noexcept {
    if (state_code_ == State::Empty) return Error::NotPrepared;
    if (profile >= program_->plan().profile_count() || set >= sets_) return {Error::InvalidArgument, profile, set};
    profile_ = profile;
    set_ = set;
    return {};
  }

  std::uint32_t profile() const noexcept { return profile_; }
  std::uint32_t set() const noexcept { return set_; }

  /// Device addresses of input i and output i in the selected set.
  DevicePointer input(std::uint32_t i) const noexcept { return bindings_[set_ * binding_count(program_->plan()) + i]; }
  DevicePointer output(std::uint32_t i) const noexcept {
    return bindings_[set_ * binding_count(program_->plan()) + program_->plan().input_count() + i];
  }

  /// Copies host memory into input i, or output i into host memory, and waits. `bytes` is at most the binding's size.
  Status write_input(std::uint32_t i, const void* data, std::size_t bytes) noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    if (i >= program_->plan().input_count() || bytes > program_->plan().binding_bytes(i)) return {Error::InvalidArgument, i};
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    EDGERT_RETURN_IF_ERROR(device(driver().copy_to_device_async(input(i), data, bytes, stream_), "cuMemcpyHtoDAsync"));
    return device(driver().stream_synchronize(stream_), "cuStreamSynchronize");
  }
  Status read_output(std::uint32_t i, void* data, std::size_t bytes) noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    const PlanView& plan = program_->plan();
    if (i >= plan.output_count() || bytes > plan.binding_bytes(plan.input_count() + i)) return {Error::InvalidArgument, i};
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    EDGERT_RETURN_IF_ERROR(device(driver().copy_to_host_async(data, output(i), bytes, stream_), "cuMemcpyDtoHAsync"));
    return device(driver().stream_synchronize(stream_), "cuStreamSynchronize");
  }

  /// The extents that output i has after a run that has ended; those that only a run knows are read from the device, which
  /// this waits for. read_output() copies the output as it lies in memory: with the strides of its largest extents.
  Result<Shape> output_shape(std::uint32_t i) noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    if (i >= program_->plan().output_count()) return Status(Error::InvalidArgument, i);
    const schema::Profile& profile = program_->plan().profile(profile_);
    const schema::Tensor& tensor = *profile.tensors()->Get(profile.outputs()->Get(i));
    Shape shape;
    shape.rank = rules::count(tensor.dims());
    for (std::uint32_t d = 0; d < shape.rank; ++d) shape.dims[d] = tensor.dims()->Get(d);
    if (rules::count(tensor.extents()) == 0) return shape;
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    Shape actual = shape;
    for (std::uint32_t e = 0; e < rules::count(tensor.extents()); ++e) {
      const schema::Extent& extent = *tensor.extents()->Get(e);
      const schema::Tensor& counted = *profile.tensors()->Get(extent.tensor());
      const DevicePointer from = regions(set_).address(*profile.storages()->Get(counted.storage())) + counted.offset();
      EDGERT_RETURN_IF_ERROR(device(driver().copy_to_host_async(&actual.dims[extent.dim()], from, sizeof(std::int64_t), stream_), "cuMemcpyDtoHAsync"));
    }
    EDGERT_RETURN_IF_ERROR(device(driver().stream_synchronize(stream_), "cuStreamSynchronize"));
    for (std::uint32_t d = 0; d < shape.rank; ++d) {
      if (actual.dims[d] < 0 || actual.dims[d] > shape.dims[d]) return Status(Error::ExtentMismatch, i);
    }
    return actual;
  }

  /// Writes the initial values of all states, or zeros, and waits.
  Status reset() noexcept {
    if (state_code_ == State::Failed) return Error::DeviceFailed;
    if (program_ == nullptr || stream_ == nullptr) return Error::NotPrepared;
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    const PlanView& plan = program_->plan();
    const std::uint64_t bytes = plan.table().state_bytes();
    if (bytes != 0) EDGERT_RETURN_IF_ERROR(device(driver().fill_bytes_async(states_, 0, bytes, stream_), "cuMemsetD8Async"));
    for (std::uint32_t i = 0; i < rules::count(plan.table().states()); ++i) {
      const schema::State& state = *plan.table().states()->Get(i);
      if (!state.has_initial() || state.size() == 0) continue;
      EDGERT_RETURN_IF_ERROR(device(
          driver().copy_device_async(states_ + state.offset(), program_->weights() + state.initial_offset(), state.size(), stream_), "cuMemcpyDtoDAsync"));
    }
    return device(driver().stream_synchronize(stream_), "cuStreamSynchronize");
  }

  /// Launches the selected graph on the session's stream and waits for it. NotAsync where the profile has CPU steps, which a
  /// SegmentedSession runs.
  Status run() noexcept {
    EDGERT_RETURN_IF_ERROR(enqueue(stream_));
    return synchronize();
  }
  /// Waits for everything on the session's own stream.
  Status synchronize() noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    return device(driver().stream_synchronize(stream_), "cuStreamSynchronize");
  }
  /// Launches the selected graph on `stream`, which must belong to the program's context, and returns. NotAsync as for run().
  Status enqueue(Stream stream) noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    const schema::Profile& profile = program_->plan().profile(profile_);
    if (segment_count(profile) != 1 || !is_graph(profile, 0)) return Error::NotAsync;
    return enqueue_segment(0, stream);
  }
  /// The same for one segment of launches.
  Status enqueue_segment(std::uint32_t segment, Stream stream) noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    const schema::Profile& profile = program_->plan().profile(profile_);
    if (segment >= segment_count(profile) || !is_graph(profile, segment)) return {Error::InvalidArgument, segment};
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    last_stream_ = stream;
    return device(driver().graph_launch(graphs_[graph_index(set_, profile_, segment)], stream), "cuGraphLaunch");
  }
  /// Whether everything enqueued on the last stream is done: Ok, or Timeout while it is not.
  Status poll() noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    const DriverResult result = driver().stream_query(last_stream_);
    if (result == DriverResult::NotReady) return Error::Timeout;
    return device(result, "cuStreamQuery");
  }
  /// Waits, busily, at most that long. After Timeout the work still runs; the session stays usable.
  Status wait(std::uint64_t nanoseconds) noexcept {
    const std::uint64_t begin = now();
    for (;;) {
      const Status status = poll();
      if (status.error() != Error::Timeout || now() - begin >= nanoseconds) return status;
    }
  }

  /// The session's own stream, for copies that belong before or after a run.
  Stream stream() const noexcept { return stream_; }
  /// A driver call failed: the device's state is lost, and every later call returns DeviceFailed without reaching it.
  bool failed() const noexcept { return state_code_ == State::Failed; }

  /// Launches `count` steps of the selected profile on `stream`, outside any graph, which it may be capturing into one:
  /// for profilers, comparison and the tuner's worker.
  Status enqueue_steps(std::uint32_t first, std::uint32_t count, Stream stream) noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    const schema::Profile& profile = program_->plan().profile(profile_);
    const auto* steps = profile.lists()->Get(0)->steps();
    if (first > rules::count(steps) || count > rules::count(steps) - first) return {Error::InvalidArgument, first};
    for (std::uint32_t i = first; i < first + count; ++i) {
      if (steps->Get(i)->launch() == nullptr) return {Error::NotAsync, i};
    }
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    Status status;
    for (std::uint32_t i = first; status.ok() && i < first + count; ++i) {
      status = launch_step(*program_, profile, *steps->Get(i)->launch(), regions(set_), stream);
    }
    if (!status.ok()) state_code_ = State::Failed;
    return status;
  }
  /// One step on the session's stream, and waits for it.
  Status run_step(std::uint32_t step) noexcept {
    EDGERT_RETURN_IF_ERROR(enqueue_steps(step, 1, stream_));
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    return device(driver().stream_synchronize(stream_), "cuStreamSynchronize");
  }

  /// Copies a whole storage of the selected profile to host memory of its size, or from it unless it is one of weights,
  /// and waits: between steps, for comparison.
  Status read_storage(std::uint32_t storage, void* to) noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    const auto* storages = program_->plan().profile(profile_).storages();
    if (storage >= rules::count(storages)) return {Error::InvalidArgument, storage};
    const schema::Storage& from = *storages->Get(storage);
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    EDGERT_RETURN_IF_ERROR(device(driver().copy_to_host_async(to, regions(set_).address(from), from.size(), stream_), "cuMemcpyDtoHAsync"));
    return device(driver().stream_synchronize(stream_), "cuStreamSynchronize");
  }
  Status write_storage(std::uint32_t storage, const void* from) noexcept {
    EDGERT_RETURN_IF_ERROR(usable());
    const auto* storages = program_->plan().profile(profile_).storages();
    if (storage >= rules::count(storages) || storages->Get(storage)->region() == schema::Region::Weights) return {Error::InvalidArgument, storage};
    const schema::Storage& to = *storages->Get(storage);
    const ContextScope scope(driver(), program_->context());
    EDGERT_RETURN_IF_ERROR(entered(scope));
    EDGERT_RETURN_IF_ERROR(device(driver().copy_to_device_async(regions(set_).address(to), from, to.size(), stream_), "cuMemcpyHtoDAsync"));
    return device(driver().stream_synchronize(stream_), "cuStreamSynchronize");
  }

 private:
  enum class State : std::uint8_t { Empty, Ready, Failed };

  static std::uint32_t graphs_in_set(const PlanView& plan) noexcept { return plan.profile_count() * most_segments(plan); }
  std::uint32_t graph_index(std::uint32_t set, std::uint32_t profile, std::uint32_t segment) const noexcept {
    return (set * program_->plan().profile_count() + profile) * segments_ + segment;
  }
  static std::uint32_t binding_count(const PlanView& plan) noexcept { return plan.input_count() + plan.output_count(); }
  static std::uint64_t arena_bytes(const PlanView& plan) noexcept {
    std::uint64_t largest = 0;
    for (std::uint32_t p = 0; p < plan.profile_count(); ++p) {
      if (plan.profile(p).arena_bytes() > largest) largest = plan.profile(p).arena_bytes();
    }
    return align_up(largest, kDeviceAlignment);
  }
  static std::uint64_t now() noexcept {
    timespec time = {};
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1000000000u + static_cast<std::uint64_t>(time.tv_nsec);
  }

  const Driver& driver() const noexcept { return program_->driver(); }
  Status check(DriverResult result, const char* call) const noexcept { return driver().check(result, call, options_.log); }
  /// The same, after which a failure is for good.
  Status device(DriverResult result, const char* call) noexcept {
    const Status status = check(result, call);
    if (!status.ok() && state_code_ == State::Ready) state_code_ = State::Failed;
    return status;
  }
  Status entered(const ContextScope& scope) noexcept {
    return scope.ok() ? Status() : device(DriverResult::InvalidContext, "cuCtxPushCurrent");
  }
  Status usable() const noexcept {
    if (state_code_ == State::Ready) return {};
    return state_code_ == State::Failed ? Error::DeviceFailed : Error::NotPrepared;
  }
  Status fail(Status status) noexcept {
    close();
    return status;
  }

  Regions regions(std::uint32_t set) const noexcept {
    const PlanView& plan = program_->plan();
    return {program_->weights(), arena_, states_, bindings_ + std::uint64_t{set} * binding_count(plan), plan.input_count()};
  }

  Status allocate() noexcept {
    const PlanView& plan = program_->plan();
    EDGERT_RETURN_IF_ERROR(check(driver().stream_create(&stream_, kStreamNonBlocking, options_.priority), "cuStreamCreateWithPriority"));
    last_stream_ = stream_;
    const std::uint64_t bytes = device_bytes(plan, external_io_);
    DevicePointer memory = options_.memory;
    if (memory == 0 && bytes != 0) {
      const DriverResult allocated = driver().memory_alloc(&memory, bytes);
      if (allocated != DriverResult::Success) {
        Message message;
        message << "CUDA: no device memory for a session of " << bytes << " bytes";
        message.to(options_.log);
        return check(allocated, "cuMemAlloc");
      }
      own_memory_ = memory;
    }
    if (bytes != 0) EDGERT_RETURN_IF_ERROR(check(driver().fill_bytes_async(memory, 0, bytes, stream_), "cuMemsetD8Async"));
    arena_ = memory;
    states_ = arena_ + arena_bytes(plan);
    DevicePointer next = states_ + align_up(plan.table().state_bytes(), kDeviceAlignment);
    for (std::uint32_t b = 0; b < sets_ * binding_count(plan); ++b) {
      bindings_[b] = external_io_ ? options_.bindings[b] : next;
      if (bindings_[b] % kDeviceAlignment != 0) return {Error::ArenaMisaligned, b, kDeviceAlignment};
      if (!external_io_) next += align_up(plan.binding_bytes(b), kDeviceAlignment);
    }
    return {};
  }

  /// Graph g, by graph_index(); none for a segment that the profile does not have or that the CPU runs.
  Status capture(std::uint32_t g) noexcept {
    const PlanView& plan = program_->plan();
    const std::uint32_t segment = g % segments_;
    const std::uint32_t set_and_profile = g / segments_;
    const schema::Profile& profile = plan.profile(set_and_profile % plan.profile_count());
    if (segment >= segment_count(profile) || !is_graph(profile, segment)) return {};
    const auto* steps = profile.lists()->Get(0)->steps();
    const bool whole = rules::count(profile.segments()) == 0;
    const std::uint32_t first = whole ? 0 : profile.segments()->Get(segment)->first_step();
    const std::uint32_t count = whole ? rules::count(steps) : profile.segments()->Get(segment)->step_count();
    const Regions where = regions(set_and_profile / plan.profile_count());
    // What a library loads and allocates when it is first called must not happen in a capture.
    for (std::uint32_t i = first; i < first + count; ++i) {
      const schema::Launch& launch = *steps->Get(i)->launch();
      if (launch.call() != nullptr) EDGERT_RETURN_IF_ERROR(launch_step(*program_, profile, launch, where, stream_));
    }
    EDGERT_RETURN_IF_ERROR(check(driver().stream_begin_capture(stream_, CaptureMode::ThreadLocal), "cuStreamBeginCapture"));
    Status status;
    for (std::uint32_t i = first; status.ok() && i < first + count; ++i) {
      status = launch_step(*program_, profile, *steps->Get(i)->launch(), where, stream_);
    }
    Graph graph = nullptr;
    const Status ended = check(driver().stream_end_capture(stream_, &graph), "cuStreamEndCapture");
    if (status.ok()) status = ended;
    if (status.ok()) status = check(driver().graph_instantiate(&graphs_[g], graph, 0), "cuGraphInstantiateWithFlags");
    if (graph != nullptr) (void)driver().graph_destroy(graph);
    if (status.ok()) status = check(driver().graph_upload(graphs_[g], stream_), "cuGraphUpload");
    if (status.ok()) status = check(driver().graph_launch(graphs_[g], stream_), "cuGraphLaunch");
    if (status.ok()) status = check(driver().stream_synchronize(stream_), "cuStreamSynchronize");
    return status;
  }

  const Program* program_ = nullptr;
  SessionOptions options_;
  State state_code_ = State::Empty;
  bool external_io_ = false;
  std::uint32_t sets_ = 0;
  std::uint32_t segments_ = 1;  ///< of the profile with the most
  std::uint32_t profile_ = 0;
  std::uint32_t set_ = 0;
  Stream stream_ = nullptr;
  Stream last_stream_ = nullptr;
  DevicePointer own_memory_ = 0;
  DevicePointer arena_ = 0;
  DevicePointer states_ = 0;
  DevicePointer* bindings_ = nullptr;
  GraphExec* graphs_ = nullptr;
};

}  // namespace edgert::cuda
