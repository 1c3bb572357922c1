# SPDX-License-Identifier: Apache-2.0
"""What exporters write, as small graphs, against ONNX Runtime: patterns from whole models that once did not build."""

import numpy as np
import onnx
from edgert_command import BAD_INPUT, AgainstReference, float_tensor, main, make_model, value
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, outputs[0], **attributes)


def int64(name, values):
    return numpy_helper.from_array(np.asarray(values, np.int64), name)


def random(*dims, seed=1):
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


class Detectors(AgainstReference):
    """Boxes above a score are packed, suppressed, cut to the best few and padded to a table of fixed size."""

    BOXES, KEPT = 40, 6

    def inputs(self, seed, threshold):
        rng = np.random.default_rng(seed)
        corner = rng.random((self.BOXES, 2), np.float32) * 10
        boxes = np.concatenate([corner, corner + 1 + 4 * rng.random((self.BOXES, 2), np.float32)], axis=1)
        scores = rng.random((self.BOXES, 3), np.float32)
        return {"boxes": boxes, "scores": scores, "threshold": np.array([threshold], np.float32)}

    def model(self, flattened):
        """As Ultralytics' exporter writes `nms=True`, by classes moved apart; the padding either of rows or flattened."""
        nodes = [
            node("ReduceMax", ["scores"], ["score"], axes=[1], keepdims=0),
            node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0),
            node("Greater", ["score", "threshold"], ["mask"]),
        ]
        for name in ("boxes", "score", "class"):
            # Once for each tensor, as the exporter of indexing by a mask does it.
            nodes += [
                node("NonZero", ["mask"], [f"{name}_at"]),
                node("Transpose", [f"{name}_at"], [f"{name}_rows"], perm=[1, 0]),
                node("GatherND", [name, f"{name}_rows"], [f"{name}_found"]),
            ]
        nodes += [
            node("Shape", ["class_found"], ["class_shape"]),
            node("Gather", ["class_shape", "zero"], ["found"], axis=0),
            node("Unsqueeze", ["found", "first"], ["found_1"]),
            node("Concat", ["found_1", "one_1"], ["column_shape"], axis=0),
            node("Reshape", ["class_found", "column_shape"], ["column"]),
            node("Concat", ["found_1", "four_1"], ["offset_shape"], axis=0),
            # -1 in a shape to expand to means the extent that is there.
            node("ConstantOfShape", ["two_1"], ["ones"], value=int64("", [1])),
            node("Mul", ["ones", "minus_1"], ["wild"]),
            node("Equal", ["offset_shape", "wild"], ["is_wild"]),
            node("Where", ["is_wild", "ones", "offset_shape"], ["expand_shape"]),
            node("Expand", ["column", "expand_shape"], ["classes"]),
            node("Cast", ["classes"], ["class_offsets"], to=FLOAT),
            node("Mul", ["class_offsets", "far"], ["offsets"]),
            node("Add", ["boxes_found", "offsets"], ["apart"]),
            node("Unsqueeze", ["apart", "first"], ["apart_3"]),
            node("Unsqueeze", ["score_found", "both"], ["score_3"]),
            node("NonMaxSuppression", ["apart_3", "score_3", "most", "overlap"], ["selected"]),
            node("Gather", ["selected", "two_1"], ["selected_column"], axis=1),
            node("Squeeze", ["selected_column", "one_1"], ["all_kept"]),
            node("Slice", ["all_kept", "first", "kept_1", "first", "one_1"], ["kept"]),
            node("Gather", ["boxes_found", "kept"], ["kept_boxes"], axis=0),
            node("Gather", ["score_found", "kept"], ["kept_scores"], axis=0),
            node("Gather", ["class_found", "kept"], ["kept_classes"], axis=0),
            node("Reshape", ["kept_scores", "as_column"], ["score_column"]),
            node("Reshape", ["kept_classes", "as_column"], ["int_class_column"]),
            node("Cast", ["int_class_column"], ["class_column"], to=FLOAT),
            node("Concat", ["kept_boxes", "score_column", "class_column"], ["rows"], axis=-1),
            node("Shape", ["rows"], ["rows_shape"]),
            node("Gather", ["rows_shape", "zero"], ["count"], axis=0),
            node("Sub", ["kept_0", "count"], ["missing"]),
        ]
        if flattened:
            nodes += [
                node("Gather", ["rows_shape", "one"], ["width"], axis=0),
                node("Mul", ["missing", "width"], ["missing_numbers"]),
                node("Unsqueeze", ["missing_numbers", "first"], ["missing_1"]),
                node("Concat", ["first", "missing_1"], ["pads"], axis=0),
                node("Reshape", ["rows", "flat"], ["numbers"]),
                node("Pad", ["numbers", "pads"], ["padded"]),
                node("Unsqueeze", ["width", "first"], ["width_1"]),
                node("Concat", ["kept_1", "width_1"], ["table_shape"], axis=0),
                node("Reshape", ["padded", "table_shape"], ["table"]),
            ]
        else:
            nodes += [
                node("Unsqueeze", ["missing", "first"], ["missing_1"]),
                node("Concat", ["three_zeros", "missing_1", "first"], ["pads_4"], axis=0),
                node("Slice", ["pads_4", "one_1", "five_1"], ["pads"]),
                node("Pad", ["rows", "pads"], ["table"]),
            ]
        constants = {
            "zero": 0, "one": 1, "first": [0], "one_1": [1], "two_1": [2], "four_1": [4], "five_1": [5], "minus_1": [-1],
            "both": [0, 1], "most": [100], "as_column": [-1, 1], "flat": [-1], "kept_0": self.KEPT, "kept_1": [self.KEPT],
            "three_zeros": [0, 0, 0],
        }  # fmt: skip
        initializers = [int64(name, number) for name, number in constants.items()]
        initializers += [float_tensor("far", 100), float_tensor("overlap", [0.4])]
        inputs = [value("boxes", FLOAT, [self.BOXES, 4]), value("scores", FLOAT, [self.BOXES, 3]), value("threshold", FLOAT, [1])]
        return make_model(nodes, inputs, [value("table", FLOAT, [self.KEPT, 6])], initializers)

    def test_a_table_of_detections(self):
        # From more boxes than the table has rows to none at all.
        cases = [self.inputs(seed, threshold) for seed, threshold in ((1, 0.1), (2, 0.5), (3, 0.9), (4, 0.97), (5, 2.0))]
        for flattened in (False, True):
            with self.subTest(flattened=flattened):
                self.agree(self.model(flattened), cases)


    def test_suppression_as_paddle_writes_it(self):
        """One row of class, score and box for the best of what is left, and how many rows there are."""
        nodes = [
            node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["selected"]),
            node("Gather", ["selected", "one_1"], ["class_column"], axis=1),
            node("Squeeze", ["class_column", "one_1"], ["class"]),
            node("Gather", ["selected", "two_1"], ["box_column"], axis=1),
            node("Squeeze", ["box_column", "one_1"], ["box"]),
            node("Reshape", ["scores", "flat"], ["all_scores"]),
            node("Mul", ["class", "count"], ["row"]),
            node("Add", ["row", "box"], ["place"]),
            node("Gather", ["all_scores", "place"], ["score"], axis=0),
            node("Shape", ["score"], ["found"]),
            node("Concat", ["found", "keep"], ["both"], axis=0),
            node("ReduceMin", ["both"], ["k"], keepdims=1),
            node("TopK", ["score", "k"], ["best", "order"]),
            node("Gather", ["class", "order"], ["best_class"], axis=0),
            node("Gather", ["box", "order"], ["best_box"], axis=0),
            node("Squeeze", ["boxes", "first"], ["all_boxes"]),
            node("Gather", ["all_boxes", "best_box"], ["corners"], axis=0),
            node("Cast", ["best_class"], ["class_number"], to=FLOAT),
            node("Unsqueeze", ["class_number", "one_1"], ["a"]),
            node("Unsqueeze", ["best", "one_1"], ["b"]),
            node("Concat", ["a", "b", "corners"], ["y"], axis=1),
            node("Shape", ["best"], ["rows"]),
            node("Cast", ["rows"], ["number"], to=TensorProto.INT32),
        ]
        initializers = [int64("most", [30]), int64("one_1", [1]), int64("two_1", [2]), int64("first", [0]), int64("flat", [-1]), int64("count", [self.BOXES]),
                        int64("keep", [8]), float_tensor("overlap", [0.4]), float_tensor("least", [0.6])]  # fmt: skip
        inputs = [value("boxes", FLOAT, [1, self.BOXES, 4]), value("scores", FLOAT, [1, 3, self.BOXES])]
        outputs = [value("y", FLOAT, ["n", 6]), value("number", TensorProto.INT32, [1])]
        cases = []
        for scale in (1, 0.7, 0.1):
            case = self.inputs(6, 0)
            cases.append({"boxes": case["boxes"][None], "scores": np.ascontiguousarray(case["scores"].T)[None] * np.float32(scale)})
        self.agree(make_model(nodes, inputs, outputs, initializers), cases)


