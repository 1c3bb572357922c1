# SPDX-License-Identifier: Apache-2.0
"""Operators that move, select and join elements."""

import numpy as np
from onnx import numpy_helper

from graph_builder import FLOATS, INTEGERS, MAX_ELEMENTS, Skip, operator

ANY = FLOATS + INTEGERS + ("bool",)


def anything(g, fits=lambda v: True, exact=False):
    """Mostly of the graph's float type, sometimes of any."""
    return g.pick(ANY if g.chance(0.25) else None, fits, exact=exact)


def int64(g, numbers):
    return g.constant(np.array(numbers, np.int64))


@operator(4)
def transpose(g):
    x = anything(g, lambda v: v.rank > 1 or g.chance(0.05))
    if x.rank == 4 and g.chance(0.5):
        perm = g.choose([[0, 2, 3, 1], [0, 3, 1, 2], [0, 2, 1, 3]])
    else:
        perm = [int(p) for p in g.rng.permutation(x.rank)]
    g.node("Transpose", [x], exact=True, **({"perm": perm} if x.rank > 1 and not g.chance(0.1) else {}))


def factors(g, count, rank):
    """`rank` extents with the product `count`."""
    dims = [1] * rank
    rest, prime = count, 2
    while rest > 1:
        while rest % prime:
            prime += 1
        dims[g.integer(0, rank - 1)] *= prime
        rest //= prime
    return dims


@operator(3.5)
def reshape(g):
    x = anything(g)
    if x.size == 0:
        raise Skip
    rank = g.integer(1, 5) if x.size != 1 else g.integer(0, 3)
    if x.rank >= 2 and g.chance(0.5):  # neighbours joined or one dimension split, as networks do
        at = g.integer(0, x.rank - 2)
        dims = [*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :]]
        if g.chance(0.5):
            dims = [*x.shape[:at], *factors(g, x.shape[at], 2), *x.shape[at + 1 :]]
    else:
        dims = factors(g, x.size, rank) if rank else []
    shape = list(dims)
    for i, d in enumerate(shape):
        if i < x.rank and x.shape[i] == d and g.chance(0.3):
            shape[i] = 0
    if shape and g.chance(0.4):
        shape[g.integer(0, len(shape) - 1)] = -1
    g.node("Reshape", [x, int64(g, shape)], exact=True)


@operator(1)
def flatten(g):
    x = anything(g)
    g.node("Flatten", [x], exact=True, axis=g.integer(0, x.rank))


@operator(1.5)
def squeeze(g):
    x = anything(g, lambda v: 1 in v.shape)
    axes = [i for i, d in enumerate(x.shape) if d == 1]
    axes = [a - x.rank if g.chance(0.3) and g.opset >= 11 else a for a in axes[: g.integer(1, len(axes))]]
    with_axes(g, "Squeeze", x, axes)


@operator(1.5)
def unsqueeze(g):
    x = anything(g, lambda v: v.rank < 6)
    count = g.integer(1, 2)
    axes = [int(a) for a in g.rng.permutation(x.rank + count)[:count]]
    with_axes(g, "Unsqueeze", x, [a - x.rank - count if g.chance(0.3) and g.opset >= 11 else a for a in axes])


def with_axes(g, op, x, axes):
    if g.opset >= 13:
        g.node(op, [x, int64(g, axes)], exact=True)
    else:
        g.node(op, [x], exact=True, axes=sorted(axes))


@operator(3)
def concat(g):
    a = anything(g, lambda v: v.rank > 0)
    axis = g.integer(-a.rank, a.rank - 1)
    at = axis % a.rank
    fits = lambda v: v.dtype == a.dtype and v.rank == a.rank and all(i == at or x == y for i, (x, y) in enumerate(zip(v.shape, a.shape)))
    parts = [a]
    for _ in range(g.integer(0 if g.chance(0.1) else 1, 3)):
        there = [v for v in g.values if fits(v)]
        if there and g.chance(0.8):
            parts.append(g.choose(there))
        else:
            shape = list(a.shape)
            shape[at] = g.extent()
            parts.append(g.operand(tuple(shape), a.dtype))
    order = [parts[i] for i in g.rng.permutation(len(parts))]
    g.node("Concat", order, exact=True, axis=axis)


