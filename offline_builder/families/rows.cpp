// SPDX-License-Identifier: Apache-2.0
// Sums of rows, of which some are gathered from tables, and layer or RMS normalisation with or without such a sum before
// it: kernels/rows.cu. What a transformer begins with.
#include "codegen/rows_kernel.h"

#include <algorithm>

#include "edgert/cpu/ops/gather.h"
#include "edgert/cpu/ops/normalize.h"
#include "families/dense.h"
#include "families/rows.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using codegen::RowsShape;
using codegen::RowTable;
using ir::kNone;
using ir::Node;
using ir::NodeId;
using ir::ValueId;
using scalar::PointwiseOp;

/// Constants are stored again in the type of the result, repeated for each row.
constexpr std::int64_t kMostRepeated = 1 << 24;

struct Sum {
  RowsShape shape;
  std::vector<Argument> arguments;  ///< table and index of each
  std::vector<ir::Bytes> weights;
  std::vector<NodeId> covered;
  bool gathers = false;
  bool has_halves = false;  ///< operands of the shape's 16-bit type
};

/// Whether eight elements of each row can be loaded or stored in 16-byte pieces.
bool is_rows(const Operand& x, const std::optional<std::int32_t>& pitch) {
  const bool floats = x.dtype == DType::F16 || x.dtype == DType::BF16 || x.dtype == DType::F32;
  return floats && pitch && *pitch % 8 == 0 && x.alignment >= 16;
}

/// The type of the sum's 16-bit operands is that of `x`, if it has any so far; false where they differ.
bool agree_on_element(const Operand& x, Sum& sum) {
  if (x.dtype == DType::F32) return true;
  const codegen::ElementType element = x.dtype == DType::F16 ? codegen::ElementType::F16 : codegen::ElementType::BF16;
  if (sum.has_halves && sum.shape.element != element) return false;
  sum.shape.element = element;
  sum.has_halves = true;
  return true;
}

bool add_constant(const Context& context, ValueId value, RowTable table, const Argument& index, Sum& sum) {
  const std::vector<float> floats = context.constant_floats(value);
  table.is_float = sum.shape.float_output;
  if (!table.is_float && sum.shape.element == codegen::ElementType::F16 && !fits_f16(floats)) return false;
  sum.arguments.push_back(Argument::weights(sum.weights.size()));
  sum.arguments.push_back(index);
  sum.weights.push_back(table.is_float ? to_bytes(floats) : to_bytes(as_halves(sum.shape.element, floats)));
  sum.shape.tables.push_back(table);
  return true;
}

/// The node that gathers `value`, rows of a constant table, for one reader.
NodeId find_gather(const Context& context, ValueId value) {
  const NodeId id = context.sole_producer(value);
  if (id == kNone) return kNone;
  const Node& node = context.graph().node(id);
  if (node.op != &ops::kGather || node.as<cpu::GatherAttributes>().axis != 0 || node.outputs[0] != value) return kNone;
  const Operand table = context.input(node, 0);
  return table.constant && table.dims.size() == 2 ? id : kNone;
}

/// Rows of a constant table that dense numbers name.
bool add_gather(const Context& context, ValueId value, Sum& sum) {
  const NodeId id = find_gather(context, value);
  if (id == kNone) return false;
  const Node& node = context.graph().node(id);
  const Operand table = context.input(node, 0), index = context.input(node, 1);
  if (index.dtype != DType::I32 && index.dtype != DType::I64) return false;
  const ir::Dims dense = ir::dense_window(index.dims).strides;
  for (std::size_t d = 0; d < index.dims.size(); ++d) {
    if (index.dims[d] != 1 && index.strides[d] != dense[d]) return false;
  }
  if (table.dims[0] < 1 || table.dims[0] > INT32_MAX) return false;
  const RowTable rows = {static_cast<std::int32_t>(table.dims[0]), sum.shape.depth, index.dtype == DType::I32 ? 4 : 8, false};
  if (!add_constant(context, node.inputs[0], rows, Argument::read(index), sum)) return false;
  sum.covered.push_back(id);
  sum.gathers = true;
  return true;
}

bool add_term(const Context& context, ValueId value, Sum& sum) {
  if (add_gather(context, value, sum)) return true;
  const Operand x = context.operand(value);
  const RowsShape& shape = sum.shape;
  if (x.constant) {
    return std::int64_t{shape.rows} * shape.depth <= kMostRepeated && add_constant(context, value, {shape.rows, shape.depth, 0, false}, Argument::null(), sum);
  }
  const auto pitch = row_pitch(x);
  if (!is_rows(x, pitch) || !agree_on_element(x, sum)) return false;
  sum.arguments.push_back(Argument::read(x));
  sum.arguments.push_back(Argument::null());
  sum.shape.tables.push_back({shape.rows, *pitch, 0, x.dtype == DType::F32});
  return true;
}