class Extents(AgainstReference):
    def test_parts_of_what_was_found(self):
        """Slices along, and zeros as long as, an extent that only a run knows."""
        nodes = [
            node("NonZero", ["x"], ["places"]),
            node("Slice", ["places", "two", "eight", "one", "three"], ["some"]),
            node("Shape", ["places"], ["shape"]),
            node("ConstantOfShape", ["shape"], ["zeros"], value=int64("", [7])),
            node("Add", ["places", "zeros"], ["shifted"]),
        ]
        initializers = [int64("two", [2]), int64("eight", [8]), int64("one", [1]), int64("three", [3])]
        outputs = [value("some", INT64, [1, "some"]), value("shifted", INT64, [1, "found"])]
        model = make_model(nodes, [value("x", FLOAT, [12])], outputs, initializers)
        cases = [{"x": np.float32(np.arange(12) < count)} for count in (0, 1, 3, 7, 12)]
        self.agree(model, cases)

    def test_joined(self):
        """What was found in several places, with what was there before, and its values beside."""
        nodes = [
            node("NonZero", ["x"], ["a"]),
            node("NonZero", ["z"], ["b"]),
            node("Concat", ["a", "fixed", "b"], ["places"], axis=1),
            node("Squeeze", ["places", "zero"], ["flat"]),
            node("Cast", ["flat"], ["numbers"], to=FLOAT),
            node("Concat", ["a", "fixed", "b"], ["again"], axis=1),
            node("Add", ["places", "again"], ["sum"]),
        ]
        inputs = [value("x", FLOAT, [6]), value("z", FLOAT, [9])]
        outputs = [value("numbers", FLOAT, ["n"]), value("sum", INT64, [1, "n"])]
        model = make_model(nodes, inputs, outputs, [int64("fixed", [[50, 60]]), int64("zero", [0])])
        counts = ((0, 0), (1, 0), (0, 9), (3, 4), (6, 9))
        self.agree(model, [{"x": np.float32(np.arange(6) < a), "z": np.float32(np.arange(9) < b)} for a, b in counts])

    def test_the_best_of_those_found(self):
        """As torchvision's detectors take at most so many candidates a level."""
        nodes = [
            node("Greater", ["scores", "least"], ["mask"]),
            node("NonZero", ["mask"], ["at"]),
            node("Transpose", ["at"], ["rows"], perm=[1, 0]),
            node("GatherND", ["scores", "rows"], ["found"]),
            node("Shape", ["found"], ["shape"]),
            node("Concat", ["most", "shape"], ["both"], axis=0),
            node("ReduceMin", ["both"], ["k"], keepdims=1),
            node("TopK", ["found", "k"], ["best", "order"]),
            node("Gather", ["rows", "order"], ["best_rows"], axis=0),
            node("Squeeze", ["best_rows", "one"], ["best_places"]),
            node("Cast", ["best_places"], ["numbers"], to=FLOAT),
            node("Add", ["best", "numbers"], ["y"]),
        ]
        initializers = [float_tensor("least", 0.5), int64("most", [4]), int64("one", [1])]
        model = make_model(nodes, [value("scores", FLOAT, [10])], [value("y", FLOAT, ["n"])], initializers)
        rng = np.random.default_rng(3)
        self.agree(model, [{"scores": rng.random(10, np.float32) * scale} for scale in (0.1, 0.6, 0.8, 1, 3)])

    def test_between_places_that_only_a_run_knows(self):
        """Slices whose ends are inputs, or computed from what was found; ends count from the back and reach too far."""
        nodes = [
            node("Slice", ["x", "first", "last", "rows"], ["some"]),
            node("Slice", ["x", "first", "last", "rows", "two"], ["every_other"]),
            node("NonZero", ["x"], ["places"]),
            node("Slice", ["places", "first", "last", "columns"], ["some_places"]),
            node("Slice", ["places", "minus_four", "minus_one", "columns"], ["last_places"]),
            node("Shape", ["places"], ["shape"]),
            node("Slice", ["shape", "columns", "two"], ["found"]),
            node("Add", ["found", "rows"], ["same"]),
            node("Slice", ["places", "rows", "same", "columns"], ["all_places"]),
            node("Add", ["all_places", "places"], ["doubled"]),
            node("Slice", ["numbers", "rows", "found"], ["counted"]),
            node("Add", ["found", "two"], ["behind"]),
            node("Slice", ["numbers", "found", "behind"], ["window"]),
        ]
        initializers = [int64("rows", [0]), int64("columns", [1]), int64("two", [2]), int64("minus_four", [-4]),
                        int64("minus_one", [-1]), int64("numbers", list(range(100, 130)))]
        inputs = [value("x", FLOAT, [6, 3]), value("first", INT64, [1]), value("last", INT64, [1])]
        outputs = [value("some", FLOAT, ["a", 3]), value("every_other", FLOAT, ["b", 3]), value("some_places", INT64, [2, "c"]),
                   value("doubled", INT64, [2, "d"]), value("counted", INT64, ["e"]), value("window", INT64, [2]),
                   value("last_places", INT64, [2, "f"])]  # fmt: skip
        model = make_model(nodes, inputs, outputs, initializers)
        rng = np.random.default_rng(5)
        places = ((0, 6), (1, 4), (-3, -1), (2, 100), (4, 2), (-100, 3), (6, 7))
        cases = [{"x": np.float32(rng.random((6, 3)) < 0.4), "first": np.array([a]), "last": np.array([b])} for a, b in places]
        self.agree(model, cases)

    def test_counting_up_to_what_was_found(self):
        nodes = [
            node("NonZero", ["x"], ["places"]),
            node("Shape", ["places"], ["shape"]),
            node("Gather", ["shape", "one"], ["found"], axis=0),
            node("Gather", ["shape", "zero"], ["rank"], axis=0),
            node("Range", ["zero", "found", "one"], ["numbers"]),
            node("Add", ["found", "one"], ["more"]),
            node("Range", ["one", "more", "one"], ["from_one"]),
            # As long in every run, though read from a shape of which another part is not.
            node("Range", ["zero", "rank", "one"], ["axes"]),
            node("Mul", ["numbers", "from_one"], ["y"]),
        ]
        initializers = [int64("zero", 0), int64("one", 1)]
        outputs = [value("y", INT64, ["n"]), value("axes", INT64, [2])]
        model = make_model(nodes, [value("x", FLOAT, [3, 4])], outputs, initializers)
        self.agree(model, [{"x": np.float32(np.arange(12).reshape(3, 4) < count)} for count in (0, 1, 7, 12)])

    def test_row_by_row_behind_what_was_found(self):
        """Masks of those found: enlarged, padded, flattened with the classes, written to a table of all."""
        nodes = [
            node("NonZero", ["scores"], ["at"]),
            node("Transpose", ["at"], ["rows"], perm=[1, 0]),
            node("GatherND", ["maps", "rows"], ["few"]),
            node("Resize", ["few", "", "scales"], ["large"], mode="linear"),
            node("Pad", ["large", "pads"], ["padded"]),
            node("LayerNormalization", ["padded", "ones"], ["normal"], axis=-1),
            node("Flatten", ["normal"], ["flat"], axis=2),
            node("Gather", ["flat", "first"], ["y"], axis=1),
            node("ReduceSum", ["few", "last_two"], ["sums"], keepdims=0),
            node("ScatterND", ["table", "rows", "sums"], ["written"]),
        ]
        initializers = [int64("pads", [0, 0, 1, 0, 0, 0, 0, 2]), int64("first", [0]), int64("last_two", [2, 3]), float_tensor("scales", [1, 1, 2, 2]),
                        float_tensor("ones", [8]), float_tensor("table", [[7.0, 7.0]] * 5)]  # fmt: skip
        inputs = [value("scores", FLOAT, [5]), value("maps", FLOAT, [5, 2, 3, 3])]
        outputs = [value("y", FLOAT, ["n", 1]), value("written", FLOAT, [5, 2])]
        model = make_model(nodes, inputs, outputs, initializers)
        cases = [{"scores": np.float32(np.arange(5) % 3 < n), "maps": random(5, 2, 3, 3)} for n in (0, 1, 2, 3)]
        self.agree(model, cases, tolerance=1e-4)

    def test_branches_on_what_was_found(self):
        """Suppression as torchvision's script writes it: nothing where nothing was found; inside, extents stay what they are."""
        inside = [
            node("Cast", ["labels"], ["offsets"], to=FLOAT),
            node("Unsqueeze", ["offsets", "one"], ["column"]),
            node("Add", ["boxes", "column"], ["moved"]),
            node("ReduceSum", ["moved", "one"], ["kept"], keepdims=0),
        ]
        nothing = [node("ConstantOfShape", ["zero"], ["none"], value=numpy_helper.from_array(np.zeros(1, np.float32)))]
        branch = lambda name, nodes, output: helper.make_graph(nodes, name, [], [value(output, FLOAT, ["n"])])
        nodes = [
            node("NonZero", ["scores"], ["at"]),
            node("Transpose", ["at"], ["rows"], perm=[1, 0]),
            node("GatherND", ["all_boxes", "rows"], ["few"]),
            node("GatherND", ["scores", "rows"], ["few_scores"]),
            node("Shape", ["few_scores"], ["count"]),
            node("Concat", ["four", "count"], ["both"], axis=0),
            node("ReduceMin", ["both"], ["k"], keepdims=1),
            node("TopK", ["few_scores", "k"], ["best", "order"]),
            node("Gather", ["few", "order"], ["some"], axis=0),
            node("Concat", ["some", "some"], ["boxes"], axis=0),
            node("Shape", ["best"], ["best_shape"]),
            node("ConstantOfShape", ["best_shape"], ["label"], value=int64("", [3])),
            node("Concat", ["label", "label"], ["labels"], axis=0),
            node("Size", ["boxes"], ["numbers"]),
            node("Equal", ["numbers", "none_at_all"], ["is_empty"]),
            node("If", ["is_empty"], ["y"], then_branch=branch("then", nothing, "none"), else_branch=branch("else", inside, "kept")),
        ]
        initializers = [int64("zero", [0]), int64("one", [1]), int64("four", [4]), int64("none_at_all", 0)]
        inputs = [value("scores", FLOAT, [9]), value("all_boxes", FLOAT, [9, 4])]
        model = make_model(nodes, inputs, [value("y", FLOAT, ["n"])], initializers)
        rng = np.random.default_rng(8)
        cases = [{"scores": np.float32((np.arange(9) < n) * rng.random(9)), "all_boxes": rng.random((9, 4), np.float32)} for n in (0, 1, 3, 9)]
        self.agree(model, cases)

    def test_what_cannot_be_padded_to_one_size_is_refused(self):
        nodes = [
            node("NonZero", ["x"], ["places"]),
            node("Shape", ["places"], ["shape"]),
            node("Slice", ["shape", "one", "two"], ["count"]),
            node("Concat", ["zeros", "count"], ["pads"], axis=0),
            node("Pad", ["places", "pads"], ["y"]),
        ]
        initializers = [int64("zeros", [0, 0, 0]), int64("one", [1]), int64("two", [2])]
        model = make_model(nodes, [value("x", FLOAT, [12])], [value("y", INT64, None)], initializers)
        self.call("build", self.save("net.onnx", model), "-o", self.folder / "p", code=BAD_INPUT, says="known only at run time")


