// SPDX-License-Identifier: Apache-2.0
// Kernels checked without a GPU: the specialised source of each family runs in the host emulation, at small shapes with
// every extent once not a multiple of the tile, against naive references. Built with the address sanitizer, accesses
// outside any buffer, and accesses to the previous kernel's results before waiting for it, end the test. Planted faults
// show that the comparison would notice.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "../fake_cuda/emulate.h"
#include "codegen/conv_kernel.h"
#include "codegen/window_kernel.h"
#include "edgert/scalar/convert.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;
using fake_cuda::EmulatedKernel;

std::vector<float> random_halves(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> out(count);
  for (float& x : out) x = scalar::to_float(scalar::to_half((static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f)));
  return out;
}
std::vector<std::uint16_t> to_bits(const std::vector<float>& x, ElementType type) {
  std::vector<std::uint16_t> out;
  for (const float v : x) out.push_back(type == ElementType::F16 ? scalar::to_half(v).bits : scalar::to_bfloat16(v).bits);
  return out;
}
float from_bits(std::uint16_t bits, ElementType type) {
  return type == ElementType::F16 ? scalar::to_float(scalar::Half{bits}) : scalar::to_float(scalar::BFloat16{bits});
}
/// As the element type rounds them.
std::vector<float> rounded(std::vector<float> x, ElementType type) {
  for (float& v : x) v = from_bits(to_bits({v}, type)[0], type);
  return x;
}

double activate(const scalar::Epilogue& e, double x) {
  if (e.activation == scalar::PointwiseOp::Relu) return x < 0 ? 0 : x;
  if (e.activation == scalar::PointwiseOp::Clip) return std::min(std::max(x, double(e.alpha)), double(e.beta));
  if (e.activation == scalar::PointwiseOp::Silu) return x / (1 + std::exp(-x));
  if (e.activation == scalar::PointwiseOp::Gelu) return 0.5 * x * std::erfc(-x * 0.70710678118654752);
  return x;
}

struct Sum {
  double value = 0, magnitude = 0;
  void add(double x) {
    value += x;
    magnitude += std::fabs(x);
  }
};

/// The convolution at one output, straight from its definition.
Sum convolve(const ConvShape& s, const std::vector<float>& x, const std::vector<float>& w, int n, int oh, int ow, int m) {
  Sum sum;
  for (int r = 0; r < s.kernel[0]; ++r) {
    for (int q = 0; q < s.kernel[1]; ++q) {
      const int h = oh * s.stride[0] - s.pad[0] + r * s.dilation[0];
      const int v = ow * s.stride[1] - s.pad[1] + q * s.dilation[1];
      if (h < 0 || h >= s.height || v < 0 || v >= s.width) continue;
      for (int c = 0; c < s.channels; ++c) {
        const std::size_t at = s.image ? ((std::size_t(n) * s.channels + c) * s.height + h) * s.width + v
                                       : ((std::size_t(n) * s.height + h) * s.width + v) * s.input_pitch + c;
        const double factor = s.scaled ? double(x[std::size_t(n) * s.channels + c]) : 1.0;  // run_conv takes them from x itself
        sum.add(double(x[at]) * factor * w[((std::size_t(m) * s.channels + c) * s.kernel[0] + r) * s.kernel[1] + q]);
      }
    }
  }
  return sum;
}

/// The shortcut at output pixel `pixel`, counted over all images, from its definition.
Sum take_shortcut(const ConvShape::Shortcut& s, const std::vector<float>& x, const std::vector<float>& w, int pixel, int m) {
  const int column = pixel % s.out_width, row = pixel / s.out_width % s.out_height, n = pixel / (s.out_width * s.out_height);
  const std::size_t at = ((std::size_t(n) * s.height + row * s.stride[0]) * s.width + column * s.stride[1]) * s.pitch;
  Sum sum;
  for (int c = 0; c < s.channels; ++c) sum.add(double(x[at + c]) * w[std::size_t(m) * s.channels + c]);
  return sum;
}

struct ConvData {
  std::vector<float> x, w, bias, residual, shortcut, shortcut_w;
  std::vector<std::uint16_t> x_bits, residual_bits, shortcut_bits, packed;
};

