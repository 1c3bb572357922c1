# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators, reductions and what else keeps the shape."""

import numpy as np
from onnx import TensorProto, helper

from graph_builder import FLOATS, INTEGERS, Skip, operator

SIGNED = ("int8", "int16", "int32", "int64")
WIDE = ("int32", "int64", "uint32", "uint64")


def broadcast_operand(g, a, dtype=None, constant=0.5):
    """Something that broadcasts with `a`: a value that is there, or one with some extents 1 and leading ones gone."""
    dtype = dtype or a.dtype

    def fits(v):
        return all(x == y or 1 in (x, y) for x, y in zip(reversed(v.shape), reversed(a.shape)))

    if g.chance(0.6):
        matching = [v for v in g.values if v.dtype == dtype and fits(v)]
        if matching:
            return g.choose(matching)
    shape = [1 if g.chance(0.4) else d for d in a.shape][g.integer(0, a.rank) if g.chance(0.5) else 0 :]
    if a.rank < 5 and g.chance(0.05):
        shape = [g.choose([1, 2])] + [1] * (a.rank - len(shape)) + list(shape)
    return g.operand(tuple(shape), dtype, constant=constant)


SMOOTH = "Sigmoid Tanh Erf Softplus Softsign HardSwish Selu Mish Sin Cos Atan Gelu Elu HardSigmoid Celu".split()


@operator(3)
def smooth_unary(g):
    x = g.pick()
    op = g.choose(SMOOTH)
    attributes = {}
    if op in ("Elu", "Celu", "HardSigmoid") and g.chance(0.6):
        attributes["alpha"] = g.choose([0.5, 1.0, 0.25, 1.5])
    if op == "Gelu":
        attributes["approximate"] = g.choose(["none", "tanh"])
    magnitude = 1.8 if op in ("Sigmoid", "Tanh", "Erf", "Softsign", "Sin", "Cos", "HardSigmoid", "Atan") else x.magnitude + 3
    g.node(op, [x], magnitude=magnitude, **attributes)


@operator(3)
def kinked_unary(g):
    op = g.choose(["Relu", "LeakyRelu", "Abs", "Neg", "Relu", "Identity"])
    x = g.pick(FLOATS + SIGNED if op in ("Abs", "Neg") else None)
    g.node(op, [x], exact=op != "LeakyRelu", **({"alpha": g.choose([0.1, 0.01, 2.0, -0.5])} if op == "LeakyRelu" else {}))


@operator(1.5)
def guarded_unary(g):
    x = g.pick()
    op = g.choose("Exp Log Sqrt Reciprocal Asin Acos Acosh Asinh Atanh Sinh Cosh Tan".split())
    if op in ("Exp", "Sinh", "Cosh"):
        g.node(op, [g.guarded(x, -4, 4)], magnitude=55)
    elif op in ("Log", "Reciprocal", "Sqrt"):
        g.node(op, [g.positive(x)], magnitude=max(4.0, np.sqrt(x.magnitude + 1), np.log(x.magnitude + 1)))
    elif op == "Acosh":
        g.node(op, [g.positive(x, 1.25)], magnitude=10)
    elif op == "Asinh":
        g.node(op, [x], magnitude=10)
    else:
        g.node(op, [g.guarded(x, -0.75, 0.75)], magnitude=2)


@operator()
def stepped_unary(g):
    op = g.choose(["Floor", "Ceil", "Round", "Sign", "ThresholdedRelu"])
    x = g.pick(exact=True)
    g.node(op, [x], exact=True, magnitude=x.magnitude + 1, **({"alpha": 0.75} if op == "ThresholdedRelu" else {}))


@operator()
def clip(g):
    x = g.pick(FLOATS + ("int32", "int64", "int8", "uint8") if g.opset >= 12 else None)
    low, high = (0, 6) if g.chance(0.4) else (-1, 1.5) if x.dtype in FLOATS else (1, 3)
    if g.opset < 11:
        g.node("Clip", [x], exact=True, magnitude=6, min=float(low), max=float(high))
        return
    bounds = [g.constant(np.array(each, x.dtype)) if g.chance(0.8) else None for each in (low, high)]
    g.node("Clip", [x, *bounds], exact=True, magnitude=max(x.magnitude, 6))


@operator()
def integer_unary(g):
    x = g.pick(INTEGERS)
    op = g.choose(["BitwiseNot", "Sign", "Identity"])
    g.node(op, [x])


@operator(4)
def arithmetic(g):
    a = g.pick(FLOATS + ("int32", "int64", "uint8", "int8") if g.chance(0.25) and g.opset >= 14 else None)
    b = broadcast_operand(g, a)
    op = g.choose(["Add", "Sub", "Mul", "Mul", "Add", "Div"])
    if op == "Div":
        if a.dtype not in FLOATS:
            b = g.constant((g.numbers(b.shape, a.dtype) * 2 + 1).astype(a.dtype))
        else:
            b = g.positive(b, 0.5)
    elif g.chance(0.3):
        a, b = b, a
    magnitude = a.magnitude * b.magnitude if op == "Mul" else 2 * a.magnitude if op == "Div" else a.magnitude + b.magnitude
    g.node(op, [a, b], magnitude=max(magnitude, 1))


