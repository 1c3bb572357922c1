# SPDX-License-Identifier: Apache-2.0
"""A small writer of ONNX convolution networks: one method per layer, parameters drawn as the layers are added.

The same network function is run twice over two `Graph`s of the same seed:

* calibrating: every normalisation is spelled out (ReduceMean of its input and of the squared deviation), so that one
  run of the model tells the mean and the variance of every channel;
* final: a BatchNormalization carries these statistics as its running mean and variance, a `normalized_conv` in its
  weights.

Both draw the same parameters in the same order, hence the statistics fit the final weights.
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True)
class Value:
    """A tensor of the graph and the extent of its axis 1."""

    name: str
    channels: int


class Graph:
    """Collects nodes and parameters. `statistics` (name -> array) is None while calibrating."""

    def __init__(self, name, seed, size, statistics=None):
        self.name = name
        self.size = size
        self.statistics = statistics
        self.statistics_names = []
        self.parameter_count = 0  # as torchvision counts: running statistics are not parameters
        self._rng = np.random.default_rng(seed)
        self._nodes = []
        self._initializers = []
        self._calls = {}
        self._inputs = {}
        self._constants = set()

    @property
    def calibrating(self):
        return self.statistics is None

    def input(self):
        """The image [N, 3, size, size]; without it, the model has the inputs of `add_input` alone."""
        self._inputs["input"] = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, self.size, self.size])
        return Value("input", 3)

    def add_input(self, name, element_type, shape):
        self._inputs[name] = helper.make_tensor_value_info(name, element_type, shape)
        return Value(name, shape[-1])

    # Layers. Each takes a `scope`, which becomes the beginning of the names of its node and parameters.

    def conv(self, scope, x, channels, kernel, stride=1, padding=None, groups=1, bias=False, dilation=1):
        """A square convolution with He-initialised weights; "same" padding for odd kernels unless told otherwise."""
        weight = self._he_normal((channels, x.channels // groups, kernel, kernel))
        bias = self._normal(channels) if bias else None
        return self._conv(scope, x, weight, bias, stride, padding, groups, dilation)

    def normalized_conv(self, scope, x, channels, kernel, stride=1, padding=None):
        """A convolution with outputs of variance 1 around its bias: for networks with no other normalisation."""
        weight = self._he_normal((channels, x.channels, kernel, kernel))
        bias = self._normal(channels)
        mean, variance = f"{scope}.mean", f"{scope}.variance"
        if self.calibrating:
            y = self._conv(scope, x, weight, None, stride, padding)
            y = self._normalize(scope, y, mean, variance)
            return self.add(scope, y, self._per_channel(scope, self._parameter(f"{scope}.bias", bias)))
        deviation = np.sqrt(self.statistics[variance] + np.float32(1e-5))
        return self._conv(scope, x, weight / deviation[:, None, None, None], bias - self.statistics[mean] / deviation,
                          stride, padding)

    def batch_norm(self, scope, x, epsilon=1e-5):
        """gamma ~ U(0.5, 1.5), beta ~ N(0, 0.1), mean and variance measured."""
        scale = self._parameter(f"{scope}.weight", self._rng.uniform(0.5, 1.5, x.channels))
        bias = self._parameter(f"{scope}.bias", self._normal(x.channels))
        mean, variance = f"{scope}.running_mean", f"{scope}.running_var"
        if self.calibrating:
            y = self._normalize(scope, x, mean, variance, epsilon)
            y = self.mul(scope, y, self._per_channel(scope, scale))
            return self.add(scope, y, self._per_channel(scope, bias))
        for statistic in (mean, variance):
            self._constant(statistic, self.statistics[statistic])
        name = self._node("BatchNormalization", [x.name, scale, bias, mean, variance], scope, epsilon=epsilon)
        return Value(name, x.channels)

    def activation(self, scope, x, kind):
        """kind: relu, relu6, hard_swish, hard_sigmoid, sigmoid, silu, gelu (of erf or tanh) or None, as PyTorch's
        exporter for this operator set writes it."""
        if kind is None:
            return x
        if kind == "silu":
            return self.mul(scope, x, self.activation(scope, x, "sigmoid"))
        if kind == "relu6":
            low, high = self._constant("relu6.min", np.float32(0)), self._constant("relu6.max", np.float32(6))
            return Value(self._node("Clip", [x.name, low, high], scope), x.channels)
        if kind == "gelu":
            erf = self.node(scope, "Erf", [self.node(scope, "Div", [x, self.constant("sqrt2", np.float32(2**0.5))])])
            product = self.mul(scope, x, self.add(scope, erf, self.constant("one", np.float32(1))))
            return self.node(scope, "Mul", [product, self.constant("half", np.float32(0.5))], x.channels)
        if kind == "gelu_tanh":
            cube = self.node(scope, "Pow", [x, self.constant("three", np.float32(3))])
            inner = self.add(scope, x, self.mul(scope, cube, self.constant("gelu.cube", np.float32(0.044715))))
            scaled = self.mul(scope, inner, self.constant("gelu.scale", np.float32((2 / np.pi) ** 0.5)))
            sum_ = self.add(scope, self.node(scope, "Tanh", [scaled]), self.constant("one", np.float32(1)))
            return self.mul(scope, self.mul(scope, x, self.constant("half", np.float32(0.5))), sum_)
        operator = {"relu": "Relu", "hard_swish": "HardSwish", "hard_sigmoid": "HardSigmoid", "sigmoid": "Sigmoid"}
        attributes = {"alpha": 1 / 6} if kind == "hard_sigmoid" else {}
        return Value(self._node(operator[kind], [x.name], scope, **attributes), x.channels)

    def max_pool(self, scope, x, kernel, stride, padding=0, ceil_mode=0):
        name = self._node("MaxPool", [x.name], scope, kernel_shape=[kernel, kernel], strides=[stride, stride],
                          pads=[padding] * 4, ceil_mode=ceil_mode)
        return Value(name, x.channels)

    def average_pool(self, scope, x, kernel, stride):
        name = self._node("AveragePool", [x.name], scope, kernel_shape=[kernel, kernel], strides=[stride, stride])
        return Value(name, x.channels)

    def conv_transpose(self, scope, x, channels, kernel, stride):
        """Without overlap for kernel = stride."""
        weight = self._parameter(f"{scope}.weight", self._normal((x.channels, channels, kernel, kernel),
                                                                 np.sqrt(1 / x.channels)))
        bias = self._parameter(f"{scope}.bias", self._normal(channels))
        name = self._node("ConvTranspose", [x.name, weight, bias], scope, kernel_shape=[kernel, kernel],
                          strides=[stride, stride])
        return Value(name, channels)

    def upsample(self, scope, x, factor, mode="nearest"):
        """As PyTorch's exporter writes interpolate(): mode nearest, or linear between pixel centres."""
        scales = self._constant(f"{scope}.scales", np.float32([1, 1, factor, factor]))
        attributes = {"nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
                      "linear": {"coordinate_transformation_mode": "pytorch_half_pixel"}}[mode]
        return Value(self._node("Resize", [x.name, "", scales], scope, mode=mode, **attributes), x.channels)

    def global_average_pool(self, scope, x):
        return Value(self._node("GlobalAveragePool", [x.name], scope), x.channels)

    def flatten(self, scope, x):
        """Only for tensors whose spatial extents are 1."""
        return Value(self._node("Flatten", [x.name], scope, axis=1), x.channels)

    def linear(self, scope, x, features):
        weight = self._parameter(f"{scope}.weight", self._he_normal((features, x.channels)))
        bias = self._parameter(f"{scope}.bias", self._normal(features))
        return Value(self._node("Gemm", [x.name, weight, bias], scope, transB=1), features)

    def add(self, scope, a, b):
        return Value(self._node("Add", [a.name, b.name], scope), a.channels)

    def mul(self, scope, a, b):
        return Value(self._node("Mul", [a.name, b.name], scope), a.channels)

    def concat(self, scope, *values):
        name = self._node("Concat", [v.name for v in values], scope, axis=1)
        return Value(name, sum(v.channels for v in values))

    # Anything else, in ONNX's own words.

    def constant(self, name, array):
        return Value(self._constant(name, np.asarray(array)), channels=None)

    def parameter(self, name, shape, deviation, mean=0.0):
        """A drawn parameter that counts as one."""
        return Value(self._parameter(name, self._normal(shape, deviation) + np.float32(mean)), channels=shape[-1])

    def node(self, scope, operator, inputs, channels=None, outputs=1, **attributes):
        """One node of any operator; `channels` describes its results. A list of values for several outputs."""
        names = [x if isinstance(x, str) else x.name for x in inputs]
        first = self._node(operator, names, scope, **attributes)
        values = [Value(first, channels)]
        for i in range(1, outputs):
            values.append(Value(f"{first[:-1]}{i}", channels))
            self._nodes[-1].output.append(values[-1].name)
        return values if outputs > 1 else values[0]

    def reshape(self, scope, x, shape, channels=None):
        """The shape as ONNX has it, with 0 and -1."""
        name = "shape_" + "_".join(map(str, shape))
        return self.node(scope, "Reshape", [x, self.constant(name, np.int64(shape))], channels)

    def transpose(self, scope, x, permutation, channels=None):
        return self.node(scope, "Transpose", [x], channels, perm=list(permutation))

    def split(self, scope, x, sizes, axis=1):
        lengths = self.constant("split_" + "_".join(map(str, sizes)), np.int64(sizes))
        values = self.node(scope, "Split", [x, lengths], outputs=len(sizes), axis=axis)
        return [Value(value.name, size) for value, size in zip(values, sizes)]

    def model(self, shape, metadata):
        """The finished ModelProto. Its output, of that shape, is that of the last node, or the statistics where
        calibrating."""
        if self.calibrating:
            outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in self.statistics_names]
        else:
            self._nodes[-1].output[0] = "output"
            outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)]
        inputs = list(self._inputs.values())
        graph = helper.make_graph(self._nodes, self.name, inputs, outputs, self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        helper.set_model_props(model, metadata)
        return model

    # What the layers are made of.

    def _conv(self, scope, x, weight, bias, stride, padding, groups=1, dilation=1):
        channels, _, kernel, _ = weight.shape
        padding = (kernel - 1) // 2 * dilation if padding is None else padding
        inputs = [x.name, self._parameter(f"{scope}.weight", weight)]
        if bias is not None:
            inputs.append(self._parameter(f"{scope}.bias", bias))
        name = self._node("Conv", inputs, scope, kernel_shape=[kernel, kernel], strides=[stride, stride],
                          pads=[padding] * 4, dilations=[dilation, dilation], group=groups)
        return Value(name, channels)

    def _normalize(self, scope, x, mean, variance, epsilon=1e-5):
        """x with mean 0 and variance 1 in each channel; `mean` and `variance` become outputs of the model."""
        self.statistics_names += [mean, variance]
        over_channel = {"axes": [0, 2, 3], "keepdims": 1}
        self._node("ReduceMean", [x.name], scope, output=mean, **over_channel)
        deviation = self._node("Sub", [x.name, mean], scope)
        square = self._node("Mul", [deviation, deviation], scope)
        self._node("ReduceMean", [square], scope, output=variance, **over_channel)
        biased = self._node("Add", [variance, self._constant(f"epsilon_{epsilon}", np.float32(epsilon))], scope)
        return Value(self._node("Div", [deviation, self._node("Sqrt", [biased], scope)], scope), x.channels)

    def _per_channel(self, scope, parameter):
        """A vector in a shape that broadcasts over NCHW."""
        shape = self._constant("per_channel", np.int64([1, -1, 1, 1]))
        return Value(self._node("Reshape", [parameter, shape], scope), channels=None)

    def _node(self, operator, inputs, scope, output=None, **attributes):
        """Appends a node of one output and returns the output's name, which is unique."""
        path = f"/{scope.replace('.', '/')}/{operator}"
        call = self._calls[path] = self._calls.get(path, -1) + 1
        name = f"{path}_{call}" if call else path
        output = output or f"{name}_output_0"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def _he_normal(self, shape):
        return self._normal(shape, np.sqrt(2 / np.prod(shape[1:])))

    def _normal(self, shape, deviation=0.1):
        return self._rng.standard_normal(shape, np.float32) * np.float32(deviation)

    def _parameter(self, name, array):
        self.parameter_count += array.size
        return self._constant(name, array.astype(np.float32))

    def _constant(self, name, array):
        if name not in self._constants:
            self._constants.add(name)
            self._initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name
