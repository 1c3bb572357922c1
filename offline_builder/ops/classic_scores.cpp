// SPDX-License-Identifier: Apache-2.0
#include "ops/classic_scores.h"

namespace edgert::ops {
namespace {

/// The integer labels; ONNX has two names for them.
std::vector<std::int64_t> labels(const OnnxNode& node) {
  const std::vector<std::int64_t> first = node.ints_or("classlabels_int64s", {});
  return first.empty() ? node.ints_or("classlabels_ints", {}) : first;
}

ValueId softmax(OnnxNode& node, ValueId x) { return onnx_operator(node, "Softmax", 13, {x}, {{"axis", int_attribute(-1)}})[0]; }

ValueId logistic(OnnxNode& node, ValueId x) { return unary(node, PointwiseOp::Sigmoid, x); }

}  // namespace

ValueId transformed_scores(OnnxNode& node, ValueId scores) {
  const std::string transform = node.string_or("post_transform", "NONE");
  if (transform == "NONE") return scores;
  if (transform == "LOGISTIC") return logistic(node, scores);
  if (transform == "SOFTMAX") return softmax(node, scores);
  node.fail("post_transform " + transform + " is not supported");
}

std::int64_t class_count(OnnxNode& node) {
  const auto found = node.attributes.find("classlabels_strings");
  if (found != node.attributes.end() && !found->second.strings.empty()) {
    if (node.wants_output(0)) node.fail("classes named by strings have no place in a plan: export integer labels");
    return static_cast<std::int64_t>(found->second.strings.size());
  }
  const auto count = static_cast<std::int64_t>(labels(node).size());
  if (count < 1) node.fail("there are no class labels");
  return count;
}

ValueId largest_class(OnnxNode& node, ValueId scores) {
  const Dims dims = dims_of(node, scores);
  if (dims.size() != 2 || dims[1] != class_count(node)) {
    node.fail("scores " + ir::to_string(dims) + " are not one for each of " + std::to_string(class_count(node)) + " classes");
  }
  return reshape(node, arg_reduce(node, scores, 1, false, false), {dims[0]});
}

void set_classes(OnnxNode& node, ValueId scores, ValueId index) {
  const std::vector<std::int64_t> names = labels(node);
  if (node.wants_output(0)) {
    node.set_output(0, gather(node, int64_constant(node, {static_cast<std::int64_t>(names.size())}, names), index, 0));
  }
  if (node.wants_output(1)) node.set_output(1, cast(node, scores, DType::F32));
}

void set_two_classes(OnnxNode& node, ValueId score, bool is_probability) {
  const DType dtype = dtype_of(node, score);
  const ValueId threshold = scalar_constant(node, dtype, is_probability ? 0.5 : 0.0);
  const ValueId index = cast(node, binary(node, PointwiseOp::Greater, score, threshold), DType::I64);
  ValueId other = unary(node, PointwiseOp::Neg, score);
  ValueId own = score;
  if (node.string_or("post_transform", "NONE") == "LOGISTIC") {
    other = logistic(node, other);
    own = logistic(node, own);
  } else if (is_probability) {
    other = binary(node, PointwiseOp::Sub, scalar_constant(node, dtype, 1), score);
  }
  set_classes(node, concat(node, {other, own}, 1), reshape(node, index, {dims_of(node, score)[0]}));
}

}  // namespace edgert::ops
