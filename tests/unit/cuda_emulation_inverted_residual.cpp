// SPDX-License-Identifier: Apache-2.0
// Whole inverted-residual blocks in one kernel, in the host emulation, against the definition in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "../fake_cuda/emulate.h"
#include "codegen/inverted_residual_mma_kernel.h"
#include "edgert/scalar/convert.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;
using fake_cuda::EmulatedKernel;

constexpr double kHalfUnit = 0x1p-11;  // of f16, of a result

std::size_t size(std::initializer_list<int> extents) {
  std::size_t product = 1;
  for (const int extent : extents) product *= static_cast<std::size_t>(extent);
  return product;
}
float to_half_and_back(float x) { return scalar::to_float(scalar::to_half(x)); }
std::vector<float> random_values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> out(count);
  for (float& x : out) x = to_half_and_back(static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f);
  return out;
}
std::vector<std::uint16_t> to_halves(const std::vector<float>& from) {
  std::vector<std::uint16_t> out;
  for (const float x : from) out.push_back(scalar::to_half(x).bits);
  return out;
}

ConvTarget target_of(std::uint32_t arch) {
  ConvTarget target;
  target.arch = arch;
  target.multiprocessors = 4;
  target.shared_bytes = arch >= 90 ? 227 * 1024 : 163 * 1024;
  return target;
}

InvertedResidualShape shape_of(int height, int width, int channels, int hidden, int out_channels, int window, int stride) {
  InvertedResidualShape s;
  s.first.height = height, s.first.width = width, s.first.channels = channels, s.first.hidden = hidden;
  s.first.window = window, s.first.stride = stride, s.first.pad[0] = s.first.pad[1] = window / 2;
  s.first.out_height = (height - 1) / stride + 1, s.first.out_width = (width - 1) / stride + 1;
  s.first.input_pitch = channels + 8;
  s.out_channels = out_channels, s.output_pitch = out_channels + 8, s.residual_pitch = out_channels + 16;
  s.first.expand.activation = s.first.epilogue.activation = scalar::PointwiseOp::Clip;
  s.first.expand.beta = s.first.epilogue.beta = 6.0f;
  return s;
}
double relu6(double x) { return std::min(std::max(x, 0.0), 6.0); }

/// A value and what it may be off by.
struct Bounded {
  double value = 0, error = 0;
  void add(const Bounded& x, double weight) { value += x.value * weight, error += std::fabs(weight) * (x.error + 0x1p-20 * std::fabs(x.value)); }
  /// Rounded to f16 behind an activation that enlarges no difference.
  Bounded stored() const { return {relu6(value), error + 1.01 * kHalfUnit * relu6(value)}; }
};

struct Data {
  std::vector<float> x, widening, window, narrowing, bias[3], residual;
  explicit Data(const InvertedResidualShape& s) {
    const ExpandShape& f = s.first;
    x = random_values(size({f.batch, f.height, f.width, f.input_pitch}), 1);
    widening = random_values(size({f.hidden, f.channels}), 2);
    window = random_values(size({f.hidden, f.window, f.window}), 3);
    narrowing = random_values(size({s.out_channels, f.hidden}), 4);
    for (unsigned i = 0; i < 3; ++i) bias[i] = random_values(size({i == 2 ? s.out_channels : f.hidden}), 5 + i);
    residual = random_values(size({f.batch, f.out_height, f.out_width, s.residual_pitch}), 8);
  }
};

/// Hidden channel `c` of image `n` under the windows.
std::vector<Bounded> widened(const InvertedResidualShape& s, const Data& data, int n, int c) {
  const ExpandShape& f = s.first;
  std::vector<Bounded> out(size({f.height, f.width}));
  for (std::size_t p = 0; p < out.size(); ++p) {
    const float* pixel = data.x.data() + (size({n}) * out.size() + p) * size({f.input_pitch});
    if (!s.widens) {
      out[p].value = pixel[c];
      continue;
    }
    out[p].value = data.bias[0][size({c})];
    for (int k = 0; k < f.channels; ++k) out[p].add({pixel[k], 0}, data.widening[size({c}) * size({f.channels}) + size({k})]);
    out[p] = out[p].stored();
  }
  return out;
}

