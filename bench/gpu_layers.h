// SPDX-License-Identifier: Apache-2.0
// What the GPU benchmarks know of a layer: its sizes, its data, and the kernels that compute it.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "bench/gpu_networks.h"
#include "bench/gpu_reference.h"
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
  std::size_t input = 0, output = 0, residual = 0, normalized = 0, scale = 0, sums = 0, weights = 0, bias = 0;
  int output_bytes = 2;  ///< of an element
  std::size_t channels = 0, pitch = 0;  ///< of the output's rows
  double macs = 0, bytes = 0;
};
inline Sizes sizes_of(const Layer& layer) {
  Sizes z;
  if (layer.kind == LayerKind::Conv) {
    const ConvShape& s = layer.conv;
    z.input = std::size_t(s.batch) * s.height * s.width * (s.image ? s.channels : s.input_pitch);
    z.output = std::size_t(s.batch) * s.out_height * s.out_width * s.output_pitch;
    z.residual = s.epilogue.residual == scalar::ResidualMode::None ? 0 : std::size_t(s.batch) * s.out_height * s.out_width * s.residual_pitch;
    z.normalized = s.store_normalized ? z.input : 0;
    z.scale = s.scaled ? std::size_t(s.batch) * s.channels : 0;
    z.weights = std::size_t(s.out_channels) * s.channels * s.kernel[0] * s.kernel[1];
    z.bias = std::size_t(s.out_channels);
    z.channels = std::size_t(s.out_channels), z.pitch = std::size_t(s.output_pitch);
    z.macs = double(z.weights) * s.batch * s.out_height * s.out_width;
    z.bytes = 2.0 * (z.weights + z.output + z.residual + z.normalized) + (s.image ? 4.0 : 2.0) * z.input;
  } else if (layer.kind == LayerKind::Window) {
    const codegen::WindowShape& s = layer.window;
    z.input = std::size_t(s.batch) * s.height * s.width * s.input_pitch;
    z.output = std::size_t(s.batch) * s.out_height * s.out_width * s.output_pitch;
    z.weights = std::size_t(s.channels) * s.kernel[0] * s.kernel[1];
    z.bias = std::size_t(s.channels);
    z.channels = std::size_t(s.channels), z.pitch = std::size_t(s.output_pitch);
    z.bytes = 2.0 * (z.input + z.output);
  } else if (layer.kind == LayerKind::Attention) {
    const codegen::AttentionShape& s = layer.attention;
    z.input = std::size_t(s.batch * s.q.batch);
    z.output = std::size_t(s.batch * s.y.batch);
    z.residual = s.mask == codegen::AttentionMask::None ? 0 : std::size_t(s.keys);
    z.channels = std::size_t(s.heads) * s.value_depth, z.pitch = std::size_t(s.y.row);
    z.macs = double(s.batch) * s.heads * s.queries * s.keys * (s.depth + s.value_depth);
    z.bytes = 2.0 * (z.input + z.output);
  } else if (layer.kind == LayerKind::Expand) {
    const codegen::ExpandShape& s = layer.expand;
    z.input = std::size_t(s.height) * s.width * s.input_pitch;
    z.output = std::size_t(s.out_height) * s.out_width * s.output_pitch;
    z.sums = std::size_t(layer.slices) * s.hidden;
    z.weights = std::size_t(s.hidden) * (s.channels + s.window * s.window);
    z.bias = std::size_t(s.hidden + 15) / 16 * 32;
    z.channels = std::size_t(s.hidden), z.pitch = std::size_t(s.output_pitch);
    z.macs = double(s.hidden) * s.channels * s.height * s.width;
    z.bytes = 2.0 * (z.input + z.output + z.weights);
  } else if (layer.kind == LayerKind::Rows) {
    const codegen::RowsShape& s = layer.rows;
    z.channels = std::size_t(s.depth), z.pitch = std::size_t(s.output_pitch);
    z.output = std::size_t(s.rows) * s.output_pitch;
    if (layer.rows_of_input) z.input = std::size_t(s.rows) * s.tables[0].pitch;
    else if (s.tables[0].index_bytes != 0) z.input = std::size_t(2 * s.rows);
    for (const auto& table : s.tables) z.weights += layer.rows_of_input ? 0 : std::size_t(table.rows) * table.pitch;
    z.bias = std::size_t(2 * s.depth);
    z.bytes = 2.0 * z.output * (1 + s.tables.size());
  } else {
    const codegen::GemvShape& s = layer.gemv;
    z.input = std::size_t(s.rows) * s.pixels * s.input_pitch;
    z.output = std::size_t(s.rows) * s.output_pitch;
    z.output_bytes = s.float_output ? 4 : 2;
    z.weights = std::size_t(s.outputs) * s.depth;
    z.bias = std::size_t(s.outputs);
    z.channels = std::size_t(s.outputs), z.pitch = std::size_t(s.output_pitch);
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
  } else if (layer.kind == LayerKind::Attention) {
    for (const auto& tile : codegen::rank_attention_tiles(layer.attention, target, limit)) out.push_back(codegen::make_attention(layer.attention, tile, target));
  } else if (layer.kind == LayerKind::Expand) {
    for (const auto& tile : codegen::rank_expand_tiles(layer.expand, target, 1000)) {
      const bool fits = !layer.expand.pool || codegen::expand_tiles(layer.expand, tile) == layer.slices;
      if (fits && out.size() < limit) out.push_back(codegen::make_expand(layer.expand, tile, target));
    }
  } else if (layer.kind == LayerKind::Rows) {
    for (const int threads : {32, 64, 128}) out.push_back(codegen::make_rows(layer.rows, threads, 1, target));
  } else {
    for (const int threads : {128, 256})
      for (const int cluster : {1, 2, 3, 4, 5, 8}) {
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
  any.multiprocessors = 132;
  any.shared_bytes = 227 * 1024;
  return std::string(candidates_of(layer, any, 1).at(0).job.headers.back().text);
}

/// "conv3x3s1_56x56x64_64", with a mark for a residual; and the tile's part of a kernel's name.
inline std::string short_name(const Layer& layer, const KernelSpec& spec) {
  static constexpr const char* kTile[] = {"_t", "_p", "_p", "_w", "_b", "_t"};
  const std::string name = spec.job.name.substr(0, spec.job.name.rfind(kTile[static_cast<int>(layer.kind)]));
  return name + (layer.conv.epilogue.residual != scalar::ResidualMode::None ? "+r" : "");
}
inline std::string tile_name(const Layer& layer, const KernelSpec& spec) {
  static constexpr const char* kTile[] = {"_t", "_p", "_p", "_w", "_b", "_t"};
  return spec.job.name.substr(spec.job.name.rfind(kTile[static_cast<int>(layer.kind)]) + 1);
}

/// A layer's parameters on host and device.
struct Data {
  Sizes size;
  std::vector<float> weights, bias, residual;  ///< the residual when it is constant
  cuda::DevicePointer device_weights = 0, device_bias = 0, device_residual = 0;
  cuda::DevicePointer device_group_weights = 0;  ///< as tiles with groups_of_warps want them; 0 where there are none
};

inline std::vector<std::uint16_t> pack(const Layer& layer, const Data& data) {
  if (layer.kind == LayerKind::Conv) return codegen::pack_conv_weights(layer.conv, data.weights.data());
  if (layer.kind == LayerKind::Window) return codegen::pack_depthwise_weights(layer.window, data.weights.data());
  if (layer.kind == LayerKind::Expand) {
    std::vector<std::uint16_t> both = codegen::pack_conv_weights(codegen::expand_conv_shape(layer.expand), data.weights.data());
    const float* outer = data.weights.data() + std::size_t(layer.expand.hidden) * layer.expand.channels;
    const auto window = codegen::pack_depthwise_weights(codegen::expand_window_shape(layer.expand), outer);
    both.insert(both.end(), window.begin(), window.end());
    return both;
  }
  return to_halves(data.weights);
}

/// Random parameters, as large as keeps activations' size.
inline Data random_parameters(const Layer& layer, float gain) {
  Data data;
  data.size = sizes_of(layer);
  const bool rows = layer.kind == LayerKind::Rows;
  const double fan_in = rows ? 6.0 : data.size.weights / double(std::max<std::size_t>(1, data.size.bias));
  data.weights = random_floats(data.size.weights, gain * static_cast<float>(std::sqrt(6.0 / fan_in)));
  data.bias = random_floats((data.size.bias + 15) / 16 * 16, 0.1f);
  if (layer.kind == LayerKind::Expand) {
    const codegen::ExpandShape& s = layer.expand;
    const std::size_t inner = std::size_t(s.hidden) * s.channels;
    const std::vector<float> first = random_floats(inner, std::sqrt(6.0f / static_cast<float>(s.channels)));
    const std::vector<float> second = random_floats(data.weights.size() - inner, std::sqrt(6.0f) / static_cast<float>(s.window));
    data.weights = first;
    for (std::size_t i = 0; layer.same_channels && i < inner; ++i) data.weights[i] = i / s.channels == i % s.channels ? 1.0f : 0.0f;
    for (std::size_t i = 0; layer.same_channels && i < data.bias.size() / 2; ++i) data.bias[i] = 0.0f;
    data.weights.insert(data.weights.end(), second.begin(), second.end());
  }
  if (layer.constant_residual) data.residual = random_floats(data.size.residual, 0.5f);
  const auto shift = [](std::vector<float> x) {
    for (float& v : x) v += 1.0f;
    return x;
  };
  if (rows) {
    for (std::size_t i = 0; i < data.size.bias / 2; ++i) data.bias[i] += 1.0f;
  } else if (layer.kind == LayerKind::Conv && layer.conv.layer_norm) {
    const std::size_t depth = static_cast<std::size_t>(layer.conv.channels);
    const std::vector<float> gamma = shift(random_floats(depth, 0.2f)), beta = random_floats(depth, 0.1f);
    codegen::FoldedNorm folded = codegen::fold_layer_norm(layer.conv, data.weights.data(), data.bias.data(), gamma.data(), beta.data());
    data.weights = std::move(folded.weights);
    data.bias = std::move(folded.bias);
  }
  return data;
}

/// Addresses of one launch's tensors, the first element that the layer touches, and of what is prefetched.
struct Places {
  cuda::DevicePointer x = 0, residual = 0, y = 0, normalized = 0, scale = 0, sums = 0, workspace = 0, counters = 0, prefetch = 0;
  std::uint32_t prefetch_bytes = 0;
};

/// A kernel's arguments, as addresses of values that live as long as this.
class Arguments {
 public:
  Arguments(const Layer& layer, const KernelSpec& spec, const Places& p, const Data& data) {
    values_.reserve(16);
    if (layer.kind == LayerKind::Conv) {
      for (const auto value : {p.x, spec.job.own_features ? data.device_group_weights : data.device_weights, data.device_bias, p.residual, p.y, p.workspace, p.counters, p.prefetch}) push(value);
      push(p.prefetch_bytes);
      push(layer.conv.scaled ? p.scale : p.normalized);
    } else if (layer.kind == LayerKind::Attention) {
      for (const std::size_t part : layer.part) push(p.x + 2 * part);
      for (const auto value : {p.residual, p.y, p.prefetch}) push(value);
      push(p.prefetch_bytes);
    } else if (layer.kind == LayerKind::Expand) {
      const std::size_t hidden = std::size_t(layer.expand.hidden + 15) / 16 * 16;
      const std::size_t inner = hidden * (std::size_t(layer.expand.channels + 15) / 16 * 16) * 2;
      for (const auto value : {p.x, data.device_weights, data.device_bias, data.device_weights + inner, data.device_bias + hidden * 4, p.y, p.sums, p.prefetch}) push(value);
      push(p.prefetch_bytes);
    } else if (layer.kind == LayerKind::Rows) {
      cuda::DevicePointer table = layer.rows_of_input ? p.x : data.device_weights;
      cuda::DevicePointer numbers = p.x;
      for (std::size_t t = 0; t < 3; ++t) {
        push(t < layer.rows.tables.size() ? table : 0);
        push(numbers);
        if (t >= layer.rows.tables.size()) continue;
        const auto& shape = layer.rows.tables[t];
        table += std::size_t(shape.rows) * shape.pitch * 2;
        if (shape.index_bytes != 0) numbers += std::size_t(layer.rows.rows) * shape.index_bytes;
      }
      push(data.device_bias);
      push(p.y);
    } else {
      for (const auto value : {p.x, data.device_weights, data.device_bias, p.y}) push(value);
    }
    for (std::uint64_t& value : values_) pointers_.push_back(&value);
  }
  void** get() { return pointers_.data(); }

 private:
  void push(std::uint64_t value) { values_.push_back(value); }
  std::vector<std::uint64_t> values_;
  std::vector<void*> pointers_;
};

/// What a layer should give. x: its input as floats, integers as such; r: residual or mask; f: factors of its input.
struct References {
  Reference y, normalized, sums;
};
inline References make_references(const Layer& layer, const Data& data, const std::vector<float>& x, const std::vector<float>& r,
                                  const std::vector<float>& f) {
  References out;
  if (layer.kind == LayerKind::Conv) {
    out.y = conv_reference(layer.conv, x, data.weights, data.bias, layer.constant_residual ? data.residual : r, f);
    if (layer.conv.store_normalized) out.normalized = normalized_reference(layer.conv, x, data.bias);
  } else if (layer.kind == LayerKind::Window) {
    out.y = window_reference(layer.window, x, data.weights, data.bias);
  } else if (layer.kind == LayerKind::Attention) {
    out.y = attention_reference(layer.attention, layer.part, x, r);
  } else if (layer.kind == LayerKind::Expand) {
    std::tie(out.y, out.sums) = expand_reference(layer.expand, x, data.weights, data.bias);
  } else if (layer.kind == LayerKind::Rows) {
    std::vector<std::vector<int>> numbers(layer.rows.tables.size());
    std::size_t at = 0;
    for (std::size_t t = 0; t < numbers.size(); ++t) {
      if (layer.rows.tables[t].index_bytes == 0) continue;
      for (int row = 0; row < layer.rows.rows; ++row) numbers[t].push_back(static_cast<int>(x[at++]));
    }
    out.y = rows_reference(layer.rows, layer.rows_of_input ? x : data.weights, numbers, data.bias);
  } else {
    out.y = gemv_reference(layer.gemv, x, data.weights, data.bias);
  }
  return out;
}

}  // namespace edgert::bench
