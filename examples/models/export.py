# SPDX-License-Identifier: Apache-2.0
"""From a trained PyTorch module to the ONNX file and the sample pictures of this folder."""

import struct
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

OPSET = 17
BYTE_SCALE = 1 / 255  # pictures of bytes become images in [0, 1]


def export_onnx(module, image, outputs, path, metadata, dynamic_batch=False):
    """Writes `module` as ONNX with input `image`, and checks that ONNX Runtime computes the same as PyTorch."""
    module.eval()
    names = ["image", *outputs]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its own deprecation
        raw = Path(folder) / "raw.onnx"
        torch.onnx.export(module, (image,), str(raw), dynamo=False, opset_version=OPSET, input_names=["image"],
                          output_names=outputs, dynamic_axes={n: {0: "N"} for n in names} if dynamic_batch else None,
                          # PRESERVE leaves BatchNormalization in the graph, EVAL would fold it into the convolutions.
                          training=torch.onnx.TrainingMode.PRESERVE)
        model = onnx.load(raw)
    remove_provenance(model)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    compare(module, model, image)
    path.write_bytes(model.SerializeToString(deterministic=True))


def remove_provenance(model):
    """Drops what only says where and by which version the model was exported."""
    model.producer_name = model.producer_version = model.doc_string = model.graph.doc_string = ""
    model.graph.name = "graph"
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]


def compare(module, model, image):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    actual = session.run(None, {"image": image.numpy()})
    with torch.no_grad():
        expected = module(image)
    for a, e in zip(actual, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(a, e.numpy(), rtol=1e-3, atol=1e-3)


def write_picture(path, pixels):
    """Writes uint8 [H, W] or [H, W, 3] as .png, .pgm or .ppm, whichever the path says."""
    height, width = pixels.shape[:2]
    color = pixels.ndim == 3
    if path.suffix == ".png":
        data = png(pixels, width, height, color)
    else:
        data = f"P{6 if color else 5}\n{width} {height}\n255\n".encode() + pixels.tobytes()
    path.write_bytes(data)


def png(pixels, width, height, color):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if color else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # each row begins with its filter: none
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
