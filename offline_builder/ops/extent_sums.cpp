// SPDX-License-Identifier: Apache-2.0
#include "ops/extent_sums.h"

#include <algorithm>

#include "edgert/cpu/ops/compress.h"
#include "edgert/cpu/ops/gather.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

using Sums = std::vector<ExtentSum>;

/// Shapes are short: longer tensors hold data, whose elements nobody wants one by one.
constexpr std::int64_t kMostElements = 64;
constexpr int kMostDepth = 64;
/// Values that are looked at for one answer: graphs may come back to the same value on many ways.
constexpr int kMostVisits = 4096;

/// Walks from a value to the constants and extents that it is computed from.
class Reader {
 public:
  explicit Reader(const ir::Graph& graph) : graph_(graph) {}

  std::optional<Sums> read(ValueId id, int depth = 0) {
    const ir::Value& value = graph_.value(id);
    if (++visits_ > kMostVisits || depth > kMostDepth || ir::element_count(value.type.dims) > kMostElements || graph_.is_bounded(id)) return std::nullopt;
    if (value.is_constant()) return constants(value);
    const ir::Node* node = graph_.producer(id);
    if (node == nullptr) return largest_extent(graph_, id) ? std::optional<Sums>({ExtentSum{0, {{id, 1}}}}) : std::nullopt;
    if (node->op == &kConcat) return concatenated(*node, depth);
    if (node->op == &kReshape) return read(node->inputs[0], depth + 1);
    if (node->op->view != nullptr && node->inputs.size() == 1) return viewed(*node, value.type.dims, depth);
    if (node->op == &kGather) return gathered(*node, depth);
    if (node->op == &kCast || node->op == &kCopy) return read(node->inputs[0], depth + 1);
    if (node->op == &kPointwise) return computed(*node, value.type.dims, depth);
    if (largest_extent(graph_, id)) return Sums{counted(*node, id, depth)};
    return std::nullopt;
  }

 private:
  static std::optional<Sums> constants(const ir::Value& value) {
    const auto count = static_cast<std::size_t>(ir::element_count(value.type.dims));
    Sums sums(count);
    for (std::size_t i = 0; i < count; ++i) {
      switch (value.type.dtype) {
        case DType::I64: sums[i].constant = value.constant.as<std::int64_t>()[i]; break;
        case DType::I32: sums[i].constant = value.constant.as<std::int32_t>()[i]; break;
        case DType::Bool: sums[i].constant = value.constant.as<std::uint8_t>()[i] != 0; break;
        default: return std::nullopt;
      }
    }
    return sums;
  }

  std::optional<Sums> concatenated(const ir::Node& node, int depth) {
    Sums all;
    for (const ValueId input : node.inputs) {
      if (graph_.value(input).type.dims.size() != 1) return std::nullopt;
      const std::optional<Sums> part = read(input, depth + 1);
      if (!part) return std::nullopt;
      all.insert(all.end(), part->begin(), part->end());
    }
    return all;
  }

