#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the ONNX fuzzer, tests/fuzz/corpus/onnx: small models that between them use every part of the
format that the importer reads. Needs the onnx wheel. Run it again when the importer learns to read more."""

import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name, dims, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, dims)


def model(nodes, inputs, outputs, initializers=(), opset=17, **more):
    sparse = more.pop("sparse_initializer", [])
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers), sparse_initializer=sparse)
    opsets = [helper.make_opsetid("", opset)] + more.pop("opsets", [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def array(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def convolution():
    rng = np.random.default_rng(1)
    weights = [
        array("w", rng.standard_normal((4, 3, 3, 3))),
        array("b", np.zeros(4)),
        array("m", rng.standard_normal((4, 2))),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"], axis=-1),
    ]
    made = model(nodes, [info("x", ["N", 3, 8, 8])], [info("y", ["N", 2])], weights)
    helper.set_model_props(made, {"labels": "cat,dog"})
    return made


def shape_arithmetic():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "minus"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["r"]),
        helper.make_node("Slice", ["r", "axes", "two", "axes"], ["sl"]),
        helper.make_node("Transpose", ["sl"], ["y"], perm=[1, 0]),
    ]
    constants = [
        array("zero", 0, np.int64),
        array("axes", [0], np.int64),
        array("minus", [-1], np.int64),
        array("two", [2], np.int64),
    ]
    return model(nodes, [info("x", [2, 3, 4])], [info("y", None)], constants)


def function_calls():
    reference = helper.make_node("LeakyRelu", ["a"], ["h"])
    attribute = reference.attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = "alpha", "slope", 1
    body = [reference, helper.make_node("Add", ["h", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    inner = helper.make_function(
        "local", "Inner", ["a"], ["b"], body, opsets, attribute_protos=[helper.make_attribute("slope", 0.2)]
    )
    calls = [
        helper.make_node("Inner", ["a"], ["c"], domain="local", slope=0.5),
        helper.make_node("Inner", ["c"], ["b"], domain="local"),
    ]
    outer = helper.make_function("local", "Outer", ["a"], ["b"], calls, opsets)
    return model(
        [helper.make_node("Outer", ["x"], ["y"], domain="local", name="call")],
        [info("x", [2])],
        [info("y", [2])],
        opsets=[helper.make_opsetid("local", 1)],
        functions=[inner, outer],
    )


def branches():
    then = helper.make_graph([helper.make_node("Relu", ["x"], ["t"])], "then", [], [info("t", [2])])
    other = helper.make_graph(
        [helper.make_node("Add", ["x", "k"], ["e"])], "else", [], [info("e", [2])], [array("k", [1, 2])]
    )
    return model(
        [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        [info("x", [2])],
        [info("y", [2])],
        [array("c", True, np.bool_)],
    )


def loop():
    body = helper.make_graph(
        [helper.make_node("Identity", ["cond"], ["again"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [info("i", [], INT64), info("cond", [], BOOL), info("v", [2])],
        [info("again", [], BOOL), info("w", [2])],
    )
    return model(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        [info("x", [2])],
        [info("y", [2])],
        [array("n", 3, np.int64)],
    )


def typed_encodings():
    tensors = [
        helper.make_tensor("f", FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("h", TensorProto.FLOAT16, [2], [1.0, 2.0]),
        helper.make_tensor("b", BOOL, [2], [True, False]),
        helper.make_tensor("i8", TensorProto.INT8, [2], [-1, 1]),
        helper.make_tensor("i4", TensorProto.INT4, [3], [-1, 1, 2]),
        helper.make_tensor("u64", TensorProto.UINT64, [1], [2**63]),
        helper.make_tensor("d", TensorProto.DOUBLE, [1], [0.5]),
    ]
    return model(
        [helper.make_node("Identity", [t.name], [t.name + "_y"]) for t in tensors],
        [],
        [info(t.name + "_y", None, t.data_type) for t in tensors],
        tensors,
        opset=21,
    )


def sparse():
    values, indices = array("s", [7, 8]), array("", [1, 5], np.int64)
    made = helper.make_sparse_tensor(values, indices, [2, 3])
    return model(
        [helper.make_node("Add", ["x", "s"], ["y"])],
        [info("x", [2, 3])],
        [info("y", [2, 3])],
        sparse_initializer=[made],
    )


def constants():
    forms = [
        dict(value=array("", [[1, 2]])),
        dict(value_int=3),
        dict(value_ints=[1, 2]),
        dict(value_float=0.5),
        dict(value_floats=[1.0, 2.0]),
        dict(value_string="text"),
    ]
    nodes = [helper.make_node("Constant", [], [f"y{i}"], **form) for i, form in enumerate(forms)]
    return model(nodes, [], [info(f"y{i}", None) for i in range(len(forms))])


def external():
    tensor = array("w", [1, 2])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "8")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model([helper.make_node("Add", ["x", "w"], ["y"])], [info("x", [2])], [info("y", [2])], [tensor])


def cycle():
    return model(
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])],
        [info("x", [2])],
        [info("b", [2])],
    )


def old_style():
    return model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [info("x", [2]), info("w", [2])],
        [info("y", [2])],
        [array("w", [1, 2])],
        opset=9,
    )


def quantised():
    """Quantised convolution, integers of 4 bits and floating point of 8, each used and given back."""
    numbers = [array("scale", 0.1), array("zero", 3, np.uint8), array("w", np.ones((2, 4, 3, 3)), np.int8)]
    numbers += [array("w_scale", [0.1, 0.2]), array("w_zero", 0, np.int8), array("bias", [5, -5], np.int32)]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node(
            "QLinearConv", ["q", "scale", "zero", "w", "w_scale", "w_zero", "scale", "zero", "bias"], ["c"], pads=[1] * 4
        ),
        helper.make_node("DequantizeLinear", ["c", "scale", "zero"], ["y"]),
        helper.make_node("Cast", ["y"], ["small"], to=TensorProto.INT4),
        helper.make_node("Cast", ["small"], ["wide"], to=TensorProto.INT8),
        helper.make_node("Cast", ["y"], ["f8"], to=TensorProto.FLOAT8E4M3FN),
    ]
    outputs = [info("y", None), info("small", None, TensorProto.INT4), info("wide", None, TensorProto.INT8)]
    outputs.append(info("f8", None, TensorProto.FLOAT8E4M3FN))
    return model(nodes, [info("x", [1, 4, 6, 6])], outputs, numbers, opset=21)


# Operator, constant operands behind the input [1, 4, 6, 6], attributes: importers that compute with hostile numbers.
OPERATORS = {
    "ArgMax": ([], dict(axis=1, keepdims=0)),
    "AveragePool": ([], dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], auto_pad="NOTSET", count_include_pad=1)),
    "BatchNormalization": ([[1.0] * 4] * 4, dict(epsilon=1e-5)),
    "Cast": ([], dict(to=INT64)),
    "Clip": ([0.0, 6.0], {}),
    "Conv": ([np.ones((4, 1, 3, 3), np.float32)], dict(group=4, pads=[1, 1, 1, 1])),
    "CumSum": ([np.array(2, np.int64)], {}),
    "DepthToSpace": ([], dict(blocksize=2, mode="CRD")),
    "Det": ([], {}),
    "Expand": ([np.array([2, 4, 6, 6], np.int64)], {}),
    "Gather": ([np.array([0, -1], np.int64)], dict(axis=1)),
    "Gemm": ([np.ones((6, 3), np.float32), np.ones(3, np.float32)], dict(alpha=0.5, transB=0)),
    "InstanceNormalization": ([[1.0] * 4, [0.0] * 4], {}),
    "LayerNormalization": ([[1.0] * 6, [0.0] * 6], dict(axis=-1)),
    "Pad": ([np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), 0.5], dict(mode="constant")),
    "ReduceMean": ([], dict(axes=[2, 3], keepdims=0)),
    "Resize": (
        [np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)],
        dict(mode="linear", coordinate_transformation_mode="half_pixel"),
    ),
    "ScatterElements": (
        [np.array([[[[0, -1]]]], np.int64), np.ones((1, 1, 1, 2), np.float32)],
        dict(axis=1, reduction="add"),
    ),
    "ScatterND": ([np.array([[0, 1], [0, -1]], np.int64), np.ones((2, 6, 6), np.float32)], {}),
    "Slice": (
        [
            np.array([0, 5], np.int64),
            np.array([4, -10], np.int64),
            np.array([1, 2], np.int64),
            np.array([1, -1], np.int64),
        ],
        {},
    ),
    "Split": ([np.array([1, 3], np.int64)], dict(axis=1)),
    "Squeeze": ([np.array([0], np.int64)], {}),
    "Tile": ([np.array([1, 2, 1, 3], np.int64)], {}),
    "Where": ([np.ones((6, 6), np.float32)], {}),
}


ONES = lambda *dims: np.ones(dims, np.float32)  # noqa: E731
INTS = lambda *values: np.array(values, np.int64)  # noqa: E731
# The same for operators with other inputs: shape of x, constant operands behind it (None: left out), attributes,
# how many outputs, opset.
OTHERS = {
    "Attention": ([1, 4, 8], [ONES(1, 4, 8), ONES(1, 4, 8)], dict(q_num_heads=2, kv_num_heads=2, is_causal=1), 1, 23),
    "BitCast": ([2, 4], [], dict(to=TensorProto.INT32), 1, 26),
    "CenterCropPad": ([3, 5], [INTS(4, 4)], {}, 1, 18),
    "Col2Im": ([1, 12, 4], [INTS(4, 4), INTS(2, 2)], dict(strides=[2, 2]), 1, 18),
    "Compress": ([3, 4], [np.array([True, False, True])], dict(axis=0), 1, 17),
    "ConvTranspose": ([1, 4, 3, 3], [ONES(4, 2, 3, 3), ONES(2)], dict(strides=[2, 2], output_padding=[1, 1]), 1, 17),
    "DFT": ([1, 8, 1], [], dict(axis=1, onesided=1), 1, 17),
    "Einsum": ([2, 3, 4], [ONES(2, 4, 5)], dict(equation="bij,bjk->bik"), 1, 17),
    "GRU": ([3, 2, 4], [ONES(2, 15, 4), ONES(2, 15, 5), ONES(2, 30), None, ONES(2, 2, 5)], dict(hidden_size=5, direction="bidirectional"), 2, 17),
    "GatherElements": ([3, 4], [np.array([[0, -1, 2, 1]], np.int64)], dict(axis=0), 1, 17),
    "GatherND": ([3, 4, 2], [np.array([[0, 1], [2, -1]], np.int64)], dict(batch_dims=0), 1, 17),
    "GridSample": ([1, 2, 4, 4], [ONES(1, 3, 3, 2)], dict(mode="cubic", padding_mode="reflection"), 1, 20),
    "GroupNormalization": ([1, 4, 3, 3], [ONES(4), ONES(4)], dict(num_groups=2), 1, 21),
    "Range": ([], [np.array(9, np.int64), np.array(2, np.int64)], {}, 1, 17),
    "LSTM": ([3, 2, 4], [ONES(1, 20, 4), ONES(1, 20, 5), ONES(1, 40), np.array([3, 1], np.int32)], dict(hidden_size=5), 3, 17),
    "LinearAttention": ([1, 3, 8], [ONES(1, 3, 8), ONES(1, 3, 8)], dict(q_num_heads=2, kv_num_heads=2, update_rule="linear"), 1, 27),
    "MatMul": ([2, 3, 4], [ONES(4, 5)], {}, 1, 17),
    "MaxPool": ([1, 2, 5, 5], [], dict(kernel_shape=[2, 2], ceil_mode=1, dilations=[2, 2]), 2, 17),
    "MaxUnpool": ([1, 1, 2, 2], [np.array([[[[5, 7], [13, 15]]]], np.int64)], dict(kernel_shape=[2, 2], strides=[2, 2]), 1, 17),
    "NonMaxSuppression": ([1, 3, 4], [ONES(1, 1, 3), INTS(2), ONES(1), ONES(1)], {}, 1, 17),
    "NonZero": ([3, 4], [], {}, 1, 17),
    "OneHot": ([3], [np.array(5, np.int64), np.array([0, 1], np.float32)], dict(axis=0), 1, 17),
    "PRelu": ([2, 3, 4], [ONES(3, 1)], {}, 1, 17),
    "RMSNormalization": ([2, 3, 4], [ONES(4)], {}, 1, 23),
    "ReduceLogSumExp": ([2, 3, 4], [INTS(-1, 0)], dict(keepdims=0), 1, 18),
    "Reshape": ([2, 3, 4], [INTS(0, -1, 2)], {}, 1, 17),
    "ReverseSequence": ([4, 3], [INTS(1, 4, 2)], dict(time_axis=0, batch_axis=1), 1, 17),
    "RoiAlign": ([1, 2, 6, 6], [ONES(2, 4), INTS(0, 0)], dict(output_height=2, output_width=2, sampling_ratio=2), 1, 17),
    "RotaryEmbedding": ([1, 2, 3, 4], [ONES(5, 2), ONES(5, 2), np.array([[0, 1, 2]], np.int64)], {}, 1, 23),
    "STFT": ([1, 16, 1], [np.array(4, np.int64), ONES(8)], dict(onesided=1), 1, 17),
    "Softmax": ([2, 3, 4], [], dict(axis=-2), 1, 17),
    "SpaceToDepth": ([1, 2, 4, 6], [], dict(blocksize=2), 1, 17),
    "SwiGLU": ([2, 8], [ONES(2, 8)], {}, 1, 28),
    "TensorScatter": ([1, 4, 3], [ONES(1, 2, 3), INTS(1)], dict(mode="linear"), 1, 24),
    "TopK": ([3, 4], [INTS(2)], dict(axis=1, largest=0), 2, 17),
    "Transpose": ([2, 3, 4], [], dict(perm=[2, 0, 1]), 1, 17),
    "Trilu": ([3, 4], [np.array(-1, np.int64)], dict(upper=0), 1, 17),
    "Unique": ([5], [], dict(sorted=1), 4, 17),
    "Unsqueeze": ([2, 3], [INTS(0, -1)], {}, 1, 17),
}


def other_operator(op):
    shape, operands, attributes, count, opset = OTHERS[op]
    given = [(f"k{i}", value) for i, value in enumerate(operands)]
    outputs = [f"y{i}" for i in range(count)]
    return model(
        [helper.make_node(op, ["x"] + [name if value is not None else "" for name, value in given], outputs, **attributes)],
        [info("x", shape, INT64 if op in ("Range", "OneHot") else FLOAT)],
        [info(name, None) for name in outputs],
        [array(name, value, value.dtype) for name, value in given if value is not None],
        opset=opset,
    )


def scan():
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Relu", ["t"], ["o"])],
        "body",
        [info("s", [2]), info("x", [2])],
        [info("t", [2]), info("o", [2])],
    )
    return model(
        [helper.make_node("Scan", ["s0", "xs"], ["last", "all"], body=body, num_scan_inputs=1, scan_input_directions=[1])],
        [info("s0", [2]), info("xs", [300, 2])],
        [info("last", [2]), info("all", [300, 2])],
    )


def growing_loop():
    """The number of turns and the condition are known in a run only; an If inside."""
    then = helper.make_graph([helper.make_node("Relu", ["v"], ["a"])], "then", [], [info("a", [2])])
    other = helper.make_graph([helper.make_node("Neg", ["v"], ["b"])], "else", [], [info("b", [2])])
    body = helper.make_graph(
        [
            helper.make_node("Less", ["i", "n"], ["again"]),
            helper.make_node("If", ["again"], ["w"], then_branch=then, else_branch=other),
        ],
        "body",
        [info("i", [], INT64), info("cond", [], BOOL), info("v", [2])],
        [info("again", [], BOOL), info("w", [2]), info("w", [2])],
    )
    return model(
        [helper.make_node("Loop", ["n", "", "x"], ["y", "ys"], body=body)],
        [info("x", [2]), info("n", [], INT64)],
        [info("y", [2]), info("ys", [9, 2])],
    )


def residual_network():
    """What passes recognise: convolution, normalization, activation, shortcut, concatenation, attention's transposes."""
    statistics = [array(name, value) for name, value in zip("sbmv", ([1] * 4, [0] * 4, [0] * 4, [1] * 4))]
    constants = statistics + [array("w", np.ones((4, 4, 3, 3))), array("d", np.ones((4, 1, 3, 3))), array("shape", [1, 4, -1], np.int64)]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Sigmoid", ["n"], ["g"]),
        helper.make_node("Mul", ["n", "g"], ["a"]),
        helper.make_node("Conv", ["a", "d"], ["e"], pads=[1] * 4, group=4),
        helper.make_node("Add", ["e", "x"], ["r"]),
        helper.make_node("Split", ["r"], ["r0", "r1"], axis=1),
        helper.make_node("Concat", ["r1", "r", "r0"], ["j"], axis=1),
        helper.make_node("GlobalAveragePool", ["j"], ["p"]),
        helper.make_node("Reshape", ["r", "shape"], ["q"]),
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "q"], ["u"]),
        helper.make_node("Softmax", ["u"], ["y"], axis=-1),
    ]
    return model(nodes, [info("x", [1, 4, 6, 6])], [info("y", None), info("p", None)], constants, opset=13)


