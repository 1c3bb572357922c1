// SPDX-License-Identifier: Apache-2.0
// From an optimised graph to one profile of a plan for a GPU: launch records with kernels compiled for it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codegen/compiler.h"
#include "families/choose.h"
#include "passes/pipeline.h"
#include "plan/lower.h"
#include "plan/writer.h"
#include "tune/records.h"
#include "tune/worker_process.h"

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

/// A node's kernels, compiled: one a launch of the candidate, which must outlive this.
struct Selected {
  ir::NodeId node = ir::kNone;
  const families::Candidate* candidate = nullptr;
  std::shared_ptr<const std::vector<codegen::CompiledKernel>> kernels;
};

/// How tactics are chosen beyond the model's estimate. Whoever gives neither records nor a worker gets the estimate's.
struct TuningOptions {
  std::size_t candidates = 12;         ///< a node, at most
  std::vector<tune::Record> records;   ///< what is known
  std::shared_ptr<tune::Worker> worker;  ///< measures what is not; null: no device
  std::string profile;                 ///< name of device and power mode; empty: the device's, or the only one in the records
  bool error_on_miss = false;          ///< a shape without a record is an error
  double seconds = 60;                 ///< for the worker, in all; each shape is measured once in any case
  tune::JobRequest effort = {{}, {}, 3, 3, 8, 20, 8, 0};  ///< repetitions, rounds, copies and samples of a kernel alone
  std::uint32_t network_samples = 60;
  std::function<void(const tune::Record&)> on_record;  ///< called with each new record at once
  std::function<void(const std::string& what, double fraction)> progress;
};

struct TuningReport {
  std::size_t shapes = 0;        ///< distinct pieces of work with more than one tactic
  std::size_t from_records = 0;  ///< of them, decided by records
  std::size_t measured = 0;      ///< of them, measured now
  std::size_t missed = 0;        ///< of them, left to the model
  std::size_t kernels = 0;       ///< tactics run now
  std::vector<std::string> rejected;  ///< tactics that gave wrong results and the like: what, and why
  std::size_t stale = 0, other_devices = 0, other_compilers = 0;  ///< records that were not used
  double untuned_us = 0, tuned_us = 0;  ///< the whole network; 0: not measured
  std::size_t trials = 0;        ///< runs of the whole network
  double seconds = 0;            ///< that the worker took
  std::string device;
};

struct CudaReport {
  std::uint32_t kernels = 0;  ///< compiled, or found in the cache
  std::uint32_t cached = 0;
  TuningReport tuning;
  std::vector<std::string> on_host;  ///< nodes that the CPU runs
  std::vector<passes::Refusal> refusals;  ///< of families that compute several nodes at once, named instead of a pass
};

/// Launches of the nodes in this order, which is a topological one, as a profile; the kernels' machine code is for
/// `code_arch`. std::logic_error when the memory checker finds a fault.
ProfileSpec lower_selected(const ir::Graph& graph, const families::Target& target, std::uint32_t code_arch, const std::vector<Selected>& selected,
                           WeightStore& weights, ModuleStore& modules);
/// One node's launches `copies` times in a row. The roots of the values that they read and write are the profile's inputs
/// and outputs.
ProfileSpec lower_alone(const ir::Graph& graph, const families::Target& target, std::uint32_t code_arch, const Selected& selected, std::size_t copies,
                        const std::vector<ir::ValueId>& inputs, const std::vector<ir::ValueId>& outputs, WeightStore& weights,
                        ModuleStore& modules);

/// Lowers a graph on which the pass pipeline has run for a GPU; `precision` says what floats are stored as and
/// multiplied in, `alternatives` is as for choose_kernels(). Throws BuildError that names all nodes without a kernel,
/// CompileError from the compiler, and std::logic_error when the memory checker finds a fault.
ProfileSpec lower_cuda(ir::Graph& graph, const families::Target& target, const families::PrecisionRequest& precision,
                       const families::Alternatives& alternatives, codegen::Compiler& compiler, WeightStore& weights,
                       ModuleStore& modules, const std::optional<TuningOptions>& tuning, CudaReport& report);

}  // namespace edgert::plan
