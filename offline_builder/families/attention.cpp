// SPDX-License-Identifier: Apache-2.0
// softmax(Q K^T scale + mask) V in one launch: kernels/attention.cu. The graph has two products around a softmax, a
// pointwise node for scale and mask between them, maybe another one that scales Q, and behind them maybe a copy that puts
// the heads of a token side by side. Q, K and V are read where they lie, which may be a joint projection.
#include "codegen/attention_kernel.h"

#include <algorithm>
#include <cmath>

#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/softmax.h"
#include "families/dense.h"
#include "families/scores.h"
#include "ir/windows.h"
#include "ops/definitions.h"

namespace edgert::families {
namespace {

using codegen::AttentionMask;
using codegen::AttentionShape;
using codegen::AttentionView;
using ir::kNone;
using ir::Node;
using ir::NodeId;
using ir::ValueId;
using scalar::PointwiseOp;

/// Operands in the dims of the two products: [..., L, D], [..., D, S], [..., S, Dv], [..., L, Dv]. Leading dims are alike.
struct Parts {
  Operand q, k, v, y;
  Scores scores;
  Operand mask;  ///< [..., L, S]
  bool zero_hidden = false;
  std::vector<NodeId> covered;
};

bool is_plain(const scalar::Epilogue& epilogue) {
  return epilogue.activation == PointwiseOp::Identity && epilogue.residual == scalar::ResidualMode::None;
}

const Node* plain_product(const Context& context, NodeId id) {
  if (id == kNone) return nullptr;
  const Node& node = context.graph().node(id);
  if (node.op != &ops::kMatMul || context.input(node, 2).present()) return nullptr;
  return is_plain(node.as<cpu::MatMulAttributes>().epilogue) ? &node : nullptr;
}

/// The node whose whole result `value` is, read by nobody else, with the same rows: only leading dimensions may be grouped
/// otherwise.
NodeId producer_of_rows(const Context& context, ValueId value) {
  const NodeId id = context.sole_producer(value);
  if (id == kNone) return kNone;
  const ir::Graph& graph = context.graph();
  const ir::Dims& from = graph.value(graph.node(id).outputs[0]).type.dims;
  const ir::Dims& to = graph.value(value).type.dims;
  const std::optional<ir::Window> window = ir::Windows(graph).find(value);
  if (!window || window->root != graph.node(id).outputs[0] || from.size() < 2 || to.size() < 2) return kNone;
  if (!ir::is_row_major(window->view) || ir::element_count(from) != ir::element_count(to)) return kNone;
  return std::equal(from.end() - 2, from.end(), to.end() - 2) ? id : kNone;
}

/// Strides of an operand of dims `from` in dims `to`, which cut its leading dimensions finer. Empty where they do not.
std::optional<ir::Dims> refined_strides(const ir::Dims& from, const ir::Dims& strides, const ir::Dims& to) {
  ir::Dims out(to.size(), 0);
  std::size_t i = from.size();
  std::int64_t left = 1, stride = 0;
  for (std::size_t o = to.size(); o-- > 0;) {
    while (left == 1 && i > 0) left = from[--i], stride = strides[i];
    if (left % to[o] != 0) return std::nullopt;
    out[o] = to[o] == 1 ? 1 : stride;
    stride *= to[o];
    left /= to[o];
  }
  return left == 1 ? std::optional<ir::Dims>(out) : std::nullopt;
}

/// Where the elements of `root` lie once `window`, a rearranged view of all of it, is copied to `target`.
std::optional<Operand> behind_copy(const Operand& root, const ir::Window& window, const Operand& target) {
  if (window.root != root.value || window.view.offset != 0 || ir::element_count(window.view.dims) != ir::element_count(root.dims)) return std::nullopt;
  Operand out = target;
  out.dims = root.dims;
  out.strides.assign(root.dims.size(), 1);
  for (std::size_t d = 0; d < root.dims.size(); ++d) {
    if (root.dims[d] == 1) continue;
    bool found = false;
    for (std::size_t i = 0; i < window.view.dims.size() && !found; ++i) {
      const std::int64_t step = window.view.strides[i], extent = window.view.dims[i];
      if (extent == 1 || step < 1 || root.strides[d] % step != 0 || root.strides[d] / step * root.dims[d] > extent) continue;
      out.strides[d] = root.strides[d] / step * target.strides[i];
      found = true;
    }
    if (!found) return std::nullopt;
  }
  return out;
}

/// Q before a pointwise node that only multiplies it by a number, seen through the views between them.
bool unscale(const Context& context, ValueId value, Operand& q, float& scale, std::vector<NodeId>& covered) {
  const NodeId producer = context.sole_producer(value);
  if (producer == kNone) return false;
  const ir::Graph& graph = context.graph();
  const Node& node = graph.node(producer);
  if (node.op != &ops::kPointwise) return false;
  const auto source = scaled_input(context, node);
  if (!source) return false;
  const Operand x = context.operand(source->value);
  if (x.dims != graph.value(node.outputs[0]).type.dims) return false;
  std::vector<ValueId> views;
  for (ValueId v = value; v != node.outputs[0]; v = graph.producer(v)->inputs[0]) views.push_back(v);
  ops::StridedView view{0, x.dims, x.strides};
  for (auto it = views.rbegin(); it != views.rend(); ++it) {
    const Node& step = *graph.producer(*it);
    const auto next = step.op->view(step.attributes, view, graph.value(*it).type.dims);
    if (!next) return false;
    view = *next;
  }
  if (view.offset != 0) return false;
  q = x;
  q.dims = view.dims, q.strides = view.strides;
  scale *= source->scale;
  covered.push_back(producer);
  return true;
}

/// From the second product on, everything before it.
bool find_parts(const Context& context, const Node& values, Parts& parts) {
  const ir::Graph& graph = context.graph();
  const NodeId softmax_id = producer_of_rows(context, values.inputs[0]);
  if (softmax_id == kNone || graph.node(softmax_id).op != &ops::kSoftmax) return false;
  const Node& softmax = graph.node(softmax_id);
  const auto& a = softmax.as<cpu::SoftmaxAttributes>();
  const ir::Dims& dims = graph.value(softmax.outputs[0]).type.dims;
  if (a.log != 0 || a.axis != static_cast<std::int32_t>(dims.size()) - 1 || graph.value(softmax.outputs[0]).type.dtype != DType::F32) return false;
  parts.covered.push_back(softmax_id);
  parts.zero_hidden = a.zero_hidden != 0;
  ValueId raw = softmax.inputs[0];
  const NodeId between = producer_of_rows(context, raw);
  if (between != kNone && graph.node(between).op == &ops::kPointwise) {
    const Node& pointwise = graph.node(between);
    for (const ValueId input : pointwise.inputs) {
      const NodeId producer = producer_of_rows(context, input);
      if (producer == kNone || graph.node(producer).op != &ops::kMatMul) continue;
      const auto scores = scores_of(context, pointwise, input);
      if (!scores) continue;
      parts.scores = *scores;
      raw = input;
      parts.covered.push_back(between);
      break;
    }
    if (raw == softmax.inputs[0]) return false;
  }
  const NodeId first = producer_of_rows(context, raw);
  if (first == kNone || graph.node(first).op != &ops::kMatMul || context.input(graph.node(first), 2).present()) return false;
  const Node& product = graph.node(first);
  scalar::Epilogue epilogue = product.as<cpu::MatMulAttributes>().epilogue;
  if (epilogue.residual == scalar::ResidualMode::BeforeActivation && parts.scores.mask == kNone && parts.scores.scale == 1.0f) {
    // A mask of the scores' own shape has become part of the product.
    parts.scores.mask = product.inputs[3];
    parts.scores.kind = Scores::Kind::Added;
    epilogue.residual = scalar::ResidualMode::None;
  }
  if (!is_plain(epilogue)) return false;
  parts.covered.push_back(first);
  parts.q = context.input(product, 0), parts.k = context.input(product, 1), parts.v = context.input(values, 1);
  unscale(context, product.inputs[0], parts.q, parts.scores.scale, parts.covered);
  if (parts.scores.mask == kNone) return true;
  // The mask has the softmax's dims, or the first product's; the products' may group heads otherwise.
  parts.mask = context.operand(parts.scores.mask);
  const auto strides = refined_strides(parts.mask.dims, parts.mask.strides, graph.value(product.outputs[0]).type.dims);
  if (!strides) return false;
  parts.mask.dims = graph.value(product.outputs[0]).type.dims;
  parts.mask.strides = *strides;
  return true;
}

/// The leading dimensions as two, images and heads, with the strides of all operands along them. False when it takes more.
bool set_leading(AttentionShape& shape, const Parts& parts) {
  const Operand* operands[] = {&parts.q, &parts.k, &parts.v, &parts.y, &parts.mask};
  AttentionView* views[] = {&shape.q, &shape.k, &shape.v, &shape.y, &shape.mask_view};
  struct Level {
    std::int64_t extent = 1;
    std::int64_t strides[5] = {};
  };
  std::vector<Level> levels;
  for (std::size_t d = 0; d + 2 < parts.q.dims.size(); ++d) {
    if (parts.q.dims[d] == 1) continue;
    Level level;
    level.extent = parts.q.dims[d];
    for (int i = 0; i < 5; ++i) level.strides[i] = operands[i]->present() ? operands[i]->strides[d] : 0;
    bool merges = !levels.empty();
    for (int i = 0; i < 5 && merges; ++i) merges = levels.back().strides[i] == level.strides[i] * level.extent;
    if (merges) {
      level.extent *= levels.back().extent;
      levels.pop_back();
    }
    levels.push_back(level);
  }
  if (levels.size() > 2) return false;
  levels.insert(levels.begin(), 2 - levels.size(), Level{});
  shape.batch = static_cast<std::int32_t>(levels[0].extent), shape.heads = static_cast<std::int32_t>(levels[1].extent);
  for (int i = 0; i < 5; ++i) views[i]->batch = levels[0].strides[i], views[i]->head = levels[1].strides[i];
  return true;
}

/// A stride between rows; of a single one none is needed, but the kernels ask for a multiple of eight.
std::int64_t row_stride(const Operand& x, std::size_t dim) { return x.dims[dim] == 1 ? 0 : x.strides[dim]; }

const char* set_shape(const Context& context, const Parts& parts, AttentionShape& shape) {
  const std::size_t rank = parts.q.dims.size(), rows = rank - 2, inner = rank - 1;
  for (const Operand* x : {&parts.q, &parts.k, &parts.v, &parts.y}) {
    if (x->dims.size() != rank || !std::equal(x->dims.begin(), x->dims.end() - 2, parts.q.dims.begin())) return "its products have different batches";
    const bool halves = x->dtype == parts.y.dtype && (x->dtype == DType::F16 || x->dtype == DType::BF16);
    if (!halves || !fits_int32(*x) || x->alignment < 16) return "its operands are not f16 or bf16 in multiples of eight";
    const std::size_t channels = x == &parts.k ? rows : inner;  // of K they come first
    if (x->dims[channels] != 1 && x->strides[channels] != 1) return "channels of its operands are not neighbours";
  }
  shape.queries = static_cast<std::int32_t>(parts.q.dims[rows]), shape.keys = static_cast<std::int32_t>(parts.k.dims[inner]);
  shape.depth = static_cast<std::int32_t>(parts.q.dims[inner]), shape.value_depth = static_cast<std::int32_t>(parts.v.dims[inner]);
  shape.element = parts.y.dtype == DType::F16 ? codegen::ElementType::F16 : codegen::ElementType::BF16;
  shape.scale = parts.scores.scale;
  shape.hidden = parts.scores.hidden;
  shape.zero_hidden = parts.zero_hidden;
  if (!set_leading(shape, parts)) return "it has more than images and heads";
  shape.q.row = row_stride(parts.q, rows), shape.k.row = row_stride(parts.k, inner);
  shape.v.row = row_stride(parts.v, rows), shape.y.row = row_stride(parts.y, rows);
  if (!parts.mask.present()) return nullptr;
  if (const auto offset = causal_offset(context, parts.scores)) {
    shape.mask = AttentionMask::Causal;
    shape.mask_view = {};
    shape.causal_offset = static_cast<std::int32_t>(*offset);
    return nullptr;
  }
  const DType dtype = parts.mask.dtype;
  const bool added = parts.scores.kind == Scores::Kind::Added;
  if (added ? dtype != parts.y.dtype && dtype != DType::F32 : dtype != DType::Bool) return "its mask is of another type";
  if ((shape.keys != 1 && parts.mask.strides[inner] != 1) || !fits_int32(parts.mask)) return "its mask's keys are not neighbours";
  if (added) {
    shape.mask = dtype == DType::F32 ? AttentionMask::AdditiveFloat : AttentionMask::Additive;
    // The lowest float hides what it is added to, but of nothing else a softmax gives a mean; as f16, or times log2(e), it
    // would be minus infinity.
    if (!parts.zero_hidden) shape.hidden = kLowestScore;
  } else {
    shape.mask = parts.scores.kind == Scores::Kind::Keep ? AttentionMask::Keep : AttentionMask::Hide;
  }
  shape.mask_view.row = row_stride(parts.mask, rows);
  return nullptr;
}

std::vector<Candidate> candidates(const Context& context, NodeId id, std::size_t limit) {
  const ir::Graph& graph = context.graph();
  const Node& node = graph.node(id);
  Parts parts;
  NodeId product = id;
  if (node.op == &ops::kCopy) {
    product = context.sole_producer(node.inputs[0]);
    if (product != kNone) parts.covered.push_back(product);
  }
  const Node* values = plain_product(context, product);
  if (values == nullptr || !find_parts(context, *values, parts)) return {};
  parts.y = context.operand(values->outputs[0]);
  if (product != id) {
    const auto behind = behind_copy(parts.y, ir::Windows(graph).find(node.inputs[0]).value(), context.operand(node.outputs[0]));
    if (!behind) return {};
    parts.y = *behind;
  }
  AttentionShape shape;
  if (const char* problem = set_shape(context, parts, shape)) return context.refuse_fusion(problem);
  if (!context.can_cover(id, parts.covered)) return context.refuse_fusion("others read what is between its products");
  std::vector<Candidate> found;
  for (const codegen::AttentionTile& tile : codegen::rank_attention_tiles(shape, context.target(), limit)) {
    Launch launch;
    launch.spec = codegen::make_attention(shape, tile, context.target());
    launch.spread = true;
    const bool reads_mask = shape.mask != AttentionMask::None && shape.mask != AttentionMask::Causal;
    launch.arguments = {Argument::read(parts.q), Argument::read(parts.k), Argument::read(parts.v),
                        reads_mask ? Argument::read(parts.mask) : Argument::null(), Argument::write(parts.y),
                        Argument::later_weights(), Argument::later_weight_bytes()};
    Candidate candidate = Candidate::of(std::move(launch), parts.y.dtype);
    candidate.covered = parts.covered;
    found.push_back(std::move(candidate));
  }
  return found.empty() ? context.refuse_fusion("no tile of fused attention fits") : found;
}

}  // namespace

void register_attention(Registry& registry) { registry.add({"attention", Rank::Fused, &candidates}); }

}  // namespace edgert::families