ConvData make_data(const ConvShape& s) {
  ConvData d;
  d.x = rounded(random_halves(std::size_t(s.batch) * s.height * s.width * (s.image ? s.channels : s.input_pitch), 1), s.element);
  d.w = rounded(random_halves(std::size_t(s.out_channels) * s.channels * s.kernel[0] * s.kernel[1], 2), s.element);
  d.bias = random_halves((s.out_channels + 15) / 16 * 16, 3);
  d.residual = rounded(random_halves(std::size_t(s.batch) * s.out_height * s.out_width * s.residual_pitch, 4), s.element);
  d.x_bits = to_bits(d.x, s.element);
  d.residual_bits = to_bits(d.residual, s.element);
  const std::int32_t images = s.batch * s.out_height * s.out_width / (s.shortcut.out_height * s.shortcut.out_width);
  d.shortcut = rounded(random_halves(std::size_t(images) * s.shortcut.height * s.shortcut.width * s.shortcut.pitch, 5), s.element);
  d.shortcut_w = rounded(random_halves(std::size_t(s.out_channels) * s.shortcut.channels, 6), s.element);
  d.shortcut_bits = to_bits(d.shortcut, s.element);
  d.packed = pack_conv_weights(s, d.w.data(), d.shortcut_w.data());
  return d;
}

ConvTile in_groups() {
  ConvTile tile;
  tile.groups_of_warps = true;
  return tile;
}

/// Elements of y outside the bound, and elements written that are none of y's.
std::size_t run_conv(const ConvShape& s, const KernelSpec& spec, unsigned seed) {
  ConvData d = make_data(s);
  if (spec.job.own_features) d.packed = pack_conv_weights(s, in_groups(), d.w.data());
  const EmulatedKernel kernel(spec);
  const int image_pixels = s.output_image_pixels != 0 ? s.output_image_pixels : s.out_height * s.out_width;
  std::vector<std::uint16_t> y(std::size_t(s.batch) * image_pixels * s.output_pitch, 0xffff);
  std::vector<float> workspace(spec.workspace_bytes / 4);
  std::vector<std::uint32_t> counters(spec.counters);
  const void* x = s.image ? static_cast<const void*>(d.x.data()) : d.x_bits.data();
  const void* weights = d.packed.data();
  const float* bias = d.bias.data();
  const void* residual = d.residual_bits.data();
  void* y_pointer = y.data();
  void* workspace_pointer = workspace.data();
  void* counter_pointer = counters.data();
  const void* prefetch = d.packed.data();
  std::uint32_t prefetch_bytes = static_cast<std::uint32_t>(d.packed.size() * 2);
  const void* more = s.shortcut.channels > 0 ? d.shortcut_bits.data() : x;
  void* parameters[] = {&x, &weights, &bias, &residual, &y_pointer, &workspace_pointer, &counter_pointer, &prefetch, &prefetch_bytes, &more};
  std::vector<fake_cuda::Region> regions = {{y.data(), y.size() * 2}, {d.residual_bits.data(), d.residual_bits.size() * 2}};
  if (s.image) regions.push_back({d.x.data(), d.x.size() * 4});
  else regions.push_back({d.x_bits.data(), d.x_bits.size() * 2});
  if (s.shortcut.channels > 0) regions.push_back({d.shortcut_bits.data(), d.shortcut_bits.size() * 2});
  for (int round = 0; round < 2; ++round) kernel.run(parameters, regions, seed + static_cast<unsigned>(round));
  std::size_t wrong = 0;
  for (const std::uint32_t counter : counters) wrong += counter != 0;
  const double ulp = s.element == ElementType::F16 ? 0x1p-11 : 0x1p-8;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const int m = static_cast<int>(i % s.output_pitch);
    const int pixel = static_cast<int>(i / s.output_pitch);
    const int within = pixel % image_pixels;
    if (m >= s.out_channels || within >= s.out_height * s.out_width) {
      wrong += y[i] != 0xffff;
      continue;
    }
    Sum sum = convolve(s, d.x, d.w, pixel / image_pixels, within / s.out_width, within % s.out_width, m);
    if (s.bias) sum.add(d.bias[m]);
    if (s.shortcut.channels > 0) {
      const Sum more = take_shortcut(s.shortcut, d.shortcut, d.shortcut_w, pixel, m);
      sum.value += more.value, sum.magnitude += more.magnitude;
    }
    const double r = s.epilogue.residual == scalar::ResidualMode::None ? 0.0 : double(d.residual[std::size_t(pixel) * s.residual_pitch + m]);
    double expected = 0;
    switch (s.epilogue.residual) {
      case scalar::ResidualMode::None: expected = activate(s.epilogue, sum.value); break;
      case scalar::ResidualMode::BeforeActivation: expected = activate(s.epilogue, sum.value + r); break;
      case scalar::ResidualMode::AfterActivation: expected = activate(s.epilogue, sum.value) + r; break;
    }
    const double bound = ulp * 1.01 * std::fabs(expected) + (s.scaled ? ulp * 1.01 : 0x1p-21) * (sum.magnitude + std::fabs(r)) + 1e-6;
    wrong += !(std::fabs(from_bits(y[i], s.element) - expected) <= bound);
  }
  return wrong;
}

