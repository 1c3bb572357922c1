// SPDX-License-Identifier: Apache-2.0
// Matrix products that normalise their input first, and first layers whose outputs share no pixel, in the host
// emulation, against the definition in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "../fake_cuda/emulate.h"
#include "codegen/conv_kernel.h"
#include "edgert/scalar/convert.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;
using fake_cuda::EmulatedKernel;

float round_to(float x, ElementType type) {
  return type == ElementType::F16 ? scalar::to_float(scalar::to_half(x)) : scalar::to_float(scalar::to_bfloat16(x));
}
std::vector<std::uint16_t> to_bits(const std::vector<float>& x, ElementType type) {
  std::vector<std::uint16_t> out;
  for (const float v : x) out.push_back(type == ElementType::F16 ? scalar::to_half(v).bits : scalar::to_bfloat16(v).bits);
  return out;
}
float from_bits(std::uint16_t bits, ElementType type) {
  return type == ElementType::F16 ? scalar::to_float(scalar::Half{bits}) : scalar::to_float(scalar::BFloat16{bits});
}
std::vector<float> random_values(std::size_t count, unsigned seed, ElementType type, float offset = 0.0f) {
  std::mt19937 random(seed);
  std::vector<float> out(count);
  for (float& x : out) x = round_to((static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f) + offset, type);
  return out;
}

ConvTarget target_of(std::uint32_t arch) {
  ConvTarget target;
  target.arch = arch;
  target.multiprocessors = 4;
  target.shared_bytes = arch >= 90 ? 227 * 1024 : 163 * 1024;
  return target;
}

ConvShape product(int rows, int depth, int outputs) {
  ConvShape s;
  s.width = s.out_width = rows, s.channels = depth, s.out_channels = outputs;
  s.input_pitch = depth + 8, s.output_pitch = (outputs + 7) / 8 * 8 + 8, s.residual_pitch = s.output_pitch;
  s.layer_norm = true;
  return s;
}

ConvTile tile_of(int width, int n, int chunk, int wm, int wn, int wk, int buffers) {
  ConvTile t;
  t.tile_width = width, t.block_n = n, t.chunk = chunk, t.warps_m = wm, t.warps_n = wn, t.warps_k = wk, t.buffers = buffers;
  return t;
}

/// Elements of y and of the normalised rows outside their bounds, and elements written that are none of theirs. Rows lie
/// around `offset`: the further from zero, the more a variance found carelessly would lose.
std::size_t run(const ConvShape& s, const KernelSpec& spec, float offset, unsigned seed) {
  const std::size_t rows = static_cast<std::size_t>(s.width), depth = static_cast<std::size_t>(s.channels), outputs = static_cast<std::size_t>(s.out_channels);
  const std::vector<float> x = random_values(rows * s.input_pitch, 1, s.element, offset);
  const std::vector<float> w = random_values(outputs * depth, 2, s.element), bias = random_values(outputs, 3, s.element);
  const std::vector<float> gamma = random_values(depth, 4, s.element, 1.0f), beta = random_values(depth, 5, s.element);
  const FoldedNorm folded = fold_layer_norm(s, w.data(), bias.data(), gamma.data(), beta.data());
  ConvTile tile;
  tile.groups_of_warps = spec.job.own_features;
  const std::vector<std::uint16_t> packed = pack_conv_weights(s, tile, folded.weights.data());
  std::vector<std::uint16_t> x_bits = to_bits(x, s.element), y(rows * s.output_pitch, 0xffff), normalized(rows * s.input_pitch, 0xffff);
  const EmulatedKernel kernel(spec);
  const void *x_pointer = x_bits.data(), *weights = packed.data(), *bias_pointer = folded.bias.data(), *none = nullptr;
  void *y_pointer = y.data(), *normalized_pointer = normalized.data();
  std::uint32_t no_bytes = 0;
  void* parameters[] = {&x_pointer, &weights, &bias_pointer, &none, &y_pointer, &none, &none, &none, &no_bytes, &normalized_pointer};
  kernel.run(parameters, {{x_bits.data(), x_bits.size() * 2}, {y.data(), y.size() * 2}, {normalized.data(), normalized.size() * 2}}, seed);
  const double ulp = s.element == ElementType::F16 ? 0x1p-11 : 0x1p-8;
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    double mean = 0, variance = 0, largest = 0;  // the mean's error is one of a sum over the row
    for (std::size_t k = 0; k < depth; ++k) largest = std::max(largest, std::fabs(double(x[r * s.input_pitch + k])));
    for (std::size_t k = 0; k < depth; ++k) mean += double(x[r * s.input_pitch + k]) / double(depth);
    if (s.rms) mean = 0;
    for (std::size_t k = 0; k < depth; ++k) variance += std::pow(x[r * s.input_pitch + k] - mean, 2) / double(depth);
    const double scale = 1 / std::sqrt(variance + s.epsilon);
    for (std::size_t n = 0; n < static_cast<std::size_t>(s.output_pitch); ++n) {
      const std::uint16_t actual = y[r * s.output_pitch + n];
      if (n >= outputs) {
        wrong += actual != 0xffff;
        continue;
      }
      double sum = bias[n], size = std::fabs(sum);
      for (std::size_t k = 0; k < depth; ++k) {
        const double w_here = w[n * depth + k];
        const double folded_here = folded.weights[n * depth + k];
        sum += (x[r * s.input_pitch + k] - mean) * scale * folded_here + w_here * beta[k];
        size += (std::fabs(x[r * s.input_pitch + k] * folded_here) + std::fabs(mean * folded_here)) * scale + std::fabs(w_here * beta[k]);
      }
      wrong += !(std::fabs(from_bits(actual, s.element) - sum) <= ulp * 1.01 * std::fabs(sum) + 0x1p-20 * size + 1e-6);
    }
    for (std::size_t k = 0; k < static_cast<std::size_t>(s.input_pitch); ++k) {
      const std::uint16_t actual = normalized[r * s.input_pitch + k];
      if (!s.store_normalized || k >= depth) {
        wrong += actual != 0xffff;
        continue;
      }
      const double x_here = x[r * s.input_pitch + k];
      const double expected = (x_here - mean) * scale * gamma[k] + beta[k];
      const double size = (largest + std::fabs(mean)) * scale * std::fabs(gamma[k]) + std::fabs(beta[k]);
      wrong += !(std::fabs(from_bits(actual, s.element) - expected) <= ulp * 1.01 * std::fabs(expected) + 0x1p-20 * size + 1e-6);
    }
  }
  return wrong;
}

