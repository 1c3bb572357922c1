// SPDX-License-Identifier: Apache-2.0
// Winograd convolutions (kernels/winograd.cu) in the host emulation, against the definition in double. Every element must be
// within the bound that the algorithm's roundings allow. With u = 2^-11, half a unit of f16 relative: a transformed input is
// off by at most 2 u |B| |x| |B|^T (two sums, each rounded), a transformed weight by u |U|, a frequency's sum, stored in f16,
// by u of itself, together by 4 u sum_c |U| |B| |x| |B|^T, and the result by A' times that times A'^T, A' having A's
// magnitudes, and u |y|. What floats round beside that is covered by a hundredth more, and what f16 has no bits for, 2^-22 of
// each of the nine sums (an eighth of it is stored), by 4e-6.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <random>

#include "../fake_cuda/emulate.h"
#include "codegen/winograd_kernel.h"
#include "edgert/scalar/convert.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;

constexpr double kUnit = 0x1p-11 * 1.01;

std::vector<float> random_halves(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> out(count);
  for (float& x : out) x = scalar::to_float(scalar::to_half(static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f));
  return out;
}
std::vector<std::uint16_t> to_bits(const std::vector<float>& x) {
  std::vector<std::uint16_t> out;
  for (const float v : x) out.push_back(scalar::to_half(v).bits);
  return out;
}

using Square = std::array<std::array<double, 4>, 4>;

/// |G w G^T|.
Square transformed_weights(const float* w) {
  static constexpr double kG[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  Square out{};
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      double sum = 0;
      for (int t = 0; t < 9; ++t) sum += kG[i][t / 3] * double(w[t]) * kG[j][t % 3];
      out[i][j] = std::fabs(sum);
    }
  }
  return out;
}

/// Elements outside the bound, and elements written that are none of y's.
std::size_t run(const ConvShape& s, const KernelSpec& spec, unsigned seed) {
  const std::vector<float> x = random_halves(std::size_t(s.batch) * s.height * s.width * s.input_pitch, 1);
  const std::vector<float> w = random_halves(std::size_t(s.out_channels) * s.channels * 9, 2), bias = random_halves((s.out_channels + 15) / 16 * 16, 3);
  const std::vector<float> r = random_halves(std::size_t(s.batch) * s.out_height * s.out_width * s.residual_pitch, 4);
  std::vector<std::uint16_t> x_bits = to_bits(x), r_bits = to_bits(r), packed = pack_winograd_weights(s, w.data());
  std::vector<std::uint16_t> y(std::size_t(s.batch) * s.out_height * s.out_width * s.output_pitch, 0xffff);
  const void *xp = x_bits.data(), *wp = packed.data(), *bp = bias.data(), *rp = r_bits.data();
  void* yp = y.data();
  std::uint32_t prefetch_bytes = static_cast<std::uint32_t>(packed.size() * 2);
  void* parameters[] = {&xp, &wp, &bp, &rp, &yp, &wp, &prefetch_bytes};
  const fake_cuda::EmulatedKernel kernel(spec);
  kernel.run(parameters, {{x_bits.data(), x_bits.size() * 2}, {r_bits.data(), r_bits.size() * 2}, {y.data(), y.size() * 2}}, seed);
  const auto pixel = [&](int n, int h, int v, int c) {
    const bool inside = h >= 0 && h < s.height && v >= 0 && v < s.width;
    return inside ? double(x[((std::size_t(n) * s.height + h) * s.width + v) * s.input_pitch + c]) : 0.0;
  };
  std::vector<Square> weights;
  for (std::size_t f = 0; f < w.size() / 9; ++f) weights.push_back(transformed_weights(w.data() + f * 9));
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const int m = static_cast<int>(i % s.output_pitch), p = static_cast<int>(i / s.output_pitch);
    if (m >= s.out_channels) {
      wrong += y[i] != 0xffff;
      continue;
    }
    const int n = p / (s.out_height * s.out_width), oh = p / s.out_width % s.out_height, ow = p % s.out_width;
    static constexpr int kB[4][2] = {{0, 2}, {1, 2}, {1, 2}, {1, 3}};  // pixels that a transformed one is made of
    const bool down = oh % 2 == 1, right = ow % 2 == 1;
    double sum = s.bias ? bias[m] : 0, off = 0;
    for (int c = 0; c < s.channels; ++c) {
      const std::size_t filter = std::size_t(m) * s.channels + c;
      for (int t = 0; t < 9; ++t) sum += pixel(n, oh - s.pad[0] + t / 3, ow - s.pad[1] + t % 3, c) * double(w[filter * 9 + t]);
      for (int f = 0; f < 9; ++f) {  // those of the 16 that this output is a sum of
        const int a = f / 3 + down, b = f % 3 + right;
        for (int k = 0; k < 4; ++k) {
          const int h = oh / 2 * 2 - s.pad[0] + kB[a][k / 2], v = ow / 2 * 2 - s.pad[1] + kB[b][k % 2];
          off += 4 * kUnit * weights[filter][a][b] * std::fabs(pixel(n, h, v, c));
        }
      }
    }
    const double residual = r[std::size_t(p) * s.residual_pitch + m];
    if (s.epilogue.residual == scalar::ResidualMode::BeforeActivation) sum += residual;
    if (s.epilogue.activation == scalar::PointwiseOp::Relu) sum = std::max(sum, 0.0);
    if (s.epilogue.residual == scalar::ResidualMode::AfterActivation) sum += residual;
    wrong += !(std::fabs(double(scalar::to_float(scalar::Half{y[i]})) - sum) <= off + kUnit * std::fabs(sum) + 4e-6);
  }
  return wrong;
}

