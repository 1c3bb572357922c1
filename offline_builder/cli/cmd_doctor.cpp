// SPDX-License-Identifier: Apache-2.0
// edgert doctor: what is installed, what was found, what is missing and what to do about it.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/command.h"
#include "cli/reference.h"
#include "codegen/nvrtc.h"
#include "edgert/cpu/isa/detect.h"
#include "edgert/cuda/driver.h"
#include "edgert/plan_format.h"
#include "onnx/import.h"
#include "ops/operator.h"
#include "tune/vendor_libraries.h"

namespace edgert::cli {
namespace {

struct Finding {
  std::string what;
  bool found;
  std::string detail;  ///< version or place; what to do when it is missing
  bool required;
};

void keep_message(void* user, LogLevel, const char* text) { *static_cast<std::string*>(user) = text; }

Finding examine_driver() {
  Finding finding{"CUDA driver (to run plans with kernels)", false, "", false};
  cuda::Driver driver;
  std::string message;
  finding.found = driver.open({&keep_message, &message}).ok();
  if (!finding.found) {
    finding.detail = message + "; plans for the CPU run all the same; on a Jetson the driver comes with the BSP";
    return finding;
  }
  finding.detail = "for CUDA " + std::to_string(driver.version() / 1000) + "." + std::to_string(driver.version() % 1000 / 10);
  int devices = 0;
  if (driver.device_count(&devices) != cuda::DriverResult::Success) devices = 0;
  for (int i = 0; i < devices; ++i) {
    cuda::Device device = 0;
    char name[128] = {};
    int major = 0, minor = 0, count = 0;
    const bool known = driver.device_get(&device, i) == cuda::DriverResult::Success &&
                       driver.device_name(name, sizeof(name), device) == cuda::DriverResult::Success &&
                       driver.device_attribute(&major, cuda::DeviceAttribute::ComputeCapabilityMajor, device) == cuda::DriverResult::Success &&
                       driver.device_attribute(&minor, cuda::DeviceAttribute::ComputeCapabilityMinor, device) == cuda::DriverResult::Success &&
                       driver.device_attribute(&count, cuda::DeviceAttribute::MultiprocessorCount, device) == cuda::DriverResult::Success;
    if (known) {
      finding.detail += std::string("; ") + name + ": --target sm_" + std::to_string(major * 10 + minor) + " --multiprocessors " + std::to_string(count);
    }
  }
  return finding;
}

Finding examine_nvrtc() {
  Finding finding{"NVRTC (to build plans with kernels)", false, "", false};
  try {
    const codegen::Nvrtc nvrtc = codegen::Nvrtc::open();
    finding.found = true;
    finding.detail = nvrtc.version() + ", for";
    for (const std::uint32_t arch : nvrtc.architectures()) finding.detail += " sm_" + std::to_string(arch);
  } catch (const codegen::CompileError& error) {
    finding.detail = error.what();
  }
  return finding;
}

Finding examine_libraries() {
  std::string detail;
  const bool found = tune::VendorLibraries().describe(detail);
  return {"cuBLASLt and cuDNN (for --tactics cudnn and all)", found, detail, false};
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
  out.push_back(examine_driver());
  out.push_back(examine_nvrtc());
  out.push_back(examine_libraries());
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
