#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Attacks on the command with whole model files: external data that reaches out of the model's folder, and models that
ask for memory, time or stack. Each must end with exit code 3, name the thing, leave no plan, and show nothing of the
secret.

Usage: check_attacks.py EDGERT        (needs the onnx wheel)
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SECRET = b"TOPSECRET-TOPSECRET-TOPSECRET-.."
KEYS = ("location", "offset", "length")
FLOAT = TensorProto.FLOAT


def info(name, dims):
    return helper.make_tensor_value_info(name, FLOAT, dims)


def save(folder, graph, **more):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    (folder / "model.onnx").write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10, **more).SerializeToString()
    )


def external(folder, location, offset=None, length=None, extra=(), count=8):
    """x + w, where w lies in another file."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[count], data_location=TensorProto.EXTERNAL)
    for key, value in [*zip(KEYS, (location, offset, length)), *extra]:
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    save(
        folder,
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])], "g", [info("x", [8])], [info("y", [8])], [tensor]
        ),
    )


def good(folder):
    (folder / "weights.bin").write_bytes(bytes(32))
    external(folder, "weights.bin", 0, 32)


def parent(folder):
    external(folder, "../secret.bin")


def parent_through_folder(folder):
    (folder / "sub").mkdir()
    external(folder, "sub/../../secret.bin")


def parent_after_dot(folder):
    external(folder, ".//.././secret.bin")


def backslashes(folder):
    external(folder, "..\\secret.bin")


def zero_byte(folder):
    good(folder)
    external(folder, "weights.bin\0/../../secret.bin")


def external_tensor(location):
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[8], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def constant_node(folder):
    nodes = [helper.make_node("Constant", [], ["w"], value=external_tensor("../secret.bin")), helper.make_node("Add", ["x", "w"], ["y"])]
    save(folder, helper.make_graph(nodes, "g", [info("x", [8])], [info("y", [8])]))


def subgraph(folder):
    branch = helper.make_graph([helper.make_node("Add", ["x", "w"], ["z"])], "b", [], [info("z", [8])], [external_tensor("../secret.bin")])
    truth = numpy_helper.from_array(np.array(True), "c")
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    save(folder, helper.make_graph([node], "g", [info("x", [8])], [info("y", [8])], [truth]))


def function_body(folder):
    nodes = [helper.make_node("Constant", [], ["w"], value=external_tensor("../secret.bin")), helper.make_node("Add", ["a", "w"], ["b"])]
    function = helper.make_function("local", "F", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)])
    call = helper.make_node("F", ["x"], ["y"], domain="local")
    save(folder, helper.make_graph([call], "g", [info("x", [8])], [info("y", [8])]), functions=[function])


def absolute(folder):
    external(folder, str(folder.parent / "secret.bin"))


def symbolic_link(folder):
    (folder / "link.bin").symlink_to("../secret.bin")
    external(folder, "link.bin")


def symbolic_link_to_folder(folder):
    (folder / "sub").symlink_to("..")
    external(folder, "sub/secret.bin")


def hard_link(folder):
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    external(folder, "hard.bin")


def pipe(folder):
    os.mkfifo(folder / "pipe")
    external(folder, "pipe")


def folder_as_file(folder):
    (folder / "sub").mkdir()
    external(folder, "sub")


def missing(folder):
    external(folder, "missing.bin")


def beyond_the_end(folder):
    good(folder)
    external(folder, "weights.bin", 1, 32)


def offset_that_wraps(folder):
    good(folder)
    external(folder, "weights.bin", 2**64 - 16, 32)


def negative_offset(folder):
    good(folder)
    external(folder, "weights.bin", -32, 32)


def negative_length(folder):
    good(folder)
    external(folder, "weights.bin", 0, -32)


def hexadecimal_offset(folder):
    good(folder)
    external(folder, "weights.bin", "0x0", 32)


def unknown_key(folder):
    good(folder)
    external(folder, "weights.bin", extra=[("basepath", "/")])


def key_twice(folder):
    good(folder)
    external(folder, "weights.bin", extra=[("location", "../secret.bin")])


def sparse_file(folder):
    """A terabyte that takes no room on the disk."""
    with open(folder / "holes.bin", "wb") as file:
        file.truncate(2**40)
    external(folder, "holes.bin", count=2**38)


def huge_shape(folder):
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[2**20, 2**20])
    save(
        folder,
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])], "g", [info("x", [8])], [info("y", [8])], [tensor]
        ),
    )


def huge_sparse_tensor(folder):
    indices = numpy_helper.from_array(np.array([1], np.int64))
    values = numpy_helper.from_array(np.array([1], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, indices, [2**20, 2**20])
    save(
        folder,
        helper.make_graph(
            [helper.make_node("Identity", ["w"], ["y"])], "g", [], [info("y", None)], sparse_initializer=[sparse]
        ),
    )


def functions_that_double(folder, levels=40):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    functions = []
    for level in range(levels):
        op, domain = ("Relu", "") if level + 1 == levels else (f"F{level + 1}", "local")
        body = [helper.make_node(op, ["a"], ["m"], domain=domain), helper.make_node(op, ["m"], ["b"], domain=domain)]
        functions.append(helper.make_function("local", f"F{level}", ["a"], ["b"], body, opsets))
    call = helper.make_node("F0", ["x"], ["y"], domain="local")
    save(folder, helper.make_graph([call], "g", [info("x", [8])], [info("y", [8])]), functions=functions)


def function_that_calls_itself(folder):
    opsets = [helper.make_opsetid("local", 1)]
    function = helper.make_function(
        "local", "F", ["a"], ["b"], [helper.make_node("F", ["a"], ["b"], domain="local")], opsets
    )
    call = helper.make_node("F", ["x"], ["y"], domain="local")
    save(folder, helper.make_graph([call], "g", [info("x", [8])], [info("y", [8])]), functions=[function])


def functions_that_call_each_other(folder):
    """One of them from inside a branch."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    branch = helper.make_graph([helper.make_node("F", ["a"], ["z"], domain="local")], "b", [], [info("z", [8])])
    truth = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True)))
    node = helper.make_node("If", ["c"], ["b"], then_branch=branch, else_branch=branch)
    functions = [
        helper.make_function("local", "F", ["a"], ["b"], [helper.make_node("G", ["a"], ["b"], domain="local")], opsets),
        helper.make_function("local", "G", ["a"], ["b"], [truth, node], opsets),
    ]
    call = helper.make_node("F", ["x"], ["y"], domain="local")
    save(folder, helper.make_graph([call], "g", [info("x", [8])], [info("y", [8])]), functions=functions)


