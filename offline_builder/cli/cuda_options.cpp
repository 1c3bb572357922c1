// SPDX-License-Identifier: Apache-2.0
#include "cli/cuda_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "cli/command.h"
#include "codegen/target.h"
#include "io/file.h"

namespace edgert::cli {
namespace {

families::Precision named_precision(const std::string& name, const std::string& where) {
  const std::optional<families::Precision> precision = families::precision_named(name);
  if (!precision) throw UsageError(where + " '" + name + "': expected fp32, tf32, fp16 or bf16");
  return *precision;
}

/// The words of --precision, or of the flag that stands for one of them.
std::vector<families::Precision> allowed_precisions(const CudaArguments& a) {
  std::string list = a.precision;
  const std::pair<bool, const char*> flags[] = {{a.fp32, "fp32"}, {a.tf32, "tf32"}, {a.fp16, "fp16"}, {a.bf16, "bf16"}};
  for (const auto& [given, name] : flags) {
    if (!given) continue;
    if (!list.empty() && list != name) throw UsageError("--" + std::string(name) + " and --precision " + list + " exclude each other; --precision takes a list");
    list = name;
  }
  if (list.empty()) return {families::Precision::Fp16};
  std::vector<families::Precision> allowed;
  std::istringstream words(list);
  for (std::string word; std::getline(words, word, ',');) {
    const families::Precision precision = named_precision(word, "--precision");
    if (std::find(allowed.begin(), allowed.end(), precision) != allowed.end()) throw UsageError("--precision " + list + " names " + word + " twice");
    allowed.push_back(precision);
  }
  return allowed;
}

std::string trimmed(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \t\r"), end = text.find_last_not_of(" \t\r");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

/// Lines "PATTERN = PRECISION"; what follows a # is a comment.
std::vector<std::pair<std::string, families::Precision>> read_layers(const std::string& path) {
  const io::MappedFile file(path);
  std::istringstream lines(std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()));
  std::vector<std::pair<std::string, families::Precision>> layers;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    line = trimmed(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    const std::string where = path + ":" + std::to_string(number) + ":";
    const std::size_t equals = line.rfind('=');
    const std::string pattern = equals == std::string::npos ? "" : trimmed(line.substr(0, equals));
    if (pattern.empty()) throw UsageError(where + " expected 'PATTERN = PRECISION'");
    layers.emplace_back(pattern, named_precision(trimmed(line.substr(equals + 1)), where));
  }
  return layers;
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
                     "For a GPU, what values are stored as and multiplied in: fp16 (the default), bf16, tf32 (stored in 32 bits, 11 of which are "
                     "multiplied) or fp32. Sums are kept in 32 bits, inputs and outputs stay as the model has them. Of a list the first is used, and "
                     "the others for layers whose weights it cannot hold");
  command.add_flag("--fp32", a.fp32, "The same as --precision fp32");
  command.add_flag("--tf32", a.tf32, "The same as --precision tf32");
  command.add_flag("--fp16", a.fp16, "The same as --precision fp16");
  command.add_flag("--bf16", a.bf16, "The same as --precision bf16");
  command.add_option("--layer-precision", a.layer_precision,
                     "File of lines 'PATTERN = PRECISION': what ONNX nodes compute in whose names match, * standing for any characters; the last "
                     "match holds, a pattern without one is an error");
  command.add_flag("--allow-cpu-steps", a.allow_cpu_steps, "Nodes without a GPU kernel run on the CPU, and are named, instead of being an error");
  command.add_option("--tactics", a.tactics,
                     "What may compute a step: native, EdgeRT's own kernels; all, also cuBLASLt and cuDNN, among which tuning chooses; cudnn, those "
                     "wherever they can. Such plans need a runtime that includes edgert/cuda/library/*.h")
      ->capture_default_str()
      ->check(CLI::IsMember({"native", "cudnn", "all"}));
  command.add_option("--multiprocessors", a.multiprocessors, "How many the GPU has, where its SM does not say: sm_87 16, sm_90 132, sm_110 20. With fewer than the device here has, tuning is "
                 "confined to so many of them")
      ->check(CLI::Range(1, 1024));
  command.add_option("--instructions", a.instructions,
                     "Use only what this SM has, an earlier one than --target's: to measure on one GPU what kernels for another do");
  command.add_option("--nvrtc", a.nvrtc, "NVRTC to compile kernels with; its CUDA version decides which drivers load the plan. Default: the newest found");
  command.add_option("--kernel-cache", a.cache, "Folder of compiled kernels, or 'none'; default: edgert/kernels in the user's cache folder");
  command.add_option("--compile-threads", a.threads, "Kernels compiled at once; default: as many as there are processors")->check(CLI::Range(1, 256));
}

std::optional<plan::CudaOptions> cuda_options(const CudaArguments& a, const tune::Device* device) {
  if (a.target == "cpu") {
    if (!a.precision.empty() || a.fp16 || a.fp32 || a.tf32 || a.bf16 || !a.layer_precision.empty() || !a.nvrtc.empty() || !a.instructions.empty() ||
        a.multiprocessors != 0 || a.allow_cpu_steps || a.tactics != "native") {
      throw UsageError("--precision, --layer-precision, --fp32, --tf32, --fp16, --bf16, --instructions, --nvrtc, --multiprocessors, --allow-cpu-steps and --tactics are for GPUs: give --target sm_87 or the like");
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
  options.precision.allowed = allowed_precisions(a);
  if (!a.layer_precision.empty()) options.precision.layers = read_layers(a.layer_precision);
  options.alternatives.tactics = a.tactics == "all" ? families::Tactics::All : a.tactics == "cudnn" ? families::Tactics::Library : families::Tactics::Native;
  options.alternatives.cpu_steps = a.allow_cpu_steps;
  options.compiler.nvrtc = a.nvrtc;
  options.compiler.cache_directory = a.cache.empty() ? default_kernel_cache() : a.cache == "none" ? "" : a.cache;
  options.compiler.threads = a.threads != 0 ? static_cast<std::uint32_t>(a.threads) : std::max(1u, std::thread::hardware_concurrency());
  return options;
}

}  // namespace edgert::cli
