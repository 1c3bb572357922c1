// SPDX-License-Identifier: Apache-2.0
// Decision trees and ai.onnx.ml TreeEnsemble. All samples walk down all trees at once: a matrix of node numbers,
// replaced step by step through tables that say for each node what it compares and where it leads. Leaves lead to
// themselves.
#include "ops/tree_ensemble.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "edgert/cpu/ops/reduce.h"

namespace edgert::ops {
namespace {

constexpr const char* kDomain = "ai.onnx.ml";
constexpr std::int64_t kMostSteps = 1024;

/// Comparisons on the longest way from a root to a leaf; fails when nodes form a cycle.
std::int64_t longest_way(const OnnxNode& node, const Ensemble& ensemble) {
  enum : std::int64_t { kUnseen = -1, kOpen = -2 };
  std::vector<std::int64_t> height(ensemble.nodes.size(), kUnseen);
  std::int64_t longest = 0;
  for (const std::int64_t root : ensemble.roots) {
    std::vector<std::int64_t> open{root};
    while (!open.empty()) {
      const auto at = static_cast<std::size_t>(open.back());
      const TreeNode& current = ensemble.nodes[at];
      const std::int64_t below[] = {current.yes, current.no};
      if (current.mode == Mode::Leaf) height[at] = 0;
      if (height[at] == kUnseen) {
        height[at] = kOpen;
        for (const std::int64_t child : below) {
          if (height[static_cast<std::size_t>(child)] == kOpen) node.fail("the nodes of a tree form a cycle");
          if (height[static_cast<std::size_t>(child)] == kUnseen) open.push_back(child);
        }
        continue;
      }
      open.pop_back();
      if (height[at] == kOpen)
        height[at] = 1 + std::max(height[static_cast<std::size_t>(below[0])], height[static_cast<std::size_t>(below[1])]);
      longest = std::max(longest, height[at]);
    }
  }
  if (longest > kMostSteps) node.fail("trees of more than " + std::to_string(kMostSteps) + " levels are not supported");
  return longest;
}

/// The walk, in the type of the samples.
class Walk {
 public:
  Walk(OnnxNode& node, ValueId x, const Ensemble& ensemble)
      : node_(node), ensemble_(ensemble), dtype_(dtype_of(node, x)), samples_(dims_of(node, x)[0]),
        features_(dims_of(node, x)[1]), flat_(reshape(node, x, {samples_ * features_})) {}

  /// [samples, targets]
  ValueId run() {
    const auto trees = static_cast<std::int64_t>(ensemble_.roots.size());
    ValueId at = expand(node_, int64_constant(node_, {1, trees}, ensemble_.roots), {samples_, trees});
    for (std::int64_t steps = longest_way(node_, ensemble_); steps > 0; --steps) at = step(at);
    return aggregated(gather(node_, leaf_table(), at, 0));
  }

 private:
  template <class Function>
  ValueId ints(Function function) {
    std::vector<std::int64_t> values;
    for (const TreeNode& each : ensemble_.nodes) values.push_back(function(each));
    return int64_constant(node_, {static_cast<std::int64_t>(values.size())}, values);
  }
  template <class Function>
  ValueId flags(ValueId at, Function function) {
    const ValueId table = ints([&](const TreeNode& each) { return function(each) ? 1 : 0; });
    return cast(node_, gather(node_, table, at, 0), DType::Bool);
  }
  ValueId numbers(const Dims& dims, const std::vector<double>& values) {
    const ir::Bytes bytes = ir::Bytes::copy(values.data(), values.size() * sizeof(double));
    return cast(node_, constant(node_, {DType::F64, dims}, bytes), dtype_);
  }

