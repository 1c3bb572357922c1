// SPDX-License-Identifier: Apache-2.0
// Support vector machines of ai.onnx.ml. Classes are told apart in pairs, each pair by a sum over the support vectors of
// both; what ONNX's text leaves open follows ONNX Runtime.
#include <algorithm>
#include <numeric>

#include "edgert/cpu/ops/reduce.h"
#include "ops/classic_scores.h"
#include "ops/control_flow.h"

namespace edgert::ops {
namespace {

constexpr const char* kDomain = "ai.onnx.ml";

ValueId number(OnnxNode& node, float value) { return scalar_constant(node, DType::F32, static_cast<double>(value)); }

/// Input 0 as float, [rows, features]; a vector is one row.
ValueId samples(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (dims.size() != 1 && dims.size() != 2) node.fail("the samples must have rank 1 or 2, not " + std::to_string(dims.size()));
  return reshape(node, cast(node, node.input(0), DType::F32), {dims.size() == 1 ? 1 : dims[0], dims.back()});
}

/// K(x, v) of all samples and `vectors` [count, features]: [rows, count].
ValueId kernel(OnnxNode& node, ValueId x, const std::vector<float>& vectors, std::int64_t count, bool linear) {
  const Dims dims = dims_of(node, x);
  if (static_cast<std::int64_t>(vectors.size()) != ir::element_count({count, dims[1]})) {
    node.fail(std::to_string(vectors.size()) + " numbers are not " + std::to_string(count) + " vectors of " + std::to_string(dims[1]) + " features");
  }
  const std::string type = linear ? "LINEAR" : node.string_or("kernel_type", "LINEAR");
  const std::vector<float> parameters = node.floats_or("kernel_params", {0, 0, 3});  // gamma, coef0, degree
  if (parameters.size() != 3) node.fail("kernel_params must have three entries");
  if (type == "RBF") {
    // Not by |x|^2 - 2xv + |v|^2, which cancels where both are far from the origin.
    const ValueId v = float_constant(node, {1, count, dims[1]}, vectors);
    const ValueId difference = binary(node, PointwiseOp::Sub, reshape(node, x, {dims[0], 1, dims[1]}), v);
    const ValueId squares = reduce(node, static_cast<unsigned>(cpu::ReduceKind::SumSquare), difference, {2}, false);
    return unary(node, PointwiseOp::Exp, binary(node, PointwiseOp::Mul, squares, number(node, -parameters[0])));
  }
  const ValueId product = matmul(node, x, transpose(node, float_constant(node, {count, dims[1]}, vectors), {1, 0}));
  if (type == "LINEAR") return product;
  const ValueId moved = binary(node, PointwiseOp::Add, binary(node, PointwiseOp::Mul, product, number(node, parameters[0])), number(node, parameters[1]));
  if (type == "POLY") return binary(node, PointwiseOp::Pow, moved, number(node, parameters[2]));
  if (type == "SIGMOID") return unary(node, PointwiseOp::Tanh, moved);
  node.fail("kernel_type " + type + " is not known");
}

void import_svm_regressor(OnnxNode& node) {
  const ValueId x = samples(node);
  const std::int64_t supports = node.int_or("n_supports", 0);
  const std::vector<float> coefficients = node.floats_or("coefficients", {});
  const std::vector<float> rho = node.floats_or("rho", {});
  if (rho.empty()) node.fail("attribute 'rho' is missing");
  ValueId sum = ir::kNone;
  if (supports > 0) {
    if (static_cast<std::int64_t>(coefficients.size()) != supports) node.fail("there must be a coefficient for each support vector");
    const ValueId near = kernel(node, x, node.floats_or("support_vectors", {}), supports, false);
    sum = matmul(node, near, float_constant(node, {supports, 1}, coefficients), float_constant(node, {1}, {rho[0]}));
  } else {
    sum = binary(node, PointwiseOp::Add, kernel(node, x, coefficients, 1, true), number(node, rho[0]));
  }
  if (node.int_or("one_class", 0) != 0) {
    const ValueId inside = binary(node, PointwiseOp::Greater, sum, number(node, 0));
    return node.set_output(0, select(node, inside, number(node, 1), number(node, -1)));
  }
  node.set_output(0, transformed_scores(node, sum));
}

/// What a classifier with support vectors knows of its classes.
struct Classes {
  std::int64_t count;
  std::int64_t pairs;
  std::vector<std::int64_t> first, second;  ///< classes of each pair
};

Classes pairs_of(std::int64_t count) {
  Classes classes{count, 0, {}, {}};
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t j = i + 1; j < count; ++j) {
      classes.first.push_back(i);
      classes.second.push_back(j);
    }
  }
  classes.pairs = static_cast<std::int64_t>(classes.first.size());
  return classes;
}

