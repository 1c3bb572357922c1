// SPDX-License-Identifier: Apache-2.0
// ai.onnx.ml TreeEnsembleRegressor and TreeEnsembleClassifier, the forms that exporters of random forests and boosted
// trees write. Where ONNX's text is open, the results are those of ONNX Runtime.
#include <algorithm>
#include <map>
#include <set>

#include "ops/tree_ensemble.h"
#include "ops/classic_scores.h"

namespace edgert::ops {
namespace {

constexpr const char* kDomain = "ai.onnx.ml";

/// An attribute that may be given as floats or, in double, as a tensor.
std::vector<double> numbers(OnnxNode& node, const std::string& name) {
  const std::vector<float> floats = node.floats_or(name, {});
  return floats.empty() ? tensor_numbers(node, name + "_as_tensor") : std::vector<double>(floats.begin(), floats.end());
}

std::vector<std::int64_t> ints(const OnnxNode& node, const std::string& name, std::size_t count) {
  std::vector<std::int64_t> values = node.ints_or(name, {});
  if (values.size() != count) node.fail("attribute '" + name + "' must have " + std::to_string(count) + " entries");
  return values;
}

Mode mode_named(const OnnxNode& node, const std::string& name) {
  static const std::map<std::string, Mode> modes{
      {"BRANCH_LEQ", Mode::LessOrEqual}, {"BRANCH_LT", Mode::Less},   {"BRANCH_GTE", Mode::GreaterOrEqual}, {"BRANCH_GT", Mode::Greater},
      {"BRANCH_EQ", Mode::Equal},        {"BRANCH_NEQ", Mode::NotEqual}, {"LEAF", Mode::Leaf}};
  const auto found = modes.find(name);
  if (found == modes.end()) node.fail("a node's mode '" + name + "' is not known");
  return found->second;
}

/// Trees are named by a number, nodes by one that is unique within the tree. A tree's first node is its root.
class Reader {
 public:
  explicit Reader(OnnxNode& node) : node_(node) {
    const auto found = node.attributes.find("nodes_modes");
    if (found == node.attributes.end() || found->second.kind != OnnxNode::Attribute::Kind::Strings) node.fail("attribute 'nodes_modes' is missing");
    const std::vector<std::string>& modes = found->second.strings;
    const std::vector<std::int64_t> trees = ints(node, "nodes_treeids", modes.size());
    const std::vector<std::int64_t> ids = ints(node, "nodes_nodeids", modes.size());
    for (std::size_t i = 0; i < modes.size(); ++i) {
      const auto index = static_cast<std::int64_t>(i);
      if (!index_.emplace(std::make_pair(trees[i], ids[i]), index).second) node.fail("two nodes of a tree have one number");
      if (i == 0 || trees[i] != trees[i - 1]) ensemble.roots.push_back(index);
    }
    read_nodes(modes, trees);
  }

  /// What leaves add; `prefix` is that of their attributes. Returns the distinct targets.
  std::set<std::int64_t> read_leaves(const std::string& prefix) {
    const std::vector<double> weights = numbers(node_, prefix + "_weights");
    const std::vector<std::int64_t> trees = ints(node_, prefix + "_treeids", weights.size());
    const std::vector<std::int64_t> ids = ints(node_, prefix + "_nodeids", weights.size());
    const std::vector<std::int64_t> targets = ints(node_, prefix + "_ids", weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const std::int64_t at = find(trees[i], ids[i]);
      if (at < 0) node_.fail("a weight belongs to no node");
      ensemble.nodes[static_cast<std::size_t>(at)].weights.emplace_back(targets[i], weights[i]);
      all_positive = all_positive && weights[i] >= 0;
    }
    return std::set<std::int64_t>(targets.begin(), targets.end());
  }

  Ensemble ensemble;
  bool all_positive = true;  ///< weights

 private:
  std::int64_t find(std::int64_t tree, std::int64_t id) const {
    const auto found = index_.find({tree, id});
    return found == index_.end() ? -1 : found->second;
  }

