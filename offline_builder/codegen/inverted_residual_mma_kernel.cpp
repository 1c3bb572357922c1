// SPDX-License-Identifier: Apache-2.0
#include "codegen/inverted_residual_mma_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace edgert::codegen {

namespace {

std::int32_t divide_up(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }
std::int32_t round_up(std::int32_t a, std::int32_t b) { return divide_up(a, b) * b; }

/// The kernel computes the same and compares the total.
struct Geometry {
  std::int32_t warps, threads, chunk, patch_height, patch_columns, patch_pixels, hidden_blocks, pass_blocks, out_blocks;
  std::int32_t expand_warps_m, expand_blocks_m, expand_blocks_n;  // warps along pixels; 16x16 blocks: all along pixels, of a warp along channels
  std::int32_t column_blocks;                                     // of 16 columns of outputs, of a warp
  std::int32_t block_m, units;                                    // of the narrowing product
  std::int32_t registers, shared_bytes, blocks;
};

Geometry geometry(const InvertedResidualShape& s, const InvertedResidualMmaTile& t) {
  const ExpandShape& f = s.first;
  Geometry g = {};
  g.warps = t.warps_m * t.warps_k;
  g.threads = 32 * g.warps;
  g.chunk = round_up(f.channels, 16);
  g.patch_height = (t.tile_height - 1) * f.stride + f.window;
  g.patch_columns = round_up((t.tile_width - 1) * f.stride + f.window, f.stride);
  g.patch_pixels = g.patch_height * g.patch_columns;
  g.hidden_blocks = divide_up(f.hidden, 16);
  g.pass_blocks = g.hidden_blocks / t.passes;
  g.out_blocks = divide_up(s.out_channels, 16);
  g.expand_blocks_m = divide_up(g.patch_pixels, 16);
  const WideningWarps widening = share_widening(g.warps, g.expand_blocks_m, g.pass_blocks, g.chunk);
  g.expand_warps_m = widening.warps_m, g.expand_blocks_n = widening.blocks_n;
  g.block_m = round_up(t.tile_height * t.tile_width, 16 * t.warps_m);
  g.column_blocks = divide_up(divide_up(t.tile_height / t.rows * t.tile_width, 16), t.warps_m);
  g.units = g.block_m * g.out_blocks * 2;
  const std::int32_t units = divide_up(g.units, g.threads);
  const std::int32_t finish = 10 + units * (s.epilogue.residual != scalar::ResidualMode::None ? 5 : 1);
  const std::int32_t pieces = divide_up(g.patch_pixels * g.chunk / 8, g.threads);
  const std::int32_t widen = s.widens ? g.expand_blocks_n * (g.chunk / 16 * 4 + 12) + 8 : 0;
  const std::int32_t sum = g.column_blocks * t.rows * g.out_blocks * 8;
  const std::int32_t slide = f.window * f.window * 2 + 4 + t.rows * 8 + 8 + g.column_blocks + finish;
  // From one pass to the next: the sums, and the next weights of the first product.
  const std::int32_t next = t.passes == 1 ? 0 : g.expand_blocks_n * (g.chunk / 16 + 1) * 4;
  g.registers = 36 + std::max(widen + pieces + finish + (t.passes == 1 ? 0 : sum), slide + sum + next);
  const std::int32_t pitch = g.pass_blocks * 32 + 16;
  const std::int32_t hidden = (s.widens ? g.patch_pixels * (2 * g.chunk + 16) : 0) + (s.widens ? g.expand_blocks_m * 16 : g.patch_pixels) * pitch;
  const std::int32_t sums = t.warps_k * g.block_m * (g.out_blocks * 16 + 8) * 4;
  g.shared_bytes = std::max(hidden, sums) + g.hidden_blocks * (g.out_blocks * 512 + (f.window * f.window + 1) * 64);
  g.blocks = f.batch * divide_up(f.out_height, t.tile_height) * divide_up(f.out_width, t.tile_width);
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

std::string tile_text(const InvertedResidualMmaTile& t) {
  return "tile " + number(t.tile_height) + "x" + number(t.tile_width) + " warps " + number(t.warps_m) + "x" + number(t.warps_k) +
         " rows " + number(t.rows) + (t.passes > 1 ? " passes " + number(t.passes) : "");
}

constexpr double kPerInstruction = 4.5;  ///< cycles from one instruction of a warp to the next, when others are few

/// Cycles in which a block keeps its multiprocessor busy, and those that it takes alone.
struct Cycles {
  double busy = 0, alone = 0;
  void add(double throughput, double latency) { busy += throughput, alone += std::max(throughput, latency); }
  void add_apart(double throughput, double time) { busy += throughput, alone += time; }
};

Cycles block_cycles(const InvertedResidualShape& s, const InvertedResidualMmaTile& t, const Geometry& g, const ConvTarget& target) {
  const ExpandShape& f = s.first;
  const double bandwidth = std::min(60.0, 24.0 * 132 / std::min(g.blocks, target.multiprocessors));  // bytes a cycle and multiprocessor
  const double warps = g.warps;
  Cycles c;
  const double input = g.patch_pixels * g.chunk * 2.0 / bandwidth;
  c.add(input, 600 + input);
  const double passes = t.passes;
  if (s.widens) {
    const double rounds = passes * divide_up(g.expand_blocks_m, g.expand_warps_m), steps = g.chunk / 16;
    const double products = rounds * g.expand_blocks_n * 2 * steps;  // of a warp
    const double finish = rounds * g.expand_blocks_n * 8 * 4;        // instructions of a warp for bias, activation, storing
    c.add(products * warps * 2, products * 12 + rounds * 40);
    c.add(finish * warps / 4, finish * kPerInstruction + passes * 40);
  }
  // For each 16 channels of a warp: the window's weights, and for each 16 columns the window and the narrowing product.
  const double steps = passes * std::ceil(double(g.pass_blocks) / t.warps_k), taps = f.window * f.window;
  const double fragments = ((t.rows - 1) * f.stride + f.window) * f.window, multiplied = t.rows * taps * 2, narrowed = t.rows * g.out_blocks * 2;
  const double loaded = taps * 5 + 20, instructions = g.column_blocks * (fragments * 2 + multiplied + t.rows * 14 + g.out_blocks * 2 + narrowed);
  const double tensor = g.column_blocks * (multiplied + narrowed * 2), shared = g.column_blocks * (fragments + g.out_blocks) * 4 + taps * 2;
  c.add_apart(steps * warps * std::max({tensor, shared, (loaded + instructions) / 4}), steps * ((loaded + instructions) * 3 + 100) + passes * 40);
  const double units = double(g.units) / g.threads;
  c.add_apart(units * warps * (60 + 20 * t.warps_k) / 4, 250 + units * (60 + 25 * t.warps_k));
  // Weights are asked for before the input; where launches overlap, while the kernel before this one runs.
  const double weights = (g.hidden_blocks * 16.0 * 2 * ((s.widens ? g.chunk : 0) + s.out_channels) + f.window * f.window * g.hidden_blocks * 64.0) / bandwidth;
  const bool overlap = target.arch >= 90 && blocks_for_each(g, target) == 1;
  c.add(overlap ? 0.25 * weights : weights, 0);
  c.add_apart(0, (passes - 1) * 200);  // the first product's next weights
  return c;
}

/// Cycles of the whole launch, roughly; only the order matters.
double estimate(const InvertedResidualShape& s, const InvertedResidualMmaTile& t, const ConvTarget& target) {
  const Geometry g = geometry(s, t);
  const Cycles block = block_cycles(s, t, g, target);
  const std::int32_t each = blocks_for_each(g, target), at_once = std::min(each, resident_blocks(g, target));
  const auto together = [&](std::int32_t blocks) { return std::max(block.alone, block.busy * blocks) + 0.2 * block.busy * (blocks - 1); };
  const double cycles = each / at_once * together(at_once) + (each % at_once > 0 ? together(each % at_once) : 0);
  const bool crowded = target.arch >= 90 && each == 1 && resident_blocks(g, target) < 2;  // no place for the next kernel's blocks
  return cycles + (crowded ? 1000 : 0);
}

}  // namespace

std::optional<std::uint32_t> inverted_residual_mma_shared_bytes(const InvertedResidualShape& shape, const InvertedResidualMmaTile& t, const ConvTarget& target) {
  if (!inverted_residual_shape_is_valid(shape) || t.tile_height < 1 || t.tile_width < 1 || t.tile_height > 32 || t.tile_width > 32) return std::nullopt;
  if (t.warps_m < 1 || t.warps_k < 1 || t.warps_m > 16 || t.warps_k > 16 || t.warps_m * t.warps_k > 16) return std::nullopt;
  if (t.rows < 1 || t.rows > 8 || t.tile_height % t.rows != 0) return std::nullopt;
  if (t.passes < 1 || divide_up(shape.first.hidden, 16) % t.passes != 0 || (t.passes > 1 && !shape.widens)) return std::nullopt;
  const Geometry g = geometry(shape, t);
  if (g.expand_blocks_n * (g.chunk / 16) * 4 > 96 && shape.widens) return std::nullopt;
  if (g.threads < g.out_blocks * 2 || g.registers > 220 || g.registers * g.threads > 65536) return std::nullopt;
  if (g.shared_bytes > target.shared_bytes) return std::nullopt;
  return static_cast<std::uint32_t>(g.shared_bytes);
}

std::vector<std::uint32_t> pack_inverted_residual_words(const InvertedResidualShape& shape, const float* window, const float* widening_bias,
                                                        const float* window_bias, const float* narrowing_bias) {
  const ExpandShape& f = shape.first;
  std::vector<std::uint32_t> packed = pack_window_words(f, window, window_bias);
  const auto append = [&](const float* from, std::int32_t count) {
    for (std::int32_t c = 0; c < round_up(count, 16); ++c) {
      const float value = from == nullptr || c >= count ? 0.0f : from[c];
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof(bits));
      packed.push_back(bits);
    }
  };
  if (shape.widens) append(widening_bias, f.hidden);
  append(narrowing_bias, shape.out_channels);
  return packed;
}

