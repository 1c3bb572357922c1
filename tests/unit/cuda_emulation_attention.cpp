// SPDX-License-Identifier: Apache-2.0
// The attention kernel in the host emulation, at small odd shapes, against the definition in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "../fake_cuda/emulate.h"
#include "codegen/attention_kernel.h"
#include "edgert/scalar/convert.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;
using fake_cuda::EmulatedKernel;

std::uint16_t to_bits(float x, ElementType type) { return type == ElementType::F16 ? scalar::to_half(x).bits : scalar::to_bfloat16(x).bits; }
float from_bits(std::uint16_t bits, ElementType type) {
  return type == ElementType::F16 ? scalar::to_float(scalar::Half{bits}) : scalar::to_float(scalar::BFloat16{bits});
}

std::vector<std::uint16_t> random_bits(std::size_t count, unsigned seed, ElementType type) {
  std::mt19937 random(seed);
  std::vector<std::uint16_t> out(count);
  for (auto& x : out) x = to_bits((static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f) * 2.0f, type);
  return out;
}

struct Data {
  std::vector<std::uint16_t> qkv, mask;
  std::vector<float> floats;  // the mask again
  std::vector<std::uint8_t> keep;
};

/// q, k and v are parts of the rows of one matrix, as a joint projection leaves them.
AttentionShape shape_of(int batch, int heads, int queries, int keys, int depth, int value_depth) {
  AttentionShape s;
  s.batch = batch, s.heads = heads, s.queries = queries, s.keys = keys, s.depth = depth, s.value_depth = value_depth;
  const std::int64_t row = heads * (2 * depth + value_depth) + 8;
  s.q = s.k = {std::max(queries, keys) * row, row, depth};
  s.v = {s.k.batch, row, value_depth};
  s.y = {queries * (heads * value_depth + 8), heads * value_depth + 8, value_depth};
  s.scale = 0.3f;
  return s;
}

/// Elements of y outside the bound, and elements written that are none of y's.
std::size_t run(const AttentionShape& s, const KernelSpec& spec, unsigned seed, bool forbid_all = false) {
  Data d;
  d.qkv = random_bits(static_cast<std::size_t>(s.batch * s.q.batch), 1, s.element);
  d.mask = random_bits(static_cast<std::size_t>(s.batch * s.heads * s.queries * s.keys), 2, s.element);
  for (const std::uint16_t bits : d.mask) d.floats.push_back(from_bits(bits, s.element));
  for (std::size_t i = 0; i < d.mask.size(); ++i) d.keep.push_back(forbid_all ? 0 : static_cast<std::uint8_t>(d.mask[i] % 3));
  const std::int64_t k_at = s.heads * s.depth, v_at = 2 * k_at;
  std::vector<std::uint16_t> y(static_cast<std::size_t>(s.batch * s.y.batch), 0x7e7e);
  const EmulatedKernel kernel(spec);
  const void *q = d.qkv.data(), *k = d.qkv.data() + k_at, *v = d.qkv.data() + v_at;
  const bool boolean = s.mask == AttentionMask::Keep || s.mask == AttentionMask::Hide;
  const bool floats = s.mask == AttentionMask::AdditiveFloat;
  const void* mask = boolean ? static_cast<const void*>(d.keep.data()) : floats ? static_cast<const void*>(d.floats.data()) : d.mask.data();
  void* y_pointer = y.data();
  const void* prefetch = nullptr;
  std::uint32_t prefetch_bytes = 0;
  void* parameters[] = {&q, &k, &v, &mask, &y_pointer, &prefetch, &prefetch_bytes};
  kernel.run(parameters, {{d.qkv.data(), d.qkv.size() * 2}, {d.mask.data(), d.mask.size() * 2}, {d.keep.data(), d.keep.size()}, {d.floats.data(), d.floats.size() * 4}, {y.data(), y.size() * 2}}, seed);
  const auto at = [&](std::int64_t offset) { return double(from_bits(d.qkv[static_cast<std::size_t>(offset)], s.element)); };
  const double ulp = s.element == ElementType::F16 ? 0x1p-11 : 0x1p-8;
  std::size_t wrong = 0;
  std::vector<bool> written(y.size(), false);
  for (int b = 0; b < s.batch; ++b) {
    for (int h = 0; h < s.heads; ++h) {
      for (int i = 0; i < s.queries; ++i) {
        std::vector<double> p(s.keys);
        double best = -std::numeric_limits<double>::infinity(), largest = 0, sum = 0;
        for (int j = 0; j < s.keys; ++j) {
          double dot = 0, size = 0;
          for (int c = 0; c < s.depth; ++c) {
            const double product = at(b * s.q.batch + i * s.q.row + h * s.q.head + c) * at(k_at + b * s.k.batch + j * s.k.row + h * s.k.head + c);
            dot += product;
            size += std::fabs(product);
          }
          p[j] = dot * s.scale;
          const std::size_t m = static_cast<std::size_t>(b * s.mask_view.batch + h * s.mask_view.head + i * s.mask_view.row + j);
          if (s.mask == AttentionMask::Additive || floats) p[j] += double(d.floats[m]);
          if (boolean && (d.keep[m] == 0) == (s.mask == AttentionMask::Keep)) p[j] = double(s.hidden);
          if (s.mask == AttentionMask::Causal && j > i + s.causal_offset) p[j] = -std::numeric_limits<double>::infinity();
          best = std::max(best, p[j]);
          largest = std::max(largest, size * s.scale);
        }
        for (double& x : p) x = std::exp(x - best), sum += x;
        for (int c = 0; c < s.value_depth; ++c) {
          double value = 0, size = 0;
          for (int j = 0; j < s.keys; ++j) {
            const double v_here = at(v_at + b * s.v.batch + j * s.v.row + h * s.v.head + c);
            value += p[j] / sum * v_here;
            size += p[j] / sum * std::fabs(v_here);
          }
          const std::size_t to = static_cast<std::size_t>(b * s.y.batch + i * s.y.row + h * s.y.head + c);
          written[to] = true;
          const double actual = from_bits(y[to], s.element);
          // Probabilities and results are rounded once each; exponents carry the error of float sums.
          const double bound = ulp * 1.01 * (std::fabs(value) + size) + size * largest * 0x1p-20 + 1e-6;
          const bool nothing = forbid_all && std::isinf(s.hidden);
          wrong += nothing ? !(s.zero_hidden ? actual == 0 : std::isnan(actual)) : !(std::fabs(actual - value) <= bound);
        }
      }
    }
  }
  for (std::size_t i = 0; i < y.size(); ++i) wrong += !written[i] && y[i] != 0x7e7e;
  return wrong;
}

