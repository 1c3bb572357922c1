# SPDX-License-Identifier: Apache-2.0
"""`edgert build` with tuning records and without a GPU: hits, misses, pins, records of other devices, bad records, no device.

Needs NVRTC; without it the tests that compile kernels are skipped, unless EDGERT_REQUIRE_NVRTC=1 is set. What tuning itself
does is tested with emulated kernels (tests/unit/tune_*.cpp).
"""

import json
import os
import subprocess
import unittest

import numpy as np
from edgert_command import BAD_INPUT, IO, MODELS, REPOSITORY, USAGE, CommandTest, edgert
from onnx import TensorProto, helper, numpy_helper

MODEL = MODELS / "digits_resnet.onnx"
WORKER = os.path.join(os.path.dirname(os.path.abspath(os.environ["EDGERT"])), "edgert-worker")


def product_net():
    weights = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [16, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16, 64])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


class Tuning(CommandTest):
    def setUp(self):
        super().setUp()
        self.records = self.folder / "records.jsonl"
        self.cache = self.folder / "kernels"

    def need_nvrtc(self):
        found = {row["what"].split(" (")[0]: row["found"] for row in self.call_json("doctor")}
        if not found["NVRTC"] and os.environ.get("EDGERT_REQUIRE_NVRTC") != "1":
            self.skipTest("no NVRTC")

    def build(self, name, *options):
        """The report about tactics of a build for Orin."""
        report = self.call_json("build", MODEL, "-o", self.folder / name, "--target", "sm_87", "--kernel-cache", self.cache, *options)
        return report["profiles"][0].get("tuning")

    def bytes_of(self, name):
        return (self.folder / name).read_bytes()

    def missing_signatures(self):
        """What the builder says it would like to know."""
        self.records.write_text("")
        result = edgert("build", MODEL, "-o", self.folder / "none", "--target", "sm_87", "--kernel-cache", self.cache,
                        "--tuning-records", self.records, "--error-on-miss")  # fmt: skip
        self.assertEqual(result.returncode, BAD_INPUT, result.stderr)
        return [line.strip() for line in result.stderr.splitlines() if "#" in line]

    def test_options(self):
        self.need_nvrtc()
        self.assertIsNone(self.build("estimated.plan"))
        signatures = self.missing_signatures()
        self.assertGreater(len(signatures), 3)
        report = self.build("missed.plan", "--tuning-records", self.records)
        self.assertEqual(report["estimated"], len(signatures))
        self.assertEqual(report["from_records"], 0)
        self.assertEqual(self.bytes_of("missed.plan"), self.bytes_of("estimated.plan"))

        # Records of kernels that no longer exist, and of another device, are counted and not used.
        record = {"version": 1, "signature": signatures[0], "tactic": "conv tile 1x1x1", "kernel": "0", "sm": 87,
                  "multiprocessors": 16, "nvrtc": self.nvrtc(), "profile": "orin-15w", "verdict": "ok", "median_us": 1.0}  # fmt: skip
        self.records.write_text(json.dumps(record) + "\n" + json.dumps({**record, "sm": 90}) + "\n")
        report = self.build("stale.plan", "--tuning-records", self.records)
        self.assertEqual(report["records_ignored"], {"other_devices": 1, "other_nvrtc": 0, "older_kernels": 1})
        self.assertEqual(self.bytes_of("stale.plan"), self.bytes_of("estimated.plan"))

    def nvrtc(self):
        """The version in the records that this builder would use, found by what it refuses."""
        for version in ("13.0", "13.1", "13.2", "12.6", "12.8", "12.9", "11.8"):
            self.records.write_text(json.dumps({"version": 1, "signature": "s", "tactic": "t", "kernel": "0", "sm": 87, "multiprocessors": 16,
                                                "nvrtc": version, "profile": "p", "verdict": "ok"}))  # fmt: skip
            if self.build("probe.plan", "--tuning-records", self.records)["records_ignored"]["other_nvrtc"] == 0:
                return version
        self.fail("no known NVRTC version")

    def test_what_was_measured_is_kept_and_used(self):
        self.need_nvrtc()
        model = self.save("product.onnx", product_net())
        # A driver whose kernels do nothing: the worker must find every one of them wrong.
        driver = self.folder / "libcuda.so.1"
        subprocess.run(["c++", "-std=c++17", "-O1", "-fPIC", "-shared", f"-I{REPOSITORY}/include", REPOSITORY / "tests/fake_cuda/libcuda.cpp",
                        "-o", driver], check=True)  # fmt: skip
        self.call("build", model, "-o", self.folder / "p", "--target", "local", "--kernel-cache", self.cache, "--device-profile", "bench",
                  "--worker", f"{WORKER} --driver {driver}", "--tuning-records", self.records,
                  code=BAD_INPUT, says=["none of 12 kernels", "wrong"])  # fmt: skip
        self.assertFalse((self.folder / "p").exists())
        records = [json.loads(line) for line in self.records.read_text().splitlines()]
        self.assertEqual({record["verdict"] for record in records}, {"wrong"})
        self.assertEqual({record["profile"] for record in records}, {"bench"})
        self.assertEqual(len({record["tactic"] for record in records}), len(records))

        # As if they had been right: the fastest is taken, then the pinned one, with no device at all.
        target = ["build", model, "--target", "sm_90", "--multiprocessors", "4", "--kernel-cache", self.cache, "--tuning-records", self.records,
                  "--error-on-miss"]  # fmt: skip

        def plan_of(lines):
            self.records.write_text("".join(json.dumps(line) + "\n" for line in lines))
            report = self.call_json(*target, "-o", self.folder / "p")
            self.assertEqual(report["profiles"][0]["tuning"]["from_records"], 1)
            return self.bytes_of("p")

        right = [{**record, "verdict": "ok", "median_us": 20.0 - i} for i, record in enumerate(records)]
        fastest = plan_of(right)
        self.assertEqual(fastest, plan_of(right[::-1]))
        self.assertNotEqual(fastest, plan_of([*right, {**right[0], "pin": True}]))
        self.assertEqual(fastest, plan_of([*right, {**right[0], "pin": True}, {**right[-1], "pin": True}]))
        several = [*right, {**right[0], "profile": "other"}]
        self.records.write_text("".join(json.dumps(line) + "\n" for line in several))
        self.call(*target, "-o", self.folder / "q", code=BAD_INPUT, says="--device-profile: 'bench', 'other'")
        self.call(*target, "-o", self.folder / "q", "--device-profile", "bench")
        self.assertEqual(fastest, self.bytes_of("q"))

    def test_bad_input(self):
        target = ["build", MODEL, "-o", self.folder / "p", "--target", "sm_87"]
        self.call(*target, "--tuning-records", self.folder / "none.jsonl", code=IO, says="none.jsonl")
        self.records.write_text('{"version":1}\n')
        self.call(*target, "--tuning-records", self.records, code=BAD_INPUT, says=["records.jsonl:1:", "signature"])
        self.records.write_text('\n{"version":1,\n')
        self.call(*target, "--tuning-records", self.records, code=BAD_INPUT, says=["records.jsonl:2:", "no JSON"])
        self.call(*target, "--error-on-miss", code=USAGE, says="--tuning-records")
        self.call(*target, "--tune", "--tuning-records", self.records, "--error-on-miss", code=USAGE, says="exclude")
        self.call("build", MODEL, "-o", self.folder / "p", "--tune", code=USAGE, says="--target sm_87")

    def test_no_device(self):
        local = ["build", MODEL, "-o", self.folder / "p", "--target", "local"]
        self.call(*local, "--worker", self.folder / "none", code=BAD_INPUT, says=["cannot start", "none"])
        self.call(*local, "--worker", "true", code=BAD_INPUT, says="no GPU: the worker ended")
        self.call(*local, "--worker", f"{WORKER} --driver libnone.so", code=BAD_INPUT, says=["no GPU", "no CUDA driver", "libnone.so"])


if __name__ == "__main__":
    unittest.main()