/// Whether the program adds up its inputs, each once.
bool is_sum(const scalar::PointwiseProgram& program) {
  if (program.inputs < 2 || program.steps + 1 != program.inputs) return false;
  std::vector<int> reads(program.inputs + program.steps, 0);
  for (unsigned i = 0; i < program.steps; ++i) {
    const scalar::PointwiseStep& step = program.step[i];
    if (step.op != PointwiseOp::Add || static_cast<DType>(step.type) != DType::F32) return false;
    ++reads[step.a], ++reads[step.b];
  }
  return std::all_of(reads.begin(), reads.end() - 1, [](int count) { return count == 1; });
}

/// The node that sums `value` up from at most three terms for one reader.
NodeId find_sum(const Context& context, ValueId value) {
  const NodeId id = context.sole_producer(value);
  if (id == kNone) return kNone;
  const Node& node = context.graph().node(id);
  const bool sums = node.op == &ops::kPointwise && node.outputs[0] == value && node.inputs.size() <= 3;
  return sums && is_sum(node.as<scalar::PointwiseProgram>()) ? id : kNone;
}

/// The terms of a sum of rows, or the one value that is not one.
bool add_terms(const Context& context, const Node* pointwise, ValueId value, Sum& sum) {
  if (pointwise == nullptr) return add_term(context, value, sum);
  if (pointwise->inputs.size() > 3 || !is_sum(pointwise->as<scalar::PointwiseProgram>())) return false;
  return std::all_of(pointwise->inputs.begin(), pointwise->inputs.end(), [&](ValueId input) { return add_term(context, input, sum); });
}

std::vector<Candidate> candidates(const Context& context, NodeId id, std::size_t limit) {
  const ir::Graph& graph = context.graph();
  const Node& node = graph.node(id);
  const bool normalize = node.op == &ops::kNormalize;
  if (!normalize && node.op != &ops::kPointwise) return {};
  const Operand y = context.operand(node.outputs[0]);
  const auto pitch = row_pitch(y);
  if (!is_rows(y, pitch)) return context.refuse("its result is not rows in multiples of eight");
  Sum sum;
  sum.shape.float_output = y.dtype == DType::F32;
  agree_on_element(y, sum);
  sum.shape.rows = static_cast<std::int32_t>(row_count(y)), sum.shape.depth = static_cast<std::int32_t>(y.dims.back());
  sum.shape.output_pitch = *pitch;
  std::vector<float> parameters;
  if (normalize) {
    const auto& a = node.as<cpu::NormalizeAttributes>();
    const auto gamma = floats_along_rows(context, context.input(node, 1), y.dims.back(), 1.0f);
    const auto beta = floats_along_rows(context, context.input(node, 2), y.dims.back(), 0.0f);
    if (a.axes != 1u << (y.dims.size() - 1) || !gamma || !beta) return context.refuse("it does not normalise rows by constants");
    sum.shape.normalize = true, sum.shape.rms = a.rms != 0, sum.shape.epsilon = a.epsilon;
    parameters = *gamma;
    parameters.insert(parameters.end(), beta->begin(), beta->end());
    const NodeId before = find_sum(context, node.inputs[0]);
    const Sum empty = sum;
    if (before != kNone && add_terms(context, &graph.node(before), kNone, sum)) {
      sum.covered.push_back(before);
    } else {
      sum = empty;
      if (!add_terms(context, nullptr, node.inputs[0], sum)) return context.refuse("its operands are not rows in multiples of eight");
    }
  } else if (!add_terms(context, &node, kNone, sum) || !sum.gathers) {
    return {};
  }
  if (sum.shape.depth % 8 != 0 || sum.shape.depth > 2048 || !context.can_cover(id, sum.covered)) return context.refuse("its rows are too long");
  sum.arguments.resize(6, Argument::null());
  sum.arguments.push_back(normalize ? Argument::weights(sum.weights.size()) : Argument::null());
  sum.arguments.push_back(Argument::write(y));
  if (normalize) sum.weights.push_back(to_bytes(parameters));
  std::vector<Candidate> found;
  // Sixteen warps a multiprocessor load enough at a time; what they share, gamma and beta, is then read more rarely.
  const std::int32_t rows_per_warp = std::clamp(sum.shape.rows / (16 * context.target().multiprocessors), 1, 16);
  for (const std::int32_t threads : {rows_per_warp > 1 ? 128 : 64, 32, 256}) {
    if (found.size() == limit) break;
    Candidate candidate = Candidate::of({codegen::make_rows(sum.shape, threads, rows_per_warp, context.target()), sum.arguments}, DType::F32);
    candidate.weights = sum.weights;
    candidate.covered = sum.covered;
    found.push_back(std::move(candidate));
  }
  return found;
}

}  // namespace

bool is_sum_of_gathered_rows(const Context& context, ValueId value) {
  if (find_gather(context, value) != kNone) return true;
  const NodeId id = find_sum(context, value);
  if (id == kNone) return false;
  const std::vector<ValueId>& terms = context.graph().node(id).inputs;
  return std::any_of(terms.begin(), terms.end(), [&](ValueId term) { return find_gather(context, term) != kNone; });
}

void register_rows(Registry& registry) { registry.add({"rows", Rank::Fused, &candidates}); }

}  // namespace edgert::families