ConvTarget target_of(std::uint32_t arch) {
  ConvTarget target;
  target.arch = arch;
  target.multiprocessors = 4;
  target.shared_bytes = arch >= 90 ? 227 * 1024 : 163 * 1024;
  return target;
}

TEST_CASE("attention over one chunk of keys, tails in every extent") {
  const AttentionShape s = shape_of(2, 3, 21, 37, 24, 40);
  CHECK(run(s, make_attention(s, {1, 4, 64, 1}, target_of(90)), 1) == 0);
  CHECK(run(s, make_attention(s, {2, 1, 64, 1}, target_of(87)), 2) == 0);
  CHECK(run(s, make_attention(s, {2, 1, 16, 2}, target_of(87)), 14) == 0);
}

TEST_CASE("attention over several chunks of keys, two and three buffers, bfloat16") {
  AttentionShape s = shape_of(1, 2, 18, 101, 16, 16);
  CHECK(run(s, make_attention(s, {1, 2, 32, 2}, target_of(90)), 3) == 0);
  s.element = ElementType::BF16;
  CHECK(run(s, make_attention(s, {2, 2, 32, 3}, target_of(87)), 4) == 0);
}

TEST_CASE("masks: added, the same for all queries, and boolean, by head and query") {
  AttentionShape s = shape_of(2, 2, 9, 35, 16, 16);
  s.mask = AttentionMask::Additive;
  s.mask_view = {35, 0, 0};
  CHECK(run(s, make_attention(s, {1, 2, 64, 1}, target_of(90)), 5) == 0);
  s.mask = AttentionMask::Keep;
  s.mask_view = {2 * 9 * 35, 35, 9 * 35};
  CHECK(run(s, make_attention(s, {1, 2, 32, 2}, target_of(90)), 6) == 0);
  CHECK(run(s, make_attention(s, {1, 2, 32, 2}, target_of(90)), 7, true) == 0);
}

