// SPDX-License-Identifier: Apache-2.0
// Convolutions of f32 in the host emulation, exact (kernels/conv_exact.cu) and as TF32 (kernels/conv.cu), against sums in
// double: every extent once not a multiple of the tile, splits, rings of chunks, planes in and out, groups, odd channels.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "../fake_cuda/emulate.h"
#include "codegen/conv_kernel.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;

std::vector<float> random_floats(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> out(count);
  for (float& x : out) x = static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f;
  return out;
}

/// In floats; run() turns input extents into the halves that the kernels count.
struct Layer {
  int batch = 1, height, width, channels, outputs, kernel = 1, stride = 1, pad = 0, groups = 1;
  int input_pitch, output_pitch, residual_pitch = 0;
  int at_once = 4;  // neighbours that may be moved at once
  bool planes_in = false, planes_out = false;
  scalar::ResidualMode residual = scalar::ResidualMode::None;
  ElementType element = ElementType::F32;

  int out(int extent) const { return (extent + 2 * pad - kernel) / stride + 1; }
};

ConvShape shape_of(const Layer& l) {
  ConvShape s;
  s.batch = l.batch, s.height = l.height, s.width = l.width, s.out_channels = l.outputs, s.groups = l.groups;
  s.kernel[0] = s.kernel[1] = l.kernel, s.stride[0] = s.stride[1] = l.stride, s.pad[0] = s.pad[1] = l.pad;
  s.out_height = l.out(l.height), s.out_width = l.out(l.width);
  s.channels = l.planes_in ? l.channels : 2 * l.channels;
  s.input_pitch = 2 * l.input_pitch, s.input_at_once = 2 * l.at_once;
  s.output_pitch = l.output_pitch, s.output_at_once = l.planes_out ? 4 : l.at_once;
  s.residual_pitch = l.residual_pitch, s.residual_at_once = l.at_once;
  s.image = l.planes_in, s.plane_output = l.planes_out;
  s.element = l.element;
  s.epilogue.activation = scalar::PointwiseOp::Relu, s.epilogue.residual = l.residual;
  return s;
}

ConvTile tile_of(int height, int width, int n, int chunk, int wm, int wn, int wk, int split = 1, bool cluster = false, int buffers = 2) {
  ConvTile t;
  t.tile_height = height, t.tile_width = width, t.block_n = n, t.chunk = chunk, t.buffers = buffers;
  t.warps_m = wm, t.warps_n = wn, t.warps_k = wk, t.split = split, t.cluster = cluster;
  return t;
}

/// Elements outside the bound, and elements written that are none of y's.
std::size_t run(const Layer& l, const ConvTile& tile, std::uint32_t arch, const char* fault = nullptr) {
  ConvTarget target;
  target.arch = arch, target.multiprocessors = 4, target.shared_bytes = arch >= 90 ? 227 * 1024 : 163 * 1024;
  const ConvShape shape = shape_of(l);
  KernelSpec spec = make_conv(shape, tile, target);
  CAPTURE(spec.job.name);
  if (fault != nullptr) {
    const std::size_t at = spec.job.source.find(fault);
    REQUIRE(at != std::string::npos);
    spec.job.source.erase(at, std::string(fault).size());
  }
  const int height = l.out(l.height), width = l.out(l.width), own = l.channels / l.groups;
  std::vector<float> x = random_floats(std::size_t(l.batch) * l.height * l.width * (l.planes_in ? l.channels : l.input_pitch), 1);
  const std::vector<float> w = random_floats(std::size_t(l.outputs) * own * l.kernel * l.kernel, 2);
  std::vector<float> bias = random_floats((l.outputs + 15) / 16 * 16, 3);
  std::vector<float> residual = random_floats(std::size_t(l.batch) * height * width * std::max(l.residual_pitch, 1), 4);
  std::vector<float> y(std::size_t(l.batch) * height * width * (l.planes_out ? l.outputs : l.output_pitch), -7.0f);
  std::vector<std::uint16_t> packed = pack_conv_weights(shape, w.data());
  std::vector<float> workspace(spec.workspace_bytes / 4);
  std::vector<std::uint32_t> counters(spec.counters);
  void* pointers[] = {x.data(), packed.data(), bias.data(), residual.data(), y.data(), workspace.data(), counters.data(), packed.data()};
  std::uint32_t prefetch_bytes = static_cast<std::uint32_t>(packed.size() * 2);
  void* parameters[] = {&pointers[0], &pointers[1], &pointers[2], &pointers[3], &pointers[4], &pointers[5], &pointers[6], &pointers[7], &prefetch_bytes};
  const fake_cuda::EmulatedKernel kernel(spec);
  const std::vector<fake_cuda::Region> regions = {{y.data(), y.size() * 4}, {x.data(), x.size() * 4}, {residual.data(), residual.size() * 4}};
  for (unsigned round = 0; round < 2; ++round) kernel.run(parameters, regions, round);

  std::size_t wrong = 0;
  const double rounding = l.element == ElementType::TF32 ? 0x1p-10 : 0x1p-20;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t plane = std::size_t(height) * width;
    const std::size_t pixel = l.planes_out ? i / (plane * l.outputs) * plane + i % plane : i / l.output_pitch;
    const int m = static_cast<int>(l.planes_out ? i / plane % l.outputs : i % l.output_pitch);
    if (m >= l.outputs) {
      wrong += y[i] != -7.0f;
      continue;
    }
    const int n = static_cast<int>(pixel / plane), row = static_cast<int>(pixel % plane) / width, column = static_cast<int>(pixel) % width;
    double sum = bias[m], magnitude = std::fabs(sum);
    for (int k = 0; k < own * l.kernel * l.kernel; ++k) {
      const int c = m / (l.outputs / l.groups) * own + k / (l.kernel * l.kernel);
      const int h = row * l.stride - l.pad + k / l.kernel % l.kernel, v = column * l.stride - l.pad + k % l.kernel;
      if (h < 0 || h >= l.height || v < 0 || v >= l.width) continue;
      const std::size_t at = l.planes_in ? ((std::size_t(n) * l.channels + c) * l.height + h) * l.width + v : ((std::size_t(n) * l.height + h) * l.width + v) * l.input_pitch + c;
      const double term = double(x[at]) * w[std::size_t(m) * own * l.kernel * l.kernel + k];
      sum += term, magnitude += std::fabs(term);
    }
    const double other = l.residual_pitch > 0 ? residual[pixel * l.residual_pitch + m] : 0;
    if (l.residual == scalar::ResidualMode::BeforeActivation) sum += other;
    sum = std::max(sum, 0.0);
    if (l.residual == scalar::ResidualMode::AfterActivation) sum += other;
    wrong += !(std::fabs(y[i] - sum) <= rounding * (magnitude + std::fabs(other)) + 1e-6);
  }
  return wrong;
}

