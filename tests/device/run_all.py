# SPDX-License-Identifier: Apache-2.0
"""All tests that need a real GPU, in one go, with a short table at the end. Without a GPU it says so and exits with 77.

    run_all.py --edgert build/edgert --checks build/tests/device/device_checks \\
               --library build/tests/device/libedgert_device_session.so [--runner build/tests/conformance/node_runner]
    run_all.py ... --only runs --runs 1000000

Needs numpy, onnx, onnxruntime (for networks from tests/models), NVRTC, and PyTorch with CUDA for the test beside it.
"""

import argparse
import ctypes
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77


def device_target():
    """"sm_90" of the first GPU, None without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(device), 0) != 0:
        return None
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return f"sm_{major.value}{minor.value}"


class Tests:
    def __init__(self, arguments, target, folder):
        self.arguments, self.target, self.folder = arguments, target, folder
        self.rows = []

    def call(self, command, timeout=600):
        """(exit code, last line of what it printed; of what failed the last two: a sanitizer's summary comes after its program's words)"""
        try:
            done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  errors="replace", timeout=timeout, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
        except subprocess.TimeoutExpired:
            return 124, f"still running after {timeout} s"
        lines = [line.lstrip("= ") for line in done.stdout.splitlines() if line.strip()]
        return done.returncode, "; ".join(lines[-1 if done.returncode == 0 else -2 :])

    def build(self, name, model, *words, target=""):
        plan = self.folder / f"{name}.plan"
        nvrtc = ["--nvrtc", self.arguments.nvrtc] if self.arguments.nvrtc else []
        code, text = self.call([self.arguments.edgert, "build", model, "-o", plan, "--quiet", "--target", target or self.target, *nvrtc, *words])
        if code != 0:
            raise RuntimeError(f"building {name}: {text}")
        return plan

    def add(self, name, command, good=(0,)):
        if self.arguments.only and name not in self.arguments.only:
            return
        start = time.monotonic()
        try:
            code, text = self.call(command() if callable(command) else command)
            outcome = "passed" if code in good else "skipped" if code == SKIPPED else "FAILED"
        except RuntimeError as error:
            outcome, text = "FAILED", str(error)
        self.rows.append((name, outcome, time.monotonic() - start, text))
        print(f"{name}: {outcome}: {text}", flush=True)

    def wrong_device(self):
        other = self.build("other", REPOSITORY / "examples/models/digits_resnet.onnx", "--shape", "image=1x1x8x8",
                           target="sm_87" if self.target != "sm_87" else "sm_90")
        return [self.arguments.edgert, "run", other, "--image", REPOSITORY / "examples/models/digit_3.png"]


def full_size(folder, name):
    """A network of tests/models as an ONNX file."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        subprocess.run([sys.executable, REPOSITORY / "tests/models/make_models.py", "--out", folder, name], check=True, stdout=subprocess.DEVNULL)
    return path


def find_sanitizer():
    """NVIDIA's compute-sanitizer, where a toolkit is installed."""
    found = shutil.which("compute-sanitizer") or next(map(str, pathlib.Path("/usr/local").glob("cuda*/bin/compute-sanitizer")), None)
    return [found] if found else []


def run(tests, models):
    arguments = tests.arguments
    examples = REPOSITORY / "examples/models"
    digits = tests.build("digits", examples / "digits_resnet.onnx", "--shape", "image=1x1x8x8:4x1x8x8")
    vit = tests.build("vit", examples / "digits_vit.onnx", "--shape", "image=1x1x8x8")
    image = tests.build("resnet18", full_size(models, "resnet18"), "--shape", "input=1x3x224x224")
    checks = arguments.checks
    tests.add("runs", [checks, "runs", digits, arguments.runs])
    tests.add("runs, ViT", [checks, "runs", vit, max(1, arguments.runs // 10)])
    tests.add("sessions", [checks, "sessions", image, 500])
    tests.add("memory", [checks, "memory", image])
    tests.add("failed", [checks, "failed", digits])
    tests.add("damage", [checks, "damage", digits])
    tests.add("wrong SM", tests.wrong_device, good=(3,))
    tests.add("with PyTorch", [sys.executable, REPOSITORY / "tests/device/with_torch.py", arguments.library, image])
    tests.add("accuracy", [arguments.edgert, "run", digits, "--inputs", examples / "digits_test.npz", "--labels", "label"])
    for sanitizer in find_sanitizer():
        detector = tests.build("detector", examples / "shapes_detector.onnx")
        mobile = tests.build("mobile", examples / "digits_mobilenet.onnx", "--shape", "image=1x1x8x8")
        exact = tests.build("exact", examples / "digits_vit.onnx", "--shape", "image=1x1x8x8", "--fp32")
        for tool in ("memcheck", "racecheck"):
            for plan in (digits, vit, mobile, detector, exact):
                tests.add(f"{tool}, {plan.stem}", [sanitizer, "--tool", tool, "--error-exitcode", "9", checks, "runs", plan, "2", "60"])
    if arguments.runner:
        tests.add("conformance", [sys.executable, REPOSITORY / "tests/conformance/node_tests.py", "--runner", arguments.runner, "--target", tests.target,
                                  "--jobs", str(os.cpu_count())])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edgert", type=pathlib.Path, required=True)
    parser.add_argument("--checks", type=pathlib.Path, required=True, help="the device_checks program")
    parser.add_argument("--library", type=pathlib.Path, required=True, help="libedgert_device_session.so")
    parser.add_argument("--runner", type=pathlib.Path, help="the node_runner program, for the node tests")
    parser.add_argument("--models", type=pathlib.Path, help="folder of tests/models/make_models.py's files; missing ones are made")
    parser.add_argument("--nvrtc", default="", help="NVRTC to build with (default: the newest found)")
    parser.add_argument("--runs", type=int, default=100000, help="of the test that compares bits (default: 100000)")
    parser.add_argument("--only", action="append", default=[], help="only this test; may be repeated")
    arguments = parser.parse_args()
    target = device_target()
    if target is None:
        print("SKIPPED: there is no CUDA driver or no GPU on this machine")
        return SKIPPED
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        tests = Tests(arguments, target, folder)
        run(tests, arguments.models or folder)
    print(f"\n| test on {target} | outcome | s | what it says |\n| --- | --- | --- | --- |")
    for name, outcome, seconds, text in tests.rows:
        print(f"| {name} | {outcome} | {seconds:.1f} | {text} |")
    return 1 if any(outcome == "FAILED" for _, outcome, _, _ in tests.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
