# SPDX-License-Identifier: Apache-2.0
"""Trains small classifiers on the 8x8 digits that scikit-learn carries and exports them as ONNX.

Writes MODEL.onnx for each model, the held-out images as digits_test.npz and the picture of one of them. The held-out
third is chosen class by class with a fixed seed and never trained on; the weights exported are the last epoch's.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from digits_networks import CLASSES, DigitsMobileNet, DigitsResNet, DigitsViT
from export import BYTE_SCALE, export_onnx, write_picture

EXAMPLES = """examples:
  python3 train_digits.py                          all three models, into this folder
  python3 train_digits.py --model digits_vit --out /tmp/models
  python3 train_digits.py --model digits_resnet --epochs 5 --out /tmp/models
"""


@dataclass(frozen=True)
class Recipe:
    network: type
    epochs: int
    rate: float
    decay: float


RECIPES = {
    "digits_resnet": Recipe(DigitsResNet, epochs=60, rate=4e-3, decay=0.05),
    "digits_mobilenet": Recipe(DigitsMobileNet, epochs=80, rate=4e-3, decay=0.05),
    "digits_vit": Recipe(DigitsViT, epochs=300, rate=2e-3, decay=0.1),
}

METADATA = {
    "edgert.task": "classify",
    "edgert.labels": "\n".join(str(digit) for digit in range(CLASSES)),
    "edgert.image.color": "gray",
    "edgert.image.resize": "stretch",
    "edgert.image.scale": str(BYTE_SCALE),
    "edgert.image.mean": "0",
    "edgert.image.std": "1",
}


def load_split():
    """Training images, held-out images, training labels, held-out labels. The 17 gray levels become [0, 1]."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, np.newaxis]
    labels = digits.target.astype(np.int64)
    return train_test_split(images, labels, test_size=1 / 3, stratify=labels, random_state=0)


def augment(images, generator):
    """Each image shifted by up to a pixel, turned by up to 12 degrees, and scaled by up to 12 %."""
    def uniform(limit):
        return (torch.rand(len(images), generator=generator) * 2 - 1) * limit

    angle, scale = torch.deg2rad(uniform(12)), 1 + uniform(0.12)
    pixel = 2 / images.shape[-1]  # affine_grid measures from -1 to 1
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cos, -sin, uniform(pixel)], 1), torch.stack([sin, cos, uniform(pixel)], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), images.shape, align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(recipe, images, labels, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = recipe.network()
    batch = 64
    steps = recipe.epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps, pct_start=0.1)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    for _ in range(recipe.epochs):
        model.train()
        for chosen in torch.randperm(len(images), generator=generator).split(batch):
            if len(chosen) < batch:
                continue  # a last, smaller batch would disturb the statistics of BatchNorm
            loss = criterion(model(augment(images[chosen], generator)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracy(model, images, labels):
    with torch.no_grad():
        return (model(images).argmax(1) == labels).double().mean().item()


def write_samples(folder, images, labels):
    """The held-out set, and its first 3 as a picture of 64x64 bytes."""
    np.savez_compressed(folder / "digits_test.npz", image=images, label=labels)
    three = images[np.flatnonzero(labels == 3)[0], 0]
    pixels = np.kron(np.round(three * 255).astype(np.uint8), np.ones((8, 8), np.uint8))
    for suffix in (".png", ".pgm"):
        write_picture((folder / "digit_3").with_suffix(suffix), pixels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=RECIPES, help="may be given more than once (default: all)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR",
                        help="folder for the files (default: the script's)")
    parser.add_argument("--epochs", type=int, help="instead of the model's own number")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and augmentation (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    arguments.out.mkdir(parents=True, exist_ok=True)

    train_images, test_images, train_labels, test_labels = load_split()
    write_samples(arguments.out, test_images, test_labels)
    train_set, test_set = ([torch.from_numpy(array) for array in pair]
                           for pair in ((train_images, train_labels), (test_images, test_labels)))
    for name in arguments.model or RECIPES:
        recipe = RECIPES[name]
        if arguments.epochs:
            recipe = Recipe(recipe.network, arguments.epochs, recipe.rate, recipe.decay)
        start = time.monotonic()
        model = train(recipe, *train_set, arguments.seed)
        path = arguments.out / f"{name}.onnx"
        export_onnx(model, test_set[0][:4], ["logits"], path, METADATA, dynamic_batch=True)
        print(f"{name}: accuracy {accuracy(model, *test_set):.4f}, training set {accuracy(model, *train_set):.4f}, "
              f"{path.stat().st_size} bytes, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
