// SPDX-License-Identifier: Apache-2.0
#include "ir/windows.h"

#include <algorithm>

#include "edgert/cpu/ops/copy.h"

namespace edgert::ir {

Dims ordered_strides(const Dims& dims, const std::vector<std::uint8_t>& order) {
  if (order.empty()) return dense_strides(dims);
  Dims strides(dims.size());
  std::int64_t step = 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    strides[order[i]] = step;
    step *= std::max<std::int64_t>(dims[order[i]], 1);
  }
  return strides;
}

bool same_window(const StridedView& a, const StridedView& b) {
  if (a.offset != b.offset || a.dims != b.dims) return false;
  for (std::size_t i = 0; i < a.dims.size(); ++i) {
    if (a.dims[i] != 1 && a.strides[i] != b.strides[i]) return false;
  }
  return true;
}

bool is_row_major(const StridedView& view) {
  const Dims dense = dense_strides(view.dims);
  for (std::size_t i = 0; i < view.dims.size(); ++i) {
    if (view.dims[i] != 1 && view.strides[i] != dense[i]) return false;
  }
  return true;
}

NodeId Windows::concat_of(ValueId id) const {
  if (given_) return id < placed_.size() ? placed_[id] : kNone;
  for (const NodeId user : graph_.users(id)) {
    if (is_concat(*graph_.node(user).op)) return user;
  }
  return kNone;
}

bool is_whole_view(const Graph& graph, const Node& node) {
  if (node.op->view == nullptr) return false;
  const Dims& out = graph.value(node.outputs[0]).type.dims;
  const std::int64_t count = element_count(out);
  return count > 0 && count == element_count(graph.value(node.inputs[0]).type.dims);
}

namespace {

/// The input of a whole view as a window, given the output's; empty when strides cannot say it. Dimensions of input and
/// output correspond where both step over the same elements of a dense input.
std::optional<StridedView> unview(const Graph& graph, const Node& node, const StridedView& output) {
  const StridedView dense = dense_window(graph.value(node.inputs[0]).type.dims);
  const std::optional<StridedView> steps = node.op->view(node.attributes, dense, output.dims);
  if (!steps) return std::nullopt;
  StridedView input{output.offset, dense.dims, dense.strides};
  for (std::size_t i = 0; i < input.dims.size(); ++i) {
    for (std::size_t o = 0; input.dims[i] > 1 && o < output.dims.size(); ++o) {
      const std::int64_t step = steps->strides[o];
      if (output.dims[o] == 1 || dense.strides[i] < step || dense.strides[i] / step >= output.dims[o]) continue;
      input.strides[i] = dense.strides[i] / step * output.strides[o];
    }
  }
  const std::optional<StridedView> again = node.op->view(node.attributes, input, output.dims);
  return again && same_window(*again, output) ? std::optional<StridedView>(input) : std::nullopt;
}

}  // namespace

/// Of a value that a kernel or Concat makes, or that is a view of one: straight, or because a view of all of it is.
Windows::Place Windows::place(ValueId id) {
  if (const NodeId concat = concat_of(id); concat != kNone) {
    const Node& node = graph_.node(concat);
    const std::optional<Window> outer = find(node.outputs[0]);
    if (!outer) return {true, std::nullopt};
    const auto position = std::find(node.inputs.begin(), node.inputs.end(), id) - node.inputs.begin();
    return {true, Window{outer->root, concat_windows(graph_, node, outer->view)[static_cast<std::size_t>(position)]}};
  }
  for (const NodeId user : graph_.users(id)) {
    const Node& view = graph_.node(user);
    if (!is_whole_view(graph_, view)) continue;
    const Place whole = place(view.outputs[0]);
    if (!whole.placed) continue;
    if (!whole.window) return whole;
    const std::optional<StridedView> inner = unview(graph_, view, whole.window->view);
    return {true, inner ? std::optional<Window>({whole.window->root, *inner}) : std::nullopt};
  }
  return {};
}

std::optional<Window> Windows::find(ValueId id) {
  std::optional<Window> window = find_window(id);
  // A window without elements may begin behind the end of its root, where no plan may point.
  if (window && element_count(window->view.dims) == 0) window->view.offset = 0;
  return window;
}

std::optional<Window> Windows::find_window(ValueId id) {
  const Value& value = graph_.value(id);
  const Node* producer = graph_.producer(id);
  if (producer != nullptr && producer->op->view != nullptr) {
    std::optional<Window> window = find(producer->inputs[0]);
    if (!window) return std::nullopt;
    std::optional<StridedView> view = producer->op->view(producer->attributes, window->view, value.type.dims);
    if (!view) return std::nullopt;
    return Window{window->root, *view};
  }
  if (producer != nullptr) {
    if (Place found = place(id); found.placed) return found.window;
  }
  return Window{id, {0, value.type.dims, ordered_strides(value.type.dims, value.order)}};
}

std::vector<NodeId> producers_of(const Graph& graph, ValueId id) {
  const NodeId producer = graph.value(id).producer;
  if (producer == kNone) return {};
  const Node& node = graph.node(producer);
  if (node.op->view != nullptr) return producers_of(graph, node.inputs[0]);
  if (!is_concat(*node.op)) return {producer};
  std::vector<NodeId> all;
  for (const ValueId input : node.inputs) {
    for (const NodeId each : producers_of(graph, input)) {
      if (std::find(all.begin(), all.end(), each) == all.end()) all.push_back(each);
    }
  }
  return all;
}

bool is_bit_cast(const Graph& graph, const Node& node) {
  return node.op->kernel != nullptr && node.op->kernel->id == cpu::Copy::kId &&
         graph.value(node.inputs[0]).type.dtype != graph.value(node.outputs[0]).type.dtype;
}

}  // namespace edgert::ir
