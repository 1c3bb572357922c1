# SPDX-License-Identifier: Apache-2.0
"""If, Loop, Scan, extents that only a run knows, states and golden vectors, against ONNX Runtime."""

import unittest

import numpy as np
import onnx
from edgert_command import BAD_INPUT, USAGE, AgainstReference, CommandTest, float_tensor, main, make_model, value
from onnx import TensorProto, helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, outputs[0] if outputs[0] else op, **attributes)


def graph(nodes, inputs, outputs, initializers=()):
    return helper.make_graph(nodes, "body", inputs, outputs, initializers)


def int64(name, values):
    return onnx.numpy_helper.from_array(np.asarray(values, np.int64), name)


def floats(name, dims):
    return value(name, FLOAT, dims)


def random(*dims, seed=1):
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


class If(AgainstReference):
    def test_both_branches_with_captures_and_layers(self):
        weights = float_tensor("w", random(4, 3, 3, 3, seed=2))
        then = graph(
            [
                node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
                node("Relu", ["c"], ["r"]),
                node("ReduceMean", ["r"], ["a"], axes=[2, 3], keepdims=0),
            ],
            [],
            [floats("a", [1, 4])],
            [weights],
        )
        otherwise = graph(
            [node("Slice", ["flat", "zero", "four", "one"], ["s"]), node("Mul", ["s", "s"], ["b"])],
            [],
            [floats("b", [1, 4])],
        )
        model = make_model(
            [
                node("Reshape", ["x", "shape"], ["flat"]),
                node("If", ["cond"], ["y"], then_branch=then, else_branch=otherwise),
                node("Add", ["y", "y"], ["z"]),
            ],
            [value("cond", BOOL, []), floats("x", [1, 3, 6, 6])],
            [floats("z", [1, 4])],
            [int64("shape", [1, 108]), int64("zero", [0]), int64("four", [4]), int64("one", [1])],
        )
        self.agree(model, [{"cond": np.array(c), "x": random(1, 3, 6, 6)} for c in (True, False)])

    def test_branches_of_different_extents(self):
        then = graph([node("Relu", ["x"], ["a"])], [], [floats("a", [5, 2])])
        otherwise = graph([node("Slice", ["x", "one", "three"], ["b"])], [], [floats("b", [2, 2])])
        model = make_model(
            [
                node("If", ["cond"], ["y"], then_branch=then, else_branch=otherwise),
                node("ReduceSum", ["y"], ["s"]),
                node("Shape", ["y"], ["n"]),
                node("Neg", ["y"], ["negated"]),
            ],
            [value("cond", BOOL, [1]), floats("x", [5, 2])],
            [floats("negated", ["n", 2]), floats("s", [1, 1]), value("n", INT64, [2])],
            [int64("one", [1]), int64("three", [3])],
        )
        self.agree(model, [{"cond": np.array([c]), "x": random(5, 2)} for c in (True, False)])

    def test_a_branch_that_passes_on_and_one_that_is_constant(self):
        then = graph([node("Identity", ["x"], ["a"])], [], [floats("a", [3])])
        otherwise = graph(
            [helper.make_node("Constant", [], ["b"], value=float_tensor("v", [1, 2, 3]))], [], [floats("b", [3])]
        )
        model = make_model(
            [node("If", ["cond"], ["y"], then_branch=then, else_branch=otherwise)],
            [value("cond", BOOL, []), floats("x", [3])],
            [floats("y", [3])],
        )
        self.agree(model, [{"cond": np.array(c), "x": random(3)} for c in (True, False)])

    def test_branches_that_do_not_agree_are_refused(self):
        then = graph([node("Relu", ["x"], ["a"])], [], [floats("a", [2, 5])])
        otherwise = graph([node("Transpose", ["x"], ["b"])], [], [floats("b", [5, 2])])
        model = make_model(
            [node("If", ["cond"], ["y"], then_branch=then, else_branch=otherwise)],
            [value("cond", BOOL, []), floats("x", [2, 5])],
            [floats("y", None)],
        )
        path = self.save("net.onnx", model)
        self.call("build", path, "-o", self.folder / "p", code=BAD_INPUT, says="only the first extent may differ")