/// [pixel][output channel] of image `n`, before residual and rounding.
std::vector<Bounded> expected(const InvertedResidualShape& s, const Data& data, int n) {
  const ExpandShape& f = s.first;
  std::vector<Bounded> out(size({f.out_height, f.out_width, s.out_channels}));
  for (std::size_t i = 0; i < out.size(); ++i) out[i].value = data.bias[2][i % size({s.out_channels})];
  for (int c = 0; c < f.hidden; ++c) {
    const std::vector<Bounded> hidden = widened(s, data, n, c);
    for (int p = 0; p < f.out_height * f.out_width; ++p) {
      Bounded filtered;
      filtered.value = data.bias[1][size({c})];
      for (int t = 0; t < f.window * f.window; ++t) {
        const int h = p / f.out_width * f.stride - f.pad[0] + t / f.window, w = p % f.out_width * f.stride - f.pad[1] + t % f.window;
        if (h < 0 || h >= f.height || w < 0 || w >= f.width) continue;
        filtered.add(hidden[size({h * f.width + w})], data.window[size({c}) * size({f.window, f.window}) + size({t})]);
      }
      const Bounded stored = filtered.stored();
      for (int o = 0; o < s.out_channels; ++o) out[size({p * s.out_channels + o})].add(stored, data.narrowing[size({o}) * size({f.hidden}) + size({c})]);
    }
  }
  return out;
}

/// Elements outside their bounds, and elements written that are none of y's. Two runs must give the same bits.
std::size_t run(const InvertedResidualShape& s, const KernelSpec& spec, unsigned seed) {
  const ExpandShape& f = s.first;
  const Data data(s);
  const bool adds = s.epilogue.residual != scalar::ResidualMode::None;
  std::vector<std::uint16_t> x = to_halves(data.x), residual = to_halves(data.residual), y(size({f.batch, f.out_height, f.out_width, s.output_pitch}), 0xffff);
  const std::vector<std::uint16_t> weights = pack_inverted_residual_weights(s, s.widens ? data.widening.data() : nullptr, data.narrowing.data());
  const float *first_bias = s.widens ? data.bias[0].data() : nullptr, *window_bias = data.bias[1].data(), *last_bias = data.bias[2].data();
  const std::vector<float> floats = pack_inverted_residual_floats(s, data.window.data(), first_bias, window_bias, last_bias);
  const std::vector<std::uint32_t> words = pack_inverted_residual_words(s, data.window.data(), first_bias, window_bias, last_bias);
  const bool mma = spec.entry == "inverted_residual_mma";
  std::vector<float> workspace(static_cast<std::size_t>(spec.workspace_bytes / 4 + 1), NAN);
  std::vector<std::uint32_t> counters(spec.counters + 1, 0);
  const EmulatedKernel kernel(spec);
  const void *xp = x.data(), *wp = weights.data(), *fp = mma ? static_cast<const void*>(words.data()) : floats.data(), *rp = adds ? residual.data() : nullptr, *none = nullptr;
  void *yp = y.data(), *sp = workspace.data(), *cp = counters.data();
  std::uint32_t no_bytes = 0;
  void* split[] = {&xp, &wp, &fp, &rp, &yp, &sp, &cp, &none, &no_bytes};
  void* whole[] = {&xp, &wp, &fp, &rp, &yp, &none, &no_bytes};
  const auto launch = [&](unsigned order) {
    kernel.run(mma ? whole : split, {{x.data(), x.size() * 2}, {residual.data(), residual.size() * 2}, {y.data(), y.size() * 2}, {workspace.data(), workspace.size() * 4}}, order);
  };
  launch(seed);
  const std::vector<std::uint16_t> first = y;
  launch(seed + 100);
  std::size_t wrong = y != first;
  for (int n = 0; n < f.batch; ++n) {
    const std::vector<Bounded> image = expected(s, data, n);
    for (std::size_t i = 0; i < image.size(); ++i) {
      const std::size_t pixel = size({n, f.out_height, f.out_width}) + i / size({s.out_channels}), channel = i % size({s.out_channels});
      const double sum = image[i].value + (adds ? double{data.residual[pixel * size({s.residual_pitch}) + channel]} : 0.0);
      const double actual = scalar::to_float(scalar::Half{y[pixel * size({s.output_pitch}) + channel]});
      wrong += !(std::fabs(actual - sum) <= image[i].error + 1.01 * kHalfUnit * std::fabs(sum) + 1e-6);
    }
  }
  for (std::size_t i = 0; i < y.size(); ++i) wrong += i % size({s.output_pitch}) >= size({s.out_channels}) && y[i] != 0xffff;
  return wrong;
}

