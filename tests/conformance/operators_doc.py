# SPDX-License-Identifier: Apache-2.0
"""Writes docs/operators.md: what can be imported, from the registry, and with which element types, by trying.

For every operator one case of the node tests is taken that passes and consists of this operator alone. The operands of
each of its type parameters are converted to every type that ONNX allows there; a type counts when the changed model
builds and runs.

    operators_doc.py --runner build/tests/conformance/node_runner [--update]

Without --update it fails when the document is not what it would write.
"""

import argparse
import collections
import copy
import pathlib
import sys
import tempfile

import node_tests
import numpy as np
import onnx
from onnx import numpy_helper

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "operators.md"
HEADER = """# Operators

Written by `tests/conformance/operators_doc.py --update`; a test fails when it is out of date. `edgert inspect
model.onnx` says what a given model lacks, node by node, and why.

*Opsets*: the versions of the domain in which the operator is imported; other versions are refused by name. *Element
types*: for each type parameter of ONNX's definition the types that were tried and run (from the onnx wheel's node
tests; "-" where they have no case with this operator alone). 16-bit floating point is computed in 32 bits; f8, f4, i4,
u4, i2 and u2 are stored and converted. Every operator runs on the CPU backend; which of them CUDA plans hold is in
[cuda.md](cuda.md). Tensors have at most 8 dimensions.

"""
LIMITS = {
    "AveragePool": "1 to 3 spatial dimensions",
    "BatchNormalization": "training only from opset 14, without saved statistics",
    "BitCast": "types of whole bytes",
    "CenterCropPad": "shape known when the plan is built",
    "ConvInteger": "1 and more spatial dimensions; plain kernel",
    "Conv": "1 to 3 spatial dimensions; float",
    "Col2Im": "shapes known when the plan is built",
    "DequantizeLinear": "computed in f32",
    "Det": "at most 4,096 rows",
    "Dropout": "in training mode with ratio 0 only: there are no random results",
    "Expand": "shape known when the plan is built",
    "LabelEncoder": "numbers",
    "LpPool": "no ceil_mode",
    "MaxPool": "1 to 3 spatial dimensions; indices of windows of up to 4,096 elements",
    "OneHot": "depth known when the plan is built",
    "OptionalGetElement": "tensors",
    "OptionalHasElement": "tensors, decided when the plan is built",
    "Pad": "pads, value and axes known when the plan is built",
    "QLinearConv": "one scale and zero point for input and output; plain kernel",
    "QLinearMatMul": "one scale and zero point for the output; plain kernel",
    "QuantizeLinear": "computed in the precision of the scale, at most f32",
    "Range": "bounds known when the plan is built; the limit may be an extent that only a run knows",
    "Reshape": "shape known when the plan is built",
    "Slice": "axes and steps known when the plan is built; starts and ends too where it goes backwards",
    "Split": "sizes known when the plan is built",
    "TfIdfVectorizer": "integers; n-grams with indexes of their own",
    "Tile": "repeats known when the plan is built",
}
TYPE_NAMES = {
    "tensor(float)": "f32",
    "tensor(float16)": "f16",
    "tensor(bfloat16)": "bf16",
    "tensor(double)": "f64",
    "tensor(bool)": "bool",
    "tensor(float8e4m3fn)": "f8e4m3fn",
    "tensor(float8e4m3fnuz)": "f8e4m3fnuz",
    "tensor(float8e5m2)": "f8e5m2",
    "tensor(float8e5m2fnuz)": "f8e5m2fnuz",
    "tensor(float8e8m0)": "f8e8m0",
    "tensor(float4e2m1)": "f4e2m1",
} | {f"tensor({sign}int{bits})": f"{sign[:1] or 'i'}{bits}" for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)}
ORDER = ["f32", "f16", "bf16", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"]
ORDER += [name for name in TYPE_NAMES.values() if name not in ORDER]


def elem_type(type_string):
    return onnx.TensorProto.DataType.Value(type_string[len("tensor(") : -1].upper())


def single_node_cases(passed):
    """{(domain, operator): a case of this node alone}; those with the fewest elements first."""
    cases = collections.defaultdict(list)
    for case in node_tests.CASES:
        nodes = case.model.graph.node
        if case.name in passed and len(nodes) == 1 and not case.model.graph.initializer:
            cases[(nodes[0].domain, nodes[0].op_type)].append(case)
    return cases


def schema_of(case):
    node = case.model.graph.node[0]
    versions = {entry.domain: entry.version for entry in case.model.opset_import}
    return onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)


