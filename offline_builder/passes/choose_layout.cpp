// SPDX-License-Identifier: Apache-2.0
// Decides the order of dimensions in memory of every value and makes every copy that this needs explicit. Afterwards:
//  - convolutions read and write channels last, but planar ones read row-major; other kernels follow the order of what
//    they read;
//  - every view is a window into its input: where strides cannot say it, a Copy to row-major comes first;
//  - what If and Loop read and write is row-major, in storages of its own;
//  - every input of a Concat is written straight into the Concat's storage: where that cannot be, a Copy writes it;
//  - every graph output is row-major in a storage of its own.
// What is left of Reshape, Transpose, Slice, Expand and Concat then costs nothing at run time.
#include <algorithm>

#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/copy.h"
#include "ir/windows.h"
#include "ops/definitions.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

using ir::Graph;
using ir::kNone;
using ir::Node;
using ir::NodeId;
using ir::ValueId;
using ir::Window;
using Order = std::vector<std::uint8_t>;

const Order kChannelsLast{0, 2, 3, 1};

/// The dimension of its first input along which a kernel that is channels last needs stride 1.
std::size_t dense_dim(const Node& node) {
  const bool planar = node.op == &ops::kStemBlock || (node.op == &ops::kConv && node.as<cpu::ConvAttributes>().planar != 0);
  return planar ? 3 : 1;
}

class LayoutChooser {
 public:
  explicit LayoutChooser(Graph& graph) : graph_(graph) {}

  int run() {
    for (const NodeId id : graph_.topological_order()) visit(id);
    place_concats();
    for (std::size_t i = 0; i < graph_.outputs().size(); ++i) settle_output(i);
    for (std::size_t i = 0; i < graph_.states().size(); ++i) settle_state(i);
    return changes_;
  }

 private:
  /// A value's window while nothing is placed into a Concat yet.
  std::optional<Window> window(ValueId id) { return ir::Windows(graph_, placed_).find(id); }

  /// Input `index` of `reader` reads a copy in memory order `order` from now on.
  ValueId insert_copy(NodeId reader, std::size_t index, const Order& order) {
    const ValueId source = graph_.node(reader).inputs[index];
    const ValueId copy = make_copy(source, order);
    graph_.set_input(reader, index, copy);
    return copy;
  }

  ValueId make_copy(ValueId source, const Order& order) {
    // One copy serves every reader that wants the same order.
    for (const NodeId user : graph_.users(source)) {
      const Node& node = graph_.node(user);
      if (node.op == &ops::kCopy && graph_.value(node.outputs[0]).order == order && !is_claimed(node.outputs[0])) {
        return node.outputs[0];
      }
    }
    std::vector<std::string> provenance;
    if (const Node* producer = graph_.producer(source)) provenance = producer->provenance;
    const NodeId copy = graph_.add_node(ops::kCopy, {source}, ir::AttributeBlob::of(cpu::NoAttributes{}), provenance);
    const ValueId out = graph_.node(copy).outputs[0];
    graph_.value(out).order = order;
    graph_.value(out).name = graph_.value(source).name;
    ++changes_;
    return out;
  }

  /// Whether the value's storage has been given to a Concat or an output.
  bool is_claimed(ValueId id) const {
    return (id < placed_.size() && placed_[id] != kNone) || std::find(bound_.begin(), bound_.end(), id) != bound_.end();
  }

