# SPDX-License-Identifier: Apache-2.0
"""Pieces of networks as exporters write them: what passes recognise, fuse and lay out."""

import numpy as np
from onnx import TensorProto, helper

from dense_operators import batch_normalization, convolution, image, weights
from graph_builder import Skip, Value, operator


def scalar(g, number, dtype="float32"):
    return g.constant(np.full(g.choose([(), (1,)]), number, dtype))


def activation(g, x):
    kind = g.choose(["Relu", "silu", "relu6", "HardSwish", "hard_swish", "LeakyRelu", "gelu", "Sigmoid", "Tanh", "none"])
    if kind == "silu":
        return g.node("Mul", [x, g.node("Sigmoid", [x], magnitude=1)])
    if kind == "relu6":
        return g.guarded(x, 0, 6)
    if kind == "hard_swish":
        clipped = g.guarded(g.node("Add", [x, scalar(g, 3)], keep=False, magnitude=x.magnitude + 3), 0, 6)
        return g.node("Div", [g.node("Mul", [x, clipped], magnitude=6 * x.magnitude), scalar(g, 6)])
    if kind == "gelu":
        inner = g.node("Erf", [g.node("Div", [x, scalar(g, np.sqrt(2))])], magnitude=1)
        return g.node("Mul", [g.node("Mul", [x, g.node("Add", [inner, scalar(g, 1)], magnitude=2)], magnitude=2 * x.magnitude), scalar(g, 0.5)])
    if kind == "none":
        return x
    return g.node(kind, [x])


