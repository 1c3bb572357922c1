# SPDX-License-Identifier: Apache-2.0
"""Networks that say something about every place of an image: detectors with the decoding of their boxes, as their
exporters write it, and segmenters.

Each is a function of a `Graph` that returns its output; `PREDICTORS` lists them with their parameter counts.
"""

import numpy as np

from classifiers import MOBILENET_V2, bottleneck, conv_bn, inverted_residual
from suppression import suppressed_by_class, suppressed_by_offsets

OBJECTS = 80  # COCO's classes
STRIDES = (8, 16, 32)


def cells(graph, stride):
    """Column and row of every cell of a detector's level, [1, rows, columns, 2]."""
    extent = graph.size // stride
    row, column = np.meshgrid(np.arange(extent), np.arange(extent), indexing="ij")
    return np.stack([column, row], axis=-1)[np.newaxis].astype(np.float32)


# Building blocks of YOLO: convolutions with SiLU, cross-stage partial blocks, pyramids of pooling.


def conv_silu(graph, scope, x, channels, kernel=1, stride=1):
    return conv_bn(graph, scope, x, channels, kernel, stride, activation="silu", epsilon=1e-3)


def yolo_bottleneck(graph, scope, x, shortcut, kernels, inner):
    y = conv_silu(graph, f"{scope}.cv1", x, inner, kernels[0])
    y = conv_silu(graph, f"{scope}.cv2", y, x.channels, kernels[1])
    return graph.add(scope, x, y) if shortcut else y


def c3(graph, scope, x, channels, depth, shortcut=True):
    hidden = channels // 2
    y = conv_silu(graph, f"{scope}.cv1", x, hidden)
    for i in range(depth):
        y = yolo_bottleneck(graph, f"{scope}.m.{i}", y, shortcut, (1, 3), hidden)
    y = graph.concat(scope, y, conv_silu(graph, f"{scope}.cv2", x, hidden))
    return conv_silu(graph, f"{scope}.cv3", y, channels)


def c2f(graph, scope, x, channels, depth, shortcut=True):
    hidden = channels // 2
    parts = graph.split(scope, conv_silu(graph, f"{scope}.cv1", x, channels), [hidden, hidden])
    for i in range(depth):
        parts.append(yolo_bottleneck(graph, f"{scope}.m.{i}", parts[-1], shortcut, (3, 3), hidden))
    return conv_silu(graph, f"{scope}.cv2", graph.concat(scope, *parts), channels)


