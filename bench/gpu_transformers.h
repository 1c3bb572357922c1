// SPDX-License-Identifier: Apache-2.0
// ViT-S/16 and BERT-base as the kernels see them, at batch 1: five launches a block. A block's layer normalisations are
// part of the products that read them, the sums of its residual stream part of those that write it.
#pragma once

#include <cmath>

#include "bench/gpu_networks.h"

namespace edgert::bench {

/// Puts rows of tokens together; widths follow from the tensor that a layer reads.
class TransformerBuilder {
 public:
  TransformerBuilder(std::string name, int tokens, int width, int heads, float epsilon)
      : tokens_(tokens), width_(width), heads_(heads), epsilon_(epsilon) {
    network_.name = std::move(name);
  }

  int tensor(std::size_t elements, int bytes = 2) {
    network_.tensors.push_back({elements, bytes});
    return static_cast<int>(network_.tensors.size()) - 1;
  }

  /// [tokens][in] times [in][out]. `normalized`: a tensor for the normalised rows, or -1.
  int product(int input, int in, int out, scalar::Epilogue epilogue, int residual, bool layer_norm, int normalized = -1, int rows = 0) {
    Layer layer;
    layer.input = input;
    layer.residual = residual;
    layer.normalized = normalized;
    codegen::ConvShape& c = layer.conv;
    c.width = c.out_width = rows == 0 ? tokens_ : rows;
    c.channels = c.input_pitch = in;
    c.out_channels = c.output_pitch = c.residual_pitch = out;
    c.layer_norm = layer_norm;
    c.store_normalized = normalized >= 0;
    c.epsilon = epsilon_;
    c.epilogue = epilogue;
    if (residual >= 0) c.epilogue.residual = scalar::ResidualMode::BeforeActivation;
    layer.output = tensor(std::size_t(c.width) * out);
    network_.layers.push_back(layer);
    return layer.output;
  }

  int attention(int qkv, codegen::AttentionMask mask = codegen::AttentionMask::None, int mask_tensor = -1) {
    Layer layer;
    layer.kind = LayerKind::Attention;
    layer.input = qkv;
    layer.residual = mask_tensor;
    codegen::AttentionShape& a = layer.attention;
    const std::int64_t row = 3 * width_;
    a.heads = heads_, a.queries = a.keys = tokens_, a.depth = a.value_depth = width_ / heads_;
    a.q = a.k = a.v = {tokens_ * row, row, a.depth};
    a.y = {std::int64_t{tokens_} * width_, width_, a.depth};
    a.mask = mask;
    a.scale = 1.0f / std::sqrt(static_cast<float>(a.depth));
    layer.part[1] = static_cast<std::size_t>(width_), layer.part[2] = static_cast<std::size_t>(2 * width_);
    layer.output = tensor(std::size_t(tokens_) * width_);
    network_.layers.push_back(layer);
    return layer.output;
  }

  void add(const Layer& layer) { network_.layers.push_back(layer); }
  Network& network() { return network_; }

 private:
  int tokens_, width_, heads_;
  float epsilon_;
  Network network_;
};

inline scalar::Epilogue gelu() {
  scalar::Epilogue e = {};
  e.activation = scalar::PointwiseOp::Gelu;
  return e;
}

/// Tokens: the class token, then 14 x 14 patches. Output: logits as halves.
inline Network vit_s16() {
  constexpr int kTokens = 197, kWidth = 384;
  TransformerBuilder b("ViT-S/16", kTokens, kWidth, 6, 1e-6f);
  const int image = b.tensor(3 * 224 * 224, 4);
  const int first = b.tensor(std::size_t(kTokens) * kWidth);
  Layer token;  // class token plus its position
  token.kind = LayerKind::Rows;
  token.output = first;
  token.rows.depth = token.rows.output_pitch = kWidth;
  token.rows.tables = {{1, kWidth, 0}, {1, kWidth, 0}};
  b.add(token);
  Layer patches;
  patches.input = image;
  patches.output = first;
  patches.output_offset = kWidth;
  patches.constant_residual = true;
  codegen::ConvShape& c = patches.conv;
  c.image = true;
  c.height = c.width = 224, c.channels = 3, c.out_height = c.out_width = 14, c.out_channels = kWidth;
  c.kernel[0] = c.kernel[1] = c.stride[0] = c.stride[1] = 16;
  c.output_pitch = c.residual_pitch = kWidth;
  c.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  b.add(patches);
  int x = first;
  for (int block = 0; block < 12; ++block) {
    const int mixed = b.attention(b.product(x, kWidth, 3 * kWidth, linear(), -1, true));
    x = b.product(mixed, kWidth, kWidth, linear(), x, false);
    x = b.product(b.product(x, kWidth, 4 * kWidth, gelu(), -1, true), 4 * kWidth, kWidth, linear(), x, false);
  }
  b.product(x, kWidth, 1000, linear(), -1, true, -1, 1);  // of the first row alone
  return std::move(b.network());
}

/// 128 tokens with a mask; tensor 0 holds their numbers, then their segments. Outputs: the hidden state and the pooled
/// first token.
inline Network bert_base() {
  constexpr int kTokens = 128, kWidth = 768;
  TransformerBuilder b("BERT-base, S 128", kTokens, kWidth, 12, 1e-12f);
  b.network().token_input = true;
  const int numbers = b.tensor(2 * kTokens, 4);
  const int mask = b.tensor(kTokens);
  int x = b.tensor(std::size_t(kTokens) * kWidth);
  Layer embed;
  embed.kind = LayerKind::Rows;
  embed.input = numbers;
  embed.output = x;
  embed.rows.rows = kTokens;
  embed.rows.depth = embed.rows.output_pitch = kWidth;
  embed.rows.tables = {{30522, kWidth, 4}, {512, kWidth, 0}, {2, kWidth, 4}};
  embed.rows.normalize = true;
  embed.rows.epsilon = 1e-12f;
  b.add(embed);
  // A block normalises its sums after adding, so the normalised rows are what the next sum adds to: the product that
  // normalises them stores them too.
  for (int block = 0; block < 12; ++block) {
    int stream = x;
    int joint = 0;
    if (block == 0) {
      joint = b.product(x, kWidth, 3 * kWidth, linear(), -1, false);
    } else {
      stream = b.tensor(std::size_t(kTokens) * kWidth);
      joint = b.product(x, kWidth, 3 * kWidth, linear(), -1, true, stream);
    }
    const int sum = b.product(b.attention(joint, codegen::AttentionMask::Additive, mask), kWidth, kWidth, linear(), stream, false);
    stream = b.tensor(std::size_t(kTokens) * kWidth);
    x = b.product(b.product(sum, kWidth, 4 * kWidth, gelu(), -1, true, stream), 4 * kWidth, kWidth, linear(), stream, false);
  }
  Layer last;
  last.kind = LayerKind::Rows;
  last.input = x;
  last.output = b.tensor(std::size_t(kTokens) * kWidth);
  last.rows = embed.rows;
  last.rows.tables = {{kTokens, kWidth, 0}};
  last.rows_of_input = true;
  b.add(last);
  Layer pool;
  pool.kind = LayerKind::Gemv;
  pool.input = last.output;
  pool.output = b.tensor(kWidth, 4);
  pool.gemv.depth = pool.gemv.input_pitch = pool.gemv.outputs = pool.gemv.output_pitch = kWidth;
  pool.gemv.float_output = true;
  pool.gemv.epilogue.activation = scalar::PointwiseOp::Tanh;
  b.add(pool);
  return std::move(b.network());
}

}  // namespace edgert::bench