TEST_CASE("masks of floats, opposite ones, and queries that see no key") {
  AttentionShape s = shape_of(2, 2, 9, 35, 16, 16);
  s.mask_view = {2 * 9 * 35, 35, 9 * 35};
  s.mask = AttentionMask::AdditiveFloat;
  CHECK(run(s, make_attention(s, {1, 2, 32, 2}, target_of(87)), 8) == 0);
  s.mask = AttentionMask::Hide;
  CHECK(run(s, make_attention(s, {1, 4, 64, 1}, target_of(90)), 9) == 0);
  s.mask = AttentionMask::Keep;
  s.zero_hidden = true;
  CHECK(run(s, make_attention(s, {1, 2, 32, 2}, target_of(87)), 10, true) == 0);
  s.zero_hidden = false;
  s.hidden = -1e30f;  // the mean of the values
  CHECK(run(s, make_attention(s, {1, 2, 32, 2}, target_of(90)), 11, true) == 0);
  s.hidden = -1.0f;
  CHECK_FALSE(attention_shared_bytes(s, {1, 2, 32, 2}, target_of(90)).has_value());
}

TEST_CASE("causal attention, of all queries and of the last ones") {
  AttentionShape s = shape_of(1, 2, 70, 70, 16, 24);
  s.mask = AttentionMask::Causal;
  CHECK(run(s, make_attention(s, {1, 2, 32, 2}, target_of(90)), 12) == 0);
  s = shape_of(2, 1, 9, 41, 16, 16);
  s.mask = AttentionMask::Causal;
  s.causal_offset = 32;
  CHECK(run(s, make_attention(s, {1, 4, 64, 1}, target_of(87)), 13) == 0);
}

TEST_CASE("faults planted in attention are noticed") {
  AttentionShape s = shape_of(1, 2, 17, 70, 16, 16);
  const KernelSpec good = make_attention(s, {1, 2, 32, 2}, target_of(90));
  REQUIRE(run(s, good, 1) == 0);
  const auto wrong_with = [&](const std::string& from, const std::string& to) {
    KernelSpec bad = good;
    REQUIRE(bad.job.source.find(from) != std::string::npos);
    bad.job.source.replace(bad.job.source.find(from), from.size(), to);
    return run(s, bad, 1);
  };
  CHECK(wrong_with("if (key >= kKeys ||", "if (key > kKeys ||") > 0);                              // a key too many
  CHECK(wrong_with("state.sum[r] *= scale;", "") > 0);                                                // a sum not rescaled
  CHECK(wrong_with("(kChunks == 1 ? 1 : 2)>();", "(kChunks == 1 ? 1 : 1)>();") > 0);                  // a wait too short
  CHECK(wrong_with("(kChunks == 1 ? 1 : 2)>();\n    __syncthreads();", "(kChunks == 1 ? 1 : 2)>();") > 0);  // a race
}

TEST_CASE("attention that does not fit is refused") {
  const AttentionShape s = shape_of(1, 2, 18, 101, 16, 16);
  const ConvTarget orin = target_of(87);
  REQUIRE(attention_shared_bytes(s, {1, 4, 128, 1}, orin).has_value());
  CHECK(!attention_shared_bytes(s, {1, 4, 64, 1}, orin));    // two chunks in one buffer
  CHECK(!attention_shared_bytes(s, {1, 4, 32, 2}, orin));    // a chunk that does not divide among warps
  AttentionShape other = s;
  other.depth = 20;
  CHECK(!attention_shared_bytes(other, {1, 4, 128, 1}, orin));
  other = s;
  other.q.row = 1001;
  CHECK(!attention_shared_bytes(other, {1, 4, 128, 1}, orin));
  other = s;
  other.batch = 3;
  other.q.batch = std::int64_t{1} << 30;
  CHECK(!attention_shared_bytes(other, {1, 4, 128, 1}, orin));
  CHECK_THROWS_AS(make_attention(s, {1, 4, 64, 1}, orin), CompileError);
}

TEST_CASE("attention has tiles on every target") {
  for (const std::uint32_t arch : {87u, 90u, 110u}) {
    for (const int keys : {1, 128, 197, 1024}) {
      const AttentionShape s = shape_of(1, 6, keys, keys, 64, 64);
      const auto tiles = rank_attention_tiles(s, target_of(arch), 4);
      REQUIRE(!tiles.empty());
      for (const AttentionTile& tile : tiles) CHECK(attention_shared_bytes(s, tile, target_of(arch)).has_value());
    }
  }
}

}  // namespace
