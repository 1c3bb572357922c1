# SPDX-License-Identifier: Apache-2.0
"""Image classifiers layer by layer, with the shapes, strides and activations of torchvision's models of these names.

Each network is a function of a `Graph` that returns its logits; `CLASSIFIERS` lists them with their parameter counts.
"""

CLASSES = 1000


def conv_bn(graph, scope, x, channels, kernel, stride=1, groups=1, activation=None, epsilon=1e-5, dilation=1):
    """Convolution, BatchNormalization, activation: the building block of most networks."""
    x = graph.conv(f"{scope}.0", x, channels, kernel, stride, groups=groups, dilation=dilation)
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


def bottleneck(graph, scope, x, width, stride, groups=1, group_width=None, dilation=1):
    inner = width if groups == 1 else width * groups * group_width // 64
    y = conv_bn(graph, f"{scope}.conv1", x, inner, 1, activation="relu")
    y = conv_bn(graph, f"{scope}.conv2", y, inner, 3, stride, groups, activation="relu", dilation=dilation)
    y = conv_bn(graph, f"{scope}.conv3", y, 4 * width, 1)
    return residual(graph, scope, x, y, stride)


def resnext_bottleneck(groups, group_width):
    """Xie et al., 2016."""
    return lambda graph, scope, x, width, stride: bottleneck(graph, scope, x, width, stride, groups, group_width)


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


# VGG-16 (Simonyan and Zisserman, 2014). No BatchNormalization; 224 x 224 pixels only.


def vgg16(graph):
    x = graph.input()
    for stage, (channels, layers) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        for i in range(layers):
            x = graph.normalized_conv(f"features.{stage}.{i}", x, channels, 3)
            x = graph.activation(f"features.{stage}.{i}.relu", x, "relu")
        x = graph.max_pool(f"features.{stage}.pool", x, 2, 2)
    extent = graph.size // 32
    x = graph.node("flatten", "Flatten", [x], 512 * extent * extent, axis=1)
    for name in ("classifier.0", "classifier.3"):
        x = graph.activation(f"{name}.relu", graph.linear(name, x, 4096), "relu")
    return classifier(graph, "classifier.6", x)


# DenseNet-121 (Huang et al., 2016): normalisation and activation come before each convolution.


def bn_relu_conv(graph, scope, x, channels, kernel):
    x = graph.activation(f"{scope}.relu", graph.batch_norm(f"{scope}.norm", x), "relu")
    return graph.conv(f"{scope}.conv", x, channels, kernel)


