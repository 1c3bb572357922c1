// SPDX-License-Identifier: Apache-2.0
#include "edgert/cpu/ops/copy.h"
#include "ir/graph.h"
#include "ir/operator_def.h"

namespace edgert::ir {
namespace {

TensorView dense_view(const Value& value, const void* data) {
  TensorView view;
  view.data = const_cast<void*>(data);
  view.dtype = value.type.dtype;
  view.rank = static_cast<std::uint8_t>(value.type.dims.size());
  view.format = value.format;
  const Dims strides = dense_strides(value.type.dims);
  for (std::size_t i = 0; i < value.type.dims.size(); ++i) {
    view.dims[i] = value.type.dims[i];
    view.strides[i] = strides[i];
  }
  return view;
}

void set_window(TensorView& view, const StridedView& window, const std::byte* base) {
  view.rank = static_cast<std::uint8_t>(window.dims.size());
  for (std::size_t i = 0; i < window.dims.size(); ++i) {
    view.dims[i] = window.dims[i];
    view.strides[i] = window.strides[i];
  }
  view.data = const_cast<std::byte*>(base + window.offset * (bits_of(view.dtype) / 8));
}

bool run_kernel(const cpu::OperatorEntry& kernel, std::vector<TensorView>& inputs, std::vector<TensorView>& outputs,
                const void* attributes, std::uint32_t attribute_bytes) {
  std::vector<const TensorView*> in;
  std::vector<const TensorView*> out;
  for (const TensorView& view : inputs) in.push_back(&view);
  for (const TensorView& view : outputs) out.push_back(&view);
  cpu::Work work;
  work.inputs = {in.data(), in.size()};
  work.outputs = {out.data(), out.size()};
  work.attributes = attributes;
  work.attribute_bytes = attribute_bytes;
  if (const char* problem = kernel.check(work)) throw BuildError(std::string("cannot fold: ") + problem);
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> scratch(kernel.scratch_bytes(work) / sizeof(Line) + 1);
  work.scratch = scratch.data();
  const Status status = kernel.run(work);
  if (!status.ok()) throw BuildError(std::string("cannot fold: ") + edgert::to_string(status.error()));
  return true;
}

void copy_into(TensorView source, TensorView target) {
  std::vector<TensorView> in{source};
  std::vector<TensorView> out{target};
  alignas(16) const cpu::NoAttributes none;
  static constexpr cpu::OperatorEntry kCopy = cpu::entry_of<cpu::Copy>();
  run_kernel(kCopy, in, out, &none, sizeof(none));
}

Bytes evaluate_concat(const Graph& graph, const Node& node) {
  const Value& result = graph.value(node.outputs[0]);
  std::vector<std::byte> bytes(dense_bytes(result.type));
  const std::vector<StridedView> windows = concat_windows(graph, node, dense_window(result.type.dims));
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    TensorView target = dense_view(result, bytes.data());
    set_window(target, windows[i], bytes.data());
    copy_into(dense_view(graph.value(node.inputs[i]), graph.value(node.inputs[i]).constant.data()), target);
  }
  return Bytes::adopt(std::move(bytes));
}

}  // namespace

std::optional<std::vector<Bytes>> evaluate(const Graph& graph, const Node& node) {
  // Elements that share a byte cannot be addressed one by one: only kernels that know such types take them.
  if (node.op->kernel == nullptr && bits_of(graph.value(node.outputs.at(0)).type.dtype) % 8 != 0) return std::nullopt;
  if (is_concat(*node.op)) return std::vector<Bytes>{evaluate_concat(graph, node)};
  if (node.op->view != nullptr) {
    const Value& source = graph.value(node.inputs.at(0));
    const Value& result = graph.value(node.outputs.at(0));
    const std::optional<StridedView> window =
        node.op->view(node.attributes, dense_window(source.type.dims), result.type.dims);
    if (!window) return std::nullopt;
    TensorView view = dense_view(source, source.constant.data());
    set_window(view, *window, source.constant.data());
    std::vector<std::byte> bytes(dense_bytes(result.type));
    copy_into(view, dense_view(result, bytes.data()));
    return std::vector<Bytes>{Bytes::adopt(std::move(bytes))};
  }
  if (node.op->kernel == nullptr) return std::nullopt;

  // Dense operators read packed weights; folding packs a copy of what they read.
  Graph scratch_graph;
  const Node* run = &node;
  const Graph* source = &graph;
  if (node.op->pack != nullptr) {
    std::vector<ValueId> inputs;
    for (const ValueId id : node.inputs) {
      inputs.push_back(id == kNone ? kNone
                                   : scratch_graph.add_constant(graph.value(id).name, graph.value(id).type,
                                                                graph.value(id).constant, graph.value(id).format));
    }
    const NodeId copy = scratch_graph.add_node(*node.op, inputs, node.attributes, {});
    node.op->pack(scratch_graph, copy);
    run = &scratch_graph.node(copy);
    source = &scratch_graph;
  }
  // Channels-last kernels want their operands that way; such constants do not occur in practice and are left alone.
  if (node.op->layout == LayoutRule::ChannelsLast) return std::nullopt;
  std::vector<TensorView> inputs;
  std::vector<TensorView> outputs;
  std::vector<std::vector<std::byte>> results;
  for (const ValueId id : run->inputs) {
    inputs.push_back(id == kNone ? TensorView{} : dense_view(source->value(id), source->value(id).constant.data()));
  }
  for (const ValueId id : run->outputs) {
    results.emplace_back(dense_bytes(source->value(id).type));
    outputs.push_back(dense_view(source->value(id), results.back().data()));
  }
  run_kernel(*node.op->kernel, inputs, outputs, run->attributes.bytes().data(),
             static_cast<std::uint32_t>(run->attributes.bytes().size()));
  std::vector<Bytes> bytes;
  for (std::vector<std::byte>& result : results) bytes.push_back(Bytes::adopt(std::move(result)));
  return bytes;
}

}  // namespace edgert::ir
