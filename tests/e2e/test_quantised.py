# SPDX-License-Identifier: Apache-2.0
"""Quantised models against ONNX Runtime: its quantizer's forms of the trained digits networks, and integer products."""

import logging

import numpy as np
from edgert_command import MODELS, CommandTest, main, make_model, reference, value
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

SAMPLES = 599
CALIBRATION = 32
# Both round to 8 bits, but where a value lies between two of these numbers one summation order decides: a few of the
# pictures that a network is least sure about may change sides.
MOST_CHANGED = 0.01


class Pictures(quantization.CalibrationDataReader):
    def __init__(self, images):
        self.rest = iter(images[:CALIBRATION])

    def get_next(self):
        image = next(self.rest, None)
        return None if image is None else {"image": image[None]}


def quantise(source, target, form, images):
    """Writes `source` quantised: "dynamic", or with one of ONNX Runtime's two formats."""
    if form == "dynamic":
        quantization.quantize_dynamic(source, target, weight_type=quantization.QuantType.QUInt8)
        return
    quantization.quantize_static(
        source,
        target,
        Pictures(images),
        quant_format=quantization.QuantFormat[form],
        per_channel=form == "QDQ",
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


class QuantisedNetworks(CommandTest):
    def predictions(self, model, images):
        plan = self.build(model, "net.plan", "--shape", f"image={SAMPLES}x1x8x8")
        self.call("run", plan, "--inputs", self.save_npz("i.npz", image=images), "--outputs", self.folder / "o.npz")
        with np.load(self.folder / "o.npz") as outputs:
            return outputs["logits"].argmax(1)

    def test_every_form(self):
        logging.disable(logging.WARNING)  # the quantizer's advice
        with np.load(MODELS / "digits_test.npz") as test:
            images, labels = test["image"].astype(np.float32), test["label"]
        for name in ("digits_resnet", "digits_vit"):
            for form in ("QOperator", "QDQ", "dynamic"):
                with self.subTest(name, form=form):
                    model = self.folder / f"{name}_{form}.onnx"
                    quantise(MODELS / f"{name}.onnx", model, form, images)
                    expected = reference(model, {"image": images})["logits"].argmax(1)
                    got = self.predictions(model, images)
                    self.assertLessEqual((got != expected).mean(), MOST_CHANGED)
                    self.assertAlmostEqual((got == labels).mean(), (expected == labels).mean(), delta=MOST_CHANGED)


class IntegerProducts(CommandTest):
    """Bit for bit."""

    def check(self, node, operands, constants):
        inputs = [value(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for name, x in operands.items()]
        initializers = [numpy_helper.from_array(np.asarray(x), name) for name, x in constants.items()]
        model = make_model([node], inputs, [value("y", TensorProto.INT32, None)], initializers)
        path = self.save("model.onnx", model)
        plan = self.build(path)
        self.call("run", plan, "--inputs", self.save_npz("i.npz", **operands), "--outputs", self.folder / "o.npz")
        with np.load(self.folder / "o.npz") as outputs:
            np.testing.assert_array_equal(outputs["y"], reference(path, operands)["y"])

    def test_matmul(self):
        random = np.random.default_rng(7)
        for a_dims, b_dims in (((5, 700), (700, 33)), ((2, 3, 4, 9), (9, 6)), ((3, 1, 8), (3, 8, 2))):
            with self.subTest(a_dims):
                operands = {
                    "a": random.integers(0, 256, a_dims).astype(np.uint8),
                    "b": random.integers(-128, 128, b_dims).astype(np.int8),
                }
                zero_points = {"az": np.uint8(131), "bz": np.int8(-7)}
                self.check(helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["y"]), operands, zero_points)

    def test_conv(self):
        random = np.random.default_rng(8)
        for attributes, x_dims, w_dims in (
            ({"pads": [1, 2, 0, 1], "strides": [2, 1]}, (2, 4, 9, 7), (6, 4, 3, 3)),
            ({"group": 4, "dilations": [2, 2]}, (1, 8, 9, 9), (8, 2, 3, 2)),
            ({"auto_pad": "SAME_UPPER"}, (1, 3, 11), (5, 3, 4)),
        ):
            with self.subTest(x_dims):
                operands = {"x": random.integers(0, 256, x_dims).astype(np.uint8)}
                constants = {"w": random.integers(0, 256, w_dims).astype(np.uint8)}
                constants |= {"xz": np.uint8(200), "wz": np.uint8(100)}
                self.check(helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], **attributes), operands, constants)


if __name__ == "__main__":
    main()
