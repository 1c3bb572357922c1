// SPDX-License-Identifier: Apache-2.0
// ONNX NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: a selection of one class's score by comparison.
#include "edgert/cpu/ops/reduce.h"
#include "edgert/cpu/ops/softmax.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// Loss of scores (log probabilities) [N, C, ...] for targets [N, ...]; weights [C] or kNone.
ValueId negative_log_likelihood(OnnxNode& node, ValueId scores, ValueId targets, ValueId weights) {
  const Dims dims = dims_of(node, scores);
  const DType dtype = dtype_of(node, scores);
  if (dims.size() < 2) node.fail("the input must have rank 2 or more, not " + std::to_string(dims.size()));
  Dims target_dims = dims;
  target_dims.erase(target_dims.begin() + 1);
  require_dims(dims_of(node, targets), target_dims, "the target");
  checked_constant_size(node, {dims[1]});
  Dims lifted = dims;
  lifted[1] = 1;

  const ValueId target = reshape(node, cast(node, targets, DType::I64), lifted);
  const ValueId classes = along_axis(node, int64_constant(node, {dims[1]}, iota(dims[1])), 1, dims.size());
  ValueId chosen = binary(node, PointwiseOp::Equal, target, classes);
  if (node.has("ignore_index")) {
    const ValueId index = int64_constant(node, {}, {node.int_or("ignore_index", 0)});
    const ValueId kept = unary(node, PointwiseOp::Not, binary(node, PointwiseOp::Equal, target, index));
    chosen = binary(node, PointwiseOp::And, chosen, kept);
  }
  const ValueId zero = scalar_constant(node, dtype, 0);
  const ValueId weight =
      weights == ir::kNone ? scalar_constant(node, dtype, 1) : along_axis(node, weights, 1, dims.size());
  const ValueId selected = select(node, chosen, weight, zero);
  const auto sum = [&](ValueId x, const std::vector<std::size_t>& axes) {
    return reduce(node, static_cast<unsigned>(cpu::ReduceKind::Sum), x, axes, false);
  };
  // A score that is not chosen may be infinite, so it is replaced, not multiplied by zero.
  const ValueId chosen_scores = select(node, chosen, scores, zero);
  const ValueId losses =
      sum(unary(node, PointwiseOp::Neg, binary(node, PointwiseOp::Mul, chosen_scores, selected)), {1});
  const std::string reduction = node.string_or("reduction", "mean");
  if (reduction == "none") return losses;
  if (reduction != "sum" && reduction != "mean") node.fail("reduction '" + reduction + "' is not known");
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < target_dims.size(); ++i) all.push_back(i);
  const ValueId total = sum(losses, all);
  return reduction == "sum" ? total : binary(node, PointwiseOp::Div, total, sum(sum(selected, {1}), all));
}

ValueId optional_weights(OnnxNode& node) { return node.has_input(2) ? cast_narrow(node, node.inputs[2]) : ir::kNone; }

void import_negative_log_likelihood(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  const ValueId loss =
      negative_log_likelihood(node, cast_narrow(node, node.input(0)), node.input(1), optional_weights(node));
  node.set_output(0, cast(node, loss, dtype));
}

void import_softmax_cross_entropy(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  cpu::SoftmaxAttributes attributes{};
  attributes.axis = 1;
  attributes.log = 1;
  const ValueId scores = node.emit(kSoftmax, {cast_narrow(node, node.input(0))}, attributes);
  const ValueId loss = negative_log_likelihood(node, scores, node.input(1), optional_weights(node));
  node.set_output(0, cast(node, loss, dtype));
  if (node.wants_output(1)) node.set_output(1, cast(node, scores, dtype));
}

}  // namespace

void register_loss(Registry& registry) {
  registry.add_onnx("NegativeLogLikelihoodLoss", &import_negative_log_likelihood, 12);
  registry.add_onnx("SoftmaxCrossEntropyLoss", &import_softmax_cross_entropy, 12);
}

}  // namespace edgert::ops
