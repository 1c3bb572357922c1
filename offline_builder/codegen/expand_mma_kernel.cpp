// SPDX-License-Identifier: Apache-2.0
#include "codegen/expand_mma_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "edgert/scalar/convert.h"

namespace edgert::codegen {

namespace {

std::int32_t divide_up(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }
std::int32_t round_up(std::int32_t a, std::int32_t b) { return divide_up(a, b) * b; }

/// The kernel computes the same and compares the total.
struct Geometry {
  std::int32_t threads, chunk, patch_height, patch_columns, blocks_m, pass_blocks, column_blocks;
  WideningWarps widening;
  std::int32_t registers, shared_bytes, tiles, blocks;
};

Geometry geometry(const ExpandShape& s, const ExpandMmaTile& t) {
  Geometry g = {};
  const std::int32_t warps = t.warps_m * t.warps_n;
  g.threads = 32 * warps;
  g.chunk = round_up(s.channels, 16);
  g.patch_height = (t.tile_height - 1) * s.stride + s.window;
  g.patch_columns = round_up((t.tile_width - 1) * s.stride + s.window, s.stride);
  const std::int32_t pixels = g.patch_height * g.patch_columns, taps = s.window * s.window;
  g.blocks_m = divide_up(pixels, 16);
  g.pass_blocks = t.block_n / 16;
  g.column_blocks = divide_up(t.tile_height / t.rows * t.tile_width, 16);
  g.widening = share_widening(warps, g.blocks_m, g.pass_blocks, g.chunk);
  const std::int32_t pitch = 2 * t.block_n + 16;
  g.shared_bytes = std::max(pixels * (2 * g.chunk + 16), t.tile_height * t.tile_width * pitch) + g.blocks_m * 16 * pitch + g.pass_blocks * (taps + 1) * 64 +
                   (s.pool ? g.threads * 32 : 0);
  const std::int32_t pieces = divide_up(pixels * g.chunk / 8, g.threads);
  g.registers = 36 + std::max(g.widening.blocks_n * (g.chunk / 16 * 4 + 12) + 8 + pieces, taps * 2 + 4 + t.rows * 8 + 12);
  g.tiles = divide_up(s.out_height, t.tile_height) * divide_up(s.out_width, t.tile_width);
  g.blocks = s.batch * g.tiles * divide_up(s.hidden, t.block_n);
  return g;
}

/// Blocks that a multiprocessor has to compute, and how many of them it runs at a time.
std::int32_t blocks_for_each(const Geometry& g, const ConvTarget& target) { return divide_up(g.blocks, target.multiprocessors); }
std::int32_t resident_blocks(const Geometry& g, const ConvTarget& target) {
  const std::int32_t by_registers = 65536 / (g.registers * g.threads), by_shared = (target.shared_bytes + 1024) / (g.shared_bytes + 1024);
  return std::max(1, std::min({by_registers, by_shared, 1536 / g.threads, 6}));
}

/// What the compiler has to leave registers for: also a block of the next kernel, where launches overlap.
std::int32_t blocks_per_multiprocessor(const Geometry& g, const ConvTarget& target) {
  return std::min(resident_blocks(g, target), std::max(2, blocks_for_each(g, target)));
}

std::string number(std::int64_t value) { return std::to_string(value); }

/// Cycles of the whole launch, roughly; only the order matters.
double estimate(const ExpandShape& s, const ExpandMmaTile& t, const ConvTarget& target) {
  constexpr double kPerInstruction = 4.5;  // cycles from one instruction of a warp to the next, when others are few
  const Geometry g = geometry(s, t);
  const double warps = g.threads / 32.0;
  const double bandwidth = std::min(60.0, 24.0 * 132 / std::min(g.blocks, target.multiprocessors));
  double busy = 0, alone = 500;  // cycles in which a block keeps its multiprocessor busy, and those that it takes alone
  const auto add = [&](double throughput, double latency) { busy += throughput, alone += std::max(throughput, latency); };
  const double pixels = g.patch_height * g.patch_columns, tile = t.tile_height * t.tile_width, taps = s.window * s.window;
  add((pixels * g.chunk + g.chunk * t.block_n + taps * t.block_n * 2) * 2.0 / bandwidth, 500);
  const double rounds = divide_up(g.blocks_m, g.widening.warps_m) * g.widening.blocks_n;  // of 16 x 16 outputs, of a warp
  add(rounds * warps * g.chunk / 4, rounds * g.chunk / 16 * 24);
  add(rounds * 8 * 5 * warps / 4, rounds * 8 * 5 * kPerInstruction);
  // For each 16 channels of a warp the window's weights, and for each 16 columns the window, activation and store.
  const double own_n = divide_up(g.pass_blocks, t.warps_n), own_m = divide_up(g.column_blocks, t.warps_m);
  const double fragments = ((t.rows - 1) * s.stride + s.window) * s.window, multiplied = t.rows * taps * 2;
  const double instructions = own_n * (taps * 5 + 20 + own_m * (fragments * 2 + multiplied + t.rows * 50 + 20));
  const double shared = own_n * (taps * 2 + own_m * (fragments * 4 + t.rows * 4));
  add(warps * std::max({own_n * own_m * multiplied, shared, instructions / 4}), instructions * 3 + own_n * own_m * 60);
  const double stored = tile * t.block_n / 8 / g.threads;
  add(std::max(tile * t.block_n * 2 / bandwidth, stored * warps * (s.pool ? 35 : 20) / 4), 200 + stored * (s.pool ? 35 : 20) * kPerInstruction);
  if (s.pool) add(warps * 30, 300);
  const std::int32_t each = blocks_for_each(g, target), at_once = std::min(each, resident_blocks(g, target));
  const auto together = [&](std::int32_t blocks) { return std::max(alone, busy * blocks) + 0.2 * busy * (blocks - 1); };
  const double cycles = each / at_once * together(at_once) + (each % at_once > 0 ? together(each % at_once) : 0);
  const bool crowded = target.arch >= 90 && each == 1 && resident_blocks(g, target) < 2;  // no place for the next kernel's blocks
  return cycles + (crowded ? 1000 : 0);
}

}  // namespace

std::int32_t expand_mma_tiles(const ExpandShape& shape, const ExpandMmaTile& tile) { return geometry(shape, tile).tiles; }

std::optional<std::uint32_t> expand_mma_shared_bytes(const ExpandShape& shape, const ExpandMmaTile& t, const ConvTarget& target) {
  if (!expand_shape_is_valid(shape) || t.tile_height < 1 || t.tile_width < 1 || t.tile_height > 64 || t.tile_width > 64) return std::nullopt;
  if (t.warps_m < 1 || t.warps_n < 1 || t.warps_m * t.warps_n > 16 || t.rows < 1 || t.rows > 8 || t.tile_height % t.rows != 0) return std::nullopt;
  if (t.block_n < 16 || t.block_n > 128 || t.block_n % (16 * t.warps_n) != 0) return std::nullopt;
  if (shape.window * shape.window * 2 + t.rows * 8 > 90) return std::nullopt;  // weights and sums that a thread holds
  const Geometry g = geometry(shape, t);
  if (g.threads % (t.block_n / 8) != 0 || g.shared_bytes > target.shared_bytes) return std::nullopt;
  if (g.widening.blocks_n * (g.chunk / 16) * 4 > 96 || g.registers > 220 || g.registers * g.threads > 65536) return std::nullopt;
  return static_cast<std::uint32_t>(g.shared_bytes);
}

std::vector<std::uint32_t> pack_window_words(const ExpandShape& shape, const float* weights, const float* bias) {
  const std::int32_t taps = shape.window * shape.window;
  std::vector<std::uint32_t> packed;
  for (std::int32_t block = 0; block < shape.hidden; block += 16) {
    for (std::int32_t tap = 0; tap < taps; ++tap) {
      for (std::int32_t c = block; c < block + 16; ++c) {
        const float weight = c < shape.hidden ? weights[c * taps + tap] : 0.0f;
        const std::uint32_t bits = shape.element == ElementType::F16 ? scalar::to_half(weight).bits : scalar::to_bfloat16(weight).bits;
        packed.push_back(c % 2 == 0 ? bits : bits << 16);
      }
    }
    for (std::int32_t c = block; c < block + 16; ++c) {
      const float value = bias == nullptr || c >= shape.hidden ? 0.0f : bias[c];
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof(bits));
      packed.push_back(bits);
    }
  }
  return packed;
}