ConvTarget target_of(std::uint32_t arch) {
  ConvTarget target;
  target.arch = arch;
  target.multiprocessors = 4;
  target.shared_bytes = arch >= 90 ? 227 * 1024 : 163 * 1024;
  return target;
}

ConvShape shape_of(int h, int w, int c, int m, int kernel, int stride, int pad) {
  ConvShape s;
  s.height = h, s.width = w, s.channels = c, s.out_channels = m;
  s.kernel[0] = s.kernel[1] = kernel, s.stride[0] = s.stride[1] = stride, s.pad[0] = s.pad[1] = pad;
  s.out_height = (h + 2 * pad - kernel) / stride + 1, s.out_width = (w + 2 * pad - kernel) / stride + 1;
  s.input_pitch = (c + 7) / 8 * 8, s.output_pitch = (m + 7) / 8 * 8 + 8, s.residual_pitch = (m + 7) / 8 * 8;
  s.epilogue.activation = scalar::PointwiseOp::Relu;
  return s;
}

ConvTile tile_of(int th, int tw, int n, int chunk, int wm, int wn, int wk, int split = 1, bool cluster = false, int buffers = 2) {
  ConvTile t;
  t.tile_height = th, t.tile_width = tw, t.block_n = n, t.chunk = chunk, t.buffers = buffers;
  t.warps_m = wm, t.warps_n = wn, t.warps_k = wk, t.split = split, t.cluster = cluster;
  return t;
}

TEST_CASE("3x3 convolution, tails in every extent, residual before the activation") {
  ConvShape s = shape_of(7, 6, 40, 20, 3, 1, 1);
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  const auto target = target_of(90);
  CHECK(run_conv(s, make_conv(s, tile_of(3, 4, 32, 32, 1, 2, 2), target), 1) == 0);
}

TEST_CASE("strided convolution of two images, bfloat16, residual after the activation") {
  ConvShape s = shape_of(9, 8, 24, 16, 3, 2, 1);
  s.batch = 2;
  s.element = ElementType::BF16;
  s.epilogue.activation = scalar::PointwiseOp::Silu;
  s.epilogue.residual = scalar::ResidualMode::AfterActivation;
  CHECK(run_conv(s, make_conv(s, tile_of(2, 3, 16, 16, 1, 1, 1, 1, false, 2), target_of(87)), 2) == 0);
}

TEST_CASE("dilated convolution without bias") {
  ConvShape s = shape_of(8, 8, 16, 33, 3, 1, 2);
  s.dilation[0] = s.dilation[1] = 2;
  s.out_height = s.out_width = 8;
  s.bias = false;
  CHECK(run_conv(s, make_conv(s, tile_of(4, 4, 16, 16, 1, 1, 1), target_of(90)), 3) == 0);
}

