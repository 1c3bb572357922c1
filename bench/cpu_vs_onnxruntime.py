# SPDX-License-Identifier: Apache-2.0
"""Latency of EdgeRT and of ONNX Runtime on the CPU, side by side: the same models, inputs of the same shape, the same
number of threads, in turns, so that what else the machine does meets both.

Each turn measures both for some seconds in a process of its own. The table has the median over all runs, the smallest
time, the spread of the turns' medians, the largest error of EdgeRT's output as a fraction of the largest magnitude,
the arena beside the least that any placement needs, and the memory of both in all: for EdgeRT the plan and the session,
which is all there is, for ONNX Runtime what its process grew by at its peak, weights included in both.

Needs numpy, onnx and onnxruntime (build/venv has them) and build/edgert.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "models"))
EXAMPLES = """examples:
  build/venv/bin/python bench/cpu_vs_onnxruntime.py                       the full-size models, 1 and 2 threads
  build/venv/bin/python bench/cpu_vs_onnxruntime.py resnet50 --threads 1 --turns 10
  build/venv/bin/python bench/cpu_vs_onnxruntime.py examples/models/digits_vit.onnx --json
  build/venv/bin/python bench/cpu_vs_onnxruntime.py --save                also writes bench/results/<date>-cpu.md"""

# One turn of ONNX Runtime, in a process of its own: model, npz of inputs, threads, seconds. Times in microseconds.
PEER = """
import json, resource, sys, time
import numpy as np, onnxruntime as ort
model, inputs, threads, seconds = sys.argv[1], dict(np.load(sys.argv[2])), int(sys.argv[3]), float(sys.argv[4])
options = ort.SessionOptions()
options.intra_op_num_threads = threads
options.inter_op_num_threads = 1
options.log_severity_level = 3
peak_bytes = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak_bytes()
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
warm = time.perf_counter() + seconds / 4
while True:
    session.run(None, inputs)
    if time.perf_counter() > warm: break
times, end = [], time.perf_counter() + seconds
while not times or time.perf_counter() < end:
    start = time.perf_counter()
    session.run(None, inputs)
    times.append((time.perf_counter() - start) * 1e6)
print(json.dumps({"median": float(np.median(times)), "min": min(times), "runs": len(times),
                  "memory": peak_bytes() - before}))
"""


def call(command, accepted=(0,)):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if result.returncode not in accepted:
        raise SystemExit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return result.stdout


class Model:
    """A model with its plan, its inputs, and the error of the plan's outputs."""

    def __init__(self, path, edgert, folder):
        self.path, self.edgert, self.name = path, edgert, path.stem
        self.plan, self.inputs = folder / f"{self.name}.plan", folder / f"{self.name}.npz"
        call([edgert, "build", path, "-o", self.plan, "--quiet"])
        self.profile = json.loads(call([edgert, "inspect", self.plan, "--json"]))["profiles"][0]
        np.savez(self.inputs, **self.draw_inputs())
        # 1: different beyond the bounds of `compare`. The table says by how much; that is no reason not to measure.
        compare = [edgert, "compare", self.plan, path, "--inputs", self.inputs, "--json", "--python", sys.executable]
        report = json.loads(call(compare, accepted=(0, 1)))
        self.error = max(output["relative_to_max"] for output in report["outputs"].values())

    def draw_inputs(self):
        from architectures import ARCHITECTURES

        rng = np.random.default_rng(1)
        if self.name in ARCHITECTURES:
            return ARCHITECTURES[self.name].inputs(rng, 1, 224)
        shapes = {i["name"]: i["shape"] for i in self.profile["inputs"]}
        return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}

    def turn(self, peer, threads, seconds):
        if peer:
            return json.loads(call([sys.executable, "-c", PEER, self.path, self.inputs, threads, seconds]))
        report = json.loads(
            call(
                [
                    self.edgert,
                    "bench",
                    self.plan,
                    "--inputs",
                    self.inputs,
                    "--threads",
                    threads,
                    "--warmup",
                    seconds / 4,
                    "--duration",
                    seconds,
                    "--json",
                ]
            )
        )
        if report["allocations_after_prepare"] != 0:
            raise SystemExit(f"{self.name}: {report['allocations_after_prepare']} allocations after prepare")
        latency = report["latency_us"]
        memory = report["plan_bytes"] + report["session_bytes"]
        return {"median": latency["median"], "min": latency["min"], "runs": report["iterations"], "memory": memory}

    def measure(self, threads, turns, seconds):
        results = {False: [], True: []}
        for turn in range(turns):
            # The order changes from turn to turn: neither is always the one that follows.
            for peer in (False, True) if turn % 2 == 0 else (True, False):
                results[peer].append(self.turn(peer, threads, seconds))
        row = {
            "model": self.name,
            "threads": threads,
            "relative_to_max": self.error,
            "arena_bytes": self.profile["arena_bytes"],
            "arena_lower_bound": self.profile["arena_lower_bound"],
        }
        for key, peer in (("edgert", False), ("onnxruntime", True)):
            medians = [result["median"] / 1000 for result in results[peer]]
            row[key] = {
                "median_ms": float(np.median(medians)),
                "min_ms": min(r["min"] for r in results[peer]) / 1000,
                "spread_ms": [min(medians), max(medians)],
                "runs": sum(r["runs"] for r in results[peer]),
                "memory_bytes": max(r["memory"] for r in results[peer]),
            }
        row["ratio_of_medians"] = row["edgert"]["median_ms"] / row["onnxruntime"]["median_ms"]
        row["ratio_of_minima"] = row["edgert"]["min_ms"] / row["onnxruntime"]["min_ms"]
        return row


