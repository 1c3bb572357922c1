# SPDX-License-Identifier: Apache-2.0
"""Measures models on their held-out sets with ONNX Runtime: accuracy of classifiers, mAP@0.5 of detectors.

How pictures become inputs and what the outputs mean is read from the model's own metadata. Needs numpy and onnxruntime.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime

from detection import detect, mean_average_precision

FOLDER = Path(__file__).parent
EXAMPLES = """examples:
  python3 evaluate.py                                  every model of this folder
  python3 evaluate.py digits_vit.onnx
  python3 evaluate.py other.onnx --test digits_test.npz --json
  python3 evaluate.py --json > models.json             records the figures of this folder
"""

# A precision-recall curve needs the doubtful detections too, whatever threshold the model recommends for use.
CURVE_THRESHOLD = 0.05


def default_test(model):
    """digits_vit.onnx is tested by digits_test.npz beside it."""
    return model.parent / f"{model.stem.split('_')[0]}_test.npz"


def open_model(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, session.get_modelmeta().custom_metadata_map


def preprocess(pixels, metadata):
    """uint8 [M, H, W, C] to float32 [M, C, H, W]: (x * scale - mean) / std."""
    mean, std = (np.float32(metadata[f"edgert.image.{key}"].split(",")) for key in ("mean", "std"))
    scaled = pixels.astype(np.float32) * np.float32(metadata["edgert.image.scale"])
    return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))


def accuracy(session, metadata, test):
    logits, = session.run(None, {"image": test["image"]})
    return float((logits.argmax(1) == test["label"]).mean())


def map50(session, metadata, test):
    outputs = [metadata["edgert.detect.boxes"], metadata["edgert.detect.scores"]]
    iou_threshold = float(metadata["edgert.detect.iou_threshold"])
    detections = []
    for image in preprocess(test["image_u8"], metadata):
        boxes, scores = session.run(outputs, {"image": image[np.newaxis]})
        detections.append(detect(boxes[0], scores[0], CURVE_THRESHOLD, iou_threshold))
    classes = len(metadata["edgert.labels"].split("\n"))
    return mean_average_precision(detections, test["box"], test["label"], test["index"], classes)


METRICS = {"classify": ("accuracy", accuracy), "detect": ("mAP@0.5", map50)}


def evaluate(model, test):
    session, metadata = open_model(model)
    task = metadata["edgert.task"]
    metric, measure = METRICS[task]
    with np.load(test) as arrays:
        value = measure(session, metadata, dict(arrays))
    data = model.read_bytes()
    return {"file": model.name, "task": task, "test": test.name, "metric": metric, "value": round(value, 4),
            "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="ONNX files (default: this folder's)")
    parser.add_argument("--test", type=Path, metavar="NPZ",
                        help="held-out set (default: beside the model, by the first word of its name)")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a line for each model")
    arguments = parser.parse_args()
    results = []
    for model in arguments.models or sorted(FOLDER.glob("*.onnx")):
        results.append(evaluate(model, arguments.test or default_test(model)))
        if not arguments.json:
            print("{file}: {metric} {value:.4f} on {test}, {bytes} bytes".format(**results[-1]), flush=True)
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