ConvTarget target_of(std::uint32_t arch) {
  ConvTarget target;
  target.arch = arch;
  target.multiprocessors = 4;
  return target;
}

ConvShape shape_of(int batch, int h, int w, int c, int m, int pad) {
  ConvShape s;
  s.batch = batch, s.height = h, s.width = w, s.channels = c, s.out_channels = m;
  s.kernel[0] = s.kernel[1] = 3, s.pad[0] = s.pad[1] = pad;
  s.out_height = h + 2 * pad - 2, s.out_width = w + 2 * pad - 2;
  s.input_pitch = c + 8, s.output_pitch = m + 8, s.residual_pitch = m;
  s.epilogue.activation = scalar::PointwiseOp::Relu;
  return s;
}

TEST_CASE("Winograd: odd extents, more steps than patches, a step of half the channels, a residual before the activation") {
  ConvShape s = shape_of(1, 9, 11, 144, 40, 1);
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  CHECK(run(s, make_winograd(s, {3, 4, 32}, target_of(87)), 1) == 0);
}

TEST_CASE("Winograd: blocks that end an image and begin the next, no padding, a residual after the activation, no bias") {
  ConvShape s = shape_of(3, 7, 8, 32, 64, 0);
  s.bias = false;
  s.epilogue.residual = scalar::ResidualMode::AfterActivation;
  CHECK(run(s, make_winograd(s, {5, 3, 64}, target_of(90)), 2) == 0);
  s = shape_of(5, 3, 2, 16, 24, 1);
  CHECK(run(s, make_winograd(s, {8, 1, 16}, target_of(87)), 3) == 0);
}

TEST_CASE("Winograd: planted faults are noticed") {
  const ConvShape s = shape_of(1, 9, 8, 160, 16, 1);
  const KernelSpec good = make_winograd(s, {5, 4, 16}, target_of(87));
  REQUIRE(run(s, good, 1) == 0);
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
    if (file == "kernels/winograd.cu") {
      REQUIRE(bad.job.source.find(from) != std::string::npos);
      bad.job.source.replace(bad.job.source.find(from), from.size(), to);
    }
    return run(s, bad, 1);
  };
  CHECK(wrong_with("kernels/winograd.cu", "chunk < kChunks; ++chunk) {\n      copy", "chunk < kChunks - 1; ++chunk) {\n      copy") > 0);  // a dropped step
  CHECK(wrong_with("kernels/winograd.cu", "copy_async_wait<kPatches - 2>();", "copy_async_wait<kPatches - 1>();") > 0);                 // a wait too short
  CHECK(wrong_with("kernels/winograd.cu", "copy_async_wait<kPatches - 2>();\n      __syncthreads();", "copy_async_wait<kPatches - 2>();") > 0);  // a race
  CHECK(wrong_with("kernels/winograd_patch.h", "w >= 0 && w < kWidth", "w >= 0 && w < kWidth - 1") > 0);                                // an edge off by one
  CHECK(wrong_with("kernels/winograd_patch.h", "subtract_pairs(x[1], x[3])", "subtract_pairs(x[3], x[1])") > 0);                        // a sign
}

TEST_CASE("Winograd: what the kernel does not take") {
  ConvShape s = shape_of(1, 8, 8, 32, 32, 1);
  CHECK(winograd_takes(s));
  CHECK_THROWS_AS(make_winograd(s, {8, 8, 32}, target_of(87)), CompileError);
  s.element = ElementType::BF16;
  CHECK(!winograd_takes(s));
  CHECK(rank_winograd_tiles(s, target_of(87), 4).empty());
  s = shape_of(1, 8, 8, 24, 32, 1);
  CHECK(!winograd_takes(s));
  s = shape_of(1, 8, 8, 32, 32, 1);
  s.stride[0] = 2;
  CHECK_THROWS_AS(make_winograd(s, {4, 4, 32}, target_of(87)), CompileError);
}

}  // namespace