TEST_CASE("exact convolutions: tails in every extent, strides, residuals, several tiles of threads") {
  Layer l = {2, 7, 6, 20, 20, 3, 1, 1, 1, 20, 24, 20};
  l.residual = scalar::ResidualMode::BeforeActivation;
  CHECK(run(l, tile_of(3, 4, 32, 16, 1, 2, 1), 90) == 0);  // a ring of chunks
  CHECK(run(l, tile_of(3, 4, 32, 16, 1, 2, 1), 90, "copy_async_wait<kAhead - 1>();") > 0);
  l.stride = 2, l.residual = scalar::ResidualMode::AfterActivation;
  CHECK(run(l, tile_of(2, 3, 16, 32, 1, 1, 2), 87) == 0);
  const Layer product = {1, 1, 37, 68, 40, 1, 1, 0, 1, 72, 40};
  CHECK(run(product, tile_of(1, 37, 32, 32, 1, 1, 2), 87) == 0);
}

TEST_CASE("exact convolutions divided among blocks, through a workspace and in a cluster") {
  const Layer product = {1, 1, 37, 68, 24, 1, 1, 0, 1, 68, 24};
  CHECK(run(product, tile_of(1, 16, 32, 32, 1, 1, 2, 2), 87) == 0);
  const Layer l = {1, 5, 5, 32, 32, 3, 1, 1, 1, 32, 32};
  CHECK(run(l, tile_of(5, 5, 32, 16, 1, 1, 1, 4, true), 90) == 0);
}

TEST_CASE("convolutions of f32 from planes to planes, with odd channels and with groups, exact and as TF32") {
  for (const ElementType element : {ElementType::F32, ElementType::TF32}) {
    Layer first = {2, 17, 19, 3, 20, 7, 2, 3, 1, 3, 24};
    first.planes_in = true, first.element = element;
    CHECK(run(first, tile_of(3, 5, 32, stem_chunk(shape_of(first)), 1, 1, 2), 90) == 0);
    Layer odd = {1, 5, 5, 29, 10, 3, 1, 1, 1, 29, 11, 13};
    odd.at_once = 1, odd.residual = scalar::ResidualMode::BeforeActivation, odd.element = element;
    CHECK(run(odd, tile_of(3, 5, 16, 16, 1, 1, 1), 87) == 0);
    Layer last = {2, 4, 4, 24, 9, 1, 1, 0, 1, 24, 0};
    last.planes_out = true, last.element = element;
    CHECK(run(last, tile_of(3, 4, 16, 16, 1, 1, 1), 90) == 0);
    Layer grouped = {1, 6, 5, 32, 64, 3, 1, 1, 2, 32, 64};
    grouped.element = element;
    CHECK(run(grouped, tile_of(4, 4, 32, 32, 1, 1, 1), 87) == 0);
  }
}

}  // namespace
