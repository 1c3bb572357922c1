// SPDX-License-Identifier: Apache-2.0
// Kernels compiled by NVRTC for every target. Without an NVRTC tests say so and pass, unless EDGERT_REQUIRE_NVRTC=1 is
// set; an NVRTC that does not know an SM skips that SM. EDGERT_TEST_SM=87 leaves out the others.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "codegen/compiler.h"
#include "codegen/kernel_spec.h"
#include "edgert/cuda/cubin.h"

namespace edgert::test {

inline std::optional<codegen::Nvrtc> find_nvrtc() {
  try {
    return codegen::Nvrtc::open();
  } catch (const codegen::CompileError& error) {
    const char* required = std::getenv("EDGERT_REQUIRE_NVRTC");
    if (required != nullptr && std::string(required) == "1") FAIL(error.what());
    MESSAGE("SKIPPED: " << error.what());
    return std::nullopt;
  }
}

/// Compiles specs_of(arch) for sm_87, sm_90 and sm_110 and checks that no register spills and that each fits.
template <class Specs>
void check_that_all_compile(Specs specs_of) {
  const auto nvrtc = find_nvrtc();
  if (!nvrtc) return;
  const char* only = std::getenv("EDGERT_TEST_SM");
  for (const std::uint32_t arch : {87u, 90u, 110u}) {
    if (only != nullptr && std::to_string(arch) != only) continue;
    const auto& known = nvrtc->architectures();
    if (std::find(known.begin(), known.end(), arch) == known.end()) {
      MESSAGE("SKIPPED: NVRTC " << nvrtc->version() << " does not know sm_" << arch);
      continue;
    }
    const std::vector<codegen::KernelSpec> specs = specs_of(arch);
    std::vector<codegen::CompileJob> jobs;
    for (const codegen::KernelSpec& spec : specs) jobs.push_back(spec.job);
    codegen::CompilerOptions options;
    options.threads = std::max(1u, std::thread::hardware_concurrency());
    const auto compiled = codegen::Compiler(options).compile(jobs);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      CAPTURE(specs[i].job.name);
      CAPTURE(arch);
      REQUIRE(compiled[i].kernels.size() == 1);
      const codegen::KernelResources& kernel = compiled[i].kernels[0];
      MESSAGE("sm_" << arch << " " << specs[i].job.name << ": " << kernel.registers << " registers, "
                    << specs[i].shared_bytes + kernel.shared_bytes << " bytes shared");
      CHECK(kernel.spill_bytes == 0);
      CHECK(kernel.stack_bytes == 0);
      CHECK(kernel.registers * specs[i].block[0] <= 65536);
      const auto cubin = cuda::Cubin::check({compiled[i].cubin.data(), compiled[i].cubin.size()}, arch);
      REQUIRE(cubin.ok());
      CHECK(cubin->has_kernel(specs[i].entry.c_str()));
    }
  }
}

}  // namespace edgert::test