TEST_CASE("matrix product split over blocks through a workspace") {
  const ConvShape s = shape_of(1, 37, 136, 24, 1, 1, 0);
  CHECK(run_conv(s, make_conv(s, tile_of(1, 16, 32, 32, 1, 2, 2, 2), target_of(87)), 4) == 0);
}

TEST_CASE("input channels with a factor each, whole and split, both types") {
  ConvShape s = shape_of(1, 37, 72, 24, 1, 1, 0);
  s.scaled = true;
  s.epilogue.activation = scalar::PointwiseOp::Silu;
  CHECK(run_conv(s, make_conv(s, tile_of(1, 16, 32, 32, 1, 2, 2), target_of(90)), 4) == 0);
  s.batch = 2, s.height = 5, s.width = 3, s.out_height = 5, s.out_width = 3;
  s.element = ElementType::BF16;
  s.epilogue.activation = scalar::PointwiseOp::Gelu;
  CHECK(run_conv(s, make_conv(s, tile_of(4, 4, 16, 16, 1, 1, 1, 2), target_of(87)), 5) == 0);
}

TEST_CASE("images whose results lie apart") {
  ConvShape s = shape_of(5, 4, 24, 16, 3, 1, 1);
  s.batch = 3, s.output_image_pixels = 23;
  CHECK(run_conv(s, make_conv(s, tile_of(2, 4, 16, 16, 1, 1, 1), target_of(87)), 1) == 0);
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;  // which has no such gaps
  CHECK(!conv_shared_bytes(s, tile_of(2, 4, 16, 16, 1, 1, 1), target_of(87)));
}

TEST_CASE("products by groups of warps: tails in every extent, a ring in turns, splits") {
  ConvShape s = shape_of(1, 85, 280, 72, 1, 1, 0);
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  ConvTile tile = tile_of(1, 64, 48, 64, 4, 1, 1);
  tile.groups_of_warps = true, tile.weight_stages = 4;
  CHECK(!conv_shared_bytes(s, tile, target_of(87)));
  CHECK(!conv_shared_bytes(s, tile, target_of(110)));
  const KernelSpec good = make_conv(s, tile, target_of(90));
  CHECK(run_conv(s, good, 1) == 0);
  tile.split = 2, tile.weight_stages = 3;
  CHECK(run_conv(s, make_conv(s, tile, target_of(90)), 2) == 0);
  tile.cluster = true, tile.block_n = 64, tile.warps_n = 2;
  s.element = ElementType::BF16;
  CHECK(run_conv(s, make_conv(s, tile, target_of(90)), 3) == 0);
  tile.split = 1, tile.cluster = false, tile.tile_width = 128, tile.warps_m = 8, tile.warps_n = 1, tile.block_n = 80;
  CHECK(run_conv(s, make_conv(s, tile, target_of(90)), 4) == 0);
  s.element = ElementType::F16;
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"later < end) rows", "later + 1 < end) rows"}, {"step * 32", "step * 32 % 96"}}) {
    KernelSpec bad = good;
    REQUIRE(bad.job.source.find(from) != std::string::npos);
    bad.job.source.replace(bad.job.source.find(from), from.size(), to);
    CHECK(run_conv(s, bad, 4) > 0);
  }
}

TEST_CASE("weights in shared memory: taps, tails, chunks in a ring, a split") {
  ConvTile tile = tile_of(3, 4, 32, 16, 1, 2, 1, 1, false, 2);
  tile.shared_weights = true;
  const ConvShape s = shape_of(7, 6, 40, 20, 3, 1, 1);
  CHECK(run_conv(s, make_conv(s, tile, target_of(90)), 1) == 0);
  tile = tile_of(1, 16, 32, 32, 1, 1, 2, 2);
  tile.shared_weights = true;
  const ConvShape product = shape_of(1, 37, 136, 24, 1, 1, 0);
  CHECK(run_conv(product, make_conv(product, tile, target_of(87)), 4) == 0);
}

