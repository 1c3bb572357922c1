// SPDX-License-Identifier: Apache-2.0
#include "passes/pipeline.h"

#include <cstdio>
#include <filesystem>

#include "io/file.h"
#include "passes/pattern.h"

namespace edgert::passes {
namespace {

/// The graph before a pass, kept until it is known whether the pass changed anything.
struct Snapshot {
  std::string text;
  std::string dot;
};

void write_text(const std::string& path, const std::string& content) {
  io::write_file(path, {reinterpret_cast<const std::byte*>(content.data()), content.size()});
}

void write_dump(const std::string& folder, std::size_t index, const char* pass, const Snapshot& before,
                const Snapshot& after) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw io::IoError("cannot make folder '" + folder + "': " + error.message());
  char number[8];
  std::snprintf(number, sizeof(number), "%02u-", static_cast<unsigned>(index % 1000));
  const std::filesystem::path stem = std::filesystem::path(folder) / (number + std::string(pass));
  write_text(stem.string() + ".before.txt", before.text);
  write_text(stem.string() + ".before.dot", before.dot);
  write_text(stem.string() + ".after.txt", after.text);
  write_text(stem.string() + ".after.dot", after.dot);
}

}  // namespace

const std::vector<Pass>& pipeline() {
  static const std::vector<Pass> passes{
      // What the exporter left behind.
      {"fold_constants", "nodes with constant operands become constants", &fold_constants, false, true},
      {"remove_identity", "nodes that change nothing, nested views and casts", &remove_identity},
      {"eliminate_common", "equal nodes and equal constants become one", &eliminate_common},
      {"eliminate_dead", "nodes that nobody reads", &eliminate_dead},
      {"optimize_bodies", "all of this inside of If and Loop", &optimize_bodies, true, true},
      // Transposes out of the way, so that what belongs together meets.
      {"eliminate_transposes", "transposes sink through pointwise, merge and cancel", &eliminate_transposes},
      {"remove_identity", "what merged transposes made superfluous", &remove_identity},
      {"fold_constants", "transposed constants", &fold_constants},
      {"eliminate_common", "equal transposed constants", &eliminate_common},
      // Decomposed functions become the one that they are.
      {"fuse_activation_patterns", "GELU, SiLU, HardSwish, clamps and others from their parts",
       &fuse_activation_patterns},
      {"fuse_normalization", "layer and RMS normalization from their parts", &fuse_normalization, false, false,
       &explain_fuse_normalization},
      // Into the dense operators.
      {"fold_affine", "per-channel scale and shift into weights and bias", &fold_affine, false, false, &explain_fold_affine},
      {"fold_pad", "padding into convolutions and pools", &fold_pad, false, false, &explain_fold_pad},
      {"fuse_epilogue", "activation and residual into convolutions and matrix products", &fuse_epilogue, false, false,
       &explain_fuse_epilogue},
      {"hoist_slices", "what one part is read of is computed for that part alone", &hoist_slices, false, false, &explain_hoist_slices},
      {"join_siblings", "products and convolutions of one input side by side", &join_siblings, false, false, &explain_join_siblings},
      // What is left of pointwise.
      {"fuse_pointwise", "chains of pointwise nodes become one program", &fuse_pointwise, false, false, &explain_fuse_pointwise},
      {"eliminate_common", "equal programs", &eliminate_common},
      {"eliminate_dead", "nodes that nobody reads any more", &eliminate_dead},
      // The form that kernels read.
      {"join_concats", "concatenations that repeat others read them", &join_concats, false, false, &explain_join_concats},
      {"choose_winograd", "3x3 convolutions by fewer multiplications", &choose_winograd, true, false,
       &explain_choose_winograd},
      {"choose_grouped", "grouped convolutions of few channels as depthwise ones", &choose_grouped, true, false,
       &explain_choose_grouped},
      {"choose_planar", "first convolutions that read an image as it comes", &choose_planar, true, false, &explain_choose_planar},
      {"fuse_inverted_residual", "depthwise convolutions and their neighbours in one step", &fuse_inverted_residual,
       true, false, &explain_fuse_inverted_residual},
      {"choose_layout", "order in memory, and the copies that it needs", &choose_layout, false, true},
      {"pack_weights", "constants in the form that kernels read", &pack_weights, true, true},
      {"eliminate_dead", "views that packing left behind", &eliminate_dead},
  };
  return passes;
}

std::vector<PassReport> run_pipeline(ir::Graph& graph, const PipelineOptions& options) {
  std::vector<PassReport> reports;
  const bool dump = !options.dump_folder.empty();
  const auto snapshot = [&] { return dump ? Snapshot{ir::to_text(graph), ir::to_dot(graph)} : Snapshot{}; };
  Snapshot before = snapshot();
  for (std::size_t index = 0; index < pipeline().size(); ++index) {
    const Pass& pass = pipeline()[index];
    if (pass.cpu_only && !options.for_cpu) continue;
    if (pass.run == &choose_winograd && !options.winograd) continue;
    if (!pass.required && !options.optimize) continue;
    if (options.progress) options.progress(pass, index, pipeline().size());
    const int rewrites = pass.run(graph);
    reports.push_back({pass.name, rewrites});
    if (options.refusals != nullptr && pass.explain != nullptr) pass.explain(graph, *options.refusals);
    if (rewrites == 0) continue;
    for (ir::ValueId id = 0; id < graph.value_count(); ++id) release_unread(graph, id);
    ir::verify(graph);
    if (!dump) continue;
    Snapshot after = snapshot();
    write_dump(options.dump_folder, index, pass.name, before, after);
    before = std::move(after);
  }
  return reports;
}

}  // namespace edgert::passes