TEST_CASE("a block in one kernel, tails in every extent") {
  InvertedResidualShape s = shape_of(7, 6, 24, 40, 16, 3, 1);
  s.first.batch = 2;
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  CHECK(run(s, make_inverted_residual(s, {3, 4, 1, 1, 4, 1, false, 2, 8}, target_of(90)), 1) == 0);
  s = shape_of(9, 7, 16, 72, 40, 3, 2);
  CHECK(run(s, make_inverted_residual(s, {2, 3, 1, 2, 2, 1, false, 1, 4}, target_of(87)), 2) == 0);
  s = shape_of(6, 5, 16, 24, 24, 5, 2);
  CHECK(run(s, make_inverted_residual(s, {3, 3, 1, 2, 2, 1, false, 1, 8}, target_of(110)), 3) == 0);
}

TEST_CASE("blocks that share the hidden channels of a tile") {
  InvertedResidualShape s = shape_of(5, 7, 40, 112, 32, 3, 1);
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  CHECK(run(s, make_inverted_residual(s, {2, 4, 1, 2, 2, 4, true, 1, 4}, target_of(90)), 4) == 0);
  s = shape_of(7, 7, 24, 80, 48, 5, 1);
  CHECK(run(s, make_inverted_residual(s, {4, 7, 2, 1, 3, 3, false, 1, 8}, target_of(87)), 5) == 0);
}

TEST_CASE("windows on tensor cores, tails in every extent, hidden channels in passes") {
  InvertedResidualShape s = shape_of(7, 6, 24, 40, 16, 3, 1);
  s.first.batch = 2;
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  CHECK(run(s, make_inverted_residual_mma(s, {3, 4, 1, 4, 1, 1}, target_of(90)), 1) == 0);
  s = shape_of(7, 6, 24, 96, 40, 3, 1);
  s.epilogue.residual = scalar::ResidualMode::AfterActivation;
  CHECK(run(s, make_inverted_residual_mma(s, {4, 5, 2, 2, 2, 3}, target_of(87)), 2) == 0);
  s = shape_of(9, 7, 16, 120, 72, 3, 2);
  CHECK(run(s, make_inverted_residual_mma(s, {2, 4, 1, 5, 2, 4}, target_of(87)), 3) == 0);
  s = shape_of(6, 5, 16, 24, 24, 5, 2);
  CHECK(run(s, make_inverted_residual_mma(s, {3, 3, 1, 2, 3, 1}, target_of(110)), 4) == 0);
  s = shape_of(8, 9, 40, 40, 24, 3, 1);
  s.widens = false;
  CHECK(run(s, make_inverted_residual_mma(s, {4, 4, 2, 2, 2, 1}, target_of(87)), 5) == 0);
}

TEST_CASE("without a widening product") {
  InvertedResidualShape s = shape_of(8, 9, 40, 40, 24, 3, 1);
  s.widens = false;
  CHECK(run(s, make_inverted_residual(s, {4, 4, 1, 2, 2, 1, false, 2, 4}, target_of(90)), 6) == 0);
}

TEST_CASE("faults planted in a block are noticed") {
  InvertedResidualShape s = shape_of(5, 6, 24, 56, 16, 3, 1);
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  const KernelSpec good = make_inverted_residual(s, {3, 3, 1, 1, 4, 2, true, 1, 4}, target_of(90));
  REQUIRE(run(s, good, 1) == 0);
  const auto wrong_with = [&](const std::string& from, const std::string& to) {
    KernelSpec bad = good;
    REQUIRE(bad.job.source.find(from) != std::string::npos);
    bad.job.source.replace(bad.job.source.find(from), from.size(), to);
    return run(s, bad, 1);
  };
  CHECK(wrong_with("if (!inside) x[e] = 0.0f;", "") > 0);  // the padding would hold the bias
  CHECK(wrong_with("expand_at, block);\n    __syncthreads();", "expand_at, block);") > 0);
  CHECK(wrong_with("memory + kWindowOffset);\n  __syncthreads();", "memory + kWindowOffset);") > 0);
  CHECK(wrong_with("spill_sums(plane, sum, warp);\n  __syncthreads();", "spill_sums(plane, sum, warp);") > 0);
  CHECK(wrong_with("k < kOwnBlocks; k += kWarpsK", "k < kOwnBlocks - 1; k += kWarpsK") > 0);
}