  ValueId step(ValueId at) {
    checked_constant_size(node_, {samples_});
    std::vector<std::int64_t> first = iota(samples_);
    for (std::int64_t& row : first) row *= features_;
    const ValueId feature = gather(node_, ints([](const TreeNode& each) { return each.feature; }), at, 0);
    const ValueId rows = int64_constant(node_, {samples_, 1}, first);
    const ValueId x = gather(node_, flat_, binary(node_, PointwiseOp::Add, rows, feature), 0);
    std::vector<double> splits;
    for (const TreeNode& each : ensemble_.nodes) splits.push_back(each.split);
    const ValueId split = gather(node_, numbers({static_cast<std::int64_t>(splits.size())}, splits), at, 0);
    const ValueId yes = gather(node_, ints([](const TreeNode& each) { return each.yes; }), at, 0);
    const ValueId no = gather(node_, ints([](const TreeNode& each) { return each.no; }), at, 0);
    return select(node_, decision(at, x, split), yes, no);
  }

  ValueId compare(Mode mode, ValueId x, ValueId split) {
    switch (mode) {
      case Mode::LessOrEqual: return binary(node_, PointwiseOp::LessOrEqual, x, split);
      case Mode::Less: return binary(node_, PointwiseOp::Less, x, split);
      case Mode::GreaterOrEqual: return binary(node_, PointwiseOp::GreaterOrEqual, x, split);
      case Mode::Greater: return binary(node_, PointwiseOp::Greater, x, split);
      case Mode::Equal: return binary(node_, PointwiseOp::Equal, x, split);
      default: return unary(node_, PointwiseOp::Not, binary(node_, PointwiseOp::Equal, x, split));
    }
  }

  /// Whether each sample takes the branch `yes`. Mostly all nodes compare in the same way.
  ValueId decision(ValueId at, ValueId x, ValueId split) {
    std::map<Mode, bool> modes;
    bool missing = false;
    for (const TreeNode& each : ensemble_.nodes) {
      if (each.mode != Mode::Leaf) modes[each.mode] = true;
      missing = missing || each.missing_is_yes;
    }
    ValueId result = ir::kNone;
    for (const auto& entry : modes) {
      const Mode mode = entry.first;
      ValueId hit = compare(mode, x, split);
      if (modes.size() > 1) {
        const ValueId own = flags(at, [mode](const TreeNode& each) { return each.mode == mode; });
        hit = binary(node_, PointwiseOp::And, hit, own);
      }
      result = result == ir::kNone ? hit : binary(node_, PointwiseOp::Or, result, hit);
    }
    if (!missing) return result;
    const ValueId follows = flags(at, [](const TreeNode& each) { return each.missing_is_yes; });
    const ValueId absent = binary(node_, PointwiseOp::And, unary(node_, PointwiseOp::IsNan, x), follows);
    return binary(node_, PointwiseOp::Or, result, absent);
  }

  /// What each node adds to each target; where it says nothing, what changes nothing.
  ValueId leaf_table() {
    const double most = dtype_ == DType::F64 ? std::numeric_limits<double>::max()
                                             : static_cast<double>(std::numeric_limits<float>::max());
    const double neutral = ensemble_.aggregate == Aggregate::Min ? most : ensemble_.aggregate == Aggregate::Max ? -most : 0;
    const Dims dims{static_cast<std::int64_t>(ensemble_.nodes.size()), ensemble_.targets};
    std::vector<double> table(static_cast<std::size_t>(checked_constant_size(node_, dims)), neutral);
    for (std::size_t i = 0; i < ensemble_.nodes.size(); ++i) {
      for (const auto& [target, weight] : ensemble_.nodes[i].weights)
        table[i * static_cast<std::size_t>(ensemble_.targets) + static_cast<std::size_t>(target)] = weight;
    }
    return numbers(dims, table);
  }

  /// [samples, trees, targets] over the trees.
  ValueId aggregated(ValueId leaves) {
    const auto over_trees = [&](cpu::ReduceKind kind) {
      return reduce(node_, static_cast<unsigned>(kind), leaves, {1}, false);
    };
    switch (ensemble_.aggregate) {
      case Aggregate::Average: return over_trees(cpu::ReduceKind::Mean);
      case Aggregate::Min: return over_trees(cpu::ReduceKind::Min);
      case Aggregate::Max: return over_trees(cpu::ReduceKind::Max);
      default: return over_trees(cpu::ReduceKind::Sum);
    }
  }

