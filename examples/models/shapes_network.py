# SPDX-License-Identifier: Apache-2.0
"""A small anchor-free detector: a residual backbone, a two-level feature pyramid, decoding inside the graph."""

import torch
from torch import nn
from torch.nn import functional

STRIDES = (8, 16)  # pixels of the image between neighbouring cells of each level


def conv(inputs, outputs, kernel, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())


class Bottleneck(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(conv(channels, channels // 2, 1), conv(channels // 2, channels, 3))

    def forward(self, x):
        return x + self.layers(x)


class Head(nn.Module):
    """Per cell of a level: four box numbers and a logit per class."""

    def __init__(self, channels, classes):
        super().__init__()
        self.stem = conv(channels, channels, 3)
        self.box = nn.Conv2d(channels, 4, 1)
        self.score = nn.Conv2d(channels, classes, 1)
        nn.init.constant_(self.score.bias, -4.0)  # at first nearly every cell is background

    def forward(self, x):
        x = self.stem(x)
        return torch.cat([self.box(x), self.score(x)], 1).flatten(2)


class ShapesDetector(nn.Module):
    """image [B, 3, size, size] -> boxes [B, N, 4] as x0 y0 x1 y1 in pixels, scores [B, N, classes] in [0, 1]."""

    def __init__(self, size, classes):
        super().__init__()
        self.classes = classes
        self.to_8 = nn.Sequential(
            conv(3, 16, 3, 2), conv(16, 32, 3, 2), Bottleneck(32), conv(32, 64, 3, 2), Bottleneck(64), Bottleneck(64))
        self.to_16 = nn.Sequential(conv(64, 80, 3, 2), Bottleneck(80), Bottleneck(80))
        self.lateral = conv(80, 48, 1)
        self.merge = nn.Sequential(conv(48 + 64, 48, 1), Bottleneck(48))
        self.heads = nn.ModuleList(Head(48, classes) for _ in STRIDES)
        centers, strides = cells(size)
        self.register_buffer("centers", centers)
        self.register_buffer("strides", strides)

    def raw(self, x):
        """Boxes [B, N, 4] and the logits of the scores [B, N, classes]."""
        fine = self.to_8(x)
        coarse = self.lateral(self.to_16(fine))
        merged = self.merge(torch.cat([functional.interpolate(coarse, scale_factor=2.0, mode="nearest"), fine], 1))
        levels = [head(level) for head, level in zip(self.heads, (merged, coarse), strict=True)]
        numbers, logits = torch.cat(levels, 2).transpose(1, 2).split([4, self.classes], dim=2)
        offset, log_extent = numbers.split(2, dim=2)
        center = self.centers + offset * self.strides
        half = torch.exp(log_extent) * self.strides
        return torch.cat([center - half, center + half], 2), logits

    def forward(self, x):
        boxes, logits = self.raw(x)
        return boxes, torch.sigmoid(logits)


def cells(size):
    """Centres [1, N, 2] (x, y) and strides [1, N, 1] of all cells in pixels, level by level, row by row."""
    centers, strides = [], []
    for stride in STRIDES:
        axis = (torch.arange(size // stride) + 0.5) * stride
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        centers.append(torch.stack([x, y], 2).reshape(1, -1, 2))
        strides.append(torch.full((1, len(axis) ** 2, 1), float(stride)))
    return torch.cat(centers, 1), torch.cat(strides, 1)
