// SPDX-License-Identifier: Apache-2.0
// edgert doctor: what is installed, what was found, what is missing and what to do about it.
#include <CLI/CLI.hpp>
#include <dlfcn.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/command.h"
#include "cli/reference.h"
#include "edgert/cpu/isa/detect.h"
#include "edgert/plan_format.h"
#include "onnx/import.h"
#include "ops/operator.h"

namespace edgert::cli {
namespace {

struct Finding {
  std::string what;
  bool found;
  std::string detail;  ///< version or place; what to do when it is missing
  bool required;
};

/// A library that can be opened, closed again at once.
bool can_open(const char* name) {
  void* handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) return false;
  dlclose(handle);
  return true;
}

std::vector<Finding> examine(const std::string& python) {
  std::vector<Finding> out;
  out.push_back({"edgert", true, std::string(EDGERT_VERSION) + ", plan format " + std::to_string(kPlanMajor) + "." + std::to_string(kPlanMinor), true});
  const cpu::Isa isa = cpu::detect_isa();
  const char* name = isa == cpu::Isa::Avx512 ? "AVX-512" : isa == cpu::Isa::Avx2 ? "AVX2 and FMA" : "the compiler's baseline";
  out.push_back({"CPU kernels", true, std::string(name) + ", " + std::to_string(std::thread::hardware_concurrency()) + " hardware threads", true});
  out.push_back({"ONNX import", true, "opsets " + std::to_string(onnx_import::kOldestOpset) + " to " + std::to_string(onnx_import::kNewestOpset) + ", " +
                                          std::to_string(ops::Registry::instance().onnx().size()) + " operator importers", true});
  const std::string version = reference_version(python);
  out.push_back({"ONNX Runtime (for compare)", !version.empty(),
                 version.empty() ? python + " lacks it: run scripts/setup.sh, or give --python" : version + ", through " + python, false});
  const bool driver = can_open("libcuda.so.1");
  out.push_back({"CUDA driver (for plans with kernels)", driver,
                 driver ? "libcuda.so.1" : "no libcuda.so.1: plans for the CPU run all the same; on a Jetson it comes with the BSP", false});
  const bool nvrtc = can_open("libnvrtc.so.13") || can_open("libnvrtc.so.12") || can_open("libnvrtc.so.11.2");
  out.push_back({"NVRTC (to build plans with kernels)", nvrtc,
                 nvrtc ? "found" : "not on the library path: pip install nvidia-cuda-nvrtc, or the CUDA toolkit", false});
  return out;
}

int doctor(const std::string& wanted_python, bool as_json) {
  const std::vector<Finding> findings = examine(find_python(wanted_python));
  nlohmann::json json = nlohmann::json::array();
  bool healthy = true;
  for (const Finding& finding : findings) {
    healthy = healthy && (finding.found || !finding.required);
    json.push_back({{"what", finding.what}, {"found", finding.found}, {"detail", finding.detail}, {"required", finding.required}});
    if (!as_json) std::printf("%-8s %s: %s\n", finding.found ? "ok" : "missing", finding.what.c_str(), finding.detail.c_str());
  }
  if (as_json) std::printf("%s\n", json.dump(2).c_str());
  return healthy ? kOk : kBadInput;
}

}  // namespace

void add_doctor(CLI::App& program, std::function<int()>& run) {
  auto python = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  CLI::App* command = program.add_subcommand("doctor", "Show what is installed and found, what is missing, and what to do");
  command->footer("Examples:\n  edgert doctor\n  edgert doctor --json");
  command->add_option("--python", *python, "Python with onnxruntime; default: build/venv, then python3");
  command->add_flag("--json", *json, "Print as JSON");
  command->callback([python, json, &run] { run = [python, json] { return doctor(*python, *json); }; });
}

}  // namespace edgert::cli
