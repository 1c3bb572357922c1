// SPDX-License-Identifier: Apache-2.0
// --target, --precision and what else a build for a GPU is told on the command line.
#pragma once

#include <optional>
#include <string>

#include "plan/build.h"

namespace CLI {
class App;
}

namespace edgert::cli {

struct CudaArguments {
  std::string target = "cpu";
  std::string instructions;
  std::string precision;
  bool fp16 = false, fp32 = false, bf16 = false, tf32 = false;
  std::string layer_precision;
  bool allow_cpu_steps = false;
  std::string tactics = "native";
  std::string nvrtc;
  std::string cache;
  int multiprocessors = 0;
  int threads = 0;
};

/// Where compiled kernels are kept by default: the user's cache folder, or nowhere when there is none.
std::string default_kernel_cache();

void add_cuda_options(CLI::App& command, CudaArguments& arguments);
/// Nothing for --target cpu. `device` is the one of this machine, where the command has found one: what --target local
/// means, and how many multiprocessors another target has if it is of its kind. Throws UsageError for what is unknown or
/// does not go together, BuildError for a device that the kernels cannot run on.
std::optional<plan::CudaOptions> cuda_options(const CudaArguments& arguments, const tune::Device* device = nullptr);

}  // namespace edgert::cli