TEST_CASE("weights in a ring of stages: taps, tails, a split, several warps along K") {
  ConvTile tile = tile_of(3, 4, 32, 16, 1, 2, 1, 1, false, 2);
  tile.shared_weights = true;
  const ConvShape s = shape_of(7, 6, 40, 20, 3, 1, 1);
  for (const std::int32_t stages : {2, 3, 4, 9}) {  // of 9; three a chunk
    tile.weight_stages = stages;
    CHECK(run_conv(s, make_conv(s, tile, target_of(87)), 1) == 0);
  }
  tile.weight_stages = 5;
  CHECK(!conv_shared_bytes(s, tile, target_of(87)));  // four ahead, but input only three
  const ConvShape product = shape_of(1, 37, 136, 24, 1, 1, 0);
  tile = tile_of(1, 16, 32, 64, 1, 1, 2, 2, false, 3);
  tile.shared_weights = true, tile.weight_stages = 2;
  CHECK(run_conv(product, make_conv(product, tile, target_of(90)), 4) == 0);
  tile = tile_of(1, 16, 32, 32, 1, 2, 1, 1, false, 3), tile.shared_weights = true, tile.weight_stages = 3;
  KernelSpec bad = make_conv(product, tile, target_of(90));
  CHECK(run_conv(product, bad, 4) == 0);
  const std::string later = "later < end";
  bad.job.source.replace(bad.job.source.find(later), later.size(), "later + 1 < end");
  CHECK(run_conv(product, bad, 4) > 0);
}

/// A shortcut of `channels` of every `stride`-th pixel of images with the given extents.
void add_shortcut(ConvShape& s, int channels, int stride, int out_height, int out_width) {
  s.shortcut.channels = channels, s.shortcut.pitch = channels + 8;
  s.shortcut.stride[0] = s.shortcut.stride[1] = stride;
  s.shortcut.out_height = out_height, s.shortcut.out_width = out_width;
  s.shortcut.height = (out_height - 1) * stride + 1, s.shortcut.width = out_width * stride;
}

TEST_CASE("a shortcut's channels are further taps: fewer and more than the convolution's, strides, splits, both types") {
  ConvShape s = shape_of(7, 6, 40, 20, 3, 1, 1);
  for (const int channels : {24, 40, 104}) {
    add_shortcut(s, channels, 2, 7, 6);
    CHECK(run_conv(s, make_conv(s, tile_of(3, 4, 32, 32, 1, 2, 2), target_of(90)), 1) == 0);
    CHECK(run_conv(s, make_conv(s, tile_of(3, 4, 16, 16, 1, 1, 1, 2, true, 3), target_of(90)), 2) == 0);
  }
  ConvTile tile = tile_of(3, 4, 32, 16, 1, 2, 1);
  tile.shared_weights = true;
  CHECK(run_conv(s, make_conv(s, tile, target_of(87)), 3) == 0);
  tile.weight_stages = 3;
  CHECK(run_conv(s, make_conv(s, tile, target_of(87)), 4) == 0);
  s = shape_of(7, 6, 64, 32, 3, 1, 1);  // the convolution's chunks and tiles are whole, the shortcut's last tap is not
  add_shortcut(s, 32, 2, 7, 6);
  tile = tile_of(3, 4, 32, 32, 1, 2, 1), tile.shared_weights = true, tile.weight_stages = 3;
  CHECK(run_conv(s, make_conv(s, tile, target_of(87)), 8) == 0);
  // Two images whose pixels are one row for the product, and a window with a stride of its own.
  ConvShape product = shape_of(1, 2 * 5 * 3, 48, 24, 1, 1, 0);
  product.element = ElementType::BF16;
  add_shortcut(product, 80, 3, 5, 3);
  CHECK(run_conv(product, make_conv(product, tile_of(1, 16, 32, 32, 1, 2, 1, 2), target_of(87)), 5) == 0);
  tile = tile_of(1, 16, 32, 16, 1, 1, 1, 1, false, 3), tile.shared_weights = true, tile.weight_stages = 4;
  CHECK(run_conv(product, make_conv(product, tile, target_of(90)), 6) == 0);
  s = shape_of(9, 8, 24, 16, 3, 2, 1);
  s.batch = 2;
  add_shortcut(s, 16, 1, s.out_height, s.out_width);
  KernelSpec bad = make_conv(s, tile_of(2, 3, 16, 16, 1, 1, 1), target_of(90));
  CHECK(run_conv(s, bad, 7) == 0);
  const std::string there = "has_tap(chunk, tap)";
  bad.job.source.replace(bad.job.source.find(there), there.size(), "tap < kTaps");
  CHECK(run_conv(s, bad, 7) > 0);
}

