# SPDX-License-Identifier: Apache-2.0
"""The edgert command line, and `edgert build` as its users meet it: what it makes, says, and returns when it can't."""

import errno
import json
import os
import pty
import struct
import subprocess
import unittest

import numpy as np
import onnx
from edgert_command import (
    BAD_INPUT,
    EDGERT,
    IO,
    MODELS,
    OK,
    USAGE,
    CommandTest,
    conv_net,
    edgert,
    main,
    make_model,
    two_inputs,
    value,
)
from onnx import TensorProto, helper

COMMANDS = ("build", "run", "bench", "inspect", "compare", "doctor")
DIGITS = MODELS / "digits_resnet.onnx"


class Usage(CommandTest):
    def test_help_has_examples(self):
        self.call("--help", says=["Examples:", "Exit codes:", *COMMANDS])
        for command in COMMANDS:
            with self.subTest(command):
                self.call(command, "--help", says=["Examples:", f"edgert {command}"])

    def test_version(self):
        self.call("--version", says="edgert 0.")

    def test_refused_command_lines(self):
        for arguments, says in (
            ([], "subcommand"),
            (["fly"], "fly"),
            (["build"], "model"),
            (["build", "m.onnx"], "--output"),
            (["build", "m.onnx", "-o", "p", "--fast"], "--fast"),
            (["build", "m.onnx", "-o", "p", "extra"], "extra"),
            (["run"], "plan"),
            (["run", "p", "--repeat", "0"], "--repeat"),
            (["run", "p", "--repeat", "often"], "often"),
            (["run", "p", "--threads", "0"], "--threads"),
            (["run", "p", "--inputs", "a.npz", "--image", "b.png"], "--image"),
            (["run", "p", "--labels", "label"], "--labels"),
            (["bench", "p", "--threads", "1000"], "--threads"),
            (["bench", "p", "--iterations", "3", "--duration", "1"], "--duration"),
            (["bench", "p", "--duration", "-1"], "--duration"),
            (["compare", "p"], "--reference"),
            (["compare", "p", "m.onnx", "--reference", "o.npz"], "exactly one"),
            (["compare", "p", "m.onnx", "--tolerance", "-1"], "--tolerance"),
            (["build", "m.onnx", "-o", "p", "--object-machine", "pdp11"], "pdp11"),
        ):
            with self.subTest(arguments):
                self.call(*arguments, code=USAGE, says=says)

    def test_a_target_that_does_not_exist(self):
        self.call(
            "build",
            self.save("net.onnx", conv_net()),
            "-o",
            self.folder / "p",
            "--target",
            "abacus",
            code=USAGE,
            says="abacus",
        )
        self.assertEqual(self.files(), ["net.onnx"])

    def test_options_for_gpus(self):
        model = self.save("net.onnx", conv_net())
        for arguments, says in (
            (["--target", "sm_72"], ["sm_72", "sm_87"]),
            (["--fp16"], "--target"),
            (["--precision", "fp32"], "--target"),
            (["--target", "sm_87", "--fp16", "--fp32"], "--fp16"),
            (["--target", "sm_87", "--fp32", "--precision", "fp16"], "--fp32"),
            (["--target", "sm_87", "--precision", "fp8"], "fp8"),
            (["--target", "sm_87", "--precision", "fp16,tf32,fp16"], "twice"),
            (["--bf16"], "--target"),
            (["--tactics", "all"], "--target"),
            (["--target", "sm_87", "--tactics", "some"], "some"),
            (["--target", "sm_87", "--emit-header", self.folder / "n.h"], "--emit-header"),
        ):
            with self.subTest(arguments):
                self.call("build", model, "-o", self.folder / "p", *arguments, code=USAGE, says=says)
        self.call("build", model, "-o", self.folder / "p", "--target", "sm_87", "--nvrtc", self.folder / "none.so",
                  code=BAD_INPUT, says="none.so")  # fmt: skip
        self.assertEqual(self.files(), ["net.onnx"])

    def test_a_plan_for_a_gpu(self):
        found = {row["what"].split(" (")[0]: row["found"] for row in self.call_json("doctor")}
        if not found["NVRTC"]:
            self.skipTest("no NVRTC")
        plan = self.build(MODELS / "digits_resnet.onnx", "net.plan", "--target", "sm_87", "--kernel-cache", self.folder / "k")
        again = self.build(MODELS / "digits_resnet.onnx", "again.plan", "--target", "sm_87", "--kernel-cache", self.folder / "k")
        self.assertEqual(plan.read_bytes(), again.read_bytes())
        description = self.call_json("inspect", plan)
        self.assertEqual(description["target"], "sm_87")
        self.assertGreater(description["device_bytes"], 0)
        for step in description["profiles"][0]["steps"]:
            self.assertIn(step["compute"], ("f16", "f32"))
            self.assertIn("grid", step["attributes"])
        if not found["CUDA driver"]:
            for command in ("run", "bench"):
                self.call(command, plan, code=BAD_INPUT, says=["needs a GPU", "libcuda.so.1"])

    def test_results_that_cannot_be_printed_are_no_success(self):
        with open("/dev/full", "w") as full:
            self.call("doctor", code=IO, says="standard output", stdout=full)


