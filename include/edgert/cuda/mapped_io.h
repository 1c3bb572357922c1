// SPDX-License-Identifier: Apache-2.0
// Inputs and outputs in host memory that the GPU reads and writes in place. On integrated GPUs, whose memory is the host's,
// this saves the copies (Program::integrated()); elsewhere it works as well, over the bus.
//
//   cuda::MappedIo io;                   io.prepare(program, host_memory)
//   options.bindings = io.bindings();    session.prepare(program, more_host_memory, options)
//   fill io.input(0)  ->  session.run()  ->  read io.output(0)
#pragma once

#include "edgert/cuda/session.h"

namespace edgert::cuda {

/// One allocation of page-locked host memory for one set of bindings. The session that uses it is closed before it is.
class MappedIo {
 public:
  MappedIo() = default;
  MappedIo(const MappedIo&) = delete;
  MappedIo& operator=(const MappedIo&) = delete;
  ~MappedIo() { close(); }

  /// Host memory, aligned to 8, that prepare() needs.
  static std::uint64_t host_bytes(const PlanView& plan) noexcept {
    return std::uint64_t{plan.input_count() + plan.output_count()} * sizeof(DevicePointer);
  }

  Status prepare(const Program& program, Span<std::byte> host, const LogSink& log = {}) noexcept {
    close();
    if (!program.prepared()) return Error::NotPrepared;
    const PlanView& plan = program.plan();
    if (reinterpret_cast<std::uintptr_t>(host.data()) % alignof(DevicePointer) != 0) return {Error::ArenaMisaligned, 0, alignof(DevicePointer)};
    if (host.size() < host_bytes(plan)) return {Error::ArenaTooSmall, 0, host_bytes(plan)};
    const ContextScope scope(program.driver(), program.context());
    if (!scope.ok()) return program.driver().check(DriverResult::InvalidContext, "cuCtxPushCurrent", log);
    std::uint64_t bytes = kDeviceAlignment;  // never nothing
    const std::uint32_t count = plan.input_count() + plan.output_count();
    for (std::uint32_t b = 0; b < count; ++b) bytes += align_up(plan.binding_bytes(b), kDeviceAlignment);
    void* memory = nullptr;
    EDGERT_RETURN_IF_ERROR(program.driver().check(program.driver().host_alloc(&memory, bytes, kHostAllocMapped), "cuMemHostAlloc", log));
    program_ = &program;
    memory_ = static_cast<std::byte*>(memory);
    const Status mapped = program.driver().check(program.driver().host_device_pointer(&device_, memory, 0), "cuMemHostGetDevicePointer", log);
    if (!mapped.ok()) {
      close();
      return mapped;
    }
    bindings_ = reinterpret_cast<DevicePointer*>(host.data());
    DevicePointer next = device_;
    for (std::uint32_t b = 0; b < count; ++b) {
      bindings_[b] = next;
      next += align_up(plan.binding_bytes(b), kDeviceAlignment);
    }
    return {};
  }

  void close() noexcept {
    if (program_ == nullptr) return;
    const ContextScope scope(program_->driver(), program_->context());
    (void)program_->driver().host_free(memory_);
    program_ = nullptr;
    memory_ = nullptr;
    bindings_ = nullptr;
  }

  /// For SessionOptions::bindings: one set.
  Span<const DevicePointer> bindings() const noexcept {
    return {bindings_, program_ == nullptr ? 0 : program_->plan().input_count() + program_->plan().output_count()};
  }
  /// Where the host writes input i between runs, and reads output i after one has ended; aligned to 256. Outputs lie with the
  /// strides of their largest extents.
  void* input(std::uint32_t i) const noexcept { return address(i); }
  const void* output(std::uint32_t i) const noexcept { return address(program_->plan().input_count() + i); }

 private:
  void* address(std::uint32_t binding) const noexcept { return memory_ + (bindings_[binding] - device_); }

  const Program* program_ = nullptr;
  std::byte* memory_ = nullptr;
  DevicePointer device_ = 0;
  DevicePointer* bindings_ = nullptr;
};

}  // namespace edgert::cuda