KernelSpec make_inverted_residual_mma(const InvertedResidualShape& shape, const InvertedResidualMmaTile& tile, const ConvTarget& target) {
  const ExpandShape& f = shape.first;
  const std::string name = std::string(shape.widens ? "inverted_residual_mma" : "separable_mma") + number(f.window) + "s" + number(f.stride) + "_" + number(f.height) + "x" +
                           number(f.width) + "x" + number(f.channels) + "_" + number(f.hidden) + "_" + number(shape.out_channels) + " " + tile_text(tile);
  const auto shared = inverted_residual_mma_shared_bytes(shape, tile, target);
  if (!shared) throw CompileError(name + ": this tile does not fit the block or the target");
  const Geometry g = geometry(shape, tile);
  const auto operation = [](scalar::PointwiseOp op) { return "static_cast<scalar::PointwiseOp>(" + number(static_cast<int>(op)) + ")"; };
  ProblemText text(f.element);
  text.define("EDGERT_ENTRY", "inverted_residual_mma");
  text.set("kBatch", std::int64_t{f.batch}).set("kHeight", std::int64_t{f.height}).set("kWidth", std::int64_t{f.width});
  text.set("kChannels", std::int64_t{f.channels}).set("kHidden", std::int64_t{f.hidden}).set("kWiden", shape.widens);
  text.set("kOutImagePixels", std::int64_t{f.out_height} * f.out_width);
  text.set("kOutHeight", std::int64_t{f.out_height}).set("kOutWidth", std::int64_t{f.out_width}).set("kOutChannels", std::int64_t{shape.out_channels});
  text.set("kKernelHeight", std::int64_t{f.window}).set("kKernelWidth", std::int64_t{f.window});
  text.set("kStrideHeight", std::int64_t{f.stride}).set("kStrideWidth", std::int64_t{f.stride});
  text.set("kDilationHeight", std::int64_t{1}).set("kDilationWidth", std::int64_t{1}).set("kPatchBuffers", std::int64_t{1});
  text.set("kPadTop", std::int64_t{f.pad[0]}).set("kPadLeft", std::int64_t{f.pad[1]});
  text.set("kInputAtOnce", std::int64_t{8}).set("kOutputAtOnce", std::int64_t{8}).set("kResidualAtOnce", std::int64_t{8});
  text.set("kInputPitch", std::int64_t{f.input_pitch}).set("kOutputPitch", std::int64_t{shape.output_pitch}).set("kResidualPitch", std::int64_t{shape.residual_pitch});
  for (const char* no : {"kScaled", "kPreActivated", "kLayerNorm", "kBulk", "kFloatOutput", "kPlaneOutput"}) text.set(no, false);
  text.set("kHasBias", true).set("kChunk", std::int64_t{g.chunk});
  text.set("kTileHeight", std::int64_t{tile.tile_height}).set("kTileWidth", std::int64_t{tile.tile_width}).set("kBlockN", std::int64_t{g.out_blocks} * 16);
  text.set("kWarpsM", std::int64_t{tile.warps_m}).set("kWarpsN", std::int64_t{1}).set("kWarpsK", std::int64_t{tile.warps_k});
  text.set("kExpandWarpsM", std::int64_t{g.expand_warps_m}).set("kRows", std::int64_t{tile.rows});
  text.set("kSplit", std::int64_t{1}).set("kCluster", false).set("kPasses", std::int64_t{tile.passes}).set("kPassBlocks", std::int64_t{g.pass_blocks});
  text.set("kExpandActivation", "scalar::PointwiseOp", operation(f.expand.activation)).set("kExpandAlpha", f.expand.alpha).set("kExpandBeta", f.expand.beta);
  text.set("kWindowActivation", "scalar::PointwiseOp", operation(f.epilogue.activation)).set("kWindowAlpha", f.epilogue.alpha).set("kWindowBeta", f.epilogue.beta);
  text.epilogue(shape.epilogue);
  text.set("kBlocksPerMultiprocessor", std::int64_t{blocks_per_multiprocessor(g, target)}).set("kSharedBytes", std::int64_t{g.shared_bytes});
  KernelSpec spec;
  spec.job = make_job(name, "kernels/inverted_residual_mma.cu", text.text(), target.arch);
  spec.entry = "inverted_residual_mma";
  spec.tile = tile_text(tile);
  spec.grid[0] = static_cast<std::uint32_t>(std::max(g.blocks, target.arch >= 90 ? target.multiprocessors : 0));
  spec.block[0] = static_cast<std::uint32_t>(g.threads);
  spec.shared_bytes = *shared;
  return spec;
}