def operator(op):
    operands, attributes = OPERATORS[op]
    constants = [array(f"k{i}", value, getattr(value, "dtype", np.float32)) for i, value in enumerate(operands)]
    names = ["x"] + [constant.name for constant in constants]
    if op == "Where":
        names.insert(0, "mask")
        constants.append(array("mask", np.eye(6), np.bool_))
    if op == "Resize":
        names.insert(1, "")
        names.remove("k0")
    outputs = ["y", "z"] if op == "Split" else ["y"]
    return model(
        [helper.make_node(op, names, outputs, **attributes)],
        [info("x", [1, 4, 6, 6])],
        [info(name, None) for name in outputs],
        constants,
    )


def main():
    folder = pathlib.Path(
        sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "corpus" / "onnx"
    )
    folder.mkdir(parents=True, exist_ok=True)
    for make in (
        convolution,
        shape_arithmetic,
        function_calls,
        branches,
        loop,
        typed_encodings,
        sparse,
        constants,
        external,
        cycle,
        old_style,
        quantised,
        scan,
        growing_loop,
        residual_network,
    ):
        (folder / f"{make.__name__}.onnx").write_bytes(make().SerializeToString(deterministic=True))
    for op in OPERATORS:
        (folder / f"op_{op}.onnx").write_bytes(operator(op).SerializeToString(deterministic=True))
    for op in OTHERS:
        (folder / f"op_{op}.onnx").write_bytes(other_operator(op).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
