// SPDX-License-Identifier: Apache-2.0
// From an optimised graph to one profile of a plan for a GPU: launch records with kernels compiled for it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "codegen/compiler.h"
#include "families/choose.h"
#include "plan/lower.h"
#include "plan/writer.h"

namespace edgert::plan {

/// The kernels of all profiles, each machine code once.
class ModuleStore {
 public:
  std::uint16_t add(std::uint32_t arch, const std::string& entry, const std::vector<std::byte>& cubin);
  std::vector<ModuleSpec> take() { return std::move(modules_); }

 private:
  std::vector<ModuleSpec> modules_;
  std::multimap<std::uint32_t, std::size_t> by_crc_;
};

struct CudaReport {
  std::uint32_t kernels = 0;  ///< compiled, or found in the cache
  std::uint32_t cached = 0;
};

/// Lowers a graph on which the pass pipeline has run for a GPU; `narrow` is what floats between steps are stored as
/// (Undefined: f32). Throws BuildError that names all nodes without a kernel, CompileError from the compiler, and
/// std::logic_error when the memory checker finds a fault.
ProfileSpec lower_cuda(ir::Graph& graph, const families::Target& target, DType narrow, codegen::Compiler& compiler, WeightStore& weights,
                       ModuleStore& modules, CudaReport& report);

}  // namespace edgert::plan
