# SPDX-License-Identifier: Apache-2.0
"""ONNX's own tests against EdgeRT: its node tests, and the model tests of wheel_models.py.

Writes every test case of the installed onnx wheel as a folder, lets node_runner build and run them, and compares the
outcome with expected.txt, the list of cases that must pass; --update rewrites it. A case that passes without being
listed fails the suite too, and so does one that fails without a reason in failures.txt, so that both lists stay true.

    node_tests.py --runner build/tests/conformance/node_runner [--filter REGEX] [--verbose] [--update]
    node_tests.py --runner build/tests/conformance/node_runner --target sm_90 --jobs 16

The second form runs the cases on the GPU of this machine, all in f32, and lists those that pass on the CPU only. With
--device "qemu-aarch64 -L ROOT plan_runner" the plans that are built here run there.
"""

import argparse
import collections
import concurrent.futures
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

from wheel_models import wheel_models

with warnings.catch_warnings():
    # The references compute infinities and overflows on purpose.
    warnings.simplefilter("ignore")
    from onnx.backend.test.loader import load_model_tests

    CASES = load_model_tests(kind="node")

EXPECTED = pathlib.Path(__file__).parent / "expected.txt"
FAILURES = pathlib.Path(__file__).parent / "failures.txt"
HEADER = """# Cases of the onnx wheel's node and model tests that must pass; every other one must not. Written by node_tests.py --update.
"""
TYPES = {
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "float64": "f64",
    "int8": "i8",
    "uint8": "u8",
    "int16": "i16",
    "uint16": "u16",
    "int32": "i32",
    "uint32": "u32",
    "int64": "i64",
    "uint64": "u64",
    "bool": "bool",
}
PLAIN_TYPES = {
    onnx.TensorProto.DataType.Value(name)
    for name in "BOOL INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 FLOAT16 FLOAT DOUBLE".split()
}
# Types that numpy does not have: the data sets hold them as they lie in a TensorProto.
PROTO_TYPES = {
    onnx.TensorProto.FLOAT8E4M3FN: "f8e4m3fn",
    onnx.TensorProto.FLOAT8E4M3FNUZ: "f8e4m3fnuz",
    onnx.TensorProto.FLOAT8E5M2: "f8e5m2",
    onnx.TensorProto.FLOAT8E5M2FNUZ: "f8e5m2fnuz",
    onnx.TensorProto.FLOAT8E8M0: "f8e8m0",
    onnx.TensorProto.FLOAT4E2M1: "f4e2m1",
    onnx.TensorProto.INT4: "i4",
    onnx.TensorProto.UINT4: "u4",
    onnx.TensorProto.INT2: "i2",
    onnx.TensorProto.UINT2: "u2",
}
BATCH = 100


def proto_bytes(tensor):
    """The bytes of a tensor of PROTO_TYPES: from raw data, or from a field with a byte an entry."""
    return tensor.raw_data or bytes(entry & 0xFF for entry in tensor.int32_data)


def tensor_bytes(name, value):
    """One tensor of case.bin, or None when it is no tensor of a type that plans have."""
    if isinstance(value, onnx.TensorProto) and value.data_type in PROTO_TYPES:
        data = proto_bytes(value)
        words = [name, PROTO_TYPES[value.data_type], len(value.dims), *value.dims, len(data)]
        return " ".join(map(str, words)).encode() + b"\n" + data
    if isinstance(value, onnx.TensorProto):
        value = numpy_helper.to_array(value)
    if not isinstance(value, (np.ndarray, np.generic)):
        return None
    array = np.ascontiguousarray(value).reshape(np.shape(value))
    if array.dtype.name not in TYPES:
        return None
    data = array.tobytes()
    words = [name, TYPES[array.dtype.name], array.ndim, *array.shape, len(data)]
    return " ".join(map(str, words)).encode() + b"\n" + data


def write_case(case, folder):
    """Writes the case's first data set; returns False when one of its values has no place in a plan."""
    inputs, outputs = case.data_sets[0]
    graph = case.model.graph
    initialized = {tensor.name for tensor in graph.initializer}
    input_names = [info.name for info in graph.input if info.name not in initialized]
    parts = [tensor_bytes(name, value) for name, value in zip(input_names, inputs)]
    parts += [tensor_bytes(info.name, value) for info, value in zip(graph.output, outputs)]
    if None in parts or len(parts) != len(inputs) + len(outputs):
        return False
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    head = f"{case.rtol} {case.atol} {len(inputs)} {len(outputs)}\n".encode()
    (folder / "case.bin").write_bytes(head + b"".join(parts))
    return True


def is_plain(case):
    """Only default-domain operators, and only bool, integer and float16/32/64 tensors as inputs and outputs: 1,605 of
    the 1,884 cases of onnx 1.23."""
    graph = case.model.graph
    domains = {node.domain for node in graph.node} | {entry.domain for entry in case.model.opset_import}
    return domains <= {"", "ai.onnx"} and all(
        value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in PLAIN_TYPES
        for value in [*graph.input, *graph.output]
    )


def run_cases(command, folders, jobs=1):
    """{case name: (outcome, detail)}"""

    def run(batch):
        lines = []
        while batch:
            done = subprocess.run([*command, *map(str, batch)], stdout=subprocess.PIPE, text=True, errors="replace")
            new = done.stdout.splitlines()
            lines += new
            batch = batch[len(new):]
            if batch:  # the runner died of the first case that is left
                lines.append(f"error\t{batch[0]}\tthe runner ended with {done.returncode}")
                batch = batch[1:]
        return lines

    results = {}
    batches = [folders[start : start + BATCH] for start in range(0, len(folders), BATCH)]
    if jobs > 1:
        batches = [folders[start::jobs] for start in range(jobs)]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for lines in pool.map(run, batches):
            for line in lines:
                outcome, folder, detail = line.split("\t", 2)
                results[pathlib.Path(folder).name] = (outcome, detail)
    return results


