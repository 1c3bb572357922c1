// SPDX-License-Identifier: Apache-2.0
// What a GPU, or a part of it, can do at most: the yardstick for measured times.
#pragma once

#include <cstdint>
#include <string>

#include "edgert/cuda/driver.h"
#include "edgert/types.h"

namespace edgert::cli {

struct DeviceRates {
  double memory = 0;  ///< bytes read from device memory a microsecond
  double cache = 0;   ///< bytes read from the L2 cache a microsecond
  double tensor = 0;  ///< multiply-adds of mma.sync, 16-bit operands, a microsecond
  double scalar = 0;  ///< multiply-adds in f32 a microsecond
  /// Microseconds that a kernel which does nothing takes in a graph behind another one; and where it is launched before that
  /// one has ended (from sm_90 on). 0: not measured.
  double step = 0, early_step = 0;
  std::uint64_t cache_bytes = 0;
  std::string source;  ///< where the numbers are from, for people

  /// Microseconds below which nothing can read and write `bytes` (`cold`: not from the cache) or do `multiply_adds` in
  /// operands of type `compute`: the higher of both.
  double floor_us(std::uint64_t bytes, std::uint64_t multiply_adds, DType compute, bool cold) const;
};

/// Measures with kernels/device_rates.cu where an NVRTC is at hand to compile it (about 10 ms), and otherwise computes from
/// the device's clocks and widths. In the current context, on `stream`, whose multiprocessors are `multiprocessors`. Throws
/// BuildError when the driver fails.
DeviceRates device_rates(const cuda::Driver& driver, cuda::Device device, cuda::Stream stream, int multiprocessors);

}  // namespace edgert::cli
