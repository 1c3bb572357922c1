// SPDX-License-Identifier: Apache-2.0
// What the GPU benchmarks know of a layer: its sizes, its data, and the kernels that compute it.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "bench/gpu_networks.h"
#include "edgert/cuda/driver_types.h"
#include "edgert/scalar/convert.h"

namespace edgert::bench {

using codegen::ConvShape;
using codegen::ConvTarget;
using codegen::KernelSpec;

inline std::mt19937 random_bits(1234);

inline std::vector<float> random_floats(std::size_t count, float scale, bool round_to_half = true) {
  std::vector<float> out(count);
  for (float& x : out) {
    x = (static_cast<float>(random_bits() >> 8) * 0x1p-23f - 1.0f) * scale;
    if (round_to_half) x = scalar::to_float(scalar::to_half(x));
  }
  return out;
}
inline std::vector<std::uint16_t> to_halves(const std::vector<float>& x) {
  std::vector<std::uint16_t> out;
  for (const float v : x) out.push_back(scalar::to_half(v).bits);
  return out;
}
inline std::vector<float> from_halves(const std::vector<std::uint16_t>& x) {
  std::vector<float> out;
  for (const std::uint16_t v : x) out.push_back(scalar::to_float(scalar::Half{v}));
  return out;
}

/// Sizes of a layer's tensors in elements, its weights, its work.
struct Sizes {
  std::size_t input = 0, output = 0, residual = 0, weights = 0, bias = 0;
  double macs = 0, bytes = 0;
};
inline Sizes sizes_of(const Layer& layer) {
  Sizes z;
  if (layer.kind == LayerKind::Conv) {
    const ConvShape& s = layer.conv;
    z.input = std::size_t(s.batch) * s.height * s.width * (s.float_planes ? s.channels : s.input_pitch);
    z.output = std::size_t(s.batch) * s.out_height * s.out_width * s.output_pitch;
    z.residual = s.epilogue.residual == scalar::ResidualMode::None ? 0 : std::size_t(s.batch) * s.out_height * s.out_width * s.residual_pitch;
    z.weights = std::size_t(s.out_channels) * s.channels * s.kernel[0] * s.kernel[1];
    z.bias = std::size_t(s.out_channels);
    z.macs = double(z.weights) * s.batch * s.out_height * s.out_width;
    z.bytes = 2.0 * (z.weights + z.output + z.residual) + (s.float_planes ? 4.0 : 2.0) * z.input;
  } else if (layer.kind == LayerKind::Window) {
    const codegen::WindowShape& s = layer.window;
    z.input = std::size_t(s.batch) * s.height * s.width * s.input_pitch;
    z.output = std::size_t(s.batch) * s.out_height * s.out_width * s.output_pitch;
    z.weights = std::size_t(s.channels) * s.kernel[0] * s.kernel[1];
    z.bias = std::size_t(s.channels);
    z.bytes = 2.0 * (z.input + z.output);
  } else {
    const codegen::GemvShape& s = layer.gemv;
    z.input = std::size_t(s.rows) * s.pixels * s.input_pitch;
    z.output = std::size_t(s.rows) * s.output_pitch;
    z.weights = std::size_t(s.outputs) * s.depth;
    z.bias = std::size_t(s.outputs);
    z.macs = double(z.weights) * s.rows;
    z.bytes = 2.0 * (z.weights + z.input);
  }
  return z;
}

inline std::vector<KernelSpec> candidates_of(const Layer& layer, const ConvTarget& target, std::size_t limit) {
  std::vector<KernelSpec> out;
  if (layer.kind == LayerKind::Conv) {
    for (const auto& tile : codegen::rank_conv_tiles(layer.conv, target, limit)) out.push_back(codegen::make_conv(layer.conv, tile, target));
  } else if (layer.kind == LayerKind::Window) {
    for (const int strip : {1, 2, 4})
      for (const int threads : {64, 128, 256}) out.push_back(codegen::make_window(layer.window, strip, threads, target));
  } else {
    for (const int threads : {128, 256})
      for (const int cluster : {1, 4, 8}) {
        if (cluster > 1 && (target.arch < 90 || layer.gemv.depth / 8 % cluster != 0)) continue;
        out.push_back(codegen::make_gemv(layer.gemv, {threads, 1, cluster}, target));
      }
  }
  return out;
}

/// What distinguishes layers for tuning: everything but the tensors' numbers.
inline std::string layer_key(const Layer& layer) {
  ConvTarget any;
  any.arch = 90;
  any.shared_bytes = 227 * 1024;
  if (layer.kind == LayerKind::Conv) {
    const auto tiles = codegen::rank_conv_tiles(layer.conv, any, 1);
    return std::string(codegen::make_conv(layer.conv, tiles.at(0), any).job.headers.back().text);
  }
  return std::string(candidates_of(layer, any, 1)[0].job.headers.back().text);
}

/// "conv3x3s1_56x56x64_64", with a mark for a residual.
inline std::string short_name(const Layer& layer, const KernelSpec& spec) {
  std::string name = spec.job.name.substr(0, spec.job.name.find(layer.kind == LayerKind::Conv ? "_t" : "_p"));
  return name + (layer.conv.epilogue.residual != scalar::ResidualMode::None ? "+r" : "");
}

/// A layer's data on host and device.
struct Data {
  Sizes size;
  std::vector<float> weights, bias;
  cuda::DevicePointer device_weights = 0, device_bias = 0;
};

}  // namespace edgert::bench
