# SPDX-License-Identifier: Apache-2.0
"""Transformers and a recurrent network, with the shapes of the models of these names and the node patterns of PyTorch's
exporters. The sequence lengths are fixed.

Each is a function of a `Graph` that returns its output; `SEQUENCES` lists them with parameter counts and inputs.
"""

import numpy as np
from onnx import TensorProto


def layer_norm(graph, scope, x, epsilon, decomposed=False):
    """One node, or the eight of exporters for operator sets before 17."""
    weight = graph.parameter(f"{scope}.weight", (x.channels,), 0.1, mean=1.0)
    bias = graph.parameter(f"{scope}.bias", (x.channels,), 0.1)
    if not decomposed:
        return graph.node(scope, "LayerNormalization", [x, weight, bias], x.channels, axis=-1, epsilon=epsilon)
    centred = graph.node(scope, "Sub", [x, graph.node(scope, "ReduceMean", [x], axes=[-1])])
    square = graph.node(scope, "Pow", [centred, graph.constant("two", np.float32(2))])
    variance = graph.node(scope, "ReduceMean", [square], axes=[-1])
    biased = graph.add(scope, variance, graph.constant(f"{scope}.epsilon", np.float32(epsilon)))
    y = graph.node(scope, "Div", [centred, graph.node(scope, "Sqrt", [biased])])
    y = graph.node(scope, "Mul", [y, weight])
    return graph.node(scope, "Add", [y, bias], x.channels)


def dense(graph, scope, x, features, deviation=0.02):
    """x [..., C] times weights [C, features], plus a bias."""
    weight = graph.parameter(f"{scope}.weight", (x.channels, features), deviation)
    bias = graph.parameter(f"{scope}.bias", (features,), deviation)
    return graph.node(scope, "Add", [graph.node(scope, "MatMul", [x, weight]), bias], features)


