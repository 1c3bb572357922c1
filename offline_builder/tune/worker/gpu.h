// SPDX-License-Identifier: Apache-2.0
// Runs, checks and times a job on the GPU. Launches are all that it knows of what they compute.
#pragma once

#include <map>
#include <memory>
#include <stdexcept>
#include <string>

#include "tune/device_part.h"
#include "tune/protocol.h"

namespace edgert::tune {

/// A request that makes no sense. The worker goes on.
class BadRequest : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Bytes by their digest.
using Store = std::map<Digest, AlignedBytes>;

class Gpu {
 public:
  /// `driver` is the library's name; with `multiprocessors` everything runs on a part of the device that has so many, if the
  /// device has more. Throws DeviceFault, after which nothing more can be expected of this process, as all of these may.
  Gpu(const std::string& driver, std::uint32_t multiprocessors);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  /// The part, where it is one.
  Device describe() const;
  /// Throws BadRequest and DeviceFault.
  Result run(const JobRequest& job, Span<const std::byte> plan, const Store& store);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace edgert::tune
