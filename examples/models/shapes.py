# SPDX-License-Identifier: Apache-2.0
"""Pictures of circles, squares and triangles on a noisy background, made from a random generator; and their boxes."""

import numpy as np

LABELS = ("circle", "square", "triangle")
SIZE = 96  # height and width in pixels
MIN_RADIUS, MAX_RADIUS = 6, 22
MAX_SHAPES = 6
MIN_CONTRAST = 80  # sum over the channels of the difference of shape and background
COLOR_STEP = 8  # pixels are multiples of this, like those of a camera with 5 bits a channel: the files compress better

# x and y of the centre of every pixel; an image spans [0, SIZE] in both.
X, Y = np.meshgrid(np.arange(SIZE, dtype=np.float32) + 0.5, np.arange(SIZE, dtype=np.float32) + 0.5)


def make_picture(rng):
    """One picture: pixels uint8 [SIZE, SIZE, 3], boxes float32 [K, 4] as x0 y0 x1 y1, labels int64 [K]."""
    pixels = background(rng)
    boxes, labels = [], []
    for _ in range(rng.integers(1, MAX_SHAPES + 1)):
        label = int(rng.integers(len(LABELS)))
        placed = place(rng, label, boxes)
        if placed is None:
            continue
        distance, box = placed
        blend(pixels, distance, contrasting_color(rng, pixels, box))
        boxes.append(box)
        labels.append(label)
    pixels += rng.normal(0, rng.uniform(1, 6), pixels.shape)
    pixels = np.clip(np.round(pixels / COLOR_STEP) * COLOR_STEP, 0, 255 // COLOR_STEP * COLOR_STEP)
    return pixels.astype(np.uint8), np.float32(boxes).reshape(-1, 4), np.int64(labels)


def make_pictures(rng, count):
    """Pixels [count, SIZE, SIZE, 3]; and over all pictures boxes, labels, and the index of the picture of each box."""
    pictures = [make_picture(rng) for _ in range(count)]
    pixels, boxes, labels = zip(*pictures, strict=True)
    index = np.repeat(np.arange(count), [len(b) for b in boxes])
    return np.stack(pixels), np.concatenate(boxes), np.concatenate(labels), index


def background(rng):
    """A gradient between two colours, crossed by a few lines that are no shapes."""
    angle = rng.uniform(0, 2 * np.pi)
    position = (X / SIZE - 0.5) * np.cos(angle) + (Y / SIZE - 0.5) * np.sin(angle) + 0.5
    first, second = rng.uniform(20, 235, (2, 3)).astype(np.float32)
    pixels = first + (second - first) * position[..., np.newaxis]
    for _ in range(rng.integers(0, 5)):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-SIZE / 2, SIZE / 2)
        across = (X - SIZE / 2) * np.cos(angle) + (Y - SIZE / 2) * np.sin(angle) - offset
        blend(pixels, np.abs(across) - rng.uniform(0.3, 1.2), rng.uniform(0, 255, 3))
    return pixels


def place(rng, label, boxes):
    """The signed distance of every pixel from a new shape and the shape's box; None where no free place was found."""
    for _ in range(20):
        radius = rng.uniform(MIN_RADIUS, MAX_RADIUS)
        center = rng.uniform(radius, SIZE - radius, 2)
        angle = rng.uniform(0, 2 * np.pi)
        if LABELS[label] == "circle":
            box = np.concatenate([center - radius, center + radius])
        else:
            corners = regular_polygon(3 if LABELS[label] == "triangle" else 4, center, radius, angle)
            box = np.concatenate([corners.min(0), corners.max(0)])
        if any(overlap(box, other) for other in boxes):
            continue
        if LABELS[label] == "circle":
            return np.hypot(X - center[0], Y - center[1]) - radius, box
        return polygon_distance(corners), box
    return None


def regular_polygon(sides, center, radius, angle):
    angles = angle + 2 * np.pi * np.arange(sides) / sides
    return center + radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def polygon_distance(corners):
    """The greatest distance beyond any edge of a convex polygon whose corners follow each other at growing angles."""
    distance = np.full_like(X, -np.inf)
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        dx, dy = (end - start) / np.linalg.norm(end - start)
        distance = np.maximum(distance, (X - start[0]) * dy - (Y - start[1]) * dx)
    return distance


def overlap(a, b):
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def blend(pixels, distance, color):
    """Paints where the signed distance is negative, with an edge one pixel wide."""
    coverage = np.clip(0.5 - distance, 0, 1)[..., np.newaxis].astype(np.float32)
    pixels += coverage * (np.float32(color) - pixels)


def contrasting_color(rng, pixels, box):
    """A colour that differs from the mean of what lies under the box."""
    x0, y0, x1, y1 = np.clip(np.round(box).astype(int), 0, SIZE)
    under = pixels[y0:y1, x0:x1].mean((0, 1))
    while True:
        color = rng.uniform(0, 255, 3)
        if np.abs(color - under).sum() >= MIN_CONTRAST:
            return color
