// SPDX-License-Identifier: Apache-2.0
#include "passes/pattern.h"

#include <algorithm>
#include <stdexcept>

#include "edgert/scalar/convert.h"
#include "ops/infer.h"

namespace edgert::passes {
namespace {

/// Constants of more elements are not searched for a pattern in their values.
constexpr std::int64_t kMostSearchedElements = 1 << 16;

/// Element `offset` of a constant as a number; nothing for types narrower than a byte.
std::optional<double> element(const ir::Value& value, std::int64_t offset) {
  const auto i = static_cast<std::size_t>(offset);
  const ir::Bytes& bytes = value.constant;
  switch (value.type.dtype) {
    case DType::F32: return bytes.as<float>()[i];
    case DType::F64: return bytes.as<double>()[i];
    case DType::F16: return scalar::to_float(scalar::Half{bytes.as<std::uint16_t>()[i]});
    case DType::BF16: return scalar::to_float(scalar::BFloat16{bytes.as<std::uint16_t>()[i]});
    case DType::I8: return bytes.as<std::int8_t>()[i];
    case DType::U8:
    case DType::Bool: return bytes.as<std::uint8_t>()[i];
    case DType::I16: return bytes.as<std::int16_t>()[i];
    case DType::U16: return bytes.as<std::uint16_t>()[i];
    case DType::I32: return bytes.as<std::int32_t>()[i];
    case DType::U32: return bytes.as<std::uint32_t>()[i];
    case DType::I64: return static_cast<double>(bytes.as<std::int64_t>()[i]);
    case DType::U64: return static_cast<double>(bytes.as<std::uint64_t>()[i]);
    default: return std::nullopt;
  }
}

/// Dimensions that do not move in memory count once.
ops::StridedView without_repeats(ops::StridedView view) {
  for (std::size_t i = 0; i < view.dims.size(); ++i) {
    if (view.strides[i] == 0) view.dims[i] = std::min<std::int64_t>(view.dims[i], 1);
  }
  return view;
}

/// Calls visit(offset, index) for every element of the window in row-major order until it returns false.
template <class Visit>
bool visit_window(const ops::StridedView& view, Visit visit) {
  if (std::find(view.dims.begin(), view.dims.end(), 0) != view.dims.end()) return true;
  ir::Dims index(view.dims.size(), 0);
  std::int64_t offset = view.offset;
  for (;;) {
    if (!visit(offset, index)) return false;
    std::size_t d = view.dims.size();
    for (;; --d) {
      if (d == 0) return true;
      offset += view.strides[d - 1];
      if (++index[d - 1] < view.dims[d - 1]) break;
      offset -= view.strides[d - 1] * view.dims[d - 1];
      index[d - 1] = 0;
    }
  }
}

template <class Attributes>
ValueId add_view(Graph& graph, const ops::OperatorDef& op, ValueId x, const Attributes& attributes,
                 std::vector<std::string> provenance) {
  return graph.emit(op, {x}, ir::AttributeBlob::of(attributes), std::move(provenance));
}

}  // namespace

int until_stable(Graph& graph, int (*sweep)(Graph& graph)) {
  int total = 0;
  while (const int changes = sweep(graph)) total += changes;
  return total;
}

const PointwiseStep* single_instruction(const Node& node) {
  if (node.op != &ops::kPointwise) return nullptr;
  const auto& program = node.as<PointwiseProgram>();
  return program.steps == 1 ? &program.step[0] : nullptr;
}

ValueId operand(const Node& node, unsigned i) {
  const PointwiseStep& step = node.as<PointwiseProgram>().step[0];
  const unsigned char numbers[] = {step.a, step.b, step.c};
  return node.inputs.at(numbers[i]);
}

const Node* match(const Graph& graph, ValueId id, PointwiseOp op) {
  const Node* node = graph.producer(id);
  const PointwiseStep* step = node != nullptr ? single_instruction(*node) : nullptr;
  return step != nullptr && step->op == op && static_cast<DType>(step->type) == DType::F32 ? node : nullptr;
}

NodeId add_pointwise(Graph& graph, PointwiseOp op, DType type, const std::vector<ValueId>& operands, float alpha,
                     float beta, std::vector<std::string> provenance) {
  PointwiseProgram program{};
  program.inputs = static_cast<unsigned>(operands.size());
  program.steps = 1;
  PointwiseStep& step = program.step[0];
  step.op = op;
  step.type = static_cast<unsigned char>(type);
  step.b = operands.size() > 1 ? 1 : 0;
  step.c = operands.size() > 2 ? 2 : 0;
  step.alpha = alpha;
  step.beta = beta;
  return graph.add_node(ops::kPointwise, operands, ir::AttributeBlob::of(program), std::move(provenance));
}

std::optional<ConstantWindow> constant_window(const Graph& graph, ValueId id) {
  std::vector<ValueId> views;
  while (!graph.value(id).is_constant()) {
    const Node* producer = graph.producer(id);
    if (producer == nullptr || producer->op->view == nullptr) return std::nullopt;
    views.push_back(id);
    id = producer->inputs[0];
  }
  if (graph.value(id).format != WeightFormat::Strided) return std::nullopt;
  ConstantWindow window{id, ops::dense_window(dims_of(graph, id))};
  for (auto it = views.rbegin(); it != views.rend(); ++it) {
    const Node& node = *graph.producer(*it);
    std::optional<ops::StridedView> view = node.op->view(node.attributes, window.view, dims_of(graph, *it));
    if (!view) return std::nullopt;
    window.view = std::move(*view);
  }
  return window;
}

std::optional<double> uniform_value(const Graph& graph, ValueId id) {
  const std::optional<ConstantWindow> window = constant_window(graph, id);
  if (!window) return std::nullopt;
  const ops::StridedView distinct = without_repeats(window->view);
  const std::int64_t count = ir::element_count(distinct.dims);
  if (count == 0 || count > kMostSearchedElements) return std::nullopt;
  const ir::Value& root = graph.value(window->root);
  const std::optional<double> first = element(root, distinct.offset);
  if (!first) return std::nullopt;
  const bool same =
      visit_window(distinct, [&](std::int64_t offset, const ir::Dims&) { return element(root, offset) == first; });
  return same ? first : std::nullopt;
}

bool is_uniform(const Graph& graph, ValueId id, double value) { return uniform_value(graph, id) == value; }

std::optional<std::vector<float>> vector_along(const Graph& graph, ValueId id, std::size_t axis) {
  if (type_of(graph, id).dtype != DType::F32) return std::nullopt;
  const std::optional<ConstantWindow> window = constant_window(graph, id);
  if (!window) return std::nullopt;
  ops::StridedView distinct = without_repeats(window->view);
  distinct.dims.at(axis) = window->view.dims[axis];
  const std::int64_t extent = distinct.dims[axis];
  const std::int64_t count = ir::element_count(distinct.dims);
  if (count == 0 || (count != extent && count > kMostSearchedElements)) return std::nullopt;
  const float* data = graph.value(window->root).constant.as<float>();
  std::vector<float> values(static_cast<std::size_t>(extent));
  for (std::int64_t i = 0; i < extent; ++i) {
    values[static_cast<std::size_t>(i)] = data[distinct.offset + i * distinct.strides[axis]];
  }
  const bool same = visit_window(distinct, [&](std::int64_t offset, const ir::Dims& index) {
    return data[offset] == values[static_cast<std::size_t>(index[axis])];
  });
  if (!same) return std::nullopt;
  return values;
}

ValueId add_floats(Graph& graph, const std::string& name, const ir::Dims& dims, const std::vector<float>& values) {
  return graph.add_constant(name, {DType::F32, dims}, ir::Bytes::copy(values.data(), values.size() * sizeof(float)));
}

void release_unread(Graph& graph, ValueId id) {
  if (graph.value(id).is_constant() && graph.users(id).empty() && !graph.is_output(id)) graph.value(id).constant = {};
}

void prune(Graph& graph, ValueId id) {
  std::vector<ValueId> open{id};
  while (!open.empty()) {
    const ValueId next = open.back();
    open.pop_back();
    if (next == kNone) continue;
    const NodeId producer = graph.value(next).producer;
    release_unread(graph, next);
    if (producer == kNone || !graph.node(producer).alive) continue;
    const Node& node = graph.node(producer);
    const bool read = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId output) {
      return !graph.users(output).empty() || graph.is_output(output);
    });
    if (read) continue;
    open.insert(open.end(), node.inputs.begin(), node.inputs.end());
    graph.erase(producer);
  }
}

