// SPDX-License-Identifier: Apache-2.0
// Runs a specialised kernel on the CPU: its very source, compiled by the host's compiler against ptx_emulation.h into a
// library in EDGERT_EMULATION_FOLDER, with the sanitizers that the test itself was built with. EDGERT_EMULATION_SOURCES is
// this folder, EDGERT_EMULATION_MACHINE the archive of machine.cpp.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "codegen/kernel_spec.h"

namespace edgert::fake_cuda {

/// Memory that kernels may touch only after waiting for the previous one.
struct Region {
  void* data;
  std::size_t bytes;
};

class EmulatedKernel {
 public:
  /// Throws std::runtime_error with the compiler's output when the source does not compile.
  explicit EmulatedKernel(const codegen::KernelSpec& spec) : spec_(spec) {
    static std::atomic<unsigned> counter{0};
    folder_ = std::filesystem::path(EDGERT_EMULATION_FOLDER) / (std::to_string(::getpid()) + "-" + std::to_string(counter++));
    for (const codegen::KernelFile& header : spec.job.headers) {
      write(std::string(header.name), std::string(header.text));
    }
    write("kernels/common/ptx.h", "#include \"ptx_emulation.h\"\n");
    write("kernels/common/warpgroup.h", "#include \"warpgroup_emulation.h\"\n");
    write("kernel.cpp", spec.job.source + kEntry);
    const char* compiler = std::getenv("CXX");
    std::string command = std::string(compiler != nullptr && *compiler != '\0' ? compiler : "c++") +
                          " -std=c++17 -O1 -fPIC -shared -fvisibility=hidden -w -D__CUDA_ARCH__=" + std::to_string(spec.job.arch * 10) +
                          " -I" + folder_.string() + " -I" EDGERT_EMULATION_SOURCES " -include ptx_emulation.h";
#if defined(__SANITIZE_ADDRESS__)
    command += " -g -fsanitize=address,undefined -fno-sanitize-recover=all";
#endif
    command += " " + (folder_ / "kernel.cpp").string() + " " EDGERT_EMULATION_MACHINE " -o " + (folder_ / "kernel.so").string() + " > " +
               (folder_ / "log").string() + " 2>&1";
    if (std::system(command.c_str()) != 0) throw std::runtime_error(spec.job.name + ":\n" + read(folder_ / "log"));
    library_ = ::dlopen((folder_ / "kernel.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) throw std::runtime_error(::dlerror());
    run_ = reinterpret_cast<Run>(::dlsym(library_, "edgert_emulate"));
    parameters_ = *reinterpret_cast<const int*>(::dlsym(library_, "edgert_parameters"));
  }
  EmulatedKernel(const EmulatedKernel&) = delete;
  EmulatedKernel& operator=(const EmulatedKernel&) = delete;
  ~EmulatedKernel() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  /// One launch. `parameters` point to the arguments, as for cuLaunchKernel; `seed` decides in which order threads run.
  void run(void** parameters, const std::vector<Region>& regions, unsigned seed) const {
    run_(spec_.grid, spec_.block, spec_.cluster, spec_.shared_bytes, parameters, regions.data(), regions.size(), seed);
  }
  /// The same with extents of the caller's.
  void run(const unsigned* grid, const unsigned* block, unsigned cluster, unsigned shared_bytes, void** parameters, unsigned seed) const {
    run_(grid, block, cluster, shared_bytes, parameters, nullptr, 0, seed);
  }
  int parameters() const { return parameters_; }
  /// The compiled library, which is gone with this object.
  std::filesystem::path library() const { return folder_ / "kernel.so"; }

 private:
  using Run = void (*)(const unsigned*, const unsigned*, unsigned, unsigned, void**, const Region*, std::size_t, unsigned);

  static constexpr const char* kEntry = R"(
#include <utility>
namespace emulation {
template <class... A, std::size_t... I>
void call_with(void (*kernel)(A...), void** parameters, std::index_sequence<I...>) {
  kernel(*static_cast<A*>(parameters[I])...);
}
template <class... A>
void call(void (*kernel)(A...), void** parameters) { call_with(kernel, parameters, std::index_sequence_for<A...>{}); }
template <class... A>
constexpr int count(void (*)(A...)) { return sizeof...(A); }
}  // namespace emulation
#pragma GCC visibility push(default)
extern "C" const int edgert_parameters = emulation::count(&edgert::device::EDGERT_ENTRY);
extern "C" void edgert_emulate(const unsigned* grid, const unsigned* block, unsigned cluster, unsigned shared_bytes,
                               void** parameters, const emulation::Region* regions, std::size_t count, unsigned seed) {
  const auto call = [](void** p) { emulation::call(&edgert::device::EDGERT_ENTRY, p); };
  emulation::launch(grid, block, cluster, shared_bytes, call, parameters, regions, count, seed);
}
#pragma GCC visibility pop
)";

  void write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = folder_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  static std::string read(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  codegen::KernelSpec spec_;
  std::filesystem::path folder_;
  void* library_ = nullptr;  // stays open: fibres' stacks and thread-local state may outlive the object
  Run run_ = nullptr;
  int parameters_ = 0;
};

}  // namespace edgert::fake_cuda