@operator(3)
def split(g):
    x = anything(g, lambda v: v.rank > 0)
    axis = g.integer(-x.rank, x.rank - 1)
    extent = x.shape[axis]
    parts = g.integer(1, max(1, min(4, extent)))
    cuts = sorted(g.integer(0, extent) for _ in range(parts - 1))
    if not g.chance(0.1):
        cuts = sorted(int(c) + 1 for c in g.rng.permutation(max(extent - 1, 0))[: parts - 1])
    sizes = [int(s) for s in np.diff([0, *cuts, extent])]
    parts = len(sizes)
    if g.opset >= 18 and g.chance(0.3):
        split_at(g, x, sizes, [x], axis=axis, num_outputs=parts)
    elif g.opset >= 13:
        split_at(g, x, sizes, [x, int64(g, sizes)], axis=axis)
    else:
        split_at(g, x, sizes, [x], axis=axis % x.rank, split=sizes)


def split_at(g, x, sizes, operands, **attributes):
    if len(sizes) == 1:
        g.node("Split", operands, exact=True, **attributes)
    else:
        g.node("Split", operands, len(sizes), exact=True, **attributes)


@operator(3)
def slice_elements(g):
    x = anything(g, lambda v: v.rank > 0)
    if g.opset < 10:
        axes = sorted(int(a) for a in g.rng.permutation(x.rank)[: g.integer(1, x.rank)])
        starts = [g.integer(0, max(x.shape[a] - 1, 0)) for a in axes]
        ends = [g.integer(s + 1, x.shape[a] + 2) for s, a in zip(starts, axes)]
        g.node("Slice", [x], exact=True, axes=axes, starts=starts, ends=ends)
        return
    axes = [int(a) for a in g.rng.permutation(x.rank)[: g.integer(1, x.rank)]]
    starts, ends, steps = [], [], []
    for a in axes:
        extent = x.shape[a]
        step = g.choose([1, 1, 1, 1, 2, 3, -1, -2])
        start, end = sorted([g.integer(0, extent), g.integer(0, extent)])
        if start == end and not g.chance(0.05):
            end += 1
        if step < 0:
            start, end = end, start
            end = end if end > 0 and g.chance(0.7) else -(extent + 1)
        elif g.chance(0.2):
            end = g.choose([2**31 - 1, 2**63 - 1, extent + 5])
        start = start - extent if g.chance(0.25) and start < extent else start
        starts.append(start), ends.append(end), steps.append(step)
    written = [a - x.rank if g.chance(0.2) and g.opset >= 11 else a for a in axes]
    operands = [x, int64(g, starts), int64(g, ends), int64(g, written)]
    if any(s != 1 for s in steps) or g.chance(0.5):
        operands.append(int64(g, steps))
    g.node("Slice", operands, exact=True)


def indices(g, shape, extent, dtype=None):
    """In range, some of them counted from the end."""
    low = -extent if g.opset >= 11 and g.chance(0.5) else 0
    data = g.rng.integers(low, extent, shape).astype(dtype or g.choose(["int64", "int32"]))
    return g.constant(data) if g.chance(0.6) else g.add_input(data.shape, data.dtype, data)


@operator(2)
def gather(g):
    x = anything(g, lambda v: v.rank > 0 and v.size > 0)
    axis = g.integer(-x.rank, x.rank - 1)
    shape = g.choose([(), (1,), (2,), (3,), (5,), (2, 2), (1, 3)])
    g.node("Gather", [x, indices(g, shape, x.shape[axis])], exact=True, axis=axis)


@operator(1)
def gather_elements(g):
    x = anything(g, lambda v: v.rank > 0 and v.size > 0)
    axis = g.integer(-x.rank, x.rank - 1)
    shape = [g.integer(1, d) for d in x.shape]
    shape[axis] = g.integer(1, 5)
    g.node("GatherElements", [x, indices(g, shape, x.shape[axis])], exact=True, axis=axis)


def nd_indices(g, x, depth, lead, unique=False):
    extents = x.shape[:depth]
    count = int(np.prod(lead))
    if unique:
        if count > np.prod(extents):
            raise Skip
        flat = g.rng.permutation(int(np.prod(extents)))[:count]
    else:
        flat = g.rng.integers(0, int(np.prod(extents)), count)
    data = np.stack(np.unravel_index(flat, extents), -1).reshape(*lead, depth).astype(np.int64)
    return g.constant(data) if g.chance(0.6) else g.add_input(data.shape, "int64", data)


