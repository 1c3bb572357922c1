// SPDX-License-Identifier: Apache-2.0
// The tuner's worker on the fake driver: the real program in a process of its own, whose kernels are emulated sources that
// this process compiled into a folder.
#pragma once

#include <cstdlib>
#include <filesystem>

#include "plan_emulation.h"
#include "tune/worker_process.h"

namespace edgert::fake_cuda {

/// A folder for kernels that workers started from here on see; one a process.
inline const std::filesystem::path& shared_kernels() {
  struct Folder {
    Folder() : path(std::filesystem::path(EDGERT_EMULATION_FOLDER) / ("shared-" + std::to_string(::getpid()))) {
      std::filesystem::create_directories(path);
      ::setenv("EDGERT_FAKE_CUDA_KERNELS", path.c_str(), 1);
      PlanEmulation::get().share(path);
    }
    ~Folder() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    std::filesystem::path path;
  };
  static const Folder folder;
  return folder.path;
}

/// `program` is edgert-worker.
inline tune::WorkerOptions emulated_worker(const std::string& program) {
  (void)shared_kernels();
  tune::WorkerOptions options;
  options.command = {program, "--driver", FakeDriver::get().path()};
  options.job_seconds = 60;
  return options;
}

}  // namespace edgert::fake_cuda