@operator(0.7)
def constant_arithmetic(g):
    """Neutral and absorbing constants, which passes take out."""
    a = g.pick()
    op, number = g.choose([("Add", 0), ("Sub", 0), ("Mul", 1), ("Div", 1), ("Mul", -1), ("Pow", 2), ("Pow", 1), ("Pow", 3), ("Mul", 0)])
    b = g.constant(np.full(g.choose([(), (1,)]), number, a.dtype))
    if op == "Mul" and number == -1 or op in ("Add", "Mul") and g.chance(0.5):
        a, b = b, a
    g.node(op, [a, b], magnitude=max(a.magnitude, b.magnitude) ** (3 if op == "Pow" else 1))


@operator(1.5)
def variadic(g):
    op = g.choose(["Max", "Min", "Sum", "Mean"])
    dtypes = FLOATS + ("int32", "int64", "uint8") if op in ("Max", "Min") and g.opset >= 12 and g.chance(0.3) else None
    operands = [g.pick(dtypes)]
    for _ in range(g.integer(0, 3)):
        operands.append(broadcast_operand(g, operands[0]))
    g.node(op, operands, exact=op in ("Max", "Min"), magnitude=sum(v.magnitude for v in operands))


@operator(0.7)
def power(g):
    x = g.positive(g.pick(("float32", "float64")), 0.5)
    exponent = broadcast_operand(g, x)
    g.node("Pow", [x, g.guarded(exponent, -2, 2)], magnitude=(x.magnitude + 2) ** 2)


@operator(0.7)
def prelu(g):
    x = g.pick()
    shape = [1 if g.chance(0.4) else d for d in x.shape][g.integer(0, x.rank) if g.chance(0.5) else 0 :]
    g.node("PRelu", [x, g.operand(tuple(shape), x.dtype)], magnitude=2 * x.magnitude)


