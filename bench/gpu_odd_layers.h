// SPDX-License-Identifier: Apache-2.0
// Layers of which no extent is a multiple of a tile, for checking kernels.
#pragma once

#include "bench/gpu_networks.h"

namespace edgert::bench {

inline std::vector<Layer> odd_layers() {
  std::vector<Layer> layers;
  const auto add = [&](int h, int w, int c, int m, int k, int stride, int pad, bool residual, int batch = 1) {
    Layer layer;
    ConvShape& s = layer.conv;
    s.batch = batch, s.height = h, s.width = w, s.channels = c, s.out_channels = m;
    s.kernel[0] = s.kernel[1] = k, s.stride[0] = s.stride[1] = stride, s.pad[0] = s.pad[1] = pad;
    s.out_height = (h + 2 * pad - k) / stride + 1, s.out_width = (w + 2 * pad - k) / stride + 1;
    s.input_pitch = (c + 7) / 8 * 8 + 8, s.output_pitch = (m + 7) / 8 * 8 + 16, s.residual_pitch = (m + 7) / 8 * 8;
    s.epilogue = relu6();
    if (residual) s.epilogue.residual = scalar::ResidualMode::AfterActivation;
    layers.push_back(layer);
  };
  add(13, 11, 40, 24, 3, 1, 1, true);
  add(17, 19, 72, 50, 3, 2, 1, false);
  add(9, 9, 136, 100, 3, 1, 0, true);
  add(1, 77, 100, 40, 1, 1, 0, true);
  add(1, 49, 264, 72, 1, 1, 0, false);
  add(15, 15, 48, 20, 1, 2, 0, true);
  add(12, 10, 24, 36, 5, 1, 2, false, 2);
  layers.push_back(layers[0]);
  layers.back().conv.dilation[0] = layers.back().conv.dilation[1] = 2;
  layers.back().conv.pad[0] = layers.back().conv.pad[1] = 2;
  add(37, 29, 3, 20, 3, 2, 1, false);
  layers.back().conv.image = true;
  add(31, 33, 3, 35, 7, 2, 3, false, 2);
  layers.back().conv.image = true;
  add(21, 18, 5, 16, 3, 1, 1, false);
  layers.back().conv.image = true;
  for (const auto kind : {codegen::WindowKind::Depthwise, codegen::WindowKind::Maximum, codegen::WindowKind::Average}) {
    Layer layer;
    layer.kind = LayerKind::Window;
    codegen::WindowShape& s = layer.window;
    s.kind = kind;
    s.batch = 2, s.height = 13, s.width = 11, s.channels = 20, s.input_pitch = 32, s.output_pitch = 24;
    s.stride[0] = s.stride[1] = kind == codegen::WindowKind::Average ? 1 : 2;
    s.out_height = (13 - 1) / s.stride[0] + 1, s.out_width = (11 - 1) / s.stride[1] + 1;
    s.epilogue = relu();
    layers.push_back(layer);
  }
  add(1, 77, 104, 40, 1, 1, 0, true);
  layers.back().conv.layer_norm = true;
  add(1, 37, 264, 72, 1, 1, 0, false);
  layers.back().conv.layer_norm = layers.back().conv.store_normalized = true;
  add(32, 50, 3, 40, 16, 16, 0, false);
  layers.back().conv.image = true;
  for (const int keys : {37, 300}) {
    Layer layer;
    layer.kind = LayerKind::Attention;
    codegen::AttentionShape& s = layer.attention;
    s.heads = 3, s.queries = s.keys = keys, s.depth = 40, s.value_depth = 24, s.scale = 0.3f;
    s.q = s.k = {keys * 320, 320, 40};
    s.v = {keys * 320, 320, 24};
    s.y = {keys * 80, 80, 24};
    s.mask = keys == 37 ? codegen::AttentionMask::None : codegen::AttentionMask::Additive;
    layer.part[1] = 120, layer.part[2] = 240;
    layers.push_back(layer);
  }
  Layer layer;
  layer.kind = LayerKind::Gemv;
  layer.gemv.rows = 3, layer.gemv.depth = 320, layer.gemv.outputs = 77, layer.gemv.pixels = 5;
  layer.gemv.input_pitch = 328, layer.gemv.output_pitch = 80, layer.gemv.float_output = true;
  layers.push_back(layer);
  return layers;
}

}  // namespace edgert::bench
