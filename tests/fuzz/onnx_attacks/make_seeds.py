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
    ):
        (folder / f"{make.__name__}.onnx").write_bytes(make().SerializeToString(deterministic=True))
    for op in OPERATORS:
        (folder / f"op_{op}.onnx").write_bytes(operator(op).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