/// [vectors, pairs]: what each support vector contributes to each pair. `coefficients` is [classes - 1, vectors]: a
/// vector of class i has its coefficient against class j in row j - 1 for j > i, in row j otherwise.
std::vector<float> pair_weights(const Classes& classes, const std::vector<float>& coefficients, const std::vector<std::int64_t>& of_class, std::int64_t vectors) {
  std::vector<float> weights(static_cast<std::size_t>(vectors * classes.pairs), 0.0f);
  std::vector<std::int64_t> start(of_class.size() + 1, 0);
  std::partial_sum(of_class.begin(), of_class.end(), start.begin() + 1);
  for (std::size_t p = 0; p < classes.first.size(); ++p) {
    const auto fill = [&](std::int64_t own, std::int64_t row) {
      for (std::int64_t v = start[static_cast<std::size_t>(own)]; v < start[static_cast<std::size_t>(own) + 1]; ++v) {
        weights[static_cast<std::size_t>(v * classes.pairs) + p] = coefficients[static_cast<std::size_t>(row * vectors + v)];
      }
    };
    fill(classes.first[p], classes.second[p] - 1);
    fill(classes.second[p], classes.first[p]);
  }
  return weights;
}

/// Scores of the pairs, [rows, pairs]: positive for the first class of a pair.
ValueId pair_scores(OnnxNode& node, const Classes& classes, const std::vector<std::int64_t>& of_class) {
  std::int64_t vectors = 0;
  for (const std::int64_t each : of_class) {
    if (each < 0 || each > INT32_MAX) node.fail("vectors_per_class has a number out of range");
    vectors += each;
  }
  const std::vector<float> coefficients = node.floats_or("coefficients", {});
  const std::vector<float> rho = node.floats_or("rho", {});
  if (static_cast<std::int64_t>(of_class.size()) != classes.count) node.fail("vectors_per_class needs a number for each class");
  if (static_cast<std::int64_t>(rho.size()) != classes.pairs) node.fail("rho needs a number for each pair of classes");
  if (static_cast<std::int64_t>(coefficients.size()) != ir::element_count({classes.count - 1, vectors})) {
    node.fail(std::to_string(coefficients.size()) + " coefficients are not " + std::to_string(classes.count - 1) + " for each of " + std::to_string(vectors) + " support vectors");
  }
  const ValueId near = kernel(node, samples(node), node.floats_or("support_vectors", {}), vectors, false);
  checked_constant_size(node, {vectors, classes.pairs});
  const ValueId weights = float_constant(node, {vectors, classes.pairs}, pair_weights(classes, coefficients, of_class, vectors));
  return matmul(node, near, weights, float_constant(node, {classes.pairs}, rho));
}

/// The class that wins the most pairs, the first of those that win as many: [rows].
ValueId most_votes(OnnxNode& node, const Classes& classes, ValueId scores) {
  std::vector<float> first(static_cast<std::size_t>(classes.pairs * classes.count), 0.0f);
  std::vector<float> second = first;
  for (std::size_t p = 0; p < classes.first.size(); ++p) {
    first[p * static_cast<std::size_t>(classes.count) + static_cast<std::size_t>(classes.first[p])] = 1;
    second[p * static_cast<std::size_t>(classes.count) + static_cast<std::size_t>(classes.second[p])] = 1;
  }
  const ValueId wins = cast(node, binary(node, PointwiseOp::Greater, scores, number(node, 0)), DType::F32);
  const ValueId losses = binary(node, PointwiseOp::Sub, number(node, 1), wins);
  const Dims dims{classes.pairs, classes.count};
  const ValueId votes = binary(node, PointwiseOp::Add, matmul(node, wins, float_constant(node, dims, first)),
                               matmul(node, losses, float_constant(node, dims, second)));
  return largest_class(node, votes);
}

ValueId sum(OnnxNode& node, ValueId x, std::size_t axis) { return reduce(node, static_cast<unsigned>(cpu::ReduceKind::Sum), x, {axis}, true); }

