// SPDX-License-Identifier: Apache-2.0
// Graph passes: one file a pass, and the ordered list of them in pipeline.cpp.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace edgert::passes {

/// Something that a pass looks for, found, and left as it was. Nodes are named as ONNX names them.
struct Refusal {
  const char* pass;
  std::string node;    ///< what stays a step of its own
  std::string into;    ///< what would have taken it in; may be empty
  std::string reason;  ///< one clause, for people
};

/// A rewrite of the graph that keeps what its outputs mean. Idempotent: run twice in a row, the second changes nothing.
struct Pass {
  const char* name;     ///< "fold_batch_norm"; also names the dump files
  const char* summary;  ///< one line for people
  /// Returns how many rewrites it made.
  int (*run)(ir::Graph& graph);
  bool cpu_only = false;  ///< prepares what only the CPU's kernels want
  bool required = false;  ///< lowering needs it; the others only make plans better
  /// Adds what the pass refused in a graph that it has just gone through; null for passes that fuse nothing. It asks the
  /// same questions as the pass.
  void (*explain)(const ir::Graph& graph, std::vector<Refusal>& refusals) = nullptr;
};

/// All passes in the order in which they run, readable as a table of contents.
const std::vector<Pass>& pipeline();

struct PassReport {
  const char* name;
  int rewrites;
};

struct PipelineOptions {
  /// Writes NN-name.before.txt/.after.txt (to_text) and .dot into this folder for every pass that changed something;
  /// empty: no dumps.
  std::string dump_folder;
  bool for_cpu = true;   ///< else passes that are cpu_only are left out
  bool winograd = true;  ///< else choose_winograd is left out
  bool optimize = true;  ///< else only required passes run outside of bodies: what others are tested against
  std::vector<Refusal>* refusals = nullptr;  ///< filled in the order of the passes when given
  /// Called before each pass.
  std::function<void(const Pass& pass, std::size_t index, std::size_t count)> progress;
};

/// Runs the pipeline; the graph is verified after each pass that changed it.
std::vector<PassReport> run_pipeline(ir::Graph& graph, const PipelineOptions& options = {});

// The passes, each in the file of its name.
int fold_constants(ir::Graph& graph);    ///< nodes with constant operands become constants
int eliminate_dead(ir::Graph& graph);    ///< nodes that nobody reads
int eliminate_common(ir::Graph& graph);  ///< equal nodes on equal operands (CSE), equal constants
int remove_identity(ir::Graph& graph);   ///< Identity, x*1, x+0, same-shape Reshape/Expand/Slice, Cast to same, nested
int fuse_activation_patterns(ir::Graph& graph);  ///< GELU, SiLU, HardSwish, ... from their decomposed ONNX shapes
int fuse_normalization(ir::Graph& graph);        ///< layer and RMS normalization from their decomposed ONNX shapes
int fold_affine(ir::Graph& graph);  ///< BatchNorm and other per-channel scale/shift into Conv, Gemm weights and bias
int fold_pad(ir::Graph& graph);     ///< constant-zero Pad into the convolution (or average pool) behind it
int optimize_bodies(ir::Graph& graph);  ///< constants into the bodies of If and Loop, and the whole pipeline there
int eliminate_transposes(ir::Graph& graph);  ///< they sink through pointwise, merge and cancel
int fuse_epilogue(ir::Graph& graph);         ///< activation and residual add into Conv, DepthwiseConv, MatMul
int join_concats(ir::Graph& graph);          ///< concatenations that repeat others read them
int hoist_slices(ir::Graph& graph);          ///< what only a part is read of is computed for that part alone
int join_siblings(ir::Graph& graph);         ///< products and convolutions of one input as one
int fuse_pointwise(ir::Graph& graph);        ///< chains of pointwise nodes into one program
int choose_winograd(ir::Graph& graph);       ///< 3x3 convolutions by fewer multiplications
int choose_grouped(ir::Graph& graph);        ///< grouped convolutions of few channels as depthwise ones
int fuse_inverted_residual(ir::Graph& graph);  ///< depthwise convolutions and their pointwise neighbours
int choose_planar(ir::Graph& graph);         ///< first convolutions that read planes instead of pixels
int choose_layout(ir::Graph& graph);         ///< channels-last where kernels want it, copies where orders meet
int pack_weights(ir::Graph& graph);          ///< constant operands into the form that kernels read

// Their explanations, where they have one.
void explain_fold_affine(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_fold_pad(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_fuse_normalization(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_fuse_epilogue(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_fuse_pointwise(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_hoist_slices(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_join_siblings(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_join_concats(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_choose_winograd(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_choose_grouped(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_fuse_inverted_residual(const ir::Graph& graph, std::vector<Refusal>& refusals);
void explain_choose_planar(const ir::Graph& graph, std::vector<Refusal>& refusals);

/// Not in the list, since it has a parameter and is for GPUs: after the layout is chosen, stores f32 values that are
/// neither inputs nor outputs of the graph, and not between the last products and the outputs, as `narrow`. Nodes that are
/// `pinned`, by number, have no part in that exception. Returns how many.
int narrow_floats(ir::Graph& graph, DType narrow, const std::vector<bool>& pinned);

}  // namespace edgert::passes