  void read_nodes(const std::vector<std::string>& modes, const std::vector<std::int64_t>& trees) {
    const std::vector<std::int64_t> features = ints(node_, "nodes_featureids", modes.size());
    const std::vector<std::int64_t> yes = ints(node_, "nodes_truenodeids", modes.size());
    const std::vector<std::int64_t> no = ints(node_, "nodes_falsenodeids", modes.size());
    const std::vector<double> splits = numbers(node_, "nodes_values");
    std::vector<std::int64_t> missing(modes.size(), 0);
    if (!node_.ints_or("nodes_missing_value_tracks_true", {}).empty()) missing = ints(node_, "nodes_missing_value_tracks_true", modes.size());
    if (splits.size() != modes.size()) node_.fail("attribute 'nodes_values' must have " + std::to_string(modes.size()) + " entries");
    for (std::size_t i = 0; i < modes.size(); ++i) {
      const auto self = static_cast<std::int64_t>(i);
      const Mode mode = mode_named(node_, modes[i]);
      if (mode == Mode::Leaf) {
        ensemble.nodes.push_back({mode, 0, 0, self, self, false, {}});
      } else {
        ensemble.nodes.push_back({mode, features[i], splits[i], find(trees[i], yes[i]), find(trees[i], no[i]), missing[i] != 0, {}});
      }
    }
  }

  OnnxNode& node_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> index_;  ///< by tree and number
};

ValueId samples(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  return dtype == DType::F64 ? node.input(0) : cast(node, node.input(0), DType::F32);
}

/// y [rows, targets] plus one number a target.
ValueId with_base(OnnxNode& node, ValueId y, const std::vector<double>& base) {
  if (base.empty()) return y;
  const auto count = static_cast<std::int64_t>(base.size());
  if (count != dims_of(node, y)[1]) node.fail("base_values has " + std::to_string(count) + " entries, not " + std::to_string(dims_of(node, y)[1]));
  const ValueId values = float_constant(node, {count}, std::vector<float>(base.begin(), base.end()));
  return binary(node, PointwiseOp::Add, y, cast(node, values, dtype_of(node, y)));
}

void import_regressor(OnnxNode& node) {
  Reader reader(node);
  Ensemble& ensemble = reader.ensemble;
  ensemble.targets = to_int32(node.int_or("n_targets", 1), 1, "attribute 'n_targets'");
  static const std::map<std::string, Aggregate> aggregates{
      {"SUM", Aggregate::Sum}, {"AVERAGE", Aggregate::Average}, {"MIN", Aggregate::Min}, {"MAX", Aggregate::Max}};
  const auto aggregate = aggregates.find(node.string_or("aggregate_function", "SUM"));
  if (aggregate == aggregates.end()) node.fail("the aggregate_function is not known");
  ensemble.aggregate = aggregate->second;
  reader.read_leaves("target");
  const ValueId y = with_base(node, evaluate_trees(node, samples(node), ensemble), numbers(node, "base_values"));
  node.set_output(0, cast(node, transformed_scores(node, y), DType::F32));
}

/// With two classes of which leaves name only one, the trees make one score: a probability when no weight is negative,
/// else a margin.
void import_classifier(OnnxNode& node) {
  Reader reader(node);
  const std::int64_t classes = class_count(node);
  const std::set<std::int64_t> named = reader.read_leaves("class");
  const std::vector<double> base = numbers(node, "base_values");
  reader.ensemble.targets = classes;
  const bool one_score = classes == 2 && named.size() == 1;
  if (!one_score) {
    const ValueId y = with_base(node, evaluate_trees(node, samples(node), reader.ensemble), base);
    return set_classes(node, transformed_scores(node, y), largest_class(node, y));
  }
  for (TreeNode& each : reader.ensemble.nodes) {
    for (auto& weight : each.weights) weight.first = 0;
  }
  reader.ensemble.targets = 1;
  const ValueId score = with_base(node, evaluate_trees(node, samples(node), reader.ensemble),
                                  base.size() == 2 ? std::vector<double>{base[1]} : base);
  set_two_classes(node, score, reader.all_positive);
}

}  // namespace

void register_classic_trees(Registry& registry) {
  registry.add_onnx("TreeEnsembleRegressor", &import_regressor, 1, 1 << 30, kDomain);
  registry.add_onnx("TreeEnsembleClassifier", &import_classifier, 1, 1 << 30, kDomain);
}

}  // namespace edgert::ops
