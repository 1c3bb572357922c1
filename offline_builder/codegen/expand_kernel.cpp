// SPDX-License-Identifier: Apache-2.0
#include "codegen/expand_kernel.h"

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
  std::int32_t threads, chunk, patch_height, patch_width, block_m, blocks_m, blocks_n, registers, shared_bytes, tiles, blocks;
};

Geometry geometry(const ExpandShape& s, const ExpandTile& t) {
  Geometry g = {};
  g.threads = 32 * t.warps_m * t.warps_n;
  g.chunk = round_up(s.channels, 16);
  g.patch_height = (t.tile_height - 1) * s.stride + s.window;
  g.patch_width = (t.tile_width - 1) * s.stride + s.window;
  const std::int32_t pixels = g.patch_height * g.patch_width;
  g.block_m = round_up(pixels, 16 * t.warps_m);
  g.blocks_m = g.block_m / t.warps_m / 16;
  g.blocks_n = t.block_n / t.warps_n / 16;
  const std::int32_t span = (t.strip - 1) * s.stride + s.window;
  g.shared_bytes = pixels * (2 * g.chunk + 16) + (g.block_m + span) * (2 * t.block_n + 16) + s.window * s.window * t.block_n * 2 +
                   (s.pool ? g.threads * 32 : 0);
  const std::int32_t pieces = divide_up(pixels * g.chunk / 8, g.threads);
  const std::int32_t first = g.chunk / 16 * g.blocks_n * 4 + g.blocks_n * 28 + pieces + g.blocks_m;
  const std::int32_t second = s.window * 8 + 8 + t.strip * 8 + 16;
  g.registers = 40 + std::max(first, second);
  g.tiles = divide_up(s.out_height, t.tile_height) * divide_up(s.out_width, t.tile_width);
  g.blocks = s.batch * g.tiles * divide_up(s.hidden, t.block_n);
  return g;
}

std::int32_t blocks_per_multiprocessor(const Geometry& g, const ConvTarget& target) {
  return g.registers * g.threads * 2 <= 65536 && g.shared_bytes * 2 <= target.shared_bytes ? 2 : 1;
}

std::string number(std::int64_t value) { return std::to_string(value); }

/// Microseconds, roughly; only the order matters.
double estimate(const ExpandShape& s, const ExpandTile& t, const ConvTarget& target) {
  const Geometry g = geometry(s, t);
  const double per_sm = std::ceil(double(g.blocks) / target.multiprocessors);
  const double warps = g.threads / 32.0;
  const double bandwidth = std::min(60.0, 24.0 * 132 / std::min(double(g.blocks), 132.0));
  const double input = 500 + g.patch_height * g.patch_width * g.chunk * 2.0 / bandwidth * per_sm;
  const double products = double(g.blocks_m) * g.blocks_n * 2 * g.chunk / 16;
  const double tensor = std::max(products * warps / 4 * 8 * per_sm, products * 18) + g.blocks_m * g.blocks_n * 60.0;
  const double outputs = double(t.tile_height) * t.tile_width * t.block_n / 8;
  const double span = ((t.strip - 1) * s.stride + s.window) / double(t.strip);
  const double work = s.window * (s.window * 8.0 + span * 9.0 + s.window * 9.0 / t.strip);  // instructions an output vector
  const double slide = std::max(outputs * work / 32 / 4 * per_sm, std::ceil(outputs / t.strip / g.threads) * t.strip * work * 2.5);
  const double crowded = blocks_per_multiprocessor(g, target) == 2 && per_sm == 1 ? 0 : 1000;
  return input + tensor + slide + 500 + crowded;
}

}  // namespace

bool expand_shape_is_valid(const ExpandShape& s) {
  constexpr std::int64_t kLimit = std::numeric_limits<std::int32_t>::max();
  if (s.batch < 1 || s.height < 1 || s.width < 1 || s.out_height < 1 || s.out_width < 1 || s.channels < 8 || s.channels > 256) return false;
  if (s.channels % 8 != 0 || s.hidden < 8 || s.hidden % 8 != 0 || s.hidden > 8192) return false;
  if ((s.window != 3 && s.window != 5) || s.stride < 1 || s.stride > 2 || s.pad[0] < 0 || s.pad[1] < 0 || s.pad[0] >= s.window || s.pad[1] >= s.window) return false;
  if (s.input_pitch < s.channels || s.input_pitch % 8 != 0 || s.output_pitch < s.hidden || s.output_pitch % 8 != 0) return false;
  if (s.expand.residual != scalar::ResidualMode::None || s.epilogue.residual != scalar::ResidualMode::None) return false;
  return std::int64_t{s.batch} * s.height * s.width <= kLimit / s.input_pitch && std::int64_t{s.batch} * s.out_height * s.out_width <= kLimit / s.output_pitch;
}

std::int32_t expand_tiles(const ExpandShape& shape, const ExpandTile& tile) { return geometry(shape, tile).tiles; }

std::optional<std::uint32_t> expand_shared_bytes(const ExpandShape& shape, const ExpandTile& t, const ConvTarget& target) {
  if (!expand_shape_is_valid(shape) || t.tile_height < 1 || t.tile_width < 1 || t.tile_height > 64 || t.tile_width > 64) return std::nullopt;
  if (t.warps_m < 1 || t.warps_n < 1 || t.warps_m * t.warps_n > 16 || t.strip < 1 || t.strip > 4) return std::nullopt;
  if (t.block_n < 16 || t.block_n > 128 || t.block_n % (16 * t.warps_n) != 0) return std::nullopt;
  const Geometry g = geometry(shape, t);
  if (g.threads % (t.block_n / 8) != 0 || g.shared_bytes > target.shared_bytes) return std::nullopt;
  if (g.registers > 220 || g.registers * g.threads > 65536) return std::nullopt;
  return static_cast<std::uint32_t>(g.shared_bytes);
}

