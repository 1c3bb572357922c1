// SPDX-License-Identifier: Apache-2.0
#include "onnx/order.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace edgert::onnx_import {
namespace {

using Names = std::vector<std::string_view>;

void append_reads(const proto::NodeProto& node, Names& reads);

/// Names that a subgraph reads from outside. The parser bounded the depth of this recursion.
void append_captures(const proto::GraphProto& graph, Names& reads) {
  std::unordered_set<std::string_view> own;
  for (const auto& input : graph.input()) own.insert(input.name());
  for (const auto& tensor : graph.initializer()) own.insert(tensor.name());
  for (const auto& sparse : graph.sparse_initializer()) own.insert(sparse.values().name());
  for (const auto& node : graph.node()) own.insert(node.output().begin(), node.output().end());
  Names inner;
  for (const auto& node : graph.node()) append_reads(node, inner);
  for (const auto& output : graph.output()) inner.push_back(output.name());
  std::copy_if(inner.begin(), inner.end(), std::back_inserter(reads),
               [&own](std::string_view name) { return own.count(name) == 0; });
}

void append_reads(const proto::NodeProto& node, Names& reads) {
  reads.insert(reads.end(), node.input().begin(), node.input().end());
  for (const auto& attribute : node.attribute()) {
    if (attribute.has_g()) append_captures(attribute.g(), reads);
    for (const auto& graph : attribute.graphs()) append_captures(graph, reads);
  }
}

/// Indices of the nodes that make what each node reads.
std::vector<std::vector<int>> predecessors_of(const Repeated<proto::NodeProto>& nodes) {
  std::unordered_map<std::string_view, int> makers;
  for (int i = 0; i < nodes.size(); ++i) {
    for (const std::string& output : nodes[i].output()) {
      if (!output.empty()) makers.emplace(output, i);
    }
  }
  std::vector<std::vector<int>> predecessors(static_cast<std::size_t>(nodes.size()));
  Names reads;
  for (int i = 0; i < nodes.size(); ++i) {
    reads.clear();
    append_reads(nodes[i], reads);
    for (const std::string_view name : reads) {
      const auto it = makers.find(name);
      if (it != makers.end()) predecessors[static_cast<std::size_t>(i)].push_back(it->second);
    }
  }
  return predecessors;
}

/// Walks back from a stuck node, which always has a stuck predecessor, until a node comes twice.
std::vector<int> find_cycle(const std::vector<std::vector<int>>& predecessors, const std::vector<bool>& placed,
                            int start) {
  std::vector<int> path;
  std::unordered_map<int, std::size_t> position;
  int at = start;
  while (position.emplace(at, path.size()).second) {
    path.push_back(at);
    const std::vector<int>& before = predecessors[static_cast<std::size_t>(at)];
    at = *std::find_if(before.begin(), before.end(), [&](int i) { return !placed[static_cast<std::size_t>(i)]; });
  }
  path.erase(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(position[at]));
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace

NodeOrder order_nodes(const Repeated<proto::NodeProto>& nodes) {
  const auto count = static_cast<std::size_t>(nodes.size());
  const std::vector<std::vector<int>> predecessors = predecessors_of(nodes);
  std::vector<std::vector<int>> successors(count);
  std::vector<std::size_t> missing(count);
  std::priority_queue<int, std::vector<int>, std::greater<>> ready;
  for (std::size_t i = 0; i < count; ++i) {
    missing[i] = predecessors[i].size();
    if (missing[i] == 0) ready.push(static_cast<int>(i));
    for (const int before : predecessors[i])
      successors[static_cast<std::size_t>(before)].push_back(static_cast<int>(i));
  }
  NodeOrder result;
  std::vector<bool> placed(count, false);
  while (!ready.empty()) {
    const int i = ready.top();
    ready.pop();
    placed[static_cast<std::size_t>(i)] = true;
    result.order.push_back(i);
    for (const int after : successors[static_cast<std::size_t>(i)]) {
      if (--missing[static_cast<std::size_t>(after)] == 0) ready.push(after);
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (!placed[i]) result.stuck.push_back(static_cast<int>(i));
  }
  if (!result.stuck.empty()) result.cycle = find_cycle(predecessors, placed, result.stuck.front());
  return result;
}

}  // namespace edgert::onnx_import
