#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Random valid ONNX graphs through EdgeRT and ONNX Runtime.

Every seed gives one graph. EdgeRT runs it on every instruction set of this CPU, with one and with three threads, and
from a plan that no optional pass has seen; all must agree with ONNX Runtime. What does not is made smaller and saved
as MODEL.onnx and MODEL.npz, with a line that repeats it. Where ONNX Runtime and EdgeRT differ, onnx's reference decides
whether it is ONNX Runtime that is wrong, and the inputs changed a little whether the graph merely magnifies rounding.

    differential.py --runner build/tests/fuzz/fuzz_differential_runner [--first SEED] [--graphs N] [--seconds S] [--save FOLDER]
    differential.py --runner ... --replay MODEL.onnx...     each with MODEL.npz beside it
"""

import argparse
import collections
import pathlib
import sys
import time

import numpy as np
import onnx

import dense_operators  # noqa: F401  operators register themselves
import moving_operators  # noqa: F401
import network_patterns  # noqa: F401
import pointwise_operators  # noqa: F401
from comparison import Runner, judge, run_onnxruntime
from graph_builder import OPERATORS, Builder, Skip
from shrinking import shrink

OPSETS = (9, 10, 11, 12, 13, 13, 14, 15, 16, 17, 17, 18, 18, 19, 20, 21, 22, 23, 23, 24)
WEIGHTS = np.array([weight for weight, _ in OPERATORS])
FAILURES = ("disagree", "error")


def random_graph(seed):
    """A model and its inputs; None where nothing came of this seed."""
    rng = np.random.default_rng(seed)
    types = ["float32"] * 10 + ["float16", "float64"]
    g = Builder(rng, int(rng.choice(OPSETS)), types[rng.integers(len(types))])
    wanted = int(rng.integers(1, 13))
    for _ in range(4 * wanted):
        if len(g.nodes) >= 60 or wanted == 0:
            break
        function = OPERATORS[rng.choice(len(OPERATORS), p=WEIGHTS / WEIGHTS.sum())][1]
        before = len(g.nodes)
        try:
            function(g)
        except Skip:
            pass  # nodes made before it stay: they are valid by themselves
        wanted -= len(g.nodes) > before
    try:
        return g.model()
    except Skip:
        return None


def save(folder, stem, model, feeds):
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / f"{stem}.onnx")
    np.savez(folder / f"{stem}.npz", **feeds)


def summary(model):
    return " -> ".join(node.op_type for node in model.graph.node)


def report(arguments, runner, seed, verdict, text, model, feeds):
    """Shrinks and saves what failed; returns the verdict on the smallest graph, of which more can be said."""
    kind = text.split(":")[0] if verdict == "error" else ""
    same = ("disagree", "peer") if verdict == "disagree" else (verdict,)

    def fails(candidate, inputs):
        got, detail = judge(runner, candidate, inputs)
        return got in same and detail.startswith(kind)

    model, feeds = shrink(model, feeds, fails, run_onnxruntime)
    verdict, text = judge(runner, model, feeds)
    print(f"{verdict} of seed {seed}: {text.strip()}\n  {summary(model)}", flush=True)
    if arguments.save and verdict in FAILURES:
        stem = f"seed{seed}"
        save(pathlib.Path(arguments.save), stem, model, feeds)
        print(f"  {sys.argv[0]} --runner {arguments.runner} --replay {arguments.save}/{stem}.onnx", flush=True)
    return verdict


def replay(runner, paths):
    failures = 0
    for path in paths:
        model = onnx.load(path)
        feeds = dict(np.load(pathlib.Path(path).with_suffix(".npz")))
        verdict, text = judge(runner, model, feeds)
        failures += verdict in FAILURES
        print(f"{verdict}: {path}: {summary(model)}: {text.strip()}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", required=True, help="the fuzz_differential_runner program")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--graphs", type=int, default=1000, help="how many seeds")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time, whatever is left")
    parser.add_argument("--save", default="", help="where models that fail go")
    parser.add_argument("--verbose", action="store_true", help="print what EdgeRT refuses, too")
    parser.add_argument("--replay", nargs="+", help="models that failed before, instead of new ones")
    arguments = parser.parse_args()
    runner = Runner(arguments.runner)
    if arguments.replay:
        failures = replay(runner, arguments.replay)
        runner.close()
        return 1 if failures else 0

    counts = collections.Counter()
    operators = collections.Counter()
    started = time.monotonic()
    for seed in range(arguments.first, arguments.first + arguments.graphs):
        if time.monotonic() - started > arguments.seconds:
            break
        made = random_graph(seed)
        if made is None:
            counts["nothing"] += 1
            continue
        model, feeds = made
        verdict, text = judge(runner, model, feeds)
        if verdict == "agree":
            operators.update({node.op_type for node in model.graph.node})
        if verdict in FAILURES:
            verdict = report(arguments, runner, seed, verdict, text, model, feeds)
        elif arguments.verbose and verdict != "agree":
            print(f"{verdict} of seed {seed}: {text.strip()[:300]}: {summary(model)}", flush=True)
        counts[verdict] += 1
    runner.close()
    print(f"{sum(counts.values())} graphs in {time.monotonic() - started:.0f} s: " + ", ".join(f"{n} {v}" for v, n in counts.most_common()))
    print(f"{len(operators)} operators in graphs that agree: " + ", ".join(f"{op} {n}" for op, n in sorted(operators.items())))
    return 1 if any(counts[kind] for kind in FAILURES) else 0


if __name__ == "__main__":
    sys.exit(main())
