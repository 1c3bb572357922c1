#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random command lines and damaged files for the edgert command.

Every seed makes one command line: some of the command's options with sensible, odd and broken values, and files of every
kind that are whole, cut off, changed, of another kind, missing or folders. The command must end in time with a
documented exit code other than 5 (a defect), without a signal or a sanitizer's report, and when it fails say why and name a
file, an option or a thing of its arguments.

    fuzz_command.py EDGERT [--first SEED] [--runs N] [--seconds S]     (needs the onnx wheel)
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parents[2] / "examples" / "models"
CORPUS = HERE.parent / "corpus"
SECONDS = 60
ODD_NUMBERS = ["0", "-1", "1", "2", "abc", "", "99999999999999999999", "1e99", "nan", "0x10", " 1", "1.5", "4294967296"]
ODD_TEXTS = ["", "=", "x=", "=1", "x=1x", "x=1x-1", "x=1:2:3", "x=axb", "x=99999999999999999999x2", "x=1,2,3", "x=" + "1x" * 40 + "1",
             "nothing=1", "x=1=2", "x=0", "x=1x2x3x4x5x6x7x8x9", "%s%n", "x=1x4", "\xff", "y=x", "x=2147483647x2147483647x2147483647"]
# Values of options; FILE kinds are replaced by files of the folder. None: a switch.
OPTIONS = {
    "build": {
        "--shape": ["x=1x4", "x=1x4:2x4", *ODD_TEXTS], "--dim": ["N=1", "N=0", "N=-1", "N=3", *ODD_TEXTS], "--value": ["x=1,2,3,4", *ODD_TEXTS],
        "--meta": ["key=value", "edgert.task=classify", *ODD_TEXTS], "--target": ["cpu", "sm_87", "sm_87", "sm_1", "", "sm_87x", "gpu"],
        "--precision": ["fp16", "fp32", "int4", ""], "--fp16": None, "--fp32": None, "--multiprocessors": ODD_NUMBERS,
        "--nvrtc": ["nothing.so", ""], "--kernel-cache": ["none", "cache", "", "net.onnx"], "--compile-threads": ODD_NUMBERS,
        "--no-winograd": None, "--state": ["x=y", *ODD_TEXTS], "--most-turns": ODD_NUMBERS, "--golden": ["NPZ"], "--golden-seed": ODD_NUMBERS,
        "--dump-passes": ["dump", "net.onnx", "missing/folder"], "--emit-header": ["net.h", "missing/net.h", "."],
        "--emit-object": ["net.o", "net.S", "missing/net.o", "."], "--object-machine": ["x86_64", "aarch64", "z80"],
        "--symbol": ["net", "int", "", "a b", "9", "x" * 300], "--no-external-data": None,
        "--tuning-records": ["RECORDS"], "--device-profile": ["orin-15w", "", "x" * 300], "--error-on-miss": None,
        "--tune-seconds": ODD_NUMBERS, "--worker": ["/bin/false", "/nonexistent", ""], "--quiet": None, "--json": None,
    },
    "run": {
        "--inputs": ["NPZ"], "--outputs": ["out.npz", "missing/out.npz", ".", ""], "--random": ODD_NUMBERS,
        "--repeat": ["1", "2", "0", "-1", "abc", ""], "--image": ["IMAGE"], "--labels": ["label", "", "x"], "--self-test": None,
        "--threads": ODD_NUMBERS,
    },
    "bench": {
        "--threads": ODD_NUMBERS, "--shape-profile": ODD_NUMBERS, "--inputs": ["NPZ"], "--profile": None,
        "--warmup": ["0", "0.01", "-1", "nan", "abc", ""], "--duration": ["0.01", "0", "-1", "nan", "abc"],
        "--iterations": ["1", "3", "0", "-1", "abc", "99999999999999999999"], "--json": None,
    },
    "inspect": {"--json": None},
    "compare": {
        "--inputs": ["NPZ"], "--random": ODD_NUMBERS, "--reference": ["NPZ"], "--tolerance": ["0", "-1", "nan", "1", "abc", "inf"],
        "--layers": None, "--python": ["/nonexistent", "/bin/false", ""], "--json": None,
    },
    "doctor": {"--python": ["/nonexistent", "/bin/false", ""], "--json": None},
}
OPERANDS = {"build": ["ONNX"], "run": ["PLAN"], "bench": ["PLAN"], "inspect": ["PLAN|ONNX"], "compare": ["PLAN", "PLAN|ONNX"], "doctor": []}
# What bounds the time of a command whose own default is longer.
ALWAYS = {"bench": ["--warmup", "0", "--iterations", "2"]}