def counting_loop(condition, trip="trips", body_nodes=(), scan_dims=("turns", 3)):
    """x' = x * w + i each turn; collects x; goes on while sum(x) < limit when `condition`."""
    nodes = [
        node("MatMul", ["x_in", "w"], ["product"]),
        node("Cast", ["i"], ["turn"], to=FLOAT),
        node("Add", ["product", "turn"], ["x_out"]),
        node("ReduceSum", ["x_out"], ["sum"], keepdims=0),
        node("Less", ["sum", "limit"], ["go"]) if condition else node("Identity", ["go_in"], ["go"]),
        node("Identity", ["x_out"], ["collected"]),
        *body_nodes,
    ]
    body = graph(
        nodes,
        [value("i", INT64, []), value("go_in", BOOL, []), floats("x_in", [1, 3])],
        [value("go", BOOL, []), floats("x_out", [1, 3]), floats("collected", [1, 3])],
    )
    return make_model(
        [
            node("Loop", [trip, "", "x"], ["last", "all"], body=body),
            node("ReduceSum", ["all", "first_axis"], ["total"], keepdims=0),
        ],
        [value("trips", INT64, []), floats("x", [1, 3]), floats("limit", [])],
        [floats("last", [1, 3]), floats("all", [scan_dims[0], 1, 3]), floats("total", [1, 3])],
        [float_tensor("w", np.eye(3) * 1.25 + 0.125), int64("first_axis", [0])],
    )


class Loop(AgainstReference):
    def cases(self, *trips, limit=1e9):
        return [
            {"trips": np.array(t, np.int64), "x": random(1, 3), "limit": np.array(limit, np.float32)} for t in trips
        ]

    def test_a_trip_count_of_the_run(self):
        self.agree(counting_loop(False), self.cases(0, 1, 5, 12), "--most-turns", "12")

    def test_a_condition_ends_it(self):
        self.agree(counting_loop(True), [*self.cases(50, limit=10), *self.cases(50, limit=1000)], "--most-turns", "50")
        figures = self.call_json("bench", self.folder / "net.plan", "--iterations", "20", "--warmup", "0")
        self.assertIn(figures["allocations_after_prepare"], (0, None))

    def test_a_constant_trip_count_is_unrolled_or_not(self):
        for trips in (3, 100):
            with self.subTest(trips):
                model = counting_loop(False, trip="count", scan_dims=(trips, 3))
                model.graph.initializer.append(int64("count", trips))
                del model.graph.input[0]
                case = {"x": random(1, 3) / 1e3, "limit": np.array(0, np.float32)}
                self.agree(model, [case], tolerance=1e-4)
                text = self.call("inspect", self.folder / "net.plan")
                self.assertEqual("Loop" in text.replace("(Loop)", ""), trips == 100, text)

    def test_the_declared_shape_bounds_it(self):
        model = counting_loop(False, scan_dims=(6, 3))
        self.agree(model, self.cases(2, 6))
        npz = self.save_npz("in.npz", **self.cases(7)[0])
        self.call("run", self.folder / "net.plan", "--inputs", npz, code=BAD_INPUT, says="ExtentMismatch")

    def test_without_a_bound_it_is_refused(self):
        path = self.save("net.onnx", counting_loop(False))
        self.call("build", path, "-o", self.folder / "p", code=BAD_INPUT, says=["--most-turns", "--value"])

    def test_a_while_loop_that_only_carries(self):
        body = graph(
            [
                node("Add", ["a", "b"], ["next"]),
                node("Identity", ["b"], ["a_out"]),
                node("Less", ["next", "limit"], ["go"]),
            ],
            [value("i", INT64, []), value("go_in", BOOL, []), floats("a", [1]), floats("b", [1])],
            [value("go", BOOL, [1]), floats("a_out", [1]), floats("next", [1])],
        )
        model = make_model(
            [node("Loop", ["", "start", "x", "y"], ["p", "q"], body=body)],
            [value("start", BOOL, []), floats("x", [1]), floats("y", [1]), floats("limit", [1])],
            [floats("p", [1]), floats("q", [1])],
        )
        one = np.ones(1, np.float32)
        self.agree(
            model,
            [
                {"start": np.array(start), "x": one, "y": one, "limit": np.float32([limit])}
                for start, limit in ((True, 50), (True, 0), (False, 50))
            ],
        )

    def test_an_if_inside_of_a_loop_inside_of_an_if(self):
        pick = [
            node("Greater", ["x_out", "zero"], ["positive"]),
            node("Cast", ["positive"], ["as_float"], to=FLOAT),
            node("ReduceMax", ["as_float"], ["any_float"], keepdims=0),
            node("Cast", ["any_float"], ["any"], to=BOOL),
            node(
                "If",
                ["any"],
                ["picked"],
                then_branch=graph([node("Sqrt", ["limit"], ["t"])], [], [floats("t", [])]),
                else_branch=graph([node("Add", ["x_in", "turn"], ["e3"]), node("ReduceMin", ["e3"], ["e"], keepdims=0)], [], [floats("e", [])]),
            ),
        ]
        inner = counting_loop(True, body_nodes=pick)
        loop = inner.graph.node[0]
        body = loop.attribute[0].g
        body.output.append(floats("picked", []))
        loop.output.append("all_picked")
        then = graph(
            [*inner.graph.node, node("ReduceSum", ["all_picked"], ["t2"], keepdims=0), node("Add", ["total", "t2"], ["a"])],
            [],
            [floats("a", [1, 3])],
        )
        otherwise = graph([node("Neg", ["x"], ["b"])], [], [floats("b", [1, 3])])
        model = make_model(
            [node("If", ["cond"], ["y"], then_branch=then, else_branch=otherwise)],
            [*inner.graph.input, value("cond", BOOL, [])],
            [floats("y", [1, 3])],
            [*inner.graph.initializer, float_tensor("zero", 0)],
        )
        cases = [{**case, "cond": np.array(c)} for case in self.cases(9, limit=20) for c in (True, False)]
        self.agree(model, [*cases, {**cases[0], "x": -random(1, 3)}], "--most-turns", "9", tolerance=1e-4)


