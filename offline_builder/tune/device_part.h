// SPDX-License-Identifier: Apache-2.0
// Some of a GPU's multiprocessors as a context (a green context), so that one GPU shows what a smaller one would do.
#pragma once

#include <stdexcept>

#include "edgert/cuda/driver.h"

namespace edgert::tune {

/// The driver reported an error.
class DeviceFault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class DevicePart {
 public:
  /// Device 0 with at least `multiprocessors`: the driver rounds up to its unit, 8 on sm_90. Makes the part's context
  /// current for this thread until it is destroyed. Throws DeviceFault, also where the driver cannot (before CUDA 12.5).
  DevicePart(const cuda::Driver& driver, int multiprocessors);
  DevicePart(const DevicePart&) = delete;
  DevicePart& operator=(const DevicePart&) = delete;
  ~DevicePart();

  int multiprocessors() const { return multiprocessors_; }

 private:
  void must(cuda::DriverResult result, const char* call) const;
  void enter(int multiprocessors);
  void leave();

  cuda::Driver driver_;
  cuda::Device device_ = 0;
  bool retained_ = false, pushed_ = false;
  cuda::GreenContext green_ = nullptr;
  int multiprocessors_ = 0;
};

}  // namespace edgert::tune
