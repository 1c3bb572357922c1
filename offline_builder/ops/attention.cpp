// SPDX-License-Identifier: Apache-2.0
// ONNX Attention and FlexAttention: softmax(Q Kᵀ scale + bias) V for groups of heads, as two matrix products around a
// softmax. Heads that share keys and values read them through views; so does everything else that only moves data.
#include <cmath>
#include <limits>

#include "edgert/cpu/ops/softmax.h"
#include "ops/compose.h"

namespace edgert::ops {
namespace {

/// Q [B, Hq, L, D], K [B, Hkv, S, D] and V [B, Hkv, S, Dv]; Hq is a multiple of Hkv.
struct Heads {
  ValueId q, k, v;
  std::int64_t batch, q_heads, kv_heads, queries, keys;
  bool packed;  ///< came as [B, L, Hq * D], and so must the result go

  /// Query heads with the key and value head that they share: [B, Hkv, Hq / Hkv, ...]; as they are without sharing.
  ValueId grouped(OnnxNode& node, ValueId x) const {
    const Dims dims = dims_of(node, x);
    if (q_heads == kv_heads) return x;
    return reshape(node, x, {batch, kv_heads, dims[1] / kv_heads, dims[2], dims[3]});
  }
  ValueId ungrouped(OnnxNode& node, ValueId x) const {
    const Dims dims = dims_of(node, x);
    return reshape(node, x, {batch, q_heads, dims[dims.size() - 2], dims.back()});
  }
};

/// [B, L, H * D] as a view [B, H, L, D].
ValueId unpack_heads(OnnxNode& node, ValueId x, std::int64_t heads, const char* what) {
  const Dims dims = dims_of(node, x);
  if (heads < 1 || dims[2] % heads != 0) {
    node.fail(std::string(what) + " " + ir::to_string(dims) + " cannot be cut into " + std::to_string(heads) + " heads");
  }
  return transpose(node, reshape(node, x, {dims[0], dims[1], heads, dims[2] / heads}), {0, 2, 1, 3});
}

Heads read_heads(OnnxNode& node) {
  Heads heads{};
  const std::size_t rank = node.type(0).dims.size();
  heads.packed = rank == 3;
  ValueId* const operands[] = {&heads.q, &heads.k, &heads.v};
  const char* const names[] = {"Q", "K", "V"};
  for (std::size_t i = 0; i < 3; ++i) {
    const Dims dims = node.type(i).dims;
    if (dims.size() != rank || (rank != 3 && rank != 4)) node.fail("Q, K and V must all have rank 3 or all rank 4");
    *operands[i] = cast_narrow(node, node.input(i));
    if (heads.packed) {
      const std::int64_t count = node.required_int(i == 0 ? "q_num_heads" : "kv_num_heads");
      *operands[i] = unpack_heads(node, *operands[i], count, names[i]);
    }
  }
  if (dtype_of(node, heads.q) != dtype_of(node, heads.k) || dtype_of(node, heads.q) != dtype_of(node, heads.v)) {
    node.fail("Q, K and V are of different precisions");
  }
  return heads;
}

/// Puts cached keys and values before the new ones, and checks that everything fits together.
void append_past(OnnxNode& node, Heads& heads, ValueId past_key, ValueId past_value) {
  if (past_key != ir::kNone) heads.k = concat(node, {cast_narrow(node, past_key), heads.k}, 2);
  if (past_value != ir::kNone) heads.v = concat(node, {cast_narrow(node, past_value), heads.v}, 2);
  const Dims q = dims_of(node, heads.q);
  const Dims k = dims_of(node, heads.k);
  const Dims v = dims_of(node, heads.v);
  if (k[0] != q[0] || v[0] != q[0] || k[1] != v[1] || k[2] != v[2] || k[3] != q[3] || k[1] < 1 || q[1] % k[1] != 0) {
    node.fail("Q " + ir::to_string(q) + ", K " + ir::to_string(k) + " and V " + ir::to_string(v) + " don't fit together");
  }
  heads.batch = q[0];
  heads.q_heads = q[1];
  heads.kv_heads = k[1];
  heads.queries = q[2];
  heads.keys = k[2];
}

/// Which keys a query may see by position: [L, S] or [B, 1, L, S], bool; kNone when all of them. Query i stands at
/// position i + offset among the keys, where the offset is what the cache holds before the queries.
ValueId visible_by_position(OnnxNode& node, const Heads& heads, std::int64_t past, ValueId valid_keys) {
  const std::int64_t left = node.int_or("left_window_size", -1);
  const std::int64_t right = node.int_or("right_window_size", -1);
  if (left < -1 || right < -1) node.fail("a window's size must be -1 or more");
  const bool causal = node.int_or("is_causal", 0) != 0;
  checked_constant_size(node, {heads.queries});
  checked_constant_size(node, {heads.keys});
  ValueId visible = ir::kNone;
  const auto restrict_to = [&](ValueId condition) {
    visible = visible == ir::kNone ? condition : binary(node, PointwiseOp::And, visible, condition);
  };
  const auto number = [&](std::int64_t value) { return int64_constant(node, {}, {value}); };
  const ValueId key = int64_constant(node, {heads.keys}, iota(heads.keys));
  ValueId query = int64_constant(node, {heads.queries, 1}, iota(heads.queries));
  if (valid_keys != ir::kNone) {
    require_dims(dims_of(node, valid_keys), {heads.batch}, "nonpad_kv_seqlen");
    const ValueId valid = reshape(node, valid_keys, {heads.batch, 1, 1, 1});
    restrict_to(binary(node, PointwiseOp::Less, key, valid));
    query = binary(node, PointwiseOp::Add, query, binary(node, PointwiseOp::Sub, valid, number(heads.queries)));
  } else {
    query = binary(node, PointwiseOp::Add, query, number(past));
  }
  if (causal) restrict_to(binary(node, PointwiseOp::LessOrEqual, key, query));
  // A window beyond all keys hides none; the bound keeps sums of positions from overflowing.
  if (left >= 0 && left < heads.keys + heads.queries) {
    restrict_to(binary(node, PointwiseOp::LessOrEqual, query, binary(node, PointwiseOp::Add, key, number(left))));
  }
  if (right >= 0 && right < heads.keys + heads.queries) {
    restrict_to(binary(node, PointwiseOp::LessOrEqual, key, binary(node, PointwiseOp::Add, query, number(right))));
  }
  return visible;
}

/// The mask with its last dimension filled up to `keys` with what hides a key.
ValueId padded_mask(OnnxNode& node, ValueId mask, std::int64_t keys) {
  Dims dims = dims_of(node, mask);
  const bool boolean = dtype_of(node, mask) == DType::Bool;
  if (dims.empty() || dims.back() >= keys || dims.back() == 1) return mask;
  const double hidden = boolean ? 0 : -std::numeric_limits<double>::infinity();
  dims.back() = keys - dims.back();
  const ValueId fill = expand(node, scalar_constant(node, dtype_of(node, mask), hidden), dims);
  return concat(node, {mask, fill}, dims.size() - 1);
}

/// What is added to the scores: 0 or minus infinity by position and boolean mask, plus a mask of numbers; kNone when
/// nothing is. Broadcasts to [B, Hq, L, S].
ValueId attention_bias(OnnxNode& node, const Heads& heads, ValueId mask, ValueId visible) {
  const DType dtype = dtype_of(node, heads.q);
  if (mask != ir::kNone) {
    mask = padded_mask(node, mask, heads.keys);
    const Dims full{heads.batch, heads.q_heads, heads.queries, heads.keys};
    if (ir::broadcast(dims_of(node, mask), full) != full) {
      node.fail("the mask " + ir::to_string(dims_of(node, mask)) + " does not broadcast to " + ir::to_string(full));
    }
    if (dtype_of(node, mask) == DType::Bool) {
      visible = visible == ir::kNone ? mask : binary(node, PointwiseOp::And, visible, mask);
      mask = ir::kNone;
    } else {
      mask = cast(node, mask, dtype);
    }
  }
  if (visible == ir::kNone) return mask;
  const double infinity = std::numeric_limits<double>::infinity();
  const ValueId hidden = scalar_constant(node, dtype, -infinity);
  if (mask != ir::kNone) return select(node, visible, mask, hidden);
  return select(node, visible, scalar_constant(node, dtype, 0), hidden);
}

ValueId scale(OnnxNode& node, ValueId x, double factor) {
  return factor == 1.0 ? x : binary(node, PointwiseOp::Mul, x, scalar_constant(node, dtype_of(node, x), factor));
}

/// Q Kᵀ scale, [B, Hq, L, S].
ValueId scores_of(OnnxNode& node, const Heads& heads) {
  const auto head_size = static_cast<double>(dims_of(node, heads.q).back());
  const double factor =
      node.has("scale") ? static_cast<double>(node.float_or("scale", 1)) : 1 / std::sqrt(head_size);
  const ValueId k = heads.grouped(node, heads.k);
  std::vector<std::int64_t> perm = iota(static_cast<std::int64_t>(dims_of(node, k).size()));
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  const ValueId q = heads.grouped(node, scale(node, heads.q, factor));
  return heads.ungrouped(node, matmul(node, q, transpose(node, k, perm)));
}

/// Scores of minus infinity only, where a query sees no key, give zeros.
ValueId probabilities_of(OnnxNode& node, ValueId scores) {
  cpu::SoftmaxAttributes attributes{};
  attributes.axis = static_cast<std::int32_t>(dims_of(node, scores).size()) - 1;
  attributes.zero_hidden = 1;
  const DType dtype = dtype_of(node, scores);
  const bool doubles = node.has("softmax_precision") &&
                       dtype_from_onnx(node, node.required_int("softmax_precision")) == DType::F64;
  return cast(node, node.emit(kSoftmax, {cast(node, scores, doubles ? DType::F64 : dtype)}, attributes), dtype);
}

void set_result(OnnxNode& node, const Heads& heads, ValueId probabilities) {
  const ValueId v = heads.grouped(node, heads.v);
  ValueId y = heads.ungrouped(node, matmul(node, heads.grouped(node, probabilities), v));
  if (heads.packed) {
    const std::int64_t hidden = heads.q_heads * dims_of(node, y).back();
    y = reshape(node, transpose(node, y, {0, 2, 1, 3}), {heads.batch, heads.queries, hidden});
  }
  node.set_output(0, cast(node, y, node.type(0).dtype));
}

void import_attention(OnnxNode& node) {
  const auto optional = [&](std::size_t i) { return node.has_input(i) ? node.inputs[i] : ir::kNone; };
  const ValueId past_key = optional(4);
  const ValueId past_value = optional(5);
  const ValueId valid_keys = optional(6);
  if ((past_key == ir::kNone) != (past_value == ir::kNone)) node.fail("past_key and past_value come together");
  if (past_key != ir::kNone && valid_keys != ir::kNone) node.fail("nonpad_kv_seqlen excludes past_key");
  std::int64_t past = 0;
  if (past_key != ir::kNone) {
    const Dims dims = dims_of(node, past_key);
    if (dims.size() != 4 || dims_of(node, past_value).size() != 4) node.fail("past_key and past_value need rank 4");
    past = dims[2];
  }
  Heads heads = read_heads(node);
  append_past(node, heads, past_key, past_value);
  const DType dtype = node.type(0).dtype;
  if (node.wants_output(1)) node.set_output(1, cast(node, heads.k, dtype));
  if (node.wants_output(2)) node.set_output(2, cast(node, heads.v, node.type(2).dtype));

  const std::int64_t mode = node.int_or("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3) node.fail("qk_matmul_output_mode must be 0 to 3, not " + std::to_string(mode));
  const auto show = [&](std::int64_t stage, ValueId x) {
    if (mode == stage && node.wants_output(3)) node.set_output(3, cast(node, x, dtype));
  };
  ValueId scores = scores_of(node, heads);
  show(0, scores);
  const double softcap = static_cast<double>(node.float_or("softcap", 0));
  if (softcap > 0) scores = scale(node, unary(node, PointwiseOp::Tanh, scale(node, scores, 1 / softcap)), softcap);
  show(1, scores);
  const ValueId visible = visible_by_position(node, heads, past, valid_keys);
  const ValueId bias = attention_bias(node, heads, optional(3), visible);
  if (bias != ir::kNone) scores = binary(node, PointwiseOp::Add, scores, bias);
  show(2, scores);
  const ValueId probabilities = probabilities_of(node, scores);
  show(3, probabilities);
  set_result(node, heads, probabilities);
}

void import_flex_attention(OnnxNode& node) {
  if (node.has("score_mod") || node.has("prob_mod")) node.fail("score_mod and prob_mod are not supported");
  Heads heads = read_heads(node);
  append_past(node, heads, ir::kNone, ir::kNone);
  if (heads.packed) node.fail("Q, K and V must have rank 4");
  set_result(node, heads, probabilities_of(node, scores_of(node, heads)));
}

}  // namespace

void register_attention(Registry& registry) {
  registry.add_onnx("Attention", &import_attention, 23);
  registry.add_onnx("FlexAttention", &import_flex_attention, 1, 1 << 30, "ai.onnx.preview");
}

}  // namespace edgert::ops
