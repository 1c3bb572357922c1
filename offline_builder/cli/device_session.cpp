// SPDX-License-Identifier: Apache-2.0
#include "cli/device_session.h"

#include <atomic>
#include <cstdlib>

#include "edgert/cuda/segmented_session.h"
#include "edgert/cuda/self_test.h"
#include "ir/types.h"
#include "tune/device_part.h"
#include "tune/vendor_libraries.h"

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

/// Calls of the driver's allocators by this process's own code, by any session.
std::atomic<std::uint64_t> device_allocation_calls{0};
cuda::Driver uncounted;

void count_allocations(cuda::Driver& driver) {
  uncounted = driver;
  driver.memory_alloc = [](cuda::DevicePointer* pointer, std::size_t bytes) {
    ++device_allocation_calls;
    return uncounted.memory_alloc(pointer, bytes);
  };
  driver.host_alloc = [](void** pointer, std::size_t bytes, unsigned int flags) {
    ++device_allocation_calls;
    return uncounted.host_alloc(pointer, bytes, flags);
  };
}

}  // namespace

struct DeviceSession::State {
  cuda::Driver driver;
  std::unique_ptr<tune::DevicePart> part;  // before what lives in its context
  int multiprocessors = 0;
  std::unique_ptr<Aligned> program_memory, session_memory;
  tune::VendorLibraries libraries;
  cuda::Program program;  // before the session, which must be closed first
  cuda::SegmentedSession<HostSteps> segmented;  // where there are CPU steps; else only its part on the device
  cuda::Session& session = segmented.device();
  bool has_host_steps = false;
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

DeviceSession::DeviceSession(const LoadedPlan& plan, int multiprocessors) : PlanSession(plan), state_(std::make_unique<State>()) {
  State& s = *state_;
  require(s.driver.open(log()), plan.path() + " needs a GPU");
  count_allocations(s.driver);
  try {
    if (multiprocessors != 0) s.part = std::make_unique<tune::DevicePart>(s.driver, multiprocessors);
  } catch (const tune::DeviceFault& fault) {
    throw ir::BuildError(fault.what());
  }
  s.program_memory = std::make_unique<Aligned>(cuda::Program::host_bytes(plan.view()));
  require(s.program.prepare(s.driver, plan.view(), s.program_memory->span(), {log(), 0, s.libraries.runners()}), plan.path());
  s.must(s.driver.device_attribute(&s.multiprocessors, cuda::DeviceAttribute::MultiprocessorCount, s.program.device()), "cuDeviceGetAttribute");
  if (s.part != nullptr) s.multiprocessors = s.part->multiprocessors();
  cuda::SessionOptions options;
  options.log = log();
  s.has_host_steps = cuda::SegmentedSession<HostSteps>::needed(plan.view());
  if (s.has_host_steps) {
    const Result<std::uint64_t> bytes = cuda::SegmentedSession<HostSteps>::host_bytes(plan.view(), options);
    require(bytes.status(), plan.path());
    s.session_memory = std::make_unique<Aligned>(*bytes);
    require(s.segmented.prepare(s.program, s.session_memory->span(), options), plan.path());
  } else {
    s.session_memory = std::make_unique<Aligned>(cuda::Session::host_bytes(plan.view()));
    require(s.session.prepare(s.program, s.session_memory->span(), options), plan.path());
  }
  require(set_profile(0), plan.path());
}

DeviceSession::~DeviceSession() = default;

Status DeviceSession::run() { return state_->has_host_steps ? state_->segmented.run() : state_->session.run(); }

bool DeviceSession::has_host_steps() const { return state_->has_host_steps; }

Status DeviceSession::set_profile(std::uint32_t index) {
  const Status status = state_->has_host_steps ? state_->segmented.select(index) : state_->session.select(index);
  if (!status.ok()) return status;
  state_->profile = index;
  state_->mirrors.clear();
  state_->mirrors.resize(rules::count(plan().profile(index).storages()));
  return status;
}

std::uint32_t DeviceSession::profile() const { return state_->profile; }
Status DeviceSession::run_step(std::uint32_t step) {
  return state_->has_host_steps ? state_->segmented.run_step(step) : state_->session.run_step(step);
}

TensorView DeviceSession::input(std::uint32_t i) { return state_->view(plan().profile(state_->profile).inputs()->Get(i)); }

void DeviceSession::commit_inputs() {
  for (std::uint32_t i = 0; i < plan().input_count(); ++i) commit(plan().profile(state_->profile).inputs()->Get(i));
}

void DeviceSession::self_test() {
  if (state_->has_host_steps) throw ir::BuildError("--self-test needs a plan without CPU steps, which is one graph");
  const Aligned host(cuda::self_test_bytes(plan()));
  const Status status = cuda::self_test(state_->session, plan(), host.span(), log());
  if (status.error() == Error::NameNotFound) throw ir::BuildError("the plan has no golden vectors: build it with --golden");
  require(status, "self-test");
}

TensorView DeviceSession::output(std::uint32_t i) {
  TensorView view = fetch(plan().profile(state_->profile).outputs()->Get(i));
  const Result<Shape> shape = state_->session.output_shape(i);
  require(shape.ok() ? Status() : shape.status(), "an output's extents");
  std::copy(shape->dims, shape->dims + view.rank, view.dims);
  return view;
}

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
         std::to_string(state_->driver.version() / 1000) + "." + std::to_string(state_->driver.version() % 1000 / 10) +
         (state_->part != nullptr ? ", " + std::to_string(state_->multiprocessors) + " multiprocessors)" : ")");
}

std::uint64_t DeviceSession::memory_bytes() const { return cuda::Session::device_bytes(plan()) + plan().weights().size(); }

std::unique_ptr<DeviceTiming> DeviceSession::timing() { return std::make_unique<DeviceTiming>(state_->program, state_->session); }

DeviceRates DeviceSession::rates() const {
  const State& s = *state_;
  const cuda::ContextScope scope(s.driver, s.program.context());
  return device_rates(s.driver, s.program.device(), s.session.stream(), s.multiprocessors);
}

std::uint64_t DeviceSession::device_allocations() const { return device_allocation_calls; }

}  // namespace edgert::cli
