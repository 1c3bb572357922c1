// SPDX-License-Identifier: Apache-2.0
// Layer tables of the convolutional networks that the GPU benchmarks run, at batch 1 and 224 x 224, as the kernels see
// them: batch normalisation folded, activations and residual sums in epilogues, the global average pool in the classifier.
// Transformers are in gpu_transformers.h.
#pragma once

#include <string>
#include <vector>

#include "codegen/attention_kernel.h"
#include "codegen/conv_kernel.h"
#include "codegen/expand_kernel.h"
#include "codegen/rows_kernel.h"
#include "codegen/window_kernel.h"

namespace edgert::bench {

enum class LayerKind { Conv, Window, Gemv, Attention, Rows, Expand };

/// One launch. Tensors are numbered: 0 is the network's input. Offsets count elements.
struct Layer {
  LayerKind kind = LayerKind::Conv;
  codegen::ConvShape conv;
  codegen::WindowShape window;
  codegen::GemvShape gemv;
  codegen::AttentionShape attention;
  codegen::RowsShape rows;
  codegen::ExpandShape expand;
  int input = 0;
  int residual = -1;
  int output = 0;
  int scale = -1;                      ///< factors of a product's input channels
  int sums = -1;                       ///< over pixels of what an Expand layer writes
  int slices = 0;                      ///< of these sums
  bool same_channels = false;          ///< an Expand layer whose 1x1 convolution is the identity
  int normalized = -1;                 ///< of a product that stores its normalised input
  std::size_t output_offset = 0;
  std::size_t part[3] = {0, 0, 0};     ///< where q, k and v begin in attention's input
  bool rows_of_input = false;          ///< the first table is the input; else tables are constant, its numbers the input's
  bool constant_residual = false;      ///< the residual is a parameter, as position embeddings are
  std::string key;                     ///< equal layers have equal keys
};

struct TensorSize {
  std::size_t elements = 0;
  int bytes = 2;  ///< of an element: halves, or for 4 floats or integers
};

struct Network {
  std::string name;
  std::vector<Layer> layers;
  std::vector<TensorSize> tensors;
  bool token_input = false;  ///< tensor 0 holds integers below 2 in its second half, below 30522 in its first
};

/// Puts layers together; extents follow from the tensor that a layer reads.
class NetworkBuilder {
 public:
  explicit NetworkBuilder(std::string name) {
    network_.name = std::move(name);
    tensors_.push_back({224, 224, 3});
    network_.tensors.push_back({3 * 224 * 224, 4});
  }

  int conv(int input, int out_channels, int kernel, int stride, scalar::Epilogue epilogue, int residual = -1, int scale = -1) {
    const Extent in = tensors_[static_cast<std::size_t>(input)];
    Layer layer;
    layer.input = input;
    layer.residual = residual;
    layer.scale = scale;
    codegen::ConvShape& c = layer.conv;
    c.scaled = scale >= 0;
    c.image = input == 0;
    c.height = in.height, c.width = in.width, c.channels = in.channels;
    c.kernel[0] = c.kernel[1] = kernel;
    c.stride[0] = c.stride[1] = stride;
    c.pad[0] = c.pad[1] = kernel / 2;
    const Extent out = {(in.height - 1) / stride + 1, (in.width - 1) / stride + 1, out_channels};
    c.out_height = out.height, c.out_width = out.width, c.out_channels = out_channels;
    if (kernel == 1 && stride == 1) {  // a matrix product
      c.width = c.out_width = in.height * in.width;
      c.height = c.out_height = 1;
    }
    c.input_pitch = in.channels;
    c.output_pitch = c.residual_pitch = out_channels;
    c.epilogue = epilogue;
    if (residual >= 0) c.epilogue.residual = scalar::ResidualMode::BeforeActivation;
    return add(layer, out);
  }

  int window(int input, codegen::WindowKind kind, int kernel, int stride, scalar::Epilogue epilogue) {
    const Extent in = tensors_[static_cast<std::size_t>(input)];
    Layer layer;
    layer.kind = LayerKind::Window;
    layer.input = input;
    codegen::WindowShape& w = layer.window;
    w.kind = kind;
    w.height = in.height, w.width = in.width, w.channels = in.channels;
    w.kernel[0] = w.kernel[1] = kernel;
    w.stride[0] = w.stride[1] = stride;
    w.pad[0] = w.pad[1] = kernel / 2;
    const Extent out = {(in.height - 1) / stride + 1, (in.width - 1) / stride + 1, in.channels};
    w.out_height = out.height, w.out_width = out.width;
    w.input_pitch = w.output_pitch = in.channels;
    w.epilogue = epilogue;
    return add(layer, out);
  }

