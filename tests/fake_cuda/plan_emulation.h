// SPDX-License-Identifier: Apache-2.0
// Plans for GPUs executed without one: in place of machine code a build gets images that name their source, and when the
// runtime launches one of them through the fake driver, that very source runs in the host emulation.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "codegen/compiler.h"
#include "emulate.h"
#include "fake_driver.h"
#include "small_cubin.h"

namespace edgert::fake_cuda {

/// One a process.
class PlanEmulation {
 public:
  static PlanEmulation& get() {
    static PlanEmulation emulation;
    return emulation;
  }

  /// For CompilerOptions::substitute.
  codegen::CompiledKernel compile(const codegen::CompileJob& job) {
    const std::string key = codegen::compile_key(job, "substitute");
    // The entry is the macro that every problem.h defines.
    std::string entry;
    for (const codegen::KernelFile& header : job.headers) {
      const std::string_view word = "#define EDGERT_ENTRY ";
      const std::size_t at = header.text.find(word);
      if (at != std::string_view::npos) entry = header.text.substr(at + word.size(), header.text.find('\n', at) - at - word.size());
    }
    codegen::CompiledKernel compiled;
    compiled.cubin = small_cubin(0x41, job.arch << 8, {entry, key});
    if (!folder_.empty() && !std::filesystem::exists(folder_ / (key + ".so"))) {
      codegen::KernelSpec spec;
      spec.job = job;
      std::filesystem::copy_file(EmulatedKernel(spec).library(), folder_ / (key + ".so"));
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_[key] = {job, compiled.cubin};
    return compiled;
  }

  /// What is compiled from now on is also left in this folder, for other processes (EDGERT_FAKE_CUDA_KERNELS).
  void share(const std::filesystem::path& folder) { folder_ = folder; }

 private:
  struct Job {
    codegen::CompileJob job;
    std::vector<std::byte> cubin;
  };

  PlanEmulation() {
    FakeDriver::get().execute([](const void* image, const char*) { return get().kernel(image).parameters(); },
                              [](const void* image, const char*, const unsigned* grid, const unsigned* block, unsigned cluster, unsigned shared,
                                 void** parameters) { get().kernel(image).run(grid, block, cluster, shared, parameters, ++get().seed_); });
  }

  const EmulatedKernel& kernel(const void* image) {
    for (const auto& [key, job] : jobs_) {
      if (std::memcmp(image, job.cubin.data(), job.cubin.size()) != 0) continue;
      std::unique_ptr<EmulatedKernel>& kernel = kernels_[key];
      codegen::KernelSpec spec;
      spec.job = job.job;
      if (kernel == nullptr) kernel = std::make_unique<EmulatedKernel>(spec);
      return *kernel;
    }
    throw std::runtime_error("an image that this process has not made");
  }

  std::filesystem::path folder_;
  std::mutex mutex_;
  std::map<std::string, Job> jobs_;
  std::map<std::string, std::unique_ptr<EmulatedKernel>> kernels_;
  unsigned seed_ = 0;
};

}  // namespace edgert::fake_cuda
