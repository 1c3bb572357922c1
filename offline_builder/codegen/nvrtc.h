// SPDX-License-Identifier: Apache-2.0
// NVIDIA's run-time compiler as a library opened by name: CUDA C++ text in, machine code for one SM out. No GPU and no
// toolkit is needed; which NVRTC is used decides which drivers can load the result (a CUDA 12 one for JetPack 6).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "codegen/kernel_files.h"

namespace edgert::codegen {

/// One translation unit. `name` appears in messages only. Headers are found by the exact name of the include directive,
/// nothing is read from disk.
struct CompileJob {
  std::string name;
  std::string source;
  std::vector<KernelFile> headers;
  std::vector<std::string> options;
  std::uint32_t arch = 0;  ///< 87 for sm_87
  bool own_features = false;  ///< compiled for sm_87a, with instructions that no later SM has
};

/// What the assembler reported of one kernel.
struct KernelResources {
  std::string entry;
  std::uint32_t registers = 0;
  std::uint32_t stack_bytes = 0;
  std::uint32_t spill_bytes = 0;   ///< stores and loads together
  std::uint32_t shared_bytes = 0;  ///< static
};

struct CompiledKernel {
  std::vector<std::byte> cubin;
  std::string log;
  std::vector<KernelResources> kernels;
};

/// No NVRTC, or a source that it rejects: what() names the job and carries the compiler's message.
class CompileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The kernels' resources as in `log`, NVRTC's output under --ptxas-options=-v.
std::vector<KernelResources> parse_resources(const std::string& log);

/// An opened NVRTC. Copies share the library; all members may be called from several threads.
class Nvrtc {
 public:
  /// Opens `path`; with an empty one what EDGERT_NVRTC in the environment names, or else the first that loads of
  /// libnvrtc.so.13, .12 and .11.2 on the loader's path and in /usr/local/cuda. CompileError lists what was tried.
  static Nvrtc open(const std::string& path = "");

  /// "13.0": part of the identity of what it compiles.
  const std::string& version() const;
  /// The SM numbers that it compiles for.
  const std::vector<std::uint32_t>& architectures() const;

  CompiledKernel compile(const CompileJob& job) const;

 private:
  struct Library;
  std::shared_ptr<const Library> library_;
};

}  // namespace edgert::codegen
