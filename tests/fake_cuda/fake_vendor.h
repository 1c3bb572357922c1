// SPDX-License-Identifier: Apache-2.0
// Builds a fake of a vendor's library into a temporary folder and reaches its controls.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace edgert::fake_cuda {

class FakeVendor {
 public:
  /// `source`: a file of this folder.
  explicit FakeVendor(const std::string& source) {
    const std::filesystem::path here = std::filesystem::path(__FILE__).parent_path();
    folder_ = std::filesystem::temp_directory_path() / ("edgert-" + source + "-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    path_ = (folder_ / (source + ".so")).string();
    const char* compiler = std::getenv("CXX");
    const std::string command = std::string(compiler != nullptr && *compiler != '\0' ? compiler : "c++") + " -std=c++17 -O1 -fPIC -shared -I" +
                                (here / "../../include").string() + " " + (here / source).string() + " -o " + path_;
    if (std::system(command.c_str()) != 0) throw std::runtime_error(source + " does not compile");
    library_ = ::dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw std::runtime_error(::dlerror());
    find(alive, "fake_library_alive"), find(calls, "fake_library_calls"), find(reset, "fake_library_reset"), find(misuse, "fake_library_misuse");
  }
  FakeVendor(const FakeVendor&) = delete;
  FakeVendor& operator=(const FakeVendor&) = delete;
  ~FakeVendor() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  const char* path() const { return path_.c_str(); }

  int (*alive)() = nullptr;
  int (*calls)() = nullptr;
  /// Counts calls from now on, and fails number `fail_at`; 0 fails none.
  void (*reset)(int fail_at) = nullptr;
  const char* (*misuse)() = nullptr;

 private:
  template <class T>
  void find(T& function, const char* name) {
    function = reinterpret_cast<T>(::dlsym(library_, name));
    if (function == nullptr) throw std::runtime_error(name);
  }
  std::filesystem::path folder_;
  std::string path_;
  void* library_ = nullptr;
};

}  // namespace edgert::fake_cuda
