# SPDX-License-Identifier: Apache-2.0
"""Writes full-size networks as ONNX files: real architectures, random but realistic parameters.

Nothing is downloaded. Weights are He-initialised; the statistics of every BatchNormalization are measured on a few
random images with ONNX Runtime, so activations keep their scale through the whole network and different inputs
give clearly different outputs. The same seed gives the same weights everywhere; the measured statistics may differ in
their last bits between CPUs or versions of ONNX Runtime.

Needs numpy, onnx and onnxruntime.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from architectures import ARCHITECTURES
from graph import Graph

EXAMPLES = """examples:
  python3 make_models.py --list
  python3 make_models.py --out /tmp/models                      all of them, 224x224 pixels
  python3 make_models.py --out /tmp/models resnet50 squeezenet1_1
  python3 make_models.py --out /tmp/models --size 64 resnet18   writes resnet18_64.onnx: a quick one for tests
"""

# How a picture becomes the input: ImageNet's usual normalisation.
METADATA = {
    "edgert.task": "classify",
    "edgert.image.color": "rgb",
    "edgert.image.resize": "stretch",
    "edgert.image.scale": str(1 / 255),
    "edgert.image.mean": "0.485,0.456,0.406",
    "edgert.image.std": "0.229,0.224,0.225",
}


def run(model, inputs):
    """All outputs of the model by name, computed by one thread so that the order of additions is fixed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def make(name, size, seed):
    """The model, and what to print about it."""
    architecture = ARCHITECTURES[name]
    rng = np.random.default_rng([seed, 1])

    def build(statistics):
        graph = Graph(name, seed, size, statistics)
        output = architecture.network(graph)
        shape = ["N", output.channels] if architecture.rank == 2 else ["N"] + [None] * (architecture.rank - 1)
        return graph, graph.model(shape, METADATA if architecture.is_classifier else {})

    graph, calibration = build(statistics=None)
    if graph.parameter_count != architecture.parameters:
        raise SystemExit(f"{name}: {graph.parameter_count} parameters, expected {architecture.parameters}")
    # Small images leave few values a channel in the last layers: make up for it by more images.
    count = max(16, 4 * (128 // size) ** 2)
    statistics = {}
    if graph.statistics_names:
        statistics = {n: v.ravel() for n, v in run(calibration, architecture.inputs(rng, count, size)).items()}

    model = build(statistics)[1]
    onnx.checker.check_model(model, full_check=True)
    samples = architecture.inputs(rng, 2, size)
    outputs = [run(model, {key: both[i : i + 1] for key, both in samples.items()})["output"] for i in range(2)]
    spread = check_outputs(name, np.concatenate(outputs), architecture.is_classifier)
    return model, f"{graph.parameter_count / 1e6:.2f} M parameters, {spread}"


def check_outputs(name, outputs, are_logits):
    """Two new inputs must give finite, clearly different outputs; logits must be of a sensible size."""
    size = outputs.std()
    difference = np.sqrt(np.mean((outputs[0] - outputs[1]) ** 2)) / size
    degenerate = are_logits and not 0.05 < size < 50
    if not np.isfinite(outputs).all() or degenerate or difference < (0.1 if are_logits else 0.01):
        raise SystemExit(f"{name}: degenerate outputs: deviation {size:.3g}, relative difference {difference:.3g}")
    return f"outputs {outputs.mean():+.2f} +- {size:.2f}, two inputs differ by {difference:.0%}"


def write(path, data):
    """A reader never sees half a file: the data arrives under its name by a rename."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models to write (default: all)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the files, made if missing")
    parser.add_argument("--list", action="store_true", help="print the names and parameter counts, write nothing")
    parser.add_argument("--size", type=int, default=224, help="extent of the input, at least 32 (default: 224)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the parameters (default: 0)")
    parser.add_argument("--force", action="store_true", help="write a file even where one exists")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in ARCHITECTURES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(ARCHITECTURES)}")
    if not arguments.list and not arguments.out:
        parser.error("--out DIR is missing")
    if arguments.size < 32:
        parser.error("--size is below 32")
    if arguments.seed < 0:
        parser.error("--seed is negative")
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.list:
        for name, architecture in ARCHITECTURES.items():
            print(f"{name:20} {architecture.parameters:>10}")
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    suffix = "" if arguments.size == 224 else f"_{arguments.size}"
    for name in arguments.names or ARCHITECTURES:
        path = arguments.out / f"{name}{suffix}.onnx"
        if path.exists() and not arguments.force:
            print(f"{path}: exists, kept (--force writes it anew)")
            continue
        model, summary = make(name, arguments.size, arguments.seed)
        write(path, model.SerializeToString(deterministic=True))
        print(f"{path}: {summary}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
