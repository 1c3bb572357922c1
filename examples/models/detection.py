# SPDX-License-Identifier: Apache-2.0
"""What comes after a detector: non-maximum suppression and the mean average precision. Boxes are x0 y0 x1 y1."""

import numpy as np


def iou(box, boxes):
    """Intersection over union of one box [4] and many [K, 4]."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return intersection / (np.prod(box[2:] - box[:2]) + areas - intersection)


def detect(boxes, scores, score_threshold, iou_threshold):
    """Detections of one image from boxes [N, 4] and scores [N, classes]: boxes, scores, labels, class by class the best
    first. A box goes if one of its class that overlaps it more than `iou_threshold` has a higher score."""
    kept = []
    for label in range(scores.shape[1]):
        candidates = np.flatnonzero(scores[:, label] >= score_threshold)
        candidates = candidates[np.argsort(-scores[candidates, label], kind="stable")]
        while len(candidates):
            best, candidates = candidates[0], candidates[1:]
            kept.append((best, label))
            candidates = candidates[iou(boxes[best], boxes[candidates]) <= iou_threshold]
    index, labels = np.array(kept, int).reshape(-1, 2).T
    return boxes[index], scores[index, labels], labels


def mean_average_precision(detections, truth_boxes, truth_labels, truth_index, classes, iou_threshold=0.5):
    """The mean over the classes of the area under the precision envelope (PASCAL VOC since 2010).

    `detections` has (boxes, scores, labels) for each image; the truth is flat, `truth_index` naming the image."""
    def of_class(label):
        own = truth_labels == label
        return average_precision(detections, truth_boxes[own], truth_index[own], label, iou_threshold)

    return float(np.mean([of_class(label) for label in range(classes)]))


def average_precision(detections, truth_boxes, truth_index, label, iou_threshold):
    found = sorted(((score, image, box) for image, (boxes, scores, labels) in enumerate(detections)
                    for box, score, one in zip(boxes, scores, labels, strict=True) if one == label),
                   key=lambda detection: -detection[0])
    taken = np.zeros(len(truth_boxes), bool)
    correct = np.zeros(len(found), bool)
    for i, (_, image, box) in enumerate(found):
        here = np.flatnonzero(truth_index == image)
        if not len(here):
            continue
        overlaps = iou(box, truth_boxes[here])
        best = here[overlaps.argmax()]
        if overlaps.max() >= iou_threshold and not taken[best]:
            taken[best] = correct[i] = True
    recall = np.concatenate([[0], np.cumsum(correct) / len(truth_boxes)])
    precision = np.cumsum(correct) / np.arange(1, len(found) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope))
