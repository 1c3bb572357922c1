// SPDX-License-Identifier: Apache-2.0
#include "codegen/inverted_residual_kernel.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace edgert::codegen {

namespace {

std::int32_t divide_up(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }
std::int32_t round_up(std::int32_t a, std::int32_t b) { return divide_up(a, b) * b; }

/// The kernel computes the same and compares the total.
struct Geometry {
  std::int32_t warps, threads, chunk, patch_height, patch_columns, patch_pixels, own_blocks, out_blocks;
  std::int32_t expand_warps_m, expand_blocks_m, expand_blocks_n;  // warps along pixels; 16x16 blocks: all along pixels, of a warp along channels
  std::int32_t block_m, block_n, blocks_m, blocks_n, units;       // of the narrowing product
  std::int32_t registers, shared_bytes, tiles, blocks;
};

/// How warps share the widening product: evenly, and with few weights to hold.
void share_expansion(Geometry& g) {
  std::int32_t best = std::numeric_limits<std::int32_t>::max();
  for (std::int32_t m = 1; m <= g.warps; ++m) {
    if (g.warps % m != 0) continue;
    const std::int32_t blocks_n = divide_up(g.own_blocks, g.warps / m);
    const std::int32_t held = blocks_n * (g.chunk / 16) * 4;
    const std::int32_t rounds = divide_up(g.expand_blocks_m, m);
    const std::int32_t cost = rounds * blocks_n * 8 + rounds + (held > 96 ? 1 << 20 : 0);
    if (cost >= best) continue;
    best = cost, g.expand_warps_m = m, g.expand_blocks_n = blocks_n;
  }
}

Geometry geometry(const InvertedResidualShape& s, const InvertedResidualTile& t) {
  const ExpandShape& f = s.first;
  Geometry g = {};
  g.warps = t.warps_m * t.warps_n * t.warps_k;
  g.threads = 32 * g.warps;
  g.chunk = round_up(f.channels, 16);
  g.patch_height = (t.tile_height - 1) * f.stride + f.window;
  g.patch_columns = round_up((t.tile_width - 1) * f.stride + f.window, f.stride);
  g.patch_pixels = g.patch_height * g.patch_columns;
  g.own_blocks = divide_up(divide_up(f.hidden, 16), t.split);
  g.out_blocks = divide_up(s.out_channels, 16);
  g.expand_blocks_m = divide_up(g.patch_pixels, 16);
  share_expansion(g);
  g.block_m = round_up(t.tile_height * t.tile_width, 16 * t.warps_m);
  g.block_n = round_up(s.out_channels, 16 * t.warps_n);
  g.blocks_m = g.block_m / t.warps_m / 16;
  g.blocks_n = g.block_n / t.warps_n / 16;
  g.units = g.block_m * g.block_n / 8;
  const std::int32_t units = divide_up(g.units / (t.cluster ? t.split : 1), g.threads);
  const std::int32_t finish = 10 + units * (s.epilogue.residual != scalar::ResidualMode::None ? 5 : 1);
  const std::int32_t pieces = divide_up(g.patch_pixels * g.chunk / 8, g.threads);
  const std::int32_t widen = s.widens ? g.expand_blocks_n * (g.chunk / 16 * 4 + 12) + 8 : 0;
  const std::int32_t slide = f.window * t.vector + (t.strip + 1) * t.vector + 12 + finish;
  const std::int32_t narrow = g.blocks_m * g.blocks_n * 8 + 2 * (g.blocks_m + g.blocks_n) * 4 + finish;
  g.registers = 36 + std::max({widen + pieces + finish, slide, narrow});
  const std::int32_t pitch = g.own_blocks * 32 + 16;
  const std::int32_t hidden = (s.widens ? g.patch_pixels * (2 * g.chunk + 16) : 0) + (s.widens ? g.expand_blocks_m * 16 : g.patch_pixels) * pitch;
  const std::int32_t sums = t.warps_k * g.block_m * (g.block_n + 8) * 4;
  g.shared_bytes = std::max(hidden, sums) + t.tile_height * t.tile_width * pitch + (t.cluster ? g.units * 32 + 16 : 0) +
                   g.own_blocks * g.out_blocks * 512 + (f.window * f.window + 1) * g.own_blocks * 64;
  g.tiles = f.batch * divide_up(f.out_height, t.tile_height) * divide_up(f.out_width, t.tile_width);
  g.blocks = g.tiles * t.split;
  return g;
}

std::int32_t blocks_per_multiprocessor(const Geometry& g, const ConvTarget& target) {
  return g.registers * g.threads * 2 <= 65536 && g.shared_bytes * 2 <= target.shared_bytes ? 2 : 1;
}

std::string number(std::int64_t value) { return std::to_string(value); }

std::string tile_text(const InvertedResidualTile& t) {
  return "tile " + number(t.tile_height) + "x" + number(t.tile_width) + " warps " + number(t.warps_m) + "x" + number(t.warps_n) + "x" + number(t.warps_k) +
         " strip " + number(t.strip) + "x" + number(t.vector) + (t.split > 1 ? " split " + number(t.split) : "") + (t.cluster ? " cluster" : "");
}

/// Cycles of a block, roughly; only the order matters.
double estimate(const InvertedResidualShape& s, const InvertedResidualTile& t, const ConvTarget& target) {
  const Geometry g = geometry(s, t);
  const ExpandShape& f = s.first;
  // Clusters of more than two leave some multiprocessors idle.
  const std::int32_t at_once = t.cluster && t.split > 2 ? target.multiprocessors * 7 / 8 : target.multiprocessors;
  const double per_sm = std::ceil(double(g.blocks) / at_once);
  const double bandwidth = std::min(60.0, 24.0 * 132 / std::min(double(g.blocks), 132.0));  // bytes a cycle and block
  const double input = 600 + g.patch_pixels * g.chunk * 2.0 / bandwidth * per_sm;
  double widen = 0;
  if (s.widens) {
    const double rounds = divide_up(g.expand_blocks_m, g.expand_warps_m), steps = g.chunk / 16;
    const double products = rounds * g.expand_blocks_n * 2 * steps;  // of a warp
    const double finish = rounds * g.expand_blocks_n * 8 * 12;       // instructions of a warp for bias, activation, storing
    widen = std::max(products * g.warps * 2 * per_sm, products * 12 + rounds * 40) + std::max(finish * g.warps / 4 * per_sm, finish * 2) + 40;
  }
  const double items = double(t.tile_height) * t.tile_width / t.strip * g.own_blocks * 16 / t.vector;
  const double span = (t.strip - 1) * f.stride + f.window;
  const double work = f.window * (f.window * (t.vector / 4.0) + span * (1 + t.vector) + f.window * t.strip * t.vector) + t.strip * t.vector * 5 + 30;
  const double slide = std::max(items / 32 * work / 4 * per_sm, std::ceil(items / g.threads) * work * 2) + 40;
  const double steps = std::ceil(double(g.own_blocks) / t.warps_k);
  const double products = steps * g.blocks_m * g.blocks_n * 2;
  const double narrow = std::max({products * g.warps * 2 * per_sm, products * 12, steps * 25}) + 40;
  const double units = double(g.units) / g.threads;
  const double end = 250 + units * (60 + 25 * t.warps_k);
  const double combine = t.split == 1 ? 0 : t.cluster ? 900 + 100 * t.split + units * 60 : 2800 + units * t.split * 40;
  const double weights = g.own_blocks * 16.0 * 2 * ((s.widens ? g.chunk : 0) + s.out_channels) + f.window * f.window * g.own_blocks * 64.0;
  const double early = 0.25 * weights / bandwidth * per_sm;  // hidden behind the previous kernel in part
  const double crowded = blocks_per_multiprocessor(g, target) == 2 && per_sm == 1 ? 0 : 1000;
  return input + widen + slide + narrow + end + combine + early + crowded;
}

}  // namespace