class Scan(AgainstReference):
    def scan_model(self, length, directions):
        body = graph(
            [
                node("Mul", ["state", "decay"], ["d"]),
                node("Add", ["d", "a"], ["state_out"]),
                node("Sub", ["state_out", "b"], ["out"]),
            ],
            [floats("state", [2]), floats("a", [2]), floats("b", [2])],
            [floats("state_out", [2]), floats("out", [2])],
        )
        return make_model(
            [
                node(
                    "Scan",
                    ["s", "x", "z"],
                    ["last", "y"],
                    body=body,
                    num_scan_inputs=2,
                    scan_input_axes=[1, 0],
                    scan_input_directions=[0, 1],
                    scan_output_axes=[1],
                    scan_output_directions=[directions],
                )
            ],
            [floats("s", [2]), floats("x", [2, length]), floats("z", [length, 2])],
            [floats("last", [2]), floats("y", [2, length])],
            [float_tensor("decay", 0.5)],
        )

    def test_axes_and_directions(self):
        for length in (4, 200):
            for directions in (0, 1):
                with self.subTest(length=length, directions=directions):
                    case = {"s": random(2), "x": random(2, length), "z": random(length, 2, seed=3)}
                    self.agree(self.scan_model(length, directions), [case])


class Extents(AgainstReference):
    def test_what_follows_nonzero(self):
        model = make_model(
            [
                node("Greater", ["x", "zero"], ["positive"]),
                node("NonZero", ["positive"], ["where"]),
                node("Transpose", ["where"], ["rows"]),
                node("Squeeze", ["where", "first"], ["flat"]),
                node("Gather", ["x", "flat"], ["picked"]),
                node("Mul", ["picked", "scale"], ["scaled"]),
                node("ReduceMean", ["scaled"], ["mean"], keepdims=1),
                node("Sub", ["scaled", "mean"], ["centered"]),
                node("Softmax", ["scaled"], ["soft"], axis=0),
                node("Size", ["picked"], ["size"]),
                node("Shape", ["rows"], ["shape"]),
                node("Cast", ["flat"], ["as_float"], to=FLOAT),
            ],
            [floats("x", [50])],
            [
                value("rows", INT64, ["n", 1]),
                floats("centered", ["n"]),
                floats("soft", ["n"]),
                value("size", INT64, []),
                value("shape", INT64, [2]),
                floats("as_float", ["n"]),
            ],
            [float_tensor("zero", 0), float_tensor("scale", 3), int64("first", [0])],
        )
        cases = [{"x": random(50, seed=s)} for s in range(3)]
        self.agree(model, [*cases, {"x": np.ones(50, np.float32)}, {"x": np.eye(1, 50, 7, dtype=np.float32)[0]}])

    def test_coordinates_of_a_matrix(self):
        model = make_model(
            [node("NonZero", ["x"], ["where"]), node("Add", ["where", "one"], ["y"])],
            [floats("x", [4, 5])],
            [value("y", INT64, [2, "n"])],
            [int64("one", [1])],
        )
        self.agree(model, [{"x": (random(4, 5) > limit).astype(np.float32)} for limit in (-9, 0, 1, 9)])

    def test_detections(self):
        model = make_model(
            [
                node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "threshold"], ["selected"]),
                node("Gather", ["selected", "two"], ["index"], axis=1),
                node("Reshape", ["boxes", "flat"], ["rows"]),
                node("Gather", ["rows", "index"], ["kept"], axis=0),
            ],
            [floats("boxes", [1, 40, 4]), floats("scores", [1, 3, 40])],
            [value("selected", INT64, ["n", 3]), floats("kept", ["n", 4])],
            [
                int64("most", [7]),
                float_tensor("iou", [0.4]),
                float_tensor("threshold", [0.2]),
                int64("two", 2),
                int64("flat", [40, 4]),
            ],
        )
        rng = np.random.default_rng(5)
        corner = rng.uniform(0, 1, (1, 40, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.6, (1, 40, 2))], 2).astype(np.float32)
        scores = rng.uniform(0, 1, (1, 3, 40)).astype(np.float32)
        self.agree(model, [{"boxes": boxes, "scores": s} for s in (scores, scores / 4, scores * 0)])

    def test_compress_and_unique(self):
        model = make_model(
            [
                node("Greater", ["x", "zero"], ["positive"]),
                node("Cast", ["positive"], ["as_float"], to=FLOAT),
                node("ReduceMax", ["as_float"], ["most"], axes=[1], keepdims=0),
                node("Cast", ["most"], ["rows"], to=BOOL),
                node("Compress", ["x", "rows"], ["kept"], axis=0),
                node("Round", ["kept"], ["rounded"]),
                node("Round", ["x"], ["all"]),
                node("Unique", ["all"], ["u", "first", "inverse", "counts"]),
            ],
            [floats("x", [6, 3])],
            [
                floats("rounded", ["n", 3]),
                floats("u", ["m"]),
                value("first", INT64, ["m"]),
                value("inverse", INT64, [18]),
                value("counts", INT64, ["m"]),
            ],
            [float_tensor("zero", 1)],
        )
        self.agree(model, [{"x": random(6, 3, seed=s)} for s in range(3)])

    def test_what_cannot_take_such_an_operand_says_so(self):
        def model(last, extra=()):
            return make_model(
                [node("NonZero", ["x"], ["where"]), last],
                [floats("x", [9])],
                [value(last.output[0], last.op_type == "Cast" and FLOAT or INT64, None)],
                extra,
            )

        for last, extra, says in (
            (node("Slice", ["where", "b", "e", "axis", "step"], ["y"]),
             (int64("b", [5]), int64("e", [0]), int64("axis", [1]), int64("step", [-1])), "reverses"),
            (node("Add", ["where", "nine"], ["y"]), (int64("nine", range(9)),), "known only at run time"),
            (node("Tile", ["where", "two"], ["y"]), (int64("two", [1, 2]),), "does not take"),
        ):
            with self.subTest(last.op_type):
                path = self.save("net.onnx", model(last, extra))
                self.call("build", path, "-o", self.folder / "p", code=BAD_INPUT, says=[last.op_type, says])


