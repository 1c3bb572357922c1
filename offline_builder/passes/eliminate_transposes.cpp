// SPDX-License-Identifier: Apache-2.0
// Transposes, and reshapes that only insert or drop extents of 1, move down through pointwise nodes. There they meet
// the ones that undo them, and what they stood between (a convolution and its activation) becomes adjacent. A
// one-dimensional convolution is imported as a two-dimensional one between two such reshapes. Reshapes that regroup
// elements sink where no operand beside them cares.
#include <algorithm>

#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

using Perm = std::vector<std::uint8_t>;

Perm perm_of(const Node& node) {
  const auto& attributes = node.as<ops::TransposeAttributes>();
  return Perm(attributes.perm, attributes.perm + attributes.rank);
}

Perm inverse(const Perm& perm) {
  Perm result(perm.size());
  for (std::size_t i = 0; i < perm.size(); ++i) result[perm[i]] = static_cast<std::uint8_t>(i);
  return result;
}

/// Extents above (or below) 1, in order.
ir::Dims without_ones(const ir::Dims& dims) {
  ir::Dims kept;
  std::copy_if(dims.begin(), dims.end(), std::back_inserter(kept), [](std::int64_t extent) { return extent != 1; });
  return kept;
}

/// Whether all elements stay where they are because only extents of 1 change their places.
bool moves_only_ones(const Perm& perm, const ir::Dims& dims) {
  std::size_t last = 0;
  for (const std::uint8_t from : perm) {
    if (dims[from] == 1) continue;
    if (from < last) return false;
    last = from;
  }
  return true;
}

/// The constant behind its repetition.
ValueId unrepeated(const Graph& graph, ValueId id) {
  const Node* producer = graph.producer(id);
  return is(producer, ops::kExpand) ? producer->inputs[0] : id;
}

/// A view that can sink: what is above it, and how a constant operand beside it looks from there.
class Sinkable {
 public:
  static std::optional<Sinkable> of(const Graph& graph, ValueId id) {
    const Node* node = graph.producer(id);
    if (is(node, ops::kTranspose)) return Sinkable(node, perm_of(*node), graph, id);
    if (is(node, ops::kReshape)) return Sinkable(node, {}, graph, id);
    return std::nullopt;
  }

  bool same_as(const Sinkable& other) const {
    return op_ == other.op_ && perm_ == other.perm_ && above_ == other.above_ && below_ == other.below_;
  }
  ValueId source() const { return source_; }

  /// Drops the row dimension of images of one row. Computed operands beside such a view are lifted above it; beside
  /// others they stay, or two views could push each other away for ever.
  bool drops_row() const {
    return op_ == &ops::kReshape && above_.size() == 4 && above_[2] == 1 &&
           below_ == ir::Dims{above_[0], above_[1], above_[3]};
  }
  /// Puts elements of one dimension into several or the reverse: only operands that are the same everywhere have a form
  /// above it. Such a reshape may cost a copy, so it must not become two.
  bool regroups() const { return op_ == &ops::kReshape && without_ones(above_) != without_ones(below_); }
  ValueId lift_computed(Graph& graph, ValueId id, const std::vector<std::string>& provenance) const {
    return add_reshape(graph, id, above_, provenance);
  }

  /// Adds the constant `id`, which has the extents below the view, with those above it.
  ValueId lift_constant(Graph& graph, ValueId id) const {
    // Constants stay small: what is repeated is repeated again above.
    const ValueId small = unrepeated(graph, id);
    ir::Dims dims = dims_of(graph, small);
    if (ir::element_count(dims) == 1) return add_expand(graph, add_reshape(graph, small, {}, {}), above_, {});
    dims.insert(dims.begin(), below_.size() - dims.size(), 1);
    const std::vector<std::string> provenance;
    ValueId lifted = add_reshape(graph, small, dims, provenance);
    if (op_ == &ops::kTranspose) {
      lifted = add_transpose(graph, lifted, inverse(perm_), provenance);
    } else {
      lifted = add_reshape(graph, lifted, spread(dims), provenance);
    }
    return add_expand(graph, lifted, above_, provenance);
  }

  /// The view itself, of `x`.
  ValueId add(Graph& graph, ValueId x, const std::vector<std::string>& provenance) const {
    if (op_ == &ops::kTranspose) return add_transpose(graph, x, perm_, provenance);
    return add_reshape(graph, x, below_, provenance);
  }