def deep_subgraphs(folder):
    """Messages inside messages, written by hand: the onnx package refuses to."""

    def field(number, data):
        size, prefix = len(data), b""
        while size >= 0x80:
            prefix, size = prefix + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + prefix + bytes([size]) + data

    graph = b""
    for _ in range(5000):
        graph = field(1, field(5, field(6, graph)))  # graph.node.attribute.g
    (folder / "model.onnx").write_bytes(field(7, graph) + field(8, b"\x10\x11"))


def cycle(folder):
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    save(folder, helper.make_graph(nodes, "g", [info("x", [8])], [info("b", [8])]))


def empty(folder):
    (folder / "model.onnx").write_bytes(b"")


def text(folder):
    (folder / "model.onnx").write_text("this is no model\n" * 100)


def huge_file(folder):
    """Three gigabytes that take no room on the disk."""
    with open(folder / "model.onnx", "wb") as file:
        file.truncate(3 * 2**30)


# What the message must name.
ATTACKS = [
    (parent, "'..' is not allowed"),
    (parent_through_folder, "'..' is not allowed"),
    (parent_after_dot, "'..' is not allowed"),
    (backslashes, "secret.bin"),
    (zero_byte, "'w'"),
    (constant_node, "'..' is not allowed"),
    (subgraph, "'..' is not allowed"),
    (function_body, "'..' is not allowed"),
    (absolute, "absolute"),
    (symbolic_link, "symbolic links"),
    (symbolic_link_to_folder, "symbolic links"),
    (hard_link, "hard links"),
    (pipe, "regular file"),
    (folder_as_file, "regular file"),
    (missing, "missing.bin"),
    (beyond_the_end, "beyond the end"),
    (offset_that_wraps, "beyond the end"),
    (negative_offset, "offset"),
    (negative_length, "length"),
    (hexadecimal_offset, "offset"),
    (unknown_key, "basepath"),
    (key_twice, "twice"),
    (sparse_file, "limit"),
    (huge_shape, "'w'"),
    (huge_sparse_tensor, "limit"),
    (functions_that_double, "nodes"),
    (function_that_calls_itself, "calls itself"),
    (functions_that_call_each_other, "calls itself"),
    (deep_subgraphs, "not an ONNX model"),
    (cycle, "cycle"),
    (empty, "empty"),
    (text, "not an ONNX model"),
    (huge_file, "model.onnx"),
]