std::vector<InvertedResidualMmaTile> rank_inverted_residual_mma_tiles(const InvertedResidualShape& shape, const ConvTarget& target, std::size_t limit) {
  std::vector<std::pair<double, InvertedResidualMmaTile>> all;
  const auto add_warps = [&](InvertedResidualMmaTile tile) {
    for (tile.warps_k = 1; tile.warps_k <= 8; tile.warps_k *= 2) {
      for (tile.warps_m = 1; tile.warps_m <= 4; tile.warps_m *= 2) {
        if (tile.warps_m * tile.warps_k < 4 || tile.warps_m * tile.warps_k > 16) continue;
        for (const std::int32_t passes : {1, 2, 3, 4, 6, 9, 12}) {
          tile.passes = passes;
          if (inverted_residual_mma_shared_bytes(shape, tile, target)) all.emplace_back(estimate(shape, tile, target), tile);
        }
      }
    }
  };
  for (const std::int32_t height : {1, 2, 3, 4, 5, 7, 8, 14}) {
    for (const std::int32_t width : {2, 3, 4, 5, 6, 7, 8, 10, 14, 16}) {
      if (height > shape.first.out_height || width > round_up(shape.first.out_width, 2) || height * width > 128) continue;
      for (const std::int32_t rows : {1, 2, 4}) {
        if (height % rows == 0) add_warps({height, width, 1, 1, rows, 1});
      }
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<InvertedResidualMmaTile> out;
  for (std::size_t i = 0; i < all.size() && out.size() < limit; ++i) out.push_back(all[i].second);
  return out;
}

}  // namespace edgert::codegen
