// SPDX-License-Identifier: Apache-2.0
// What the graph, the passes and the lowering know about an operator. The operators themselves are in ops/.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "edgert/cpu/operator.h"
#include "ir/graph.h"

namespace edgert::ir {

/// What an operator asks of the order in memory of its operands.
enum class LayoutRule : std::uint8_t {
  Any,           ///< any strides in, any out; the output takes the order of the largest input
  ChannelsLast,  ///< input 0 and the output [N, C, H, W] lie channels last
  InnerDense,    ///< the output is row-major with stride 1 along its last dimension; inputs of any strides
  RowMajor,      ///< inputs and outputs are row-major without gaps
};

/// A strided window into a tensor: `offset` and `strides` count elements of the underlying storage.
struct StridedView {
  std::int64_t offset = 0;
  Dims dims;
  Dims strides;
};

/// Operands that a shape rule sees.
struct InferContext {
  const Graph& graph;
  const std::vector<ValueId>& inputs;
  const AttributeBlob& attributes;
  const std::vector<Graph>& bodies = no_bodies();

  static const std::vector<Graph>& no_bodies();
  bool has(std::size_t i) const { return i < inputs.size() && inputs[i] != kNone; }
  const TensorType& type(std::size_t i) const { return graph.value(inputs.at(i)).type; }
  const std::vector<Extent>& extents(std::size_t i) const { return graph.value(inputs.at(i)).extents; }
};

/// A dimension of an output whose extent is known only at run time: `actual` is a value that an input's extents name, or
/// kNone, and then the extent is output `output` of the same node.
struct OutputExtent {
  std::uint32_t dim;
  ValueId actual = kNone;
  std::uint32_t output = 0;
};

/// An operator of the graph. Those with a CPU kernel become steps; views become placements in the arena where the
/// strides allow it and copies where not.
struct OperatorDef {
  const char* name = "";
  std::uint32_t attribute_bytes = 0;

  /// Types of the outputs. Throws BuildError when the operands don't fit.
  std::vector<TensorType> (*infer)(const InferContext&) = nullptr;
  /// The bounded dimensions of each output (a shorter list: the last outputs have none). Throws BuildError when the
  /// operator cannot take these. Null: no operand may have any.
  std::vector<std::vector<OutputExtent>> (*extents)(const InferContext&) = nullptr;
  /// Attributes for people: "kernel=3x3 stride=2". May be null.
  std::string (*describe)(const AttributeBlob&) = nullptr;

  /// The CPU kernel, or null for views and Concat.
  const cpu::OperatorEntry* kernel = nullptr;
  /// For view operators: the output as a window into the input's storage, or nothing when its strides can't say it.
  std::optional<StridedView> (*view)(const AttributeBlob&, const StridedView& input, const Dims& out) = nullptr;

  LayoutRule layout = LayoutRule::Any;
  /// Bit i: the output may be written over input i when that has the same strides and element size and is not read later.
  std::uint32_t in_place = 0;
  /// Multiply-adds, or element visits where there are none: decides how many parts a step has. Null: output elements.
  std::uint64_t (*work)(const InferContext&) = nullptr;
  /// Turns constant operands into the form that the kernel reads (packed weights). Runs once, after all other passes.
  /// Null when there is nothing to pack.
  void (*pack)(Graph&, NodeId) = nullptr;
};

/// OperatorDef::extents, or BuildError for an operator without it whose operands have bounded extents.
std::vector<std::vector<OutputExtent>> infer_extents(const OperatorDef& op, const InferContext& context);

/// The whole of a dense row-major tensor.
StridedView dense_window(const Dims& dims);
/// Concat has neither kernel nor view: its inputs are windows into its output.
bool is_concat(const OperatorDef& op);
/// The window of each input of Concat node `node` in its output, which itself is the window `output`.
std::vector<StridedView> concat_windows(const Graph& graph, const Node& node, const StridedView& output);
/// Attributes of Concat; declared here because the lowering needs them.
struct ConcatAttributes {
  std::int32_t axis;
  std::int32_t reserved;
};

}  // namespace edgert::ir
