# SPDX-License-Identifier: Apache-2.0
"""Plans from `edgert build` beside PyTorch on one GPU, in one run: GPU time of one launch of a CUDA graph, between events.

Columns: EdgeRT (fp16, built here for this GPU; with --tuned also with tiles timed on it, with --libraries also with products
and convolutions by cuBLASLt and cuDNN wherever they have them), PyTorch eager in a CUDA graph
(fp16, channels last), with --autotune also torch.compile max-autotune in a CUDA graph; each with the L2 cache as the run
before left it, and after a buffer four times as large was written. The last table is EdgeRT alone, confined to
--multiprocessors by a green context and to the instructions of sm_80, with --tuned also with tiles timed there: what a
smaller GPU's floor is, and how near a plan comes to it. Floors: of each step the higher of bytes by bandwidth and operations by peak, both measured on the same
multiprocessors (`edgert bench`), summed; "with launches" adds what empty kernels take in as long a graph, measured likewise.

Needs numpy, onnx, torch with CUDA, NVRTC and the edgert command.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EXAMPLES = """examples:
  python3 bench/gpu_vs_peers.py --models MODELS                 ResNets, mobile networks and transformers, batch 1 and 8
  python3 bench/gpu_vs_peers.py --models MODELS resnet50 --batches 1 --autotune --profile
  python3 bench/gpu_vs_peers.py --models MODELS --save          also writes bench/results/<date>-<GPU>-peers.md"""
NAMES = ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "vit_s16", "yolov8n", "bert_base"]
ENVIRONMENT = dict(os.environ)  # of the commands
RESULTS = Path(__file__).resolve().parent / "results"


def call(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if result.returncode != 0:
        raise RuntimeError(f"{shlex.join(map(str, command))}\n{result.stderr.strip()}")
    return result.stdout


def find_nvrtc():
    """The NVRTC that PyTorch brings, if any; `edgert build` finds an installed toolkit by itself."""
    import torch

    packages = Path(torch.__file__).resolve().parents[1]
    found = sorted(packages.glob("nvidia/*/lib/libnvrtc.so.*"))
    return ["--nvrtc", str(found[-1])] if found else []


def use_libraries_of_torch():
    """The commands find the cuBLASLt and cuDNN that PyTorch brings."""
    import torch

    packages = Path(torch.__file__).resolve().parents[1]
    found = sorted({str(file.parent) for pattern in ("libcublasLt.so.*", "libcudnn.so.*") for file in packages.glob(f"nvidia/*/lib/{pattern}")})
    ENVIRONMENT["LD_LIBRARY_PATH"] = ":".join([*found, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])


class Bench:
    def __init__(self, arguments, folder, target):
        self.arguments, self.folder, self.target = arguments, folder, target
        self.nvrtc = arguments.nvrtc and ["--nvrtc", arguments.nvrtc] or find_nvrtc()

    def build(self, path, batch, kind, extra):
        """The plan's path and the seconds that building took."""
        plan = self.folder / f"{path.stem}-{batch}-{kind}.plan"
        shapes = ["input_ids=%dx128", "attention_mask=%dx128", "token_type_ids=%dx128"] if path.stem == "bert_base" else None
        extent = 640 if path.stem.endswith("_640") else 224
        shapes = [shape % batch for shape in shapes or [f"input=%dx3x{extent}x{extent}"]]
        start = time.monotonic()
        call([self.arguments.edgert, "build", path, "-o", plan, "--quiet", "--target", self.target, *self.nvrtc, *extra,
              *(word for shape in shapes for word in ("--shape", shape))])
        return plan, time.monotonic() - start

    def measure(self, plan, inputs, *extra):
        words = ["--inputs", inputs] if inputs else []
        return json.loads(call([self.arguments.edgert, "bench", plan, "--json", "--cold-l2", "--warmup", "0.1", "--duration",
                                str(self.arguments.seconds), *words, *extra]))

    def outputs(self, plan, inputs):
        out = self.folder / "out.npz"
        call([self.arguments.edgert, "run", plan, "--inputs", inputs, "--outputs", out])
        return list(np.load(out).values())[0]


def spread(times):
    return {"median": statistics.median(times), "p99": times[min(len(times) - 1, int(0.99 * len(times)))], "min": times[0]}


