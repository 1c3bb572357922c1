# SPDX-License-Identifier: Apache-2.0
"""What EdgeRT and the references say of one model, and whether they agree."""

import io
import subprocess
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

TYPES = {"f32": "float32", "f16": "float16", "f64": "float64", "bool": "bool", "i8": "int8", "u8": "uint8", "i16": "int16",
         "u16": "uint16", "i32": "int32", "u32": "uint32", "i64": "int64", "u64": "uint64"}
# Of the largest magnitude of an output. Float64 is compared no closer than its kernels compute: functions have 1e-7.
TOLERANCES = {"float32": 5e-5, "float16": 6e-3, "float64": 2e-5}
# An error this many times what a relative change of 1e-6 of the inputs does is the problem's, not the program's.
CONDITIONING = 12.0

onnxruntime.set_default_logger_severity(4)


class Runner:
    """fuzz_differential_runner, started again when it dies."""

    def __init__(self, program):
        self.program = program
        self.process = None

    def run(self, model, feeds):
        """("ok", {variant: [array]}), or a kind and a text."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        file = io.BytesIO()
        np.savez(file, **feeds)
        content, inputs = model.SerializeToString(), file.getvalue()
        try:
            self.process.stdin.write(b"%d %d\n" % (len(content), len(inputs)) + content + inputs)
            self.process.stdin.flush()
            kind, size = self.process.stdout.readline().split()
            answer = self.process.stdout.read(int(size))
        except (OSError, ValueError):
            self.process.kill()
            return "error", "the runner died"
        if kind != b"ok":
            return kind.decode(), answer.decode(errors="replace")
        return "ok", parse(io.BytesIO(answer))

    def close(self):
        if self.process is not None:
            self.process.kill()


def parse(stream):
    variants = {}
    while line := stream.readline():
        variant, _, dtype, rank, *rest = line.decode().split()
        dims = [int(d) for d in rest[: int(rank)]]
        array = np.frombuffer(stream.read(int(rest[-1])), TYPES[dtype]).reshape(dims)
        variants.setdefault(variant, []).append(array)
    return variants


class Refused(Exception):
    """ONNX Runtime takes no such model."""


def outputs_of_onnxruntime(model, feeds):
    """Without any rewriting of the graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, feeds)
    except Exception as error:  # its exceptions have no common base
        raise Refused(str(error)) from error


def run_onnxruntime(model, feeds):
    """The same; None where it refuses the model."""
    try:
        return outputs_of_onnxruntime(model, feeds)
    except Refused:
        return None


def run_reference(model, feeds):
    """Outputs by onnx's own definitions; None where they fail."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return ReferenceEvaluator(model).run(None, feeds)
    except Exception:
        return None


def distance(actual, expected):
    """The largest error as a fraction of the tolerance; infinite where types, shapes or NaNs differ."""
    expected = np.asarray(expected)
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        return np.inf
    if actual.size == 0:
        return 0.0
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(actual, expected) else np.inf
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if not np.all(np.isfinite(a[~same])) or not np.all(np.isfinite(b[~same])):
        return np.inf
    scale = max(1e-3, np.max(np.abs(b), where=np.isfinite(b), initial=0.0))
    error = np.max(np.abs(a - b), where=~same, initial=0.0)
    return float(error / (TOLERANCES[expected.dtype.name] * scale))


def worst(actual, expected):
    if len(actual) != len(expected):
        return np.inf
    return max((distance(a, e) for a, e in zip(actual, expected)), default=0.0)


def perturbed(model, feeds, seed):
    """The same with every float changed by a millionth, but for single whole numbers."""
    rng = np.random.default_rng(seed)

    def shake(array):
        if array.dtype.kind != "f" or array.dtype == np.float16:
            return array
        exponents = array.size == 1 and float(array.reshape(())) == np.round(array)  # of negative numbers, too
        return array if exponents else (array * (1 + 1e-6 * rng.uniform(-1, 1, array.shape))).astype(array.dtype)

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
            tensor.CopyFrom(numpy_helper.from_array(shake(numpy_helper.to_array(tensor)), tensor.name))
    return changed, {name: shake(array) for name, array in feeds.items()}


def sensitivity(model, feeds, expected):
    """How far such changes move ONNX Runtime's own outputs, in the unit of distance()."""
    moved = [run_onnxruntime(*perturbed(model, feeds, seed)) for seed in range(3)]
    moved = [[np.asarray(o) for o in outputs] for outputs in moved if outputs is not None]
    comparable = [outputs for outputs in moved if [o.shape for o in outputs] == [np.shape(e) for e in expected]]  # else a scale decided an extent
    return max((worst(outputs, expected) for outputs in comparable), default=0.0)


def judge_without_peer(runner, model, feeds, reason):
    """For models that ONNX Runtime has no kernels for. onnx's reference is too rough to fail a test by itself."""
    kind, answer = runner.run(model, feeds)
    if kind == "error":
        return kind, answer
    reference = run_reference(model, feeds) if kind == "ok" else None
    if reference is None:
        return "refused", reason
    errors = [worst(outputs, reference) for outputs in answer.values()]
    return ("agree", "") if max(errors) <= 1 else ("reference", f"{max(errors):.3g} times the tolerance")


def judge(runner, model, feeds):
    """(verdict, text). Verdicts:
    agree         within the tolerances
    conditioning  the difference is within what rounding does to this model
    peer          onnx's reference says that ONNX Runtime is wrong
    reference     ONNX Runtime has no kernels for it, and onnx's reference differs
    refused       by ONNX Runtime and the reference
    unsupported   by EdgeRT
    error         EdgeRT crashed, failed in a run, or gave results that depend on the number of threads
    disagree      EdgeRT is wrong, or nobody knows
    """
    try:
        expected = outputs_of_onnxruntime(model, feeds)
    except Refused as error:
        return judge_without_peer(runner, model, feeds, str(error))
    kind, answer = runner.run(model, feeds)
    if kind != "ok":
        return kind, answer
    errors = {variant: worst(outputs, expected) for variant, outputs in answer.items()}
    variant = max(errors, key=errors.get)
    if errors[variant] <= 1:
        return "agree", ""
    text = f"{variant}: {errors[variant]:.3g} times the tolerance ({', '.join(f'{v} {e:.2g}' for v, e in errors.items())})"
    if errors[variant] <= CONDITIONING * sensitivity(model, feeds, expected):
        return "conditioning", text
    reference = run_reference(model, feeds)
    if reference is not None and all(worst(outputs, reference) <= 1 for outputs in answer.values()):
        return "peer", text
    return "disagree", text