class Build(CommandTest):
    def test_report(self):
        model = self.save("net.onnx", conv_net())
        self.call("build", model, "-o", self.folder / "a.plan", says=["build: ", "100 %", "profile"])
        report = self.call_json("build", model, "-o", self.folder / "a.plan")
        self.assertEqual(report["plan_bytes"], (self.folder / "a.plan").stat().st_size)
        self.assertEqual(report["profiles"][0]["steps"], 2)  # convolution of planes with ReLU, average
        self.assertGreaterEqual(report["profiles"][0]["arena_bytes"], report["profiles"][0]["arena_lower_bound"])
        result = edgert("build", model, "-o", self.folder / "a.plan", "--quiet")
        self.assertEqual((result.stdout, result.stderr), ("", ""))
        self.assertEqual(self.files(), ["a.plan", "net.onnx"])

    def test_progress_bar_on_a_terminal(self):
        model = self.save("net.onnx", conv_net())
        main_end, terminal = pty.openpty()
        process = subprocess.Popen(
            [EDGERT, "build", model, "-o", self.folder / "p.plan"], stdout=subprocess.DEVNULL, stderr=terminal
        )
        os.close(terminal)
        shown = b""
        with open(main_end, "rb", buffering=0) as reader:
            try:
                while chunk := reader.read(65536):
                    shown += chunk
            except OSError:  # the end of a terminal, on Linux
                pass
        self.assertEqual(process.wait(), OK)
        self.assertIn(b"\rbuild [" + b"." * 30, shown)
        self.assertIn(b"\rbuild [" + b"#" * 30 + b"] 100 %", shown)
        self.assertTrue(shown.endswith(b"\n"))

    def test_two_builds_from_different_folders_are_equal(self):
        plans = []
        for place in ("one", "two/deeper"):
            folder = self.folder / place
            folder.mkdir(parents=True)
            (folder / "copy.onnx").write_bytes(DIGITS.read_bytes())
            self.call("build", "copy.onnx", "-o", "net.plan", "--shape", "image=2x1x8x8", cwd=folder)
            plans.append((folder / "net.plan").read_bytes())
        self.assertEqual(plans[0], plans[1])
        self.assertNotIn(str(self.folder).encode(), plans[0])

    def test_profiles(self):
        model = self.save("two.onnx", two_inputs())
        plan = self.build(
            model, "p.plan", "--shape", "a=1x3:2x3:8x3", "--shape", "b=1x3", "--shape", "b=2x3", "--shape", "b=8x3"
        )
        profiles = self.call_json("inspect", plan)["profiles"]
        self.assertEqual([p["inputs"][0]["shape"] for p in profiles], [[1, 3], [2, 3], [8, 3]])
        for rows in (1, 2, 8):
            a, b = np.random.default_rng(rows).standard_normal((2, rows, 3), np.float32)
            self.call("run", plan, "--inputs", self.save_npz("in.npz", a=a, b=b), "--outputs", self.folder / "out.npz")
            with np.load(self.folder / "out.npz") as out:
                np.testing.assert_array_equal(out["sum"], a + b)
                self.assertEqual(out["count"].dtype, np.int64)
                self.assertEqual(int(out["count"]), rows * 3)
        self.call("bench", plan, "--shape-profile", 2, "--iterations", 3, "--warmup", 0)
        self.call("bench", plan, "--shape-profile", 3, code=USAGE, says="--shape-profile 3")
        self.call(
            "run",
            plan,
            "--inputs",
            self.save_npz("in.npz", a=np.zeros((3, 3), np.float32), b=np.zeros((2, 3), np.float32)),
            code=BAD_INPUT,
            says=["a=[3,3]", "b=[2,3]", "f32[8,3]"],
        )

    def test_symbolic_dimension(self):
        plan = self.build(self.save("two.onnx", two_inputs()), "p.plan", "--dim", "N=5")
        self.assertEqual(self.call_json("inspect", plan)["profiles"][0]["inputs"][1]["shape"], [5, 3])

    def test_wrong_shapes(self):
        model = self.save("two.onnx", two_inputs())
        for arguments, code, says in (
            (["--shape", "c=1x3"], USAGE, ["'c'", "a, b"]),
            (["--shape", "a=1x3x"], USAGE, "a=1x3x"),
            (["--shape", "a=1xthree"], USAGE, "three"),
            (["--shape", "a=-1x3"], USAGE, "-1"),
            (["--shape", "a"], USAGE, "--shape 'a'"),
            (["--shape", "a="], USAGE, "--shape 'a='"),
            (["--shape", "a=99999999999999999999x3"], USAGE, "99999999999999999999"),
            (["--shape", "a=1x1x1x1x1x1x1x1x3"], USAGE, "more than 8"),
            (["--shape", "a=1x3:2x3:4x3", "--shape", "b=1x3:2x3"], USAGE, "one shape"),
            (["--shape", "a=1x3x3", "--shape", "b=1x3"], BAD_INPUT, ["--shape a", "f32[N,3]"]),
            (["--shape", "a=1x4", "--shape", "b=1x3"], BAD_INPUT, ["--shape a", "f32[N,3]"]),
            (["--shape", "a=2x3", "--shape", "b=4x3"], BAD_INPUT, "N"),
            (["--dim", "N=many"], USAGE, "many"),
            (["--value", "z=1"], USAGE, "'z'"),
            (["--value", "a=x"], USAGE, "'x'"),
            (["--meta", "novalue"], USAGE, "novalue"),
        ):
            with self.subTest(arguments):
                self.call("build", model, "-o", self.folder / "p.plan", *arguments, code=code, says=says)
        self.assertEqual(self.files(), ["two.onnx"])

    def test_a_dimension_that_is_not_bound(self):
        image = value("image", TensorProto.FLOAT, [1, 3, "height", "width"])
        model = make_model([helper.make_node("Relu", ["image"], ["y"])], [image], [value("y", TensorProto.FLOAT, None)])
        path = self.save("free.onnx", model)
        self.call(
            "build", path, "-o", self.folder / "p.plan", code=BAD_INPUT, says=["image", "height", "width", "--shape"]
        )
        self.build(path, "p.plan", "--shape", "image=1x3x5x7")

    def test_value_that_decides_a_shape(self):
        nodes = [helper.make_node("Reshape", ["x", "target"], ["y"])]
        model = make_model(
            nodes,
            [value("x", TensorProto.FLOAT, [2, 6]), value("target", TensorProto.INT64, [2])],
            [value("y", TensorProto.FLOAT, None)],
        )
        path = self.save("reshape.onnx", model)
        self.call("build", path, "-o", self.folder / "p.plan", code=BAD_INPUT, says=["target", "--value"])
        plan = self.build(path, "p.plan", "--value", "target=3,-1")
        description = self.call_json("inspect", plan)["profiles"][0]
        self.assertEqual(description["outputs"][0]["shape"], [3, 4])
        self.assertEqual([i["name"] for i in description["inputs"]], ["x"])
        for text, says in (
            ("3,2,2", "2 numbers, not 3"),
            ("3.5,-1", "'3.5'"),
            ("3,99999999999999999999", "99999999999999999999"),
            ("3,", "''"),
        ):
            self.call("build", path, "-o", plan, "--value", f"target={text}", code=USAGE, says=["target", says])

    def test_metadata(self):
        model = conv_net()
        entry = model.metadata_props.add()
        entry.key, entry.value = "author", "somebody"
        plan = self.build(self.save("net.onnx", model), "p.plan", "--meta", "edgert.task=classify", "--meta", "a=b=c")
        metadata = self.call_json("inspect", plan)["metadata"]
        self.assertEqual(metadata, {"author": "somebody", "edgert.task": "classify", "a": "b=c"})

    def test_dump_passes(self):
        model = self.save("net.onnx", conv_net())
        self.build(model, "p.plan", "--dump-passes", self.folder / "dumps" / "deeper")
        names = sorted(path.name for path in (self.folder / "dumps" / "deeper").iterdir())
        for ending in (".before.txt", ".before.dot", ".after.txt", ".after.dot"):
            self.assertTrue(any(name.endswith("fuse_epilogue" + ending) for name in names), names)
        dot = next((self.folder / "dumps" / "deeper").glob("*fuse_epilogue.after.dot")).read_text()
        self.assertTrue(dot.startswith("digraph"), dot[:100])
        self.call("build", model, "-o", self.folder / "q.plan", "--dump-passes", model, code=IO, says=str(model))

    def test_header_and_objects(self):
        model = self.save("net.onnx", conv_net())
        plan = self.build(
            model, "my-net.plan", "--emit-header", self.folder / "net.h", "--emit-object", self.folder / "net.o"
        )
        header = (self.folder / "net.h").read_text()
        for part in ("namespace my_net", "kPlanBytes", "memory_bytes", '"image"', '"features"'):
            self.assertIn(part, header)
        self.build(model, "b.plan", "--emit-object", self.folder / "b.S", "--symbol", "net")
        assembly = (self.folder / "b.S").read_text()
        self.assertIn("net_plan", assembly)
        self.build(model, "c.plan", "--emit-object", self.folder / "c.o", "--object-machine", "aarch64")
        machines = []
        for name in ("net.o", "c.o"):
            elf = (self.folder / name).read_bytes()
            self.assertEqual(elf[:4], b"\x7fELF")
            self.assertIn(plan.read_bytes(), elf)
            machines.append(struct.unpack_from("<H", elf, 18)[0])
        self.assertEqual(machines, [62, 183])  # EM_X86_64, EM_AARCH64

    def test_external_data(self):
        path = self.folder / "net.onnx"
        onnx.save_model(conv_net(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        plan = self.build(path, "external.plan")
        inside = self.build(self.save("inside.onnx", conv_net()), "inside.plan")
        self.assertEqual(plan.read_bytes(), inside.read_bytes())
        self.call("build", path, "-o", plan, "--no-external-data", code=BAD_INPUT, says="external")
        os.truncate(self.folder / "weights.bin", 100)
        self.call("build", path, "-o", plan, code=BAD_INPUT, says="weights.bin")
        (self.folder / "weights.bin").unlink()
        self.call("build", path, "-o", plan, code=BAD_INPUT, says="weights.bin")

    def test_all_unsupported_operators_at_once(self):
        nodes = [
            helper.make_node("NoSuchOperator", ["x"], ["a"], "first"),
            helper.make_node("Relu", ["x"], ["b"], "fine"),
            helper.make_node("Gadget", ["x"], ["c"], "second", domain="com.vendor"),
        ]
        model = make_model(
            nodes,
            [value("x", TensorProto.FLOAT, [2])],
            [value(name, TensorProto.FLOAT, None) for name in "abc"],
            opsets=[("com.vendor", 3)],
        )
        path = self.save("odd.onnx", model)
        says = ["first (NoSuchOperator, opset 17)", "second (com.vendor.Gadget, opset 3)", "odd.onnx"]
        self.call("build", path, "-o", self.folder / "p.plan", code=BAD_INPUT, says=says)
        result = edgert("inspect", path, "--json")
        self.assertEqual(result.returncode, BAD_INPUT)
        problems = {p["node"]: p for p in json.loads(result.stdout)["problems"]}
        self.assertEqual(problems["first"]["operator"], "NoSuchOperator")
        self.assertEqual((problems["second"]["operator"], problems["second"]["opset"]), ("Gadget", 3))
        self.assertNotIn("fine", problems)

    def test_files_that_are_no_models(self):
        whole = DIGITS.read_bytes()
        for name, content in (
            ("text.onnx", b"This is no model.\n" * 50),
            ("empty.onnx", b""),
            ("short.onnx", whole[: len(whole) // 2]),
            ("tiny.onnx", whole[:7]),
            ("plan.onnx", b"EdgeRT\r\n" + bytes(200)),
            ("zeros.onnx", bytes(1000)),
        ):
            with self.subTest(name):
                path = self.folder / name
                path.write_bytes(content)
                self.call("build", path, "-o", self.folder / "p.plan", code=BAD_INPUT, says=name)
        self.assertFalse((self.folder / "p.plan").exists())

    def test_opsets_outside_the_range(self):
        for opset in (0, 999):
            model = make_model(
                [helper.make_node("Relu", ["x"], ["y"])],
                [value("x", TensorProto.FLOAT, [2])],
                [value("y", TensorProto.FLOAT, [2])],
                opset=opset,
            )
            self.call(
                "build", self.save("old.onnx", model), "-o", self.folder / "p.plan", code=BAD_INPUT, says=str(opset)
            )

    def test_files_that_cannot_be_read(self):
        self.call("build", self.folder / "none.onnx", "-o", self.folder / "p.plan", code=IO, says="none.onnx")
        self.call("build", self.folder, "-o", self.folder / "p.plan", code=IO, says=str(self.folder))

    def test_places_that_cannot_be_written(self):
        model = self.save("net.onnx", conv_net())
        self.call("build", model, "-o", self.folder / "no" / "p.plan", code=IO, says="p.plan")
        self.call("build", model, "-o", self.folder, code=IO, says=str(self.folder))
        self.call("build", model, "-o", "/dev/full", code=IO, says=["/dev/full", os.strerror(errno.ENOSPC)])
        self.call("build", model, "-o", self.folder / "p.plan", "--emit-header", "/dev/full", code=IO, says="/dev/full")

    @unittest.skipUnless(os.geteuid() == 0, "needs root to mount a small file system")
    def test_full_disk_leaves_the_old_plan(self):
        disk = self.folder / "disk"
        disk.mkdir()
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False
        )
        if mount.returncode != 0:
            self.skipTest("may not mount: " + mount.stderr.decode().strip())
        self.addCleanup(subprocess.run, ["umount", disk], check=False)
        plan = disk / "net.plan"
        self.call("build", self.save("small.onnx", conv_net()), "-o", plan)
        before = plan.read_bytes()
        self.call("build", DIGITS, "-o", plan, code=IO, says=["net.plan", os.strerror(errno.ENOSPC)])
        self.assertEqual(plan.read_bytes(), before)
        self.assertEqual([p.name for p in disk.iterdir()], ["net.plan"])
        self.call("run", plan)

    def test_too_large_a_file_leaves_the_old_plan(self):
        # What a full disk does, without root: the process may not write more than 64 KiB into a file.
        def limit():
            import resource
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

        plan = self.build(self.save("small.onnx", conv_net()), "net.plan")
        before = plan.read_bytes()
        self.call("build", DIGITS, "-o", plan, code=IO, says=["net.plan", os.strerror(errno.EFBIG)], preexec_fn=limit)
        self.assertEqual(plan.read_bytes(), before)
        self.assertEqual(self.files(), ["net.plan", "small.onnx"])

    def test_failed_build_leaves_the_old_plan(self):
        plan = self.build(self.save("net.onnx", conv_net()), "net.plan")
        before = plan.read_bytes()
        (self.folder / "bad.onnx").write_text("no model")
        self.call("build", self.folder / "bad.onnx", "-o", plan, code=BAD_INPUT)
        self.assertEqual(plan.read_bytes(), before)


if __name__ == "__main__":
    main()