def measure_torch(path, batch, arguments):
    import torch
    import torch_peers

    torch.backends.cudnn.benchmark = True
    network, tensors, inputs = torch_peers.make(path, batch)
    graph, output = torch_peers.capture(network, tensors)
    runs = arguments.runs
    row = {"eager": [spread(torch_peers.time_graph(graph, runs, cold)) for cold in (False, True)]}
    graph.replay()
    torch.cuda.synchronize()
    outputs = output.float().cpu().numpy()
    if arguments.autotune:
        start = time.monotonic()
        compiled = torch.compile(network, mode="max-autotune-no-cudagraphs")
        graph, output = torch_peers.capture(compiled, tensors)
        row["autotuned"] = [spread(torch_peers.time_graph(graph, runs, cold)) for cold in (False, True)]
        row["autotune_seconds"] = time.monotonic() - start
    return row, inputs, outputs


OTHERS = {"tuned": "EdgeRT tuned", "library": "cuBLASLt, cuDNN in EdgeRT"}


def text(times):
    """median (p99/median)"""
    return f"{times['median']:.1f} ({times['p99'] / times['median']:.2f})"


def measure_model(bench, path, batch, plans, arguments):
    row = {"name": path.stem, "batch": batch}
    inputs = None
    if not arguments.no_torch:
        torch_row, arrays, expected = measure_torch(path, batch, arguments)
        row |= torch_row
        inputs = bench.folder / "in.npz"
        np.savez(inputs, **arrays)
    for kind in ("edgert", *OTHERS):
        if (kind, batch) not in plans:
            continue
        plan, row[f"{kind}_build_seconds"] = plans[kind, batch]
        row[kind] = bench.measure(plan, inputs, *(["--profile"] if arguments.profile and batch == 1 else []))
    # The transformers have random weights of their own in PyTorch: only times are comparable.
    if inputs and path.stem not in ("vit_s16", "bert_base"):
        import torch_peers

        row["cosine"] = torch_peers.cosine(bench.outputs(plans["edgert", batch][0], inputs), expected)
    for kind in ("part", "part_tuned"):
        if (kind, batch) in plans:
            row[kind] = bench.measure(plans[kind, batch][0], None, "--multiprocessors", str(arguments.multiprocessors))
    return row