def sppf(graph, scope, x, channels):
    parts = [conv_silu(graph, f"{scope}.cv1", x, x.channels // 2)]
    for i in range(3):
        parts.append(graph.max_pool(f"{scope}.m{i}", parts[-1], 5, 1, padding=2))
    return conv_silu(graph, f"{scope}.cv2", graph.concat(scope, *parts), channels)


def yolo_neck(graph, block, levels, lateral):
    """Features of strides 8, 16 and 32, passed down and up again; `lateral` narrows what goes down (YOLOv5)."""
    p3, p4, p5 = levels
    widths = [x.channels for x in levels]

    def narrowed(scope, x, channels):
        return conv_silu(graph, scope, x, channels) if lateral else x

    top = narrowed("neck.lateral5", p5, widths[1])
    x = graph.concat("neck.down4", graph.upsample("neck.up5", top, 2), p4)
    middle = narrowed("neck.lateral4", block(graph, "neck.block4", x, widths[1], 1, False), widths[0])
    x = graph.concat("neck.down3", graph.upsample("neck.up4", middle, 2), p3)
    outputs = [block(graph, "neck.block3", x, widths[0], 1, False)]
    x = graph.concat("neck.join4", conv_silu(graph, "neck.conv4", outputs[0], widths[0], 3, 2), middle)
    outputs.append(block(graph, "neck.out4", x, widths[1], 1, False))
    x = graph.concat("neck.join5", conv_silu(graph, "neck.conv5", outputs[1], widths[1], 3, 2), top)
    outputs.append(block(graph, "neck.out5", x, widths[2], 1, False))
    return outputs


def yolo_backbone(graph, block, stem_kernel):
    """The nano width: 16 to 256 channels, 1 to 3 bottlenecks a stage."""
    x = conv_silu(graph, "backbone.stem", graph.input(), 16, stem_kernel, 2)
    levels = []
    for stage, (channels, depth) in enumerate([(32, 1), (64, 2), (128, 3 if block is c3 else 2), (256, 1)]):
        x = conv_silu(graph, f"backbone.{stage}.conv", x, channels, 3, 2)
        x = block(graph, f"backbone.{stage}.block", x, channels, depth)
        levels.append(x)
    return [levels[1], levels[2], sppf(graph, "backbone.sppf", x, 256)]


# YOLOv5 (Jocher, 2020), the nano size.

ANCHORS = [[(10, 13), (16, 30), (33, 23)], [(30, 61), (62, 45), (59, 119)], [(116, 90), (156, 198), (373, 326)]]


def yolov5n(graph):
    levels = yolo_neck(graph, c3, yolo_backbone(graph, c3, 5), lateral=True)
    found = []
    for i, (x, stride) in enumerate(zip(levels, STRIDES)):
        scope, extent = f"detect.{i}", graph.size // stride
        y = graph.conv(scope, x, 3 * (OBJECTS + 5), 1, bias=True)
        y = graph.reshape(scope, y, [-1, 3, OBJECTS + 5, extent, extent])
        y = graph.activation(scope, graph.transpose(scope, y, [0, 1, 3, 4, 2]), "sigmoid")
        centre, size, rest = graph.split(scope, y, [2, 2, OBJECTS + 1], axis=4)
        two = graph.constant("two", np.float32(2))
        grid = graph.constant(f"{scope}.grid", cells(graph, stride)[:, np.newaxis] - np.float32(0.5))
        centre = graph.add(scope, graph.mul(scope, centre, two), grid)
        centre = graph.mul(scope, centre, graph.constant(f"{scope}.stride", np.float32(stride)))
        anchors = graph.constant(f"{scope}.anchors", np.float32(ANCHORS[i]).reshape(1, 3, 1, 1, 2))
        size = graph.mul(scope, graph.node(scope, "Pow", [graph.mul(scope, size, two), two]), anchors)
        y = graph.node(scope, "Concat", [centre, size, rest], axis=4)
        found.append(graph.reshape(scope, y, [-1, 3 * extent * extent, OBJECTS + 5]))
    return graph.node("detect", "Concat", found, axis=1)


# YOLOv8 (Jocher et al., 2023), the nano size: no anchors, each side of a box is the mean of a distribution.

BINS = 16


def yolov8_boxes(graph):
    """Boxes as centre and size [N, 4, places], and scores [N, OBJECTS, places]."""
    levels = yolo_neck(graph, c2f, yolo_backbone(graph, c2f, 3), lateral=False)
    flat = []
    for i, x in enumerate(levels):
        box = conv_silu(graph, f"detect.{i}.box.0", x, 64, 3)
        box = graph.conv(f"detect.{i}.box.2", conv_silu(graph, f"detect.{i}.box.1", box, 64, 3), 4 * BINS, 1, bias=True)
        score = conv_silu(graph, f"detect.{i}.class.0", x, OBJECTS, 3)
        score = conv_silu(graph, f"detect.{i}.class.1", score, OBJECTS, 3)
        score = graph.conv(f"detect.{i}.class.2", score, OBJECTS, 1, bias=True)
        both = graph.concat(f"detect.{i}", box, score)
        flat.append(graph.reshape(f"detect.{i}", both, [-1, both.channels, (graph.size // STRIDES[i]) ** 2]))
    box, score = graph.split("detect", graph.node("detect", "Concat", flat, axis=2), [4 * BINS, OBJECTS])
    places = sum((graph.size // stride) ** 2 for stride in STRIDES)
    box = graph.transpose("dfl", graph.reshape("dfl", box, [-1, 4, BINS, places]), [0, 2, 1, 3])
    box = graph.node("dfl", "Softmax", [box], axis=1)
    bins = graph.constant("dfl.bins", np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1))
    box = graph.reshape("dfl", graph.node("dfl", "Conv", [box, bins]), [-1, 4, places])
    near, far = graph.split("bbox", box, [2, 2])
    centres = np.concatenate([cells(graph, stride).reshape(-1, 2) + 0.5 for stride in STRIDES]).T[np.newaxis]
    centres = graph.constant("bbox.centres", centres.astype(np.float32))
    low, high = graph.node("bbox", "Sub", [centres, near]), graph.add("bbox", centres, far)
    middle = graph.node("bbox", "Div", [graph.add("bbox", low, high), graph.constant("two", np.float32(2))])
    box = graph.node("bbox", "Concat", [middle, graph.node("bbox", "Sub", [high, low])], axis=1)
    strides = np.concatenate([np.full((graph.size // stride) ** 2, stride, np.float32) for stride in STRIDES])
    box = graph.mul("bbox", box, graph.constant("bbox.strides", strides.reshape(1, 1, -1)))
    return box, graph.activation("detect", score, "sigmoid")


def yolov8n(graph):
    return graph.node("detect", "Concat", yolov8_boxes(graph), axis=1)


def yolov8n_nms(graph):
    box, score = yolov8_boxes(graph)
    box = graph.transpose("corners", box, [0, 2, 1])
    middle, size = graph.split("corners", box, [2, 2], axis=2)
    half = graph.node("corners", "Div", [size, graph.constant("two", np.float32(2))])
    corners = [graph.node("corners", "Sub", [middle, half]), graph.add("corners", middle, half)]
    box = graph.node("corners", "Concat", corners, axis=2)
    return suppressed_by_offsets(graph, box, graph.transpose("scores", score, [0, 2, 1]))


# SSD (Liu et al., 2016) over MobileNetV2: six levels, six prior boxes a cell.

PRIORS = 6


def prior_boxes(graph, extents):
    """Centre and size of every prior box in fractions of the image, [1, boxes, 4]."""
    boxes = []
    for level, extent in enumerate(extents):
        scale = 0.2 + 0.75 * level / (len(extents) - 1)
        for row in range(extent):
            for column in range(extent):
                for ratio in (1, 1.5, 2, 0.5, 3, 1 / 3):
                    boxes.append([(column + 0.5) / extent, (row + 0.5) / extent, scale * ratio**0.5,
                                  scale / ratio**0.5])
    return np.float32(boxes)[np.newaxis]


def ssd_boxes(graph):
    """Boxes as two corners [N, places, 4], and probabilities [N, places, OBJECTS + 1]."""
    x = conv_bn(graph, "backbone.0", graph.input(), 32, 3, 2, activation="relu6")
    levels, extents, extent, index = [], [], graph.size // 2, 0
    for expansion, channels, blocks, first_stride in MOBILENET_V2:
        for i in range(blocks):
            index += 1
            stride = first_stride if i == 0 else 1
            extent = (extent + stride - 1) // stride
            x = inverted_residual(graph, f"backbone.{index}", x, expansion * x.channels, channels, 3, stride, "relu6")
        if channels in (96, 320):
            levels.append(x)
            extents.append(extent)
    for i, channels in enumerate((512, 256, 256, 128)):
        x = inverted_residual(graph, f"extra.{i}", x, x.channels // 2, channels, 3, 2, "relu6")
        extent = (extent + 1) // 2
        levels.append(x)
        extents.append(extent)
    boxes, scores = [], []
    for i, (x, extent) in enumerate(zip(levels, extents)):
        for found, width in ((boxes, 4), (scores, OBJECTS + 1)):
            scope = f"head.{i}.{width}"
            y = conv_bn(graph, f"{scope}.dw", x, x.channels, 3, 1, x.channels, "relu6")
            y = graph.conv(f"{scope}.pw", y, PRIORS * width, 1, bias=True)
            y = graph.transpose(scope, y, [0, 2, 3, 1])
            found.append(graph.reshape(scope, y, [-1, PRIORS * extent * extent, width]))
    score = graph.node("scores", "Softmax", [graph.node("scores", "Concat", scores, axis=1)], axis=2)
    centre, size = graph.split("boxes", graph.node("boxes", "Concat", boxes, axis=1), [2, 2], axis=2)
    priors = prior_boxes(graph, extents)
    prior_centre = graph.constant("prior.centre", priors[..., :2])
    prior_size = graph.constant("prior.size", priors[..., 2:])
    centre = graph.mul("boxes", graph.mul("boxes", centre, graph.constant("variance0", np.float32(0.1))), prior_size)
    centre = graph.add("boxes", centre, prior_centre)
    size = graph.node("boxes", "Exp", [graph.mul("boxes", size, graph.constant("variance1", np.float32(0.2)))])
    half = graph.node("boxes", "Div", [graph.mul("boxes", size, prior_size), graph.constant("two", np.float32(2))])
    corners = [graph.node("boxes", "Sub", [centre, half]), graph.add("boxes", centre, half)]
    return graph.node("boxes", "Concat", corners, axis=2), score


def ssd_mobilenet_v2(graph):
    return graph.node("output", "Concat", ssd_boxes(graph), axis=2)


def ssd_mobilenet_v2_nms(graph):
    boxes, score = ssd_boxes(graph)
    score = graph.split("scores", score, [1, OBJECTS], axis=2)[1]  # class 0 is the background
    return suppressed_by_class(graph, boxes, graph.transpose("scores", score, [0, 2, 1]))


# U-Net (Ronneberger et al., 2015), padded, with normalisation and half of the original's channels.


def double_conv(graph, scope, x, channels):
    x = conv_bn(graph, f"{scope}.0", x, channels, 3, activation="relu")
    return conv_bn(graph, f"{scope}.1", x, channels, 3, activation="relu")


def unet(graph):
    x = double_conv(graph, "down.0", graph.input(), 32)
    skipped = []
    for level, channels in enumerate((64, 128, 256, 512)):
        skipped.append(x)
        x = double_conv(graph, f"down.{level + 1}", graph.max_pool(f"down.{level + 1}.pool", x, 2, 2), channels)
    for level, skip in enumerate(reversed(skipped)):
        x = graph.conv_transpose(f"up.{level}", x, skip.channels, 2, 2)
        x = double_conv(graph, f"up.{level}", graph.concat(f"up.{level}", skip, x), skip.channels)
    return graph.conv("out", x, 2, 1, bias=True)


# DeepLabV3 (Chen et al., 2017) over ResNet-50 with an output stride of 8, as torchvision has it but for the auxiliary
# classifier.


def deeplabv3_resnet50(graph):
    x = conv_bn(graph, "conv1", graph.input(), 64, 7, 2, activation="relu")
    x = graph.max_pool("maxpool", x, 3, 2, padding=1)
    dilation = 1
    for stage, (depth, stride, dilated) in enumerate([(3, 1, 1), (4, 2, 1), (6, 1, 2), (3, 1, 4)]):
        for i in range(depth):
            x = bottleneck(graph, f"layer{stage + 1}.{i}", x, 64 << stage, stride if i == 0 else 1,
                           dilation=dilation if i == 0 else dilated)
        dilation = dilated
    branches = [conv_bn(graph, "aspp.0", x, 256, 1, activation="relu")]
    for i, rate in enumerate((12, 24, 36)):
        branches.append(conv_bn(graph, f"aspp.{i + 1}", x, 256, 3, activation="relu", dilation=rate))
    pool = conv_bn(graph, "aspp.4", graph.global_average_pool("aspp.pool", x), 256, 1, activation="relu")
    branches.append(graph.upsample("aspp.up", pool, graph.size // 8, "linear"))
    x = conv_bn(graph, "project", graph.concat("aspp", *branches), 256, 1, activation="relu")
    x = conv_bn(graph, "head.0", x, 256, 3, activation="relu")
    return graph.upsample("up", graph.conv("head.1", x, 21, 1, bias=True), 8, "linear")


# name: (network, parameters, rank of the output)
PREDICTORS = {
    "yolov5n": (yolov5n, 1_871_629, 3),
    "yolov8n": (yolov8n, 3_157_184, 3),
    "yolov8n_nms": (yolov8n_nms, 3_157_184, 3),
    "ssd_mobilenet_v2": (ssd_mobilenet_v2, 3_104_404, 3),
    "ssd_mobilenet_v2_nms": (ssd_mobilenet_v2_nms, 3_104_404, 3),
    "unet": (unet, 7_763_074, 4),
    "deeplabv3_resnet50": (deeplabv3_resnet50, 39_638_869, 4),
}
