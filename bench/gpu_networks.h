// SPDX-License-Identifier: Apache-2.0
// Layer tables of the networks that the GPU benchmarks run, at batch 1 and 224 x 224, as the kernels see them: batch
// normalisation folded, activations and residual sums in epilogues, the global average pool in the classifier.
#pragma once

#include <string>
#include <vector>

#include "codegen/conv_kernel.h"
#include "codegen/window_kernel.h"

namespace edgert::bench {

enum class LayerKind { Conv, Window, Gemv };

/// One launch. Tensors are numbered: 0 is the image, layer i writes tensor i + 1.
struct Layer {
  LayerKind kind = LayerKind::Conv;
  codegen::ConvShape conv;
  codegen::WindowShape window;
  codegen::GemvShape gemv;
  int input = 0;
  int residual = -1;
};

struct Network {
  std::string name;
  std::vector<Layer> layers;
};

/// Puts layers together; extents follow from the tensor that a layer reads.
class NetworkBuilder {
 public:
  explicit NetworkBuilder(std::string name) {
    network_.name = std::move(name);
    tensors_.push_back({224, 224, 3});
  }

  int conv(int input, int out_channels, int kernel, int stride, scalar::Epilogue epilogue, int residual = -1) {
    const Extent in = tensors_[static_cast<std::size_t>(input)];
    Layer layer;
    layer.input = input;
    layer.residual = residual;
    codegen::ConvShape& c = layer.conv;
    c.float_planes = input == 0;
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

  int classifier(int input, int outputs) {
    const Extent in = tensors_[static_cast<std::size_t>(input)];
    Layer layer;
    layer.kind = LayerKind::Gemv;
    layer.input = input;
    layer.gemv.depth = layer.gemv.input_pitch = in.channels;
    layer.gemv.outputs = layer.gemv.output_pitch = outputs;
    layer.gemv.pixels = in.height * in.width;
    layer.gemv.float_output = true;
    return add(layer, {1, 1, outputs});
  }

  int channels(int tensor) const { return tensors_[static_cast<std::size_t>(tensor)].channels; }
  Network take() { return std::move(network_); }

 private:
  struct Extent {
    int height, width, channels;
  };
  int add(const Layer& layer, Extent out) {
    network_.layers.push_back(layer);
    tensors_.push_back(out);
    return static_cast<int>(tensors_.size()) - 1;
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

inline Network mobilenet_v2() {
  NetworkBuilder b("MobileNetV2");
  int x = b.conv(0, 32, 3, 2, relu6());
  const int rows[7][4] = {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  for (const auto& row : rows) {
    for (int block = 0; block < row[2]; ++block) {
      const int stride = block == 0 ? row[3] : 1;
      const int in = b.channels(x);
      const int hidden = row[0] == 1 ? x : b.conv(x, in * row[0], 1, 1, relu6());
      const int middle = b.window(hidden, codegen::WindowKind::Depthwise, 3, stride, relu6());
      x = b.conv(middle, row[1], 1, 1, linear(), stride == 1 && in == row[1] ? x : -1);
    }
  }
  b.classifier(b.conv(x, 1280, 1, 1, relu6()), 1000);
  return b.take();
}

}  // namespace edgert::bench
