// SPDX-License-Identifier: Apache-2.0
// Widening and depthwise convolution in one kernel, in the host emulation, against the definition in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "../fake_cuda/emulate.h"
#include "codegen/expand_mma_kernel.h"
#include "edgert/scalar/convert.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;
using fake_cuda::EmulatedKernel;

float round_to(float x, ElementType type) {
  return type == ElementType::F16 ? scalar::to_float(scalar::to_half(x)) : scalar::to_float(scalar::to_bfloat16(x));
}
std::uint16_t to_bits(float x, ElementType type) { return type == ElementType::F16 ? scalar::to_half(x).bits : scalar::to_bfloat16(x).bits; }
float from_bits(std::uint16_t bits, ElementType type) {
  return type == ElementType::F16 ? scalar::to_float(scalar::Half{bits}) : scalar::to_float(scalar::BFloat16{bits});
}
std::vector<float> random_values(std::size_t count, unsigned seed, ElementType type) {
  std::mt19937 random(seed);
  std::vector<float> out(count);
  for (float& x : out) x = round_to(static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f, type);
  return out;
}
double relu6(double x) { return std::min(std::max(x, 0.0), 6.0); }

ConvTarget target_of(std::uint32_t arch) {
  ConvTarget target;
  target.arch = arch;
  target.multiprocessors = 4;
  target.shared_bytes = arch >= 90 ? 227 * 1024 : 163 * 1024;
  return target;
}

ExpandShape shape_of(int height, int width, int channels, int hidden, int window, int stride) {
  ExpandShape s;
  s.height = height, s.width = width, s.channels = channels, s.hidden = hidden, s.window = window, s.stride = stride;
  s.pad[0] = s.pad[1] = window / 2;
  s.out_height = (height - 1) / stride + 1, s.out_width = (width - 1) / stride + 1;
  s.input_pitch = channels + 8, s.output_pitch = hidden + 8;
  s.expand.activation = scalar::PointwiseOp::Clip;
  s.expand.beta = 6.0f;
  return s;
}