def to_heads(graph, scope, x, tokens, heads):
    """[N, tokens, C] as [N, heads, tokens, C / heads]."""
    y = graph.reshape(scope, x, [-1, tokens, heads, x.channels // heads])
    return graph.transpose(scope, y, [0, 2, 1, 3])


def attend(graph, scope, q, k, v, width, tokens, mask=None, scale_queries=False):
    """softmax(Q Kᵀ / sqrt(d) + mask) V with the heads side by side again."""
    factor = graph.constant(f"scale_{width}", np.float32(width**-0.5))
    if scale_queries:
        q = graph.node(scope, "Mul", [q, factor])
    scores = graph.node(scope, "MatMul", [q, graph.transpose(scope, k, [0, 1, 3, 2])])
    if not scale_queries:
        scores = graph.node(scope, "Mul", [scores, factor])
    if mask is not None:
        scores = mask(scores)
    y = graph.node(scope, "MatMul", [graph.node(scope, "Softmax", [scores], axis=-1), v])
    return graph.transpose(scope, y, [0, 2, 1, 3])


# ViT-S/16 (Dosovitskiy et al., 2020; the small size of Touvron et al., 2020), for 224 x 224 pixels.


def vit_s16(graph):
    width, heads = 384, 6
    patches = (graph.size // 16) ** 2
    tokens = patches + 1
    x = graph.conv("patch_embed", graph.input(), width, 16, 16, padding=0, bias=True)
    x = graph.transpose("patch_embed", graph.reshape("patch_embed", x, [-1, width, patches]), [0, 2, 1])
    first = graph.parameter("cls_token", (1, 1, width), 0.02)
    # The token is repeated for the whole batch.
    zeros = graph.node("cls", "Mul", [graph.node("cls", "ReduceMean", [x], axes=[1]), graph.constant("zero", np.float32(0))])
    x = graph.node("cls", "Concat", [graph.add("cls", zeros, first), x], axis=1)
    x = graph.node("pos_embed", "Add", [x, graph.parameter("pos_embed", (1, tokens, width), 0.5)], width)
    for i in range(12):
        scope = f"blocks.{i}"
        y = dense(graph, f"{scope}.qkv", layer_norm(graph, f"{scope}.norm1", x, 1e-6), 3 * width, 0.08)
        y = graph.reshape(scope, y, [-1, tokens, 3, heads, width // heads])
        y = graph.transpose(scope, y, [2, 0, 3, 1, 4])
        q, k, v = (graph.node(scope, "Gather", [y, graph.constant(f"index_{n}", np.int64(n))], axis=0) for n in range(3))
        y = attend(graph, scope, q, k, v, width // heads, tokens, scale_queries=True)
        y = graph.reshape(scope, y, [-1, tokens, width], width)
        x = graph.node(scope, "Add", [x, dense(graph, f"{scope}.proj", y, width, 0.05)], width)
        y = dense(graph, f"{scope}.fc1", layer_norm(graph, f"{scope}.norm2", x, 1e-6), 4 * width, 0.05)
        y = dense(graph, f"{scope}.fc2", graph.activation(scope, y, "gelu"), width, 0.05)
        x = graph.node(scope, "Add", [x, y], width)
    x = layer_norm(graph, "norm", x, 1e-6)
    x = graph.node("pool", "Gather", [x, graph.constant("index_0", np.int64(0))], width, axis=1)
    return graph.linear("head", x, 1000)


# BERT-base (Devlin et al., 2018), uncased, 128 tokens, with its pooler.

BERT_TOKENS = 128
BERT_WORDS = 30522


def bert_base(graph):
    width, heads, tokens = 768, 12, BERT_TOKENS
    ids = graph.add_input("input_ids", TensorProto.INT64, ["N", tokens])
    mask = graph.add_input("attention_mask", TensorProto.INT64, ["N", tokens])
    kinds = graph.add_input("token_type_ids", TensorProto.INT64, ["N", tokens])
    axes = graph.constant("mask.axes", np.int64([1, 2]))
    hidden = graph.node("mask", "Cast", [graph.node("mask", "Unsqueeze", [mask, axes])], to=TensorProto.FLOAT)
    hidden = graph.node("mask", "Sub", [graph.constant("one", np.float32(1)), hidden])
    hidden = graph.node("mask", "Mul", [hidden, graph.constant("lowest", np.finfo(np.float32).min)])

    words = graph.parameter("embeddings.word", (BERT_WORDS, width), 0.5)
    places = graph.parameter("embeddings.position", (512, width), 0.2)
    types = graph.parameter("embeddings.type", (2, width), 0.2)
    x = graph.add("embeddings", graph.node("embeddings", "Gather", [words, ids]),
                  graph.node("embeddings", "Gather", [types, kinds]))
    positions = graph.constant("positions", np.arange(tokens)[np.newaxis])
    x = graph.node("embeddings", "Add", [x, graph.node("embeddings", "Gather", [places, positions])], width)
    x = layer_norm(graph, "embeddings.norm", x, 1e-12, decomposed=True)
    for i in range(12):
        scope = f"encoder.{i}"
        q, k, v = (to_heads(graph, f"{scope}.{name}", dense(graph, f"{scope}.{name}", x, width, 0.04), tokens, heads)
                   for name in ("query", "key", "value"))
        y = attend(graph, scope, q, k, v, width // heads, tokens, lambda s: graph.node(scope, "Add", [s, hidden]))
        y = graph.reshape(scope, y, [-1, tokens, width], width)
        y = dense(graph, f"{scope}.output", y, width, 0.04)
        x = layer_norm(graph, f"{scope}.norm1", graph.node(scope, "Add", [y, x], width), 1e-12, decomposed=True)
        y = graph.activation(scope, dense(graph, f"{scope}.up", x, 4 * width, 0.04), "gelu")
        y = dense(graph, f"{scope}.down", y, width, 0.03)
        x = layer_norm(graph, f"{scope}.norm2", graph.node(scope, "Add", [y, x], width), 1e-12, decomposed=True)
    first = graph.node("pooler", "Gather", [x, graph.constant("index_0", np.int64(0))], width, axis=1)
    return graph.node("pooler", "Tanh", [graph.linear("pooler", first, width)], width)


def bert_inputs(rng, count, size):
    """Sentences of different lengths in two segments."""
    lengths = rng.integers(BERT_TOKENS // 2, BERT_TOKENS + 1, (count, 1))
    place = np.arange(BERT_TOKENS)[np.newaxis]
    return {
        "input_ids": rng.integers(0, BERT_WORDS, (count, BERT_TOKENS)),
        "attention_mask": (place < lengths).astype(np.int64),
        "token_type_ids": (place > BERT_TOKENS // 4).astype(np.int64).repeat(count, axis=0),
    }


# GPT-2 (Radford et al., 2019), the small size: one forward pass over 64 tokens; the scores of the last one.

GPT_TOKENS = 64
GPT_WORDS = 50257


def conv1d(graph, scope, x, features, tokens, deviation):
    """transformers' Conv1D: the tokens of the batch as the rows of one Gemm."""
    weight = graph.parameter(f"{scope}.weight", (x.channels, features), deviation)
    bias = graph.parameter(f"{scope}.bias", (features,), 0.02)
    y = graph.node(scope, "Gemm", [graph.reshape(scope, x, [-1, x.channels]), weight, bias])
    return graph.reshape(scope, y, [-1, tokens, features], features)


def gpt2(graph):
    width, heads, tokens = 768, 12, GPT_TOKENS
    ids = graph.add_input("input_ids", TensorProto.INT64, ["N", tokens])
    words = graph.parameter("wte", (GPT_WORDS, width), 0.1)
    places = graph.parameter("wpe", (1024, width), 0.05)
    position = graph.node("wpe", "Gather", [places, graph.constant("positions", np.arange(tokens)[np.newaxis])])
    x = graph.node("wte", "Add", [graph.node("wte", "Gather", [words, ids]), position], width)
    visible = graph.constant("visible", np.tril(np.ones((1, 1, tokens, tokens), bool)))
    lowest = graph.constant("lowest", np.finfo(np.float32).min)
    for i in range(12):
        scope = f"h.{i}"
        y = conv1d(graph, f"{scope}.attn", layer_norm(graph, f"{scope}.ln_1", x, 1e-5), 3 * width, tokens, 0.05)
        parts = graph.split(scope, y, [width] * 3, axis=2)
        q, k, v = (to_heads(graph, scope, part, tokens, heads) for part in parts)
        y = attend(graph, scope, q, k, v, width // heads, tokens,
                   lambda s: graph.node(scope, "Where", [visible, s, lowest]))
        y = graph.reshape(scope, y, [-1, tokens, width], width)
        x = graph.node(scope, "Add", [x, conv1d(graph, f"{scope}.proj", y, width, tokens, 0.03)], width)
        y = conv1d(graph, f"{scope}.fc", layer_norm(graph, f"{scope}.ln_2", x, 1e-5), 4 * width, tokens, 0.03)
        y = conv1d(graph, f"{scope}.out", graph.activation(scope, y, "gelu_tanh"), width, tokens, 0.03)
        x = graph.node(scope, "Add", [x, y], width)
    x = layer_norm(graph, "ln_f", x, 1e-5)
    x = graph.node("last", "Gather", [x, graph.constant("index_last", np.int64(tokens - 1))], width, axis=1)
    return graph.node("lm_head", "MatMul", [x, graph.transpose("lm_head", words, [1, 0])], GPT_WORDS)


# A speech recogniser: a strided convolution over log-mel frames, two bidirectional LSTM layers, one GRU, scores of 32
# characters a frame.

SPEECH_FRAMES = 200
SPEECH_BANDS = 80


def recurrent(graph, scope, operator, x, hidden, direction):
    gates = {"LSTM": 4, "GRU": 3}[operator]
    directions = 2 if direction == "bidirectional" else 1
    weight = graph.parameter(f"{scope}.W", (directions, gates * hidden, x.channels), x.channels**-0.5)
    state = graph.parameter(f"{scope}.R", (directions, gates * hidden, hidden), hidden**-0.5)
    bias = graph.parameter(f"{scope}.B", (directions, 2 * gates * hidden), 0.1)
    attributes = {"linear_before_reset": 1} if operator == "GRU" else {}
    y = graph.node(scope, operator, [x, weight, state, bias], hidden_size=hidden, direction=direction, **attributes)
    # [T, D, N, H] as [T, N, D * H]
    y = graph.transpose(scope, y, [0, 2, 1, 3])
    return graph.reshape(scope, y, [0, 0, -1], directions * hidden)


def lstm_speech(graph):
    x = graph.add_input("input", TensorProto.FLOAT, ["N", SPEECH_BANDS, SPEECH_FRAMES])
    weight = graph.parameter("conv.weight", (256, SPEECH_BANDS, 5), (2 / (5 * SPEECH_BANDS)) ** 0.5)
    bias = graph.parameter("conv.bias", (256,), 0.1)
    x = graph.node("conv", "Conv", [x, weight, bias], 256, kernel_shape=[5], strides=[2], pads=[2, 2])
    x = graph.transpose("conv", graph.activation("conv", x, "relu"), [2, 0, 1], 256)
    for i in range(2):
        x = recurrent(graph, f"lstm.{i}", "LSTM", x, 256, "bidirectional")
    x = recurrent(graph, "gru", "GRU", x, 256, "forward")
    x = dense(graph, "fc", graph.transpose("fc", x, [1, 0, 2], x.channels), 32, 0.1)
    return graph.node("output", "LogSoftmax", [x], axis=-1)


def speech_inputs(rng, count, size):
    return {"input": rng.standard_normal((count, SPEECH_BANDS, SPEECH_FRAMES), np.float32)}


def gpt_inputs(rng, count, size):
    return {"input_ids": rng.integers(0, GPT_WORDS, (count, GPT_TOKENS))}


# name: (network, parameters, rank of the output[, inputs])
SEQUENCES = {
    "vit_s16": (vit_s16, 22_050_664, 2),
    "bert_base": (bert_base, 109_482_240, 2, bert_inputs),
    "gpt2": (gpt2, 124_439_808, 2, gpt_inputs),
    "lstm_speech": (lstm_speech, 3_331_872, 3, speech_inputs),
}