bool inverted_residual_shape_is_valid(const InvertedResidualShape& s) {
  constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
  const ExpandShape& f = s.first;
  if (f.batch < 1 || f.height < 1 || f.width < 1 || f.out_height < 1 || f.out_width < 1 || f.channels < 8 || f.channels % 8 != 0) return false;
  if (f.hidden < 8 || f.hidden % 8 != 0 || f.hidden > 8192 || f.channels > (s.widens ? 512 : 8192) || (!s.widens && f.channels != f.hidden)) return false;
  if ((f.window != 3 && f.window != 5) || f.stride < 1 || f.stride > 2 || f.pad[0] < 0 || f.pad[1] < 0 || f.pad[0] >= f.window || f.pad[1] >= f.window) return false;
  if (s.out_channels < 8 || s.out_channels % 8 != 0 || s.out_channels > 1024) return false;
  if (f.input_pitch < f.channels || f.input_pitch % 8 != 0 || s.output_pitch < s.out_channels || s.output_pitch % 8 != 0) return false;
  const bool residual = s.epilogue.residual != scalar::ResidualMode::None;
  if (residual && (s.residual_pitch < s.out_channels || s.residual_pitch % 8 != 0)) return false;
  if (f.expand.residual != scalar::ResidualMode::None || f.epilogue.residual != scalar::ResidualMode::None) return false;
  const std::int32_t pitch = std::max(s.output_pitch, residual ? s.residual_pitch : 8);
  return std::int64_t{f.batch} * f.height * f.width <= kLimit / f.input_pitch && std::int64_t{f.batch} * f.out_height * f.out_width <= kLimit / pitch;
}