@operator()
def remainder(g):
    fmod = g.chance(0.4)
    a = g.pick(FLOATS if fmod else INTEGERS, exact=True)
    divisor = (np.abs(g.numbers(a.shape[a.rank // 2 :], a.dtype)) + 1).astype(a.dtype)
    if not fmod and np.dtype(a.dtype).kind == "i" and g.chance(0.3):
        divisor = (-divisor).astype(a.dtype)
    g.node("Mod", [a, g.constant(divisor)], exact=True, magnitude=4, **({"fmod": 1} if fmod else {}))


@operator(1.5)
def comparison(g):
    op = g.choose(["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
    a = g.pick(FLOATS + ("int32", "int64"), exact=True)
    b = broadcast_operand(g, a)
    if not b.exact:
        raise Skip
    g.node(op, [a, b])


@operator()
def logic(g):
    if g.chance(0.3):
        g.node("Not", [g.pick(("bool",))])
        return
    a = g.pick(("bool",))
    g.node(g.choose(["And", "Or", "Xor"]), [a, broadcast_operand(g, a)])


@operator(0.7)
def bits(g):
    a = g.pick(("uint8", "uint32", "uint64") if g.chance(0.5) else INTEGERS)
    if a.dtype[0] == "u" and g.chance(0.5):
        count = g.constant((np.abs(g.numbers(a.shape[a.rank // 2 :], "int32")) % 7).astype(a.dtype))
        g.node("BitShift", [a, count], direction=g.choose(["LEFT", "RIGHT"]))
        return
    g.node(g.choose(["BitwiseAnd", "BitwiseOr", "BitwiseXor"]), [a, broadcast_operand(g, a)])


@operator(1.5)
def where(g):
    a = g.pick(FLOATS + ("int32", "int64", "uint8"))
    b = broadcast_operand(g, a)
    condition = broadcast_operand(g, a, "bool", constant=0.3)
    if not condition.exact:
        raise Skip
    g.node("Where", [condition, a, b], exact=True)


@operator(1.5)
def cast(g):
    x = g.pick(FLOATS + INTEGERS + ("bool",), exact=True)
    to = g.choose(FLOATS + INTEGERS + ("bool",))
    if x.dtype in FLOATS and to in INTEGERS:
        x = g.guarded(x, 0 if to[0] == "u" else -100, 100)
    if x.dtype == "float64" and to == "float16":
        raise Skip  # once or twice rounded
    exact = to not in FLOATS or x.dtype in FLOATS
    g.node("Cast", [x], exact=exact, magnitude=max(x.magnitude, 1e4 if x.dtype in INTEGERS and to != "float16" else 1),
           to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))


@operator(0.3)
def test_numbers(g):
    x = g.pick(("float32", "float64", "float16") if g.opset >= 13 else ("float32",))
    g.node(g.choose(["IsNaN", "IsInf"]), [x])


def random_axes(g, rank, most=None):
    """Some axes, each counted from the front or the back; nothing for all of them."""
    count = g.integer(0, min(rank, most or rank))
    axes = [int(a) for a in g.rng.permutation(rank)[:count]]
    return [a - rank if g.chance(0.3) else a for a in axes]


AXES_AS_INPUT = {"ReduceSum": 13}


@operator(4)
def reduction(g):
    op = g.choose("ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare".split())
    integers = ("int32", "int64") if op in ("ReduceSum", "ReduceMax", "ReduceMin") and g.chance(0.25) else None
    x = g.pick(integers, fits=lambda v: v.rank > 0)
    axes = random_axes(g, x.rank)
    extent = np.prod([x.shape[a] for a in axes] or x.shape)
    if extent == 0 and op in ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceLogSum", "ReduceLogSumExp"):
        raise Skip
    if op == "ReduceLogSum":
        x = g.positive(x)
    if op == "ReduceProd":
        if extent > 40:
            raise Skip
        x = g.guarded(x, -1.25, 1.25)
    attributes = {"keepdims": g.integer(0, 1)} if g.chance(0.7) else {}
    operands = [x]
    if g.since(op) >= (13 if op == "ReduceSum" else 18):
        if axes or g.chance(0.3):
            operands.append(g.constant(np.array(axes, np.int64)))
        if g.chance(0.1):
            attributes["noop_with_empty_axes"] = g.integer(0, 1)
    elif axes:
        attributes["axes"] = axes
    magnitude = x.magnitude if op in ("ReduceMax", "ReduceMin", "ReduceMean") else 1e4 if op == "ReduceProd" else x.magnitude**2 * float(extent)
    if "Log" in op:
        magnitude = x.magnitude + 12
    g.node(op, operands, exact=op in ("ReduceMax", "ReduceMin"), magnitude=magnitude, **attributes)


@operator(1)
def index_of_extreme(g):
    op = g.choose(["ArgMax", "ArgMin"])
    x = g.pick(("float32", "int32", "float64"), fits=lambda v: v.rank > 0 and v.size > 0, exact=True)
    attributes = {"axis": g.integer(-x.rank, x.rank - 1), "keepdims": g.integer(0, 1)}
    if g.opset >= 12 and g.chance(0.4):
        attributes["select_last_index"] = 1
    g.node(op, [x], **attributes)


@operator(2)
def normalized_exponential(g):
    op = g.choose(["Softmax", "Softmax", "LogSoftmax", "Hardmax"])
    x = g.pick(fits=lambda v: v.rank > 0 and v.size > 0, exact=op == "Hardmax")
    g.node(op, [x], exact=op == "Hardmax", magnitude=1 if op != "LogSoftmax" else x.magnitude * 2 + 10, axis=g.integer(-x.rank, x.rank - 1) if g.opset >= 11 else g.integer(0, x.rank - 1))


@operator(1)
def top_k(g):
    x = g.pick(("float32", "int64", "int32", "float64") if g.opset >= 11 else ("float32",), fits=lambda v: v.rank > 0 and v.size > 0, exact=True)
    axis = g.integer(-x.rank, x.rank - 1)
    k = g.constant(np.array([g.integer(1, x.shape[axis])], np.int64))
    attributes = {"largest": g.integer(0, 1)} if g.opset >= 11 and g.chance(0.5) else {}
    g.node("TopK", [x, k], 2, exact=True, axis=axis, **attributes)


@operator(0.7)
def cumulative(g):
    x = g.pick(("float32", "int32", "int64", "float64"), fits=lambda v: v.rank > 0)
    axis = g.constant(np.array(g.integer(-x.rank, x.rank - 1), g.choose(["int32", "int64"])))
    g.node("CumSum", [x, axis], magnitude=x.magnitude * max(x.size, 1), exclusive=g.integer(0, 1), reverse=g.integer(0, 1))


@operator(0.5)
def lp_normalization(g):
    x = g.pick(("float32", "float64"), fits=lambda v: v.rank > 0 and v.size > 0)
    g.node("LpNormalization", [g.positive(x)], magnitude=1, axis=g.integer(-x.rank, x.rank - 1), p=g.choose([1, 2]))


@operator(0.5)
def one_hot(g):
    indices = g.operand(g.shape(g.integer(0, 2)), g.choose(["int64", "int32"]), constant=0.3)
    depth = g.constant(np.array(g.choose([3, 5, 7]), np.int64))
    values = g.constant(np.array([0, 1], g.choose(["float32", "int64", "int32"])))
    g.node("OneHot", [indices, depth, values], axis=g.integer(-indices.rank - 1, indices.rank))


@operator(0.4)
def eye(g):
    x = g.pick(FLOATS + ("int32",), fits=lambda v: v.rank == 2)
    g.node("EyeLike", [x], k=g.integer(-1, 2), dtype=TensorProto.FLOAT)