 private:
  Sinkable(const Node* node, Perm perm, const Graph& graph, ValueId id)
      : op_(node->op),
        perm_(std::move(perm)),
        source_(node->inputs[0]),
        above_(dims_of(graph, source_)),
        below_(dims_of(graph, id)) {}

  /// Extents `dims` of a broadcast operand below the reshape, at the places that they have above it.
  ir::Dims spread(const ir::Dims& dims) const {
    ir::Dims result(above_.size(), 1);
    std::size_t from = 0;
    for (std::size_t i = 0; i < above_.size(); ++i) {
      if (above_[i] == 1) continue;
      while (below_[from] == 1) ++from;
      result[i] = dims[from++];
    }
    return result;
  }

  const ops::OperatorDef* op_;
  Perm perm_;
  ValueId source_;
  ir::Dims above_;
  ir::Dims below_;
};

/// The view that all computed operands of a pointwise node are, or that one is and the others can be lifted above.
std::optional<Sinkable> common_view(const Graph& graph, const Node& node) {
  std::optional<Sinkable> common;
  bool everywhere = true;
  bool single_use = true;
  bool scalars = true;
  for (const ValueId input : node.inputs) {
    if (constant_window(graph, input)) {
      scalars = scalars && ir::element_count(dims_of(graph, unrepeated(graph, input))) == 1;
      continue;
    }
    const std::optional<Sinkable> view = Sinkable::of(graph, input);
    if (view && view->drops_row()) return view;
    everywhere = everywhere && view && (!common || common->same_as(*view));
    single_use = single_use && graph.has_single_use(input);
    if (view) common = view;
  }
  if (!everywhere || (common && common->regroups() && !(scalars && single_use))) return std::nullopt;
  return common;
}

bool sink(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  // A graph output wants its rows in order, which a kernel can write and a view cannot.
  if (node.op != &ops::kPointwise || graph.is_output(node.outputs[0])) return false;
  const std::optional<Sinkable> view = common_view(graph, node);
  if (!view) return false;
  const std::vector<ValueId> inputs = node.inputs;
  const ValueId out = node.outputs[0];
  const ir::AttributeBlob attributes = node.attributes;
  const std::vector<std::string> provenance = node.provenance;
  std::vector<ValueId> above;
  for (const ValueId input : inputs) {
    const std::optional<Sinkable> own = Sinkable::of(graph, input);
    if (constant_window(graph, input)) {
      above.push_back(view->lift_constant(graph, input));
    } else if (own && own->same_as(*view)) {
      above.push_back(own->source());
    } else {
      above.push_back(view->lift_computed(graph, input, provenance));
    }
  }
  const NodeId fresh = graph.add_node(ops::kPointwise, above, attributes, provenance);
  const ValueId y = graph.node(fresh).outputs[0];
  graph.value(y).name = graph.value(out).name;
  take_place(graph, out, view->add(graph, y, provenance));
  return true;
}

/// Transpose of a Transpose, and one that leaves all elements in their order.
bool simplify(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (node.op != &ops::kTranspose) return false;
  const ValueId x = node.inputs[0];
  const ValueId out = node.outputs[0];
  const Perm perm = perm_of(node);
  const std::vector<std::string> provenance = node.provenance;
  if (std::is_sorted(perm.begin(), perm.end())) {
    replace_value(graph, out, x);
    return true;
  }
  const Node* inner = graph.producer(x);
  if (is(inner, ops::kTranspose)) {
    const Perm first = perm_of(*inner);
    Perm both;
    for (const std::uint8_t from : perm) both.push_back(first[from]);
    const ValueId source = inner->inputs[0];
    const std::vector<std::string> names = joined_provenance(graph, {graph.value(x).producer, id});
    if (std::is_sorted(both.begin(), both.end())) {
      replace_value(graph, out, source);
    } else {
      take_place(graph, out, add_transpose(graph, source, both, names));
    }
    return true;
  }
  if (!moves_only_ones(perm, dims_of(graph, x))) return false;
  take_place(graph, out, add_reshape(graph, x, dims_of(graph, out), provenance));
  return true;
}

int sweep(Graph& graph) {
  int changes = 0;
  for (const NodeId id : graph.topological_order()) {
    // What sinks below a bounded value would have to take its extents along.
    if (!graph.node(id).alive || graph.is_bounded(graph.node(id).outputs[0])) continue;
    if (simplify(graph, id) || sink(graph, id)) ++changes;
  }
  return changes;
}

}  // namespace

int eliminate_transposes(ir::Graph& graph) { return until_stable(graph, &sweep); }

}  // namespace edgert::passes
