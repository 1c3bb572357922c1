# SPDX-License-Identifier: Apache-2.0
"""Image classifiers layer by layer, with the shapes, strides and activations of torchvision's models of these names.

Each network is a function of a `Graph` that returns its logits; `ARCHITECTURES` lists them with their parameter counts.
"""

from dataclasses import dataclass
from typing import Callable

CLASSES = 1000


def conv_bn(graph, scope, x, channels, kernel, stride=1, groups=1, activation=None, epsilon=1e-5):
    """Convolution, BatchNormalization, activation: the building block of every network below except SqueezeNet."""
    x = graph.conv(f"{scope}.0", x, channels, kernel, stride, groups=groups)
    x = graph.batch_norm(f"{scope}.1", x, epsilon)
    return graph.activation(f"{scope}.2", x, activation)


def classifier(graph, scope, x):
    return graph.linear(scope, x, CLASSES)


def pooled(graph, x):
    return graph.flatten("flatten", graph.global_average_pool("avgpool", x))


def squeeze_excite(graph, scope, x, squeezed, activation, gate):
    """Scales every channel by a gate computed from the means of all channels (Hu et al., "Squeeze-and-Excitation")."""
    scale = graph.global_average_pool(f"{scope}.avgpool", x)
    scale = graph.conv(f"{scope}.fc1", scale, squeezed, 1, bias=True)
    scale = graph.activation(f"{scope}.activation", scale, activation)
    scale = graph.conv(f"{scope}.fc2", scale, x.channels, 1, bias=True)
    return graph.mul(scope, graph.activation(f"{scope}.gate", scale, gate), x)