WideningWarps share_widening(std::int32_t warps, std::int32_t blocks_m, std::int32_t blocks_n, std::int32_t chunk) {
  WideningWarps shared;
  std::int32_t best = std::numeric_limits<std::int32_t>::max();
  for (std::int32_t m = 1; m <= warps; ++m) {
    if (warps % m != 0) continue;
    const std::int32_t own_n = divide_up(blocks_n, warps / m), rounds = divide_up(blocks_m, m);
    const std::int32_t cost = rounds * own_n * 8 + rounds + (own_n * (chunk / 16) * 4 > 96 ? 1 << 20 : 0);
    if (cost >= best) continue;
    best = cost, shared = {m, own_n};
  }
  return shared;
}

KernelSpec make_expand_mma(const ExpandShape& shape, const ExpandMmaTile& tile, const ConvTarget& target) {
  const std::string name = "expand_mma" + number(shape.window) + "s" + number(shape.stride) + "_" + number(shape.height) + "x" + number(shape.width) +
                           "x" + number(shape.channels) + "_" + number(shape.hidden) + (shape.pool ? "+pool" : "") + "_t" + number(tile.tile_height) + "x" +
                           number(tile.tile_width) + "_n" + number(tile.block_n) + "_w" + number(tile.warps_m) + number(tile.warps_n) + "_r" + number(tile.rows);
  const auto shared = expand_mma_shared_bytes(shape, tile, target);
  if (!shared) throw CompileError(name + ": this tile does not fit the layer or the target");
  const Geometry g = geometry(shape, tile);
  ProblemText text(shape.element);
  text.define("EDGERT_ENTRY", "expand_mma");
  text.set("kBatch", std::int64_t{shape.batch}).set("kHeight", std::int64_t{shape.height}).set("kWidth", std::int64_t{shape.width});
  text.set("kChannels", std::int64_t{shape.channels}).set("kHidden", std::int64_t{shape.hidden});
  text.set("kOutHeight", std::int64_t{shape.out_height}).set("kOutWidth", std::int64_t{shape.out_width}).set("kOutChannels", std::int64_t{shape.hidden});
  text.set("kKernelHeight", std::int64_t{shape.window}).set("kKernelWidth", std::int64_t{shape.window});
  text.set("kStrideHeight", std::int64_t{shape.stride}).set("kStrideWidth", std::int64_t{shape.stride});
  for (const char* one : {"kDilationHeight", "kDilationWidth", "kWarpsK", "kPatchBuffers", "kSplit"}) text.set(one, std::int64_t{1});
  text.set("kPadTop", std::int64_t{shape.pad[0]}).set("kPadLeft", std::int64_t{shape.pad[1]});
  text.set("kInputAtOnce", std::int64_t{8}).set("kInputPitch", std::int64_t{shape.input_pitch}).set("kOutputPitch", std::int64_t{shape.output_pitch});
  text.set("kTileHeight", std::int64_t{tile.tile_height}).set("kTileWidth", std::int64_t{tile.tile_width}).set("kRows", std::int64_t{tile.rows});
  text.set("kBlockN", std::int64_t{tile.block_n}).set("kPassBlocks", std::int64_t{g.pass_blocks}).set("kChunk", std::int64_t{g.chunk});
  text.set("kScaled", false).set("kPreActivated", false).set("kPool", shape.pool);
  text.set("kWarpsM", std::int64_t{tile.warps_m}).set("kWarpsN", std::int64_t{tile.warps_n}).set("kExpandWarpsM", std::int64_t{g.widening.warps_m});
  text.set("kExpandActivation", "scalar::PointwiseOp", "static_cast<scalar::PointwiseOp>(" + number(static_cast<int>(shape.expand.activation)) + ")");
  text.set("kExpandAlpha", shape.expand.alpha).set("kExpandBeta", shape.expand.beta).epilogue(shape.epilogue);
  text.set("kBlocksPerMultiprocessor", std::int64_t{blocks_per_multiprocessor(g, target)}).set("kSharedBytes", std::int64_t{g.shared_bytes});
  KernelSpec spec;
  spec.job = make_job(name, "kernels/expand_mma.cu", text.text(), target.arch);
  spec.entry = "expand_mma";
  spec.tile = "tile " + number(tile.tile_height) + "x" + number(tile.tile_width) + "x" + number(tile.block_n) + " warps " + number(tile.warps_m) +
              "x" + number(tile.warps_n) + " rows " + number(tile.rows);
  spec.grid[0] = static_cast<std::uint32_t>(std::max(g.blocks, target.arch >= 90 ? target.multiprocessors : 0));
  spec.block[0] = static_cast<std::uint32_t>(g.threads);
  spec.shared_bytes = *shared;
  return spec;
}

std::vector<ExpandMmaTile> rank_expand_mma_tiles(const ExpandShape& shape, const ConvTarget& target, std::size_t limit) {
  std::vector<std::pair<double, ExpandMmaTile>> all;
  for (const std::int32_t height : {1, 2, 4, 7, 8, 14, 16}) {
    for (const std::int32_t width : {4, 7, 8, 14, 16, 28}) {
      if (height > shape.out_height || width > round_up(shape.out_width, 4)) continue;
      for (const std::int32_t block_n : {16, 32, 48, 64}) {
        if (block_n > round_up(shape.hidden, 16)) continue;
        for (const std::int32_t warps : {4, 8}) {
          for (const std::int32_t warps_n : {1, 2, 4}) {
            for (const std::int32_t rows : {1, 2, 4, 7}) {
              const ExpandMmaTile tile = {height, width, block_n, warps / warps_n, warps_n, rows};
              if (expand_mma_shared_bytes(shape, tile, target)) all.emplace_back(estimate(shape, tile, target), tile);
            }
          }
        }
      }
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ExpandMmaTile> out;
  for (std::size_t i = 0; i < all.size() && out.size() < limit; ++i) out.push_back(all[i].second);
  return out;
}

}  // namespace edgert::codegen
