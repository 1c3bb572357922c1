# SPDX-License-Identifier: Apache-2.0
"""The model tests of the onnx wheel beside its node tests: `simple`, `pytorch-operator` and `pytorch-converted`, which
bring their inputs and outputs as files, and the nine `light` models, whole networks with the weights taken out, whose one
input is a ramp from 0 to 1 and whose output lies beside them. Cases look like the node tests', named "kind.test_name".
"""

import json
import types
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

DATA = Path(onnx.backend.test.__file__).parent / "data"
KINDS = ("simple", "pytorch-operator", "pytorch-converted")


def read_value(path, info):
    """A file's tensor; None when `info` says that it is no tensor."""
    if not info.type.HasField("tensor_type"):
        return None
    return numpy_helper.to_array(onnx.load_tensor(path))


def fed_inputs(graph):
    initialized = {tensor.name for tensor in graph.initializer}
    return [info for info in graph.input if info.name not in initialized]


def stored_case(kind, folder):
    model = onnx.load(folder / "model.onnx")
    values = folder / "test_data_set_0"
    inputs = [read_value(values / f"input_{i}.pb", info) for i, info in enumerate(fed_inputs(model.graph))]
    outputs = [read_value(values / f"output_{i}.pb", info) for i, info in enumerate(model.graph.output)]
    bounds = json.loads((folder / "data.json").read_text()) if (folder / "data.json").exists() else {}
    return types.SimpleNamespace(
        name=f"{kind}.{folder.name}",
        model=model,
        data_sets=[(inputs, outputs)],
        rtol=bounds.get("rtol", 1e-3),
        atol=bounds.get("atol", 1e-7),
    )


def ramp(info):
    shape = [dim.dim_value if dim.HasField("dim_value") else 1 for dim in info.type.tensor_type.shape.dim]
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def light_case(folder):
    about = json.loads((folder / "data.json").read_text())
    path = DATA / "light" / Path(about["url"]).name
    model = onnx.load(path)
    outputs = [
        read_value(path.with_name(f"{path.stem}_output_{i}.pb"), info) for i, info in enumerate(model.graph.output)
    ]
    return types.SimpleNamespace(
        name=f"light.{folder.name}",
        model=model,
        data_sets=[([ramp(info) for info in fed_inputs(model.graph)], outputs)],
        rtol=about["rtol"],
        atol=about["atol"],
    )


def wheel_models():
    cases = [
        stored_case(kind, folder)
        for kind in KINDS
        for folder in sorted((DATA / kind).iterdir())
        if (folder / "model.onnx").exists()
    ]
    return cases + [light_case(folder) for folder in sorted((DATA / "real").iterdir()) if folder.is_dir()]
