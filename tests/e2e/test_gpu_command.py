# SPDX-License-Identifier: Apache-2.0
"""`edgert bench` on plans for GPUs, on the driver without a device of tests/fake_cuda: what it counts and prints, and how it
fails. Times and results mean nothing there."""

import os
import subprocess

import numpy as np
from edgert_command import BAD_INPUT, MODELS, OK, REPOSITORY, USAGE, CommandTest, float_tensor, main, make_model, value
from onnx import TensorProto, helper


class FakeGpu(CommandTest):
    def setUp(self):
        super().setUp()
        found = {row["what"].split(" (")[0]: row["found"] for row in self.call_json("doctor")}
        if not found["NVRTC"]:
            self.skipTest("no NVRTC")
        compiler = os.environ.get("CXX") or "c++"
        subprocess.run([compiler, "-std=c++17", "-O1", "-fPIC", "-shared", f"-I{REPOSITORY / 'include'}",
                        REPOSITORY / "tests/fake_cuda/libcuda.cpp", "-o", self.folder / "libcuda.so.1"], check=True)
        folders = [str(self.folder), os.environ.get("LD_LIBRARY_PATH", "")]
        self.device = {"env": os.environ | {"LD_LIBRARY_PATH": ":".join(filter(None, folders))}}
        self.plan = self.build(MODELS / "digits_resnet.onnx", "net.plan", "--target", "sm_90", "--shape", "image=1x1x8x8")

    def test_figures(self):
        figures = self.call_json("bench", self.plan, "--iterations", 50, "--warmup", 0, "--cold-l2", "--profile", **self.device)
        self.assertEqual(figures["allocations_after_prepare"], 0)
        self.assertEqual(figures["device_allocations_after_prepare"], 0)
        for key in ("gpu_latency_us", "gpu_latency_cold_us", "host_us", "driver_host_us"):
            self.assertGreaterEqual(figures[key]["p99"], figures[key]["median"], key)
        self.assertGreater(figures["floor_cold_us"], 0)
        self.assertIn("measured", figures["device_rates"]["source"])
        self.assertGreaterEqual(figures["floor_launches_us"], 0)
        steps = figures["steps"]
        self.assertTrue(all(step["bytes"] > 0 for step in steps))
        # As many multiply-adds as the model has: three stages of convolutions and the last product.
        products = [step for step in steps if step["multiply_adds"] > 0]
        self.assertGreaterEqual(len(products), 8)
        self.assertAlmostEqual(sum(step["floor_us"] for step in steps), figures["floor_cold_us"], places=6)

    def test_text(self):
        self.call("bench", self.plan, "--iterations", 5, "--warmup", 0, "--cold-l2",
                  says=["on the GPU", "cold cache", "for the driver's call alone", "on the device; the driver's own"], **self.device)  # fmt: skip

    def test_bits(self):
        self.call("bench", self.plan, "--check-bits", "--iterations", 20, says="20 runs give the same bits", **self.device)

    def test_a_part_of_the_device(self):
        self.call("bench", self.plan, "--multiprocessors", 2, "--iterations", 5, "--warmup", 0, says="on the GPU", **self.device)
        self.call("bench", self.plan, "--multiprocessors", 16, code=BAD_INPUT,
                  says="the device has 4 multiprocessors, not the 16 asked for", **self.device)  # fmt: skip

    def test_golden_vectors(self):
        self.call("run", self.plan, "--self-test", code=BAD_INPUT, says="no golden vectors", **self.device)
        golden = self.build(MODELS / "digits_resnet.onnx", "golden.plan", "--target", "sm_90", "--shape", "image=1x1x8x8",
                            "--golden-seed", 1)  # fmt: skip
        self.call("run", golden, "--self-test", code=BAD_INPUT, says="golden vector 0, output logits differs", **self.device)

    def test_options_that_need_a_gpu(self):
        plan = self.build(MODELS / "digits_resnet.onnx", "cpu.plan", "--shape", "image=1x1x8x8")
        self.call("bench", plan, "--cold-l2", code=USAGE, says="GPU")
        self.call("bench", plan, "--multiprocessors", 16, code=USAGE, says="GPU")
        self.call("bench", plan, "--check-bits", "--iterations", 3, code=OK, says="3 runs give the same bits")

    def test_cpu_steps(self):
        nodes = [helper.make_node("Relu", ["x"], ["r"], "relu"), helper.make_node("Det", ["r"], ["d"], "det"), helper.make_node("Neg", ["d"], ["y"], "neg")]
        # A matrix that no GPU kernel takes, since it does not fit shared memory.
        model = self.save("det.onnx", make_model(nodes, [value("x", TensorProto.FLOAT, [1, 256, 256])], [value("y", TensorProto.FLOAT, [1])]))
        plan = self.folder / "det.plan"
        self.call("build", model, "-o", plan, "--target", "sm_90", code=BAD_INPUT, says=["1 node has no GPU kernel", "det"])
        self.call("build", model, "-o", plan, "--allow-cpu-steps", code=USAGE, says="--target")
        self.call("build", model, "-o", plan, "--target", "sm_90", "--allow-cpu-steps", says="runs on the CPU: Determinant of det")
        self.call("inspect", plan, says="Determinant (CPU)")
        figures = self.call_json("bench", plan, "--iterations", 5, "--warmup", 0, "--profile", **self.device)
        self.assertEqual(figures["allocations_after_prepare"], 0)
        self.assertIn("Determinant (CPU)", [step["operator"] for step in figures["steps"]])
        self.call("bench", plan, "--cold-l2", code=USAGE, says="CPU steps", **self.device)

    def test_library_tactics(self):
        detail = next(row["detail"] for row in self.call_json("doctor") if row["what"].startswith("cuBLASLt and cuDNN"))
        if "built without" in detail:
            self.skipTest("no headers of cuBLASLt and cuDNN")
        weights = float_tensor("w", np.full((64, 32), 0.125))
        nodes = [helper.make_node("Neg", ["x"], ["n"], "neg"), helper.make_node("MatMul", ["n", "w"], ["m"], "product"), helper.make_node("Relu", ["m"], ["y"], "relu")]
        model = self.save("product.onnx", make_model(nodes, [value("x", TensorProto.FLOAT, [6, 64])], [value("y", TensorProto.FLOAT, [6, 32])], [weights]))
        plan = self.build(model, "library.plan", "--target", "sm_90", "--tactics", "cudnn")
        self.call("inspect", plan, says=["cublaslt", "6x64 by 64x32 algorithm 0"])
        compiler = os.environ.get("CXX") or "c++"
        said = subprocess.run([compiler, "-xc++", "-E", "-P", "-"], input="#include <cublasLt.h>\nCUBLAS_VER_MAJOR", capture_output=True, text=True, check=True)
        target = self.folder / f"libcublasLt.so.{said.stdout.split()[-1]}"
        subprocess.run([compiler, "-std=c++17", "-O1", "-fPIC", "-shared", f"-I{REPOSITORY / 'include'}",
                        REPOSITORY / "tests/fake_cuda/libcublaslt.cpp", "-o", target], check=True)  # fmt: skip
        self.call("bench", plan, "--check-bits", "--iterations", 2, says="2 runs give the same bits", **self.device)

    def test_instructions_of_an_earlier_gpu(self):
        early = self.build(MODELS / "digits_resnet.onnx", "early.plan", "--target", "sm_90", "--shape", "image=1x1x8x8",
                           "--instructions", "sm_80", "--multiprocessors", 16)  # fmt: skip
        self.assertEqual(self.call_json("inspect", early)["target"], "sm_90")
        self.assertNotEqual(early.read_bytes(), self.plan.read_bytes())
        self.call("bench", early, "--iterations", 5, "--warmup", 0, **self.device)
        self.call("build", MODELS / "digits_resnet.onnx", "-o", self.folder / "x.plan", "--target", "sm_87", "--instructions", "sm_90",
                  code=USAGE, says="not later")  # fmt: skip

    def test_damaged_modules(self):
        checks = os.environ.get("EDGERT_DEVICE_CHECKS")
        if not checks:
            self.skipTest("EDGERT_DEVICE_CHECKS names no device_checks")
        done = subprocess.run([checks, "damage", self.plan], capture_output=True, text=True, check=False, **self.device)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    main()
