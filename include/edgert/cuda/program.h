// SPDX-License-Identifier: Apache-2.0
// A plan on one device: its modules loaded, its weights uploaded. Sessions share it.
//
//   cuda::Driver driver;                 driver.open(log)
//   cuda::Program program;               program.prepare(driver, plan, host_memory, options)
//   cuda::Session session;               session.prepare(program, host_memory, options)
#pragma once

#include <new>

#include "edgert/cuda/cubin.h"
#include "edgert/cuda/driver.h"
#include "edgert/cuda/launch_rules.h"

namespace edgert::cuda {

/// Makes a context current for as long as it lives.
class ContextScope {
 public:
  ContextScope(const Driver& driver, Context context) noexcept
      : driver_(driver), pushed_(driver.context_push(context) == DriverResult::Success) {}
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;
  ~ContextScope() {
    Context popped = nullptr;
    if (pushed_) (void)driver_.context_pop(&popped);
  }
  bool ok() const noexcept { return pushed_; }

 private:
  const Driver& driver_;
  bool pushed_;
};

struct ProgramOptions {
  LogSink log;
  int device = 0;  ///< used when the calling thread has no current context
  Libraries libraries{};  ///< for plans built with --tactics: cuda/library/*.h
};

/// Not movable while prepared; must outlive its sessions. Uses the calling thread's current context, or else the
/// device's primary one, never a context of its own, so it lives beside other users of the device in one process.
class Program {
 public:
  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { close(); }

  /// Bytes of host memory, aligned to 64, that prepare() needs.
  static std::uint64_t host_bytes(const PlanView& plan) noexcept {
    const std::uint64_t modules = rules::count(plan.table().modules());
    return align_up(modules * sizeof(Module), 64) + align_up(modules * sizeof(std::uint32_t), 64) +
           align_up(entry_count(plan) * sizeof(Function), 64);
  }

  /// Checks every launch record and cubin, loads the modules and uploads the weights. `plan`'s bytes and `memory` must
  /// stay until close(). UnknownOperator for a plan with steps of a library that `options` do not have.
  Status prepare(const Driver& driver, const PlanView& plan, Span<std::byte> memory, const ProgramOptions& options = {}) noexcept {
    close();
    log_ = options.log;
    driver_ = driver;
    plan_ = plan;
    if (reinterpret_cast<std::uintptr_t>(memory.data()) % 64 != 0) return {Error::ArenaMisaligned, 0, 64};
    if (memory.size() < host_bytes(plan)) return {Error::ArenaTooSmall, 0, host_bytes(plan)};
    EDGERT_RETURN_IF_ERROR(check_launches(plan, log_));
    libraries_ = options.libraries;
    EDGERT_RETURN_IF_ERROR(check_libraries());
    carve(memory.data());
    Status status = open_context(options);
    if (status.ok()) status = load();
    if (!status.ok()) close();
    return status;
  }

  /// Gives everything back. Safe to call at any time; sessions must be closed before.
  void close() noexcept {
    if (context_ == nullptr) return;
    {
      const ContextScope scope(driver_, context_);
      for (const LibraryRunner* runner : {&libraries_.cublaslt, &libraries_.cudnn}) {
        if (runner->release != nullptr) runner->release(runner->user);
      }
      for (std::uint32_t i = 0; i < loaded_; ++i) (void)driver_.module_unload(modules_[i]);
      if (weights_ != 0) (void)driver_.memory_free(weights_);
    }
    if (retained_) (void)driver_.primary_context_release(device_);
    context_ = nullptr;
    weights_ = 0;
    loaded_ = 0;
    retained_ = false;
  }

  bool prepared() const noexcept { return context_ != nullptr; }
  const Driver& driver() const noexcept { return driver_; }
  const PlanView& plan() const noexcept { return plan_; }
  const LogSink& log() const noexcept { return log_; }
  Context context() const noexcept { return context_; }
  Device device() const noexcept { return device_; }
  /// SM number of the device, 87 for sm_87.
  std::uint32_t arch() const noexcept { return arch_; }
  bool integrated() const noexcept { return integrated_; }
  DevicePointer weights() const noexcept { return weights_; }
  const Libraries& libraries() const noexcept { return libraries_; }
  Function function(std::uint32_t module, std::uint32_t entry) const noexcept { return functions_[first_entry_[module] + entry]; }