  /// The elements that a window of the input shows.
  std::optional<Sums> viewed(const ir::Node& node, const ir::Dims& dims, int depth) {
    const std::optional<Sums> from = read(node.inputs[0], depth + 1);
    const std::optional<StridedView> window = node.op->view(node.attributes, ir::dense_window(graph_.value(node.inputs[0]).type.dims), dims);
    if (!from || !window) return std::nullopt;
    Sums sums;
    const std::int64_t count = ir::element_count(dims);
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t rest = i;
      std::int64_t at = window->offset;
      for (std::size_t d = dims.size(); d-- > 0; rest /= dims[d]) at += rest % dims[d] * window->strides[d];
      sums.push_back(from->at(static_cast<std::size_t>(at)));
    }
    return sums;
  }

  /// Rows along the first axis by constant indices.
  std::optional<Sums> gathered(const ir::Node& node, int depth) {
    const ir::Dims& dims = graph_.value(node.inputs[0]).type.dims;
    const std::optional<Sums> from = read(node.inputs[0], depth + 1);
    const std::optional<Sums> indices = read(node.inputs[1], depth + 1);
    if (!from || !indices || node.as<cpu::GatherAttributes>().axis != 0) return std::nullopt;
    const std::int64_t run = ir::element_count(ir::Dims(dims.begin() + 1, dims.end()));
    Sums sums;
    for (const ExtentSum& index : *indices) {
      const std::int64_t row = index.constant < 0 ? index.constant + dims[0] : index.constant;
      if (!index.is_known() || row < 0 || row >= dims[0]) return std::nullopt;
      sums.insert(sums.end(), from->begin() + row * run, from->begin() + (row + 1) * run);
    }
    return sums;
  }

  /// A program on operands of the result's extents; what was repeated has been read through its view.
  std::optional<Sums> computed(const ir::Node& node, const ir::Dims& dims, int depth) {
    const auto& program = node.as<scalar::PointwiseProgram>();
    const auto count = static_cast<std::size_t>(ir::element_count(dims));
    std::vector<Sums> values;
    for (const ValueId input : node.inputs) {
      std::optional<Sums> operand = read(input, depth + 1);
      if (!operand || operand->size() != count) return std::nullopt;
      values.push_back(std::move(*operand));
    }
    for (unsigned k = 0; k < program.steps; ++k) {
      const scalar::PointwiseStep& step = program.step[k];
      const unsigned char places[] = {step.a, step.b, step.c};
      Sums results;
      for (std::size_t i = 0; i < count; ++i) {
        ExtentSum operands[3];
        for (unsigned o = 0; o < scalar::arity(step.op); ++o) operands[o] = values.at(places[o])[i];
        const std::optional<ExtentSum> sum = apply(step.op, operands[0], operands[1], operands[2]);
        if (!sum) return std::nullopt;
        results.push_back(*sum);
      }
      values.push_back(std::move(results));
    }
    return values.back();
  }

  static std::optional<ExtentSum> apply(PointwiseOp op, const ExtentSum& a, const ExtentSum& b, const ExtentSum& c) {
    switch (op) {
      case PointwiseOp::Identity: return a;
      case PointwiseOp::Neg: return plus({}, a, -1);
      case PointwiseOp::Add: return plus(a, b);
      case PointwiseOp::Sub: return plus(a, b, -1);
      case PointwiseOp::Mul: return a.is_known() ? plus({}, b, a.constant) : b.is_known() ? plus({}, a, b.constant) : std::nullopt;
      case PointwiseOp::Equal: return equal(a, b);
      case PointwiseOp::Where: return !a.is_known() ? std::nullopt : std::optional<ExtentSum>(a.constant != 0 ? b : c);
      default: return std::nullopt;
    }
  }

  /// As 0 or 1 where it is the same in every run: a difference of which all terms have one sign, and not all are 0.
  static std::optional<ExtentSum> equal(const ExtentSum& a, const ExtentSum& b) {
    const std::optional<ExtentSum> difference = plus(a, b, -1);
    if (!difference) return std::nullopt;
    if (difference->is_known()) return ExtentSum{difference->constant == 0, {}};
    bool positive = difference->constant > 0;
    bool negative = difference->constant < 0;
    for (const auto& term : difference->factors) {
      positive = positive && term.second > 0;
      negative = negative && term.second < 0;
    }
    return positive || negative ? std::optional<ExtentSum>(ExtentSum{}) : std::nullopt;
  }

  /// A Compress that only cuts operands off at what is there keeps as many places as there are.
  ExtentSum counted(const ir::Node& node, ValueId id, int depth) {
    const ExtentSum itself{0, {{id, 1}}};
    if (node.op != &kCompress) return itself;
    const ir::Node* condition = graph_.producer(node.inputs[1]);
    if (condition == nullptr) return itself;
    if (condition->op != &kConcat) return below(node.inputs[1], depth).value_or(itself);
    ExtentSum all;
    for (const ValueId part : condition->inputs) {
      const std::optional<ExtentSum> sum = below(part, depth);
      const std::optional<ExtentSum> next = sum ? plus(all, *sum) : std::nullopt;
      if (!next) return itself;
      all = *next;
    }
    return all;
  }

  /// How many elements of a bool vector are true: all of a constant, or those that count up below a sum.
  std::optional<ExtentSum> below(ValueId id, int depth) {
    const ir::Value& value = graph_.value(id);
    if (value.is_constant()) {
      const auto* flags = value.constant.as<std::uint8_t>();
      const bool all = value.type.dtype == DType::Bool && std::count(flags, flags + value.constant.size(), 0) == 0;
      return all ? std::optional<ExtentSum>(ExtentSum{static_cast<std::int64_t>(value.constant.size()), {}}) : std::nullopt;
    }
    const ir::Node* condition = graph_.producer(id);
    if (condition == nullptr || condition->op != &kPointwise) return std::nullopt;
    const auto& program = condition->as<scalar::PointwiseProgram>();
    const scalar::PointwiseStep& last = program.step[program.steps - 1];
    if (last.op != PointwiseOp::Less || last.a >= program.inputs || !is_count_up(condition->inputs[last.a])) return std::nullopt;
    const std::optional<ExtentSum> limit = repeated(*condition, last.b, depth);
    // Of a sum that is more than there are places the count would be less.
    const std::optional<std::int64_t> most = limit ? largest_sum(graph_, *limit) : std::nullopt;
    return most && *most <= value.type.dims[0] ? limit : std::nullopt;
  }

  /// Value `index` of a program where it is computed from scalars that were repeated.
  std::optional<ExtentSum> repeated(const ir::Node& node, unsigned index, int depth) {
    const auto& program = node.as<scalar::PointwiseProgram>();
    if (++visits_ > kMostVisits) return std::nullopt;
    if (index < program.inputs) {
      const ir::Node* expand = graph_.producer(node.inputs[index]);
      const bool is_scalar = expand != nullptr && expand->op == &kExpand && ir::element_count(graph_.value(expand->inputs[0]).type.dims) == 1;
      const std::optional<Sums> sums = is_scalar ? read(expand->inputs[0], depth + 1) : std::nullopt;
      return sums ? std::optional<ExtentSum>((*sums)[0]) : std::nullopt;
    }
    const scalar::PointwiseStep& step = program.step[index - program.inputs];
    const unsigned char places[] = {step.a, step.b, step.c};
    ExtentSum operands[3];
    for (unsigned o = 0; o < scalar::arity(step.op); ++o) {
      const std::optional<ExtentSum> operand = repeated(node, places[o], depth);
      if (!operand) return std::nullopt;
      operands[o] = *operand;
    }
    return apply(step.op, operands[0], operands[1], operands[2]);
  }

  bool is_count_up(ValueId id) const {
    const ir::Value& value = graph_.value(id);
    if (!value.is_constant() || value.type.dtype != DType::I64 || value.type.dims.size() != 1) return false;
    for (std::int64_t i = 0; i < value.type.dims[0]; ++i) {
      if (value.constant.as<std::int64_t>()[i] != i) return false;
    }
    return true;
  }

  const ir::Graph& graph_;
  int visits_ = 0;
};

}  // namespace

