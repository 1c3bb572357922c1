// SPDX-License-Identifier: Apache-2.0
#include "ir/operator_def.h"

namespace edgert::ir {

StridedView dense_window(const Dims& dims) { return {0, dims, dense_strides(dims)}; }

bool is_concat(const OperatorDef& op) { return op.kernel == nullptr && op.view == nullptr; }

std::vector<StridedView> concat_windows(const Graph& graph, const Node& node, const StridedView& output) {
  const auto axis = static_cast<std::size_t>(node.as<ConcatAttributes>().axis);
  std::vector<StridedView> windows;
  std::int64_t position = 0;
  for (const ValueId id : node.inputs) {
    const Dims& dims = graph.value(id).type.dims;
    windows.push_back({output.offset + position * output.strides[axis], dims, output.strides});
    position += dims[axis];
  }
  return windows;
}

}  // namespace edgert::ir
