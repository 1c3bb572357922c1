// SPDX-License-Identifier: Apache-2.0
// Decision trees, whichever of ai.onnx.ml's operators they come from.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ops/compose.h"

namespace edgert::ops {

/// Numbers as in TreeEnsemble's nodes_modes.
enum class Mode : std::uint8_t { LessOrEqual, Less, GreaterOrEqual, Greater, Equal, NotEqual, Member, Leaf };

/// Of all trees; `yes` and `no` are indices of nodes.
struct TreeNode {
  Mode mode = Mode::Leaf;
  std::int64_t feature = 0;
  double split = 0;
  std::int64_t yes = 0;
  std::int64_t no = 0;
  bool missing_is_yes = false;  ///< where a NaN goes
  std::vector<std::pair<std::int64_t, double>> weights;  ///< of a leaf: target and what it adds
};

enum class Aggregate { Average, Sum, Min, Max };

/// Node indices, features and targets need not exist: evaluate_trees() checks them.
struct Ensemble {
  std::vector<TreeNode> nodes;
  std::vector<std::int64_t> roots;
  std::int64_t targets = 0;
  Aggregate aggregate = Aggregate::Sum;
};

/// Sums (or what `aggregate` says) of the leaves that each row of the samples `x`, [rows, features] of float or double,
/// comes to: [rows, targets]. Fails when the ensemble names what does not exist, or its nodes form a cycle.
ValueId evaluate_trees(OnnxNode& node, ValueId x, const Ensemble& ensemble);

/// A tensor attribute as numbers; empty when it is absent.
std::vector<double> tensor_numbers(OnnxNode& node, const std::string& name);

}  // namespace edgert::ops