class State(CommandTest):
    def model(self, default=False):
        nodes = [
            node("Add", ["past", "x"], ["present"]),
            node("MatMul", ["present", "w"], ["y"]),
        ]
        inputs = [floats("x", [1, 3]), floats("past", [1, 3])]
        initializers = [float_tensor("w", np.arange(9).reshape(3, 3))]
        if default:
            initializers.append(float_tensor("past", [[10, 20, 30]]))
        return make_model(nodes, inputs, [floats("y", [1, 3]), floats("present", [1, 3])], initializers)

    def test_it_lives_from_run_to_run(self):
        for default in (False, True):
            with self.subTest(default=default):
                plan = self.build(self.save("net.onnx", self.model(default)), "p", "--state", "past=present")
                self.call("inspect", plan, says=["state: past, 12 bytes", "the model" if default else "zeros"])
                x = np.array([[1, 2, 4]], np.float32)
                npz = self.save_npz("in.npz", x=x)
                for runs in (1, 2, 5):
                    out = self.folder / "out.npz"
                    self.call("run", plan, "--inputs", npz, "--outputs", out, "--repeat", runs)
                    outputs = np.load(out)
                    self.assertEqual(outputs.files, ["y"])
                    start = np.array([[10, 20, 30]]) if default else 0
                    expected = (start + runs * x) @ np.arange(9).reshape(3, 3)
                    np.testing.assert_array_equal(outputs["y"], expected)

    def test_two_states_that_swap(self):
        model = make_model(
            [node("Identity", ["b"], ["a_next"]), node("Add", ["a", "x"], ["b_next"]), node("Sub", ["a", "b"], ["y"])],
            [floats("x", [2]), floats("a", [2]), floats("b", [2])],
            [floats("y", [2]), floats("a_next", [2]), floats("b_next", [2])],
        )
        plan = self.build(self.save("net.onnx", model), "p", "--state", "a=a_next", "--state", "b=b_next")
        x = np.array([1, 3], np.float32)
        a, b = np.zeros(2), np.zeros(2)
        for runs in range(1, 6):
            y, a, b = a - b, b, a + x
            npz = self.save_npz("in.npz", x=x)
            self.call("run", plan, "--inputs", npz, "--outputs", self.folder / "out.npz", "--repeat", runs)
            np.testing.assert_array_equal(np.load(self.folder / "out.npz")["y"], y)

    def test_refused(self):
        path = self.save("net.onnx", self.model())
        for arguments, code, says in (
            (["--state", "past"], USAGE, "input=output"),
            (["--state", "past=y2"], BAD_INPUT, "y2"),
            (["--state", "pst=present"], BAD_INPUT, "pst"),
            (["--state", "past=present", "--state", "past=y"], BAD_INPUT, "past"),
        ):
            with self.subTest(arguments):
                self.call("build", path, "-o", self.folder / "p", *arguments, code=code, says=says)


