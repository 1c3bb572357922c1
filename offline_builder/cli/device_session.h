// SPDX-License-Identifier: Apache-2.0
// A plan with kernels on the GPU of this machine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/loaded_plan.h"

namespace edgert::cli {

/// Microseconds of many runs, sorted.
struct DeviceTimes {
  std::vector<double> gpu;   ///< of one graph launch, between events
  std::vector<double> host;  ///< of the call that queues it
};

class DeviceSession final : public PlanSession {
 public:
  /// Throws BuildError when there is no driver or no such GPU.
  explicit DeviceSession(const LoadedPlan& plan);
  ~DeviceSession() override;

  Status run() override;
  Status set_profile(std::uint32_t index) override;
  std::uint32_t profile() const override;
  Status run_step(std::uint32_t step) override;
  TensorView input(std::uint32_t i) override;
  void commit_inputs() override;
  TensorView output(std::uint32_t i) override;
  TensorView fetch(std::uint32_t tensor) override;
  void commit(std::uint32_t tensor) override;
  std::string device_name() const override;
  std::uint64_t memory_bytes() const override;

  /// Runs the current profile `runs` times, one after the other.
  DeviceTimes time_runs(std::size_t runs);
  /// What each step adds to a run: medians of graphs of the first steps, less those of one step fewer. The first one
  /// carries what launching a graph costs.
  std::vector<double> time_steps(std::size_t runs);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace edgert::cli