/// One turn of the iteration below: p [rows, n] and q [rows, n, n] of `body`'s inputs 1 and 2 become the next p, and
/// whether a row has not converged.
void add_coupling_turn(OnnxNode& node, ir::Graph& body, ValueId p, ValueId q) {
  const Dims dims = dims_of(node, p);
  const auto op = [&](PointwiseOp each, ValueId a, ValueId b) { return binary(node, each, a, b); };
  const auto column = [&](ValueId x, std::int64_t t) { return slice(node, x, 1, t, 1); };
  ValueId qp = reshape(node, sum(node, op(PointwiseOp::Mul, q, reshape(node, p, {dims[0], 1, dims[1]})), 2), dims);
  ValueId pqp = sum(node, op(PointwiseOp::Mul, p, qp), 1);
  const ValueId error = unary(node, PointwiseOp::Abs, op(PointwiseOp::Sub, qp, pqp));
  const ValueId largest = reduce(node, static_cast<unsigned>(cpu::ReduceKind::Max), error, {1}, true);
  const ValueId open = op(PointwiseOp::GreaterOrEqual, largest, number(node, 0.005f / static_cast<float>(dims[1])));
  ValueId next = p;
  for (std::int64_t t = 0; t < dims[1]; ++t) {
    const ValueId row = reshape(node, slice(node, q, 1, t, 1), dims);
    const ValueId own = column(row, t);
    const ValueId step = op(PointwiseOp::Div, op(PointwiseOp::Sub, pqp, column(qp, t)), own);
    const ValueId shrink = op(PointwiseOp::Add, step, number(node, 1));
    const ValueId twice = op(PointwiseOp::Mul, number(node, 2), column(qp, t));
    const ValueId change = op(PointwiseOp::Mul, step, op(PointwiseOp::Add, op(PointwiseOp::Mul, step, own), twice));
    pqp = op(PointwiseOp::Div, op(PointwiseOp::Div, op(PointwiseOp::Add, pqp, change), shrink), shrink);
    std::vector<float> unit(static_cast<std::size_t>(dims[1]), 0.0f);
    unit[static_cast<std::size_t>(t)] = 1;
    const ValueId moved = op(PointwiseOp::Add, next, op(PointwiseOp::Mul, step, float_constant(node, {1, dims[1]}, unit)));
    next = op(PointwiseOp::Div, moved, shrink);
    qp = op(PointwiseOp::Div, op(PointwiseOp::Add, qp, op(PointwiseOp::Mul, step, row)), shrink);
  }
  const ValueId going = reduce(node, static_cast<unsigned>(cpu::ReduceKind::Max), cast(node, open, DType::F32), {0, 1}, false);
  body.add_output("condition", op(PointwiseOp::Greater, going, number(node, 0)));
  body.add_output("p", select(node, open, next, p));
}

/// Probabilities of the classes from those of the pairs, [rows, n, n] with r[i, j] + r[j, i] = 1: the minimum of
/// sum (r[j, i] p[i] - r[i, j] p[j])^2 over the probabilities (Wu, Lin and Weng, "Probability Estimates for Multi-class
/// Classification by Pairwise Coupling", 2004), by the iteration of its second approach, stopped where libsvm stops it.
ValueId coupled(OnnxNode& node, ValueId r) {
  const Dims dims = dims_of(node, r);
  constexpr std::int64_t kMostTurns = 100;
  constexpr std::int64_t kMostClasses = 64;  // each is some nodes of the loop's body
  const std::int64_t n = dims[1];
  if (n > kMostClasses) node.fail("probabilities of more than " + std::to_string(kMostClasses) + " classes");
  std::vector<float> unit(static_cast<std::size_t>(n * n), 0.0f);
  for (std::int64_t i = 0; i < n; ++i) unit[static_cast<std::size_t>(i * n + i)] = 1;
  const ValueId other = transpose(node, r, {0, 2, 1});
  const ValueId squares = reshape(node, sum(node, binary(node, PointwiseOp::Mul, r, r), 1), {dims[0], n, 1});
  const ValueId diagonal = binary(node, PointwiseOp::Mul, squares, float_constant(node, {1, n, n}, unit));
  const ValueId q = binary(node, PointwiseOp::Sub, diagonal, binary(node, PointwiseOp::Mul, r, other));
  const std::vector<float> start(static_cast<std::size_t>(checked_constant_size(node, {dims[0], n})), 1.0f / static_cast<float>(n));

  ir::Graph body;
  OnnxNode inside(body, node.name, node.op_type, node.domain, node.opset);
  body.add_input("turn", {DType::I64, {}});
  const ValueId p_inside = body.add_input("p", {DType::F32, {dims[0], n}});
  const ValueId q_inside = body.add_input("q", {DType::F32, dims});
  add_coupling_turn(inside, body, p_inside, q_inside);
  LoopNode loop;
  loop.trip_count = int64_constant(node, {}, {kMostTurns});
  loop.carried = {float_constant(node, {dims[0], n}, start)};
  loop.captured = {q};
  loop.most_turns = kMostTurns;
  loop.tests_condition = true;
  return add_loop(node, loop, std::move(body))[0];
}