def conv_unit(g, x, filters, kernel=3, groups=1, **attributes):
    y = convolution(g, x, filters, [kernel, kernel], groups, g.chance(0.5), pads=[kernel // 2] * 4, **attributes)
    if g.chance(0.6):
        y = batch_normalization(g, y)
    return activation(g, y)


def seen(g, *values):
    """Values that other operators may read as well."""
    g.values.extend(v for v in values if v not in g.values)


@operator(4)
def conv_block(g):
    x = image(g, dtypes=("float32",))
    seen(g, conv_unit(g, x, g.choose([4, 8, 16, 5]), g.choose([1, 3])))


@operator(4)
def residual_block(g):
    x = image(g, dtypes=("float32",))
    y = conv_unit(g, x, x.shape[1], g.choose([1, 3]))
    if g.chance(0.5):
        y = convolution(g, y, x.shape[1], [3, 3], pads=[1, 1, 1, 1])
    pair = [x, y] if g.chance(0.5) else [y, x]
    seen(g, activation(g, g.node("Add", pair, magnitude=x.magnitude + y.magnitude)))


@operator(3)
def inverted_residual(g):
    x = image(g, dtypes=("float32",))
    channels = x.shape[1]
    wide = conv_unit(g, x, channels * g.integer(1, 3), 1)
    wide = conv_unit(g, wide, wide.shape[1], g.choose([3, 5]), wide.shape[1], **({"strides": [2, 2]} if g.chance(0.3) else {}))
    if g.chance(0.4):
        wide = squeeze_excite(g, wide)
    y = convolution(g, wide, channels, [1, 1])
    if y.shape == x.shape and g.chance(0.7):
        y = g.node("Add", [x, y], magnitude=x.magnitude + y.magnitude)
    seen(g, y)


def squeeze_excite(g, x):
    if g.chance(0.5):
        pooled = g.node("GlobalAveragePool", [x])
    elif g.opset >= 18:
        pooled = g.node("ReduceMean", [x, g.constant(np.array([2, 3], np.int64))], keepdims=1)
    else:
        pooled = g.node("ReduceMean", [x], axes=[2, 3], keepdims=1)
    small = activation(g, convolution(g, pooled, max(1, x.shape[1] // 2), [1, 1]))
    gate = g.node(g.choose(["Sigmoid", "HardSigmoid"]), [convolution(g, small, x.shape[1], [1, 1])], magnitude=1)
    return g.node("Mul", [x, gate] if g.chance(0.5) else [gate, x])


@operator(2)
def squeeze_excitation(g):
    seen(g, squeeze_excite(g, image(g, dtypes=("float32",))))


@operator(3)
def cross_stage(g):
    """Split, work on a part, concatenate: placement instead of copies."""
    x = image(g, dtypes=("float32",))
    if x.shape[1] % 2:
        x = convolution(g, x, x.shape[1] + 1, [1, 1])
    half = x.shape[1] // 2
    if g.opset >= 13:
        parts = g.node("Split", [x, g.constant(np.array([half, half], np.int64))], 2, exact=True, axis=1)
    else:
        parts = g.node("Split", [x], 2, exact=True, axis=1, split=[half, half])
    y = conv_unit(g, parts[1], half)
    if y.shape[2:] != x.shape[2:]:
        raise Skip
    whole = [*parts, y] if g.chance(0.5) else [parts[0], y]
    joined = g.node("Concat", whole, exact=True, axis=1)
    seen(g, conv_unit(g, joined, g.choose([4, 8]), 1) if g.chance(0.7) else joined)


@operator(2)
def dense_block(g):
    x = image(g, dtypes=("float32",))
    parts = [x]
    for _ in range(g.integer(2, 3)):
        joined = g.node("Concat", parts, exact=True, axis=1) if len(parts) > 1 else x
        parts.append(conv_unit(g, joined, g.choose([4, 6, 8])))
    seen(g, g.node("Concat", parts, exact=True, axis=1))


@operator(1.5)
def channel_shuffle(g):
    x = image(g, dtypes=("float32",))
    n, c, h, w = x.shape
    if c % 2:
        raise Skip
    split = g.node("Reshape", [x, g.constant(np.array([n, 2, c // 2, h, w], np.int64))], exact=True)
    turned = g.node("Transpose", [split], exact=True, perm=[0, 2, 1, 3, 4])
    g.node("Reshape", [turned, g.constant(np.array([n, -1, h, w], np.int64))], exact=True)


@operator(2.5)
def channels_last(g):
    """What converters from other frameworks write: transposes around everything."""
    x = g.pick(("float32",), fits=lambda v: v.rank == 4 and v.size > 0, shape=lambda: (1, g.integer(1, 8), g.integer(1, 8), g.choose([3, 4, 8])))
    y = g.node("Transpose", [x], exact=True, perm=[0, 3, 1, 2])
    y = convolution(g, y, g.choose([4, 8]), [g.choose([1, 3])] * 2, auto_pad="SAME_UPPER")
    y = g.node("Transpose", [y], exact=True, perm=[0, 2, 3, 1])
    y = activation(g, g.node("Add", [y, weights(g, (y.shape[3],))], magnitude=y.magnitude + 4))
    if g.chance(0.5):
        y = g.node("Transpose", [y], exact=True, perm=[0, 3, 1, 2])
        if g.chance(0.5):
            y = g.node("MaxPool", [y], exact=True, kernel_shape=[2, 2], pads=[0, 0, 1, 1], strides=[2, 2])
        y = g.node("Transpose", [y], exact=True, perm=[0, 2, 3, 1])
    seen(g, y)


@operator(1.5)
def pad_then(g):
    x = image(g, dtypes=("float32",), least=2)
    pads = [0, 0, *(g.integer(0, 2) for _ in range(2)), 0, 0, *(g.integer(0, 2) for _ in range(2))]
    if g.opset < 11:
        padded = g.node("Pad", [x], exact=True, pads=pads)
    else:
        padded = g.node("Pad", [x, g.constant(np.array(pads, np.int64))], exact=True)
    if g.chance(0.6):
        convolution(g, padded, 4, [min(3, padded.shape[2]), min(3, padded.shape[3])])
    else:
        g.node(g.choose(["MaxPool", "AveragePool"]), [padded], kernel_shape=[2, 2], **({"count_include_pad": 1} if g.chance(0.5) else {}))


@operator(1)
def upsample_join(g):
    if g.opset < 11:
        raise Skip
    x = image(g, dtypes=("float32",))
    none = g.constant(np.array([], np.float32)) if g.opset < 13 else None
    up = g.node("Resize", [x, none, g.constant(np.array([1, 1, 2, 2], np.float32))], exact=True, mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    other = g.operand((up.shape[0], g.integer(1, 4), *up.shape[2:]), "float32", constant=0.1)
    seen(g, conv_unit(g, g.node("Concat", [up, other], exact=True, axis=1), 4))


def layer_norm(g, x):
    """From its parts."""
    def mean(v):
        if g.opset >= 18:
            return g.node("ReduceMean", [v, g.constant(np.array([-1], np.int64))], magnitude=v.magnitude)
        return g.node("ReduceMean", [v], axes=[-1 if g.opset >= 11 else v.rank - 1], magnitude=v.magnitude)

    centered = g.node("Sub", [x, mean(x)], magnitude=2 * x.magnitude)
    if g.chance(0.7):
        squares = g.node("Pow", [centered, scalar(g, 2)], magnitude=min(centered.magnitude**2, 1e4))
    else:
        squares = g.node("Mul", [centered, centered], magnitude=min(centered.magnitude**2, 1e4))
    deviation = g.node("Sqrt", [g.node("Add", [mean(squares), scalar(g, 1e-3)])])
    y = g.node("Div", [centered, deviation], magnitude=10)
    y = g.node("Mul", [y, g.operand(x.shape[-1:], "float32", constant=0.95)], magnitude=20)
    return g.node("Add", [y, g.operand(x.shape[-1:], "float32", constant=0.95)], magnitude=22)


@operator(1.5)
def decomposed_layer_norm(g):
    x = g.pick(("float32",), fits=lambda v: v.rank > 1 and v.size > 0 and v.shape[-1] > 1)
    seen(g, layer_norm(g, x))


@operator(2.5)
def attention(g):
    x = g.pick(("float32",), fits=lambda v: v.rank == 3 and v.size > 0, shape=lambda: (g.integer(1, 2), g.integer(1, 9), g.choose([4, 8, 12])))
    batch, length, width = x.shape
    heads = g.choose([n for n in (1, 2, 3, 4) if width % n == 0])
    size = width // heads
    split = g.constant(np.array([0, -1 if length else 0, heads, size], np.int64))

    def project():
        y = g.node("MatMul", [x, weights(g, (width, width), fan_in=width)], magnitude=x.magnitude * 3)
        return g.node("Add", [y, weights(g, (width,))], magnitude=y.magnitude + 4) if g.chance(0.7) else y

    def heads_of(y, perm):
        return g.node("Transpose", [g.node("Reshape", [y, split], exact=True)], exact=True, perm=perm)

    if g.chance(0.3):  # one product for all three
        joined = g.node("MatMul", [x, weights(g, (width, 3 * width), fan_in=width)], magnitude=x.magnitude * 3)
        if g.opset >= 13:
            q, k, v = g.node("Split", [joined, g.constant(np.array([width] * 3, np.int64))], 3, exact=True, axis=2)
        else:
            q, k, v = g.node("Split", [joined], 3, exact=True, axis=2, split=[width] * 3)
    else:
        q, k, v = project(), project(), project()
    q, v = heads_of(q, [0, 2, 1, 3]), heads_of(v, [0, 2, 1, 3])
    k = heads_of(k, [0, 2, 3, 1]) if g.chance(0.6) else g.node("Transpose", [heads_of(k, [0, 2, 1, 3])], exact=True, perm=[0, 1, 3, 2])
    if g.chance(0.3):
        q = g.node("Mul", [q, scalar(g, size**-0.25)])
    scores = g.node("MatMul", [q, k], magnitude=min(q.magnitude * k.magnitude * size, 1e4))
    scores = g.node(*g.choose([("Div", [scores, scalar(g, np.sqrt(size))]), ("Mul", [scores, scalar(g, 1 / np.sqrt(size))])]))
    if g.chance(0.5):
        mask = np.where(g.rng.random((batch, 1, 1, length)) < 0.3, -1e4, 0).astype(np.float32)
        mask[..., 0] = 0
        held = g.add_input(mask.shape, "float32", mask) if g.chance(0.5) else g.constant(mask)
        scores = g.node("Add", [scores, held], keep=False, magnitude=1e4)
    probabilities = g.node("Softmax", [scores], magnitude=1, axis=-1 if g.opset >= 13 else 3)
    y = g.node("Transpose", [g.node("MatMul", [probabilities, v], magnitude=v.magnitude)], exact=True, perm=[0, 2, 1, 3])
    y = g.node("Reshape", [y, g.constant(np.array([0, 0, width], np.int64))], exact=True)
    y = g.node("MatMul", [y, weights(g, (width, width), fan_in=width)], magnitude=y.magnitude * 3)
    y = g.node("Add", [x, y], magnitude=x.magnitude + y.magnitude)
    seen(g, layer_norm(g, y) if g.chance(0.4) else y)


@operator(1.5)
def perceptron(g):
    x = g.pick(("float32",), fits=lambda v: v.rank >= 2 and v.size > 0)
    width = x.shape[-1]
    y = g.node("MatMul", [x, weights(g, (width, 2 * width), fan_in=width)], magnitude=x.magnitude * 3)
    y = activation(g, g.node("Add", [weights(g, (2 * width,)), y], magnitude=y.magnitude + 4))
    y = g.node("MatMul", [y, weights(g, (2 * width, width), fan_in=width)], magnitude=y.magnitude * 3)
    seen(g, g.node("Add", [y, x], magnitude=y.magnitude + x.magnitude))


@operator(1.2)
def siblings(g):
    """Products and convolutions of one input, which may be joined."""
    if g.chance(0.5):
        x = image(g, dtypes=("float32",))
        kernel = g.choose([1, 3])
        for _ in range(g.integer(2, 3)):
            seen(g, conv_unit(g, x, g.choose([4, 8]), kernel))
        return
    x = g.pick(("float32",), fits=lambda v: v.rank >= 2 and v.size > 0)
    for _ in range(g.integer(2, 3)):
        g.node("MatMul", [x, weights(g, (x.shape[-1], g.choose([4, 8])), fan_in=x.shape[-1])], magnitude=x.magnitude * 3)


@operator(1)
def quantised_pair(g):
    """A convolution between QuantizeLinear and DequantizeLinear, as quantised models are exported."""
    x = g.pick(("float32",), fits=lambda v: v.rank == 4 and v.size > 0, exact=True, shape=lambda: (1, g.integer(1, 5), g.integer(3, 7), g.integer(3, 7)))
    scale, zero = g.constant(np.array(0.0625, np.float32)), g.constant(np.array(8, np.uint8))
    y = g.node("DequantizeLinear", [g.node("QuantizeLinear", [x, scale, zero], exact=True), scale, zero], exact=True, magnitude=16)
    w = g.constant(g.rng.integers(-40, 40, (g.integer(1, 6), x.shape[1], 1, 1)).astype(np.int8))
    w_scale, w_zero = g.constant(np.array(0.03125, np.float32)), g.constant(np.array(0, np.int8))
    w = g.node("DequantizeLinear", [w, w_scale, w_zero], keep=False, magnitude=2)
    seen(g, activation(g, g.node("Conv", [y, w], magnitude=y.magnitude * 4)))


def branch(g, x, name):
    op = g.choose(["Relu", "Neg", "Sigmoid", "Abs"])
    info = helper.make_tensor_value_info(f"{name}_out", helper.np_dtype_to_tensor_dtype(np.dtype(x.dtype)), x.shape)
    body = [helper.make_node(op, [x.name], [f"{name}_mid"]), helper.make_node("Add", [f"{name}_mid", x.name], [f"{name}_out"])]
    return helper.make_graph(body, name, [], [info])


@operator(0.8)
def branches(g):
    """If on a condition of the graph, or on one that is constant."""
    x = g.pick(("float32",))
    condition = g.pick(("bool",), fits=lambda v: v.shape == (), shape=lambda: ()) if g.chance(0.6) else g.constant(np.array(g.chance(0.5)))
    name = g.fresh("b")
    out = g.fresh("v")
    g.nodes.append(helper.make_node("If", [condition.name], [out], then_branch=branch(g, x, name + "t"), else_branch=branch(g, x, name + "e")))
    x.users += 1
    g.values.append(Value(out, "float32", x.shape, False, 2 * x.magnitude + 1))


@operator(0.6)
def loop(g):
    """A carried value and a stacked output; the number of turns is constant or an input."""
    x = g.pick(("float32",), fits=lambda v: v.rank > 0 and v.size > 0)
    name = g.fresh("l")
    float_info = lambda n, shape: helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
    truth = lambda n: helper.make_tensor_value_info(n, TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", [f"{name}c"], [f"{name}co"]), helper.make_node("Sigmoid", [f"{name}s"], [f"{name}m"]),
         helper.make_node("Add", [f"{name}m", x.name], [f"{name}so"]), helper.make_node("Relu", [f"{name}so"], [f"{name}y"])],
        name, [helper.make_tensor_value_info(f"{name}i", TensorProto.INT64, []), truth(f"{name}c"), float_info(f"{name}s", x.shape)],
        [truth(f"{name}co"), float_info(f"{name}so", x.shape), float_info(f"{name}y", x.shape)])
    turns = g.constant(np.array(g.integer(1, 4), np.int64))
    start = g.operand(x.shape, "float32")
    outs = [g.fresh("v"), g.fresh("v")]
    g.nodes.append(helper.make_node("Loop", [turns.name, "", start.name], outs, body=body))
    x.users += 1
    g.values.append(Value(outs[0], "float32", x.shape, False, x.magnitude + 1))
    g.values.append(Value(outs[1], "float32", (int(turns.data), *x.shape), False, x.magnitude + 1))


@operator(1.2)
def selection(g):
    """Extents that only a run knows, and what is defined behind them."""
    x = g.pick(("float32",), fits=lambda v: v.rank > 0 and v.size > 0, exact=True)
    kind = g.choose(["Compress", "NonZero", "masked"])
    if kind == "Compress":
        axis = g.integer(0, x.rank - 1)
        mask = g.rng.random(x.shape[axis]) < 0.6
        y = g.bare("Compress", [x, g.add_input(mask.shape, "bool", mask)], axis=axis)
    elif kind == "masked":
        where = g.bare("Transpose", [g.bare("NonZero", [g.node("Relu", [x], exact=True)])], perm=[1, 0])
        axis, y = 0, g.bare("GatherND", [x, where])
    else:
        axis, y = 1, g.bare("Cast", [g.bare("NonZero", [g.node("Relu", [x], exact=True)])], to=TensorProto.FLOAT)
    for _ in range(g.integer(0, 3)):
        op = g.choose(["Abs", "Mul", "Add", "Sigmoid", "Neg"])
        y = g.bare(op, [y, scalar(g, 0.5)] if op in ("Mul", "Add") else [y])
    rank = {"Compress": x.rank, "masked": 1, "NonZero": 2}[kind]
    for _ in range(g.integer(0, 2)):
        y = reshaped_selection(g, y, axis, rank)
    last = g.choose(["none", "Softmax", "ReduceSum", "ReduceMax"])
    if last == "Softmax" and g.opset >= 13:
        y = g.bare(last, [y], axis=axis)
    elif last == "ReduceSum" and g.opset >= 13:
        y = g.bare(last, [y, g.constant(np.array([axis], np.int64))], keepdims=g.integer(0, 1))
    g.loose.append(Value(y, "float32", ()))


def reshaped_selection(g, y, axis, rank):
    """What has an extent that only a run knows along `axis`, with another one there."""
    ints = lambda *numbers: g.constant(np.array(numbers, np.int64))
    kind = g.choose(["Concat", "Slice", "slice at run time", "Pad", "count", "TopK"])
    if kind == "Concat":
        return g.bare("Concat", [y, y], axis=axis)
    if kind == "Slice" and g.opset >= 10:
        return g.bare("Slice", [y, ints(g.integer(-5, 5)), ints(g.choose([-2, -1, 3, 8, 2**62])), ints(axis), ints(g.integer(1, 3))])
    if kind == "slice at run time" and g.opset >= 10:
        places = [g.add_input((1,), "int64", [g.integer(-6, 9)]) for _ in range(2)]
        return g.bare("Slice", [y, *places, ints(axis)])
    if kind == "Pad" and g.opset >= 11:
        pads = np.zeros(2 * rank, np.int64)
        pads[[axis, rank + axis]] = g.rng.integers(0, 3, 2)
        return g.bare("Pad", [y, g.constant(pads), scalar(g, 0.25)])
    count = g.bare("Gather", [g.bare("Shape", [y]), g.constant(np.array([axis], np.int64))], axis=0)
    if kind == "count" and g.opset >= 11 and rank == 1:
        number = g.bare("Squeeze", [count, ints(0)] if g.opset >= 13 else [count], **({} if g.opset >= 13 else {"axes": [0]}))
        numbers = g.bare("Range", [g.constant(np.array(0, np.int64)), number, g.constant(np.array(1, np.int64))])
        return g.bare("Add", [y, g.bare("Cast", [numbers], to=TensorProto.FLOAT)])
    if kind == "TopK" and g.opset >= 11 and rank == 1:
        most = g.bare("ReduceMin", [g.bare("Concat", [count, ints(g.integer(1, 5))], axis=0)], keepdims=1)
        best, other = g.fresh("d"), g.fresh("d")
        g.nodes.append(helper.make_node("TopK", [y, most], [best, other], axis=axis))
        return best
    return y