def table(rows, batch, arguments):
    autotuned = arguments.autotune
    others = [kind for kind in OTHERS if any(kind in row for row in rows)]
    head = ["network", "EdgeRT", "cold", *(word for kind in others for word in (OTHERS[kind], "cold")), "torch eager", "cold"]
    head += (["torch max-autotune", "cold", "compiled in, s"] if autotuned else []) + ["nodes", "queueing, run / driver", "build, s", "cosine to torch"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for row in rows:
        if row["batch"] != batch or "edgert" not in row:
            continue
        cells = [row["name"]]
        for kind in ["edgert", *others]:
            ours = row.get(kind)
            cells += [f"{ours[key]['median']:.1f} ({ours[key]['p99_over_median']:.2f})" for key in ("gpu_latency_us", "gpu_latency_cold_us")] if ours else ["-", "-"]
        for kind in ["eager"] + (["autotuned"] if autotuned else []):
            cells += [text(times) for times in row[kind]] if kind in row else ["-", "-"]
        if autotuned:
            cells.append(f"{row['autotune_seconds']:.0f}" if "autotune_seconds" in row else "-")
        ours = row["edgert"]
        cells += [str(ours["graph_nodes"]), f"{ours['host_us']['median']:.2f} / {ours['driver_host_us']['median']:.2f}",
                  f"{row['edgert_build_seconds']:.1f}", f"{row['cosine']:.6f}" if "cosine" in row else "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def tuned_part_cells(part):
    if part is None:
        return ["-"] * 5
    cells = []
    for latency, floor in (("gpu_latency_us", "floor_us"), ("gpu_latency_cold_us", "floor_cold_us")):
        median = part[latency]["median"]
        cells += [f"{median:.1f}", f"{median / (part[floor] + part['floor_launches_us']):.2f}"]
    return [*cells, str(part["graph_nodes"])]


def part_table(rows):
    tuned = any("part_tuned" in row for row in rows)
    head = ["network", "batch", "µs, warm", "floor", "ratio", "with launches", "ratio", "µs, cold", "floor", "ratio", "with launches", "ratio", "nodes"]
    head += ["tuned, µs, warm", "ratio", "µs, cold", "ratio", "nodes"] if tuned else []  # both ratios to floors with launches
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for row in rows:
        part = row.get("part")
        if part is None:
            continue
        cells = [row["name"], str(row["batch"])]
        for latency, floor in (("gpu_latency_us", "floor_us"), ("gpu_latency_cold_us", "floor_cold_us")):
            median = part[latency]["median"]
            cells.append(f"{median:.1f} ({part[latency]['p99_over_median']:.2f})")
            for us in (part[floor], part[floor] + part["floor_launches_us"]):
                cells += [f"{us:.1f}", f"{median / us:.2f}"]
        cells.append(str(part["graph_nodes"]))
        if tuned:
            cells += tuned_part_cells(row.get("part_tuned"))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def step_tables(rows):
    lines = []
    for row in rows:
        steps = row.get("edgert", {}).get("steps")
        if not steps:
            continue
        lines += ["", f"### Steps of {row['name']}, batch {row['batch']}, cold cache", "",
                  "| step | kernel | output | nodes | µs | floor | ratio |", "| --- | --- | --- | --- | --- | --- | --- |"]
        for step in sorted(steps, key=lambda step: step["step"]):
            lines.append(f"| {step['step']} | {step['operator']} | {step['output']} | {', '.join(step['nodes'])} | {step['us']:.2f} | "
                         f"{step['floor_us']:.2f} | {step['ratio']:.1f} |")
    return lines


def rates_text(measured):
    rates = measured["device_rates"]
    return (f"{rates['memory_gb_per_s']:.0f} GB/s from memory, {rates['cache_gb_per_s']:.0f} GB/s from the L2 cache, "
            f"{rates['tensor_tera_multiply_adds_per_s']:.1f} tera multiply-adds/s on tensor cores, {rates['step_us']:.2f} us a "
            f"launch that does nothing, {rates['early_step_us']:.2f} with a programmatic edge ({rates['source']})")


def report(rows, arguments, seconds):
    first = next(row for row in rows if "edgert" in row)
    driver = ""
    try:
        driver = ", driver " + call(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]).split()[0]
    except (RuntimeError, OSError):
        pass
    peer = ""
    if not arguments.no_torch:
        import torch

        peer = f", PyTorch {torch.__version__}"
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]  # folders are this machine's
    lines = [f"# Plans beside PyTorch on one GPU: {datetime.date.today()}", "",
             f"{first['edgert']['device']}{driver}{peer}; `{shlex.join(['python3', 'bench/gpu_vs_peers.py', *words])}`, {seconds:.0f} s.", "",
             "GPU time of one graph launch in µs: median (99th percentile by median). Cold: the L2 cache overwritten before each run.",
             f"The device: {rates_text(first['edgert'])}."]
    for batch in arguments.batches:
        lines += ["", f"## Batch {batch}, fp16", "", *table(rows, batch, arguments)]
    parts = part_table(rows)
    if len(parts) > 2:
        part = next(row["part"] for row in rows if "part" in row)
        lines += ["", f"## Confined to {arguments.multiprocessors} multiprocessors, instructions of sm_80, no programmatic edges", "",
                  f"{part['device']}: {rates_text(part)}.", "", *parts]
    lines += step_tables(rows)
    failed = [f"- {row['name']}, batch {row['batch']}: {row['error']}" for row in rows if "error" in row]
    return "\n".join([*lines, *(["", "## Failed", "", *failed] if failed else [])]) + "\n"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"files of --models without .onnx (default: {' '.join(NAMES)})")
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="folder that tests/models/make_models.py filled")
    parser.add_argument("--edgert", type=Path, default=RESULTS.parents[1] / "build" / "edgert", help="the command (default: build/edgert)")
    parser.add_argument("--target", default="", help="what plans are built for (default: this GPU)")
    parser.add_argument("--nvrtc", default="", help="NVRTC for `edgert build` (default: PyTorch's)")
    parser.add_argument("--batches", type=lambda words: [int(word) for word in words.split(",")], default=[1, 8])
    parser.add_argument("--multiprocessors", type=int, default=16, help="of the confined column, 0 for none (default: 16)")
    parser.add_argument("--tuned", action="store_true", help="also plans built with --target local, whose tiles are timed on this GPU and on the part of it")
    parser.add_argument("--libraries", action="store_true", help="also plans whose products and convolutions cuBLASLt and cuDNN compute")
    parser.add_argument("--tactics", default="native", help="what tuning chooses among for --tuned (default: native)")
    parser.add_argument("--tune-seconds", type=float, default=60, help="of device time for a tuned plan (default: 60)")
    parser.add_argument("--autotune", action="store_true", help="also torch.compile max-autotune: minutes a network")
    parser.add_argument("--no-torch", action="store_true", help="EdgeRT alone")
    parser.add_argument("--profile", action="store_true", help="also each step of EdgeRT at batch 1, with its floor")
    parser.add_argument("--runs", type=int, default=200, help="runs of PyTorch (default: 200)")
    parser.add_argument("--seconds", type=float, default=0.2, help="of measuring EdgeRT's run() (default: 0.2)")
    parser.add_argument("--save", action="store_true", help="write the report to bench/results")
    parser.add_argument("--out", type=Path, help="write report and figures (.json) to this folder")
    return parser.parse_args()