 private:
  static std::uint64_t entry_count(const PlanView& plan) noexcept {
    std::uint64_t entries = 0;
    for (std::uint32_t i = 0; i < rules::count(plan.table().modules()); ++i) entries += rules::count(plan.table().modules()->Get(i)->entries());
    return entries;
  }

  Status check_libraries() const noexcept {
    for (std::uint32_t p = 0; p < plan_.profile_count(); ++p) {
      const auto* steps = plan_.profile(p).lists()->Get(0)->steps();
      for (std::uint32_t i = 0; i < rules::count(steps); ++i) {
        const schema::Launch* launch = steps->Get(i)->launch();
        if (launch == nullptr || launch->call() == nullptr || libraries_.of(launch->call()->library()).enqueue != nullptr) continue;
        const char* name = to_string(launch->call()->library());
        Message message;
        message << "step " << i << " is computed by " << name << ": this program does not include edgert/cuda/library/" << name << ".h";
        message.to(log_);
        return {Error::UnknownOperator, i};
      }
    }
    return {};
  }

  void carve(std::byte* memory) noexcept {
    const std::uint32_t modules = rules::count(plan_.table().modules());
    modules_ = reinterpret_cast<Module*>(memory);
    memory += align_up(modules * sizeof(Module), 64);
    first_entry_ = reinterpret_cast<std::uint32_t*>(memory);
    memory += align_up(modules * sizeof(std::uint32_t), 64);
    functions_ = reinterpret_cast<Function*>(memory);
  }

  Status open_context(const ProgramOptions& options) noexcept {
    Context current = nullptr;
    EDGERT_RETURN_IF_ERROR(driver_.check(driver_.context_get_current(&current), "cuCtxGetCurrent", log_));
    if (current != nullptr) {
      EDGERT_RETURN_IF_ERROR(driver_.check(driver_.context_device(&device_), "cuCtxGetDevice", log_));
    } else {
      EDGERT_RETURN_IF_ERROR(driver_.check(driver_.device_get(&device_, options.device), "cuDeviceGet", log_));
      EDGERT_RETURN_IF_ERROR(driver_.check(driver_.primary_context_retain(&current, device_), "cuDevicePrimaryCtxRetain", log_));
      retained_ = true;
    }
    context_ = current;
    int major = 0;
    int minor = 0;
    int integrated = 0;
    EDGERT_RETURN_IF_ERROR(attribute(DeviceAttribute::ComputeCapabilityMajor, major));
    EDGERT_RETURN_IF_ERROR(attribute(DeviceAttribute::ComputeCapabilityMinor, minor));
    EDGERT_RETURN_IF_ERROR(attribute(DeviceAttribute::Integrated, integrated));
    arch_ = static_cast<std::uint32_t>(major * 10 + minor);
    integrated_ = integrated != 0;
    return {};
  }

  Status attribute(DeviceAttribute which, int& value) const noexcept {
    return driver_.check(driver_.device_attribute(&value, which, device_), "cuDeviceGetAttribute", log_);
  }

  Status load() noexcept {
    const ContextScope scope(driver_, context_);
    if (!scope.ok()) return driver_.check(DriverResult::InvalidContext, "cuCtxPushCurrent", log_);
    std::uint32_t next = 0;
    for (std::uint32_t i = 0; i < rules::count(plan_.table().modules()); ++i) EDGERT_RETURN_IF_ERROR(load_module(i, next));
    EDGERT_RETURN_IF_ERROR(allow_shared_memory());
    const Span<const std::byte> bytes = plan_.weights();
    if (bytes.empty()) return {};
    const DriverResult allocated = driver_.memory_alloc(&weights_, bytes.size());
    if (allocated != DriverResult::Success) {
      weights_ = 0;
      Message message;
      message << "CUDA: no device memory for " << static_cast<std::uint64_t>(bytes.size()) << " bytes of weights";
      message.to(log_);
      return driver_.check(allocated, "cuMemAlloc", log_);
    }
    EDGERT_RETURN_IF_ERROR(driver_.check(driver_.copy_to_device(weights_, bytes.data(), bytes.size()), "cuMemcpyHtoD", log_));
    // The copy may return while the last bytes of pageable memory are still on their way, and sessions' streams do not wait.
    return driver_.check(driver_.stream_synchronize(nullptr), "cuStreamSynchronize", log_);
  }

