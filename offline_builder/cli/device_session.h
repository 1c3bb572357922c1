// SPDX-License-Identifier: Apache-2.0
// A plan with kernels on the GPU of this machine.
#pragma once

#include <memory>
#include <string>

#include "cli/device_rates.h"
#include "cli/device_timing.h"
#include "cli/loaded_plan.h"

namespace edgert {
struct SessionOptions;
}

namespace edgert::cli {

/// The CPU steps of a plan for a GPU, as cuda::SegmentedSession wants them. Defined in loaded_plan.cpp, beside the session that
/// compiles all operators.
class HostSteps {
 public:
  HostSteps();
  ~HostSteps();
  static Result<std::uint64_t> memory_bytes(const PlanView& plan, const SessionOptions& options);
  Status prepare(const PlanView& plan, Span<std::byte> memory, const SessionOptions& options);
  Status set_profile(std::uint32_t index);
  Status run_step(std::uint32_t step);
  const TensorView& tensor(std::uint32_t index) const;
  const PlanView& plan() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class DeviceSession final : public PlanSession {
 public:
  /// On the whole device 0, or on a part of it with at least that many multiprocessors. Throws BuildError when there is no
  /// driver or no such GPU.
  explicit DeviceSession(const LoadedPlan& plan, int multiprocessors = 0);
  ~DeviceSession() override;

  Status run() override;
  Status set_profile(std::uint32_t index) override;
  std::uint32_t profile() const override;
  Status run_step(std::uint32_t step) override;
  TensorView input(std::uint32_t i) override;
  void commit_inputs() override;
  void self_test() override;
  TensorView output(std::uint32_t i) override;
  TensorView fetch(std::uint32_t tensor) override;
  void commit(std::uint32_t tensor) override;
  std::string device_name() const override;
  std::uint64_t memory_bytes() const override;

  /// Whether the plan has CPU steps, so that a run is more than one graph: then there is no timing().
  bool has_host_steps() const;
  /// Must not outlive the session.
  std::unique_ptr<DeviceTiming> timing();
  DeviceRates rates() const;
  /// Calls of the driver's allocators by this process's own code since it started.
  std::uint64_t device_allocations() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace edgert::cli