  OnnxNode& node_;
  const Ensemble& ensemble_;
  const DType dtype_;
  const std::int64_t samples_, features_;
  const ValueId flat_;
};

void check_samples(const OnnxNode& node, ValueId x) {
  const ir::TensorType& type = node.graph.value(x).type;
  if (type.dims.size() != 2) node.fail("the samples must have rank 2");
  if (type.dtype != DType::F32 && type.dtype != DType::F64)
    node.fail(std::string("samples must be float or double, not ") + edgert::to_string(type.dtype));
}

/// Every index that a walk will use.
void check_indices(const OnnxNode& node, const Ensemble& ensemble, std::int64_t features) {
  const auto count = static_cast<std::int64_t>(ensemble.nodes.size());
  const auto inside = [](std::int64_t i, std::int64_t limit) { return i >= 0 && i < limit; };
  if (ensemble.roots.empty()) node.fail("there are no trees");
  if (ensemble.targets < 1) node.fail("there are no targets");
  bool fits = true;
  for (const std::int64_t root : ensemble.roots) fits = fits && inside(root, count);
  for (const TreeNode& each : ensemble.nodes) {
    fits = fits && inside(each.yes, count) && inside(each.no, count) && inside(each.feature, features);
    for (const auto& weight : each.weights) fits = fits && inside(weight.first, ensemble.targets);
  }
  if (!fits) node.fail("a tree names a node, a feature or a target that does not exist");
}

ValueId transformed(OnnxNode& node, ValueId y, const std::string& transform) {
  if (transform == "NONE") return y;
  if (transform == "LOGISTIC") return unary(node, PointwiseOp::Sigmoid, y);
  node.fail("post_transform " + transform + " is not supported");
}

/// TreeEnsemble's attributes; those of nodes have one entry for each.
struct Attributes {
  std::vector<double> modes, splits, weights, members;
  std::vector<std::int64_t> features, ids[2], leafs[2], targets, missing;
};

Attributes read_attributes(OnnxNode& node) {
  Attributes a;
  a.modes = tensor_numbers(node, "nodes_modes");
  a.splits = tensor_numbers(node, "nodes_splits");
  a.weights = tensor_numbers(node, "leaf_weights");
  a.members = tensor_numbers(node, "membership_values");
  const auto list = [&](const char* name, std::size_t size) {
    std::vector<std::int64_t> values = node.ints_or(name, {});
    if (values.size() != size) node.fail(std::string("attribute '") + name + "' must have " + std::to_string(size) + " entries");
    return values;
  };
  const std::size_t count = a.modes.size();
  if (a.splits.size() != count) node.fail("attribute 'nodes_splits' must have " + std::to_string(count) + " entries");
  a.features = list("nodes_featureids", count);
  a.ids[0] = list("nodes_truenodeids", count);
  a.ids[1] = list("nodes_falsenodeids", count);
  a.leafs[0] = list("nodes_trueleafs", count);
  a.leafs[1] = list("nodes_falseleafs", count);
  a.targets = list("leaf_targetids", a.weights.size());
  a.missing.assign(count, 0);
  if (node.has("nodes_missing_value_tracks_true")) a.missing = list("nodes_missing_value_tracks_true", count);
  return a;
}

/// A test for one of several values, from `members` on, as a chain of tests for one: `first`, and the others behind all
/// nodes.
void make_chain(const OnnxNode& node, TreeNode& first, const std::vector<double>& members, std::size_t& next,
                std::vector<TreeNode>& nodes) {
  std::vector<double> values;
  while (next < members.size() && !std::isnan(members[next])) values.push_back(members[next++]);
  if (next++ >= members.size() || values.empty()) node.fail("membership_values does not fit the nodes");
  first.mode = Mode::Equal;
  for (std::size_t k = values.size(); k-- > 1;) {
    first.split = values[k];
    nodes.push_back(first);
    first.no = static_cast<std::int64_t>(nodes.size()) - 1;
  }
  first.split = values[0];
}

/// Nodes in this order: TreeEnsemble's nodes, its leaves, links of chains. An index of something that does not exist
/// becomes -1.
Ensemble read_ensemble(OnnxNode& node) {
  const Attributes a = read_attributes(node);
  Ensemble ensemble;
  ensemble.targets = node.required_int("n_targets");
  const std::int64_t aggregate = node.int_or("aggregate_function", 1);
  if (aggregate < 0 || aggregate > 3) node.fail("aggregate_function " + std::to_string(aggregate) + " is not known");
  ensemble.aggregate = static_cast<Aggregate>(aggregate);
  const auto count = static_cast<std::int64_t>(a.modes.size());
  const auto leaves = static_cast<std::int64_t>(a.weights.size());
  ensemble.nodes.resize(a.modes.size() + a.weights.size());
  std::size_t member = 0;
  for (std::size_t i = 0; i < a.modes.size(); ++i) {
    const auto next = [&](int side) {
      const std::int64_t id = a.ids[side][i];
      if (a.leafs[side][i] != 0) return id >= 0 && id < leaves ? count + id : -1;
      return id < count ? id : -1;
    };
    if (!(a.modes[i] >= 0 && a.modes[i] <= 6)) node.fail("a node's mode is not known");
    TreeNode made{static_cast<Mode>(static_cast<int>(a.modes[i])), a.features[i], a.splits[i], next(0), next(1), a.missing[i] != 0, {}};
    if (made.mode == Mode::Member) make_chain(node, made, a.members, member, ensemble.nodes);
    ensemble.nodes[i] = made;
  }
  for (std::size_t i = 0; i < a.weights.size(); ++i) {
    const std::int64_t self = count + static_cast<std::int64_t>(i);
    ensemble.nodes[a.modes.size() + i] = {Mode::Leaf, 0, 0, self, self, false, {{a.targets[i], a.weights[i]}}};
  }
  for (const std::int64_t root : node.ints_or("tree_roots", {})) ensemble.roots.push_back(root < count ? root : -1);
  return ensemble;
}

void import_tree_ensemble(OnnxNode& node) {
  const Ensemble ensemble = read_ensemble(node);
  static constexpr const char* kTransforms[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  const std::int64_t transform = node.int_or("post_transform", 0);
  if (transform < 0 || transform > 4) node.fail("post_transform " + std::to_string(transform) + " is not known");
  node.set_output(0, transformed(node, evaluate_trees(node, node.input(0), ensemble), kTransforms[transform]));
}

}  // namespace

ValueId evaluate_trees(OnnxNode& node, ValueId x, const Ensemble& ensemble) {
  check_samples(node, x);
  check_indices(node, ensemble, dims_of(node, x)[1]);
  return Walk(node, x, ensemble).run();
}

std::vector<double> tensor_numbers(OnnxNode& node, const std::string& name) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return {};
  if (found->second.kind != OnnxNode::Attribute::Kind::Tensor) node.fail("attribute '" + name + "' must be a tensor");
  const ValueId given = constant(node, found->second.tensor_type, found->second.tensor);
  const ir::Value& value = node.graph.value(cast(node, given, DType::F64));
  if (!value.is_constant()) node.fail("attribute '" + name + "' is too large");
  const double* data = value.constant.as<double>();
  return std::vector<double>(data, data + ir::element_count(value.type.dims));
}

void register_tree_ensemble(Registry& registry) {
  registry.add_onnx("TreeEnsemble", &import_tree_ensemble, 5, 1 << 30, kDomain);
}

}  // namespace edgert::ops