void replace_value(Graph& graph, ValueId old, ValueId other) {
  const NodeId from = graph.value(old).producer;
  const NodeId to = graph.value(other).producer;
  if (from != kNone && to != kNone) {
    const std::vector<std::string> provenance = graph.node(from).provenance;
    graph.add_provenance(to, provenance);
  }
  graph.replace_uses(old, other);
  prune(graph, old);
}

void take_place(Graph& graph, ValueId old, ValueId fresh) {
  graph.value(fresh).name = graph.value(old).name;
  replace_value(graph, old, fresh);
}

std::string names_of(const Node& node) {
  std::string names;
  for (const std::string& each : node.provenance) names += (names.empty() ? "" : ", ") + each;
  return names.empty() ? node.op->name : names;
}

std::vector<std::string> joined_provenance(const Graph& graph, const std::vector<NodeId>& nodes) {
  std::vector<std::string> names;
  for (const NodeId id : nodes) {
    for (const std::string& each : graph.node(id).provenance) {
      if (std::find(names.begin(), names.end(), each) == names.end()) names.push_back(each);
    }
  }
  return names;
}

bool makes(const Graph& graph, const ops::OperatorDef& op, const std::vector<ValueId>& inputs,
           const ir::AttributeBlob& attributes, const ir::TensorType& type) {
  try {
    return op.infer({graph, inputs, attributes}) == std::vector<ir::TensorType>{type};
  } catch (const ir::BuildError&) {
    return false;
  }
}

ValueId add_reshape(Graph& graph, ValueId x, const ir::Dims& dims, std::vector<std::string> provenance) {
  if (dims_of(graph, x) == dims) return x;
  ops::ReshapeAttributes attributes{};
  ops::store_dims(dims, attributes.dims, attributes.rank);
  return add_view(graph, ops::kReshape, x, attributes, std::move(provenance));
}

ValueId add_expand(Graph& graph, ValueId x, const ir::Dims& dims, std::vector<std::string> provenance) {
  if (dims_of(graph, x) == dims) return x;
  ops::ExpandAttributes attributes{};
  ops::store_dims(dims, attributes.dims, attributes.rank);
  // Not folded: a constant stays as small as it is.
  const NodeId id = graph.add_node(ops::kExpand, {x}, ir::AttributeBlob::of(attributes), std::move(provenance));
  return graph.node(id).outputs[0];
}

ValueId add_transpose(Graph& graph, ValueId x, const std::vector<std::uint8_t>& perm,
                      std::vector<std::string> provenance) {
  if (std::is_sorted(perm.begin(), perm.end())) return x;
  ops::TransposeAttributes attributes{};
  std::copy(perm.begin(), perm.end(), attributes.perm);
  attributes.rank = static_cast<std::uint32_t>(perm.size());
  return add_view(graph, ops::kTranspose, x, attributes, std::move(provenance));
}

}  // namespace edgert::passes