class ClassicModels(AgainstReference):
    """ai.onnx.ml as skl2onnx and others write it. Random attributes, since only the arithmetic counts."""

    def check(self, op, outputs, rows=7, features=4, **attributes):
        """`outputs`: the element type and extents of each."""
        x = random(rows, features, seed=5)
        names = [f"y{i}" for i in range(len(outputs))]
        made = helper.make_node(op, ["x"], names, "node", domain="ai.onnx.ml", **attributes)
        model = make_model([made], [value("x", FLOAT, x.shape)], [value(n, *declared) for n, declared in zip(names, outputs, strict=True)],
                           opsets=[("ai.onnx.ml", 1)])  # fmt: skip
        self.agree(model, [{"x": x}])

    def test_scalers(self):
        self.check("Scaler", [(FLOAT, [7, 4])], offset=[0.5, 1.0, -1.0, 0.0], scale=[2.0, 1.0, 0.5, 3.0])
        self.check("Scaler", [(FLOAT, [7, 4])], offset=[0.5], scale=[2.0])
        for norm in ("L1", "L2", "MAX"):
            self.check("Normalizer", [(FLOAT, [7, 4])], norm=norm)

    def test_imputer(self):
        x = random(3, 4)
        x[0, 1] = x[2, 3] = np.nan
        made = helper.make_node("Imputer", ["x"], ["y"], "node", domain="ai.onnx.ml", imputed_value_floats=[1.0, 2.0, 3.0, 4.0],
                                replaced_value_float=float("nan"))  # fmt: skip
        model = make_model([made], [value("x", FLOAT, x.shape)], [value("y", FLOAT, x.shape)], opsets=[("ai.onnx.ml", 1)])
        self.agree(model, [{"x": x}])

    def test_linear_models(self):
        w, b = random(12, seed=2).tolist(), random(3, seed=3).tolist()
        self.check("LinearRegressor", [(FLOAT, [7, 3])], coefficients=w, intercepts=b, targets=3)
        for transform in ("NONE", "SOFTMAX", "LOGISTIC"):
            with self.subTest(transform):
                self.check("LinearClassifier", [(INT64, [7]), (FLOAT, [7, 3])], coefficients=w, intercepts=b, classlabels_ints=[3, 5, 9],
                           post_transform=transform)  # fmt: skip
                self.check("LinearClassifier", [(INT64, [7]), (FLOAT, [7, 2])], coefficients=w[:8], intercepts=b[:2], classlabels_ints=[0, 1],
                           post_transform=transform)  # fmt: skip

    def trees(self, modes=("BRANCH_LEQ",), count=3):
        """Complete trees of three levels: nodes 0 to 6, of which 3 to 6 are leaves."""
        rng = np.random.default_rng(4)
        attributes = {key: [] for key in ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes",
                                          "nodes_truenodeids", "nodes_falsenodeids", "nodes_hitrates",
                                          "nodes_missing_value_tracks_true")}  # fmt: skip
        for tree in range(count):
            for i in range(7):
                leaf = i > 2
                entry = (tree, i, int(rng.integers(4)), float(rng.normal()), "LEAF" if leaf else modes[(tree + i) % len(modes)],
                         0 if leaf else 2 * i + 1, 0 if leaf else 2 * i + 2, 1.0, 0)  # fmt: skip
                for key, each in zip(attributes, entry, strict=True):
                    attributes[key].append(each)
        return attributes

    def leaves(self, prefix, targets, count=3, negative=True, only=None):
        rng = np.random.default_rng(6)
        rows = [(t, i, c) for t in range(count) for i in range(3, 7) for c in ([only] if only is not None else range(targets))]
        weights = rng.normal(size=len(rows)) if negative else rng.random(len(rows)) / count
        columns = zip(*rows, strict=True)
        names = (f"{prefix}_treeids", f"{prefix}_nodeids", f"{prefix}_ids")
        return {**{name: list(column) for name, column in zip(names, columns, strict=True)}, f"{prefix}_weights": weights.tolist()}

    def test_tree_regressors(self):
        for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
            with self.subTest(aggregate):
                self.check("TreeEnsembleRegressor", [(FLOAT, [50, 2])], rows=50, n_targets=2, aggregate_function=aggregate,
                           **self.trees(), **self.leaves("target", 2))  # fmt: skip
        self.check("TreeEnsembleRegressor", [(FLOAT, [50, 1])], rows=50, n_targets=1, base_values=[0.5], **self.trees(("BRANCH_LT", "BRANCH_GT", "BRANCH_GTE")),
                   **self.leaves("target", 1))  # fmt: skip

    def test_tree_classifiers(self):
        for transform in ("NONE", "SOFTMAX", "LOGISTIC"):
            with self.subTest(transform):
                self.check("TreeEnsembleClassifier", [(INT64, [50]), (FLOAT, [50, 3])], rows=50, classlabels_int64s=[2, 4, 8], post_transform=transform,
                           **self.trees(), **self.leaves("class", 3))  # fmt: skip
        for negative in (False, True):
            for transform in ("NONE", "LOGISTIC"):
                with self.subTest(transform, negative=negative):
                    self.check("TreeEnsembleClassifier", [(INT64, [50]), (FLOAT, [50, 2])], rows=50, classlabels_int64s=[0, 1], post_transform=transform,
                               **self.trees(), **self.leaves("class", 2, negative=negative, only=0))  # fmt: skip

    def test_tables_of_labels(self):
        numbers = np.array([3, np.nan, 4], np.float32)
        for opset, keys, values, default, x in (
            (2, {"keys_int64s": [3, 1, 7]}, {"values_floats": [0.5, 1.5, 2.5]}, {"default_float": 9.0}, np.array([[1, 2], [7, 3]])),
            (3, {"keys_int64s": [3, 1, 7]}, {"values_int64s": [10, 20, 30]}, {}, np.array([[1, 2], [7, 3]])),
            (2, {"keys_floats": [3.0, float("nan")]}, {"values_int64s": [10, 20]}, {"default_int64": 5}, numbers),
            (4, {"keys_floats": [3.0, float("nan")]}, {"values_int64s": [10, 20]}, {"default_int64": 5}, numbers),
        ):
            with self.subTest(keys, opset=opset):
                made = helper.make_node("LabelEncoder", ["x"], ["y"], "node", domain="ai.onnx.ml", **keys, **values, **default)
                types = [FLOAT if x.dtype == np.float32 else INT64, FLOAT if "values_floats" in values else INT64]
                model = make_model([made], [value("x", types[0], x.shape)], [value("y", types[1], x.shape)], opsets=[("ai.onnx.ml", opset)])
                self.agree(model, [{"x": x}])

    def vectors(self, classes, features=4):
        """Attributes of a classifier with 2, 3, ... support vectors for its classes."""
        rng = np.random.default_rng(9)
        of_class = [2 + i for i in range(classes)]
        count, pairs = sum(of_class), classes * (classes - 1) // 2
        return {
            "classlabels_ints": [5, 3, 9, 4][:classes], "vectors_per_class": of_class, "kernel_params": [0.3, 0.2, 2.0],
            "support_vectors": rng.normal(size=count * features).tolist(), "rho": rng.normal(size=pairs).tolist(),
            "coefficients": rng.normal(size=(classes - 1) * count).tolist(),
        }, {"prob_a": rng.normal(size=pairs).tolist(), "prob_b": rng.normal(size=pairs).tolist()}  # fmt: skip

    def test_support_vector_classifiers(self):
        for classes in (2, 4):
            attributes, curves = self.vectors(classes)
            columns = 2 if classes == 2 else classes * (classes - 1) // 2
            for kernel, transform in (("LINEAR", "NONE"), ("POLY", "LOGISTIC"), ("RBF", "SOFTMAX"), ("SIGMOID", "NONE")):
                with self.subTest(kernel, classes=classes):
                    self.check("SVMClassifier", [(INT64, [30]), (FLOAT, [30, columns])], rows=30, kernel_type=kernel, post_transform=transform,
                               **attributes)  # fmt: skip
            with self.subTest("probabilities", classes=classes):
                self.check("SVMClassifier", [(INT64, [30]), (FLOAT, [30, classes])], rows=30, kernel_type="RBF", **attributes, **curves)

    def test_linear_support_vector_classifiers(self):
        for classes in (2, 3):
            with self.subTest(classes=classes):
                self.check("SVMClassifier", [(INT64, [30]), (FLOAT, [30, classes])], rows=30, classlabels_ints=list(range(classes)),
                           coefficients=random(classes * 4, seed=2).tolist(), rho=[0.1], kernel_type="LINEAR", kernel_params=[0.0, 0.0, 3.0])  # fmt: skip

    def test_support_vector_regressors(self):
        attributes = {"support_vectors": random(12, seed=2).tolist(), "coefficients": [0.5, -1.0, 2.0], "rho": [0.3], "n_supports": 3}
        for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID"):
            for one_class in (0, 1):
                with self.subTest(kernel, one_class=one_class):
                    self.check("SVMRegressor", [(FLOAT, [30, 1])], rows=30, kernel_type=kernel, kernel_params=[0.3, 0.2, 3.0], one_class=one_class,
                               **attributes)  # fmt: skip
        self.check("SVMRegressor", [(FLOAT, [7, 1])], coefficients=[0.5, 1.0, -2.0, 0.1], rho=[0.3], kernel_type="LINEAR", kernel_params=[0.0, 0.0, 3.0])

    def test_labels_that_are_strings_are_refused(self):
        made = helper.make_node("LinearClassifier", ["x"], ["y", "z"], "node", domain="ai.onnx.ml", coefficients=[1.0, 2.0, 3.0, 4.0],
                                intercepts=[0.0, 0.0], classlabels_strings=["cat", "dog"])  # fmt: skip
        model = make_model([made], [value("x", FLOAT, [1, 2])], [value("y", TensorProto.STRING, [1]), value("z", FLOAT, [1, 2])],
                           opsets=[("ai.onnx.ml", 1)])  # fmt: skip
        onnx.checker.check_model(model)
        self.call("build", self.save("net.onnx", model), "-o", self.folder / "p", code=BAD_INPUT, says="strings")


if __name__ == "__main__":
    main()
