// SPDX-License-Identifier: Apache-2.0
// Conv: the dense two-dimensional convolution, and ONNX Conv in all its forms: one-dimensional ones get a row
// dimension, depthwise ones their own operator, and those with more dimensions or with weights that only a run knows
// become a matrix product over gathered windows.
#include "edgert/cpu/ops/conv.h"

#include "edgert/cpu/ops/depthwise_conv.h"
#include "ops/epilogue.h"
#include "ops/pack.h"
#include "ops/window.h"

namespace edgert::ops {
namespace {

using cpu::ConvAttributes;

constexpr cpu::OperatorEntry kEntry = cpu::entry_of<cpu::Conv>();

/// Windows of more elements than this are not worth gathering one element at a time.
constexpr std::int64_t kMaxGatheredWindow = 512;

std::vector<ir::TensorType> infer(const InferContext& context) {
  require_inputs(context, 2, 4);
  const auto& a = context.attributes.as<ConvAttributes>();
  const ir::TensorType& x = context.type(0);
  const ir::TensorType& w = context.type(1);
  require_type(x, DType::F32, "the input");
  require_type(w, DType::F32, "the weights");
  require(x.dims.size() == 4, "the input must have rank 4, not " + std::to_string(x.dims.size()));
  require(a.groups >= 1 && x.dims[1] % a.groups == 0,
          std::to_string(x.dims[1]) + " channels in " + std::to_string(a.groups) + " groups");
  const std::int64_t group_channels = x.dims[1] / a.groups;
  std::int64_t outputs = 0;
  if (context.graph.value(context.inputs[1]).format == WeightFormat::PanelF32x16) {
    require(w.dims.size() == 3, "packed weights must have rank 3");
    const std::int64_t rows = ir::element_count({a.kernel[0], a.kernel[1], group_channels});
    require_dims(w.dims, {a.groups, rows, w.dims[2]}, "the packed weights");
    outputs = ir::element_count({a.groups, w.dims[2]});
  } else {
    require(w.dims.size() == 4, "the weights must have rank 4, not " + std::to_string(w.dims.size()));
    require_dims(w.dims, {w.dims[0], group_channels, a.kernel[0], a.kernel[1]}, "the weights");
    outputs = w.dims[0];
    require(outputs % a.groups == 0, std::to_string(outputs) + " filters in " + std::to_string(a.groups) + " groups");
  }
  ir::TensorType y{DType::F32, {x.dims[0], outputs, window_output(a, 0, x.dims[2]), window_output(a, 1, x.dims[3])}};
  require_epilogue(context, a.epilogue, outputs, y);
  return {y};
}

std::string describe(const ir::AttributeBlob& blob) {
  const auto& a = blob.as<ConvAttributes>();
  return describe_window(a) + " groups=" + std::to_string(a.groups) + (a.planar != 0 ? " planar" : "") +
         describe_epilogue(a.epilogue);
}

std::uint64_t work(const InferContext& context) {
  const auto& a = context.attributes.as<ConvAttributes>();
  const std::int64_t outputs = ir::element_count(infer(context)[0].dims);
  return static_cast<std::uint64_t>(
      ir::element_count({outputs, a.kernel[0], a.kernel[1], context.type(0).dims[1] / a.groups}));
}

void pack(ir::Graph& graph, ir::NodeId id) {
  const ir::Node& node = graph.node(id);
  const ir::Value& w = constant_weights(graph, node, 1);
  if (w.format != WeightFormat::Strided) return;
  const auto& a = node.as<ConvAttributes>();
  const std::int64_t groups = a.groups;
  const std::int64_t columns = w.type.dims[0] / groups;
  const std::int64_t channels = w.type.dims[1];
  const std::int64_t taps = w.type.dims[2] * w.type.dims[3];
  const float* from = w.constant.as<float>();
  // ONNX's weights are [m][c][kh][kw]; rows are ordered (kh, kw, c), for a planar image as ONNX has them.
  ir::Bytes bytes =
      pack_panels(groups, taps * channels, columns, [&](std::int64_t g, std::int64_t row, std::int64_t column) {
        const std::int64_t element = a.planar != 0 ? row : row % channels * taps + row / channels;
        return from[(g * columns + column) * channels * taps + element];
      });
  const ir::TensorType type{DType::F32, {groups, taps * channels, columns}};
  graph.set_input(id, 1, graph.add_constant(w.name, type, std::move(bytes), WeightFormat::PanelF32x16));
}

/// y = bias + sum over window elements, as one matrix product: the windows of all groups side by side, gathered by one
/// strided slice a window element. For any number of spatial dimensions and weights of any kind.
ValueId convolve_gathered(OnnxNode& node, ValueId x, ValueId w, ValueId bias, const Window& window,
                          std::int64_t groups) {
  const std::int64_t taps = ir::element_count(window.kernel);
  if (taps > kMaxGatheredWindow) {
    node.fail("a kernel of " + std::to_string(taps) +
              " elements is only supported with constant weights in two dimensions");
  }
  const Dims x_dims = dims_of(node, x);
  const Dims w_dims = dims_of(node, w);
  std::vector<std::int64_t> before{0, 0};
  std::vector<std::int64_t> after{0, 0};
  before.insert(before.end(), window.begin.begin(), window.begin.end());
  after.insert(after.end(), window.end.begin(), window.end.end());
  const ValueId padded = pad_zero(node, x, before, after);
  Dims out{x_dims[0], w_dims[0]};
  for (std::size_t i = 0; i < window.rank(); ++i) {
    out.push_back(window_positions(x_dims[i + 2] + window.begin[i] + window.end[i], window.span(i), window.stride[i]));
  }
  const std::int64_t pixels = ir::element_count(Dims(out.begin() + 2, out.end()));
  const std::int64_t channels = w_dims[1];
  std::vector<ValueId> slices;
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    ValueId part = padded;
    std::int64_t rest = tap;
    for (std::size_t i = window.rank(); i-- > 0;) {
      part = slice(node, part, i + 2, rest % window.kernel[i] * window.dilation[i], out[i + 2], window.stride[i]);
      rest /= window.kernel[i];
    }
    slices.push_back(reshape(node, part, {x_dims[0], groups, channels, 1, pixels}));
  }
  const ValueId windows = reshape(node, concat(node, slices, 3), {x_dims[0], groups, channels * taps, pixels});
  const ValueId filters = reshape(node, w, {1, groups, w_dims[0] / groups, channels * taps});
  ValueId y = reshape(node, matmul(node, filters, windows), out);
  if (bias != ir::kNone) y = binary(node, PointwiseOp::Add, y, along_axis(node, bias, 1, out.size()));
  return y;
}

template <class Attributes>
Attributes window_attributes(const Window& window) {
  Attributes attributes{};
  store_pair(window.kernel, attributes.kernel);
  store_pair(window.stride, attributes.stride);
  store_pair(window.dilation, attributes.dilation);
  store_pair(window.begin, attributes.pad_begin);
  store_pair(window.end, attributes.pad_end);
  return attributes;
}

ValueId convolve_2d(OnnxNode& node, ValueId x, ValueId w, ValueId bias, const Window& window, std::int64_t groups) {
  const std::int64_t channels = dims_of(node, x)[1];
  if (groups == channels && groups == dims_of(node, w)[0] && groups > 1) {
    return node.emit(kDepthwiseConv, {x, w, bias, ir::kNone}, window_attributes<cpu::DepthwiseConvAttributes>(window));
  }
  auto attributes = window_attributes<ConvAttributes>(window);
  attributes.groups = to_int32(groups, 1, "attribute 'group'");
  return node.emit(kConv, {x, w, bias, ir::kNone}, attributes);
}

void import_conv(OnnxNode& node) {
  const DType dtype = node.type(0).dtype;
  const ValueId x = cast_narrow(node, node.input(0));
  const ValueId w = cast_narrow(node, node.input(1));
  const ValueId bias = node.has_input(2) ? cast_narrow(node, node.input(2)) : ir::kNone;
  const Dims x_dims = dims_of(node, x);
  const Dims w_dims = dims_of(node, w);
  if (x_dims.size() < 3 || x_dims.size() > 5 || w_dims.size() != x_dims.size()) {
    node.fail("input " + ir::to_string(x_dims) + " and weights " + ir::to_string(w_dims) +
              " must both have rank 3, 4 or 5");
  }
  const std::int64_t groups = to_int32(node.int_or("group", 1), 1, "attribute 'group'");
  if (w_dims[1] != x_dims[1] / groups || x_dims[1] % groups != 0 || w_dims[0] % groups != 0) {
    node.fail("input " + ir::to_string(x_dims) + ", weights " + ir::to_string(w_dims) + " and group " +
              std::to_string(groups) + " don't fit");
  }
  const std::vector<std::int64_t> kernel(w_dims.begin() + 2, w_dims.end());
  if (node.has("kernel_shape") && node.ints_or("kernel_shape", {}) != kernel) {
    node.fail("attribute 'kernel_shape' differs from the weights' " + ir::to_string(kernel));
  }
  if (bias != ir::kNone) require_dims(dims_of(node, bias), {w_dims[0]}, "the bias");
  const Window window = read_window(node, Dims(x_dims.begin() + 2, x_dims.end()), kernel);
  node.set_output(0, cast(node, convolve(node, x, w, bias, window, groups), dtype));
}

}  // namespace

