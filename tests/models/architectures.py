# SPDX-License-Identifier: Apache-2.0
"""All networks that make_models.py writes: what builds each, its number of parameters, and its inputs."""

from dataclasses import dataclass
from typing import Callable

import numpy as np

from classifiers import CLASSIFIERS
from predictors import PREDICTORS
from sequences import SEQUENCES


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


@dataclass(frozen=True)
class Architecture:
    """`network(graph)` adds the layers and returns the output. `inputs(rng, count, size)` draws `count` samples of each
    input, stacked along the first axis."""

    network: Callable
    parameters: int
    rank: int = 2  # of the output
    inputs: Callable = lambda rng, count, size: {"input": random_images(rng, count, size)}
    is_classifier: bool = False


ARCHITECTURES = {
    **{name: Architecture(*entry, is_classifier=True) for name, entry in CLASSIFIERS.items()},
    **{name: Architecture(*entry) for name, entry in PREDICTORS.items()},
    **{name: Architecture(*entry) for name, entry in SEQUENCES.items()},
}