def as_array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def converted(value, type_string):
    """The value in another type, as a TensorProto for types that numpy lacks."""
    number = elem_type(type_string)
    array = as_array(value)
    if number in node_tests.PROTO_TYPES:
        return numpy_helper.from_array(array.astype(np.float32).astype(onnx.helper.tensor_dtype_to_np_dtype(number)))
    return array.astype(onnx.helper.tensor_dtype_to_np_dtype(number))


class Retyped:
    """A case with the operands of one type parameter in another type."""

    def __init__(self, case, schema, parameter, type_string):
        self.name = case.name
        self.rtol, self.atol = case.rtol, case.atol
        self.model = copy.deepcopy(case.model)
        graph, node = self.model.graph, self.model.graph.node[0]
        positions = list(schema.inputs)
        named = {
            name
            for i, name in enumerate(node.input)
            if positions[min(i, len(positions) - 1)].type_str == parameter
        }
        inputs = list(case.data_sets[0][0])
        for i, info in enumerate(graph.input):
            if info.name in named:
                inputs[i] = converted(inputs[i], type_string)
                info.type.tensor_type.elem_type = elem_type(type_string)
        self.data_sets = [(inputs, case.data_sets[0][1])]


def trials(case):
    """(type parameter, type, case) for everything that ONNX allows in place of the case's own types."""
    schema = schema_of(case)
    for constraint in schema.type_constraints:
        if not any(formal.type_str == constraint.type_param_str for formal in schema.inputs):
            continue
        for allowed in constraint.allowed_type_strs:
            if allowed in TYPE_NAMES:
                yield constraint.type_param_str, TYPE_NAMES[allowed], (case, schema, constraint.type_param_str, allowed)


def supported_types(runner, passed):
    """{(domain, operator): {type parameter: set of types}}"""
    found = collections.defaultdict(lambda: collections.defaultdict(set))
    with tempfile.TemporaryDirectory() as scratch:
        tried = {}
        for key, cases in single_node_cases(passed).items():
            for index, case in enumerate(cases[:6]):
                for parameter, name, arguments in trials(case):
                    folder = pathlib.Path(scratch) / f"{key[1]}.{index}.{parameter}.{name}"
                    try:
                        if node_tests.write_case(Retyped(*arguments), folder):
                            tried[folder] = (key, parameter, name)
                    except (ValueError, TypeError, OverflowError):
                        continue  # numpy cannot convert the operand
        results = node_tests.run_cases([runner], list(tried))
        for folder, (key, parameter, name) in tried.items():
            if results[folder.name][0] in ("pass", "wrong"):  # "wrong": the expected output has the old type
                found[key][parameter].add(name)
    return found


def versions_text(since, until):
    return f"{since}+" if until >= 1 << 30 else f"{since}-{until}"


def types_text(types):
    parts = []
    for parameter in sorted(types):
        names = sorted(types[parameter], key=ORDER.index)
        parts.append(f"{parameter}: {' '.join(names)}")
    return "; ".join(parts) or "-"


def document(runner):
    operators = collections.defaultdict(list)
    for line in node_tests.operators(runner):
        domain, name, since, until = line.split("|")
        operators[(domain, name)].append((int(since), int(until)))
    passed = node_tests.read_expected()
    types = supported_types(runner, passed)
    unknown = set(LIMITS) - {name for _, name in operators}
    if unknown:
        sys.exit(f"limits of operators that do not exist: {sorted(unknown)}")
    text = HEADER
    for domain in sorted({domain for domain, _ in operators}):
        text += f"## {domain or 'ONNX'}\n\n| operator | opsets | element types | limits |\n| --- | --- | --- | --- |\n"
        for (own, name), versions in sorted(operators.items()):
            if own == domain:
                opsets = ", ".join(versions_text(*version) for version in sorted(versions))
                text += f"| {name} | {opsets} | {types_text(types[(own, name)])} | {LIMITS.get(name, '')} |\n"
        text += "\n"
    return text.rstrip("\n") + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", required=True, help="the node_runner program")
    parser.add_argument("--update", action="store_true", help="rewrite the document")
    arguments = parser.parse_args()
    text = document(arguments.runner)
    if arguments.update:
        DOCUMENT.write_text(text)
        return 0
    written = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    if written == text:
        return 0
    for line in sorted(set(text.splitlines()) ^ set(written.splitlines())):
        print(f"{'missing' if line in text else 'out of date'}: {line}")
    print(f"{DOCUMENT.name} is not what the builder supports; run with --update")
    return 1


if __name__ == "__main__":
    sys.exit(main())
