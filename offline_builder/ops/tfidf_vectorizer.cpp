// SPDX-License-Identifier: Apache-2.0
// TfIdfVectorizer of integers: how often each n-gram of a pool occurs in each row, with 0 to max_skip_count elements
// skipped between those of an n-gram.
#include <algorithm>

#include "edgert/cpu/ops/reduce.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// The n-grams of one length: `count` times `length` elements of the pool from `first` on.
struct Grams {
  std::int64_t length, first, count;
};

std::vector<Grams> read_grams(const OnnxNode& node, std::int64_t pool_size) {
  const std::vector<std::int64_t> starts = node.ints_or("ngram_counts", {});
  std::vector<Grams> all;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::int64_t end = i + 1 < starts.size() ? starts[i + 1] : pool_size;
    const auto length = static_cast<std::int64_t>(i) + 1;
    if (starts[i] < 0 || end < starts[i] || end > pool_size || (end - starts[i]) % length != 0)
      node.fail("ngram_counts does not cut the pool into n-grams");
    all.push_back({length, starts[i], (end - starts[i]) / length});
  }
  return all;
}

/// Occurrences of `grams` in x [rows, length] int64, with elements `distance` apart: float [rows, grams].
ValueId count_grams(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& pool, const Grams& grams,
                    std::int64_t distance) {
  const Dims dims = dims_of(node, x);
  const std::int64_t positions = dims[1] - distance * (grams.length - 1);
  ValueId hit = ir::kNone;
  for (std::int64_t k = 0; k < grams.length; ++k) {
    std::vector<std::int64_t> wanted;
    for (std::int64_t g = 0; g < grams.count; ++g)
      wanted.push_back(pool[static_cast<std::size_t>(grams.first + g * grams.length + k)]);
    const ValueId elements = reshape(node, slice(node, x, 1, k * distance, positions), {dims[0], 1, positions});
    const ValueId same =
        binary(node, PointwiseOp::Equal, elements, int64_constant(node, {1, grams.count, 1}, wanted));
    hit = k == 0 ? same : binary(node, PointwiseOp::And, hit, same);
  }
  return reduce(node, static_cast<unsigned>(cpu::ReduceKind::Sum), cast(node, hit, DType::F32), {2}, false);
}

/// All n-grams of one length at all distances; those that are too short or too long are not counted.
ValueId count_length(OnnxNode& node, ValueId x, const std::vector<std::int64_t>& pool, const Grams& grams) {
  const Dims dims = dims_of(node, x);
  const bool wanted =
      grams.length >= node.required_int("min_gram_length") && grams.length <= node.required_int("max_gram_length");
  const std::int64_t skips = grams.length == 1 ? 0 : node.required_int("max_skip_count");
  ValueId sum = expand(node, scalar_constant(node, DType::F32, 0), {dims[0], grams.count});
  for (std::int64_t distance = 1; wanted && distance <= skips + 1; ++distance) {
    if (grams.length > 1 && distance > (dims[1] - 1) / (grams.length - 1)) break;
    sum = binary(node, PointwiseOp::Add, sum, count_grams(node, x, pool, grams, distance));
  }
  return sum;
}

/// Which column of the counts, or the column of zeros behind them, each output takes.
std::vector<std::int64_t> columns_of(const OnnxNode& node, const std::vector<std::int64_t>& indexes, std::int64_t total) {
  if (static_cast<std::int64_t>(indexes.size()) != total || indexes.empty())
    node.fail("ngram_indexes must have an entry for each n-gram of the pool");
  const std::int64_t outputs = *std::max_element(indexes.begin(), indexes.end()) + 1;
  checked_constant_size(node, {outputs});
  std::vector<std::int64_t> columns(static_cast<std::size_t>(outputs), total);
  for (std::int64_t i = 0; i < total; ++i) {
    const std::int64_t index = indexes[static_cast<std::size_t>(i)];
    if (index < 0) node.fail("ngram_indexes has a negative entry");
    std::int64_t& column = columns[static_cast<std::size_t>(index)];
    if (column != total) node.fail("several n-grams with one index are not supported");
    column = i;
  }
  return columns;
}

void import_tfidf_vectorizer(OnnxNode& node) {
  const Dims dims = node.type(0).dims;
  if (node.has("pool_strings")) node.fail("a pool of strings has no place in a plan");
  if (dims.empty() || dims.size() > 2) node.fail("the input must have rank 1 or 2");
  const Dims rows = dims.size() == 2 ? dims : Dims{1, dims[0]};
  if (rows[1] < 1) node.fail("rows without elements are not supported");
  const std::vector<std::int64_t> pool = node.ints_or("pool_int64s", {});
  const ValueId x = cast(node, reshape(node, node.input(0), rows), DType::I64);
  std::int64_t total = 0;
  std::vector<ValueId> counts;
  for (const Grams& grams : read_grams(node, static_cast<std::int64_t>(pool.size()))) {
    if (grams.count == 0) continue;
    counts.push_back(count_length(node, x, pool, grams));
    total += grams.count;
  }
  const std::vector<std::int64_t> columns = columns_of(node, node.ints_or("ngram_indexes", {}), total);
  const auto outputs = static_cast<std::int64_t>(columns.size());
  const ValueId padded = pad_zero(node, concat(node, counts, 1), {0, 0}, {0, 1});
  ValueId y = gather(node, padded, int64_constant(node, {outputs}, columns), 1);
  const std::string mode = node.string_or("mode", "");
  if (mode != "TF" && mode != "IDF" && mode != "TFIDF") node.fail("mode must be TF, IDF or TFIDF, not '" + mode + "'");
  if (mode == "IDF") y = cast(node, binary(node, PointwiseOp::Greater, y, scalar_constant(node, DType::F32, 0)), DType::F32);
  const std::vector<float> weights = node.floats_or("weights", {});
  if (mode != "TF" && !weights.empty()) {
    if (weights.size() != columns.size()) node.fail("weights must have an entry for each output");
    y = binary(node, PointwiseOp::Mul, y, float_constant(node, {1, outputs}, weights));
  }
  node.set_output(0, dims.size() == 2 ? y : reshape(node, y, {outputs}));
}

}  // namespace

void register_tfidf_vectorizer(Registry& registry) {
  registry.add_onnx("TfIdfVectorizer", &import_tfidf_vectorizer, 9);
}

}  // namespace edgert::ops