/// Elements of y and of the sums outside their bounds, and elements written that are none of y's.
std::size_t run(const ExpandShape& s, int tiles, const KernelSpec& spec, unsigned seed) {
  const auto size = [](auto... n) { return (std::size_t{1} * ... * static_cast<std::size_t>(n)); };
  const std::vector<float> x = random_values(size(s.batch, s.height, s.width, s.input_pitch), 1, s.element);
  const std::vector<float> w = random_values(size(s.hidden, s.channels), 2, s.element), bias = random_values(size(s.hidden + 15), 3, s.element);
  const std::vector<float> v = random_values(size(s.hidden, s.window, s.window), 4, s.element), outer = random_values(size(s.hidden + 15), 5, s.element);
  const std::vector<std::uint16_t> packed = pack_conv_weights(expand_conv_shape(s), w.data()), window = pack_depthwise_weights(expand_window_shape(s), v.data());
  std::vector<std::uint16_t> x_bits, y(size(s.batch, s.out_height, s.out_width, s.output_pitch), 0xffff);
  for (const float e : x) x_bits.push_back(to_bits(e, s.element));
  std::vector<float> pool(size(s.batch, tiles, s.hidden), -77.0f);
  const EmulatedKernel kernel(spec);
  const void *xp = x_bits.data(), *wp = packed.data(), *bp = bias.data(), *vp = window.data(), *op = outer.data(), *none = nullptr;
  void *yp = y.data(), *pp = pool.data();
  std::uint32_t no_bytes = 0;
  const std::vector<std::uint32_t> words = pack_window_words(s, v.data(), outer.data());
  const void* ap = words.data();
  void* parameters[] = {&xp, &wp, &bp, &vp, &op, &yp, &pp, &none, &no_bytes};
  void* mma_parameters[] = {&xp, &wp, &bp, &ap, &yp, &pp, &none, &no_bytes};
  kernel.run(spec.entry == "expand_mma" ? mma_parameters : parameters, {{x_bits.data(), x_bits.size() * 2}, {y.data(), y.size() * 2}, {pool.data(), pool.size() * 4}}, seed);
  const double ulp = s.element == ElementType::F16 ? 0x1p-11 : 0x1p-8;
  std::size_t wrong = 0;
  for (int n = 0; n < s.batch; ++n) {
    for (int c = 0; c < s.hidden; ++c) {
      std::vector<double> hidden(size(s.height, s.width)), error(hidden);
      for (std::size_t p = 0; p < hidden.size(); ++p) {
        double sum = bias[static_cast<std::size_t>(c)], magnitude = std::fabs(sum);
        for (int k = 0; k < s.channels; ++k) {
          const double product = double(x[(size(n) * hidden.size() + p) * size(s.input_pitch) + size(k)]) * w[size(c) * size(s.channels) + size(k)];
          sum += product;
          magnitude += std::fabs(product);
        }
        hidden[p] = relu6(sum);
        error[p] = ulp * 1.01 * hidden[p] + 0x1p-21 * magnitude;  // rounded once
      }
      double total = 0;
      for (int p = 0; p < s.out_height * s.out_width; ++p) {
        double sum = outer[static_cast<std::size_t>(c)], bound = 1e-6 + 0x1p-21 * std::fabs(sum);
        for (int t = 0; t < s.window * s.window; ++t) {
          const int h = p / s.out_width * s.stride - s.pad[0] + t / s.window, q = p % s.out_width * s.stride - s.pad[1] + t % s.window;
          if (h < 0 || h >= s.height || q < 0 || q >= s.width) continue;
          const double weight = v[size(c) * size(s.window * s.window) + size(t)];
          sum += hidden[size(h * s.width + q)] * weight;
          bound += std::fabs(weight) * (error[size(h * s.width + q)] + 0x1p-21 * hidden[size(h * s.width + q)]);
        }
        const double actual = from_bits(y[(size(n) * size(s.out_height * s.out_width) + size(p)) * size(s.output_pitch) + size(c)], s.element);
        wrong += !(std::fabs(actual - sum) <= bound + ulp * 1.01 * std::fabs(sum));
        total += actual;
      }
      if (!s.pool) continue;
      double pooled = 0, magnitude = 0;
      for (int t = 0; t < tiles; ++t) pooled += pool[(size(n) * size(tiles) + size(t)) * size(s.hidden) + size(c)];
      magnitude = 64.0 * s.out_height * s.out_width;
      wrong += !(std::fabs(pooled - total) <= 0x1p-22 * magnitude);
    }
  }
  for (std::size_t i = 0; i < y.size(); ++i) wrong += i % size(s.output_pitch) >= size(s.hidden) && y[i] != 0xffff;
  for (const float p : pool) wrong += !s.pool && p != -77.0f;
  return wrong;
}

TEST_CASE("widening and depthwise convolution, tails in every extent") {
  ExpandShape s = shape_of(7, 6, 24, 40, 3, 1);
  ExpandTile tile = {3, 4, 32, 2, 1, 2};
  CHECK(run(s, expand_tiles(s, tile), make_expand(s, tile, target_of(90)), 1) == 0);
  s = shape_of(9, 8, 16, 24, 3, 2);
  s.batch = 2;
  s.element = ElementType::BF16;
  tile = {2, 3, 16, 1, 1, 1};
  CHECK(run(s, expand_tiles(s, tile), make_expand(s, tile, target_of(87)), 2) == 0);
}

TEST_CASE("wide windows with sums over pixels") {
  ExpandShape s = shape_of(6, 9, 40, 24, 5, 1);
  s.pool = true;
  s.batch = 2;
  ExpandTile tile = {4, 4, 32, 1, 2, 2};
  CHECK(run(s, expand_tiles(s, tile), make_expand(s, tile, target_of(90)), 3) == 0);
  s = shape_of(7, 7, 16, 16, 5, 2);
  s.pool = true;
  tile = {4, 4, 16, 2, 1, 1};
  CHECK(run(s, expand_tiles(s, tile), make_expand(s, tile, target_of(90)), 4) == 0);
}

TEST_CASE("faults planted in widening are noticed") {
  ExpandShape s = shape_of(7, 6, 24, 24, 3, 1);
  s.pool = true;
  const ExpandTile tile = {3, 4, 32, 2, 1, 2};
  const KernelSpec good = make_expand(s, tile, target_of(90));
  REQUIRE(run(s, expand_tiles(s, tile), good, 1) == 0);
  const auto wrong_with = [&](const std::string& from, const std::string& to) {
    KernelSpec bad = good;
    REQUIRE(bad.job.source.find(from) != std::string::npos);
    bad.job.source.replace(bad.job.source.find(from), from.size(), to);
    return run(s, expand_tiles(s, tile), bad, 1);
  };
  CHECK(wrong_with("if (!inside) x[e] = 0.0f;", "") > 0);                                     // the padding would hold the bias
  CHECK(wrong_with("  expand(memory, memory + kHiddenOffset, weights, bias, warp, place);\n  __syncthreads();",
                   "  expand(memory, memory + kHiddenOffset, weights, bias, warp, place);") > 0);  // a race
  CHECK(wrong_with("(r * kTileWidth + i) * kHiddenPixelBytes", "(r * kTileWidth + i + 1) * kHiddenPixelBytes") > 0);
  CHECK(wrong_with("sum += groups[", "sum = groups[") > 0);
}

