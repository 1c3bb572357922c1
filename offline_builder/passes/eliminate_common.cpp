// SPDX-License-Identifier: Apache-2.0
// Nodes with the same operator, attributes and operands compute the same: the first one serves all readers. So do equal
// constants, which exporters like to repeat.
#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_map>

#include "passes/pattern.h"
#include "passes/pipeline.h"

namespace edgert::passes {
namespace {

template <class T>
void append(std::string& key, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  key.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// FNV-1a over words: picks the candidates, which are then compared.
std::uint64_t hash_of(const ir::Bytes& bytes) {
  std::uint64_t hash = 14695981039346656037u;
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, 8);
    hash = (hash ^ word) * 1099511628211u;
    hash ^= hash >> 29;
  }
  for (; at < bytes.size(); ++at) hash = (hash ^ static_cast<std::uint64_t>(bytes.data()[at])) * 1099511628211u;
  return hash;
}

bool same_constant(const ir::Value& a, const ir::Value& b) {
  if (a.type != b.type || a.format != b.format || a.constant.size() != b.constant.size()) return false;
  return a.constant.data() == b.constant.data() || a.constant.size() == 0 ||
         std::memcmp(a.constant.data(), b.constant.data(), a.constant.size()) == 0;
}

int merge_constants(Graph& graph) {
  int merged = 0;
  std::unordered_map<std::uint64_t, std::vector<ValueId>> by_hash;
  for (ValueId id = 0; id < graph.value_count(); ++id) {
    const ir::Value& value = graph.value(id);
    if (!value.is_constant() || graph.users(id).empty()) continue;
    std::vector<ValueId>& candidates = by_hash[hash_of(value.constant)];
    const auto equal = std::find_if(candidates.begin(), candidates.end(),
                                    [&](ValueId other) { return same_constant(graph.value(other), value); });
    if (equal == candidates.end()) {
      candidates.push_back(id);
    } else {
      graph.replace_uses(id, *equal);
      ++merged;
    }
  }
  return merged;
}

bool is_commutative(PointwiseOp op) {
  switch (op) {
    case PointwiseOp::Add:
    case PointwiseOp::Mul:
    case PointwiseOp::Min:
    case PointwiseOp::Max:
    case PointwiseOp::And:
    case PointwiseOp::Or:
    case PointwiseOp::Xor:
    case PointwiseOp::BitAnd:
    case PointwiseOp::BitOr:
    case PointwiseOp::BitXor:
    case PointwiseOp::Equal: return true;
    default: return false;
  }
}

/// Equal keys, equal results.
std::string key_of(const Node& node) {
  std::string key;
  append(key, node.op);
  std::vector<ValueId> inputs = node.inputs;
  // Bodies are not compared: no two nodes that have some are taken to be equal.
  if (!node.bodies.empty()) append(key, node.bodies.data());
  const PointwiseStep* step = single_instruction(node);
  // Where the order of two operands does not matter, the lower number comes first.
  if (step != nullptr && is_commutative(step->op) && inputs.size() == 2) std::sort(inputs.begin(), inputs.end());
  for (const ValueId input : inputs) append(key, input);
  key.append(reinterpret_cast<const char*>(node.attributes.bytes().data()), node.attributes.bytes().size());
  return key;
}

int merge_nodes(Graph& graph) {
  int merged = 0;
  std::unordered_map<std::string, NodeId> first;
  for (const NodeId id : graph.topological_order()) {
    const auto [found, fresh] = first.emplace(key_of(graph.node(id)), id);
    if (fresh) continue;
    const std::vector<ValueId> outputs = graph.node(id).outputs;
    const std::vector<std::string> provenance = graph.node(id).provenance;
    graph.add_provenance(found->second, provenance);
    for (std::size_t i = 0; i < outputs.size(); ++i)
      graph.replace_uses(outputs[i], graph.node(found->second).outputs[i]);
    graph.erase(id);
    ++merged;
  }
  return merged;
}

}  // namespace

int eliminate_common(ir::Graph& graph) {
  const int constants = merge_constants(graph);
  return constants + merge_nodes(graph);
}

}  // namespace edgert::passes