def densenet121(graph):
    growth = 32
    x = conv_bn(graph, "features.0", graph.input(), 64, 7, 2, activation="relu")
    x = graph.max_pool("features.pool0", x, 3, 2, padding=1)
    for block, layers in enumerate([6, 12, 24, 16]):
        features = [x]
        for i in range(layers):
            scope = f"features.block{block}.{i}"
            y = graph.concat(scope, *features) if i else x
            y = bn_relu_conv(graph, f"{scope}.1", y, 4 * growth, 1)
            features.append(bn_relu_conv(graph, f"{scope}.2", y, growth, 3))
        x = graph.concat(f"features.block{block}", *features)
        if block < 3:
            x = bn_relu_conv(graph, f"features.transition{block}", x, x.channels // 2, 1)
            x = graph.average_pool(f"features.transition{block}.pool", x, 2, 2)
    x = graph.activation("features.relu", graph.batch_norm("features.norm5", x), "relu")
    return classifier(graph, "classifier", pooled(graph, x))


# ShuffleNetV2 1.0x (Ma et al., 2018).


def shuffle_channels(graph, scope, x, extent):
    """Channel i of either half becomes channel 2 i or 2 i + 1. `extent`: of the image, which the shape must name."""
    half = x.channels // 2
    y = graph.reshape(scope, x, [-1, 2, half, extent, extent])
    y = graph.transpose(scope, y, [0, 2, 1, 3, 4])
    return graph.reshape(scope, y, [-1, x.channels, extent, extent], x.channels)


def shuffle_unit(graph, scope, x, channels, stride, extent):
    half = channels // 2
    if stride == 1:
        kept, y = graph.split(scope, x, [half, half])
    else:
        kept = conv_bn(graph, f"{scope}.left.dw", x, x.channels, 3, 2, x.channels)
        kept = conv_bn(graph, f"{scope}.left.pw", kept, half, 1, activation="relu")
        y = x
    y = conv_bn(graph, f"{scope}.right.0", y, half, 1, activation="relu")
    y = conv_bn(graph, f"{scope}.right.1", y, half, 3, stride, half)
    y = conv_bn(graph, f"{scope}.right.2", y, half, 1, activation="relu")
    return shuffle_channels(graph, f"{scope}.shuffle", graph.concat(scope, kept, y), extent)


def shufflenet_v2_x1_0(graph):
    x = conv_bn(graph, "conv1", graph.input(), 24, 3, 2, activation="relu")
    x = graph.max_pool("maxpool", x, 3, 2, padding=1)
    extent = graph.size // 4
    for stage, (channels, units) in enumerate([(116, 4), (232, 8), (464, 4)]):
        extent //= 2
        for i in range(units):
            x = shuffle_unit(graph, f"stage{stage + 2}.{i}", x, channels, 2 if i == 0 else 1, extent)
    x = conv_bn(graph, "conv5", x, 1024, 1, activation="relu")
    return classifier(graph, "fc", pooled(graph, x))


# EfficientNetV2-S (Tan and Le, 2021): the first stages expand by a full 3x3 convolution.

# fused, expansion, stride of the first block, channels, blocks
EFFICIENTNET_V2_S = [(True, 1, 1, 24, 2), (True, 4, 2, 48, 4), (True, 4, 2, 64, 4), (False, 4, 2, 128, 6),
                     (False, 6, 1, 160, 9), (False, 6, 2, 256, 15)]


def fused_inverted_residual(graph, scope, x, expanded, channels, stride, epsilon):
    if expanded == x.channels:
        y = conv_bn(graph, f"{scope}.conv", x, channels, 3, stride, activation="silu", epsilon=epsilon)
    else:
        y = conv_bn(graph, f"{scope}.expand", x, expanded, 3, stride, activation="silu", epsilon=epsilon)
        y = conv_bn(graph, f"{scope}.project", y, channels, 1, epsilon=epsilon)
    return graph.add(scope, x, y) if stride == 1 and channels == x.channels else y


def efficientnet_v2_s(graph):
    epsilon = 1e-3
    x = conv_bn(graph, "features.0", graph.input(), 24, 3, 2, activation="silu", epsilon=epsilon)
    for stage, (fused, expansion, first_stride, channels, blocks) in enumerate(EFFICIENTNET_V2_S):
        for i in range(blocks):
            scope, stride = f"features.{stage + 1}.{i}", first_stride if i == 0 else 1
            expanded = expansion * x.channels
            if fused:
                x = fused_inverted_residual(graph, scope, x, expanded, channels, stride, epsilon)
            else:
                excite = excite_to(graph, x.channels // 4)
                x = inverted_residual(graph, scope, x, expanded, channels, 3, stride, "silu", epsilon, excite)
    x = conv_bn(graph, "features.7", x, 1280, 1, activation="silu", epsilon=epsilon)
    return classifier(graph, "classifier.1", pooled(graph, x))


# name: (network, parameters of torchvision's model)
CLASSIFIERS = {
    "resnet18": (resnet(basic_block, [2, 2, 2, 2]), 11_689_512),
    "resnet50": (resnet(bottleneck, [3, 4, 6, 3]), 25_557_032),
    "resnext50_32x4d": (resnet(resnext_bottleneck(32, 4), [3, 4, 6, 3]), 25_028_904),
    "vgg16": (vgg16, 138_357_544),
    "densenet121": (densenet121, 7_978_856),
    "shufflenet_v2_x1_0": (shufflenet_v2_x1_0, 2_278_604),
    "mobilenet_v2": (mobilenet_v2, 3_504_872),
    "mobilenet_v3_small": (mobilenet_v3(MOBILENET_V3_SMALL, 1024), 2_542_856),
    "mobilenet_v3_large": (mobilenet_v3(MOBILENET_V3_LARGE, 1280), 5_483_032),
    "efficientnet_b0": (efficientnet_b0, 5_288_548),
    "efficientnet_v2_s": (efficientnet_v2_s, 21_458_488),
    "squeezenet1_1": (squeezenet1_1, 1_235_496),
}