std::optional<std::uint32_t> inverted_residual_shared_bytes(const InvertedResidualShape& shape, const InvertedResidualTile& t, const ConvTarget& target) {
  if (!inverted_residual_shape_is_valid(shape) || t.tile_height < 1 || t.tile_width < 1 || t.tile_height > 32 || t.tile_width > 32) return std::nullopt;
  if (t.warps_m < 1 || t.warps_n < 1 || t.warps_k < 1 || t.warps_m > 16 || t.warps_n > 16 || t.warps_k > 16 || t.warps_m * t.warps_n * t.warps_k > 16) return std::nullopt;
  if (t.split < 1 || t.split > 64 || (t.vector != 4 && t.vector != 8) || (t.strip != 1 && t.strip != 2 && t.strip != 4) || t.tile_width % t.strip != 0) return std::nullopt;
  const Geometry g = geometry(shape, t);
  if (g.expand_blocks_n * (g.chunk / 16) * 4 > 96 && shape.widens) return std::nullopt;
  if (g.threads % (g.block_n / 8) != 0 || g.registers > 220 || g.registers * g.threads > 65536) return std::nullopt;
  if (t.split > 1 && (!shape.widens || (t.split - 1) * g.own_blocks >= divide_up(shape.first.hidden, 16))) return std::nullopt;  // a part without work
  if (t.cluster && (target.arch < 90 || t.split < 2 || t.split > 8 || g.units % t.split != 0)) return std::nullopt;
  if (g.shared_bytes > target.shared_bytes) return std::nullopt;
  return static_cast<std::uint32_t>(g.shared_bytes);
}

std::vector<std::uint16_t> pack_inverted_residual_weights(const InvertedResidualShape& shape, const float* widening, const float* narrowing) {
  ConvShape narrow;
  narrow.channels = shape.first.hidden, narrow.out_channels = shape.out_channels;
  narrow.element = shape.first.element;
  std::vector<std::uint16_t> packed;
  if (shape.widens) packed = pack_conv_weights(expand_conv_shape(shape.first), widening);
  const std::vector<std::uint16_t> last = pack_conv_weights(narrow, narrowing);
  packed.insert(packed.end(), last.begin(), last.end());
  return packed;
}

std::vector<float> pack_inverted_residual_floats(const InvertedResidualShape& shape, const float* window, const float* widening_bias, const float* window_bias,
                                                 const float* narrowing_bias) {
  const std::int32_t taps = shape.first.window * shape.first.window;
  std::vector<float> packed;
  const auto append = [&](const float* from, std::int32_t step, std::int32_t count) {
    for (std::int32_t c = 0; c < round_up(count, 16); ++c) packed.push_back(from == nullptr || c >= count ? 0.0f : from[c * step]);
  };
  for (std::int32_t tap = 0; tap < taps; ++tap) append(window + tap, taps, shape.first.hidden);
  append(window_bias, 1, shape.first.hidden);
  if (shape.widens) append(widening_bias, 1, shape.first.hidden);
  append(narrowing_bias, 1, shape.out_channels);
  return packed;
}

