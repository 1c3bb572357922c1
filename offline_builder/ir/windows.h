// SPDX-License-Identifier: Apache-2.0
// Where values lie relative to each other: which value owns the storage (the root) and which strided window of it a value
// is. Views are windows into their input, and the inputs of a Concat are windows into its output, so neither costs a
// copy at run time; what an input of a Concat is a view of lies there too. An analysis of the graph; knows nothing of
// addresses.
#pragma once

#include <optional>
#include <vector>

#include "ir/graph.h"
#include "ir/operator_def.h"

namespace edgert::ir {

/// A value as a window into the dense storage of `root`, in elements.
struct Window {
  ValueId root = kNone;
  StridedView view;
};

/// Strides of a dense tensor whose dimensions lie in memory as `order` says (empty: row-major).
Dims ordered_strides(const Dims& dims, const std::vector<std::uint8_t>& order);

/// Whether the two windows name the same elements in the same places; dimensions of extent 1 may differ in stride.
bool same_window(const StridedView& a, const StridedView& b);
/// Whether the window is row-major without gaps.
bool is_row_major(const StridedView& view);

/// Whether the node is a view that has each element of its input once.
bool is_whole_view(const Graph& graph, const Node& node);

class Windows {
 public:
  /// `placed` tells for each value the Concat that it is written into, or kNone. Without it every input of every
  /// Concat is placed, as is the case once the layout pass has run.
  explicit Windows(const Graph& graph) : graph_(graph) {}
  Windows(const Graph& graph, std::vector<NodeId> placed) : graph_(graph), placed_(std::move(placed)), given_(true) {}

  /// Empty when a view in between cannot be said by strides (a Reshape across a gap).
  std::optional<Window> find(ValueId id);

 private:
  std::optional<Window> find_window(ValueId id);
  /// Where a value lies that is written into a Concat.
  struct Place {
    bool placed = false;
    std::optional<Window> window;  ///< empty when strides cannot say it
  };
  NodeId concat_of(ValueId id) const;
  Place place(ValueId id);

  const Graph& graph_;
  std::vector<NodeId> placed_;
  bool given_ = false;
};

/// The kernel nodes whose results the value consists of; more than one behind a Concat, none for inputs and constants.
std::vector<NodeId> producers_of(const Graph& graph, ValueId id);

/// Whether the node copies elements as they are under the name of another type, so that its operands are stored as the
/// types that they have.
bool is_bit_cast(const Graph& graph, const Node& node);

}  // namespace edgert::ir