def make_models(folder):
    """Small models whose input is x[N,4] and whose output is y, beside the trained ones and the fuzzers' seeds."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    for name, nodes in {"relu": [helper.make_node("Relu", ["x"], ["y"])],
                        "sum": [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Add", ["s", "x"], ["y"])]}.items():
        graph = helper.make_graph(nodes, name, [x], [y])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / f"{name}.onnx")


def make_files(edgert, folder):
    """{kind: [whole files]}"""
    make_models(folder)
    np.savez(folder / "x.npz", x=np.ones((1, 4), np.float32))
    np.savez_compressed(folder / "label.npz", x=np.ones((4, 4), np.float32), label=np.zeros(4, np.int64), y=np.ones((4, 4), np.float32))
    np.savez(folder / "types.npz", x=np.ones((1, 4), np.int16), other=np.zeros((0, 3)))
    np.save(folder / "x.npy", np.ones((1, 4), np.float32))
    models = [folder / "relu.onnx", folder / "sum.onnx", MODELS / "digits_resnet.onnx", *sorted((CORPUS / "onnx").glob("*.onnx"))]
    plans = [*sorted((CORPUS / "plan").iterdir())]
    for model, *options in ((folder / "relu.onnx", "--golden-seed", "1"), (folder / "sum.onnx", "--shape", "x=1x4:2x4"), (MODELS / "digits_resnet.onnx",)):
        plan = folder / (model.stem + ".plan")
        subprocess.run([edgert, "build", "--quiet", model, "-o", plan, *options], check=True, stdout=subprocess.DEVNULL)
        plans += [plan] * 6
    images = [MODELS / name for name in ("digit_3.pgm", "digit_3.png", "shapes.png", "shapes.ppm")]
    npz = [folder / "x.npz", folder / "label.npz", folder / "types.npz", folder / "x.npy", MODELS / "digits_test.npz", *sorted((CORPUS / "npz").iterdir())]
    record = {"version": 1, "signature": "pointwise f32", "tactic": "v4", "kernel": "00", "sm": 87, "multiprocessors": 16, "nvrtc": "13.0",
              "profile": "orin-15w", "device": "Orin", "driver": "580", "clock_khz": 1, "memory_clock_khz": 1, "verdict": "ok",
              "median_us": 1.5, "low_us": 1, "high_us": 2}
    (folder / "records.jsonl").write_text((json.dumps(record) + "\n") * 3)
    (folder / "nested.jsonl").write_text("[" * 100000)
    records = [folder / "records.jsonl"] * 4 + [folder / "nested.jsonl"]
    return {"ONNX": models, "PLAN": plans, "NPZ": npz, "IMAGE": images, "RECORDS": records}


class Case:
    """One command line, and the damaged files that it needs."""

    def __init__(self, seed, files, folder):
        self.random = random.Random(seed)
        self.files = files
        self.folder = folder
        self.made = 0
        self.command = self.random.choices(list(OPTIONS), [6, 5, 2, 3, 3, 0.3])[0]
        self.arguments = self.compose()

    def chance(self, probability):
        return self.random.random() < probability

    def compose(self):
        chance, choose = self.chance, self.random.choice
        line = [str(self.file(choose(kind.split("|")))) for kind in OPERANDS[self.command]]
        if line and chance(0.1):
            line.pop()
        if chance(0.04):
            line.append(choose(ODD_TEXTS + ["net.plan"]))
        if self.command == "build" and not chance(0.05):
            line += ["-o", choose(["net.plan", "net.plan", "net.plan", "missing/net.plan", ".", "", "net.onnx"])]
        if self.command == "build" and chance(0.06):  # records are read for GPUs only
            line += ["--target", "sm_87", "--tuning-records", str(self.file("RECORDS"))]
        line += ALWAYS.get(self.command, []) if chance(0.97) else ["--iterations", "1"] if self.command == "bench" else []
        options = OPTIONS[self.command]
        for name in self.random.sample(list(options), min(len(options), int(self.random.expovariate(0.8)))):
            if name in line:
                continue
            line += [name] * (2 if chance(0.03) else 1) if options[name] is None else [name, self.value(choose(options[name]))]
        if chance(0.03):
            line.append(choose(["--nonsense", "-z", "--", "--help", "--help=1", "-"]))
        if chance(0.1):
            self.random.shuffle(line)
        command = choose(["", "buidl", "--version", "-1"]) if chance(0.01) else self.command
        return [command, *line]

    def value(self, value):
        return str(self.file(value)) if value in self.files else value

    def file(self, kind):
        """A file of this kind mostly whole; else damaged, of another kind, missing, or a folder."""
        choose = self.random.choice
        what = self.random.random()
        whole = choose(self.files[kind])
        if what < 0.5:
            return whole
        if what < 0.9:
            return self.damaged(whole)
        if what < 0.95:
            return choose(self.files[choose(list(self.files))])
        return choose([self.folder, self.folder / "missing.file", "", "/dev/null", self.folder / "missing" / "folder"])

    def damaged(self, whole):
        content = bytearray(whole.read_bytes())
        chance, below = self.chance, self.random.randrange
        if chance(0.3):
            del content[below(len(content) + 1) :]
        elif chance(0.2):
            at = below(len(content) + 1)
            content[at:at] = bytes(below(256) for _ in range(below(64)))
        for _ in range(below(8)):
            if content:
                # Headers decide most.
                at = below(min(len(content), 256)) if chance(0.5) else below(len(content))
                content[at] = below(256) if chance(0.6) else self.random.choice([0, 0x7F, 0x80, 0xFF, content[at] ^ 1])
        self.made += 1
        path = self.folder / f"damaged{self.made}{whole.suffix}"
        path.write_bytes(content)
        return path


def names_something(output, arguments):
    """Whether a message names a file, an option or a part of a value of the command line."""
    for argument in arguments:
        if argument == "" and ": : " in output or "--" in argument and argument in output:
            return True  # of an empty name there is nothing to see
        for part in {argument, pathlib.Path(argument).name, *re.split(r"[=:,]", argument)}:
            if len(part) > 1 and part in output or part.lstrip("-") and (f"'{part}'" in output or f" {part}:" in output):
                return True
    return "--" in output or "'" in output


def defect(code, errors, results, arguments):
    """What is wrong with how a command ended; empty: nothing."""
    # Of a model that does not build, the reasons are the result of `inspect`; so are the differences of `compare`.
    output = errors + results if code == 1 or arguments[0] == "inspect" else errors
    for sign in ("AddressSanitizer", "UndefinedBehavior", "runtime error:", "LeakSanitizer", "internal error"):
        if sign in output:
            return sign
    if code < 0:
        return f"signal {-code}"
    if code not in (0, 1, 2, 3, 4):
        return f"exit code {code}"
    if code == 1 and arguments[0] not in ("compare", "run"):
        return "exit code 1"
    if code and not output.strip():
        return f"exit code {code} without a message"
    if code in (3, 4) and not names_something(output, arguments[1:]):
        return f"exit code {code} with a message that names nothing"
    return ""


def limit():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28, 1 << 28))


def run(edgert, arguments, folder):
    """Exit code and what was printed on the standard error and output."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    try:
        done = subprocess.run([edgert, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS, env=environment,
                              stdin=subprocess.DEVNULL, preexec_fn=limit, check=False)
    except subprocess.TimeoutExpired:
        return None, "", ""
    except ValueError:  # a zero byte, which no command line can hold
        return 0, "", ""
    return done.returncode, done.stderr.decode(errors="replace"), done.stdout.decode(errors="replace")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edgert", help="the command")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=400, help="how many seeds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time, whatever is left")
    arguments = parser.parse_args()
    edgert = str(pathlib.Path(arguments.edgert).resolve())
    codes = collections.Counter()
    failures = 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        base = pathlib.Path(scratch) / "files"
        base.mkdir()
        files = make_files(edgert, base)
        for seed in range(arguments.first, arguments.first + arguments.runs):
            if time.monotonic() - started > arguments.seconds:
                break
            folder = pathlib.Path(scratch) / "work"
            folder.mkdir()
            case = Case(seed, files, folder)
            code, errors, results = run(edgert, case.arguments, folder)
            problem = "no end" if code is None else defect(code, errors, results, case.arguments)
            codes[f"{case.command} {code}"] += 1
            if problem:
                failures += 1
                print(f"seed {seed}: {problem}: edgert {shlex.join(case.arguments)}\n{errors[:2000]}", flush=True)
            shutil.rmtree(folder)
    print(f"{sum(codes.values())} command lines in {time.monotonic() - started:.0f} s, {failures} failures; exit codes: "
          + ", ".join(f"{name} {count}" for name, count in sorted(codes.items())))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
