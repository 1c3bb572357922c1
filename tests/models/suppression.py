# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression inside of a detector, as exporters write it: of the first image, into a table of fixed size
[1, KEPT, 6] of box, score and class, whose last rows are zeros when less was found.

Few rows are kept: between the scores of the best few lies more than the rounding errors of a whole network, so that their
order is the same everywhere.
"""

import numpy as np

KEPT = 12
OVERLAP = 0.45


def ints(graph, *values):
    return graph.constant("ints_" + "_".join(map(str, values)), np.int64(values))


def first_image(graph, x):
    """[N, ...] to [...]: exporters write the loop over a batch of one so."""
    return graph.node("first", "Gather", [x, graph.constant("zero", np.int64(0))], axis=0)


def lifted(graph, x, *axes):
    return graph.node("lift", "Unsqueeze", [x, ints(graph, *axes)])


def column(graph, x, index):
    return graph.node("column", "Gather", [x, graph.constant(f"column_{index}", np.int64(index))], axis=1)


def table(graph, box, score, kind):
    """Boxes [n, 4], scores and classes [n], padded to KEPT rows."""
    as_column = ints(graph, -1, 1)
    columns = [graph.node("table", "Reshape", [x, as_column]) for x in (score, graph.node("table", "Cast", [kind], to=1))]
    rows = graph.node("table", "Concat", [box, *columns], axis=-1)
    shape = graph.node("table", "Shape", [rows])
    found = graph.node("table", "Slice", [shape, ints(graph, 0), ints(graph, 1)])
    missing = graph.node("table", "Sub", [ints(graph, KEPT), found])
    pads = graph.node("table", "Concat", [ints(graph, 0, 0), missing, ints(graph, 0)], axis=0)
    return lifted(graph, graph.node("table", "Pad", [rows, pads]), 0)


def suppressed_by_class(graph, boxes, scores):
    """As SSD's exporters do it: class by class, then the best of all. Boxes [N, places, 4], scores [N, classes, places]."""
    one_box, one_score = first_image(graph, boxes), first_image(graph, scores)
    limits = [ints(graph, KEPT), graph.constant("overlap", np.float32([OVERLAP])), graph.constant("least", np.float32([0.01]))]
    selected = graph.node("nms", "NonMaxSuppression", [lifted(graph, one_box, 0), lifted(graph, one_score, 0), *limits])
    score = graph.node("nms", "GatherND", [lifted(graph, one_score, 0), selected])
    there = graph.node("best", "Concat", [ints(graph, KEPT), graph.node("best", "Shape", [score])], axis=0)
    count = graph.node("best", "ReduceMin", [there], keepdims=1)
    best, order = graph.node("best", "TopK", [score, count], outputs=2)
    rows = graph.node("best", "Gather", [selected, order], axis=0)
    box = graph.node("best", "Gather", [one_box, column(graph, rows, 2)], axis=0)
    return table(graph, box, best, column(graph, rows, 1))


def suppressed_by_offsets(graph, boxes, scores):
    """As Ultralytics' exporter does it: candidates above a score are packed, and classes moved apart by offsets. Boxes
    [N, places, 4], scores [N, places, classes]."""
    box, scores = first_image(graph, boxes), first_image(graph, scores)
    score = graph.node("candidates", "ReduceMax", [scores], axes=[1], keepdims=0)
    kind = graph.node("candidates", "ArgMax", [scores], axis=1, keepdims=0)
    mask = graph.node("candidates", "Greater", [score, graph.constant("least", np.float32(0.25))])

    def candidates(x):
        places = graph.transpose("candidates", graph.node("candidates", "NonZero", [mask]), [1, 0])
        return graph.node("candidates", "GatherND", [x, places])

    box, score, kind = candidates(box), candidates(score), candidates(kind)
    offset = graph.mul("apart", graph.node("apart", "Cast", [kind], to=1), graph.constant("far", np.float32(7680)))
    apart = graph.add("apart", box, graph.node("apart", "Reshape", [offset, ints(graph, -1, 1)]))
    limits = [ints(graph, 30000), graph.constant("overlap", np.float32([OVERLAP]))]
    selected = graph.node("nms", "NonMaxSuppression", [lifted(graph, apart, 0), lifted(graph, score, 0, 1), *limits])
    kept = graph.node("nms", "Slice", [column(graph, selected, 2), ints(graph, 0), ints(graph, KEPT)])
    return table(graph, *(graph.node("kept", "Gather", [x, kept], axis=0) for x in (box, score, kind)))