TEST_CASE("faults planted in a block on tensor cores are noticed") {
  InvertedResidualShape s = shape_of(5, 6, 24, 64, 16, 3, 1);
  const KernelSpec good = make_inverted_residual_mma(s, {2, 3, 1, 4, 2, 2}, target_of(90));
  REQUIRE(run(s, good, 1) == 0);
  const auto wrong_with = [&](const std::string& from, const std::string& to) {
    KernelSpec bad = good;
    std::string changed;
    const auto replaced = [&](std::string_view text) {
      const std::size_t at = text.find(from);
      if (at != std::string_view::npos) changed = std::string(text.substr(0, at)) + to + std::string(text.substr(at + from.size()));
      return at != std::string_view::npos;
    };
    if (replaced(bad.job.source)) bad.job.source = changed;
    for (KernelFile& header : bad.job.headers) {
      if (changed.empty() && replaced(header.text)) header.text = changed;
    }
    REQUIRE(!changed.empty());
    return run(s, bad, 1);
  };
  CHECK(wrong_with("if (!inside) pair = 0;", "") > 0);  // the padding would hold the bias
  CHECK(wrong_with("expand_at, block);\n      __syncthreads();", "expand_at, block);") > 0);
  CHECK(wrong_with("* 512), warp);\n    __syncthreads();", "* 512), warp);") > 0);
  CHECK(wrong_with("spill_columns(plane, sum, warp);\n  __syncthreads();", "spill_columns(plane, sum, warp);") > 0);
  CHECK(wrong_with("row - r * kInnerH;", "row - r * kInnerH - 1;") > 0);
}

TEST_CASE("blocks and tiles that do not go together are refused, others have tiles") {
  for (const std::uint32_t arch : {87u, 90u, 110u}) {
    for (const InvertedResidualShape& s : {shape_of(56, 56, 24, 144, 24, 3, 1), shape_of(14, 14, 96, 576, 160, 5, 2), shape_of(7, 7, 160, 960, 320, 3, 1)}) {
      const auto tiles = rank_inverted_residual_tiles(s, target_of(arch), 4);
      REQUIRE(!tiles.empty());
      for (const auto& tile : tiles) CHECK(inverted_residual_shared_bytes(s, tile, target_of(arch)).has_value());
      for (const auto& tile : rank_inverted_residual_mma_tiles(s, target_of(arch), 4)) CHECK(inverted_residual_mma_shared_bytes(s, tile, target_of(arch)).has_value());
    }
  }
  const InvertedResidualShape s = shape_of(14, 14, 64, 384, 64, 3, 1);
  const InvertedResidualTile tile = {2, 4, 1, 2, 4, 2, false, 1, 8};
  const auto refused = [&](auto change) {
    InvertedResidualShape other = s;
    InvertedResidualTile changed = tile;
    change(other, changed);
    return !inverted_residual_shared_bytes(other, changed, target_of(87)).has_value();
  };
  using S = InvertedResidualShape;
  using T = InvertedResidualTile;
  CHECK(!refused([](S&, T&) {}));
  CHECK(refused([](S& o, T&) { o.first.channels = 20; }));
  CHECK(refused([](S& o, T&) { o.out_channels = 60; }));
  CHECK(refused([](S& o, T&) { o.first.window = 7; }));
  CHECK(refused([](S& o, T&) { o.output_pitch = 60; }));
  CHECK(refused([](S& o, T&) { o.first.batch = 1 << 24; }));
  CHECK(refused([](S& o, T&) { o.widens = false; }));
  CHECK(refused([](S&, T& t) { t.cluster = true; }));  // there are none on sm_87
  CHECK(refused([](S&, T& t) { t.split = 25; }));      // 24 blocks of channels
  CHECK(refused([](S&, T& t) { t.strip = 3; }));
  CHECK(refused([](S&, T& t) { t.warps_k = 16; }));
  CHECK_THROWS_AS(make_inverted_residual(s, {32, 32, 1, 2, 4, 1, false, 1, 8}, target_of(87)), CompileError);
  const InvertedResidualMmaTile mma = {2, 4, 1, 8, 1, 2};
  CHECK(inverted_residual_mma_shared_bytes(s, mma, target_of(87)).has_value());
  CHECK(!inverted_residual_mma_shared_bytes(s, {2, 4, 1, 8, 3, 2}, target_of(87)).has_value());   // rows that do not divide the tile
  CHECK(!inverted_residual_mma_shared_bytes(s, {2, 4, 1, 8, 1, 7}, target_of(87)).has_value());   // 24 blocks of channels
  CHECK(!inverted_residual_mma_shared_bytes(s, {2, 4, 1, 32, 1, 2}, target_of(87)).has_value());
  CHECK_THROWS_AS(make_inverted_residual_mma(s, {32, 32, 1, 4, 1, 1}, target_of(87)), CompileError);
}

}  // namespace