std::optional<ExtentSum> plus(const ExtentSum& a, const ExtentSum& b, std::int64_t factor) {
  ExtentSum sum = a;
  std::int64_t product = 0;
  if (__builtin_mul_overflow(b.constant, factor, &product) || __builtin_add_overflow(sum.constant, product, &sum.constant)) return std::nullopt;
  for (const auto& [actual, times] : b.factors) {
    std::int64_t& total = sum.factors[actual];
    if (__builtin_mul_overflow(times, factor, &product) || __builtin_add_overflow(total, product, &total)) return std::nullopt;
    if (total == 0) sum.factors.erase(actual);
  }
  return sum;
}

std::optional<std::int64_t> largest_extent(const ir::Graph& graph, ValueId actual) {
  if (actual == ir::kNone) return std::nullopt;
  const ir::Node* node = graph.producer(actual);
  for (const ValueId id : node != nullptr ? node->outputs : graph.inputs()) {
    for (const ir::Extent& extent : graph.value(id).extents) {
      if (extent.actual == actual) return graph.value(id).type.dims[extent.dim];
    }
  }
  return std::nullopt;
}

std::optional<std::int64_t> largest_sum(const ir::Graph& graph, const ExtentSum& sum) {
  std::int64_t most = sum.constant;
  for (const auto& [actual, factor] : sum.factors) {
    const std::optional<std::int64_t> largest = largest_extent(graph, actual);
    std::int64_t product = 0;
    if (!largest || factor < 0 || __builtin_mul_overflow(*largest, factor, &product) || __builtin_add_overflow(most, product, &most)) return std::nullopt;
  }
  return most < 0 ? std::nullopt : std::optional<std::int64_t>(most);
}

std::optional<std::vector<ExtentSum>> extent_sums(const ir::Graph& graph, ValueId x) { return Reader(graph).read(x); }

ValueId known_elements(OnnxNode& node, ValueId x) {
  const auto [dtype, dims] = node.graph.value(x).type;
  if (node.graph.value(x).is_constant() || (dtype != DType::I64 && dtype != DType::I32 && dtype != DType::Bool)) return x;
  const std::optional<std::vector<ExtentSum>> sums = extent_sums(node.graph, x);
  if (!sums || !std::all_of(sums->begin(), sums->end(), [](const ExtentSum& sum) { return sum.is_known(); })) return x;
  std::vector<std::int64_t> numbers;
  for (const ExtentSum& sum : *sums) numbers.push_back(sum.constant);
  return cast(node, int64_constant(node, dims, numbers), dtype);
}

std::optional<ExtentSum> extent_sum(const ir::Graph& graph, ValueId x, std::size_t dim) {
  for (const ir::Extent& extent : graph.value(x).extents) {
    if (extent.dim != dim) continue;
    const std::optional<std::vector<ExtentSum>> sums = extent_sums(graph, extent.actual);
    return sums && sums->size() == 1 ? std::optional<ExtentSum>((*sums)[0]) : std::nullopt;
  }
  return ExtentSum{graph.value(x).type.dims[dim], {}};
}

}  // namespace edgert::ops
