# SPDX-License-Identifier: Apache-2.0
"""Matrix products, convolutions, pools, normalizations, quantised and recurrent operators."""

import numpy as np

from graph_builder import Skip, operator


def image(g, channels=None, rank=4, dtypes=None, least=1, exact=False):
    """A value [N, C, spatial...] without empty extents."""
    fits = lambda v: v.rank == rank and all(d > 0 for d in v.shape) and all(d >= least for d in v.shape[2:]) and channels in (None, v.shape[1])
    shape = lambda: (g.integer(1, 2), channels or g.choose([1, 2, 3, 4, 5, 8, 12, 16, 17, 24]), *(g.integer(least, max(least, 9)) for _ in range(rank - 2)))
    return g.pick(dtypes, fits, shape, exact)


def weights(g, shape, dtype="float32", fan_in=1):
    """Constants with sums of about the size of their operands."""
    return g.constant((g.rng.normal(0, 1, shape) / np.sqrt(max(fan_in, 1))).astype(dtype))


def convolution(g, x, filters, kernel, groups=1, bias=True, **attributes):
    fan_in = x.shape[1] // groups * int(np.prod(kernel))
    w = weights(g, (filters, x.shape[1] // groups, *kernel), x.dtype, fan_in)
    operands = [x, w] + ([weights(g, (filters,), x.dtype)] if bias else [])
    if groups != 1:
        attributes["group"] = groups
    return g.node("Conv", operands, magnitude=x.magnitude * 3 + 3, **attributes)


@operator(6)
def conv(g):
    rank = g.choose([3, 4, 4, 4, 4, 4, 5])
    x = image(g, rank=rank, dtypes=("float32",) if g.chance(0.9) else None)
    channels = x.shape[1]
    spatial = rank - 2
    kernel = [g.choose([1, 3]) for _ in range(spatial)] if g.chance(0.3) else [g.choose([1, 1, 3, 3, 5, 2, 7])] * spatial
    groups = 1
    if g.chance(0.35):
        groups = g.choose([n for n in range(1, channels + 1) if channels % n == 0][-3:])
    filters = groups * g.choose([1, 1, 2, 3, 4, 8] if groups > 1 else [1, 2, 3, 5, 8, 16, 17, 32])
    attributes = {}
    if g.chance(0.3):
        attributes["strides"] = [g.integer(1, 3) for _ in range(spatial)]
    if g.chance(0.2):
        attributes["dilations"] = [g.integer(1, 2) for _ in range(spatial)]
    kind = g.rng.random()
    if kind < 0.2 and "dilations" not in attributes:
        attributes["auto_pad"] = g.choose(["SAME_UPPER", "SAME_LOWER", "VALID"])
    elif kind < 0.65:
        attributes["pads"] = [k // 2 for k in kernel] * 2
    elif kind < 0.8:
        attributes["pads"] = [g.integer(0, 2) for _ in range(2 * spatial)]
    if g.chance(0.8):
        attributes["kernel_shape"] = kernel
    convolution(g, x, filters, kernel, groups, g.chance(0.6), **attributes)


@operator(0.6)
def large_conv(g):
    """Enough tiles for Winograd's algorithm."""
    x = g.add_input((1, g.choose([3, 8, 16]), g.integer(15, 24), g.integer(15, 24)), "float32")
    convolution(g, x, g.choose([8, 16, 24]), [3, 3], pads=[1, 1, 1, 1])


@operator(1.2)
def conv_transpose(g):
    rank = g.choose([3, 4, 4, 4])
    x = image(g, rank=rank, dtypes=("float32",))
    spatial, channels = rank - 2, x.shape[1]
    groups = g.choose([n for n in range(1, channels + 1) if channels % n == 0]) if g.chance(0.3) else 1
    kernel = [g.integer(1, 4) for _ in range(spatial)]
    filters = g.integer(1, 4)
    strides = [g.integer(1, 3) for _ in range(spatial)]
    attributes = {"strides": strides, "group": groups}
    if g.chance(0.3):
        attributes["pads"] = [g.integer(0, (k - 1) // 2) for k in kernel] * 2
    if g.chance(0.3):
        attributes["output_padding"] = [g.integer(0, s - 1) for s in strides]
    if g.chance(0.2):
        attributes["dilations"] = [g.integer(1, 2) for _ in range(spatial)]
    w = weights(g, (channels, filters, *kernel), x.dtype, channels)
    bias = [weights(g, (filters * groups,), x.dtype)] if g.chance(0.5) else []
    g.node("ConvTranspose", [x, w, *bias], magnitude=x.magnitude * 8 + 3, **attributes)


@operator(3)
def pool(g):
    op = g.choose(["MaxPool", "AveragePool", "MaxPool", "AveragePool", "LpPool"])
    rank = g.choose([3, 4, 4, 4, 5])
    x = image(g, rank=rank, dtypes=("float32",), exact=op == "MaxPool" and g.chance(0.2))
    spatial = rank - 2
    kernel = [g.integer(1, min(4, d)) for d in x.shape[2:]]
    attributes = {"kernel_shape": kernel}
    if g.chance(0.6):
        attributes["strides"] = [g.integer(1, 3) for _ in range(spatial)]
    # ONNX Runtime lets the padding become negative where a window is smaller than its stride; it is 0 by definition.
    if g.chance(0.15) and all(k >= s for k, s in zip(kernel, attributes.get("strides", [1] * spatial))):
        attributes["auto_pad"] = g.choose(["SAME_UPPER", "SAME_LOWER"])
    elif g.chance(0.6):
        attributes["pads"] = [g.integer(0, (k - 1) // 2) for k in kernel] * 2 if g.chance(0.7) else [g.integer(0, k - 1) for k in kernel * 2]
    if g.chance(0.25) and g.opset >= 10 and op != "LpPool" and "auto_pad" not in attributes:
        attributes["ceil_mode"] = 1
    if op == "MaxPool" and g.chance(0.2) and g.opset >= 10 and "auto_pad" not in attributes:
        attributes["dilations"] = [g.integer(1, 2) if 2 * k <= d else 1 for k, d in zip(kernel, x.shape[2:])]
    if op == "AveragePool" and g.chance(0.4):
        attributes["count_include_pad"] = 1
    if op == "LpPool":
        attributes["p"] = g.integer(1, 3)
    if op == "MaxPool" and x.exact and g.chance(0.4):
        g.node(op, [x], 2, exact=True, **attributes)
        return
    g.node(op, [x], exact=op == "MaxPool", magnitude=x.magnitude * (30 if op == "LpPool" else 1), **attributes)


@operator(1)
def global_pool(g):
    x = image(g, rank=g.choose([3, 4, 4, 5]))
    op = g.choose(["GlobalAveragePool", "GlobalMaxPool"])
    g.node(op, [x], exact=op == "GlobalMaxPool")


def batch_normalization(g, x):
    channels = x.shape[1]
    mean, variance = g.numbers((channels,), x.dtype), (np.abs(g.numbers((channels,), x.dtype)) + 0.5).astype(x.dtype)
    operands = [x, g.operand((channels,), x.dtype, constant=0.95), g.operand((channels,), x.dtype, constant=0.95), g.constant(mean), g.constant(variance)]
    attributes = {"epsilon": 1e-3} if g.chance(0.3) else {}
    return g.node("BatchNormalization", operands, magnitude=(x.magnitude + 2) * 3, **attributes)


@operator(2)
def batch_norm(g):
    batch_normalization(g, image(g, rank=g.choose([2, 3, 4, 4, 4]), dtypes=("float32",)))


@operator(1.5)
def normalization(g):
    op = g.choose(["InstanceNormalization", "LayerNormalization", "LayerNormalization", "GroupNormalization", "LRN", "MeanVarianceNormalization"])
    if op == "LayerNormalization":
        x = g.pick(("float32",), fits=lambda v: v.rank > 0 and v.size > 0)
        axis = g.choose([-1, -1, g.integer(-x.rank, x.rank - 1)])
        normalized = x.shape[axis % x.rank :]
        operands = [x, g.operand(normalized, "float32")] + ([g.operand(normalized, "float32")] if g.chance(0.7) else [])
        g.node(op, operands, magnitude=10, axis=axis, **({"epsilon": 1e-3} if g.chance(0.5) else {}))
        return
    x = image(g, rank=g.choose([3, 4, 4]), dtypes=("float32",), least=2)
    channels = x.shape[1]
    if op == "InstanceNormalization":
        g.node(op, [x, weights(g, (channels,)), weights(g, (channels,))], magnitude=20, epsilon=1e-3)
    elif op == "GroupNormalization":
        groups = g.choose([n for n in range(1, channels + 1) if channels % n == 0])
        extent = channels if g.opset >= 21 else groups
        g.node(op, [x, weights(g, (extent,)), weights(g, (extent,))], magnitude=20, num_groups=groups, epsilon=1e-3)
    elif op == "LRN" and x.rank == 4:
        g.node(op, [x], size=g.choose([1, 3, 5]), alpha=0.1, beta=0.75, bias=1.5)
    elif x.rank == 4:
        g.node(op, [x], magnitude=20)


@operator(5)
def matmul(g):
    a = g.pick(fits=lambda v: v.rank > 0 and v.size > 0)
    k = a.shape[-1]
    kind = g.rng.random()
    if kind < 0.5:
        b = weights(g, (k, g.choose([1, 2, 3, 8, 16, 17, 33])), a.dtype, k)
    elif kind < 0.6:
        b = weights(g, (k,), a.dtype, k)
    else:
        there = [v for v in g.values if v.dtype == a.dtype and v.rank > 1 and v.size > 0 and v.shape[-2] == k
                 and all(x == y or 1 in (x, y) for x, y in zip(v.shape[-3::-1], a.shape[-3::-1]))]
        lead = [1 if g.chance(0.3) else d for d in a.shape[:-2]][g.integer(0, max(a.rank - 2, 0)) :]
        b = g.choose(there) if there and g.chance(0.7) else g.operand((*lead, k, g.choose([1, 3, 5, 8])), a.dtype, constant=0.4)
    y = g.node("MatMul", [a, b], magnitude=a.magnitude * b.magnitude * np.sqrt(k) * 2)
    if y.rank and g.chance(0.4):
        y = g.node("Add", [y, weights(g, y.shape[-1:], a.dtype)], magnitude=y.magnitude + 4)


@operator(0.7)
def large_matmul(g):
    """Beyond the blocks of the kernels, and not a multiple of them."""
    a = g.add_input((*g.choose([(), (2,)]), g.choose([1, 5, 31, 70]), g.choose([64, 100, 257])), "float32")
    b = weights(g, (a.shape[-1], g.choose([33, 64, 130])), fan_in=a.shape[-1])
    y = g.node("MatMul", [a, b], magnitude=6)
    if g.chance(0.5):
        g.node("Relu", [g.node("Add", [y, weights(g, y.shape[-1:])], magnitude=10)])


@operator(2)
def gemm(g):
    a = g.pick(("float32", "float64"), fits=lambda v: v.rank == 2 and v.size > 0)
    trans_a, trans_b = g.integer(0, 1), g.integer(0, 1)
    rows, k = a.shape[::-1] if trans_a else a.shape
    n = g.choose([1, 2, 5, 8, 16, 19])
    b = g.operand((n, k) if trans_b else (k, n), a.dtype, constant=0.85)
    operands = [a, b]
    if g.chance(0.7):
        operands.append(g.operand(g.choose([(), (n,), (1, n), (rows, 1), (rows, n), (1,), (1, 1)]), a.dtype, constant=0.8))
    attributes = {k: v for k, v in {"transA": trans_a, "transB": trans_b}.items() if v or g.chance(0.3)}
    if g.chance(0.3):
        attributes["alpha"] = g.choose([0.5, 2.0, -1.0])
    if g.chance(0.3):
        attributes["beta"] = g.choose([0.5, 2.0, 0.0])
    g.node("Gemm", operands, magnitude=a.magnitude * b.magnitude * 2 * np.sqrt(k) * 2 + 4, **attributes)


EINSUMS = ["ij,jk->ik", "bij,bjk->bik", "bhid,bhjd->bhij", "ij->ji", "bij->bj", "bij,bij->b", "i,j->ij", "bijd,bjkd->bikd", "...ij,...jk->...ik"]


@operator(0.7)
def einsum(g):
    if g.opset < 12:
        raise Skip
    equation = g.choose(EINSUMS)
    sizes = {letter: g.integer(1, 5) for letter in "bhijkd"}
    operands = []
    for term in equation.split("->")[0].split(","):
        operands.append(g.operand(tuple(sizes[c] for c in term.replace("...", "b")), "float32", constant=0.4))
    g.node("Einsum", operands, magnitude=100, equation=equation)


@operator(1)
def quantize(g):
    x = g.pick(("float32",), fits=lambda v: v.rank > 0, exact=True)
    kind = g.choose(["uint8", "int8"])
    per_axis = g.chance(0.3) and g.opset >= 13
    shape = (x.shape[-1],) if per_axis else ()
    scale = g.constant(np.exp2(g.rng.integers(-6, 0, shape)).astype(np.float32))
    zero = g.constant(np.asarray(g.rng.integers(0, 7, shape), kind))
    attributes = {"axis": x.rank - 1} if per_axis else {}
    q = g.node("QuantizeLinear", [x, scale, zero], exact=True, **attributes)
    if g.chance(0.7):
        g.node("DequantizeLinear", [q, scale, zero], exact=True, magnitude=300, **attributes)


@operator(0.5)
def dynamic_quantize(g):
    x = g.pick(("float32",), fits=lambda v: v.size > 0, exact=True)
    g.node("DynamicQuantizeLinear", [x], 3, magnitude=300)


@operator(0.8)
def integer_product(g):
    a_type, b_type = g.choose(["uint8", "int8"]), g.choose(["uint8", "int8"])
    if g.chance(0.5):
        a = g.pick((a_type,), fits=lambda v: v.rank >= 2 and v.size > 0, shape=lambda: [max(d, 1) for d in g.shape(g.integer(2, 3))])
        b = g.operand((a.shape[-1], g.integer(1, 9)), b_type)
        zeros = [g.constant(np.array(g.integer(0, 5), t)) for t in (a_type, b_type)][: g.integer(0, 2)]
        g.node("MatMulInteger", [a, b, *zeros])
        return
    x = image(g, dtypes=(a_type,), least=3)
    w = g.operand((g.integer(1, 5), x.shape[1], 3, 3), b_type)
    zeros = [g.constant(np.array(g.integer(0, 5), t)) for t in (a_type, b_type)][: g.integer(0, 2)]
    if a_type == "int8" or b_type == "int8":
        raise Skip  # ONNX Runtime has no ConvInteger for signed inputs
    g.node("ConvInteger", [x, w, *zeros], pads=[1, 1, 1, 1])


@operator(0.5)
def quantized_conv(g):
    x = image(g, dtypes=("uint8",), least=3)
    filters = g.integer(1, 6)
    w = g.constant(g.rng.integers(-20, 20, (filters, x.shape[1], 3, 3)).astype(np.int8))
    scale = lambda value: g.constant(np.array(value, np.float32))
    zero = lambda value, kind: g.constant(np.array(value, kind))
    bias = [g.constant(g.rng.integers(-50, 50, filters).astype(np.int32))] if g.chance(0.5) else []
    g.node("QLinearConv", [x, scale(0.25), zero(3, np.uint8), w, scale(0.0625), zero(0, np.int8), scale(0.5), zero(10, np.uint8), *bias], pads=[1, 1, 1, 1])


@operator(0.7)
def grid_sample(g):
    if g.opset < 20:
        raise Skip  # onnx's reference knows the modes by their names since 20 only
    x = image(g, dtypes=("float32",), least=2)
    grid = g.rng.uniform(-1.3, 1.3, (x.shape[0], g.integer(1, 5), g.integer(1, 5), 2)).astype(np.float32)
    mode = g.choose(["linear", "nearest", "cubic"])
    # ONNX Runtime clamps the positions of cubic taps in another way than the definition does.
    padding = "zeros" if mode == "cubic" else g.choose(["zeros", "border", "reflection"])
    g.node("GridSample", [x, g.add_input(grid.shape, "float32", grid)], mode=mode, padding_mode=padding,
           align_corners=g.integer(0, 1), magnitude=2 * x.magnitude)


@operator(1)
def recurrent(g):
    op, gates = g.choose([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    steps, batch, features, hidden = g.integer(1, 5), g.integer(1, 3), g.integer(1, 9), g.choose([1, 3, 4, 8, 17])
    x = g.pick(("float32",), fits=lambda v: v.rank == 3 and v.size > 0, shape=lambda: (steps, batch, features))
    steps, batch, features = x.shape
    direction = g.choose(["forward", "reverse", "bidirectional"])
    both = 2 if direction == "bidirectional" else 1
    operands = [x, weights(g, (both, gates * hidden, features), fan_in=features), weights(g, (both, gates * hidden, hidden), fan_in=hidden)]
    operands.append(weights(g, (both, 2 * gates * hidden)) if g.chance(0.6) else None)
    operands.append(g.constant(g.rng.integers(1, steps + 1, batch).astype(np.int32)) if g.chance(0.3) else None)
    operands.append(g.operand((both, batch, hidden), "float32") if g.chance(0.4) else None)
    if op == "LSTM":
        operands.append(g.operand((both, batch, hidden), "float32") if g.chance(0.4) else None)
    attributes = {"hidden_size": hidden, "direction": direction}
    if op == "GRU" and g.chance(0.5):
        attributes["linear_before_reset"] = 1
    g.node(op, operands, 3 if op == "LSTM" else 2, magnitude=3, **attributes)


@operator(1)
def transformer_operator(g):
    """Operators since 23."""
    if g.opset < 23:
        raise Skip
    op = g.choose(["RMSNormalization", "RotaryEmbedding", "Attention"])
    if op == "RMSNormalization":
        x = g.pick(("float32",), fits=lambda v: v.rank > 0 and v.size > 0)
        axis = g.choose([-1, -1, g.integer(-x.rank, x.rank - 1)])
        g.node(op, [x, g.operand(x.shape[axis % x.rank :], "float32")], magnitude=10, axis=axis, epsilon=1e-3)
        return
    batch, length, heads, size = g.integer(1, 2), g.integer(1, 7), g.choose([1, 2, 4]), g.choose([2, 4, 8])
    if op == "RotaryEmbedding":
        x = g.operand((batch, heads, length, size), "float32", constant=0)
        angles = g.rng.uniform(-3, 3, (length + 2, size // 2)).astype(np.float32)
        positions = g.constant(g.rng.integers(0, length + 2, (batch, length)).astype(np.int64))
        g.node(op, [x, g.constant(np.cos(angles)), g.constant(np.sin(angles)), positions], magnitude=3, interleaved=g.integer(0, 1))
        return
    groups = g.choose([n for n in (1, 2, 4) if heads % n == 0])
    keys = g.choose([length, length + 3])
    q = g.operand((batch, heads, length, size), "float32", constant=0)
    k, v = (g.operand((batch, groups, keys, size), "float32", constant=0.2) for _ in range(2))
    operands = [q, k, v]
    if g.chance(0.4):
        mask = g.rng.random((length, keys)) < 0.7
        mask[:, 0] = True
        operands.append(g.constant(mask if g.chance(0.5) else np.where(mask, 0, -1e4).astype(np.float32)))
    attributes = {"is_causal": 1} if g.chance(0.4) else {}
    if g.chance(0.3):
        attributes["softcap"] = 5.0
    if g.chance(0.3):
        attributes["scale"] = 0.3
    g.node(op, operands, magnitude=3, **attributes)
