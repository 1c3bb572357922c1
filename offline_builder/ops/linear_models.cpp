// SPDX-License-Identifier: Apache-2.0
// The linear models and feature scalers of ai.onnx.ml.
#include <cmath>

#include "edgert/cpu/ops/reduce.h"
#include "ops/classic_scores.h"

namespace edgert::ops {
namespace {

constexpr const char* kDomain = "ai.onnx.ml";

/// Input 0 as float, [rows, features]; a vector is one row.
ValueId samples(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (dims.size() != 1 && dims.size() != 2) node.fail("the samples must have rank 1 or 2, not " + std::to_string(dims.size()));
  return reshape(node, cast(node, node.input(0), DType::F32), {dims.size() == 1 ? 1 : dims[0], dims.back()});
}

/// x times the attribute `coefficients`, [targets, features], plus `intercepts`.
ValueId linear(OnnxNode& node, std::int64_t targets) {
  const ValueId x = samples(node);
  const std::int64_t features = dims_of(node, x)[1];
  const std::vector<float> coefficients = node.floats_or("coefficients", {});
  const std::vector<float> intercepts = node.floats_or("intercepts", {});
  if (static_cast<std::int64_t>(coefficients.size()) != ir::element_count({targets, features})) {
    node.fail(std::to_string(coefficients.size()) + " coefficients for " + std::to_string(targets) + " targets and " + std::to_string(features) + " features");
  }
  const ValueId w = transpose(node, float_constant(node, {targets, features}, coefficients), {1, 0});
  if (intercepts.empty()) return matmul(node, x, w);
  if (static_cast<std::int64_t>(intercepts.size()) != targets) node.fail("there must be " + std::to_string(targets) + " intercepts");
  return matmul(node, x, w, float_constant(node, {targets}, intercepts));
}

void import_linear_regressor(OnnxNode& node) {
  const std::int64_t targets = to_int32(node.int_or("targets", 1), 1, "attribute 'targets'");
  node.set_output(0, transformed_scores(node, linear(node, targets)));
}

void import_linear_classifier(OnnxNode& node) {
  const std::int64_t classes = class_count(node);
  const auto rows = static_cast<std::int64_t>(node.floats_or("intercepts", {}).size());
  if (classes == 2 && rows == 1) return set_two_classes(node, linear(node, 1), false);
  const ValueId scores = linear(node, classes);
  set_classes(node, transformed_scores(node, scores), largest_class(node, scores));
}

/// An attribute with one number for all features, or one for each.
ValueId feature_numbers(OnnxNode& node, const char* name, float fallback, std::int64_t features) {
  const std::vector<float> values = node.floats_or(name, {fallback});
  const auto count = static_cast<std::int64_t>(values.size());
  if (count != 1 && count != features) node.fail(std::string("attribute '") + name + "' must have 1 or " + std::to_string(features) + " entries");
  return float_constant(node, {count}, values);
}

/// (x - offset) * scale
void import_scaler(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (dims.empty()) node.fail("the input must have rank 1 or more");
  const ValueId x = cast(node, node.input(0), DType::F32);
  const ValueId centred = binary(node, PointwiseOp::Sub, x, feature_numbers(node, "offset", 0, dims.back()));
  node.set_output(0, binary(node, PointwiseOp::Mul, centred, feature_numbers(node, "scale", 1, dims.back())));
}

/// Rows divided by their norm; rows of zeros stay. The largest magnitude is of signed numbers, as in ONNX Runtime.
void import_normalizer(OnnxNode& node) {
  const std::string norm = node.string_or("norm", "MAX");
  const Dims dims = node.type(0).dims;
  const auto over_features = [&](cpu::ReduceKind kind, ValueId x) { return reduce(node, static_cast<unsigned>(kind), x, {1}, true); };
  const ValueId x = samples(node);
  ValueId divisor = ir::kNone;
  if (norm == "L1") divisor = over_features(cpu::ReduceKind::L1, x);
  if (norm == "L2") divisor = over_features(cpu::ReduceKind::L2, x);
  if (norm == "MAX") divisor = over_features(cpu::ReduceKind::Max, x);
  if (divisor == ir::kNone) node.fail("the norm '" + norm + "' is not known");
  const ValueId is_zero = binary(node, PointwiseOp::Equal, divisor, scalar_constant(node, DType::F32, 0));
  const ValueId safe = select(node, is_zero, scalar_constant(node, DType::F32, 1), divisor);
  node.set_output(0, reshape(node, binary(node, PointwiseOp::Div, x, safe), dims));
}

/// What equals replaced_value (NaN as a rule) becomes the feature's imputed value.
void import_imputer(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  const Dims dims = node.type(0).dims;
  if (dims.empty()) node.fail("the input must have rank 1 or more");
  const ValueId x = node.input(0);
  if (dtype == DType::I64) {
    const std::vector<std::int64_t> values = node.ints_or("imputed_value_int64s", {});
    const auto count = static_cast<std::int64_t>(values.size());
    if (count != 1 && count != dims.back()) node.fail("attribute 'imputed_value_int64s' must have 1 or " + std::to_string(dims.back()) + " entries");
    const ValueId missing = binary(node, PointwiseOp::Equal, x, int64_constant(node, {}, {node.int_or("replaced_value_int64", 0)}));
    return node.set_output(0, select(node, missing, int64_constant(node, {count}, values), x));
  }
  require_type(node.type(0), DType::F32, "the input");
  const float replaced = node.float_or("replaced_value_float", 0);
  const ValueId missing = std::isnan(replaced) ? unary(node, PointwiseOp::IsNan, x)
                                               : binary(node, PointwiseOp::Equal, x, scalar_constant(node, DType::F32, static_cast<double>(replaced)));
  node.set_output(0, select(node, missing, feature_numbers(node, "imputed_value_floats", 0, dims.back()), x));
}

/// Inputs side by side, as float.
void import_feature_vectorizer(OnnxNode& node) {
  std::vector<ValueId> columns;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const Dims dims = node.type(i).dims;
    if (dims.size() != 1 && dims.size() != 2) node.fail("inputs must have rank 1 or 2");
    const Dims full = dims.size() == 1 ? Dims{dims[0], 1} : dims;
    columns.push_back(reshape(node, cast(node, node.input(i), DType::F32), full));
  }
  node.set_output(0, concat(node, columns, 1));
}

}  // namespace

void register_linear_models(Registry& registry) {
  const auto add = [&](const char* name, OnnxImporter importer) { registry.add_onnx(name, importer, 1, 1 << 30, kDomain); };
  add("LinearRegressor", &import_linear_regressor);
  add("LinearClassifier", &import_linear_classifier);
  add("Scaler", &import_scaler);
  add("Normalizer", &import_normalizer);
  add("Imputer", &import_imputer);
  add("FeatureVectorizer", &import_feature_vectorizer);
}

}  // namespace edgert::ops