/// Probabilities by the logistic curves that were fitted to the scores of the pairs: [rows, classes].
ValueId probabilities(OnnxNode& node, const Classes& classes, ValueId scores) {
  const std::vector<float> a = node.floats_or("prob_a", {});
  const std::vector<float> b = node.floats_or("prob_b", {});
  if (static_cast<std::int64_t>(a.size()) != classes.pairs || a.size() != b.size()) node.fail("prob_a and prob_b need a number for each pair of classes");
  const std::int64_t rows = dims_of(node, scores)[0];
  const std::int64_t n = classes.count;
  const ValueId curve = binary(node, PointwiseOp::Add, binary(node, PointwiseOp::Mul, scores, float_constant(node, {classes.pairs}, a)), float_constant(node, {classes.pairs}, b));
  const ValueId first = unary(node, PointwiseOp::Sigmoid, unary(node, PointwiseOp::Neg, curve));
  const ValueId low = binary(node, PointwiseOp::Max, first, number(node, 1e-7f));
  const ValueId won = binary(node, PointwiseOp::Min, low, number(node, 1 - 1e-7f));
  // Places [i, j] of the matrix in what stands side by side: zero, the pairs, and what is left of them.
  const ValueId all = concat(node, {binary(node, PointwiseOp::Mul, slice(node, won, 1, 0, 1), number(node, 0)), won, binary(node, PointwiseOp::Sub, number(node, 1), won)}, 1);
  std::vector<std::int64_t> places(static_cast<std::size_t>(n * n), 0);
  for (std::int64_t p = 0; p < classes.pairs; ++p) {
    const std::int64_t i = classes.first[static_cast<std::size_t>(p)];
    const std::int64_t j = classes.second[static_cast<std::size_t>(p)];
    places[static_cast<std::size_t>(i * n + j)] = 1 + p;
    places[static_cast<std::size_t>(j * n + i)] = 1 + classes.pairs + p;
  }
  return coupled(node, reshape(node, gather(node, all, int64_constant(node, {n * n}, places), 1), {rows, n, n}));
}

/// Without support vectors: one score for each class. Of two classes ONNX Runtime takes the second as soon as any score is
/// large enough.
void classify_linearly(OnnxNode& node, std::int64_t classes) {
  const std::vector<float> coefficients = node.floats_or("coefficients", {});
  const std::vector<float> rho = node.floats_or("rho", {});
  if (rho.empty()) node.fail("attribute 'rho' is missing");
  const ValueId scores = binary(node, PointwiseOp::Add, kernel(node, samples(node), coefficients, classes, true), number(node, rho[0]));
  ValueId index = largest_class(node, scores);
  if (classes == 2) {
    const bool positive = std::all_of(coefficients.begin(), coefficients.end(), [](float each) { return each >= 0; });
    const ValueId largest = reduce(node, static_cast<unsigned>(cpu::ReduceKind::Max), scores, {1}, false);
    const ValueId second = binary(node, positive ? PointwiseOp::GreaterOrEqual : PointwiseOp::Greater, largest, number(node, positive ? 0.5f : 0.0f));
    index = select(node, second, scalar_constant(node, DType::I64, 1), index);
  }
  set_classes(node, transformed_scores(node, scores), index);
}

void import_svm_classifier(OnnxNode& node) {
  const std::int64_t count = class_count(node);
  const std::vector<std::int64_t> of_class = node.ints_or("vectors_per_class", {});
  if (std::all_of(of_class.begin(), of_class.end(), [](std::int64_t each) { return each == 0; })) return classify_linearly(node, count);
  constexpr std::int64_t kMostClasses = 4096;
  if (count < 2 || count > kMostClasses) node.fail(std::to_string(count) + " classes cannot be told apart in pairs");
  const Classes classes = pairs_of(count);
  const ValueId scores = pair_scores(node, classes, of_class);
  const ValueId index = most_votes(node, classes, scores);
  if (node.has("prob_a")) return set_classes(node, transformed_scores(node, probabilities(node, classes, scores)), index);
  if (classes.pairs > 1) return set_classes(node, transformed_scores(node, scores), index);
  const std::string transform = node.string_or("post_transform", "NONE");
  const bool complement = transform == "SOFTMAX" || transform == "SOFTMAX_ZERO";
  ValueId other = complement ? binary(node, PointwiseOp::Sub, number(node, 1), scores) : unary(node, PointwiseOp::Neg, scores);
  ValueId own = scores;
  if (transform == "LOGISTIC") {
    other = unary(node, PointwiseOp::Sigmoid, other);
    own = unary(node, PointwiseOp::Sigmoid, own);
  } else if (transform == "PROBIT") {
    node.fail("post_transform PROBIT is not supported");
  }
  set_classes(node, concat(node, {other, own}, 1), index);
}

}  // namespace

void register_support_vectors(Registry& registry) {
  registry.add_onnx("SVMRegressor", &import_svm_regressor, 1, 1 << 30, kDomain);
  registry.add_onnx("SVMClassifier", &import_svm_classifier, 1, 1 << 30, kDomain);
}

}  // namespace edgert::ops