@operator(0.8)
def gather_nd(g):
    x = anything(g, lambda v: v.rank > 0 and v.size > 0)
    lead = g.choose([(1,), (3,), (2, 2)])
    g.node("GatherND", [x, nd_indices(g, x, g.integer(1, x.rank), lead)], exact=True)


@operator(0.8)
def scatter_nd(g):
    x = anything(g, lambda v: v.rank > 0 and v.size > 0)
    depth = g.integer(1, x.rank)
    where = nd_indices(g, x, depth, g.choose([(1,), (2,), (3,)]), unique=True)
    updates = g.operand(where.shape[:-1] + x.shape[depth:], x.dtype)
    attributes = {"reduction": g.choose(["add", "mul"])} if g.opset >= 16 and x.dtype in ("float32", "int64") and g.chance(0.4) else {}
    if g.opset >= 18 and attributes and g.chance(0.5):
        attributes = {"reduction": g.choose(["min", "max"])}
    g.node("ScatterND", [x, where, updates], exact=not attributes, magnitude=(x.magnitude + 1) * 3, **attributes)


@operator(1)
def scatter_elements(g):
    x = anything(g, lambda v: v.rank > 0 and v.size > 0)
    axis = g.integer(-x.rank, x.rank - 1)
    shape = [g.integer(1, d) for d in x.shape]
    order = np.argsort(g.rng.random(x.shape), axis=axis)  # no index twice in a row
    where = g.constant(order[tuple(slice(0, d) for d in shape)].astype(np.int64))
    updates = g.operand(tuple(shape), x.dtype)
    attributes = {"reduction": g.choose(["add", "mul"])} if g.opset >= 16 and x.dtype in ("float32", "int64") and g.chance(0.4) else {}
    g.node("ScatterElements", [x, where, updates], exact=not attributes, magnitude=(x.magnitude + 1) * 3, axis=axis, **attributes)


@operator(1.2)
def expand(g):
    x = anything(g, lambda v: v.size <= 400)
    shape = [g.choose([1, 2, 3, 5]) if d == 1 else g.choose([1, d]) for d in x.shape]
    if g.chance(0.3) and x.rank < 5:
        shape = [g.choose([1, 2, 3]), *shape]
    elif g.chance(0.3):
        shape = shape[g.integer(0, x.rank) :]
    g.node("Expand", [x, int64(g, shape)], exact=True)


@operator(1)
def tile(g):
    x = anything(g, lambda v: v.size <= 1500 and v.rank > 0)
    g.node("Tile", [x, int64(g, [g.choose([1, 1, 2, 3]) for _ in x.shape])], exact=True)


@operator(2)
def pad(g):
    x = anything(g, lambda v: v.rank > 0 and v.size > 0)
    if g.opset < 13 and x.dtype == "bool":
        raise Skip
    mode = g.choose(["constant", "constant", "reflect", "edge"] + (["wrap"] if g.opset >= 19 else []))
    touched = [g.chance(0.6) for _ in x.shape]
    most = [min(3, d - 1) if mode == "reflect" else 3 for d in x.shape]
    amounts = [[g.integer(0, m) if t else 0 for m, t in zip(most, touched)] for _ in range(2)]
    if g.chance(0.1) and mode == "constant":
        at = g.integer(0, x.rank - 1)
        amounts[0][at] = -min(1, x.shape[at] - 1)
    pads = amounts[0] + amounts[1]
    if g.opset < 11:
        if x.dtype not in FLOATS:
            raise Skip
        g.node("Pad", [x], exact=True, mode=mode, pads=pads, **({"value": 1.5} if g.chance(0.5) else {}))
        return
    operands = [x, int64(g, pads)]
    if g.chance(0.5):
        operands.append(g.constant(np.array(g.choose([0, 1, 2]), x.dtype)))
    if g.opset >= 18 and g.chance(0.3):
        axes = [int(a) for a in g.rng.permutation(x.rank)[: g.integer(1, x.rank)]]
        operands[1] = int64(g, [amounts[0][a] for a in axes] + [amounts[1][a] for a in axes])
        operands = (operands + [None])[:3] + [int64(g, axes)]
    g.node("Pad", operands, exact=True, mode=mode, magnitude=max(x.magnitude, 2))