ConvShape expand_conv_shape(const ExpandShape& shape) {
  ConvShape conv;
  conv.channels = shape.channels, conv.out_channels = shape.hidden;
  conv.element = shape.element;
  return conv;
}
WindowShape expand_window_shape(const ExpandShape& shape) {
  WindowShape window;
  window.channels = shape.hidden;
  window.kernel[0] = window.kernel[1] = shape.window;
  window.element = shape.element;
  return window;
}

KernelSpec make_expand(const ExpandShape& shape, const ExpandTile& tile, const ConvTarget& target) {
  const std::string name = "expand" + number(shape.window) + "s" + number(shape.stride) + "_" + number(shape.height) + "x" + number(shape.width) +
                           "x" + number(shape.channels) + "_" + number(shape.hidden) + (shape.pool ? "+pool" : "") + "_t" + number(tile.tile_height) + "x" +
                           number(tile.tile_width) + "_n" + number(tile.block_n) + "_w" + number(tile.warps_m) + number(tile.warps_n) + "_s" + number(tile.strip);
  const auto shared = expand_shared_bytes(shape, tile, target);
  if (!shared) throw CompileError(name + ": this tile does not fit the layer or the target");
  const Geometry g = geometry(shape, tile);
  ProblemText text(shape.element);
  text.define("EDGERT_ENTRY", "expand");
  text.set("kBatch", std::int64_t{shape.batch}).set("kHeight", std::int64_t{shape.height}).set("kWidth", std::int64_t{shape.width});
  text.set("kChannels", std::int64_t{shape.channels}).set("kHidden", std::int64_t{shape.hidden});
  text.set("kOutHeight", std::int64_t{shape.out_height}).set("kOutWidth", std::int64_t{shape.out_width}).set("kOutChannels", std::int64_t{shape.hidden});
  text.set("kWindow", std::int64_t{shape.window}).set("kStep", std::int64_t{shape.stride});
  for (const char* one : {"kKernelHeight", "kKernelWidth", "kStrideHeight", "kStrideWidth", "kDilationHeight", "kDilationWidth", "kWarpsK", "kPatchBuffers", "kSplit"}) {
    text.set(one, std::int64_t{1});
  }
  text.set("kPadTop", std::int64_t{shape.pad[0]}).set("kPadLeft", std::int64_t{shape.pad[1]});
  text.set("kInputAtOnce", std::int64_t{8}).set("kInputPitch", std::int64_t{shape.input_pitch}).set("kOutputPitch", std::int64_t{shape.output_pitch});
  text.set("kTileHeight", std::int64_t{g.patch_height}).set("kTileWidth", std::int64_t{g.patch_width});
  text.set("kOutTileHeight", std::int64_t{tile.tile_height}).set("kOutTileWidth", std::int64_t{tile.tile_width});
  text.set("kBlockN", std::int64_t{tile.block_n}).set("kChunk", std::int64_t{g.chunk}).set("kScaled", false).set("kPreActivated", false).set("kPool", shape.pool);
  text.set("kWarpsM", std::int64_t{tile.warps_m}).set("kWarpsN", std::int64_t{tile.warps_n}).set("kStrip", std::int64_t{tile.strip});
  text.set("kExpandActivation", "scalar::PointwiseOp", "static_cast<scalar::PointwiseOp>(" + number(static_cast<int>(shape.expand.activation)) + ")");
  text.set("kExpandAlpha", shape.expand.alpha).set("kExpandBeta", shape.expand.beta).epilogue(shape.epilogue);
  text.set("kBlocksPerMultiprocessor", std::int64_t{blocks_per_multiprocessor(g, target)}).set("kSharedBytes", std::int64_t{g.shared_bytes});
  KernelSpec spec;
  spec.job = make_job(name, "kernels/expand.cu", text.text(), target.arch);
  spec.entry = "expand";
  spec.tile = "tile " + number(tile.tile_height) + "x" + number(tile.tile_width) + "x" + number(tile.block_n) + " warps " + number(tile.warps_m) +
              "x" + number(tile.warps_n) + " strip " + number(tile.strip);
  spec.grid[0] = static_cast<std::uint32_t>(std::max(g.blocks, target.arch >= 90 ? target.multiprocessors : 0));
  spec.block[0] = static_cast<std::uint32_t>(g.threads);
  spec.shared_bytes = *shared;
  return spec;
}

std::vector<ExpandTile> rank_expand_tiles(const ExpandShape& shape, const ConvTarget& target, std::size_t limit) {
  std::vector<std::pair<double, ExpandTile>> all;
  for (const std::int32_t height : {1, 2, 4, 7, 8, 14, 16}) {
    for (const std::int32_t width : {4, 7, 8, 14, 16, 28}) {
      if (height > shape.out_height || width > round_up(shape.out_width, 4)) continue;
      for (const std::int32_t block_n : {16, 32, 64}) {
        if (block_n > round_up(shape.hidden, 16)) continue;
        for (const std::int32_t warps_n : {1, 2, 4}) {
          for (const std::int32_t strip : {1, 2}) {
            const ExpandTile tile = {height, width, block_n, 8 / warps_n, warps_n, strip};
            if (expand_shared_bytes(shape, tile, target)) all.emplace_back(estimate(shape, tile, target), tile);
          }
        }
      }
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ExpandTile> out;
  for (std::size_t i = 0; i < all.size() && out.size() < limit; ++i) out.push_back(all[i].second);
  return out;
}

}  // namespace edgert::codegen