TEST_CASE("warp tiles so large that units are found when the sums are there") {
  ConvShape s = shape_of(1, 53, 80, 72, 1, 1, 0);
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  ConvTile tile = tile_of(1, 48, 64, 32, 1, 1, 1);
  CHECK(run_conv(s, make_conv(s, tile, target_of(87)), 1) == 0);
  tile.shared_weights = true, tile.weight_stages = 2;
  CHECK(run_conv(s, make_conv(s, tile, target_of(87)), 2) == 0);
  tile.tile_width = 16 * 5, tile.warps_n = 2;  // ten units a thread, in three turns
  CHECK(run_conv(s, make_conv(s, tile, target_of(87)), 3) == 0);
}

TEST_CASE("as many units for each thread, but no multiple of those that are finished at a time") {
  ConvShape s = shape_of(1, 240, 48, 64, 1, 1, 0);
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  CHECK(run_conv(s, make_conv(s, tile_of(1, 80, 64, 16, 1, 2, 1), target_of(87)), 1) == 0);   // ten
  CHECK(run_conv(s, make_conv(s, tile_of(1, 80, 64, 16, 1, 4, 1), target_of(87)), 2) == 0);   // five
  CHECK(run_conv(s, make_conv(s, tile_of(1, 48, 64, 16, 1, 2, 1), target_of(90)), 3) == 0);   // six
}

TEST_CASE("threads that are left over when the others have equally many units") {
  ConvShape s = shape_of(1, 37, 48, 104, 1, 1, 0);
  s.epilogue.residual = scalar::ResidualMode::AfterActivation;
  CHECK(run_conv(s, make_conv(s, tile_of(1, 16, 48, 16, 1, 1, 1), target_of(87)), 1) == 0);  // two of 32
  CHECK(run_conv(s, make_conv(s, tile_of(1, 32, 144, 16, 1, 3, 1, 2), target_of(87)), 2) == 0);  // six of 96
  CHECK(run_conv(s, make_conv(s, tile_of(1, 16, 96, 16, 1, 2, 1, 2, true), target_of(90)), 3) == 0);
  CHECK_FALSE(conv_shared_bytes(s, tile_of(1, 16, 144, 16, 1, 1, 1), target_of(87)));  // 14 of 32
}

TEST_CASE("convolution split over a cluster") {
  ConvShape s = shape_of(5, 5, 64, 32, 3, 1, 1);
  s.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  CHECK(run_conv(s, make_conv(s, tile_of(5, 5, 32, 16, 2, 1, 1, 4, true), target_of(90)), 5) == 0);
}

TEST_CASE("rows and weights of a product copied in bulk, for a block alone and for clusters that share rows, whole and split") {
  ConvShape s = shape_of(1, 53, 96, 64, 1, 1, 0);
  s.epilogue.residual = scalar::ResidualMode::AfterActivation;
  ConvTile tile = tile_of(1, 16, 16, 32, 1, 1, 1, 1, false, 8);
  tile.bulk = true, tile.share_rows = 4;
  REQUIRE(!conv_shared_bytes(s, tile, target_of(87)));
  const KernelSpec rows = make_conv(s, tile, target_of(90));
  CHECK(rows.cluster == 4);
  CHECK(run_conv(s, rows, 4) == 0);
  tile.shared_weights = true;
  const KernelSpec both = make_conv(s, tile, target_of(90));
  CHECK(run_conv(s, both, 5) == 0);
  tile.share_rows = 3;  // of 4 tiles
  CHECK(!conv_shared_bytes(s, tile, target_of(90)));
  tile.share_rows = 1;
  CHECK(make_conv(s, tile, target_of(90)).cluster == 1);
  CHECK(run_conv(s, make_conv(s, tile, target_of(90)), 9) == 0);
  tile.share_rows = 2, tile.split = 3, tile.cluster = true, tile.tile_width = 48;
  CHECK(run_conv(s, make_conv(s, tile, target_of(90)), 7) == 0);
  tile.shared_weights = false;
  CHECK(make_conv(s, tile, target_of(90)).cluster == 6);
  CHECK(run_conv(s, make_conv(s, tile, target_of(90)), 8) == 0);
  for (KernelSpec bad : {rows, both}) {
    const std::string wait = "copies.wait(buffer);";
    REQUIRE(bad.job.source.find(wait) != std::string::npos);
    bad.job.source.replace(bad.job.source.find(wait), wait.size(), "");
    CHECK(run_conv(s, bad, 4) > 0);
  }
}

