// SPDX-License-Identifier: Apache-2.0
// The builder as a library: ONNX model, or graphs made by hand, to plan bytes.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "edgert/plan.h"
#include "onnx/import.h"
#include "passes/pipeline.h"
#include "plan/lower_cuda.h"
#include "plan/writer.h"

namespace edgert::plan {

/// A GPU to build for.
struct CudaOptions {
  codegen::ConvTarget device;
  families::PrecisionRequest precision;
  codegen::CompilerOptions compiler;
  std::optional<TuningOptions> tuning;  ///< nothing: the model's estimate chooses tactics
  families::Alternatives alternatives;
};

struct BuildOptions {
  std::optional<CudaOptions> cuda;  ///< nothing: a plan for the CPU
  /// One entry a shape profile; empty: one profile with the model's own shapes.
  std::vector<onnx_import::ImportOptions> profiles;
  /// Added to the model's metadata_props; an equal key replaces.
  std::vector<std::pair<std::string, std::string>> metadata;
  bool winograd = true;     ///< passes::PipelineOptions::winograd
  bool optimize = true;     ///< passes::PipelineOptions::optimize
  /// Pairs of an input and an output that become one tensor, kept from run to run. They are no bindings any more.
  struct State {
    std::string input;
    std::string output;
    ir::Bytes initial;  ///< what it is after prepare() and reset(); empty: the input's default in the model, or zeros
  };
  std::vector<State> states;
  /// Gives the inputs of golden vectors for a plan, which has none yet; their outputs are recorded from a run.
  struct GoldenInputs {
    std::uint16_t profile = 0;
    std::vector<ir::Bytes> inputs;  ///< dense, in binding order
    float tolerance = 1e-3f;        ///< relative, and absolute as a fraction of the outputs' largest magnitude
  };
  std::function<std::vector<GoldenInputs>(const PlanView& plan)> golden;
  std::string dump_folder;  ///< passes::PipelineOptions::dump_folder, one subfolder a profile when there are several
  /// Receives the plan piece by piece, so that it never lies in memory as a whole; then BuildResult::bytes stays empty.
  PlanFile::Sink sink;
  /// Called as work goes on: what is being done and which fraction of the whole is behind.
  std::function<void(const std::string& what, double fraction)> progress;
};

struct ProfileReport {
  std::string name;
  std::size_t imported_nodes = 0;
  std::size_t steps = 0;
  std::vector<passes::PassReport> passes;
  std::vector<passes::Refusal> refusals;  ///< fusions that passes found and did not make
  memory::Placement arena;
  CudaReport cuda;
};

struct BuildResult {
  std::vector<std::byte> bytes;  ///< the plan file, unless BuildOptions::sink received it
  std::uint64_t plan_bytes = 0;
  std::vector<ProfileReport> profiles;
  std::vector<std::string> notes;  ///< what the user should know but need not act on
};

/// Builds a plan. Throws ir::BuildError (onnx_import::ImportError for the model's problems) and codegen::CompileError
/// when kernels cannot be compiled. The result is loaded and checked with the runtime's own rules before it is written or returned.
/// A model that the caller hands over is released once it is imported, and its weights as soon as they are packed.
BuildResult build(onnx_import::Model model, const BuildOptions& options = {});

/// The same from graphs, one a profile, whose inputs and outputs have equal names and types. `options.profiles` is not
/// read. The graphs are consumed.
BuildResult build(std::vector<ir::Graph> graphs, const BuildOptions& options = {});

}  // namespace edgert::plan
