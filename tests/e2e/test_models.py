# SPDX-License-Identifier: Apache-2.0
"""The trained models of examples/models through the edgert command, against ONNX Runtime and their recorded results."""

import json
import sys

import numpy as np
from edgert_command import MODELS, CommandTest, main, open_reference, reference, relative_to_max

sys.path.insert(0, str(MODELS))
import evaluate  # noqa: E402
from detection import detect, mean_average_precision  # noqa: E402

RECORDED = {entry["file"]: entry["value"] for entry in json.loads((MODELS / "models.json").read_text())}
# Of the largest magnitude of an output.
TOLERANCE = 1e-4


class Digits(CommandTest):
    def check(self, name, batch, threads):
        model = MODELS / f"{name}.onnx"
        plan = self.build(model, f"{name}.plan", "--shape", f"image={batch}x1x8x8")
        text = self.call(
            "run",
            plan,
            "--inputs",
            MODELS / "digits_test.npz",
            "--labels",
            "label",
            "--outputs",
            self.folder / "o.npz",
            "--threads",
            threads,
        )
        with np.load(MODELS / "digits_test.npz") as test, np.load(self.folder / "o.npz") as outputs:
            expected = reference(model, {"image": test["image"]})["logits"]
            logits, labels = outputs["logits"], test["label"]
        self.assertLess(relative_to_max(logits, expected), TOLERANCE)
        np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))
        right = int((logits.argmax(1) == labels).sum())
        self.assertEqual(round(right / len(labels), 4), RECORDED[model.name])
        self.assertIn(f"accuracy: {RECORDED[model.name]:.4f} ({right} of {len(labels)})", text)

    def test_every_sample(self):
        for name in ("digits_resnet", "digits_mobilenet", "digits_vit"):
            for batch, threads in ((1, 1), (599, 2)):
                with self.subTest(name, batch=batch):
                    self.check(name, batch, threads)

    def test_every_step(self):
        for name in ("digits_resnet", "digits_mobilenet", "digits_vit"):
            with self.subTest(name):
                model = MODELS / f"{name}.onnx"
                rows = self.call_json("compare", self.build(model), model, "--layers", "--python", sys.executable)[
                    "layers"
                ]
                compared = [row for row in rows if row["local"] is not None]
                # Some steps compute what the model has no name for; most do not.
                self.assertGreater(len(compared), 0.8 * len(rows))
                for row in compared:
                    self.assertLess(row["local"]["relative_to_max"], 1e-5, row)
                    self.assertTrue(row["local"]["finite"], row)

    def test_picture(self):
        for name in ("digits_resnet", "digits_mobilenet", "digits_vit"):
            with self.subTest(name):
                plan = self.build(MODELS / f"{name}.onnx")
                best = self.call("run", plan, "--image", MODELS / "digit_3.png").splitlines()[0].split()
                self.assertEqual(best[1:], ["%", "3"])
                self.assertGreater(float(best[0]), 50)


class Shapes(CommandTest):
    def setUp(self):
        super().setUp()
        self.model = MODELS / "shapes_detector.onnx"
        self.plan = self.build(self.model)
        self.session = open_reference(self.model)
        self.metadata = self.session.get_modelmeta().custom_metadata_map

    def test_every_picture(self):
        with np.load(MODELS / "shapes_test.npz") as arrays:
            test = dict(arrays)
        images = evaluate.preprocess(test["image_u8"], self.metadata)
        # The network takes one picture; edgert runs the stack one by one and stacks the outputs.
        np.savez(self.folder / "in.npz", image=images)
        self.call("run", self.plan, "--inputs", self.folder / "in.npz", "--outputs", self.folder / "out.npz")
        results = [self.session.run(["boxes", "scores"], {"image": image[np.newaxis]}) for image in images]
        expected = {"boxes": np.concatenate([r[0] for r in results]), "scores": np.concatenate([r[1] for r in results])}
        with np.load(self.folder / "out.npz") as arrays:
            actual = dict(arrays)
        figures = []
        for outputs in (actual, expected):
            detections = [
                detect(boxes, scores, evaluate.CURVE_THRESHOLD, float(self.metadata["edgert.detect.iou_threshold"]))
                for boxes, scores in zip(outputs["boxes"], outputs["scores"], strict=True)
            ]
            figures.append(mean_average_precision(detections, test["box"], test["label"], test["index"], 3))
        for name in ("boxes", "scores"):
            self.assertLess(relative_to_max(actual[name], expected[name]), TOLERANCE, name)
        self.assertEqual(figures[0], figures[1])
        self.assertEqual(round(figures[0], 4), RECORDED[self.model.name])

    def test_picture(self):
        text = self.call("run", self.plan, "--image", MODELS / "shapes.png")
        found = [line.split() for line in text.splitlines()]
        self.assertEqual(sorted(words[2] for words in found), ["circle", "circle", "triangle", "triangle"], text)
        for words in found:
            self.assertGreater(float(words[0]), 50)
            x0, x1, y0, y1 = (float(words[k].rstrip(",")) for k in (4, 6, 8, 10))
            self.assertTrue(0 <= x0 < x1 <= 192 and 0 <= y0 < y1 <= 192, words)

    def test_every_step(self):
        rows = self.call_json("compare", self.plan, self.model, "--layers", "--python", sys.executable)["layers"]
        compared = [row for row in rows if row["local"] is not None]
        self.assertGreater(len(compared), 0.8 * len(rows))
        for row in compared:
            self.assertLess(row["local"]["relative_to_max"], 1e-5, row)


if __name__ == "__main__":
    main()
