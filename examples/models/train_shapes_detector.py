# SPDX-License-Identifier: Apache-2.0
"""Trains a small detector of circles, squares and triangles on pictures made on the fly and exports it as ONNX.

Writes shapes_detector.onnx, the held-out pictures as shapes_test.npz and one more picture. The held-out pictures come
from a fixed seed of their own; the weights exported are the running average of the last steps.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import shapes
from detection import detect, mean_average_precision
from export import BYTE_SCALE, export_onnx, write_picture
from shapes_network import ShapesDetector

EXAMPLES = """examples:
  python3 train_shapes_detector.py                    into this folder
  python3 train_shapes_detector.py --steps 300 --out /tmp/models
"""

MEAN, DEVIATION = 0.5, 0.25
HELD_OUT_SEED, SAMPLE_SEED = 1_000_001, 1_000_002
HELD_OUT = 160
SMALL = 28  # a box whose longer side is below this many pixels belongs to the finer level
CURVE_THRESHOLD = 0.05  # detections below it do not count in the precision-recall curve
IOU_THRESHOLD = 0.5

METADATA = {
    "edgert.task": "detect",
    "edgert.labels": "\n".join(shapes.LABELS),
    "edgert.image.color": "rgb",
    "edgert.image.resize": "letterbox",
    "edgert.image.scale": str(BYTE_SCALE),
    "edgert.image.mean": ",".join([str(MEAN)] * 3),
    "edgert.image.std": ",".join([str(DEVIATION)] * 3),
    "edgert.detect.boxes": "boxes",
    "edgert.detect.scores": "scores",
    "edgert.detect.score_threshold": "0.4",
    "edgert.detect.iou_threshold": str(IOU_THRESHOLD),
}


def preprocess(pixels):
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    return (image * BYTE_SCALE - MEAN) / DEVIATION


def assign(model, boxes, labels):
    """Which cells of one image answer for which box: cells [P], their boxes [P, 4] and labels [P].

    A box belongs to the cells of its level whose centres lie less than a stride from its own in x and in y."""
    centers, strides = model.centers[0], model.strides[0, :, 0]
    level = torch.where((boxes[:, 2:] - boxes[:, :2]).amax(1) < SMALL, strides.min(), strides.max())
    distance = (centers[:, None] - (boxes[None, :, :2] + boxes[None, :, 2:]) / 2).abs().amax(2)
    distance = distance / strides[:, None]
    distance[strides[:, None] != level[None]] = torch.inf
    nearest, owner = distance.min(1)
    cells = torch.nonzero(nearest < 1)[:, 0]
    return cells, boxes[owner[cells]], labels[owner[cells]]


def generalized_iou(a, b):
    """IoU and generalised IoU (Rezatofighi et al., 2019) of boxes pair by pair."""
    def area(low, high):
        return (high - low).clamp(min=0).prod(1)

    intersection = area(torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:]))
    union = area(a[:, :2], a[:, 2:]) + area(b[:, :2], b[:, 2:]) - intersection
    hull = area(torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:]))
    iou = intersection / union
    return iou, iou - (hull - union) / hull


def loss_of(model, batch):
    pixels, boxes, labels, index = batch
    predicted, logits = model.raw(preprocess(pixels))
    boxes, labels = torch.from_numpy(boxes), torch.from_numpy(labels)
    target = torch.zeros_like(logits)
    box_loss, count = 0.0, 0
    for image in range(len(pixels)):
        own = torch.from_numpy(index == image)
        cells, wanted, classes = assign(model, boxes[own], labels[own])
        iou, generalized = generalized_iou(predicted[image, cells], wanted)
        target[image, cells, classes] = iou.detach()
        box_loss = box_loss + (1 - generalized).sum()
        count += len(cells)
    # The score learns the IoU of its box: quality focal loss (Li et al., 2020).
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    score_loss = ((target - logits.detach().sigmoid()) ** 2 * entropy).sum()
    return (score_loss + 2 * box_loss) / max(count, 1)


def train(steps, seed):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = ShapesDetector(shapes.SIZE, len(shapes.LABELS))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        loss = loss_of(model, shapes.make_pictures(rng, 32))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        if step % 200 == 199:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
    return average.module.eval()


def evaluate(model, held_out):
    pixels, boxes, labels, index = held_out
    with torch.no_grad():
        outputs = [output.numpy() for output in model(preprocess(pixels))]
    detections = [detect(b, s, CURVE_THRESHOLD, IOU_THRESHOLD) for b, s in zip(*outputs, strict=True)]
    return mean_average_precision(detections, boxes, labels, index, len(shapes.LABELS))


def write_samples(folder, held_out):
    """The held-out set, and one more picture at twice its size."""
    pixels, boxes, labels, index = held_out
    np.savez_compressed(folder / "shapes_test.npz", image_u8=pixels, box=boxes, label=labels, index=index)
    sample = shapes.make_picture(np.random.default_rng(SAMPLE_SEED))[0]
    for suffix in (".png", ".ppm"):
        write_picture((folder / "shapes").with_suffix(suffix), sample.repeat(2, 0).repeat(2, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR",
                        help="folder for the files (default: the script's)")
    parser.add_argument("--steps", type=int, default=3000, help="batches of 32 pictures (default: 3000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and training pictures (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    arguments.out.mkdir(parents=True, exist_ok=True)

    start = time.monotonic()
    held_out = shapes.make_pictures(np.random.default_rng(HELD_OUT_SEED), HELD_OUT)
    write_samples(arguments.out, held_out)
    model = train(arguments.steps, arguments.seed)
    path = arguments.out / "shapes_detector.onnx"
    export_onnx(model, preprocess(held_out[0][:1]), ["boxes", "scores"], path, METADATA)
    print(f"shapes_detector: mAP@0.5 {evaluate(model, held_out):.4f}, {path.stat().st_size} bytes, "
          f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