TEST_CASE("windows on tensor cores, tails in every extent, with sums over pixels") {
  ExpandShape s = shape_of(7, 6, 24, 40, 3, 1);
  ExpandMmaTile tile = {4, 5, 32, 2, 1, 2};
  CHECK(run(s, expand_mma_tiles(s, tile), make_expand_mma(s, tile, target_of(90)), 1) == 0);
  s = shape_of(9, 8, 16, 24, 3, 2);
  s.batch = 2;
  s.element = ElementType::BF16;
  tile = {2, 3, 16, 1, 1, 1};
  CHECK(run(s, expand_mma_tiles(s, tile), make_expand_mma(s, tile, target_of(87)), 2) == 0);
  s = shape_of(6, 9, 40, 24, 5, 1);
  s.pool = true;
  s.batch = 2;
  tile = {4, 4, 32, 1, 2, 2};
  CHECK(run(s, expand_mma_tiles(s, tile), make_expand_mma(s, tile, target_of(90)), 3) == 0);
  s = shape_of(7, 7, 16, 48, 5, 2);
  s.pool = true;
  tile = {4, 4, 16, 2, 1, 4};
  CHECK(run(s, expand_mma_tiles(s, tile), make_expand_mma(s, tile, target_of(87)), 4) == 0);
  s = shape_of(7, 6, 24, 24, 3, 1);
  tile = {4, 5, 32, 4, 2, 2};
  for (const char* barrier : {"expand_at, block);\n  __syncthreads();", "this_warp());\n  __syncthreads();"}) {
    KernelSpec bad = make_expand_mma(s, tile, target_of(90));
    const std::size_t at = bad.job.source.find(barrier);
    REQUIRE(at != std::string::npos);
    bad.job.source.erase(bad.job.source.find("__syncthreads();", at), 16);
    CHECK(run(s, expand_mma_tiles(s, tile), bad, 1) > 0);  // a race
  }
  CHECK(!expand_mma_shared_bytes(s, {4, 4, 40, 2, 1, 1}, target_of(87)).has_value());
  CHECK(!expand_mma_shared_bytes(s, {4, 4, 16, 2, 1, 3}, target_of(87)).has_value());
  CHECK(!rank_expand_mma_tiles(s, target_of(87), 4).empty());
}

TEST_CASE("shapes and tiles that cannot widen are refused, others have tiles") {
  const ExpandShape s = shape_of(14, 14, 96, 576, 3, 1);
  for (const std::uint32_t arch : {87u, 90u, 110u}) {
    const auto tiles = rank_expand_tiles(s, target_of(arch), 4);
    REQUIRE(!tiles.empty());
    for (const ExpandTile& tile : tiles) CHECK(expand_shared_bytes(s, tile, target_of(arch)).has_value());
  }
  const ExpandTile tile;
  REQUIRE(expand_shared_bytes(s, tile, target_of(87)).has_value());
  const auto refused = [&](auto change) {
    ExpandShape other = s;
    change(other);
    return !expand_shared_bytes(other, tile, target_of(87)).has_value();
  };
  CHECK(refused([](ExpandShape& o) { o.channels = 20; }));
  CHECK(refused([](ExpandShape& o) { o.hidden = 4; }));
  CHECK(refused([](ExpandShape& o) { o.window = 7; }));
  CHECK(refused([](ExpandShape& o) { o.output_pitch = 570; }));
  CHECK(refused([](ExpandShape& o) { o.batch = 1 << 24; }));
  CHECK(!expand_shared_bytes(s, {7, 7, 40, 4, 2, 1}, target_of(87)).has_value());
  CHECK_THROWS_AS(make_expand(s, {64, 64, 64, 4, 2, 1}, target_of(87)), CompileError);
}

}  // namespace