TEST_CASE("more chunks than buffers, weights in several rounds") {
  const ConvShape s = shape_of(6, 6, 80, 16, 3, 1, 1);
  CHECK(run_conv(s, make_conv(s, tile_of(6, 6, 16, 16, 1, 1, 1, 1, false, 2), target_of(90)), 6) == 0);
  CHECK(run_conv(s, make_conv(s, tile_of(2, 6, 16, 16, 1, 1, 1, 1, false, 3), target_of(90)), 7) == 0);
}

TEST_CASE("first layer from float planes") {
  ConvShape s = shape_of(17, 19, 3, 20, 7, 2, 3);
  s.image = true;
  CHECK(run_conv(s, make_conv(s, tile_of(3, 5, 32, stem_chunk(s), 1, 2, 2), target_of(90)), 8) == 0);
  s = shape_of(9, 7, 3, 8, 3, 1, 1);
  s.image = true;
  CHECK(run_conv(s, make_conv(s, tile_of(4, 4, 16, stem_chunk(s), 1, 1, 1), target_of(87)), 9) == 0);
}

TEST_CASE("planted faults are noticed") {
  const ConvShape s = shape_of(7, 6, 40, 20, 3, 1, 1);
  const KernelSpec good = make_conv(s, tile_of(3, 4, 32, 16, 1, 2, 1), target_of(90));
  REQUIRE(run_conv(s, good, 1) == 0);
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
    if (file == "kernels/conv.cu") {
      REQUIRE(bad.job.source.find(from) != std::string::npos);
      bad.job.source.replace(bad.job.source.find(from), from.size(), to);
    }
    return run_conv(s, bad, 1);
  };
  CHECK(wrong_with("kernels/conv.cu", "chunk < end; ++chunk", "chunk < end - 1; ++chunk") > 0);              // a dropped K tail
  CHECK(wrong_with("kernels/conv_patch.h", "w >= 0 && w < kWidth", "w >= 0 && w < kWidth - 1") > 0);         // an edge off by one
  CHECK(wrong_with("kernels/conv_finish.h", "x[c] += bias_[c];", "") > 0);                                   // a missing bias
  CHECK(wrong_with("kernels/conv.cu", "copy_async_wait<kAhead - 1>();\n      __syncthreads();", "copy_async_wait<kAhead - 1>();") > 0);  // a race
  CHECK(wrong_with("kernels/conv.cu", "copy_async_wait<kAhead - 1>();", "copy_async_wait<kAhead>();") > 0);  // a wait too short
}