  /// The average over pixels, times a matrix; floats if it is the network's result.
  int dense(int input, int outputs, scalar::Epilogue epilogue, bool result, int divisor = 0) {
    const Extent in = tensors_[static_cast<std::size_t>(input)];
    Layer layer;
    layer.kind = LayerKind::Gemv;
    layer.input = input;
    layer.gemv.epilogue = epilogue;
    layer.gemv.depth = layer.gemv.input_pitch = in.channels;
    layer.gemv.outputs = layer.gemv.output_pitch = outputs;
    layer.gemv.pixels = in.height * in.width;
    layer.gemv.float_output = result;
    layer.gemv.divisor = divisor;
    layer.gemv.float_input = divisor != 0;
    return add(layer, {1, 1, outputs});
  }
  int classifier(int input, int outputs) { return dense(input, outputs, {}, true); }

  /// Widening and depthwise convolution in one launch; the result and with `sums` the tensor of sums over pixels.
  std::pair<int, int> expand(int input, int hidden, int window, int stride, scalar::Epilogue epilogue, bool sums) {
    const Extent in = tensors_[static_cast<std::size_t>(input)];
    Layer layer;
    layer.kind = LayerKind::Expand;
    layer.input = input;
    codegen::ExpandShape& e = layer.expand;
    e.height = in.height, e.width = in.width, e.channels = e.input_pitch = in.channels, e.hidden = e.output_pitch = hidden;
    e.window = window, e.stride = stride, e.pad[0] = e.pad[1] = window / 2;
    const Extent out = {(in.height - 1) / stride + 1, (in.width - 1) / stride + 1, hidden};
    e.out_height = out.height, e.out_width = out.width;
    layer.same_channels = hidden == in.channels;
    if (!layer.same_channels) e.expand = epilogue;
    e.epilogue = epilogue;
    e.pool = sums;
    if (sums) {
      codegen::ConvTarget any;
      any.arch = 90, any.multiprocessors = 132, any.shared_bytes = 227 * 1024;
      layer.slices = codegen::expand_tiles(e, codegen::rank_expand_tiles(e, any, 1).at(0));
      layer.sums = static_cast<int>(tensors_.size());
      tensors_.push_back({layer.slices, 1, hidden});
      network_.tensors.push_back({std::size_t(layer.slices) * hidden, 4});
    }
    const int sums_tensor = layer.sums;
    return {add(layer, out), sums_tensor};
  }

  int pixels(int tensor) const { return tensors_[static_cast<std::size_t>(tensor)].height * tensors_[static_cast<std::size_t>(tensor)].width; }
  int channels(int tensor) const { return tensors_[static_cast<std::size_t>(tensor)].channels; }
  Network take() { return std::move(network_); }

