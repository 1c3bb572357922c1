# SPDX-License-Identifier: Apache-2.0
"""A random ONNX graph under construction: its values with types, shapes and what is known of their numbers.

Operators register with @operator; each takes a Builder, chooses or makes its operands, and adds nodes. Shapes come from
onnx's own inference. Two properties keep comparisons meaningful:
  exact      the value has the same bits in every correct implementation (inputs, constants, and what only moves or
             selects them); discontinuous operators (Floor, ArgMax, casts to integers) take nothing else
  magnitude  an upper bound of its absolute values, so that nothing overflows
"""

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MAX_ELEMENTS = 6000
MAX_MAGNITUDE = 1e4
OPERATORS = []
FLOATS = ("float32", "float16", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


class Skip(Exception):
    """This operator does not fit here; another one is tried."""


def operator(weight=1.0):
    """Registers a function that adds nodes to a Builder."""

    def register(function):
        OPERATORS.append((weight, function))
        return function

    return register


@dataclasses.dataclass
class Value:
    name: str
    dtype: str
    shape: tuple
    exact: bool = True
    magnitude: float = 2.0
    data: np.ndarray = None  # of constants
    users: int = 0

    @property
    def rank(self):
        return len(self.shape)

    @property
    def size(self):
        return int(np.prod(self.shape, dtype=np.int64))


def type_of(value):
    element = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_type_proto(element, value.shape)


class Builder:
    def __init__(self, rng, opset, main_type):
        self.rng = rng
        self.opset = opset
        self.main_type = main_type  # of floats
        self.values = []
        self.nodes = []
        self.initializers = []
        self.inputs = []
        self.loose = []  # outputs with extents that only a run knows
        self.feeds = {}
        self.counter = 0

    # Chance.
    def chance(self, probability):
        return self.rng.random() < probability

    def integer(self, low, high):
        """Both included."""
        return int(self.rng.integers(low, high + 1))

    def choose(self, options):
        return options[int(self.rng.integers(len(options)))]

    def extent(self):
        """Small, with what does not divide evenly by vectors, and sometimes 1 and 0."""
        if self.chance(0.012):
            return 0
        return self.choose([1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 24, 33])

    def shape(self, rank=None):
        rank = self.choose([0, 1, 2, 2, 3, 3, 4, 4, 4, 5]) if rank is None else rank
        dims = [self.extent() for _ in range(rank)]
        while np.prod(dims, dtype=np.int64) > MAX_ELEMENTS:
            dims[self.integer(0, rank - 1)] = self.choose([1, 2, 3])
        return tuple(dims)

    def numbers(self, shape, dtype, scale=2.0):
        """Half of the floats lie on a grid of quarters, where ties and equal elements happen."""
        kind = np.dtype(dtype)
        if kind == np.bool_:
            return self.rng.random(shape) < 0.5
        if kind.kind in "iu":
            return self.rng.integers(0 if kind.kind == "u" else -4, 7, shape).astype(dtype)
        if self.chance(0.5):
            return (np.round(self.rng.uniform(-scale, scale, shape) * 4) / 4).astype(dtype)
        return np.clip(self.rng.normal(0, scale / 3, shape), -scale, scale).astype(dtype)

    # Values.
    def fresh(self, stem):
        self.counter += 1
        return f"{stem}{self.counter}"

    def add_input(self, shape, dtype, data=None):
        name = self.fresh("x")
        data = np.asarray(self.numbers(shape, dtype) if data is None else data, dtype)
        value = Value(name, np.dtype(dtype).name, tuple(data.shape), True, bound(data))
        self.inputs.append(value)
        self.feeds[name] = np.asarray(data)
        self.values.append(value)
        return value

    def constant(self, data, dtype=None):
        """An initializer or a Constant node."""
        data = np.asarray(data, dtype)
        name = self.fresh("c")
        if self.chance(0.3):
            element = helper.np_dtype_to_tensor_dtype(data.dtype)
            flat = data.view(np.uint16) if data.dtype == np.float16 else data
            raw = data.dtype == np.float16 or self.chance(0.5)
            tensor = helper.make_tensor(name, element, data.shape, flat.tobytes() if raw else flat.flatten().tolist(), raw=raw)
        else:
            tensor = numpy_helper.from_array(data, name)
        if self.chance(0.25):
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return Value(name, data.dtype.name, tuple(data.shape), True, bound(data), data)

    def operand(self, shape, dtype, scale=2.0, constant=0.75):
        """A value that nothing has made: a constant mostly, else an input."""
        data = self.numbers(shape, dtype, scale)
        return self.constant(data) if self.chance(constant) else self.add_input(shape, dtype, data)

    def pick(self, dtypes=None, fits=lambda value: True, shape=None, exact=False):
        """A value that is there, the newer the likelier, or a new input of `shape` (a function) where none fits."""
        dtypes = (self.main_type,) if dtypes is None else dtypes
        matching = [v for v in self.values if v.dtype in dtypes and fits(v) and (v.exact or not exact)]
        if matching and (shape is None or not self.chance(0.08)):
            unused = [v for v in matching if v.users == 0]
            if unused and self.chance(0.6):
                return self.choose(unused)
            return matching[-1 - min(int(self.rng.exponential(3)), len(matching) - 1)]
        if len(self.inputs) > 8:
            raise Skip
        made = self.shape() if shape is None else tuple(shape())
        dtype = self.choose(dtypes)
        candidate = Value("", dtype, made)
        if not fits(candidate):
            raise Skip
        return self.add_input(made, dtype)

    def ranked(self, rank, dtypes=None, exact=False, least=0):
        """A value of this rank whose extents are `least` or more; one that is there may be reshaped."""
        fits = lambda v: v.rank == rank and all(d >= least for d in v.shape)
        return self.pick(dtypes, fits, lambda: [max(d, least) for d in self.shape(rank)], exact)

    # Nodes.
    def schema(self, op):
        try:
            return onnx.defs.get_schema(op, self.opset)
        except onnx.defs.SchemaError:
            raise Skip from None


    def since(self, op):
        return self.schema(op).since_version

    def node(self, op, operands, outputs=1, exact=False, magnitude=None, keep=True, **attributes):
        """Adds a node; returns its output Value, or a list where `outputs` is more than one. Operands may be None."""
        schema = self.schema(op)
        names = [v.name if v is not None else "" for v in operands]
        while names and names[-1] == "":
            names.pop()
        outs = [self.fresh("v") for _ in range(outputs)]
        node = helper.make_node(op, names, outs, **attributes)
        types = {v.name: type_of(v) for v in operands if v is not None}
        data = {v.name: numpy_helper.from_array(v.data, v.name) for v in operands if v is not None and v.data is not None}
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, None, [helper.make_opsetid("", self.opset)], 8)
        except Exception as error:  # onnx's inference refuses what the definition forbids
            raise Skip from error
        known = [v for v in operands if v is not None]
        exact = exact and all(v.exact for v in known)
        if magnitude is None:
            magnitude = max([v.magnitude for v in known], default=1.0)
        results = []
        for name in outs:
            if name not in inferred:
                raise Skip
            tensor = inferred[name].tensor_type
            dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
            if not inferred[name].HasField("tensor_type") or not tensor.HasField("shape") or None in dims:
                raise Skip
            if min(dims, default=0) < 0 or np.prod(dims, dtype=np.int64) > 4 * MAX_ELEMENTS or len(dims) > 7:
                raise Skip
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
            is_float = np.dtype(dtype).kind == "f"
            results.append(Value(name, dtype, tuple(dims), exact or not is_float, float(magnitude)))
        self.nodes.append(node)
        for value in known:
            value.users += 1
        results = [self.tame(value) for value in results]
        if keep:
            self.values.extend(results)
        return results[0] if outputs == 1 else results

    def bare(self, op, operands, **attributes):
        """A node whose extents nobody infers: the name of its output."""
        self.schema(op)
        name = self.fresh("d")
        self.nodes.append(helper.make_node(op, [v if isinstance(v, str) else v.name for v in operands], [name], **attributes))
        for value in operands:
            if isinstance(value, Value):
                value.users += 1
        return name

    def tame(self, value):
        """Keeps floats in a range where neither infinities nor lost digits hide what is compared."""
        limit = 1e3 if value.dtype == "float16" else MAX_MAGNITUDE
        if np.dtype(value.dtype).kind != "f" or value.magnitude <= limit:
            return value
        value.users += 1
        name = self.fresh("t")
        self.nodes.append(helper.make_node("Tanh", [value.name], [name]))
        return Value(name, value.dtype, value.shape, False, 1.0)

    def guarded(self, value, low, high):
        """`value` with its elements between two bounds, through Clip."""
        if value.magnitude <= high and -value.magnitude >= low:
            return value
        low, high = np.array(low, value.dtype), np.array(high, value.dtype)
        magnitude = max(abs(float(low)), abs(float(high)))
        if self.opset < 11:
            return self.node("Clip", [value], exact=True, magnitude=magnitude, keep=False, min=float(low), max=float(high))
        if self.opset < 12 and value.dtype not in FLOATS:
            raise Skip
        return self.node("Clip", [value, self.constant(low), self.constant(high)], exact=True, magnitude=magnitude, keep=False)

    def positive(self, value, least=0.25):
        """|value| + least"""
        absolute = self.node("Abs", [value], exact=True, keep=False)
        return self.node("Add", [absolute, self.constant(np.array(least, value.dtype))], keep=False,
                         magnitude=value.magnitude + least)

    # The whole.
    def model(self):
        """Outputs are what nobody reads, and some others; declared shapes are sometimes symbolic or missing."""
        made = {name for node in self.nodes for name in node.output}
        outputs = [v for v in self.values if v.name in made and (v.users == 0 or self.chance(0.1))]
        outputs += [v for v in self.inputs if self.chance(0.03)]
        if not outputs and not self.loose:
            raise Skip
        declared_inputs = [self.declare(v, symbolic=self.chance(0.15)) for v in self.inputs]
        declared_outputs = [self.declare(v, shapeless=self.chance(0.2)) for v in outputs]
        declared_outputs += [self.declare(v, shapeless=True) for v in self.loose]
        graph = helper.make_graph(self.nodes, "random", declared_inputs, declared_outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return model, self.feeds

    def declare(self, value, symbolic=False, shapeless=False):
        element = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
        if shapeless:
            return helper.make_tensor_value_info(value.name, element, None)
        dims = [f"{value.name}_d{i}" if symbolic and self.chance(0.5) else d for i, d in enumerate(value.shape)]
        return helper.make_tensor_value_info(value.name, element, dims)


def bound(data):
    return float(np.max(np.abs(data.astype(np.float64)), initial=0.0))
