// SPDX-License-Identifier: Apache-2.0
// What only a part is read of is computed for that part alone: a slice moves up through nodes whose every row depends on
// the same row of what they read. A classifier that reads one token of a transformer's last block leaves one row of its
// products.
#include <algorithm>

#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/normalize.h"
#include "edgert/cpu/ops/softmax.h"
#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

using Cut = ops::SliceAttributes;

bool cuts(const Cut& cut, std::size_t dim, const ir::Dims& dims) { return cut.size[dim] != dims[dim]; }

Cut whole(const ir::Dims& dims) {
  Cut cut{};
  cut.rank = static_cast<std::uint32_t>(dims.size());
  std::fill(cut.step, cut.step + dims.size(), 1);
  std::copy(dims.begin(), dims.end(), cut.size);
  return cut;
}

void copy_dim(Cut& to, std::size_t to_dim, const Cut& from, std::size_t from_dim) {
  to.start[to_dim] = from.start[from_dim];
  to.step[to_dim] = from.step[from_dim];
  to.size[to_dim] = from.size[from_dim];
}

/// The part of `x`; readers of the same part share one view.
ValueId part_of(Graph& graph, ValueId x, const Cut& cut, const std::vector<std::string>& provenance) {
  if (x == kNone) return kNone;
  const ir::AttributeBlob attributes = ir::AttributeBlob::of(cut);
  for (const NodeId user : graph.users(x)) {
    const Node& node = graph.node(user);
    if (node.op == &ops::kSlice && node.attributes == attributes) return node.outputs[0];
  }
  return graph.emit(ops::kSlice, {x}, attributes, provenance);
}

/// For a reshape that only adds or drops extents of 1: the cut as its input sees it.
std::optional<Cut> before_reshape(const Cut& cut, const ir::Dims& from, const ir::Dims& to) {
  Cut result = whole(from);
  std::size_t i = 0, o = 0;
  for (;;) {
    while (i < from.size() && from[i] == 1) ++i;
    while (o < to.size() && to[o] == 1) {
      if (cuts(cut, o, to)) return std::nullopt;
      ++o;
    }
    if (i == from.size() || o == to.size()) break;
    if (from[i] != to[o]) return std::nullopt;
    copy_dim(result, i++, cut, o++);
  }
  return i == from.size() && o == to.size() ? std::optional<Cut>(result) : std::nullopt;
}

/// Statistics run over whole axes.
bool across(std::uint32_t axes, const Cut& cut, const ir::Dims& dims) {
  for (std::size_t d = 0; d < dims.size(); ++d) {
    if ((axes >> d & 1) != 0 && cuts(cut, d, dims)) return true;
  }
  return false;
}

/// Whether a node computes what the slice cuts; there is nothing above a view, but for a Reshape, that could be cut instead.
bool cuts_computed(const Graph& graph, const Node& slice) {
  const Node* node = graph.producer(slice.inputs[0]);
  return node != nullptr && !ir::is_concat(*node->op) && (node->op->view == nullptr || node->op == &ops::kReshape);
}

/// Why the slice stays behind the node that it reads; null where it moves above.
const char* refusal(const Graph& graph, const Node& slice) {
  const ValueId y = slice.inputs[0];
  const Node& node = *graph.producer(y);
  const Cut& cut = slice.as<Cut>();
  const ir::Dims& dims = dims_of(graph, y);
  if (!graph.has_single_use(y)) return "what it cuts is read elsewhere too";
  bool bounded = graph.is_bounded(y);
  for (const ValueId input : node.inputs) bounded = bounded || (input != kNone && graph.is_bounded(input));
  if (bounded) return "only a run knows the extents of what it cuts";
  // Rows stay whole, and a part that is not much less is not worth the strides.
  if (dims.empty() || cuts(cut, dims.size() - 1, dims)) return "it cuts through rows";
  const std::int64_t part = ir::element_count(dims_of(graph, slice.outputs[0]));
  if (part == 0 || part > ir::element_count(dims) / 2) return "it leaves more than half";
  if ((node.op == &ops::kNormalize && across(node.as<cpu::NormalizeAttributes>().axes, cut, dims)) ||
      (node.op == &ops::kSoftmax && across(1u << node.as<cpu::SoftmaxAttributes>().axis, cut, dims))) {
    return "what it cuts depends on what it cuts off";
  }
  if (node.op == &ops::kReshape) {
    return before_reshape(cut, dims_of(graph, node.inputs[0]), dims) ? nullptr : "a reshape has regrouped what it cuts";
  }
  const bool by_rows = node.op == &ops::kPointwise || node.op == &ops::kNormalize || node.op == &ops::kSoftmax || node.op == &ops::kMatMul;
  return by_rows ? nullptr : "no part of what it cuts is computed alone";
}