TEST_CASE("products of normalised rows, tails in every extent, rows far from zero") {
  const ConvShape s = product(37, 88, 40);
  for (const float offset : {0.0f, 8.0f}) {
    CHECK(run(s, make_conv(s, tile_of(16, 32, 32, 1, 2, 1, 2), target_of(90)), offset, 1) == 0);
    CHECK(run(s, make_conv(s, tile_of(48, 16, 64, 1, 1, 2, 2), target_of(87)), offset, 2) == 0);
  }
}

TEST_CASE("normalised rows are stored as well, by shares, in both types") {
  ConvShape s = product(21, 72, 24);
  s.store_normalized = true;
  CHECK(run(s, make_conv(s, tile_of(16, 16, 32, 1, 1, 1, 3), target_of(90)), 2.0f, 3) == 0);
  s.element = ElementType::BF16;
  CHECK(run(s, make_conv(s, tile_of(32, 32, 48, 1, 1, 1, 2), target_of(87)), 0.0f, 4) == 0);
}

TEST_CASE("rows divided by their root mean square") {
  ConvShape s = product(21, 72, 24);
  s.rms = s.store_normalized = true;
  CHECK(run(s, make_conv(s, tile_of(16, 16, 32, 1, 1, 1, 3), target_of(87)), 2.0f, 3) == 0);
}

TEST_CASE("rows that are no longer in shared memory when they are normalised and stored") {
  ConvShape s = product(37, 88, 40);
  s.store_normalized = true;
  ConvTile tile = tile_of(32, 32, 16, 1, 2, 1, 3);
  tile.shared_weights = true, tile.weight_stages = 3;
  CHECK(run(s, make_conv(s, tile, target_of(87)), 2.0f, 3) == 0);
}

TEST_CASE("blocks that share the rows which they normalise and store") {
  ConvShape s = product(21, 64, 64);
  s.store_normalized = true;
  ConvTile tile = tile_of(16, 16, 32, 1, 1, 1, 2);
  tile.bulk = true, tile.share_rows = 2, tile.shared_weights = true;
  CHECK(run(s, make_conv(s, tile, target_of(90)), 2.0f, 3) == 0);
}

TEST_CASE("rows normalised beside products by groups of warps") {
  ConvShape s = product(85, 264, 40);
  s.store_normalized = true;
  ConvTile tile = tile_of(64, 48, 64, 4, 1, 1, 2);
  tile.groups_of_warps = true, tile.weight_stages = 4;
  CHECK(run(s, make_conv(s, tile, target_of(90)), 2.0f, 3) == 0);
}

