# SPDX-License-Identifier: Apache-2.0
"""The commands that take a plan: what each does, and what it says and returns when it can't."""

import json
import struct
import sys

import numpy as np
from edgert_command import (
    BAD_INPUT,
    COMPARISON_FAILED,
    IO,
    MODELS,
    USAGE,
    CommandTest,
    conv_net,
    float_tensor,
    main,
    make_model,
    reference,
    relative_to_max,
    two_inputs,
    value,
)
from onnx import TensorProto, helper

DIGITS = MODELS / "digits_resnet.onnx"


class Plans(CommandTest):
    """Files given as plans."""

    def test_damaged_plans_are_refused(self):
        plan = self.build(self.save("net.onnx", conv_net())).read_bytes()

        def changed(offset):
            copy = bytearray(plan)
            copy[offset] ^= 0x10
            return bytes(copy)

        for name, content in (
            ("short.plan", plan[:-1]),
            ("half.plan", plan[: len(plan) // 2]),
            ("header.plan", plan[:40]),
            ("long.plan", plan + b"\0"),
            ("flipped.plan", changed(len(plan) // 2)),
            ("last.plan", changed(len(plan) - 1)),
            ("length.plan", changed(16)),
            ("empty.plan", b""),
            ("text.plan", b"not a plan at all\n" * 20),
        ):
            path = self.folder / name
            path.write_bytes(content)
            for command in ("run", "bench"):
                with self.subTest(name, command=command):
                    self.call(command, path, code=BAD_INPUT, says=[name, "plan refused"])
            with self.subTest(name, command="compare"):
                self.call("compare", path, DIGITS, code=BAD_INPUT, says=name)
            with self.subTest(name, command="inspect"):
                self.call("inspect", path, code=BAD_INPUT, says=name)

    def test_a_plan_of_another_version(self):
        plan = bytearray(self.build(self.save("net.onnx", conv_net())).read_bytes())
        struct.pack_into("<H", plan, 8, 77)
        struct.pack_into("<I", plan, 60, crc32c(plan[:60]))
        path = self.folder / "future.plan"
        path.write_bytes(plan)
        self.call("run", path, code=BAD_INPUT, says=["future.plan", "format 77.1", "reads 1."])

    def test_plans_that_cannot_be_read(self):
        for command in ("run", "bench", "inspect"):
            self.call(command, self.folder / "none.plan", code=IO, says="none.plan")
            self.call(command, self.folder, code=IO, says=str(self.folder))
        self.call("compare", self.folder / "none.plan", DIGITS, code=IO, says="none.plan")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Run(CommandTest):
    def test_arrays(self):
        model = self.save("net.onnx", conv_net())
        plan = self.build(model)
        image = np.random.default_rng(3).standard_normal((1, 3, 8, 8), np.float32)
        self.call(
            "run",
            plan,
            "--inputs",
            self.save_npz("in.npz", image=image),
            "--outputs",
            self.folder / "out.npz",
            says="features: f32[1,4,1,1]",
        )
        with np.load(self.folder / "out.npz") as out:
            self.assertEqual(out.files, ["features"])
            self.assertLess(relative_to_max(out["features"], reference(model, {"image": image})["features"]), 1e-5)

    def test_sums_of_an_operand_and_its_product(self):
        """The product reads its operand to the end, so that the sum must not be written over it on the way."""
        rng = np.random.default_rng(4)
        nodes = [
            helper.make_node("Relu", ["image"], ["a"]),
            helper.make_node("Conv", ["a", "w"], ["b"], pads=[1, 1, 1, 1]),
            helper.make_node("Sigmoid", ["b"], ["c"]),
            helper.make_node("Add", ["c", "a"], ["d"]),
            helper.make_node("Relu", ["d"], ["e"]),
            helper.make_node("MatMul", ["e", "m"], ["f"]),
            helper.make_node("Add", ["e", "f"], ["sum"]),
        ]
        weights = [float_tensor("w", rng.standard_normal((8, 8, 3, 3))), float_tensor("m", rng.standard_normal((9, 9)))]
        shape = [1, 8, 9, 9]
        tensors = [value(name, TensorProto.FLOAT, shape) for name in ("image", "sum")]
        model = self.save("sums.onnx", make_model(nodes, tensors[:1], tensors[1:], weights))
        plan = self.build(model)
        image = rng.standard_normal(shape, np.float32)
        inputs = self.save_npz("in.npz", image=image)
        self.call("run", plan, "--inputs", inputs, "--outputs", self.folder / "out.npz")
        with np.load(self.folder / "out.npz") as out:
            self.assertLess(relative_to_max(out["sum"], reference(model, {"image": image})["sum"]), 1e-5)

    def test_fortran_order_and_compressed_archives(self):
        plan = self.build(self.save("two.onnx", two_inputs()), "p.plan", "--dim", "N=4")
        a, b = np.random.default_rng(3).standard_normal((2, 4, 3), np.float32)
        np.savez_compressed(self.folder / "in.npz", a=np.asfortranarray(a), b=b)
        self.call("run", plan, "--inputs", self.folder / "in.npz", "--outputs", self.folder / "out.npz")
        with np.load(self.folder / "out.npz") as out:
            np.testing.assert_array_equal(out["sum"], a + b)

    def test_batches(self):
        plan = self.build(self.save("two.onnx", two_inputs()), "p.plan", "--dim", "N=2")
        a, b = np.random.default_rng(3).standard_normal((2, 6, 3), np.float32)
        self.call("run", plan, "--inputs", self.save_npz("in.npz", a=a, b=b), "--outputs", self.folder / "out.npz")
        with np.load(self.folder / "out.npz") as out:
            np.testing.assert_array_equal(out["sum"], a + b)

    def test_random_inputs_are_the_same_for_a_seed(self):
        plan = self.build(self.save("net.onnx", conv_net()))
        runs = [
            self.call("run", plan, "--random", seed, "--repeat", repeat, "--threads", threads)
            for seed, repeat, threads in ((7, 1, 1), (7, 3, 2), (8, 1, 1))
        ]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_wrong_arrays(self):
        plan = self.build(self.save("two.onnx", two_inputs()), "p.plan", "--dim", "N=2")
        good = np.zeros((2, 3), np.float32)
        for arrays, says in (
            ({"a": good}, "'b'"),
            ({}, "'a'"),
            ({"a": good, "b": good, "c": good}, "'c'"),
            ({"a": good, "b": good, "c": np.float32(1)}, "'c'"),
            ({"a": np.zeros((4, 3), np.float32), "b": np.zeros((4, 3), np.float32), "c": np.float32(1)}, "'c'"),
            ({"A": good, "b": good}, "'a'"),
            ({"a": good.astype(np.float64), "b": good}, ["'a'", "f32", "f64"]),
            ({"a": good.astype(np.int32), "b": good}, ["'a'", "i32"]),
            ({"a": good, "b": np.zeros((3, 3), np.float32)}, "b=[3,3]"),
            ({"a": good, "b": np.zeros((2, 4), np.float32)}, "b=[2,4]"),
            ({"a": good, "b": np.zeros(6, np.float32)}, "b=[6]"),
            ({"a": good, "b": np.float32(0)}, "b=[]"),
            ({"a": good, "b": np.zeros((1,) * 9, np.float32)}, "'b'"),
            ({"a": good, "b": np.zeros((0, 3), np.float32)}, "b=[0,3]"),
            ({"a": good, "b": good.astype(np.complex64)}, "b"),
        ):
            with self.subTest({name: (array.shape, array.dtype.name) for name, array in arrays.items()}):
                self.call("run", plan, "--inputs", self.save_npz("in.npz", **arrays), code=BAD_INPUT, says=says)

    def test_archives_that_are_none(self):
        plan = self.build(self.save("net.onnx", conv_net()))
        whole = self.save_npz("whole.npz", image=np.zeros((1, 3, 8, 8), np.float32)).read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for name, content in (
            ("empty.npz", b""),
            ("text.npz", b"image,1,2,3\n"),
            ("short.npz", whole[:-30]),
            ("half.npz", whole[: len(whole) // 2]),
            ("flipped.npz", bytes(flipped)),
        ):
            with self.subTest(name):
                (self.folder / name).write_bytes(content)
                self.call("run", plan, "--inputs", self.folder / name, code=BAD_INPUT, says=name)
        self.call("run", plan, "--inputs", self.folder / "none.npz", code=IO, says="none.npz")
        self.call("run", plan, "--inputs", self.folder, code=IO, says=str(self.folder))

    def test_outputs_that_cannot_be_written(self):
        plan = self.build(self.save("net.onnx", conv_net()))
        self.call("run", plan, "--outputs", "/dev/full", code=IO, says="/dev/full")
        self.call("run", plan, "--outputs", self.folder / "no" / "out.npz", code=IO, says="out.npz")

    def test_pictures(self):
        plan = self.build(DIGITS, "digits.plan", "--shape", "image=1x1x8x8:2x1x8x8")
        for name in ("digit_3.png", "digit_3.pgm"):
            self.assertRegex(self.call("run", plan, "--image", MODELS / name).splitlines()[0], r"^ *\d+\.\d+ %  3$")
        self.call("run", plan, "--image", self.folder / "none.png", code=IO, says="none.png")
        (self.folder / "text.png").write_text("no picture")
        self.call("run", plan, "--image", self.folder / "text.png", code=BAD_INPUT, says="text.png")
        whole = (MODELS / "digit_3.png").read_bytes()
        (self.folder / "short.png").write_bytes(whole[: len(whole) // 2])
        self.call("run", plan, "--image", self.folder / "short.png", code=BAD_INPUT, says="short.png")
        two = self.build(self.save("two.onnx", two_inputs()), "two.plan", "--dim", "N=1")
        self.call("run", two, "--image", MODELS / "digit_3.png", code=BAD_INPUT, says="--image needs")

    def test_metadata_that_makes_no_sense(self):
        for key, text in (
            ("edgert.image.color", "purple"),
            ("edgert.image.color", "bgr"),
            ("edgert.image.mean", "a"),
            ("edgert.image.mean", "1,2"),
            ("edgert.image.std", "0"),
            ("edgert.image.mean", "1x"),
            ("edgert.image.resize", "fold"),
            ("edgert.image.scale", "big"),
            ("edgert.task", "sing"),
        ):
            with self.subTest(key, text=text):
                plan = self.build(DIGITS, "digits.plan", "--meta", f"{key}={text}")
                self.call(
                    "run",
                    plan,
                    "--image",
                    MODELS / "digit_3.png",
                    code=BAD_INPUT,
                    says=[key, text.split(",")[0]] if "," not in text else key,
                )

    def test_labels(self):
        plan = self.build(DIGITS)
        self.call("run", plan, "--inputs", MODELS / "digits_test.npz", "--labels", "label", says="accuracy: 0.99")
        self.call(
            "run", plan, "--inputs", MODELS / "digits_test.npz", "--labels", "truth", code=BAD_INPUT, says="'truth'"
        )
        self.call("run", plan, "--inputs", MODELS / "digits_test.npz", code=BAD_INPUT, says="'label'")
        wrong = self.save_npz("in.npz", image=np.zeros((2, 1, 8, 8), np.float32), label=np.zeros(3, np.int64))
        self.call("run", plan, "--inputs", wrong, "--labels", "label", code=BAD_INPUT, says="'label'")


class Bench(CommandTest):
    def test_json(self):
        plan = self.build(DIGITS)
        for threads in (1, 2):
            report = self.call_json("bench", plan, "--threads", threads, "--warmup", 0.01, "--iterations", 20)
            self.assertEqual(set(report["latency_us"]), {"median", "p90", "p99", "min", "p99_over_median"})
            latency = report["latency_us"]
            self.assertTrue(0 < latency["min"] <= latency["median"] <= latency["p90"] <= latency["p99"], latency)
            self.assertEqual(report["allocations_after_prepare"], 0)
            self.assertEqual(report["threads"], threads)
            self.assertEqual(report["plan_bytes"], plan.stat().st_size)
            self.assertEqual(report["iterations"], 20)
            self.assertGreater(report["arena_bytes"], 0)
            self.assertGreater(report["throughput_per_s"], 0)
            self.assertTrue(report["device"])
        report = self.call_json("bench", plan, "--warmup", 0, "--duration", 0.05)
        self.assertGreater(report["iterations"], 0)

    def test_text(self):
        self.call(
            "bench",
            self.build(DIGITS),
            "--warmup",
            0,
            "--iterations",
            5,
            says=["median", "p99", "allocations after prepare: 0"],
        )

    def test_inputs(self):
        """Random indices need not lie inside the table; given ones do, and choose the profile."""
        nodes = [helper.make_node("Gather", ["table", "index"], ["y"])]
        model = make_model(
            nodes,
            [value("index", TensorProto.INT64, ["N", 40])],
            [value("y", TensorProto.FLOAT, ["N", 40, 3])],
            [float_tensor("table", [[1, 2, 3]])],
        )
        plan = self.build(self.save("gather.onnx", model), "p.plan", "--shape", "index=1x40:2x40")
        self.call("bench", plan, "--iterations", 1, code=BAD_INPUT, says="IndexOutOfRange")
        inputs = self.save_npz("in.npz", index=np.zeros((2, 40), np.int64))
        report = self.call_json("bench", plan, "--inputs", inputs, "--warmup", 0, "--iterations", 3)
        self.assertEqual((report["iterations"], report["shape_profile"]), (3, 1))
        self.call("bench", plan, "--inputs", inputs, "--shape-profile", 1, code=USAGE)

    def test_profile(self):
        plan = self.build(DIGITS)
        report = self.call_json("bench", plan, "--warmup", 0, "--iterations", 5, "--profile")
        steps = self.call_json("inspect", plan)["profiles"][0]["steps"]
        self.assertEqual(sorted(row["step"] for row in report["steps"]), [step["step"] for step in steps])
        self.assertAlmostEqual(sum(row["share"] for row in report["steps"]), 1, places=6)
        times = [row["us"] for row in report["steps"]]
        self.assertEqual(times, sorted(times, reverse=True))
        for row in report["steps"]:
            self.assertEqual(row["operator"], steps[row["step"]]["operator"])
            self.assertTrue(row["nodes"])
        self.call("bench", plan, "--warmup", 0, "--iterations", 5, "--profile", says=["median us", "(Conv)"])


class Inspect(CommandTest):
    def test_plan(self):
        plan = self.build(DIGITS, "net.plan", "--shape", "image=3x1x8x8")
        description = self.call_json("inspect", plan)
        self.assertEqual(description["kind"], "plan")
        self.assertEqual(description["target"], "cpu")
        self.assertEqual(description["plan_bytes"], plan.stat().st_size)
        (profile,) = description["profiles"]
        self.assertEqual(profile["inputs"], [{"name": "image", "type": "f32", "shape": [3, 1, 8, 8]}])
        self.assertEqual(profile["outputs"], [{"name": "logits", "type": "f32", "shape": [3, 10]}])
        self.assertLessEqual(profile["arena_lower_bound"], profile["arena_bytes"])
        self.assertTrue(any("(BatchNormalization)" in node for step in profile["steps"] for node in step["nodes"]))
        self.assertEqual(description["metadata"]["edgert.task"], "classify")
        self.call("inspect", plan, says=["lower bound", "Conv", "f32[3,10]", "edgert.task = classify"])

    def test_model(self):
        description = self.call_json("inspect", DIGITS)
        self.assertEqual((description["kind"], description["problems"]), ("model", []))
        self.assertEqual(description["opsets"], {"ai.onnx": 17})
        self.assertEqual(description["inputs"][0]["name"], "image")
        self.assertEqual(description["operators"]["Conv"], 10)
        self.call("inspect", DIGITS, says=["it builds", "Conv", "f32[N,1,8,8]"])


    def test_fusions(self):
        node = helper.make_node
        nodes = [
            node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["r"], "relu"),
            node("Conv", ["r", "v"], ["d"], "again"),
            node("Relu", ["d"], ["y"], "late"),
            node("Sigmoid", ["d"], ["z"], "gate"),
        ]
        floats = [value(name, TensorProto.FLOAT, None) for name in ("y", "z")]
        weights = [float_tensor("w", np.ones((4, 3, 3, 3))), float_tensor("v", np.ones((2, 4, 1, 1)))]
        model = self.save("net.onnx", make_model(nodes, [value("x", TensorProto.FLOAT, ["n", 3, 6, 6])], floats, weights))
        fusions = self.call_json("inspect", model, "--fusions", "--shape", "x=1x3x6x6")["fusions"]
        self.assertEqual(fusions["fused"], [{"operator": "Conv", "nodes": ["conv (Conv)", "relu (Relu)"]}])
        refused = {(entry["node"], entry["into"], entry["pass"]): entry["reason"] for entry in fusions["refused"]}
        for name in ("late (Relu)", "gate (Sigmoid)"):
            self.assertIn("read elsewhere", refused[name, "again (Conv)", "fuse_epilogue"])
        self.assertIn("multiple of 16", refused["conv (Conv), relu (Relu)", "", "choose_winograd"])
        text = self.call("inspect", model, "--fusions", "--dim", "n=1", says=["conv (Conv), relu (Relu)", "read elsewhere"])
        self.assertNotIn("it builds", text)
        plan = self.folder / "net.plan"
        report = self.call_json("build", model, "-o", plan, "--dim", "n=1")
        self.assertEqual(report["profiles"][0]["refused_fusions"], fusions["refused"])
        self.assertEqual(self.call_json("inspect", plan, "--fusions")["fusions"]["fused"], fusions["fused"])

    def test_reasons_of_passes_that_choose_and_join(self):
        node = helper.make_node
        nodes = [
            node("Conv", ["x", "w"], ["c"], "first", pads=[1, 1, 1, 1]),
            node("Conv", ["c", "grouped_w"], ["g"], "grouped", group=2),
            node("Conv", ["g", "depth_w"], ["d"], "depth", group=32, pads=[1, 1, 1, 1]),
            node("Conv", ["d", "narrow_w"], ["p"], "narrow"),
            node("Conv", ["d", "beside_w"], ["q"], "beside", pads=[1, 1, 1, 1]),
            node("Slice", ["p", "starts", "ends", "axes"], ["top"], "cut"),
            node("Concat", ["p", "q"], ["y"], "both", axis=1),
            node("Concat", ["q", "c"], ["z"], "half", axis=1),
            node("Conv", ["y", "wide_w"], ["h"], "widen"),
            node("Conv", ["h", "last_w"], ["l"], "last", group=24, pads=[1, 1, 1, 1]),
        ]
        shapes = {"w": (16, 6, 3, 3), "grouped_w": (32, 8, 1, 1), "depth_w": (32, 1, 3, 3), "narrow_w": (8, 32, 1, 1),
                  "beside_w": (8, 32, 3, 3), "wide_w": (24, 16, 1, 1), "last_w": (24, 1, 3, 3)}  # fmt: skip
        weights = [float_tensor(name, np.ones(shape)) for name, shape in shapes.items()]
        numbers = {"starts": 0, "ends": 2, "axes": 2}
        weights += [helper.make_tensor(name, TensorProto.INT64, [1], [number]) for name, number in numbers.items()]
        outputs = [value(name, TensorProto.FLOAT, None) for name in ("top", "z", "l")]
        model = self.save("reasons.onnx", make_model(nodes, [value("x", TensorProto.FLOAT, [1, 6, 8, 8])], outputs, weights))
        refused = self.call_json("inspect", model, "--fusions")["fusions"]["refused"]
        reasons = {(entry["pass"], entry["node"], entry["into"]): entry["reason"] for entry in refused}
        for key, reason in {
            ("choose_planar", "first (Conv)", ""): "so many channels",
            ("choose_grouped", "grouped (Conv)", ""): "other numbers of channels in and out",
            ("fuse_inverted_residual", "narrow (Conv)", "depth (Conv)"): "read elsewhere too",
            ("fuse_inverted_residual", "widen (Conv)", "last (Conv)"): "small enough for the caches",
            ("join_siblings", "narrow (Conv)", ""): "another window",
            ("hoist_slices", "cut (Slice)", "narrow (Conv)"): "read elsewhere too",
            ("join_concats", "both (Concat)", "half (Concat)"): "neither repeats all inputs",
        }.items():
            self.assertIn(reason, reasons.get(key, f"nothing for {key}"))


class Compare(CommandTest):
    def setUp(self):
        super().setUp()
        self.model = self.save("net.onnx", conv_net())
        self.plan = self.build(self.model)

    def compare(self, *arguments, **options):
        return self.call("compare", self.plan, *arguments, "--python", sys.executable, **options)

    def test_model(self):
        report = json.loads(self.compare(self.model, "--json"))
        self.assertTrue(report["passed"])
        output = report["outputs"]["features"]
        self.assertLess(output["relative_to_max"], 1e-5)
        self.assertGreater(output["cosine"], 0.999999)
        self.assertLessEqual({"max_abs", "max_rel", "sqnr_db"}, set(output))
        self.compare(self.model, says=["ok", "features", "max abs", "cosine", "SQNR"])

    def test_model_that_differs(self):
        other = conv_net()
        other.graph.initializer[0].CopyFrom(float_tensor("w", np.random.default_rng(2).standard_normal((4, 3, 3, 3))))
        path = self.save("other.onnx", other)
        self.compare(path, code=COMPARISON_FAILED, says=["FAILED", "features"])
        self.compare(path, "--tolerance", "1e6")

    def test_reference_arrays(self):
        image = np.random.default_rng(5).standard_normal((1, 3, 8, 8), np.float32)
        inputs = self.save_npz("in.npz", image=image)
        right = reference(self.model, {"image": image})["features"]
        self.compare("--inputs", inputs, "--reference", self.save_npz("right.npz", features=right))
        self.compare(
            "--inputs",
            inputs,
            "--reference",
            self.save_npz("wrong.npz", features=right * 1.01),
            code=COMPARISON_FAILED,
            says="FAILED",
        )
        zeros = self.save_npz("zeros.npz", features=np.zeros_like(right))
        self.compare("--inputs", inputs, "--reference", zeros, code=COMPARISON_FAILED, says="cosine 0.0")
        nan = self.save_npz("nan.npz", features=np.full_like(right, np.nan))
        self.compare("--inputs", inputs, "--reference", nan, code=COMPARISON_FAILED, says="NaN")
        self.compare(
            "--inputs",
            inputs,
            "--reference",
            self.save_npz("shape.npz", features=right.ravel()),
            code=BAD_INPUT,
            says=["features", "f32[4]"],
        )
        self.compare(
            "--inputs", inputs, "--reference", self.save_npz("name.npz", other=right), code=BAD_INPUT, says="'features'"
        )
        self.compare("--reference", self.folder / "none.npz", code=IO, says="none.npz")
        self.compare(self.model, "--inputs", self.folder / "none.npz", code=IO, says="none.npz")

    def test_second_plan(self):
        self.compare(self.plan, says="ok")
        self.compare(self.build(DIGITS, "digits.plan"), code=BAD_INPUT, says="image")

    def test_layers(self):
        rows = json.loads(self.compare(self.model, "--layers", "--json"))["layers"]
        self.assertEqual([row["step"] for row in rows], [0, 1])  # convolution of planes with ReLU, average
        self.assertEqual(rows[0]["nodes"], ["conv (Conv)", "relu (Relu)"])
        self.assertEqual([row["value"] for row in rows], ["r", "features"])
        for row in rows:
            self.assertLess(row["accumulated"]["relative_to_max"], 1e-5)
            self.assertLess(row["local"]["relative_to_max"], 1e-5)
        self.compare(self.model, "--layers", says=["accumulated", "local", "conv (Conv)"])

    def test_layers_tell_whose_error_it_is(self):
        # The reference has other weights in its convolution: the error runs through, the average makes none itself.
        other = conv_net()
        other.graph.initializer[0].CopyFrom(float_tensor("w", np.random.default_rng(2).standard_normal((4, 3, 3, 3))))
        output = self.compare(self.save("other.onnx", other), "--layers", "--json", code=COMPARISON_FAILED)
        rows = json.loads(output)["layers"]
        self.assertGreater(rows[0]["local"]["relative_to_max"], 0.01)
        self.assertGreater(rows[1]["accumulated"]["relative_to_max"], 0.01)
        self.assertLess(rows[1]["local"]["relative_to_max"], 1e-5)

    def test_python_that_cannot(self):
        self.call("compare", self.plan, self.model, "--python", self.folder / "no-python", code=IO, says="no-python")
        liar = self.folder / "liar"
        liar.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'onnxruntime'\" >&2\nexit 1\n")
        liar.chmod(0o755)
        self.call("compare", self.plan, self.model, "--python", liar, code=IO, says=["onnxruntime", "setup.sh"])

    def test_model_that_onnx_runtime_does_not_run(self):
        bad = self.folder / "bad.onnx"
        bad.write_bytes(self.model.read_bytes()[:100])
        self.compare(bad, code=BAD_INPUT, says="bad.onnx")

    def test_an_output_called_file(self):
        model = make_model(
            [helper.make_node("Neg", ["x"], ["file"])],
            [value("x", TensorProto.FLOAT, [3])],
            [value("file", TensorProto.FLOAT, [3])],
        )
        path = self.save("file.onnx", model)
        self.call("compare", self.build(path, "file.plan"), path, "--python", sys.executable)


class Doctor(CommandTest):
    def test_findings(self):
        self.call("doctor", "--python", sys.executable, says=["edgert", "CPU kernels", "opsets 1 to", "onnxruntime"])
        findings = {f["what"]: f for f in self.call_json("doctor", "--python", sys.executable)}
        self.assertTrue(findings["ONNX Runtime (for compare)"]["found"])
        self.assertEqual({key for f in findings.values() for key in f}, {"what", "found", "detail", "required"})

    def test_missing_things_come_with_advice(self):
        findings = {f["what"]: f for f in self.call_json("doctor", "--python", self.folder / "none")}
        self.assertFalse(findings["ONNX Runtime (for compare)"]["found"])
        self.assertIn("scripts/setup.sh", findings["ONNX Runtime (for compare)"]["detail"])


if __name__ == "__main__":
    main()