COLUMNS = [
    "model",
    "threads",
    "EdgeRT ms",
    "spread",
    "min",
    "ONNX Runtime ms",
    "spread",
    "min",
    "ratio",
    "ratio of minima",
    "error",
    "arena kB",
    "lower bound kB",
    "EdgeRT MB in all",
    "ONNX Runtime MB",
]


def cells(row):
    def times(result):
        low, high = result["spread_ms"]
        return [f"{result['median_ms']:.2f}", f"{low:.2f} to {high:.2f}", f"{result['min_ms']:.2f}"]

    return [
        row["model"],
        str(row["threads"]),
        *times(row["edgert"]),
        *times(row["onnxruntime"]),
        f"{row['ratio_of_medians']:.2f}",
        f"{row['ratio_of_minima']:.2f}",
        f"{row['relative_to_max']:.1e}",
        f"{row['arena_bytes'] / 1000:.0f}",
        f"{row['arena_lower_bound'] / 1000:.0f}",
        f"{row['edgert']['memory_bytes'] / 1e6:.1f}",
        f"{row['onnxruntime']['memory_bytes'] / 1e6:.1f}",
    ]


def line(parts):
    return "| " + " | ".join(parts) + " |"


def heading():
    return [line(COLUMNS), line(["---", *["---:"] * (len(COLUMNS) - 1)])]


def environment(edgert):
    import onnxruntime

    cpu = next(
        (text.split(": ", 1)[1].strip() for text in open("/proc/cpuinfo") if text.startswith("model name")),
        platform.processor(),
    )
    kernels = next(
        f["detail"]
        for f in json.loads(call([edgert, "doctor", "--json", "--python", sys.executable]))
        if f["what"] == "CPU kernels"
    )
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "processors": os.cpu_count(),
        "kernels": kernels,
        "load_average": os.getloadavg()[0],
        "edgert": call([edgert, "--version"]).split()[1],
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def page(report):
    about = report["environment"]
    return "\n".join(
        [
            "# EdgeRT and ONNX Runtime on a CPU",
            "",
            f"{about['date']}, {about['cpu']}, {about['processors']} processors, kernels: {about['kernels']}; "
            f"{about['system']}; edgert {about['edgert']}, onnxruntime {about['onnxruntime']}. "
            f"Load average at the start: {about['load_average']:.1f}.",
            "",
            f"Command: `{report['command']}`",
            "",
            "FP32, batch 1 unless the model fixes another. Both in turns, each a process of its own. Milliseconds: "
            "median of the turns' medians, their spread, and the smallest of all runs. The error is the largest of the "
            "outputs', as a fraction of their largest magnitude; where boxes of an untrained detector have scores that "
            "differ by rounding alone, another box comes first and it says nothing. A load average above 0 means that other programs took "
            "time from both: then the smallest times say more than the medians.",
            "",
            *heading(),
            *(line(cells(row)) for row in report["results"]),
            "",
        ]
    )


def find_models(names, folder):
    """Paths of ONNX files; full-size architectures are named, and written if they are missing."""
    from architectures import ARCHITECTURES

    paths, wanted = [], []
    for name in names or ARCHITECTURES:
        if name in ARCHITECTURES:
            wanted.append(name)
            paths.append(folder / f"{name}.onnx")
        elif Path(name).is_file():
            paths.append(Path(name))
        else:
            raise SystemExit(f"{name}: neither a file nor one of {', '.join(ARCHITECTURES)}")
    if wanted:
        call([sys.executable, REPOSITORY / "tests" / "models" / "make_models.py", "--out", folder, *wanted])
    return paths


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="ONNX files or full-size architectures (default: all of those)"
    )
    parser.add_argument(
        "--threads",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[1, 2],
        metavar="N,N",
        help="numbers of threads (default: 1,2)",
    )
    parser.add_argument("--turns", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--seconds", type=float, default=2, help="measured in each turn (default: 2)")
    parser.add_argument("--edgert", type=Path, default=REPOSITORY / "build" / "edgert", help="default: build/edgert")
    parser.add_argument(
        "--model-folder",
        type=Path,
        default=REPOSITORY / "build" / "full_size_models",
        help="where full-size models lie or are written (default: build/full_size_models)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--save", action="store_true", help="write bench/results/<date>-cpu.md too")
    arguments = parser.parse_args()
    if arguments.turns < 1 or arguments.seconds <= 0 or min(arguments.threads) < 1:
        parser.error("--turns, --seconds and --threads must be positive")
    if not os.access(arguments.edgert, os.X_OK):
        parser.error(f"{arguments.edgert} is no program; build it with scripts/demo.sh, or give --edgert")
    return arguments


def main():
    arguments = parse_arguments()
    paths = find_models(arguments.models, arguments.model_folder)
    report = {
        "environment": environment(arguments.edgert),
        "results": [],
        "command": " ".join(
            [
                "bench/cpu_vs_onnxruntime.py",
                *(Path(model).name for model in arguments.models),
                "--threads",
                ",".join(map(str, arguments.threads)),
                "--turns",
                str(arguments.turns),
                "--seconds",
                f"{arguments.seconds:g}",
            ]
        ),
    }
    if not arguments.json:
        print("\n".join(heading()), flush=True)
    with tempfile.TemporaryDirectory(prefix="edgert-bench-") as folder:
        for path in paths:
            model = Model(path, arguments.edgert, Path(folder))
            for threads in arguments.threads:
                report["results"].append(model.measure(threads, arguments.turns, arguments.seconds))
                if not arguments.json:
                    print(line(cells(report["results"][-1])), flush=True)
    if arguments.json:
        print(json.dumps(report, indent=2))
    if arguments.save:
        path = REPOSITORY / "bench" / "results" / f"{report['environment']['date']}-cpu.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(report))
        print(f"written: {path.relative_to(REPOSITORY)}", file=sys.stderr)


if __name__ == "__main__":
    main()