extern const OperatorDef kConv = [] {
  OperatorDef op;
  op.name = "Conv";
  op.attribute_bytes = sizeof(ConvAttributes);
  op.infer = &infer;
  op.describe = &describe;
  op.kernel = &kEntry;
  op.layout = LayoutRule::ChannelsLast;
  op.in_place = 1u << 3;
  op.work = &work;
  op.pack = &pack;
  return op;
}();

ValueId convolve(OnnxNode& node, ValueId x, ValueId w, ValueId bias, Window window, std::int64_t groups) {
  const Dims x_dims = dims_of(node, x);
  const Dims w_dims = dims_of(node, w);
  if (x_dims.size() == 5 || !is_constant_expression(node, w)) {
    return convolve_gathered(node, x, w, bias, window, groups);
  }
  if (x_dims.size() == 4) return convolve_2d(node, x, w, bias, window, groups);
  window.lift();
  const ValueId y = convolve_2d(node, reshape(node, x, {x_dims[0], x_dims[1], 1, x_dims[2]}),
                                reshape(node, w, {w_dims[0], w_dims[1], 1, w_dims[2]}), bias, window, groups);
  const Dims y_dims = dims_of(node, y);
  return reshape(node, y, {y_dims[0], y_dims[1], y_dims[3]});
}

void register_conv(Registry& registry) {
  registry.add(kConv);
  registry.add_onnx("Conv", &import_conv);
}

}  // namespace edgert::ops
