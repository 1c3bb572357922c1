// SPDX-License-Identifier: Apache-2.0
// Squeeze-and-excitation's factors in one kernel, in the host emulation, against the definition in double.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "../fake_cuda/emulate.h"
#include "codegen/squeeze_kernel.h"
#include "edgert/scalar/convert.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;
using fake_cuda::EmulatedKernel;

ConvTarget target_of(std::uint32_t arch) {
  ConvTarget target;
  target.arch = arch;
  target.shared_bytes = arch >= 90 ? 227 * 1024 : 163 * 1024;
  return target;
}

std::size_t size(int a, int b = 1, int c = 1) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b) * static_cast<std::size_t>(c); }

/// Numbers that f16 holds.
std::vector<float> random_values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> out(count);
  for (float& x : out) x = scalar::to_float(scalar::to_half(static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f));
  return out;
}
std::vector<std::uint16_t> to_halves(const std::vector<float>& from) {
  std::vector<std::uint16_t> out;
  for (const float x : from) out.push_back(scalar::to_half(x).bits);
  return out;
}

/// Factors outside their bounds, and elements written that are none.
std::size_t run(const SqueezeShape& s, const KernelSpec& spec, unsigned seed) {
  std::vector<float> x = random_values(size(s.images, s.pixels, s.input_pitch), 1);
  const std::vector<float> first = random_values(size(s.squeezed, s.depth), 2), first_bias = random_values(size(s.squeezed), 3);
  const std::vector<float> second = random_values(size(s.outputs, s.squeezed), 4), second_bias = random_values(size(s.outputs), 5);
  std::vector<std::uint16_t> x_bits = to_halves(x), y(size(s.images, s.output_pitch), 0xffff);
  const std::vector<std::uint16_t> first_bits = to_halves(first), second_bits = to_halves(second);
  const EmulatedKernel kernel(spec);
  const void *xp = s.float_input ? static_cast<const void*>(x.data()) : x_bits.data(), *wp = first_bits.data(), *bp = first_bias.data();
  const void *vp = second_bits.data(), *cp = second_bias.data();
  void* yp = y.data();
  void* parameters[] = {&xp, &wp, &bp, &vp, &cp, &yp};
  kernel.run(parameters, {{x.data(), x.size() * 4}, {x_bits.data(), x_bits.size() * 2}, {y.data(), y.size() * 2}}, seed);
  std::size_t wrong = 0;
  for (int n = 0; n < s.images; ++n) {
    std::vector<double> mean(size(s.depth)), squeezed(size(s.squeezed));
    for (std::size_t c = 0; c < mean.size(); ++c) {
      for (int p = 0; p < s.pixels; ++p) mean[c] += double{x[size(n * s.pixels + p, s.input_pitch) + c]} / s.divisor;
    }
    for (std::size_t q = 0; q < squeezed.size(); ++q) {
      squeezed[q] = first_bias[q];
      for (std::size_t c = 0; c < mean.size(); ++c) squeezed[q] += mean[c] * first[q * mean.size() + c];
      squeezed[q] = std::fmax(squeezed[q], 0.0);
    }
    for (std::size_t o = 0; o < size(s.outputs); ++o) {
      double sum = second_bias[o];
      for (std::size_t q = 0; q < squeezed.size(); ++q) sum += squeezed[q] * second[o * squeezed.size() + q];
      const double factor = 1 / (1 + std::exp(-sum)), actual = scalar::to_float(scalar::Half{y[size(n, s.output_pitch) + o]});
      wrong += !(std::fabs(actual - factor) <= 0x1p-11 * factor + 4e-6);
    }
  }
  for (std::size_t i = 0; i < y.size(); ++i) wrong += i % size(s.output_pitch) >= size(s.outputs) && y[i] != 0xffff;
  return wrong;
}

SqueezeShape shape_of(int images, int depth, int squeezed, int outputs, int pixels) {
  SqueezeShape s;
  s.images = images, s.depth = depth, s.squeezed = squeezed, s.outputs = outputs, s.pixels = pixels, s.divisor = pixels * 2;
  s.input_pitch = depth + 8, s.output_pitch = outputs + 3;
  s.first.activation = scalar::PointwiseOp::Relu, s.epilogue.activation = scalar::PointwiseOp::Sigmoid;
  return s;
}

TEST_CASE("factors of a cluster and of a single block, uneven shares") {
  SqueezeShape s = shape_of(2, 88, 24, 88, 5);
  s.float_input = true;
  CHECK(run(s, make_squeeze(s, 8, target_of(90)), 1) == 0);
  s = shape_of(1, 360, 40, 77, 9);
  CHECK(run(s, make_squeeze(s, 4, target_of(90)), 2) == 0);
  s = shape_of(3, 40, 8, 40, 300);
  CHECK(run(s, make_squeeze(s, 1, target_of(87)), 3) == 0);
}

TEST_CASE("faults planted in squeezing are noticed") {
  const SqueezeShape s = shape_of(1, 136, 24, 88, 7);
  const KernelSpec good = make_squeeze(s, 4, target_of(90));
  REQUIRE(run(s, good, 1) == 0);
  const auto wrong_with = [&](const std::string& from, const std::string& to) {
    KernelSpec bad = good;
    REQUIRE(bad.job.source.find(from) != std::string::npos);
    bad.job.source.replace(bad.job.source.find(from), from.size(), to);
    return run(s, bad, 1);
  };
  CHECK(wrong_with("const bool there = vector < kVectors;", "const bool there = vector < kVectors - 1;") > 0);
  CHECK(wrong_with("receive_wait(memory + kBarrierOffset)", "(void)memory") > 0);
  CHECK(wrong_with("kFirstBeta);\n  }\n  __syncthreads();", "kFirstBeta);\n  }") > 0);
}

TEST_CASE("products that cannot be squeezed are refused") {
  const SqueezeShape s = shape_of(1, 672, 168, 672, 4);
  CHECK(squeeze_shared_bytes(s, 8, target_of(90)).has_value());
  CHECK(!squeeze_shared_bytes(s, 8, target_of(87)).has_value());
  CHECK(!squeeze_shared_bytes(s, 1, target_of(87)).has_value());  // more than a block's memory
  SqueezeShape other = s;
  other.squeezed = 20;
  CHECK(!squeeze_shared_bytes(other, 8, target_of(90)).has_value());
  other = s;
  other.images = 1 << 30;
  CHECK(!squeeze_shared_bytes(other, 8, target_of(90)).has_value());
}

}  // namespace
