// SPDX-License-Identifier: Apache-2.0
// Many kernels compiled at once, and none twice: results are kept on disk under a hash of everything that they depend
// on. A damaged or half-written entry is recompiled, never used.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "codegen/nvrtc.h"

namespace edgert::codegen {

struct CompilerOptions {
  std::string nvrtc;             ///< the library's path; empty: searched for
  std::string cache_directory;   ///< created when missing; empty: no cache
  /// Set to use only the cache, as filled by an NVRTC of this version ("13.0"), and open none.
  std::string cached_version;
  std::uint32_t threads = 1;
  /// Machine code for this SM from jobs for earlier ones, which then use no instruction that those lack; 0: for each job's
  /// own. To run on one device what kernels for another do.
  std::uint32_t code_arch = 0;
  /// Compiles in NVRTC's place, which then is not opened; called from several threads. For tests that run kernels elsewhere.
  std::function<CompiledKernel(const CompileJob&)> substitute;
};

/// Where a job's result is kept: SHA-256, in hexadecimal, of compiler version, source, the headers
/// that it names, options and SM.
std::string compile_key(const CompileJob& job, const std::string& nvrtc_version);

class Compiler {
 public:
  explicit Compiler(CompilerOptions options);

  /// All results in the order of the jobs, whatever the number of threads; equal jobs are compiled once, those without source
  /// give a kernel without code. Throws
  /// CompileError with the messages of all jobs that failed.
  std::vector<CompiledKernel> compile(const std::vector<CompileJob>& jobs);

  /// The SM that code from jobs for `arch` is for.
  std::uint32_t code_arch(std::uint32_t arch) const { return options_.code_arch != 0 ? options_.code_arch : arch; }
  /// Whether it takes jobs for `arch` with CompileJob::own_features: not before CUDA 12, nor where code for another SM is made.
  bool has_own_features(std::uint32_t arch) const;
  const std::string& nvrtc_version() const { return version_; }
  /// Jobs of all compile() calls that the cache had.
  std::uint32_t cache_hits() const { return hits_; }

 private:
  std::vector<CompiledKernel> compile_as_given(const std::vector<CompileJob>& jobs);
  CompiledKernel compile_one(const CompileJob& job, const std::string& key, bool& hit) const;
  bool read_cache(const std::string& key, CompiledKernel& result) const;
  void write_cache(const std::string& key, const CompiledKernel& result) const;

  CompilerOptions options_;
  std::unique_ptr<Nvrtc> nvrtc_;
  std::string version_;
  std::uint32_t hits_ = 0;
};

}  // namespace edgert::codegen
