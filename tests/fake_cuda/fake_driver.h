// SPDX-License-Identifier: Apache-2.0
// Loads libcuda.cpp, which lies at EDGERT_FAKE_DRIVER, and reaches its controls.
#pragma once

#include <dlfcn.h>

#include <stdexcept>

namespace edgert::fake_cuda {

class FakeDriver {
 public:
  static const FakeDriver& get() {
    static const FakeDriver driver;
    return driver;
  }
  static const char* path() { return EDGERT_FAKE_DRIVER; }

  void (*reset)() = nullptr;
  void (*set)(int arch, int version) = nullptr;
  /// Counts calls from now on, and fails number `call`; 0 fails none.
  void (*fail_at)(int call) = nullptr;
  void (*busy)(int queries) = nullptr;
  int (*calls)() = nullptr;
  int (*launches)() = nullptr;
  int (*programmatic)() = nullptr;
  int (*alive)() = nullptr;
  const char* (*misuse)() = nullptr;
  /// Who runs the kernels of a module that the driver does not know by name: `parameters` answers how many an entry has,
  /// or -1. Without one they do nothing.
  void (*execute)(int (*parameters)(const void* image, const char* entry),
                  void (*run)(const void* image, const char* entry, const unsigned* grid, const unsigned* block, unsigned cluster, unsigned shared,
                              void** parameters)) = nullptr;

 private:
  FakeDriver() {
    library_ = ::dlopen(path(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw std::runtime_error(::dlerror());
    find(reset, "fake_reset"), find(set, "fake_set"), find(fail_at, "fake_fail_at"), find(busy, "fake_busy");
    find(calls, "fake_calls"), find(launches, "fake_launches"), find(programmatic, "fake_programmatic");
    find(alive, "fake_alive"), find(misuse, "fake_misuse"), find(execute, "fake_execute");
  }
  template <class T>
  void find(T& function, const char* name) {
    function = reinterpret_cast<T>(::dlsym(library_, name));
    if (function == nullptr) throw std::runtime_error(name);
  }
  void* library_ = nullptr;
};

}  // namespace edgert::fake_cuda