  Status load_module(std::uint32_t index, std::uint32_t& next) noexcept {
    const schema::Module& module = *plan_.table().modules()->Get(index);
    const Span<const std::byte> image = plan_.section(module.section());
    if (module.arch() != arch_) {
      Message message;
      message << "the plan is for sm_" << module.arch() << ", the device is sm_" << arch_;
      message.to(log_);
      return {Error::DeviceMismatch, index, arch_};
    }
    const Result<Cubin> cubin = Cubin::check(image, arch_, log_);
    if (!cubin.ok()) return cubin.status();
    const DriverResult loaded = driver_.module_load(&modules_[index], image.data());
    if (loaded == DriverResult::NoBinaryForGpu || loaded == DriverResult::InvalidImage) {
      Message message;
      message << "module " << index << " was made by a newer CUDA than this driver (" << driver_.version() << ") can load";
      message.to(log_);
    }
    EDGERT_RETURN_IF_ERROR(driver_.check(loaded, "cuModuleLoadData", log_));
    loaded_ = index + 1;
    first_entry_[index] = next;
    for (std::uint32_t e = 0; e < rules::count(module.entries()); ++e) {
      const auto* entry = module.entries()->Get(e);
      const char* name = entry->c_str();
      if (!cubin->has_kernel(name, entry->size())) {
        Message message;
        message << "module " << index << " has no kernel " << name;
        message.to(log_);
        return {Error::SectionCorrupt, index, e};
      }
      EDGERT_RETURN_IF_ERROR(driver_.check(driver_.module_function(&functions_[next++], modules_[index], name), "cuModuleGetFunction", log_));
    }
    return {};
  }

  /// Raises each kernel's limits to what its launches ask for.
  Status allow_shared_memory() noexcept {
    for (std::uint32_t p = 0; p < plan_.profile_count(); ++p) {
      const auto* steps = plan_.profile(p).lists()->Get(0)->steps();
      for (std::uint32_t i = 0; i < rules::count(steps); ++i) {
        if (steps->Get(i)->launch() == nullptr || steps->Get(i)->launch()->call() != nullptr) continue;
        const schema::Launch& launch = *steps->Get(i)->launch();
        const Function kernel = function(launch.module_(), launch.entry());
        int allowed = 0;
        EDGERT_RETURN_IF_ERROR(driver_.check(driver_.function_get(&allowed, FunctionAttribute::MaxDynamicSharedBytes, kernel), "cuFuncGetAttribute", log_));
        const int wanted = static_cast<int>(launch.dynamic_shared_bytes());
        if (wanted > allowed) {
          EDGERT_RETURN_IF_ERROR(driver_.check(driver_.function_set(kernel, FunctionAttribute::MaxDynamicSharedBytes, wanted), "cuFuncSetAttribute", log_));
        }
        if (cluster_blocks(launch) > 8) {
          EDGERT_RETURN_IF_ERROR(driver_.check(driver_.function_set(kernel, FunctionAttribute::NonPortableClusterSize, 1), "cuFuncSetAttribute", log_));
        }
      }
    }
    return {};
  }

  static std::uint32_t cluster_blocks(const schema::Launch& launch) noexcept {
    std::uint32_t blocks = 1;
    for (std::uint32_t d = 0; d < rules::count(launch.cluster()); ++d) blocks *= launch.cluster()->Get(d);
    return blocks;
  }

  Driver driver_;
  PlanView plan_;
  LogSink log_;
  Libraries libraries_;
  Context context_ = nullptr;
  Device device_ = 0;
  bool retained_ = false;
  bool integrated_ = false;
  std::uint32_t arch_ = 0;
  std::uint32_t loaded_ = 0;
  Module* modules_ = nullptr;
  std::uint32_t* first_entry_ = nullptr;
  Function* functions_ = nullptr;
  DevicePointer weights_ = 0;
};

}  // namespace edgert::cuda