@operator(1)
def blocks(g):
    size = g.choose([2, 2, 3])
    if g.chance(0.5):
        x = g.pick(fits=lambda v: v.rank == 4 and v.shape[1] % size**2 == 0 and v.size > 0,
                   shape=lambda: (g.integer(1, 2), size**2 * g.integer(1, 3), g.integer(1, 5), g.integer(1, 5)))
        g.node("DepthToSpace", [x], exact=True, blocksize=size, **({"mode": g.choose(["DCR", "CRD"])} if g.opset >= 11 else {}))
        return
    x = g.pick(fits=lambda v: v.rank == 4 and v.shape[2] % size == 0 and v.shape[3] % size == 0 and v.size > 0,
               shape=lambda: (g.integer(1, 2), g.integer(1, 5), size * g.integer(1, 3), size * g.integer(1, 3)))
    g.node("SpaceToDepth", [x], exact=True, blocksize=size)


@operator(0.6)
def reverse_sequence(g):
    x = g.pick(fits=lambda v: v.rank >= 2 and v.size > 0)
    batch = g.integer(0, 1)
    lengths = g.rng.integers(1, x.shape[1 - batch] + 1, x.shape[batch])
    g.node("ReverseSequence", [x, int64(g, lengths)], exact=True, batch_axis=batch, time_axis=1 - batch)


@operator(0.8)
def triangle(g):
    x = anything(g, lambda v: v.rank >= 2)
    operands = [x] + ([g.constant(np.array(g.integer(-3, 3), np.int64))] if g.chance(0.6) else [])
    g.node("Trilu", operands, exact=True, upper=g.integer(0, 1))


RESIZE = [("nearest", "asymmetric", "floor"), ("nearest", "half_pixel", "round_prefer_floor"), ("linear", "half_pixel", None),
          ("linear", "align_corners", None), ("linear", "asymmetric", None), ("cubic", "half_pixel", None),
          ("nearest", "align_corners", "round_prefer_ceil"), ("linear", "pytorch_half_pixel", None), ("nearest", "asymmetric", "ceil")]


@operator(1.5)
def resize(g):
    if g.opset < 11:
        raise Skip
    x = g.pick(("float32",), fits=lambda v: v.rank == 4 and v.size > 0 and v.size < MAX_ELEMENTS // 4,
               shape=lambda: (g.integer(1, 2), g.integer(1, 6), g.integer(1, 9), g.integer(1, 9)))
    mode, coordinates, rounding = g.choose(RESIZE)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if rounding:
        attributes["nearest_mode"] = rounding
    empty = g.constant(np.array([], np.float32))
    # With align_corners ONNX Runtime takes the rounded extent where the definition has scale times extent.
    if g.chance(0.6) and coordinates != "align_corners":
        scales = g.constant(np.array([1, 1, *(g.choose([2, 2, 1, 0.5, 3, 1.5]) for _ in range(2))], np.float32))
        operands = [x, empty if g.opset < 13 else None, scales]
    else:
        sizes = int64(g, [*x.shape[:2], g.integer(1, 12), g.integer(1, 12)])
        operands = [x, empty if g.opset < 13 else None, empty if g.opset < 13 else None, sizes]
    g.node("Resize", operands, exact=mode == "nearest", magnitude=2 * x.magnitude, **attributes)


@operator(0.7)
def shape_of(g):
    """Shape, Gather, Concat, Reshape: what exporters write where a shape is computed."""
    x = anything(g)
    shape = g.node("Shape", [x], keep=False)
    if not x.size or not x.rank:
        g.values.append(shape)
        return
    at = g.integer(0, x.rank - 1)
    picked = g.node("Gather", [shape, int64(g, [at - x.rank if g.chance(0.3) and g.opset >= 11 else at])], keep=False, axis=0)
    target = g.node("Concat", [picked, int64(g, [-1])], keep=False, axis=0)
    target.data = np.array([x.shape[at], -1], np.int64)  # for inference only
    g.node("Reshape", [x, target], exact=True)


@operator(0.4)
def filled(g):
    shape = g.shape(g.integer(0, 3))
    attributes = {}
    if g.chance(0.6):
        attributes["value"] = numpy_helper.from_array(np.array([g.integer(-2, 3)], g.choose(["float32", "int64", "int32"])))
    g.node("ConstantOfShape", [int64(g, shape)], exact=True, magnitude=3, **attributes)


@operator(0.3)
def number_range(g):
    dtype = g.choose(["int64", "float32", "int32"])
    start, count, step = g.integer(-3, 3), g.integer(0, 7), g.choose([1, 2, -1, -3])
    numbers = [g.constant(np.array(n, dtype)) for n in (start, start + count * step, step)]
    g.node("Range", numbers, exact=True, magnitude=30)
