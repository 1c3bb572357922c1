# SPDX-License-Identifier: Apache-2.0
"""Writes full-size image classifiers as ONNX files: real architectures, random but realistic parameters.

Nothing is downloaded. Weights are He-initialised; the statistics of every BatchNormalization are measured on a few
random images with ONNX Runtime, so activations keep their scale through the whole network and different images
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


def random_images(rng, count, size):
    """Random images [count, 3, size, size], mean 0, variance 1, equal power in every octave as in photographs."""
    images = np.zeros((count, 3, size, size), np.float32)
    for cells in (2, 4, 8, 16, 32, 64, 128):
        if cells <= size:
            noise = rng.standard_normal((count, 3, cells + 1, cells + 1), np.float32)
            images += enlarge(noise, size)
    return (images - images.mean()) / images.std()


def enlarge(images, size):
    """Bilinear interpolation of the last two axes to `size`."""
    position = np.linspace(0, images.shape[-1] - 1, size, dtype=np.float32)
    low = np.minimum(position.astype(int), images.shape[-1] - 2)
    fraction = position - low.astype(np.float32)
    rows = images[..., low, :] * (1 - fraction)[:, None] + images[..., low + 1, :] * fraction[:, None]
    return rows[..., low] * (1 - fraction) + rows[..., low + 1] * fraction


def run(model, images):
    """All outputs of the model by name, computed by one thread so that the order of additions is fixed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input": images})))


def make(name, size, seed):
    """The model, and what to print about it."""
    architecture = ARCHITECTURES[name]
    rng = np.random.default_rng([seed, 1])

    def build(statistics):
        graph = Graph(name, seed, size, statistics)
        logits = architecture.network(graph)
        return graph, graph.model(logits.channels, METADATA)

    graph, calibration = build(statistics=None)
    if graph.parameter_count != architecture.parameters:
        raise SystemExit(f"{name}: {graph.parameter_count} parameters, expected {architecture.parameters}")
    # Small images leave few values a channel in the last layers: make up for it by more images.
    count = max(16, 4 * (128 // size) ** 2)
    statistics = {n: v.ravel() for n, v in run(calibration, random_images(rng, count, size)).items()}

    model = build(statistics)[1]
    onnx.checker.check_model(model, full_check=True)
    spread = check_outputs(name, run(model, random_images(rng, 2, size))["output"])
    return model, f"{graph.parameter_count / 1e6:.2f} M parameters, {spread}"


def check_outputs(name, logits):
    """Two new images must give finite, clearly different logits of a sensible size."""
    size = logits.std()
    difference = np.sqrt(np.mean((logits[0] - logits[1]) ** 2)) / size
    if not np.isfinite(logits).all() or not 0.05 < size < 50 or difference < 0.1:
        raise SystemExit(f"{name}: degenerate outputs: deviation {size:.3g}, relative difference {difference:.3g}")
    return f"logits {logits.mean():+.2f} +- {size:.2f}, two images differ by {difference:.0%}"


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