TEST_CASE("depthwise convolution and pooling") {
  for (const WindowKind kind : {WindowKind::Depthwise, WindowKind::Maximum, WindowKind::Average}) {
    WindowShape s;
    s.kind = kind;
    s.batch = 2, s.height = 7, s.width = 6, s.channels = 20, s.input_pitch = 24, s.output_pitch = 32;
    s.stride[0] = s.stride[1] = kind == WindowKind::Average ? 1 : 2;
    s.out_height = (7 - 1) / s.stride[0] + 1, s.out_width = (6 - 1) / s.stride[1] + 1;
    s.epilogue.activation = scalar::PointwiseOp::Clip;
    s.epilogue.alpha = -2, s.epilogue.beta = 2;
    std::vector<float> x = random_halves(std::size_t(2) * 7 * 6 * 24, 1), w = random_halves(20 * 9, 2), bias = random_halves(24, 3);
    std::vector<std::uint16_t> x_bits = to_bits(x, s.element), packed = pack_depthwise_weights(s, w.data());
    std::vector<std::uint16_t> y(std::size_t(2) * s.out_height * s.out_width * 32, 0xffff);
    const EmulatedKernel kernel(make_window(s, 2, 32, target_of(90)));
    const void *xp = x_bits.data(), *wp = packed.data(), *bp = bias.data();
    void* yp = y.data();
    void* parameters[] = {&xp, &wp, &bp, &yp};
    kernel.run(parameters, {{x_bits.data(), x_bits.size() * 2}, {y.data(), y.size() * 2}}, 1);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const int c = static_cast<int>(i % 32), ow = static_cast<int>(i / 32) % s.out_width;
      const int oh = static_cast<int>(i / 32) / s.out_width % s.out_height, n = static_cast<int>(i / 32) / (s.out_width * s.out_height);
      if (c >= 20) {
        wrong += y[i] != 0xffff;
        continue;
      }
      double sum = kind == WindowKind::Maximum ? -1e9 : kind == WindowKind::Depthwise ? bias[c] : 0;
      int count = 0;
      for (int t = 0; t < 9; ++t) {
        const int h = oh * s.stride[0] - 1 + t / 3, v = ow * s.stride[1] - 1 + t % 3;
        if (h < 0 || h >= 7 || v < 0 || v >= 6) continue;
        const double value = x[((std::size_t(n) * 7 + h) * 6 + v) * 24 + c];
        ++count;
        sum = kind == WindowKind::Maximum ? std::max(sum, value) : sum + value * (kind == WindowKind::Depthwise ? w[c * 9 + t] : 1);
      }
      if (kind == WindowKind::Average) sum /= count;
      const double expected = activate(s.epilogue, sum);
      wrong += !(std::fabs(from_bits(y[i], s.element) - expected) <= 0x1p-11 * 1.01 * std::fabs(expected) + 1e-5);
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("few rows times a matrix, with an average before it, alone with a residual, in rounds, and in a cluster") {
  for (const GemvTile& tile : {GemvTile{64, 2, 1}, GemvTile{64, 2, 1, 3}, GemvTile{32, 2, 1, 2, true}, GemvTile{64, 2, 4}}) {
    const int cluster = tile.cluster;
    GemvShape s;
    s.rows = 2, s.depth = 96, s.outputs = 21, s.pixels = 5, s.input_pitch = 104, s.output_pitch = 24, s.float_output = true;
    std::vector<float> x = random_halves(std::size_t(2) * 5 * 104, 1), w = random_halves(21 * 96, 2), bias = random_halves(32, 3);
    std::vector<std::uint16_t> x_bits = to_bits(x, s.element), w_bits = to_bits(w, s.element);
    std::vector<float> y(48, -77.0f);
    if (cluster == 1) {
      s.epilogue = {scalar::PointwiseOp::Relu, scalar::ResidualMode::BeforeActivation, {}, 0, 0};
      s.residual_pitch = 40;
    }
    const EmulatedKernel kernel(make_gemv(s, tile, target_of(90)));
    const void *xp = x_bits.data(), *wp = w_bits.data(), *bp = bias.data(), *rp = x_bits.data();
    void* yp = y.data();
    void* parameters[] = {&xp, &wp, &bp, &yp, &rp};
    kernel.run(parameters, {{x_bits.data(), x_bits.size() * 2}, {y.data(), y.size() * 4}}, 1);
    for (int m = 0; m < 2; ++m) {
      for (int n = 0; n < 24; ++n) {
        double expected = -77;
        if (n < 21) {
          expected = bias[n];
          for (int k = 0; k < 96; ++k) {
            double mean = 0;
            for (int p = 0; p < 5; ++p) mean += x[(std::size_t(m) * 5 + p) * 104 + k] / 5.0;
            expected += mean * w[n * 96 + k];
          }
          if (cluster == 1) expected = std::max(0.0, expected + x[m * 40 + n]);
        }
        CHECK(y[m * 24 + n] == doctest::Approx(expected).epsilon(1e-4));
      }
    }
  }
}

}  // namespace