TEST_CASE("faults planted in normalisation are noticed") {
  ConvShape s = product(21, 72, 24);
  s.store_normalized = true;
  const KernelSpec good = make_conv(s, tile_of(16, 16, 32, 1, 1, 2, 3), target_of(90));
  REQUIRE(run(s, good, 4.0f, 1) == 0);
  const auto wrong_with = [&](const std::string& file, const std::string& from, const std::string& to) {
    KernelSpec bad = good;
    std::string text;
    for (KernelFile& header : bad.job.headers) {
      if (header.name != file) continue;
      text = std::string(header.text);
      REQUIRE(text.find(from) != std::string::npos);
      text.replace(text.find(from), from.size(), to);
      header.text = text;
    }
    return run(s, bad, 4.0f, 1);
  };
  CHECK(wrong_with("kernels/conv_norm.h", "chunk * kParts + v >= kVectors", "chunk * kParts + v > kVectors") > 0);  // zeros counted
  CHECK(wrong_with("kernels/conv_norm.h", "distance = kRowThreads / 2", "distance = kRowThreads / 4") > 0);
  CHECK(wrong_with("kernels/conv_norm.h", "- offset * offset", "") > 0);
  CHECK(wrong_with("kernels/conv_finish.h", "- row.x * sums_[c]", "") > 0);
}

TEST_CASE("tiles that cannot normalise are refused") {
  const ConvShape s = product(37, 256, 40);
  const ConvTarget target = target_of(90);
  REQUIRE(conv_shared_bytes(s, tile_of(16, 16, 32, 1, 1, 1, 2), target).has_value());
  ConvTile split = tile_of(16, 16, 32, 1, 1, 1, 2);
  split.split = 2;
  CHECK(!conv_shared_bytes(s, split, target));
  ConvShape other = s;
  other.store_normalized = true;
  CHECK(!conv_shared_bytes(other, tile_of(16, 16, 32, 1, 1, 1, 2), target));  // not all of a row is there
  CHECK(conv_shared_bytes(other, tile_of(16, 16, 32, 1, 1, 1, 8), target));
  other = s;
  other.channels = 252;
  CHECK(!conv_shared_bytes(other, tile_of(16, 16, 32, 1, 1, 1, 2), target));
  other = s;
  other.height = other.out_height = 2;
  CHECK(!conv_shared_bytes(other, tile_of(16, 16, 32, 1, 1, 1, 2), target));
}

TEST_CASE("first layer whose outputs share no pixel") {
  ConvShape s;
  s.image = true;
  s.height = 33, s.width = 50, s.channels = 3, s.out_channels = 24;
  s.kernel[0] = s.kernel[1] = s.stride[0] = s.stride[1] = 16;
  s.out_height = 2, s.out_width = 3;
  s.output_pitch = 24;
  const std::vector<float> x = random_values(3 * 33 * 50, 1, s.element), w = random_values(24 * 3 * 256, 2, s.element), bias = random_values(32, 3, s.element);
  const std::vector<std::uint16_t> packed = pack_conv_weights(s, w.data());
  ConvTile tile = tile_of(2, 32, stem_chunk(s), 1, 2, 2, 1);
  const EmulatedKernel kernel(make_conv(s, tile, target_of(90)));
  std::vector<std::uint16_t> y(2 * 3 * 24, 0xffff);
  const void *x_pointer = x.data(), *weights = packed.data(), *bias_pointer = bias.data(), *none = nullptr;
  void* y_pointer = y.data();
  std::uint32_t no_bytes = 0;
  void* parameters[] = {&x_pointer, &weights, &bias_pointer, &none, &y_pointer, &none, &none, &none, &no_bytes};
  kernel.run(parameters, {{y.data(), y.size() * 2}}, 1);
  std::size_t wrong = 0;
  for (int p = 0; p < 6; ++p) {
    for (int n = 0; n < 24; ++n) {
      double sum = bias[n], size = std::fabs(sum);
      for (int i = 0; i < 768; ++i) {
        const int c = i / 256, h = p / 3 * 16 + i / 16 % 16, v = p % 3 * 16 + i % 16;
        const double product = double(x[(c * 33 + h) * 50 + v]) * w[n * 768 + i];
        sum += product;
        size += std::fabs(product);
      }
      wrong += !(std::fabs(from_bits(y[static_cast<std::size_t>(p * 24 + n)], s.element) - sum) <= 0x1p-11 * 1.01 * std::fabs(sum) + 0x1p-21 * size);
    }
  }
  CHECK(wrong == 0);
}

}  // namespace