def build(edgert, folder, *options):
    """Exit code, output, and the plan's bytes; None when none was written."""
    plan = folder / "model.plan"
    result = subprocess.run(
        [edgert, "build", str(folder / "model.onnx"), "-o", str(plan), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return result.returncode, result.stdout, plan.read_bytes() if plan.exists() else None


def run(edgert, attack, *options):
    """The same in a folder with what the attack writes, beside which the secret lies."""
    with tempfile.TemporaryDirectory() as outer:
        (pathlib.Path(outer) / "secret.bin").write_bytes(SECRET)
        folder = pathlib.Path(outer) / "model"
        folder.mkdir()
        attack(folder)
        return build(edgert, folder, *options)


def file_changes_while_it_is_checked(edgert, runs=40):
    """The data file is a regular file and a link to the secret in turn: whatever the builder saw when it looked, the secret
    is in no plan. Returns whether that is so."""
    with tempfile.TemporaryDirectory() as outer:
        (pathlib.Path(outer) / "secret.bin").write_bytes(SECRET)
        folder = pathlib.Path(outer) / "model"
        folder.mkdir()
        good(folder)
        stop = threading.Event()

        def swap():
            while not stop.is_set():
                (folder / "new").symlink_to("../secret.bin")
                os.replace(folder / "new", folder / "weights.bin")
                (folder / "new").write_bytes(bytes(32))
                os.replace(folder / "new", folder / "weights.bin")

        swapping = threading.Thread(target=swap)
        swapping.start()
        try:
            results = [build(edgert, folder) for _ in range(runs)]
        finally:
            stop.set()
            swapping.join()
    return all(code in (0, 3, 4) and SECRET not in output and SECRET not in (plan or b"") for code, output, plan in results)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    failures = 0
    code, output, plan = run(sys.argv[1], good)
    if code != 0 or plan is None:
        failures += 1
        print(f"FAILED good: exit code {code}\n{output.decode(errors='replace')}")
    code, output, plan = run(sys.argv[1], good, "--no-external-data")
    if code != 3 or plan is not None or b"'w'" not in output:
        failures += 1
        print(f"FAILED good without external data: exit code {code}\n{output.decode(errors='replace')}")
    if not file_changes_while_it_is_checked(sys.argv[1]):
        failures += 1
        print("FAILED file_changes_while_it_is_checked")
    for attack, expected in ATTACKS:
        code, output, plan = run(sys.argv[1], attack)
        passed = code == 3 and expected.encode() in output and b"TOPSECRET" not in output and plan is None
        failures += not passed
        print(f"{'ok' if passed else 'FAILED'} {attack.__name__}: exit code {code}")
        if not passed:
            print(output.decode(errors="replace"))
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