  void visit(NodeId id) {
    const Node& node = graph_.node(id);
    if (node.op->view != nullptr) {
      // A constant is row-major already, so the copy is only ever of a computed value.
      const std::optional<Window> source = window(node.inputs[0]);
      if (!node.op->view(node.attributes, source->view, graph_.value(node.outputs[0]).type.dims)) {
        insert_copy(id, 0, order_before_view(node, source->view));
      }
      return;
    }
    if (node.op->layout == ops::LayoutRule::ChannelsLast) {
      if (dense_dim(node) == 1) {
        require_channels_last(id, 0);
      } else if (!unit_stride(*window(node.inputs[0]), dense_dim(node))) {
        insert_copy(id, 0, {});
      }
      if (graph_.node(id).inputs.size() > 3 && graph_.node(id).inputs[3] != kNone) require_channels_last(id, 3);
      set_order(id, kChannelsLast);
    } else if (node.op->layout == ops::LayoutRule::InnerDense) {
      require_inner_dense_residual(id);
      set_order(id, {});
    } else if (node.op->layout == ops::LayoutRule::RowMajor) {
      for (std::size_t i = 0; i < graph_.node(id).inputs.size(); ++i) {
        const ValueId input = graph_.node(id).inputs[i];
        if (input != kNone && !ir::is_row_major(window(input)->view)) insert_copy(id, i, {});
      }
      set_order(id, {});
    } else {
      set_order(id, followed_order(node));
    }
  }