def operators(runner):
    """What can be imported: lines "domain|operator|first version|last version"."""
    return subprocess.run([runner, "--operators"], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def report_gpu(results, expected):
    """Prints what passes on the CPU and not on the GPU; returns whether that is more than one case in twenty."""
    both = expected & set(results)
    passed = {name for name in both if results[name][0] == "pass"}
    for name in sorted(both - passed):
        print(f"{results[name][0]}: {name}: {results[name][1]}")
    print(f"{len(passed)} of the {len(both)} cases that pass on the CPU pass on the GPU ({100 * len(passed) / max(len(both), 1):.1f} %)")
    return len(passed) < 0.95 * len(both)


def report_device(results, expected):
    """Prints what passes here and not on the device; returns whether there is any."""
    both = expected & set(results)
    lost = sorted(name for name in both if results[name][0] != "pass")
    for name in lost:
        print(f"{results[name][0]} on the device: {name}: {results[name][1]}")
    print(f"{len(both) - len(lost)} of the {len(both)} cases that pass here pass on the device")
    return 1 if lost or not both else 0


def judge(results, expected, complete):
    """Prints what differs from the list; returns how many cases do."""
    passed = {name for name, (outcome, _) in results.items() if outcome == "pass"}
    lost = sorted((expected & set(results)) - passed)
    gained = sorted(passed - expected)
    for name in lost:
        print(f"must pass, but {results[name][0]}: {name}: {results[name][1]}")
    for name in gained:
        print(f"passes, but is not in {EXPECTED.name} (run with --update): {name}")
    unknown = sorted(expected - set(results)) if complete else []
    for name in unknown:
        print(f"in {EXPECTED.name}, but the onnx wheel ({onnx.__version__}) has no such case: {name}")
    return len(lost) + len(gained) + len(unknown)


def read_failures():
    """[(regular expression, reason)]"""
    lines = [line for line in FAILURES.read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(": ", 1)) for line in lines]


def judge_failures(results, complete):
    """Prints cases that fail without a reason and reasons without a case; returns how many there are."""
    failed = {name.removeprefix("test_") for name, (outcome, _) in results.items() if outcome != "pass"}
    unexplained = set(failed)
    stale = 0
    for pattern, reason in read_failures():
        explained = {name for name in failed if re.fullmatch(pattern, name)}
        unexplained -= explained
        if complete and not explained:
            print(f"in {FAILURES.name}, but no such case fails: {pattern}: {reason}")
            stale += 1
    for name in sorted(unexplained):
        outcome, detail = results[name] if name in results else results["test_" + name]
        print(f"{outcome} without a reason in {FAILURES.name}: {name}: {detail}")
    return stale + len(unexplained)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", required=True, help="the node_runner program")
    parser.add_argument("--filter", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("--verbose", action="store_true", help="print every case that does not pass, and why")
    parser.add_argument("--update", action="store_true", help="rewrite the list of cases that must pass")
    parser.add_argument("--target", default="", help="build for this GPU (sm_90), in f32, and run there")
    parser.add_argument("--device", default="", help="run the plans with this plan_runner, emulated or elsewhere")
    parser.add_argument("--jobs", type=int, default=1, help="that many runners at once")
    arguments = parser.parse_args()

    # Whole networks take minutes on an emulated device.
    models = [case for case in wheel_models() if not (arguments.device and case.name.startswith("light."))]
    chosen = [case for case in [*CASES, *models] if re.search(arguments.filter, case.name)]
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for case in chosen:
            folder = pathlib.Path(scratch) / case.name
            if write_case(case, folder):
                folders.append(folder)
            else:
                results[case.name] = ("unsupported", "a string, sequence, optional, complex or sub-byte value")
        options = ["--target", arguments.target] if arguments.target else ["--plans"] if arguments.device else []
        results.update(run_cases([arguments.runner, *options], folders, arguments.jobs))
        if arguments.device:
            return report_device(run_cases(shlex.split(arguments.device), folders, arguments.jobs), read_expected())
    if arguments.target:
        return 1 if report_gpu(results, read_expected()) else 0

    model_names = {case.name for case in models}
    counts, model_counts = (
        collections.Counter(outcome for name, (outcome, _) in results.items() if (name in model_names) == wanted)
        for wanted in (False, True)
    )
    if arguments.verbose:
        for name, (outcome, detail) in sorted(results.items()):
            if outcome != "pass":
                print(f"{outcome}: {name}: {detail}")
    if arguments.update:
        expected = set() if not arguments.filter else read_expected() - set(results)
        expected |= {name for name, (outcome, _) in results.items() if outcome == "pass"}
        EXPECTED.write_text(HEADER + "".join(f"{name}\n" for name in sorted(expected)))
    complete = not arguments.filter
    differing = judge(results, read_expected(), complete) + judge_failures(results, complete)
    plain = [case.name for case in chosen if case.name not in model_names and is_plain(case)]
    plain_passed = sum(results[name][0] == "pass" for name in plain)
    for kind, count in (("node tests", counts), ("model tests", model_counts)):
        print(f"{kind}: {count['pass']} passed, {count['wrong'] + count['error']} failed, {count['unsupported']} unsupported")
    print(f"{plain_passed} of the {len(plain)} node tests with default-domain operators on plain tensors passed")
    return 1 if differing else 0


def read_expected():
    if not EXPECTED.exists():
        return set()
    lines = EXPECTED.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


if __name__ == "__main__":
    sys.exit(main())
