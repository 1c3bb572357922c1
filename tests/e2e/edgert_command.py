# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: calling the command, small ONNX models, ONNX Runtime as the reference.

The command is found through the environment variable EDGERT (default: build/edgert of this repository); the Python that
runs the tests needs onnx, onnxruntime and numpy, and is the one that `edgert compare` is told to use.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

REPOSITORY = Path(__file__).resolve().parents[2]
EDGERT = os.path.abspath(os.environ.get("EDGERT", REPOSITORY / "build" / "edgert"))
MODELS = REPOSITORY / "examples" / "models"

OK, COMPARISON_FAILED, USAGE, BAD_INPUT, IO, INTERNAL = range(6)


def edgert(*arguments, **options):
    """Runs the command; a completed process with stdout and stderr as text."""
    command = [EDGERT, *map(str, arguments)]
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        command, stderr=subprocess.PIPE, text=True, errors="replace", timeout=1800, check=False, **options
    )


class CommandTest(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="edgert-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def call(self, *arguments, code=OK, says=(), **options):
        """Runs the command, demands the exit code and that the message contains each of `says`; returns its stdout."""
        result = edgert(*arguments, **options)
        text = f"{' '.join(map(str, arguments))}\nstdout: {result.stdout}\nstderr: {result.stderr}"
        self.assertEqual(result.returncode, code, text)
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(
                part, result.stderr if code not in (OK, COMPARISON_FAILED) else result.stdout + result.stderr, text
            )
        if code in (USAGE, BAD_INPUT, IO):
            self.assertNotIn("internal error", result.stderr, text)
        return result.stdout

    def call_json(self, *arguments, **options):
        return json.loads(self.call(*arguments, "--json", **options))

    def build(self, model, name="net.plan", *arguments):
        plan = self.folder / name
        self.call("build", model, "-o", plan, "--quiet", *arguments)
        return plan

    def save(self, name, model):
        path = self.folder / name
        onnx.save(model, path)
        return path

    def save_npz(self, name, **arrays):
        path = self.folder / name
        np.savez(path, **arrays)
        return path

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())


def value(name, dtype, dims):
    return helper.make_tensor_value_info(name, dtype, dims)


def make_model(nodes, inputs, outputs, initializers=(), opset=17, opsets=()):
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, version) for domain, version in opsets)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def float_tensor(name, array):
    return onnx.numpy_helper.from_array(np.asarray(array, np.float32), name)


def conv_net():
    """image [1,3,8,8] → Conv, Relu, global average → features [1,4,1,1]."""
    weights = np.random.default_rng(1).standard_normal((4, 3, 3, 3))
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["features"], "pool"),
    ]
    return make_model(
        nodes,
        [value("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [value("features", TensorProto.FLOAT, [1, 4, 1, 1])],
        [float_tensor("w", weights)],
    )


def two_inputs():
    """sum = a + b, both [N,3] of floats; count = number of elements of `a` as int64."""
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"], "add"), helper.make_node("Size", ["a"], ["count"], "size")]
    return make_model(
        nodes,
        [value("a", TensorProto.FLOAT, ["N", 3]), value("b", TensorProto.FLOAT, ["N", 3])],
        [value("sum", TensorProto.FLOAT, ["N", 3]), value("count", TensorProto.INT64, [])],
    )


def open_reference(model, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def reference(model, inputs):
    """Outputs of ONNX Runtime by name."""
    session = open_reference(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def relative_to_max(actual, expected):
    """The largest error as a fraction of the largest magnitude of what is expected."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


class AgainstReference(CommandTest):
    """Each model is built once and run on several inputs and numbers of threads."""

    def agree(self, model, cases, *arguments, tolerance=1e-5):
        path = self.save("net.onnx", model)
        onnx.checker.check_model(model)
        plan = self.build(path, "net.plan", *arguments)
        for inputs in cases:
            expected = reference(path, inputs)
            for threads in (1, 2):
                with self.subTest(inputs=inputs, threads=threads):
                    out = self.folder / "out.npz"
                    npz = self.save_npz("in.npz", **inputs)
                    self.call("run", plan, "--inputs", npz, "--outputs", out, "--threads", threads)
                    actual = np.load(out)
                    self.assertEqual(sorted(actual.files), sorted(expected))
                    for name, array in expected.items():
                        self.assertEqual(actual[name].shape, array.shape, name)
                        self.assertEqual(actual[name].dtype, array.dtype, name)
                        np.testing.assert_allclose(actual[name], array, rtol=tolerance, atol=tolerance, err_msg=name)


def main():
    if not os.access(EDGERT, os.X_OK):
        sys.exit(f"{EDGERT} is no program; build it, or say where it is: EDGERT=PATH")
    unittest.main(verbosity=2)