  /// The order of a copy that makes the view of it possible: where rows and columns are outermost and the view merges
  /// dimensions into an image, one that leaves the image channels last; else row-major.
  Order order_before_view(const Node& node, const ops::StridedView& source) const {
    const ir::Dims& out = graph_.value(node.outputs[0]).type.dims;
    if (node.op != &ops::kReshape || out.size() != 4 || ir::element_count(out) == 0) return {};
    std::vector<Order> merged(4);  // the source's dimensions in each of the image's
    std::size_t next = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      std::int64_t extent = 1;
      while (next < source.dims.size() && (merged[i].empty() || extent < out[i] || (i == 3 && source.dims[next] == 1))) {
        extent *= source.dims[next];
        merged[i].push_back(static_cast<std::uint8_t>(next++));
      }
      if (extent != out[i] || merged[i].empty()) return {};
    }
    for (const std::uint8_t channel : merged[1]) {
      if (source.strides[channel] >= source.strides[merged[2][0]]) return {};
    }
    Order order;
    for (const std::uint8_t i : kChannelsLast) order.insert(order.end(), merged[i].begin(), merged[i].end());
    return order;
  }

  void require_channels_last(NodeId id, std::size_t index) {
    const std::optional<Window> found = window(graph_.node(id).inputs[index]);
    const ir::Dims& dims = found->view.dims;
    if (dims.size() == 4 && (dims[1] == 1 || found->view.strides[1] == 1)) return;
    insert_copy(id, index, kChannelsLast);
  }

  /// MatMul reads its residual like it writes y: stride 1 along the last dimension.
  void require_inner_dense_residual(NodeId id) {
    const Node& node = graph_.node(id);
    if (node.inputs.size() <= 3 || node.inputs[3] == kNone) return;
    const std::optional<Window> found = window(node.inputs[3]);
    if (!found->view.dims.empty() && (found->view.dims.back() == 1 || found->view.strides.back() == 1)) return;
    insert_copy(id, 3, {});
  }

  void set_order(NodeId id, const Order& order) {
    for (const ValueId out : graph_.node(id).outputs) {
      ir::Value& value = graph_.value(out);
      // A Copy made here has been given its order; so has everything on a second run.
      if (graph_.node(id).op == &ops::kCopy && !value.order.empty()) continue;
      const bool any_order = bits_of(value.type.dtype) % 8 == 0;  // packed elements lie row-major
      value.order = any_order && order.size() == value.type.dims.size() ? order : Order{};
    }
  }

  /// The memory order of the largest input of the output's rank, read off its strides.
  Order followed_order(const Node& node) {
    const ir::Dims& out = graph_.value(node.outputs[0]).type.dims;
    // A graph output is row-major in the end; a kernel that can write any strides does it at once.
    if (graph_.is_output(node.outputs[0])) return {};
    ValueId largest = kNone;
    std::int64_t most = -1;
    for (const ValueId input : node.inputs) {
      if (input == kNone || graph_.value(input).is_constant()) continue;
      const std::optional<Window> found = window(input);
      std::int64_t elements = 1;
      for (std::size_t i = 0; i < found->view.dims.size(); ++i) elements *= found->view.strides[i] == 0 ? 1 : found->view.dims[i];
      if (found->view.dims.size() == out.size() && elements > most) {
        most = elements;
        largest = input;
      }
    }
    if (largest == kNone) return {};
    return order_of(window(largest)->view);
  }

  /// Dimensions by falling stride; ties and extents of 1 keep ONNX's order, row-major is the empty order.
  static Order order_of(const ops::StridedView& view) {
    Order order;
    for (std::size_t i = 0; i < view.dims.size(); ++i) order.push_back(static_cast<std::uint8_t>(i));
    if (ir::is_row_major(view)) return {};
    std::stable_sort(order.begin(), order.end(), [&](std::uint8_t a, std::uint8_t b) { return view.strides[a] > view.strides[b]; });
    if (std::is_sorted(order.begin(), order.end())) return {};
    return order;
  }

  void place_concats() {
    std::vector<NodeId> order = graph_.topological_order();
    // The last Concat first: an inner one becomes a window of the outer one before its own inputs are placed.
    for (auto it = order.rbegin(); it != order.rend(); ++it) {
      if (!ops::is_concat(*graph_.node(*it).op)) continue;
      for (std::size_t i = 0; i < graph_.node(*it).inputs.size(); ++i) place_input(*it, i);
    }
  }

  void place_input(NodeId concat, std::size_t index) {
    const ValueId input = graph_.node(concat).inputs[index];
    placed_.resize(graph_.value_count(), kNone);
    if (placeable(concat, index)) {
      placed_[input] = concat;
      if (everything_holds()) return;
      placed_[input] = kNone;
    }
    // A copy of its own, even where another reader has one: it lies in this Concat's storage.
    const NodeId copy = graph_.add_node(ops::kCopy, {input}, ir::AttributeBlob::of(cpu::NoAttributes{}),
                                        graph_.node(concat).provenance);
    const ValueId out = graph_.node(copy).outputs[0];
    graph_.value(out).order = graph_.value(graph_.node(concat).outputs[0]).order;
    graph_.value(out).name = graph_.value(input).name;
    graph_.set_input(concat, index, out);
    placed_.resize(graph_.value_count(), kNone);
    placed_[out] = concat;
    ++changes_;
  }

  bool placeable(NodeId concat, std::size_t index) {
    const std::vector<ValueId>& inputs = graph_.node(concat).inputs;
    const ValueId input = inputs[index];
    if (std::count(inputs.begin(), inputs.end(), input) != 1) return false;
    // What it is a view of can be written there as well.
    const Node* producer = nullptr;
    for (ValueId id = input;; id = producer->inputs[0]) {
      producer = graph_.producer(id);
      if (producer == nullptr || placed_[id] != kNone || graph_.is_output(id)) return false;
      if (!ir::is_whole_view(graph_, *producer) || graph_.is_bounded(id)) break;
    }
    if (producer->op->view != nullptr || producer->op->layout == ops::LayoutRule::RowMajor) return false;
    for (const NodeId user : graph_.users(input)) {
      // Placed into one Concat, it cannot be placed into another; the other one copies.
      if (user != concat && ops::is_concat(*graph_.node(user).op) && placed_[input] == user) return false;
    }
    return true;
  }

  /// Whether what is written into this Concat lies where the Concat has it.
  bool parts_hold(ir::Windows& windows, NodeId concat) {
    const Node& node = graph_.node(concat);
    const std::optional<Window> whole = windows.find(node.outputs[0]);
    if (!whole) return false;
    const std::vector<ops::StridedView> parts = ir::concat_windows(graph_, node, whole->view);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (node.inputs[i] >= placed_.size() || placed_[node.inputs[i]] != concat) continue;
      const std::optional<Window> part = windows.find(node.inputs[i]);
      if (!part || part->root != whole->root || !ir::same_window(part->view, parts[i])) return false;
    }
    return true;
  }

  /// Whether every view still is one and every kernel finds the strides that it asks for.
  bool everything_holds() {
    ir::Windows windows(graph_, placed_);
    for (const NodeId id : graph_.topological_order()) {
      const Node& node = graph_.node(id);
      for (const ValueId out : node.outputs) {
        const std::optional<Window> found = windows.find(out);
        if (!found) return false;
        if (node.op->layout == ops::LayoutRule::ChannelsLast && !unit_stride(*found, 1)) return false;
        if (node.op->layout == ops::LayoutRule::InnerDense && !unit_stride(*found, found->view.dims.size() - 1)) return false;
      }
      if (ops::is_concat(*node.op) && !parts_hold(windows, id)) return false;
      const bool residual = node.inputs.size() > 3 && node.inputs[3] != kNone;
      if (node.op->layout == ops::LayoutRule::ChannelsLast) {
        if (!unit_stride(*windows.find(node.inputs[0]), dense_dim(node)) || (residual && !unit_stride(*windows.find(node.inputs[3]), 1))) return false;
      } else if (node.op->layout == ops::LayoutRule::InnerDense && residual) {
        const std::optional<Window> added = windows.find(node.inputs[3]);
        if (!unit_stride(*added, added->view.dims.size() - 1)) return false;
      }
      for (std::size_t i = 0; node.op->layout == ops::LayoutRule::RowMajor && i < node.inputs.size(); ++i) {
        if (node.inputs[i] != kNone && !ir::is_row_major(windows.find(node.inputs[i])->view)) return false;
      }
    }
    return true;
  }

  static bool unit_stride(const Window& window, std::size_t dim) {
    return dim >= window.view.dims.size() || window.view.dims[dim] <= 1 || window.view.strides[dim] == 1;
  }

  /// An output needs a storage that it fills exactly, row-major, that a kernel writes, and that no other output has.
  void settle_output(std::size_t index) {
    placed_.resize(graph_.value_count(), kNone);
    const ValueId value = graph_.outputs()[index].value;
    const std::optional<Window> found = window(value);
    const ir::Value& root = graph_.value(found->root);
    const bool own = !root.is_constant() && root.producer != kNone && found->view.offset == 0 && ir::is_row_major(found->view) &&
                     ir::element_count(root.type.dims) == ir::element_count(found->view.dims) &&
                     root.type.dtype == graph_.value(value).type.dtype &&
                     std::find(bound_.begin(), bound_.end(), found->root) == bound_.end();
    if (own) {
      bound_.push_back(found->root);
      return;
    }
    const NodeId copy = graph_.add_node(ops::kCopy, {value}, ir::AttributeBlob::of(cpu::NoAttributes{}), {});
    const ValueId out = graph_.node(copy).outputs[0];
    graph_.value(out).name = graph_.outputs()[index].name;
    graph_.set_output(index, out);
    bound_.push_back(out);
    ++changes_;
  }

  /// A state is written by a Copy of its own, which the lowering puts behind every reader of the old value. What such a
  /// Copy reads must not be a state that another one has written already.
  void settle_state(std::size_t index) {
    ValueId value = graph_.states()[index].output;
    const Node* producer = graph_.producer(value);
    const bool shared = std::any_of(graph_.outputs().begin(), graph_.outputs().end(),
                                    [value](const Graph::Output& output) { return output.value == value; });
    // Settled already, on a second run.
    if (producer != nullptr && producer->op == &ops::kCopy && graph_.users(value).empty() && !shared) return;
    if (graph_.value(window(value)->root).producer == kNone) value = make_own_copy(value);
    const ValueId out = make_own_copy(value);
    graph_.value(out).name = graph_.states()[index].name;
    graph_.set_state_output(index, out);
    bound_.push_back(out);
  }

  ValueId make_own_copy(ValueId source) {
    const NodeId copy = graph_.add_node(ops::kCopy, {source}, ir::AttributeBlob::of(cpu::NoAttributes{}), {});
    placed_.resize(graph_.value_count(), kNone);
    ++changes_;
    return graph_.node(copy).outputs[0];
  }

  Graph& graph_;
  std::vector<NodeId> placed_;
  std::vector<ValueId> bound_;
  int changes_ = 0;
};

}  // namespace

int choose_layout(ir::Graph& graph) { return LayoutChooser(graph).run(); }

}  // namespace edgert::passes
