# SPDX-License-Identifier: Apache-2.0
"""The networks of tests/models as PyTorch runs them: convolutional ones operator by operator from the ONNX file, the
transformers written with PyTorch's own attention and normalisation, since that is how PyTorch users have them."""

import math

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import nn


def _pads(attributes):
    pads = attributes.get("pads", [0, 0, 0, 0])
    if pads[:2] != pads[2:]:
        raise SystemExit(f"pads {pads} are not symmetric")
    return tuple(pads[:2])


def _line(node, attributes):
    """One ONNX node as a line of Python; names of values are `v["..."]`, made unique by the caller."""
    x = [f'v["{name}"]' for name in node.input]
    kind = node.op_type
    unary = {"Relu": "F.relu({0})", "Sigmoid": "torch.sigmoid({0})", "HardSwish": "F.hardswish({0})", "Tanh": "torch.tanh({0})",
             "HardSigmoid": "F.hardsigmoid({0})", "GlobalAveragePool": "{0}.mean((2, 3), keepdim=True)"}
    binary = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/"}
    if kind in unary:
        return unary[kind].format(*x)
    if kind in binary:
        return f"{x[0]} {binary[kind]} {x[1]}"
    if kind == "Conv":
        bias = x[2] if len(x) > 2 else "None"
        return (f"F.conv2d({x[0]}, {x[1]}, {bias}, {tuple(attributes.get('strides', [1, 1]))}, {_pads(attributes)}, "
                f"{tuple(attributes.get('dilations', [1, 1]))}, {attributes.get('group', 1)})")
    if kind == "BatchNormalization":
        return f"F.batch_norm({x[0]}, {x[3]}, {x[4]}, {x[1]}, {x[2]}, False, 0.0, {attributes.get('epsilon', 1e-5)})"
    if kind == "Clip":
        return f"torch.clamp({x[0]}, {x[1]}, {x[2]})"
    if kind == "MaxPool":
        return f"F.max_pool2d({x[0]}, {tuple(attributes['kernel_shape'])}, {tuple(attributes.get('strides', [1, 1]))}, {_pads(attributes)})"
    if kind == "Flatten":
        return f"torch.flatten({x[0]}, {attributes.get('axis', 1)})"
    if kind == "Gemm":
        weight = x[1] if attributes.get("transB", 0) else f"{x[1]}.t()"
        return f"F.linear({x[0]}, {weight}, {x[2] if len(x) > 2 else 'None'})"
    if kind == "Concat":
        return f"torch.cat([{', '.join(x)}], {attributes['axis']})"
    if kind == "Softmax":
        return f"torch.softmax({x[0]}, {attributes.get('axis', -1)})"
    if kind == "Transpose":
        return f"{x[0]}.permute({tuple(attributes['perm'])})"
    raise SystemExit(f"{node.name}: no PyTorch line for {kind}")


class OnnxNetwork(nn.Module):
    """forward() is generated source: a line a node, so that torch.compile sees ordinary code."""

    def __init__(self, path):
        super().__init__()
        graph = onnx.load(str(path)).graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.names = {}
        lines = []
        for node in graph.node:
            if node.op_type == "Constant":
                continue
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            outputs = ", ".join(f'v["{name}"]' for name in node.output)
            if node.op_type == "Split":
                sizes = constants[node.input[1]].tolist() if len(node.input) > 1 else None
                text = f'torch.split(v["{node.input[0]}"], {sizes}, {attributes.get("axis", 0)})'
            elif node.op_type == "Reshape":
                text = f'v["{node.input[0]}"].reshape(batch, *{constants[node.input[1]].tolist()[1:]})'
            elif node.op_type == "Resize":
                scale = float(constants[node.input[2]][2])
                text = f'F.interpolate(v["{node.input[0]}"], scale_factor={scale}, mode="nearest")'
            else:
                text = _line(node, attributes)
            lines.append(f"    {outputs} = {text}")
        source = ["def forward(self, x):", "    batch = x.shape[0]", f'    v = {{"{graph.input[0].name}": x}}']
        used = {name for node in graph.node if node.op_type not in ("Reshape", "Resize", "Split") for name in node.input}
        for index, (name, array) in enumerate(constants.items()):
            if name not in used:
                continue
            if array.ndim == 0:
                source.append(f'    v["{name}"] = {float(array)!r}')
                continue
            self.register_buffer(f"c{index}", torch.from_numpy(np.array(array)))
            source.append(f'    v["{name}"] = self.c{index}')
        source += lines + [f'    return v["{graph.output[0].name}"]']
        scope = {"torch": torch, "F": F}
        exec(compile("\n".join(source), f"<{path.name}>", "exec"), scope)  # noqa: S102: our own lines
        self._forward = scope["forward"]

    def forward(self, x):
        return self._forward(self, x)


