// SPDX-License-Identifier: Apache-2.0
// The attention of com.microsoft, which ONNX Runtime's optimiser and its model builders write: operands are brought into
// heads, and the rest is ONNX's Attention. A masked key's score gets mask_filter_value added, as ONNX Runtime does it.
#include "ops/compose.h"

namespace edgert::ops {
namespace {

ValueId optional(OnnxNode& node, std::size_t i) { return node.has_input(i) ? node.inputs[i] : ir::kNone; }

void refuse_inputs(const OnnxNode& node, std::initializer_list<std::pair<std::size_t, const char*>> inputs) {
  for (const auto& [i, name] : inputs) {
    if (node.has_input(i)) node.fail(std::string(name) + " is not supported");
  }
}

/// [B, S, N * D] as a view [B, N, S, D].
ValueId into_heads(OnnxNode& node, ValueId x, std::int64_t heads) {
  const Dims dims = dims_of(node, x);
  if (dims.size() != 3 || heads < 1 || dims[2] % heads != 0) {
    node.fail(ir::to_string(dims) + " cannot be cut into " + std::to_string(heads) + " heads");
  }
  return transpose(node, reshape(node, x, {dims[0], dims[1], heads, dims[2] / heads}), {0, 2, 1, 3});
}

/// The inverse.
ValueId from_heads(OnnxNode& node, ValueId x) {
  const Dims dims = dims_of(node, x);
  return reshape(node, transpose(node, x, {0, 2, 1, 3}), {dims[0], dims[2], dims[1] * dims[3]});
}

/// Operands of ONNX's Attention, all in heads, and what is asked of it.
struct Call {
  ValueId q = ir::kNone, k = ir::kNone, v = ir::kNone, bias = ir::kNone, past_key = ir::kNone, past_value = ir::kNone, valid_keys = ir::kNone;
  OnnxAttributes attributes;
};

/// Result [B, S, N * D], present key and present value.
std::vector<ValueId> attend(OnnxNode& node, const Call& call) {
  OnnxAttributes attributes = call.attributes;
  const float scale = node.float_or("scale", 0);  // 0: the default
  if (scale != 0) attributes["scale"] = float_attribute(scale);
  std::vector<ValueId> outputs = onnx_operator(
      node, "Attention", 24, {call.q, call.k, call.v, call.bias, call.past_key, call.past_value, call.valid_keys}, std::move(attributes), 3);
  outputs[0] = from_heads(node, outputs[0]);
  return outputs;
}

ValueId sum_of(OnnxNode& node, ValueId a, ValueId b) {
  if (a == ir::kNone || b == ir::kNone) return a == ir::kNone ? b : a;
  return binary(node, PointwiseOp::Add, a, b);
}

/// What a mask of input i adds to the scores, so that it broadcasts to [B, N, S, T]; kNone without a mask. The mask says
/// which keys count: [B, T], [B, S, T] or [B, 1, S, T] of ones and zeros, how many [B], or their ends and starts [2 * B].
ValueId mask_bias(OnnxNode& node, std::size_t i, std::int64_t batch, std::int64_t keys, DType dtype) {
  if (!node.has_input(i)) return ir::kNone;
  const ValueId mask = cast(node, node.input(i), DType::I32);
  const Dims dims = dims_of(node, mask);
  ValueId visible = ir::kNone;
  if (dims.size() == 1) {
    checked_constant_size(node, {keys});
    const ValueId key = cast(node, int64_constant(node, {keys}, iota(keys)), DType::I32);
    const auto bound = [&](std::int64_t first) { return reshape(node, slice(node, mask, 0, first, batch), {batch, 1, 1, 1}); };
    if (dims[0] != batch && dims[0] != 2 * batch) node.fail("a mask " + ir::to_string(dims) + " is not supported");
    visible = binary(node, PointwiseOp::Less, key, bound(0));
    if (dims[0] != batch) visible = binary(node, PointwiseOp::And, visible, binary(node, PointwiseOp::LessOrEqual, bound(batch), key));
  } else {
    Dims full = dims;
    if (dims.size() == 2 || dims.size() == 3) full.insert(full.begin() + 1, dims.size() == 2 ? 2 : 1, 1);
    if (full.size() != 4) node.fail("a mask " + ir::to_string(dims) + " is not supported");
    const ValueId zero = scalar_constant(node, DType::I32, 0);
    visible = binary(node, PointwiseOp::Greater, reshape(node, mask, full), zero);
  }
  const auto hidden = static_cast<double>(node.float_or("mask_filter_value", -10000.0f));
  return select(node, visible, scalar_constant(node, dtype, 0), scalar_constant(node, dtype, hidden));
}

std::int64_t positive(const OnnxNode& node, const char* attribute) {
  return to_int32(node.required_int(attribute), 1, std::string("attribute '") + attribute + "'");
}

/// Queries, keys and values are one product of the input with joined weights.
void import_attention(OnnxNode& node) {
  refuse_inputs(node, {{6, "past_sequence_length"}});
  if (node.int_or("do_rotary", 0) != 0 || node.int_or("past_present_share_buffer", 0) != 0) {
    node.fail("do_rotary and past_present_share_buffer are not supported");
  }
  const Dims dims = node.type(0).dims;
  const DType dtype = node.type(0).dtype;
  const std::int64_t heads = positive(node, "num_heads");
  ValueId joined = onnx_operator(node, "MatMul", 13, {node.input(0), node.input(1)}, {})[0];
  joined = sum_of(node, joined, optional(node, 2));
  const Dims joined_dims = dims_of(node, joined);
  if (dims.size() != 3 || joined_dims.size() != 3) node.fail("the input must have rank 3, not " + std::to_string(dims.size()));
  const std::int64_t third = joined_dims[2] / 3;
  const std::vector<std::int64_t> sizes = node.ints_or("qkv_hidden_sizes", {third, third, third});
  if (sizes.size() != 3 || sizes[0] < 1 || sizes[1] < 1 || sizes[2] < 1 || sizes[0] + sizes[1] + sizes[2] != joined_dims[2]) {
    node.fail("qkv_hidden_sizes don't make up " + std::to_string(joined_dims[2]));
  }
  Call call;
  call.q = into_heads(node, slice(node, joined, 2, 0, sizes[0]), heads);
  call.k = into_heads(node, slice(node, joined, 2, sizes[0], sizes[1]), heads);
  call.v = into_heads(node, slice(node, joined, 2, sizes[0] + sizes[1], sizes[2]), heads);
  std::int64_t keys = dims[1];
  if (node.has_input(4)) {
    const Dims past = node.type(4).dims;
    if (past.size() != 5 || past[0] != 2) node.fail("past must have shape [2, batch, heads, keys, size]");
    const auto half = [&](std::int64_t which) { return reshape(node, slice(node, node.input(4), 0, which, 1), Dims(past.begin() + 1, past.end())); };
    call.past_key = half(0);
    call.past_value = half(1);
    keys += past[3];
  }
  call.bias = sum_of(node, mask_bias(node, 3, dims[0], keys, dtype), optional(node, 5));
  call.attributes["is_causal"] = int_attribute(node.int_or("unidirectional", 0));
  const std::vector<ValueId> outputs = attend(node, call);
  node.set_output(0, outputs[0]);
  if (!node.wants_output(1)) return;
  std::vector<ValueId> halves;
  for (std::size_t i = 1; i < 3; ++i) {
    Dims lifted = dims_of(node, outputs[i]);
    lifted.insert(lifted.begin(), 1);
    halves.push_back(reshape(node, outputs[i], lifted));
  }
  node.set_output(1, concat(node, halves, 0));
}

/// One of several tensors that lie side by side in dimension 3 of x [B, S, N, parts, D], as [B, N, S, D].
ValueId part_of(OnnxNode& node, ValueId x, std::int64_t part) {
  const Dims dims = dims_of(node, x);
  return transpose(node, reshape(node, slice(node, x, 3, part, 1), {dims[0], dims[1], dims[2], dims[4]}), {0, 2, 1, 3});
}

/// Q, K and V of MultiHeadAttention, which may come packed, and with one bias for all three.
void read_operands(OnnxNode& node, Call& call) {
  const std::int64_t heads = positive(node, "num_heads");
  const Dims query = node.type(0).dims;
  if (query.size() == 5) {  // [B, S, N, 3, D]
    if (query[3] != 3 || node.has_input(1) || node.has_input(2) || node.has_input(3)) node.fail("a packed query comes alone");
    call.q = part_of(node, node.input(0), 0);
    call.k = part_of(node, node.input(0), 1);
    call.v = part_of(node, node.input(0), 2);
    return;
  }
  std::int64_t begin = 0;
  const auto operand = [&](std::size_t i) {
    if (node.type(i).dims.size() == 4) return node.input(i);  // in heads already, and the bias added
    const std::int64_t size = node.type(i).dims.back();
    ValueId x = node.input(i);
    if (node.has_input(3)) x = binary(node, PointwiseOp::Add, x, slice(node, node.input(3), 0, begin, size));
    begin += size;
    return into_heads(node, x, heads);
  };
  if (query.size() != 3) node.fail("the query must have rank 3 or 5, not " + std::to_string(query.size()));
  call.q = operand(0);
  const Dims key = node.type(1).dims;
  if (key.size() == 5) {  // [B, T, N, 2, D]
    if (key[3] != 2 || node.has_input(2) || node.has_input(3)) node.fail("a packed key comes alone");
    call.k = part_of(node, node.input(1), 0);
    call.v = part_of(node, node.input(1), 1);
    return;
  }
  if (key.size() != 3 && key.size() != 4) node.fail("the key must have rank 3, 4 or 5, not " + std::to_string(key.size()));
  if (node.type(2).dims.size() != key.size()) node.fail("key and value differ in rank");
  call.k = operand(1);
  call.v = operand(2);
}

void import_multi_head_attention(OnnxNode& node) {
  refuse_inputs(node, {{8, "past_sequence_length"}, {9, "cache_indirection"}});
  if (node.wants_output(3)) node.fail("the scores as an output are not supported");
  Call call;
  read_operands(node, call);
  call.past_key = optional(node, 6);
  call.past_value = optional(node, 7);
  std::int64_t keys = dims_of(node, call.k)[2];
  if (call.past_key != ir::kNone && dims_of(node, call.past_key).size() == 4) keys += dims_of(node, call.past_key)[2];
  call.bias = sum_of(node, mask_bias(node, 4, dims_of(node, call.q)[0], keys, node.type(0).dtype), optional(node, 5));
  call.attributes["is_causal"] = int_attribute(node.int_or("unidirectional", 0));
  const std::vector<ValueId> outputs = attend(node, call);
  for (std::size_t i = 0; i < 3; ++i) {
    if (node.wants_output(i)) node.set_output(i, outputs[i]);
  }
}

/// Keys or values of a cache [1, N, P, D], of which the first `filled` count, with the new ones behind those:
/// [1, N, P + S, D], or as long as the model declares them.
ValueId appended(OnnxNode& node, ValueId past, ValueId fresh, ValueId filled, std::size_t output) {
  const std::int64_t room = dims_of(node, past)[2];
  std::int64_t rows = room + dims_of(node, fresh)[2];
  const std::optional<Dims> declared = node.declared(output);
  if (declared && declared->size() == 4 && (*declared)[2] >= 1 && (*declared)[2] < rows) rows = (*declared)[2];
  checked_constant_size(node, {rows});
  const auto number = [&](std::int64_t value) { return int64_constant(node, {}, {value}); };
  const ValueId row = int64_constant(node, {rows}, iota(rows));
  const ValueId shifted = binary(node, PointwiseOp::Add, row, binary(node, PointwiseOp::Sub, number(room), filled));
  const ValueId last = number(room + dims_of(node, fresh)[2] - 1);
  const ValueId source = select(node, binary(node, PointwiseOp::Less, row, filled), row, binary(node, PointwiseOp::Min, shifted, last));
  return gather(node, concat(node, {past, fresh}, 2), source, 2);
}

/// Positions of the queries, [B, S] int64: they follow what the cache holds, if there is one.
ValueId positions_of(OnnxNode& node, std::int64_t batch, std::int64_t queries, ValueId filled) {
  if (node.has_input(9)) return cast(node, node.input(9), DType::I64);
  checked_constant_size(node, {queries});
  ValueId position = int64_constant(node, {1, queries}, iota(queries));
  if (filled != ir::kNone) position = binary(node, PointwiseOp::Add, position, filled);
  return expand(node, position, {batch, queries});
}

/// Causal attention with a cache, in which several heads of the query share those of key and value. Input 5 says how
/// many keys there are with the new ones, less one; without a cache the keys are just the new ones.
void import_group_query_attention(OnnxNode& node) {
  refuse_inputs(node, {{11, "head_sink"}});
  if (node.int_or("smooth_softmax", 0) > 0 || node.int_or("qk_output", 0) != 0) node.fail("smooth_softmax and qk_output are not supported");
  const std::int64_t heads = positive(node, "num_heads");
  const std::int64_t shared = positive(node, "kv_num_heads");
  const Dims dims = node.type(0).dims;
  if (dims.size() != 3) node.fail("the query must have rank 3, not " + std::to_string(dims.size()));
  Call call;
  if (node.has_input(1)) {
    call.q = into_heads(node, node.input(0), heads);
    call.k = into_heads(node, node.input(1), shared);
    call.v = into_heads(node, node.input(2), shared);
  } else {
    const std::int64_t all = heads + 2 * shared;
    const ValueId packed = into_heads(node, node.input(0), all);
    call.q = slice(node, packed, 1, 0, heads);
    call.k = slice(node, packed, 1, heads, shared);
    call.v = slice(node, packed, 1, heads + shared, shared);
  }
  const bool cached = node.has_input(3) && node.has_input(4) && node.type(3).dims.size() == 4 && node.type(3).dims[2] > 0;
  ValueId filled = ir::kNone;
  if (cached) {
    if (dims[0] != 1) node.fail("a cache with a batch of " + std::to_string(dims[0]) + " is not supported");
    const ValueId last = reshape(node, cast(node, node.input(5), DType::I64), {});
    filled = binary(node, PointwiseOp::Add, last, int64_constant(node, {}, {1 - dims[1]}));
    call.valid_keys = reshape(node, binary(node, PointwiseOp::Add, last, int64_constant(node, {}, {1})), {1});
  }
  if (node.int_or("do_rotary", 0) != 0) {
    const ValueId positions = positions_of(node, dims[0], dims[1], filled);
    for (ValueId* x : {&call.q, &call.k}) {
      OnnxAttributes attributes{{"interleaved", int_attribute(node.int_or("rotary_interleaved", 0))}};
      const std::int64_t rotated = 2 * node.type(7).dims.back();
      if (rotated != dims_of(node, *x)[3]) attributes["rotary_embedding_dim"] = int_attribute(rotated);
      *x = onnx_operator(node, "RotaryEmbedding", 23, {*x, node.input(7), node.input(8), positions}, std::move(attributes))[0];
    }
  }
  if (cached) {
    call.k = appended(node, node.input(3), call.k, filled, 1);
    call.v = appended(node, node.input(4), call.v, filled, 2);
  }
  call.bias = optional(node, 10);
  call.attributes["is_causal"] = int_attribute(1);
  if (node.has("softcap")) call.attributes["softcap"] = float_attribute(node.float_or("softcap", 0));
  // ONNX Runtime counts the query itself.
  const std::int64_t window = node.int_or("local_window_size", -1);
  if (window > 0) call.attributes["left_window_size"] = int_attribute(window - 1);
  const std::vector<ValueId> outputs = attend(node, call);
  for (std::size_t i = 0; i < 3; ++i) {
    if (node.wants_output(i)) node.set_output(i, outputs[i]);
  }
}

/// Positions are given, [B, S], or only the first, [1].
void import_rotary_embedding(OnnxNode& node) {
  if (node.float_or("scale", 1) != 1.0f || node.int_or("is_packed_batching", 0) != 0) node.fail("scale and is_packed_batching are not supported");
  const Dims dims = node.type(0).dims;
  if (dims.size() != 3 && dims.size() != 4) node.fail("the input must have rank 3 or 4, not " + std::to_string(dims.size()));
  const std::int64_t tokens = dims[dims.size() - 2];
  ValueId positions = cast(node, node.input(1), DType::I64);
  if (dims_of(node, positions).size() == 1) {
    checked_constant_size(node, {tokens});
    const ValueId first = reshape(node, positions, {1, 1});
    positions = expand(node, binary(node, PointwiseOp::Add, first, int64_constant(node, {1, tokens}, iota(tokens))), {dims[0], tokens});
  }
  OnnxAttributes attributes;
  for (const char* name : {"interleaved", "rotary_embedding_dim"}) {
    if (node.has(name)) attributes[name] = int_attribute(node.int_or(name, 0));
  }
  std::int64_t heads = node.int_or("num_heads", 0);
  if (node.type(2).dims.size() != 2 || node.type(2).dims[1] < 1) node.fail("the cache of angles must have rank 2");
  if (heads == 0 && dims.size() == 3) heads = dims[2] / (2 * node.type(2).dims[1]);
  if (dims.size() == 3) attributes["num_heads"] = int_attribute(heads);
  node.set_output(0, onnx_operator(node, "RotaryEmbedding", 23, {node.input(0), node.input(2), node.input(3), positions}, std::move(attributes))[0]);
}

}  // namespace

void register_contrib_attention(Registry& registry) {
  const auto add = [&](const char* name, OnnxImporter importer) {
    registry.add_onnx(name, importer, 1, 1 << 30, "com.microsoft");
  };
  add("Attention", &import_attention);
  add("MultiHeadAttention", &import_multi_head_attention);
  add("GroupQueryAttention", &import_group_query_attention);
  add("RotaryEmbedding", &import_rotary_embedding);
}

}  // namespace edgert::ops