 private:
  struct Extent {
    int height, width, channels;
  };
  int add(Layer& layer, Extent out) {
    layer.output = static_cast<int>(tensors_.size());
    network_.layers.push_back(layer);
    tensors_.push_back(out);
    network_.tensors.push_back({std::size_t(out.height) * out.width * out.channels, layer.kind == LayerKind::Gemv && layer.gemv.float_output ? 4 : 2});
    return layer.output;
  }
  Network network_;
  std::vector<Extent> tensors_;
};

inline scalar::Epilogue linear() { return {}; }
inline scalar::Epilogue relu() {
  scalar::Epilogue e = {};
  e.activation = scalar::PointwiseOp::Relu;
  return e;
}
inline scalar::Epilogue relu6() {
  scalar::Epilogue e = {};
  e.activation = scalar::PointwiseOp::Clip;
  e.beta = 6.0f;
  return e;
}

inline Network resnet18() {
  NetworkBuilder b("ResNet-18");
  int x = b.window(b.conv(0, 64, 7, 2, relu()), codegen::WindowKind::Maximum, 3, 2, linear());
  for (const int width : {64, 128, 256, 512}) {
    for (int block = 0; block < 2; ++block) {
      const int stride = width != 64 && block == 0 ? 2 : 1;
      const int shortcut = stride == 2 ? b.conv(x, width, 1, 2, linear()) : x;
      x = b.conv(b.conv(x, width, 3, stride, relu()), width, 3, 1, relu(), shortcut);
    }
  }
  b.classifier(x, 1000);
  return b.take();
}

inline Network resnet50() {
  NetworkBuilder b("ResNet-50");
  int x = b.window(b.conv(0, 64, 7, 2, relu()), codegen::WindowKind::Maximum, 3, 2, linear());
  const int depth[4] = {3, 4, 6, 3};
  for (int stage = 0; stage < 4; ++stage) {
    const int width = 64 << stage;
    for (int block = 0; block < depth[stage]; ++block) {
      const int stride = stage > 0 && block == 0 ? 2 : 1;
      const int shortcut = block == 0 ? b.conv(x, 4 * width, 1, stride, linear()) : x;
      const int inner = b.conv(b.conv(x, width, 1, 1, relu()), width, 3, stride, relu());
      x = b.conv(inner, 4 * width, 1, 1, relu(), shortcut);
    }
  }
  b.classifier(x, 1000);
  return b.take();
}

inline scalar::Epilogue activation(scalar::PointwiseOp op, float alpha = 0.0f, float beta = 0.0f) {
  scalar::Epilogue e = {};
  e.activation = op;
  e.alpha = alpha, e.beta = beta;
  return e;
}

/// One inverted-residual block; `squeezed` channels between, or 0 for no squeeze-and-excitation.
struct InvertedResidual {
  int kernel, stride, hidden, out, squeezed;
  scalar::Epilogue activation, squeeze, excite;
};
inline int add_block(NetworkBuilder& b, int x, const InvertedResidual& r) {
  const int in = b.channels(x);
  int middle = 0, scale = -1;
  if (r.hidden == in && r.squeezed == 0) {
    middle = b.window(x, codegen::WindowKind::Depthwise, r.kernel, r.stride, r.activation);
  } else {
    const auto [result, sums] = b.expand(x, r.hidden, r.kernel, r.stride, r.activation, r.squeezed > 0);
    middle = result;
    if (r.squeezed > 0) scale = b.dense(b.dense(sums, r.squeezed, r.squeeze, false, b.pixels(middle)), r.hidden, r.excite, false);
  }
  return b.conv(middle, r.out, 1, 1, linear(), r.stride == 1 && in == r.out ? x : -1, scale);
}

inline Network mobilenet_v2() {
  NetworkBuilder b("MobileNetV2");
  int x = b.conv(0, 32, 3, 2, relu6());
  const int rows[7][4] = {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  for (const auto& row : rows) {
    for (int block = 0; block < row[2]; ++block) {
      x = add_block(b, x, {3, block == 0 ? row[3] : 1, b.channels(x) * row[0], row[1], 0, relu6(), {}, {}});
    }
  }
  b.classifier(b.conv(x, 1280, 1, 1, relu6()), 1000);
  return b.take();
}

inline Network mobilenet_v3_large() {
  NetworkBuilder b("MobileNetV3-Large");
  const scalar::Epilogue swish = activation(scalar::PointwiseOp::HardSwish);
  const scalar::Epilogue excite = activation(scalar::PointwiseOp::HardSigmoid, 1.0f / 6, 0.5f);
  int x = b.conv(0, 16, 3, 2, swish);
  const int rows[15][6] = {  // kernel, hidden, out, squeezed, swish, stride
      {3, 16, 16, 0, 0, 1},    {3, 64, 24, 0, 0, 2},    {3, 72, 24, 0, 0, 1},    {5, 72, 40, 24, 0, 2},     {5, 120, 40, 32, 0, 1},
      {5, 120, 40, 32, 0, 1},  {3, 240, 80, 0, 1, 2},   {3, 200, 80, 0, 1, 1},   {3, 184, 80, 0, 1, 1},     {3, 184, 80, 0, 1, 1},
      {3, 480, 112, 120, 1, 1}, {3, 672, 112, 168, 1, 1}, {5, 672, 160, 168, 1, 2}, {5, 960, 160, 240, 1, 1}, {5, 960, 160, 240, 1, 1}};
  for (const auto& row : rows) {
    x = add_block(b, x, {row[0], row[5], row[1], row[2], row[3], row[4] != 0 ? swish : relu(), relu(), excite});
  }
  x = b.dense(b.conv(x, 960, 1, 1, swish), 1280, swish, false);
  b.classifier(x, 1000);
  return b.take();
}

inline Network efficientnet_b0() {
  NetworkBuilder b("EfficientNet-B0");
  const scalar::Epilogue silu = activation(scalar::PointwiseOp::Silu), excite = activation(scalar::PointwiseOp::Sigmoid);
  int x = b.conv(0, 32, 3, 2, silu);
  const int rows[7][5] = {  // expansion, kernel, stride, out, blocks
      {1, 3, 1, 16, 1}, {6, 3, 2, 24, 2}, {6, 5, 2, 40, 2}, {6, 3, 2, 80, 3}, {6, 5, 1, 112, 3}, {6, 5, 2, 192, 4}, {6, 3, 1, 320, 1}};
  for (const auto& row : rows) {
    for (int block = 0; block < row[4]; ++block) {
      const int in = b.channels(x);
      const int squeezed = (in / 4 + 7) / 8 * 8;  // as padded with zeros for 16-byte loads
      x = add_block(b, x, {row[1], block == 0 ? row[2] : 1, in * row[0], row[3], squeezed, silu, silu, excite});
    }
  }
  b.classifier(b.conv(x, 1280, 1, 1, silu), 1000);
  return b.take();
}

}  // namespace edgert::bench
