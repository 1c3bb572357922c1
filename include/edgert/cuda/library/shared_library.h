// SPDX-License-Identifier: Apache-2.0
// A vendor's library, opened at run time.
#pragma once

#include <dlfcn.h>

#include "edgert/log.h"
#include "edgert/status.h"

namespace edgert::cuda::library {

/// Like the driver, the library stays loaded for the life of the process.
class SharedLibrary {
 public:
  /// DeviceUnavailable, and a log line, where there is none.
  Status open(const char* name, const LogSink& log) noexcept {
    handle_ = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) return {};
    const char* why = ::dlerror();
    Message message;
    message << "CUDA: cannot open a library that the plan needs: " << (why != nullptr ? why : name);
    message.to(log);
    return Error::DeviceUnavailable;
  }
  bool is_open() const noexcept { return handle_ != nullptr; }

  template <class Function>
  Status find(Function& function, const char* symbol, const LogSink& log) const noexcept {
    function = reinterpret_cast<Function>(::dlsym(handle_, symbol));
    if (function != nullptr) return {};
    Message message;
    message << "CUDA: a library that the plan needs is too old: it has no " << symbol;
    message.to(log);
    return Error::DeviceUnavailable;
  }

 private:
  void* handle_ = nullptr;
};

}  // namespace edgert::cuda::library
