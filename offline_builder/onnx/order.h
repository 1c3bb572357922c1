// SPDX-License-Identifier: Apache-2.0
// The order in which nodes are imported. ONNX promises that nodes come sorted; files that break the promise are sorted.
#pragma once

#include <vector>

#include "onnx/proto.h"

namespace edgert::onnx_import {

struct NodeOrder {
  std::vector<int> order;  ///< indices of nodes, each after those whose outputs it or its subgraphs read
  std::vector<int> stuck;  ///< nodes in cycles or behind them
  std::vector<int> cycle;  ///< one cycle, in the order of the data; empty when there is none
};

/// In the given order wherever that is possible. O(n log n) at worst.
NodeOrder order_nodes(const Repeated<proto::NodeProto>& nodes);

}  // namespace edgert::onnx_import
