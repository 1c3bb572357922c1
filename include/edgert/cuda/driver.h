// SPDX-License-Identifier: Apache-2.0
// The CUDA driver, opened at run time: a program that uses EdgeRT links no NVIDIA library and starts on machines that
// have none. driver_symbols.def is the one list of functions.
//
//   edgert::cuda::Driver driver;
//   Status status = driver.open(log);          // DeviceUnavailable, and a log line that says why
//   driver.check(driver.device_count(&count), "cuDeviceGetCount", log)
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>

#include "edgert/cuda/driver_types.h"
#include "edgert/log.h"
#include "edgert/status.h"

namespace edgert::cuda {

/// Groups of functions that a driver has as a whole or not at all.
enum class Feature : std::uint8_t { Base = 0, LaunchAttributes = 1, TensorMaps = 2, GreenContexts = 3 };

/// Pointers to the driver's functions. Cheap to copy; opening twice is harmless, and the library stays loaded for the
/// life of the process, as the driver's own state does. Thread-safe after open().
class Driver {
 public:
#define EDGERT_CUDA_FUNCTION(feature, version, member, symbol, parameters) DriverResult(*member) parameters = nullptr;
#include "edgert/cuda/driver_symbols.def"
#undef EDGERT_CUDA_FUNCTION

  /// Opens `library`, finds every function and calls cuInit. DeviceUnavailable when there is no driver, when it is too
  /// old, or when it finds no device.
  Status open(const LogSink& log = {}, const char* library = "libcuda.so.1") noexcept {
    version_ = 0;
    features_ = 0;
    void* handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return unavailable(log, "no CUDA driver", ::dlerror());
    using VersionFunction = DriverResult (*)(int*);
    const auto get_version = reinterpret_cast<VersionFunction>(::dlsym(handle, "cuDriverGetVersion"));
    if (get_version == nullptr || get_version(&version_) != DriverResult::Success) {
      return unavailable(log, "not a CUDA driver", library);
    }
    std::uint32_t missing = 0;  // bit n: a function of feature n
#define EDGERT_CUDA_FUNCTION(feature, minimum, member, symbol, parameters)            \
  member = version_ < (minimum) ? nullptr : find<decltype(member)>(handle, #symbol); \
  if (member == nullptr) note_missing(Feature::feature, #symbol, minimum, missing, log);
#include "edgert/cuda/driver_symbols.def"
#undef EDGERT_CUDA_FUNCTION
    features_ = ~missing;
    if (!has(Feature::Base)) return {Error::DeviceUnavailable, 0, static_cast<std::uint64_t>(version_)};
    const DriverResult started = init(0);
    if (started != DriverResult::Success) return unavailable(log, "cuInit", name_of(started));
    return {};
  }

  /// cuDriverGetVersion's number, 13000 for CUDA 13.0; 0 before open().
  int version() const noexcept { return version_; }
  bool has(Feature feature) const noexcept { return (features_ >> static_cast<unsigned>(feature) & 1u) != 0; }

  /// Ok, or DeviceFailed with the driver's code as value() and a log line that names the call.
  Status check(DriverResult result, const char* call, const LogSink& log) const noexcept {
    if (result == DriverResult::Success) return {};
    Message message;
    message << "CUDA: " << call << ": " << name_of(result);
    message.to(log);
    return {Error::DeviceFailed, 0, static_cast<std::uint64_t>(result)};
  }

  /// The driver's name of a code. Never null.
  const char* name_of(DriverResult result) const noexcept {
    const char* name = nullptr;
    if (error_name == nullptr || error_name(result, &name) != DriverResult::Success || name == nullptr) {
      return "unknown CUDA error";
    }
    return name;
  }

 private:
  template <class T>
  static T find(void* handle, const char* symbol) noexcept {
    return reinterpret_cast<T>(::dlsym(handle, symbol));
  }

  static void note_missing(Feature feature, const char* symbol, int minimum, std::uint32_t& missing,
                           const LogSink& log) noexcept {
    const bool first = (missing >> static_cast<unsigned>(feature) & 1u) == 0;
    missing |= 1u << static_cast<unsigned>(feature);
    if (!first || feature != Feature::Base) return;
    Message message;
    message << "CUDA driver too old: it lacks " << symbol << ", which came with CUDA " << minimum / 1000 << "."
            << minimum % 1000 / 10;
    message.to(log);
  }

  static Status unavailable(const LogSink& log, const char* what, const char* why) noexcept {
    Message message;
    message << "CUDA: " << what << ": " << (why == nullptr ? "" : why);
    message.to(log);
    return Error::DeviceUnavailable;
  }

  int version_ = 0;
  std::uint32_t features_ = 0;
};

}  // namespace edgert::cuda
