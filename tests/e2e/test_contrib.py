# SPDX-License-Identifier: Apache-2.0
"""The operators of com.microsoft, which ONNX Runtime's optimiser and its model builders write, against ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
from edgert_command import BAD_INPUT, CommandTest, float_tensor, main, make_model, reference, value
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "com.microsoft"


def random(*dims, seed=1):
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


def ints(*values, dtype=np.int32):
    return np.array(values, dtype)


class Contrib(CommandTest):
    def check(self, op, operands, outputs=1, constants=(), tolerance=2e-5, domain=DOMAIN, unread=(), **attributes):
        """A model of one node. Operands are arrays or None; those whose places are in `constants` are initializers.
        `unread`: names of further outputs that nobody reads."""
        names = ["" if operand is None else f"x{i}" for i, operand in enumerate(operands)]
        given = {f"x{i}": operand for i, operand in enumerate(operands) if operand is not None and i not in constants}
        initializers = [numpy_helper.from_array(operands[i], f"x{i}") for i in constants]
        wanted = range(outputs) if isinstance(outputs, int) else outputs
        results = [f"y{i}" if i in wanted else "" for i in range(max(wanted) + 1)]
        node = helper.make_node(op, names, [*results, *unread], "node", domain=domain, **attributes)
        inputs = [value(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in given.items()]
        declared = [value(n, TensorProto.FLOAT, None) for n in results if n]
        model = self.save("net.onnx", make_model([node], inputs, declared, initializers, opsets=[(DOMAIN, 1)]))
        plan = self.build(model)
        self.call("run", plan, "--inputs", self.save_npz("i.npz", **given), "--outputs", self.folder / "o.npz")
        expected = reference(model, given)
        with np.load(self.folder / "o.npz") as actual:
            self.assertEqual(sorted(actual.files), sorted(expected))
            for name, array in expected.items():
                self.assertEqual(actual[name].shape, array.shape, name)
                np.testing.assert_allclose(actual[name], array, rtol=tolerance, atol=tolerance, err_msg=name)

    def test_activations(self):
        x, bias = random(2, 3, 8), random(8, seed=2)
        self.check("Gelu", [x])
        self.check("BiasGelu", [x, bias])
        self.check("FastGelu", [x])
        self.check("FastGelu", [x, bias])
        self.check("QuickGelu", [x])
        self.check("QuickGelu", [x], alpha=1.0)

    def test_products(self):
        a, b = random(2, 3, 4, 5), random(2, 3, 5, 6, seed=2)
        self.check("FusedMatMul", [a, b], alpha=0.125)
        self.check("FusedMatMul", [a, np.swapaxes(b, 2, 3).copy()], transB=1, constants=[1])
        self.check("FusedMatMul", [np.swapaxes(a, 2, 3).copy(), b], transA=1, alpha=2.0)
        for activation, parameters in (
            ("Relu", {}),
            ("LeakyRelu", {"activation_alpha": 0.2}),
            ("Tanh", {}),
        ):
            with self.subTest(activation):
                self.check("FusedGemm", [a[0, 0], b[0, 0], random(6)], constants=[1], activation=activation, **parameters)

    def test_convolutions(self):
        x, w, bias, z = random(1, 4, 7, 7), random(6, 4, 3, 3, seed=2), random(6, seed=3), random(1, 6, 7, 7, seed=4)
        for activation, parameters in (
            ("Relu", None),
            ("LeakyRelu", [0.3]),
            ("Clip", [-0.5, 0.5]),
            ("HardSigmoid", [0.1, 0.4]),
        ):
            attributes = {"activation": activation, "pads": [1, 1, 1, 1]}
            if parameters:
                attributes["activation_params"] = parameters
            with self.subTest(activation):
                self.check("FusedConv", [x, w, bias], constants=[1, 2], **attributes)
                self.check("FusedConv", [x, w, bias, z], constants=[1, 2], **attributes)

    def test_normalizations(self):
        x, skip, gamma, beta, bias = random(2, 3, 8), random(2, 3, 8, seed=2), random(8), random(8, seed=3), random(8, seed=4)
        self.check("SkipLayerNormalization", [x, skip, gamma, beta])
        self.check("SkipLayerNormalization", [x, skip, gamma, beta, bias], outputs=[0, 3], epsilon=1e-5)
        self.check("SkipLayerNormalization", [x, skip[:1], gamma, None, bias])
        self.check("SkipSimplifiedLayerNormalization", [x, skip, gamma], epsilon=1e-5)
        self.check("SkipSimplifiedLayerNormalization", [x, skip, gamma, bias], outputs=[0, 3], epsilon=1e-5)
        self.check("SimplifiedLayerNormalization", [x, gamma], domain="", epsilon=1e-5, axis=-1)

    def test_embedding(self):
        ids, segments, mask = ints([3, 1, 2, 0], [5, 5, 4, 1]), ints([0, 0, 1, 1], [0, 1, 1, 1]), ints([1, 1, 1, 0], [1, 1, 0, 0])
        tables = [random(6, 8), random(5, 8, seed=2), random(2, 8, seed=3)]
        scale = [random(8, seed=4), random(8, seed=5)]
        self.check("EmbedLayerNormalization", [ids, segments, *tables, *scale, mask], constants=[2, 3, 4, 5, 6], unread=["ones"])
        self.check("EmbedLayerNormalization", [ids, None, *tables[:2], None, *scale], constants=[2, 3, 5, 6], unread=["ones"])

    def test_attention(self):
        x, w, bias = random(2, 5, 8), random(8, 24, seed=2), random(24, seed=3)
        self.check("Attention", [x, w, bias], constants=[1, 2], num_heads=2)
        self.check("Attention", [x, w, bias], constants=[1, 2], num_heads=2, unidirectional=1, scale=0.3)
        masks = (ints(3, 5), ints([1, 1, 0, 1, 1], [0, 1, 1, 1, 1]), np.tril(np.ones((2, 5, 5), np.int32)))
        for mask in masks:
            with self.subTest(mask=mask.shape):
                self.check("Attention", [x, w, bias, mask], constants=[1, 2], num_heads=2)
        past = random(2, 2, 2, 3, 4, seed=4)
        self.check("Attention", [x, w, bias, None, past], constants=[1, 2], num_heads=2, unidirectional=1, outputs=2)
        scores = random(1, 2, 5, 5, seed=5)
        self.check("Attention", [x, w, bias, None, None, scores], constants=[1, 2], num_heads=2)
        self.check("Attention", [x, random(8, 20), random(20)], constants=[1, 2], num_heads=2, qkv_hidden_sizes=[8, 8, 4])

    def test_multi_head_attention(self):
        q, k, v, bias = random(2, 5, 8), random(2, 6, 8, seed=2), random(2, 6, 8, seed=3), random(24, seed=4)
        self.check("MultiHeadAttention", [q, k, v], num_heads=2)
        self.check("MultiHeadAttention", [q, k, v, bias], constants=[3], num_heads=2)
        self.check("MultiHeadAttention", [q, k, v, None, ints([1, 1, 1, 1, 0, 0], [1] * 6)], num_heads=2)
        self.check("MultiHeadAttention", [q, k, v, None, None, random(1, 2, 5, 6, seed=5)], num_heads=2)
        past = [random(2, 2, 3, 4, seed=6), random(2, 2, 3, 4, seed=7)]
        fresh = [random(2, 5, 8, seed=8), random(2, 5, 8, seed=9)]
        self.check("MultiHeadAttention", [q, *fresh, None, None, None, *past], num_heads=2, outputs=3, unidirectional=1)
        heads = [random(2, 2, 6, 4, seed=8), random(2, 2, 6, 4, seed=9)]
        self.check("MultiHeadAttention", [q, *heads], num_heads=2)

    def rotation(self, positions=16, size=8):
        angles = np.outer(np.arange(positions), 1 / 100 ** (np.arange(size // 2) / (size // 2))).astype(np.float32)
        return [np.cos(angles), np.sin(angles)]

    def test_rotary_embedding(self):
        positions = np.array([[0, 1, 2], [4, 5, 6]], np.int64)
        for interleaved in (0, 1):
            with self.subTest(interleaved=interleaved):
                self.check("RotaryEmbedding", [random(2, 3, 16), positions, *self.rotation()], constants=[2, 3], interleaved=interleaved)
                self.check("RotaryEmbedding", [random(2, 2, 3, 8), np.array([4], np.int64), *self.rotation()], constants=[2, 3],
                           interleaved=interleaved)  # fmt: skip

    def test_group_query_attention(self):
        batch, heads, shared, size = 1, 4, 2, 16
        attributes = {"num_heads": heads, "kv_num_heads": shared}
        for tokens, past, filled, extra in ((5, 0, 0, {}), (1, 6, 6, {}), (1, 6, 6, {"local_window_size": 3}), (5, 0, 0, {"do_rotary": 1}),
                                            (1, 6, 6, {"do_rotary": 1}), (1, 6, 6, {"softcap": 2.0})):  # fmt: skip
            with self.subTest(tokens=tokens, past=past, **extra):
                q = random(batch, tokens, heads * size)
                k, v = (random(batch, tokens, shared * size, seed=s) for s in (2, 3))
                cache = [random(batch, shared, past, size, seed=s) if past else None for s in (4, 5)]
                total = filled + tokens
                lengths = [ints(total - 1), np.array(total, np.int32)]
                angles = self.rotation(size=size) if "do_rotary" in extra else []
                self.check("GroupQueryAttention", [q, k, v, *cache, *lengths, *angles], outputs=3, constants=[6],
                           **attributes, **extra)  # fmt: skip
        packed = random(1, 5, (heads + 2 * shared) * size)
        self.check("GroupQueryAttention", [packed, None, None, None, None, ints(4), np.array(5, np.int32)], outputs=3, constants=[6], **attributes)

    def test_products_with_weights_of_few_bits(self):
        k, n, block = 40, 6, 16
        blocks = -(-k // block)
        rng = np.random.default_rng(3)
        for bits in (4, 8):
            packed = rng.integers(0, 256, (n, blocks, block * bits // 8), np.uint8)
            scales = rng.random(n * blocks, np.float32)
            points = rng.integers(0, 256, n * -(-blocks * bits // 8), np.uint8)
            for operands in ([random(2, 3, k), packed, scales], [random(2, 3, k), packed, scales, points]):
                with self.subTest(bits=bits, zero_points=len(operands) == 4):
                    self.check("MatMulNBits", operands, constants=range(1, len(operands)), K=k, N=n, bits=bits, block_size=block,
                               tolerance=1e-4)  # fmt: skip

    def test_what_is_not_supported_says_so(self):
        node = helper.make_node("FusedConv", ["x", "w"], ["y"], "node", domain=DOMAIN, activation="Swirl")
        model = make_model([node], [value("x", TensorProto.FLOAT, [1, 2, 4, 4])], [value("y", TensorProto.FLOAT, None)],
                           [float_tensor("w", random(3, 2, 3, 3))], opsets=[(DOMAIN, 1)])  # fmt: skip
        self.call("build", self.save("net.onnx", model), "-o", self.folder / "p", code=BAD_INPUT, says="Swirl")


class OptimisedModels(CommandTest):
    def test_a_transformer_as_onnx_runtime_rewrites_it(self):
        """Layer normalizations, GELU and products that its own optimiser fuses, in a model of an older opset."""
        size = 16
        tensors = {
            "w1": random(size, 32), "b1": random(32, seed=2), "w2": random(32, size, seed=3), "b2": random(size, seed=4),
            "gamma": random(size, seed=5), "beta": random(size, seed=6), "two": np.array(2, np.float32), "one": np.array(1, np.float32),
            "root": np.array(np.sqrt(2), np.float32), "half": np.array(0.5, np.float32), "tiny": np.array(1e-5, np.float32),
        }  # fmt: skip
        n = helper.make_node
        nodes = [
            n("MatMul", ["x", "w1"], ["m1"]), n("Add", ["m1", "b1"], ["a1"]),
            n("Div", ["a1", "root"], ["d"]), n("Erf", ["d"], ["e"]), n("Add", ["e", "one"], ["e1"]), n("Mul", ["a1", "e1"], ["g"]), n("Mul", ["g", "half"], ["gelu"]),
            n("MatMul", ["gelu", "w2"], ["m2"]), n("Add", ["m2", "b2"], ["a2"]), n("Add", ["a2", "x"], ["s"]),
            n("ReduceMean", ["s"], ["mean"], axes=[-1]), n("Sub", ["s", "mean"], ["c"]), n("Pow", ["c", "two"], ["sq"]),
            n("ReduceMean", ["sq"], ["var"], axes=[-1]), n("Add", ["var", "tiny"], ["ve"]), n("Sqrt", ["ve"], ["sd"]), n("Div", ["c", "sd"], ["nrm"]),
            n("Mul", ["nrm", "gamma"], ["sc"]), n("Add", ["sc", "beta"], ["y"]),
        ]  # fmt: skip
        model = make_model(nodes, [value("x", TensorProto.FLOAT, [1, 5, size])], [value("y", TensorProto.FLOAT, [1, 5, size])],
                           [numpy_helper.from_array(t, name) for name, t in tensors.items()], opset=13)  # fmt: skip
        plain = self.save("plain.onnx", model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(self.folder / "optimised.onnx")
        onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
        operators = {node.op_type for node in onnx.load(self.folder / "optimised.onnx").graph.node}
        self.assertTrue(operators & {"LayerNormalization", "SkipLayerNormalization"}, operators)
        self.assertTrue(operators & {"Gelu", "BiasGelu"}, operators)
        x = random(1, 5, size, seed=9)
        plan = self.build(self.folder / "optimised.onnx")
        self.call("run", plan, "--inputs", self.save_npz("i.npz", x=x), "--outputs", self.folder / "o.npz")
        with np.load(self.folder / "o.npz") as actual:
            np.testing.assert_allclose(actual["y"], reference(plain, {"x": x})["y"], rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    main()
