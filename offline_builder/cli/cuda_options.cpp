// SPDX-License-Identifier: Apache-2.0
#include "cli/cuda_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <thread>

#include "cli/command.h"
#include "codegen/target.h"

namespace edgert::cli {
namespace {

DType precision_of(const CudaArguments& a) {
  if (a.fp16 && a.fp32) throw UsageError("--fp16 and --fp32 exclude each other");
  const std::string alias = a.fp16 ? "fp16" : a.fp32 ? "fp32" : "";
  if (!alias.empty() && !a.precision.empty() && a.precision != alias) throw UsageError("--" + alias + " and --precision " + a.precision + " exclude each other");
  const std::string name = !a.precision.empty() ? a.precision : alias.empty() ? "fp16" : alias;
  if (name == "fp16") return DType::F16;
  if (name == "fp32") return DType::F32;
  throw UsageError("--precision " + name + ": expected fp16 or fp32");
}

}  // namespace

std::string default_kernel_cache() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') return std::string(cache) + "/edgert/kernels";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return std::string(home) + "/.cache/edgert/kernels";
  return {};
}

void add_cuda_options(CLI::App& command, CudaArguments& a) {
  command.add_option("--target", a.target, "What the plan runs on: cpu, local (the GPU of this machine, for which it is tuned), or a GPU by its SM: " + codegen::target_names())->capture_default_str();
  command.add_option("--precision", a.precision,
                     "For a GPU, what values are stored as and multiplied in: fp16 (the default; sums are kept in 32 bits, inputs and outputs stay as "
                     "the model has them) or fp32");
  command.add_flag("--fp16", a.fp16, "The same as --precision fp16");
  command.add_flag("--fp32", a.fp32, "The same as --precision fp32");
  command.add_option("--multiprocessors", a.multiprocessors, "How many the GPU has, where its SM does not say: sm_87 16, sm_90 132, sm_110 20")
      ->check(CLI::Range(1, 1024));
  command.add_option("--instructions", a.instructions,
                     "Use only what this SM has, an earlier one than --target's: to measure on one GPU what kernels for another do");
  command.add_option("--nvrtc", a.nvrtc, "NVRTC to compile kernels with; its CUDA version decides which drivers load the plan. Default: the newest found");
  command.add_option("--kernel-cache", a.cache, "Folder of compiled kernels, or 'none'; default: edgert/kernels in the user's cache folder");
  command.add_option("--compile-threads", a.threads, "Kernels compiled at once; default: as many as there are processors")->check(CLI::Range(1, 256));
}

std::optional<plan::CudaOptions> cuda_options(const CudaArguments& a, const tune::Device* device) {
  if (a.target == "cpu") {
    if (!a.precision.empty() || a.fp16 || a.fp32 || !a.nvrtc.empty() || !a.instructions.empty() || a.multiprocessors != 0) {
      throw UsageError("--precision, --fp16, --fp32, --instructions, --nvrtc and --multiprocessors are for GPUs: give --target sm_87 or the like");
    }
    return std::nullopt;
  }
  const bool local = a.target == "local";
  if (local && device == nullptr) throw UsageError("--target local: only edgert build looks for the device of this machine");
  const std::optional<codegen::ConvTarget> target = codegen::target_named(local ? "sm_" + std::to_string(device->arch) : a.target);
  if (!target && local) throw ir::BuildError("the device here, " + device->name + ", is sm_" + std::to_string(device->arch) + "; there are kernels for " + codegen::target_names());
  if (!target && a.target.rfind("sm_", 0) == 0 && a.target.size() == 5 && a.target < "sm_80") {
    throw UsageError("--target " + a.target + ": GPUs before sm_80 are not supported (Xavier's sm_72 among them); known are " + codegen::target_names());
  }
  if (!target) throw UsageError("--target " + a.target + ": expected cpu, local, " + codegen::target_names());
  plan::CudaOptions options;
  options.device = *target;
  if (!a.instructions.empty()) {
    const std::optional<codegen::ConvTarget> earlier = codegen::target_named(a.instructions);
    if (!earlier || earlier->arch > target->arch) throw UsageError("--instructions " + a.instructions + ": expected an SM not later than --target " + a.target);
    options.device = *earlier;
    options.device.multiprocessors = target->multiprocessors;
    if (earlier->arch != target->arch) options.compiler.code_arch = target->arch;
  }
  if (device != nullptr && device->arch == target->arch) options.device.multiprocessors = static_cast<std::int32_t>(device->multiprocessors);
  if (a.multiprocessors != 0) options.device.multiprocessors = a.multiprocessors;
  options.precision = precision_of(a);
  options.compiler.nvrtc = a.nvrtc;
  options.compiler.cache_directory = a.cache.empty() ? default_kernel_cache() : a.cache == "none" ? "" : a.cache;
  options.compiler.threads = a.threads != 0 ? static_cast<std::uint32_t>(a.threads) : std::max(1u, std::thread::hardware_concurrency());
  return options;
}

}  // namespace edgert::cli
