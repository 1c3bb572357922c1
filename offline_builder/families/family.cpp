// SPDX-License-Identifier: Apache-2.0
#include "families/family.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "edgert/scalar/convert.h"
#include "ir/windows.h"

namespace edgert::families {
namespace {

/// Bytes to the first element, as a power of two that divides them.
std::uint32_t alignment_of(std::uint64_t offset, std::uint32_t limit) {
  std::uint32_t alignment = limit;
  while (offset % alignment != 0) alignment /= 2;
  return alignment;
}

float element_at(const ir::Bytes& bytes, DType dtype, std::int64_t index) {
  const auto read = [&](auto zero) {
    std::memcpy(&zero, bytes.data() + static_cast<std::size_t>(index) * sizeof(zero), sizeof(zero));
    return zero;
  };
  switch (dtype) {
    case DType::F32: return read(0.0f);
    case DType::F64: return static_cast<float>(read(0.0));
    case DType::F16: return scalar::to_float(read(scalar::Half{}));
    case DType::BF16: return scalar::to_float(read(scalar::BFloat16{}));
    default: throw std::logic_error("a constant of type " + std::string(to_string(dtype)) + " is no floating-point one");
  }
}

}  // namespace

bool Context::wants_floats(const ir::Node& node) const {
  return precisions_ == nullptr || stored_as(precisions_->of(graph_.value(node.outputs[0]).producer)) == DType::F32;
}

bool Context::rounds(const ir::Node& node) const { return precisions_ != nullptr && precisions_->rounds(graph_.value(node.outputs[0]).producer); }

Operand Context::operand(ir::ValueId id) const {
  Operand operand;
  if (id == ir::kNone) return operand;
  const ir::Value& value = graph_.value(id);
  operand.value = id;
  operand.dims = value.type.dims;
  operand.extents = value.extents;
  for (const Supposed& supposed : supposed_) {
    if (supposed.value != id) continue;
    operand.dtype = supposed.stored;
    operand.strides = ir::ordered_strides(value.type.dims, value.order);
    operand.alignment = 256;
    return operand;
  }
  const std::optional<ir::Window> window =
      value.format == WeightFormat::Strided ? ir::Windows(graph_).find(id) : std::nullopt;
  if (!window) throw std::logic_error("'" + value.name + "' has no place in memory");
  const ir::Value& root = graph_.value(window->root);
  operand.dtype = root.stored_type();
  operand.constant = root.is_constant();
  operand.strides = window->view.strides;
  for (std::size_t i = 0; i < operand.strides.size(); ++i) {
    if (operand.dims[i] == 1) operand.strides[i] = 1;
  }
  const auto offset = static_cast<std::uint64_t>(window->view.offset) * (bits_of(operand.dtype) / 8);
  operand.alignment = alignment_of(offset, operand.constant ? 64 : 256);
  return operand;
}

Operand Context::input(const ir::Node& node, std::size_t i) const {
  return operand(i < node.inputs.size() ? node.inputs[i] : ir::kNone);
}

ir::NodeId Context::sole_producer(ir::ValueId value) const {
  while (value != ir::kNone && graph_.has_single_use(value)) {
    const ir::NodeId id = graph_.value(value).producer;
    if (id == ir::kNone) return ir::kNone;
    const ir::Node& node = graph_.node(id);
    if (ir::is_concat(*node.op)) return ir::kNone;
    if (node.op->view == nullptr) return node.outputs.size() == 1 ? id : ir::kNone;
    value = node.inputs[0];
  }
  return ir::kNone;
}

bool Context::can_cover(ir::NodeId node, const std::vector<ir::NodeId>& nodes) const {
  if (position_.empty()) {
    position_.resize(graph_.node_count());
    const std::vector<ir::NodeId> order = graph_.topological_order();
    for (std::size_t i = 0; i < order.size(); ++i) position_[order[i]] = i;
  }
  const auto in_time = [&](ir::NodeId reader) {
    return reader == node || position_[reader] > position_[node] || std::find(nodes.begin(), nodes.end(), reader) != nodes.end();
  };
  for (const ir::NodeId id : nodes) {
    if (is_taken(id)) return false;
    std::vector<ir::ValueId> values = graph_.node(id).outputs;
    while (!values.empty()) {
      const ir::ValueId value = values.back();
      values.pop_back();
      if (value == ir::kNone) continue;
      for (const ir::NodeId user : graph_.users(value)) {
        const ir::Node& reader = graph_.node(user);
        if (reader.op->view != nullptr || ir::is_concat(*reader.op)) {
          values.insert(values.end(), reader.outputs.begin(), reader.outputs.end());
        } else if (!in_time(user)) {
          return false;
        }
      }
    }
  }
  return true;
}

std::vector<float> Context::constant_floats(ir::ValueId value) const {
  const std::optional<ir::Window> window = ir::Windows(graph_).find(value);
  if (!window || !graph_.value(window->root).is_constant()) throw std::logic_error("'" + graph_.value(value).name + "' is no constant");
  const ir::Value& root = graph_.value(window->root);
  const ir::Dims& dims = window->view.dims;
  std::vector<float> out(static_cast<std::size_t>(ir::element_count(dims)));
  std::vector<std::int64_t> index(dims.size(), 0);
  for (float& element : out) {
    std::int64_t at = window->view.offset;
    for (std::size_t d = 0; d < dims.size(); ++d) at += index[d] * window->view.strides[d];
    element = element_at(root.constant, root.type.dtype, at);
    for (std::size_t d = dims.size(); d-- > 0 && ++index[d] == dims[d];) index[d] = 0;
  }
  return out;
}

std::vector<Candidate> Context::refuse(const std::string& reason) const {
  if (std::find(reasons_.begin(), reasons_.end(), reason) == reasons_.end()) reasons_.push_back(reason);
  return {};
}

std::vector<std::string> Context::take_reasons() const {
  std::vector<std::string> reasons;
  reasons.swap(reasons_);
  return reasons;
}

std::vector<Candidate> Context::refuse_fusion(const std::string& reason) const {
  fusion_reasons_.push_back(reason);
  return refuse(reason);
}

std::vector<std::string> Context::take_fusion_reasons() const {
  std::vector<std::string> reasons;
  reasons.swap(fusion_reasons_);
  return reasons;
}

const Registry& Registry::instance() {
  static const Registry registry = [] {
    Registry all;
    register_all(all);
    std::sort(all.families_.begin(), all.families_.end(), [](const Family& a, const Family& b) {
      return a.rank != b.rank ? a.rank < b.rank : std::strcmp(a.name, b.name) < 0;
    });
    return all;
  }();
  return registry;
}

}  // namespace edgert::families
