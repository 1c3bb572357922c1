// SPDX-License-Identifier: Apache-2.0
// How long a prepared session takes on the GPU and on the host.
#pragma once

#include <cstdint>
#include <vector>

#include "edgert/cuda/session.h"

namespace edgert::cli {

enum class CacheState : std::uint8_t {
  Warm,  ///< as the run before left it, which ends when this one begins
  Cold,  ///< before each run a buffer four times as large as the L2 cache was written
};

/// Everything of the session's current profile, on its stream; all times are microseconds, all lists sorted. Throws BuildError
/// when the driver fails.
class DeviceTiming {
 public:
  DeviceTiming(const cuda::Program& program, cuda::Session& session);
  DeviceTiming(const DeviceTiming&) = delete;
  DeviceTiming& operator=(const DeviceTiming&) = delete;
  ~DeviceTiming();

  /// Of one graph launch, between events, queued before the GPU is ready for it.
  std::vector<double> gpu(std::size_t runs, CacheState cache);

  struct Host {
    std::vector<double> session;  ///< the session's call that queues a run
    std::vector<double> driver;   ///< the driver's call that launches a graph of the same launches, in turns with it
  };
  Host host(std::size_t runs);

  /// What each step adds to a run: medians of graphs of the first steps, less those of one step fewer. The first one
  /// carries what launching a graph costs.
  std::vector<double> steps(std::uint32_t count, std::size_t runs, CacheState cache);

  /// Nodes of the graph of the first `steps` steps, as the driver counts them.
  std::size_t graph_nodes(std::uint32_t steps);

 private:
  struct Captured;
  const cuda::Driver& driver() const { return program_.driver(); }
  void must(cuda::DriverResult result, const char* call) const;
  void launch(cuda::GraphExec exec);
  double run(cuda::GraphExec exec, CacheState cache);
  void make_cold();

  const cuda::Program& program_;
  cuda::Session& session_;
  cuda::Event begin_ = nullptr, end_ = nullptr;
  cuda::DevicePointer flush_ = 0;
  std::size_t flush_bytes_ = 0;
};

}  // namespace edgert::cli