KernelSpec make_inverted_residual(const InvertedResidualShape& shape, const InvertedResidualTile& tile, const ConvTarget& target) {
  const ExpandShape& f = shape.first;
  const std::string name = std::string(shape.widens ? "inverted_residual" : "separable") + number(f.window) + "s" + number(f.stride) + "_" + number(f.height) + "x" +
                           number(f.width) + "x" + number(f.channels) + "_" + number(f.hidden) + "_" + number(shape.out_channels) + " " + tile_text(tile);
  const auto shared = inverted_residual_shared_bytes(shape, tile, target);
  if (!shared) throw CompileError(name + ": this tile does not fit the block or the target");
  const Geometry g = geometry(shape, tile);
  const auto operation = [](scalar::PointwiseOp op) { return "static_cast<scalar::PointwiseOp>(" + number(static_cast<int>(op)) + ")"; };
  ProblemText text(f.element);
  text.define("EDGERT_ENTRY", "inverted_residual");
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
  text.set("kTileHeight", std::int64_t{tile.tile_height}).set("kTileWidth", std::int64_t{tile.tile_width}).set("kBlockN", std::int64_t{g.block_n});
  text.set("kWarpsM", std::int64_t{tile.warps_m}).set("kWarpsN", std::int64_t{tile.warps_n}).set("kWarpsK", std::int64_t{tile.warps_k});
  text.set("kExpandWarpsM", std::int64_t{g.expand_warps_m}).set("kStrip", std::int64_t{tile.strip}).set("kVector", std::int64_t{tile.vector});
  text.set("kSplit", std::int64_t{tile.split}).set("kCluster", tile.cluster);
  text.set("kExpandActivation", "scalar::PointwiseOp", operation(f.expand.activation)).set("kExpandAlpha", f.expand.alpha).set("kExpandBeta", f.expand.beta);
  text.set("kWindowActivation", "scalar::PointwiseOp", operation(f.epilogue.activation)).set("kWindowAlpha", f.epilogue.alpha).set("kWindowBeta", f.epilogue.beta);
  text.epilogue(shape.epilogue);
  text.set("kBlocksPerMultiprocessor", std::int64_t{blocks_per_multiprocessor(g, target)}).set("kSharedBytes", std::int64_t{g.shared_bytes});
  KernelSpec spec;
  spec.job = make_job(name, "kernels/inverted_residual.cu", text.text(), target.arch);
  spec.entry = "inverted_residual";
  spec.tile = tile_text(tile);
  const std::int32_t filled = target.multiprocessors / tile.split * tile.split;
  spec.grid[0] = static_cast<std::uint32_t>(std::max(g.blocks, target.arch >= 90 ? filled : 0));
  spec.block[0] = static_cast<std::uint32_t>(g.threads);
  spec.cluster = static_cast<std::uint32_t>(tile.cluster ? tile.split : 1);
  spec.shared_bytes = *shared;
  if (tile.split > 1 && !tile.cluster) {
    spec.counters = static_cast<std::uint32_t>(g.tiles);
    spec.workspace_bytes = static_cast<std::uint64_t>(g.blocks) * static_cast<std::uint64_t>(g.units) * 32;
  }
  return spec;
}

std::vector<InvertedResidualTile> rank_inverted_residual_tiles(const InvertedResidualShape& shape, const ConvTarget& target, std::size_t limit) {
  std::vector<std::pair<double, InvertedResidualTile>> all;
  const auto add_warps = [&](InvertedResidualTile tile) {
    for (const std::int32_t warps_n : {1, 2, 3, 4, 5}) {
      if (warps_n > divide_up(shape.out_channels, 16)) continue;
      for (const std::int32_t warps_k : {1, 2, 4, 8}) {
        for (const std::int32_t warps_m : {1, 2, 4}) {
          const std::int32_t warps = warps_m * warps_n * warps_k;
          if (warps < 4 || warps > 16) continue;
          tile.warps_m = warps_m, tile.warps_n = warps_n, tile.warps_k = warps_k;
          if (inverted_residual_shared_bytes(shape, tile, target)) all.emplace_back(estimate(shape, tile, target), tile);
        }
      }
    }
  };
  for (const std::int32_t height : {1, 2, 3, 4, 5, 7, 8, 14}) {
    for (const std::int32_t width : {2, 3, 4, 5, 6, 7, 8, 10, 14, 16}) {
      if (height > shape.first.out_height || width > round_up(shape.first.out_width, 2) || height * width > 128) continue;
      for (const std::int32_t split : {1, 2, 4, 8}) {
        for (const bool cluster : {false, true}) {
          if ((split == 1 && cluster) || (split > 1 && !cluster && target.arch >= 90)) continue;
          for (const std::int32_t strip : {1, 2, 4}) {
            for (const std::int32_t vector : {4, 8}) {
              if (width % strip == 0) add_warps({height, width, 1, 1, 1, split, cluster, strip, vector});
            }
          }
        }
      }
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<InvertedResidualTile> out;
  for (std::size_t i = 0; i < all.size() && out.size() < limit; ++i) out.push_back(all[i].second);
  return out;
}

}  // namespace edgert::codegen
