# SPDX-License-Identifier: Apache-2.0
"""Three small classifiers of 8x8 gray images. Each takes [N, 1, 8, 8] in [0, 1] and gives logits [N, 10]."""

import torch
from torch import nn

CLASSES = 10


def conv_bn(inputs, outputs, kernel, stride=1, groups=1, activation=None):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)]
    layers.append(nn.BatchNorm2d(outputs))
    if activation:
        layers.append(activation())
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions added to the input, which is projected where its shape differs."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, 3, stride, activation=nn.ReLU)
        self.conv2 = conv_bn(outputs, outputs, 3)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class DigitsResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(1, 32, 3, activation=nn.ReLU),
            ResidualBlock(32, 32, 1),
            ResidualBlock(32, 32, 1),
            ResidualBlock(32, 64, 2),
            ResidualBlock(64, 64, 1),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, CLASSES))

    def forward(self, x):
        return self.head(self.features(x))


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate computed from the means of all channels."""

    def __init__(self, channels, squeezed):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x):
        return x * self.gate(x)


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, gate, project by 1x1."""

    def __init__(self, inputs, expanded, outputs, stride, activation, excite):
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            conv_bn(inputs, expanded, 1, activation=activation),
            conv_bn(expanded, expanded, 3, stride, groups=expanded, activation=activation),
            SqueezeExcite(expanded, expanded // 4) if excite else nn.Identity(),
            conv_bn(expanded, outputs, 1),
        )

    def forward(self, x):
        y = self.layers(x)
        return x + y if self.residual else y


class DigitsMobileNet(nn.Module):
    """As MobileNetV3: cheap activations (ReLU6) and no gates first, HardSwish and squeeze-excite in the deep layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(1, 24, 3, activation=nn.Hardswish),
            InvertedResidual(24, 72, 24, 1, nn.ReLU6, excite=False),
            InvertedResidual(24, 72, 24, 1, nn.ReLU6, excite=False),
            InvertedResidual(24, 96, 40, 2, nn.Hardswish, excite=True),
            InvertedResidual(40, 160, 40, 1, nn.Hardswish, excite=True),
            InvertedResidual(40, 160, 40, 1, nn.Hardswish, excite=True),
            conv_bn(40, 160, 1, activation=nn.Hardswish),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(160, 128), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(128, CLASSES),
        )

    def forward(self, x):
        return self.head(self.features(x))


class Attention(nn.Module):
    """Multi-head self-attention over [N, tokens, channels]."""

    def __init__(self, tokens, channels, heads):
        super().__init__()
        self.tokens, self.channels, self.heads = tokens, channels, heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def split_heads(self, t):
        # Extents that are plain numbers, not read from the tensor, become constants of the exported graph.
        return t.reshape(-1, self.tokens, self.heads, self.channels // self.heads).transpose(1, 2)

    def forward(self, x):
        q, k, v = (self.split_heads(t) for t in self.qkv(x).split(self.channels, dim=-1))
        weights = torch.softmax(q @ k.transpose(2, 3) * (self.channels // self.heads) ** -0.5, dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(-1, self.tokens, self.channels))


class TransformerBlock(nn.Module):
    def __init__(self, tokens, channels, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(tokens, channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class DigitsViT(nn.Module):
    """A vision transformer of sixteen patches, 3x3 pixels every 2; the classifier reads the mean over the patches."""

    TOKENS, CHANNELS, HEADS, DEPTH = 16, 72, 6, 5

    def __init__(self):
        super().__init__()
        blocks = (TransformerBlock(self.TOKENS, self.CHANNELS, self.HEADS) for _ in range(self.DEPTH))
        self.patches = nn.Conv2d(1, self.CHANNELS, kernel_size=3, stride=2, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(1, self.TOKENS, self.CHANNELS))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(self.CHANNELS)
        self.head = nn.Linear(self.CHANNELS, CLASSES)

    def forward(self, x):
        x = self.patches(x).reshape(-1, self.CHANNELS, self.TOKENS).transpose(1, 2)
        x = self.norm(self.blocks(x + self.position))
        return self.head(x.mean(dim=1))