class Golden(CommandTest):
    def model(self):
        nodes = [node("MatMul", ["x", "w"], ["y"]), node("NonZero", ["y"], ["n"])]
        return make_model(
            nodes,
            [floats("x", ["batch", 3])],
            [floats("y", ["batch", 2]), value("n", INT64, [2, "n"])],
            [float_tensor("w", random(3, 2))],
        )

    def test_passes_and_notices_changes(self):
        path = self.save("net.onnx", self.model())
        npz = self.save_npz("in.npz", x=np.eye(2, 3, dtype=np.float32))
        shapes = ["--shape", "x=2x3:4x3"]
        plan = self.build(path, "p", *shapes, "--golden", npz, "--golden-seed", "1", "--golden-seed", "2")
        self.call("run", plan, "--self-test", says="5 golden vectors passed")
        self.call("run", plan, "--self-test", "--threads", "2", says="passed")
        # The same bytes again, and none of this without being asked.
        again = self.build(path, "again", *shapes, "--golden", npz, "--golden-seed", "1", "--golden-seed", "2")
        self.assertEqual(plan.read_bytes(), again.read_bytes())
        self.call("run", self.build(path, "q", *shapes), "--self-test", code=BAD_INPUT, says="--golden")

    def test_refused(self):
        path = self.save("net.onnx", self.model())
        for arrays, says in (({"z": np.zeros(3)}, "x f32[1,3]"), ({"x": np.zeros((5, 3), np.float32)}, "x f32[1,3]")):
            npz = self.save_npz("in.npz", **arrays)
            self.call("build", path, "-o", self.folder / "p", "--golden", npz, code=BAD_INPUT, says=says)
        self.call("run", "p", "--self-test", "--inputs", "in.npz", code=USAGE, says="--self-test")


if __name__ == "__main__":
    unittest.TestCase.maxDiff = None
    main()