def part_words(arguments):
    return ["--instructions", "sm_80", "--multiprocessors", str(arguments.multiprocessors)]


def build_all(bench, paths, arguments):
    """{(name, kind, batch): (plan, seconds)}; a failure is kept as an exception."""
    jobs = {}
    for path in paths:
        for batch in arguments.batches:
            jobs[path.stem, "edgert", batch] = (path, batch, "edgert", [])
            if arguments.libraries:
                jobs[path.stem, "library", batch] = (path, batch, "library", ["--tactics", "cudnn"])
            if arguments.multiprocessors:
                jobs[path.stem, "part", batch] = (path, batch, "part", part_words(arguments))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = {key: pool.submit(bench.build, *job) for key, job in jobs.items()}
    built = {key: future.exception() or future.result() for key, future in futures.items()}
    if arguments.tuned:  # one at a time: they use the GPU
        effort = ["--tune-seconds", str(arguments.tune_seconds), "--tactics", arguments.tactics]
        local = Bench(arguments, bench.folder, "local")
        for path in paths:
            tuned = [("tuned", 1, effort)]
            tuned += [("part_tuned", batch, [*part_words(arguments), *effort]) for batch in arguments.batches if arguments.multiprocessors]
            for kind, batch, extra in tuned:
                try:
                    built[path.stem, kind, batch] = local.build(path, batch, kind, extra)
                except RuntimeError as error:
                    built[path.stem, kind, batch] = error
    return built


def main():
    arguments = parse_arguments()
    if not arguments.target:
        import torch

        arguments.target = "sm_%d%d" % torch.cuda.get_device_capability()
    if arguments.libraries or arguments.tactics != "native":
        use_libraries_of_torch()
    start = time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, Path(folder), arguments.target)
        paths = [arguments.models / f"{name}.onnx" for name in arguments.names]
        built = build_all(bench, paths, arguments)
        for path in paths:
            for batch in arguments.batches:
                mine = {key[1:]: result for key, result in built.items() if key[0] == path.stem and key[2] == batch}
                try:
                    for result in mine.values():
                        if isinstance(result, Exception):
                            raise result
                    rows.append(measure_model(bench, path, batch, mine, arguments))
                except (RuntimeError, SystemExit) as error:
                    rows.append({"name": path.stem, "batch": batch, "error": re.sub(r"\s+", " ", str(error))[:500]})
                print(rows[-1]["name"], rows[-1]["batch"], rows[-1].get("error", "measured"), file=sys.stderr, flush=True)
    if not any("edgert" in row for row in rows):
        print(json.dumps(rows, indent=1))
        return 1
    text_report = report(rows, arguments, time.monotonic() - start)
    print(text_report)
    device = re.sub(r"\W+", "-", next(row for row in rows if "edgert" in row)["edgert"]["device"].split(" (")[0].lower().replace("nvidia ", ""))
    for path in ([arguments.out / "peers.md"] if arguments.out else []) + ([RESULTS / f"{datetime.date.today()}-{device}-peers.md"] if arguments.save else []):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_report)
    if arguments.out:
        (arguments.out / "peers.json").write_text(json.dumps(rows, indent=1))
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