class _Block(nn.Module):
    def __init__(self, width, heads, hidden, norm_first):
        super().__init__()
        self.heads, self.norm_first = heads, norm_first
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def attend(self, x, mask):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.project(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x, mask=None):
        if self.norm_first:
            x = x + self.attend(self.norm1(x), mask)
            return x + self.down(F.gelu(self.up(self.norm2(x))))
        x = self.norm1(x + self.attend(x, mask))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class VitS16(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 384, 16, 16)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 384)), nn.Parameter(torch.randn(1, 197, 384))
        self.blocks = nn.ModuleList(_Block(384, 6, 1536, True) for _ in range(12))
        self.norm, self.head = nn.LayerNorm(384), nn.Linear(384, 1000)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class BertBase(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.kinds = nn.Embedding(30522, 768), nn.Embedding(2, 768)
        self.positions, self.norm = nn.Parameter(torch.randn(1, 128, 768)), nn.LayerNorm(768)
        self.blocks = nn.ModuleList(_Block(768, 12, 3072, False) for _ in range(12))
        self.pool = nn.Linear(768, 768)

    def forward(self, ids, mask, kinds):
        x = self.norm(self.words(ids) + self.kinds(kinds) + self.positions)
        bias = (1 - mask[:, None, None, :].to(x.dtype)) * -10000.0
        for block in self.blocks:
            x = block(x, bias)
        return torch.tanh(self.pool(x[:, 0]))


def make(path, batch):
    """The network in fp16 on the GPU, channels last, and its inputs by name."""
    torch.manual_seed(0)
    generator = np.random.default_rng(1)
    if path.stem == "bert_base":
        network = BertBase()
        ids = generator.integers(0, 30522, (batch, 128))
        inputs = {"input_ids": ids, "attention_mask": np.ones((batch, 128), np.int64), "token_type_ids": np.zeros((batch, 128), np.int64)}
        tensors = [torch.from_numpy(array).cuda() for array in inputs.values()]
    else:
        network = VitS16() if path.stem == "vit_s16" else OnnxNetwork(path)
        extent = 640 if path.stem.endswith("_640") else 224
        inputs = {"input": generator.standard_normal((batch, 3, extent, extent), np.float32)}
        tensors = [torch.from_numpy(inputs["input"]).cuda().half().contiguous(memory_format=torch.channels_last)]
    network = network.eval().cuda().half()
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network, tensors, inputs


def capture(function, tensors):
    """A CUDA graph of one call, and its output."""
    with torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                function(*tensors)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = function(*tensors)
    return graph, output


def time_graph(graph, runs, cold):
    """Sorted microseconds of single replays between events; `cold`: a buffer four times as large as the L2 cache is written
    before each, else the graph is replayed before it, so that all is queued when the GPU begins."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    flush = torch.empty(4 * torch.cuda.get_device_properties(0).L2_cache_size, dtype=torch.uint8, device="cuda") if cold else None
    times = []
    for run in range(runs + 3):
        if cold:
            flush.zero_()
        else:
            graph.replay()
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        if run >= 3:
            times.append(1000 * begin.elapsed_time(end))
    return sorted(times)


def cosine(a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else 1.0
