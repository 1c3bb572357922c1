// SPDX-License-Identifier: Apache-2.0
// Builds libcuda.cpp into a library in a temporary folder, once a process, and reaches its controls.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace edgert::fake_cuda {

class FakeDriver {
 public:
  static const FakeDriver& get() {
    static const FakeDriver driver;
    return driver;
  }
  const char* path() const { return path_.c_str(); }

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
    const std::filesystem::path here = std::filesystem::path(__FILE__).parent_path();
    const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("edgert-fake-cuda-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder);
    path_ = (folder / "libcuda.so.1").string();
    const char* compiler = std::getenv("CXX");
    const std::string command = std::string(compiler != nullptr && *compiler != '\0' ? compiler : "c++") +
                                " -std=c++17 -O1 -fPIC -shared -I" + (here / "../../include").string() + " " + (here / "libcuda.cpp").string() +
                                " -o " + path_;
    if (std::system(command.c_str()) != 0) throw std::runtime_error("the fake driver does not compile");
    library_ = ::dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw std::runtime_error(::dlerror());
    find(reset, "fake_reset"), find(set, "fake_set"), find(fail_at, "fake_fail_at"), find(busy, "fake_busy");
    find(calls, "fake_calls"), find(launches, "fake_launches"), find(programmatic, "fake_programmatic");
    find(alive, "fake_alive"), find(misuse, "fake_misuse"), find(execute, "fake_execute");
  }
  ~FakeDriver() {
    std::error_code ignored;
    std::filesystem::remove_all(std::filesystem::path(path_).parent_path(), ignored);
  }
  template <class T>
  void find(T& function, const char* name) {
    function = reinterpret_cast<T>(::dlsym(library_, name));
    if (function == nullptr) throw std::runtime_error(name);
  }
  std::string path_;
  void* library_ = nullptr;
};

}  // namespace edgert::fake_cuda