class Hoister {
 public:
  explicit Hoister(Graph& graph) : graph_(graph) {}

  /// Moves slice `id` above the node that it reads. False when it stays.
  bool hoist(NodeId id) {
    const Node slice = graph_.node(id);
    if (!cuts_computed(graph_, slice) || refusal(graph_, slice) != nullptr) return false;
    const ValueId y = slice.inputs[0];
    const Node node = *graph_.producer(y);
    const std::vector<ValueId> inputs = inputs_of_part(node, slice.as<Cut>(), dims_of(graph_, y));
    ValueId fresh = kNone;
    if (node.op == &ops::kReshape) {
      fresh = add_reshape(graph_, inputs[0], dims_of(graph_, slice.outputs[0]), node.provenance);
    } else {
      fresh = graph_.node(graph_.add_node(*node.op, inputs, node.attributes, node.provenance)).outputs[0];
    }
    take_place(graph_, slice.outputs[0], fresh);
    return true;
  }

 private:
  /// What the node has to read to compute the part.
  std::vector<ValueId> inputs_of_part(const Node& node, const Cut& cut, const ir::Dims& dims) {
    if (node.op == &ops::kMatMul) return of_product(node, cut);
    if (node.op != &ops::kReshape) return all_cut(node, cut);
    const ir::Dims from = dims_of(graph_, node.inputs[0]);
    return {part_of(graph_, node.inputs[0], *before_reshape(cut, from, dims), node.provenance)};
  }

  /// Operands of the result's own dims.
  std::vector<ValueId> all_cut(const Node& node, const Cut& cut) {
    std::vector<ValueId> inputs;
    for (const ValueId input : node.inputs) inputs.push_back(part_of(graph_, input, cut, node.provenance));
    return inputs;
  }

  /// Rows and batches of the left operand; batches of the right one, unless it is one matrix for all.
  std::vector<ValueId> of_product(const Node& node, const Cut& cut) {
    std::vector<ValueId> inputs = node.inputs;
    Cut left = whole(dims_of(graph_, inputs[0]));  // has the result's rank
    for (std::size_t d = 0; d + 1 < left.rank; ++d) copy_dim(left, d, cut, d);
    inputs[0] = part_of(graph_, inputs[0], left, node.provenance);
    const ir::Dims right_dims = dims_of(graph_, inputs[1]);
    Cut right = whole(right_dims);
    bool batches = false;
    for (std::size_t d = 0; right.rank == left.rank && d + 2 < right.rank; ++d) {
      copy_dim(right, d, cut, d);
      batches = batches || cuts(right, d, right_dims);
    }
    if (batches) inputs[1] = part_of(graph_, inputs[1], right, node.provenance);
    if (inputs.size() > 3) inputs[3] = part_of(graph_, inputs[3], cut, node.provenance);
    return inputs;
  }

  Graph& graph_;
};

int sweep(Graph& graph) {
  int moved = 0;
  Hoister hoister(graph);
  for (NodeId id = 0; id < graph.node_count(); ++id) {
    if (graph.node(id).alive && graph.node(id).op == &ops::kSlice && hoister.hoist(id)) ++moved;
  }
  return moved;
}

}  // namespace

int hoist_slices(ir::Graph& graph) { return until_stable(graph, &sweep); }

void explain_hoist_slices(const ir::Graph& graph, std::vector<Refusal>& refusals) {
  for (const NodeId id : graph.topological_order()) {
    const Node& slice = graph.node(id);
    if (slice.op != &ops::kSlice || !cuts_computed(graph, slice)) continue;
    refusals.push_back({"hoist_slices", names_of(slice), names_of(*graph.producer(slice.inputs[0])), refusal(graph, slice)});
  }
}

}  // namespace edgert::passes