def round_to_8(channels):
    """The nearest multiple of 8 that is at least 8 and not below 90 % of `channels`."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if 10 * rounded < 9 * channels else rounded


# ResNet (He et al., 2015), with the stride on the 3x3 convolution of a bottleneck ("v1.5").


def basic_block(graph, scope, x, width, stride):
    y = conv_bn(graph, f"{scope}.conv1", x, width, 3, stride, activation="relu")
    y = conv_bn(graph, f"{scope}.conv2", y, width, 3)
    return residual(graph, scope, x, y, stride)


def bottleneck(graph, scope, x, width, stride):
    y = conv_bn(graph, f"{scope}.conv1", x, width, 1, activation="relu")
    y = conv_bn(graph, f"{scope}.conv2", y, width, 3, stride, activation="relu")
    y = conv_bn(graph, f"{scope}.conv3", y, 4 * width, 1)
    return residual(graph, scope, x, y, stride)


def residual(graph, scope, x, y, stride):
    if stride != 1 or x.channels != y.channels:
        x = conv_bn(graph, f"{scope}.downsample", x, y.channels, 1, stride)
    return graph.activation(f"{scope}.relu", graph.add(scope, y, x), "relu")


def resnet(block, depths):
    def network(graph):
        x = conv_bn(graph, "conv1", graph.input(), 64, 7, 2, activation="relu")
        x = graph.max_pool("maxpool", x, 3, 2, padding=1)
        for stage, depth in enumerate(depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                x = block(graph, f"layer{stage + 1}.{i}", x, 64 << stage, stride)
        return classifier(graph, "fc", pooled(graph, x))

    return network


# MobileNetV2 (Sandler et al., 2018).

# expansion, channels, blocks, stride of the first block
MOBILENET_V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                (6, 320, 1, 1)]


def mobilenet_v2(graph):
    x = conv_bn(graph, "features.0", graph.input(), 32, 3, 2, activation="relu6")
    index = 0
    for expansion, channels, blocks, first_stride in MOBILENET_V2:
        for i in range(blocks):
            index += 1
            stride = first_stride if i == 0 else 1
            x = inverted_residual(graph, f"features.{index}", x, expansion * x.channels, channels, 3, stride, "relu6")
    x = conv_bn(graph, f"features.{index + 1}", x, 1280, 1, activation="relu6")
    return classifier(graph, "classifier.1", pooled(graph, x))


def inverted_residual(graph, scope, x, expanded, channels, kernel, stride, activation, epsilon=1e-5, excite=None):
    """Expand by 1x1, filter each channel, gate by `excite`, project by 1x1; added to x where the shapes allow it."""
    y = x
    if expanded != x.channels:
        y = conv_bn(graph, f"{scope}.expand", y, expanded, 1, activation=activation, epsilon=epsilon)
    y = conv_bn(graph, f"{scope}.depthwise", y, expanded, kernel, stride, expanded, activation, epsilon)
    if excite:
        y = excite(f"{scope}.se", y)
    y = conv_bn(graph, f"{scope}.project", y, channels, 1, epsilon=epsilon)
    return graph.add(scope, x, y) if stride == 1 and channels == x.channels else y


# MobileNetV3 (Howard et al., 2019).

# kernel, expanded channels, channels, squeeze-excite, activation, stride
MOBILENET_V3_SMALL = [
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hard_swish", 2),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 120, 48, True, "hard_swish", 1),
    (5, 144, 48, True, "hard_swish", 1),
    (5, 288, 96, True, "hard_swish", 2),
    (5, 576, 96, True, "hard_swish", 1),
    (5, 576, 96, True, "hard_swish", 1),
]
MOBILENET_V3_LARGE = [
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
]


def mobilenet_v3(blocks, hidden):
    epsilon = 1e-3

    def network(graph):
        def excite(scope, y):
            return squeeze_excite(graph, scope, y, round_to_8(y.channels // 4), "relu", "hard_sigmoid")

        x = conv_bn(graph, "features.0", graph.input(), 16, 3, 2, activation="hard_swish", epsilon=epsilon)
        for i, (kernel, expanded, channels, excited, activation, stride) in enumerate(blocks):
            x = inverted_residual(graph, f"features.{i + 1}", x, expanded, channels, kernel, stride, activation,
                                  epsilon, excite if excited else None)
        last = f"features.{len(blocks) + 1}"
        x = conv_bn(graph, last, x, 6 * x.channels, 1, activation="hard_swish", epsilon=epsilon)
        x = graph.linear("classifier.0", pooled(graph, x), hidden)
        x = graph.activation("classifier.1", x, "hard_swish")
        return classifier(graph, "classifier.3", x)

    return network


# EfficientNet-B0 (Tan and Le, 2019).

# expansion, kernel, stride of the first block, channels, blocks
EFFICIENTNET_B0 = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
                   (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)]


def efficientnet_b0(graph):
    x = conv_bn(graph, "features.0", graph.input(), 32, 3, 2, activation="silu")
    for stage, (expansion, kernel, first_stride, channels, blocks) in enumerate(EFFICIENTNET_B0):
        for i in range(blocks):
            excite = excite_to(graph, x.channels // 4)
            stride = first_stride if i == 0 else 1
            x = inverted_residual(graph, f"features.{stage + 1}.{i}", x, expansion * x.channels, channels, kernel,
                                  stride, "silu", excite=excite)
    x = conv_bn(graph, f"features.{len(EFFICIENTNET_B0) + 1}", x, 1280, 1, activation="silu")
    return classifier(graph, "classifier.1", pooled(graph, x))


def excite_to(graph, squeezed):
    return lambda scope, y: squeeze_excite(graph, scope, y, squeezed, "silu", "sigmoid")


# SqueezeNet 1.1 (Iandola et al., 2016). No BatchNormalization; the class scores are means of a ReLU.


def fire(graph, scope, x, squeezed, expanded):
    def conv_relu(name, x, channels, kernel):
        x = graph.normalized_conv(f"{scope}.{name}", x, channels, kernel)
        return graph.activation(f"{scope}.{name}_activation", x, "relu")

    x = conv_relu("squeeze", x, squeezed, 1)
    return graph.concat(scope, conv_relu("expand1x1", x, expanded, 1), conv_relu("expand3x3", x, expanded, 3))


def squeezenet1_1(graph):
    x = graph.normalized_conv("features.0", graph.input(), 64, 3, 2, padding=0)
    x = graph.activation("features.1", x, "relu")
    for index, (pool, squeezed, expanded) in enumerate([
            (True, 16, 64), (False, 16, 64),
            (True, 32, 128), (False, 32, 128),
            (True, 48, 192), (False, 48, 192), (False, 64, 256), (False, 64, 256)]):
        if pool:
            x = graph.max_pool(f"pool.{index}", x, 3, 2, ceil_mode=1)
        x = fire(graph, f"fire.{index}", x, squeezed, expanded)
    x = graph.normalized_conv("classifier.1", x, CLASSES, 1)
    return pooled(graph, graph.activation("classifier.2", x, "relu"))


@dataclass(frozen=True)
class Architecture:
    network: Callable
    parameters: int  # of torchvision's model


ARCHITECTURES = {
    "resnet18": Architecture(resnet(basic_block, [2, 2, 2, 2]), 11_689_512),
    "resnet50": Architecture(resnet(bottleneck, [3, 4, 6, 3]), 25_557_032),
    "mobilenet_v2": Architecture(mobilenet_v2, 3_504_872),
    "mobilenet_v3_small": Architecture(mobilenet_v3(MOBILENET_V3_SMALL, 1024), 2_542_856),
    "mobilenet_v3_large": Architecture(mobilenet_v3(MOBILENET_V3_LARGE, 1280), 5_483_032),
    "efficientnet_b0": Architecture(efficientnet_b0, 5_288_548),
    "squeezenet1_1": Architecture(squeezenet1_1, 1_235_496),
}
