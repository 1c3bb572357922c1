# SPDX-License-Identifier: Apache-2.0
"""Full-size networks against ONNX Runtime: on two different inputs, the largest error must stay below 1 % of the
largest distance between the two outputs, since with random weights even wrong outputs can have a high cosine.

The models are written by tests/models/make_models.py into the folder EDGERT_MODELS (default: full_size_models beside
the edgert program) and kept there.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from edgert_command import EDGERT, REPOSITORY, CommandTest, main, reference, relative_to_max

sys.path.insert(0, str(REPOSITORY / "tests" / "models"))
from architectures import ARCHITECTURES  # noqa: E402

FOLDER = Path(os.environ.get("EDGERT_MODELS", Path(EDGERT).parent / "full_size_models"))


class FullSize(CommandTest):
    def write_model(self, name):
        script = REPOSITORY / "tests" / "models" / "make_models.py"
        subprocess.run([sys.executable, script, "--out", FOLDER, name], check=True)
        return FOLDER / f"{name}.onnx"

    def check_outputs(self, plan, model, inputs):
        """Two samples of each input, stacked; the plan takes one or both at a time."""
        np.savez(self.folder / "in.npz", **inputs)
        self.call("run", plan, "--inputs", self.folder / "in.npz", "--outputs", self.folder / "out.npz", "--threads", 2)
        with np.load(self.folder / "out.npz") as outputs:
            actual = outputs["output"]
        each = [{name: samples[i : i + 1] for name, samples in inputs.items()} for i in range(2)]
        expected = np.concatenate([reference(model, sample)["output"] for sample in each])
        self.assertEqual(actual.shape, expected.shape)
        distance = np.abs(expected[0] - expected[1]).max()
        error = np.abs(actual - expected).max()
        print(
            f"{plan.stem}: max abs error {error:.3g} = {error / distance:.2e} of the distance of two outputs",
            flush=True,
        )
        self.assertLessEqual(error, 0.01 * distance)
        self.assertLessEqual(relative_to_max(actual, expected), 1e-3)

    def check_model(self, name):
        model = self.write_model(name)
        inputs = ARCHITECTURES[name].inputs(np.random.default_rng(11), 2, 224)
        shapes = []
        for input_name, samples in inputs.items():
            shapes += ["--shape", f"{input_name}=" + "x".join(map(str, (1, *samples.shape[1:])))]
        plan = self.build(model, f"{name}.plan", *shapes)
        self.check_outputs(plan, model, inputs)
        again = self.build(model, "again.plan", *shapes)
        self.assertEqual(plan.read_bytes(), again.read_bytes())
        one = self.save_npz("one.npz", **{input_name: samples[:1] for input_name, samples in inputs.items()})
        report = self.call_json("bench", plan, "--inputs", one, "--warmup", 0, "--iterations", 1)
        self.assertEqual(report["allocations_after_prepare"], 0)

    def test_batch_of_two(self):
        model = self.write_model("mobilenet_v3_small")
        plan = self.build(model, "batch.plan", "--shape", "input=1x3x224x224:2x3x224x224")
        inputs = ARCHITECTURES["mobilenet_v3_small"].inputs(np.random.default_rng(12), 2, 224)
        self.check_outputs(plan, model, inputs)
        with np.load(self.folder / "out.npz") as outputs:
            together = outputs["output"]
        # One image goes through the other profile.
        np.savez(self.folder / "in.npz", input=inputs["input"][:1])
        self.call("run", plan, "--inputs", self.folder / "in.npz", "--outputs", self.folder / "out.npz")
        with np.load(self.folder / "out.npz") as outputs:
            self.assertLessEqual(relative_to_max(outputs["output"], together[:1]), 1e-5)


def add_test(name):
    setattr(FullSize, f"test_{name}", lambda self: self.check_model(name))


for architecture in ARCHITECTURES:
    add_test(architecture)

if __name__ == "__main__":
    main()
