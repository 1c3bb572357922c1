// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "codegen/conv_geometry.h"
#include "edgert/scalar/convert.h"

namespace edgert::codegen {

namespace {

std::uint16_t half_bits(ElementType element, float value) {
  return element == ElementType::F16 ? scalar::to_half(value).bits : scalar::to_bfloat16(value).bits;
}

/// A float's two halves, the lower one first.
void append_halves(std::vector<std::uint16_t>& to, float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  to.push_back(static_cast<std::uint16_t>(bits));
  to.push_back(static_cast<std::uint16_t>(bits >> 16));
}

}  // namespace

std::vector<std::uint16_t> pack_conv_weights(const ConvShape& shape, const float* weights, const float* shortcut_weights) {
  const bool stem = shape.image;
  const std::int32_t own_taps = stem ? shape.kernel[0] : shape.kernel[0] * shape.kernel[1], taps = own_taps + shortcut_taps(shape);
  const std::int32_t channels = shape.channels / shape.groups;
  const std::int32_t depth = stem ? stem_chunk(shape) : channels;
  const std::int32_t pixel = stem ? stem_pixel_channels(shape) : 0;
  const std::int32_t k_blocks = divide_up(depth, 16);
  const std::int32_t n_blocks = divide_up(shape.out_channels, 16);
  const bool wide = is_wide(shape.element);
  const std::int32_t elements = wide && !stem ? channels / 2 : channels;
  const auto weight = [&](std::int32_t n, std::int32_t tap, std::int32_t k) {
    std::int32_t channel = k;
    std::int32_t position = tap;
    if (stem) {
      channel = k % pixel;
      if (k / pixel >= shape.kernel[1]) return 0.0f;
      position = tap * shape.kernel[1] + k / pixel;
    }
    if (n >= shape.out_channels || channel >= elements) return 0.0f;
    if (tap >= own_taps) {
      const std::int32_t all = shape.shortcut.channels / (wide ? 2 : 1), at = (tap - own_taps) * elements + channel;
      return at < all ? shortcut_weights[std::int64_t{n} * all + at] : 0.0f;
    }
    const std::int64_t all_taps = std::int64_t{shape.kernel[0]} * shape.kernel[1];
    return weights[(std::int64_t{n} * elements + channel) * all_taps + position];
  };
  std::vector<std::uint16_t> packed;
  packed.reserve(static_cast<std::size_t>(taps) * static_cast<std::size_t>(k_blocks) * static_cast<std::size_t>(n_blocks) * 256);
  if (shape.element == ElementType::F32) {
    for (std::int32_t row = 0; row < taps * (depth / 2); ++row) {
      for (std::int32_t n = 0; n < n_blocks * 16; ++n) append_halves(packed, weight(n, row / (depth / 2), row % (depth / 2)));
    }
    return packed;
  }
  for (std::int32_t tap = 0; tap < taps; ++tap) {
    for (std::int32_t block = 0; block < k_blocks * n_blocks; ++block) {
      const std::int32_t k0 = block / n_blocks * 16;
      const std::int32_t n0 = block % n_blocks * 16;
      for (std::int32_t i = 0; i < 256; ++i) {  // lane, half of the 16 columns, register, element of the pair
        const std::int32_t lane = i / 8;
        const std::int32_t n = n0 + i / 4 % 2 * 8 + lane / 4;
        const std::int32_t k = k0 + i / 2 % 2 * 8 + lane % 4 * 2 + i % 2;
        if (wide) {
          const float value = weight(n, tap, k / 2);
          std::uint32_t bits = 0;
          std::memcpy(&bits, &value, sizeof(bits));
          bits = (bits + 0x1000u) & 0xffffe000u;  // 11 bits, halves away from zero
          packed.push_back(static_cast<std::uint16_t>(i % 2 == 0 ? bits : bits >> 16));
          continue;
        }
        const float value = weight(n, tap, k);
        packed.push_back(half_bits(shape.element, value));
      }
    }
  }
  return packed;
}

std::vector<std::uint16_t> pack_conv_weights(const ConvShape& shape, const ConvTile& tile, const float* weights) {
  if (!tile.groups_of_warps) return pack_conv_weights(shape, weights);
  const std::int64_t rows = round_up(shape.out_channels, 16), depth = shape.channels;
  std::vector<std::uint16_t> packed(static_cast<std::size_t>(divide_up(shape.channels, 64) * rows * 64), 0);
  for (std::int64_t n = 0; n < shape.out_channels; ++n) {
    for (std::int64_t k = 0; k < depth; ++k) {
      const std::int64_t place = (k / 8 % 8 ^ n % 8) * 8 + k % 8;
      packed[static_cast<std::size_t>((k / 64 * rows + n) * 64 + place)] = half_bits(shape.element, weights[n * depth + k]);
    }
  }
  return packed;
}

FoldedNorm fold_layer_norm(const ConvShape& shape, const float* weights, const float* bias, const float* gamma, const float* beta) {
  const std::size_t outputs = static_cast<std::size_t>(shape.out_channels), depth = static_cast<std::size_t>(shape.channels);
  const std::size_t padded = (outputs + 15) / 16 * 16;
  FoldedNorm out;
  out.weights.resize(outputs * depth);
  out.bias.assign(2 * padded, 0.0f);
  for (std::size_t n = 0; n < outputs; ++n) {
    double constant = bias == nullptr ? 0 : double{bias[n]};
    double sum = 0;
    for (std::size_t k = 0; k < depth; ++k) {
      const float w = weights[n * depth + k];
      const float folded = w * gamma[k];
      const float rounded = shape.element == ElementType::F16 ? scalar::to_float(scalar::to_half(folded)) : scalar::to_float(scalar::to_bfloat16(folded));
      out.weights[n * depth + k] = rounded;
      sum += double{rounded};
      constant += double{w} * beta[k];
    }
    out.bias[n] = static_cast<float>(constant);
    out.bias[padded + n] = static_cast<float>(sum);
  }
  if (shape.store_normalized) {
    out.bias.insert(out.bias.end(), gamma, gamma + depth);
    out.bias.insert(out.bias.end(), beta, beta + depth);
  }
  return out;
}

}  // namespace edgert::codegen
