// SPDX-License-Identifier: Apache-2.0
#include "codegen/winograd_kernel.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "edgert/scalar/convert.h"

namespace edgert::codegen {
namespace {

constexpr std::int32_t kThreads = 512, kPositions = 32, kFrequencies = 16, kChunk = 32;

std::int32_t divide_up(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }

/// The sizes that follow from a shape and a tile; the kernel computes the same and compares the total.
struct Geometry {
  std::int32_t patch_bytes, patches, shared_bytes;
  std::int64_t blocks;
};

Geometry geometry(const ConvShape& shape, const WinogradTile& tile) {
  Geometry g = {};
  const std::int32_t rows = divide_up(shape.out_height, 2), columns = divide_up(shape.out_width, 2);
  const std::int32_t seams = divide_up(tile.rows - 1, rows);
  g.patch_bytes = (2 * tile.rows + 2 + 2 * seams) * (tile.columns + 1) * 128;
  g.patches = 3;
  const std::int32_t transformed = kFrequencies * kPositions * kChunk * 2;
  const std::int32_t sums = kFrequencies * kPositions * (tile.block_n * 2 + 16);
  g.shared_bytes = std::max(2 * transformed, sums) + g.patches * g.patch_bytes;
  const std::int64_t stacked = std::int64_t{shape.batch} * rows;
  g.blocks = (stacked + tile.rows - 1) / tile.rows * divide_up(columns, tile.columns) * divide_up(shape.out_channels, tile.block_n);
  return g;
}

bool tile_is_valid(const ConvShape& shape, const WinogradTile& tile, const ConvTarget& target) {
  if (tile.rows < 1 || tile.columns < 1 || tile.rows > kPositions || tile.columns > kPositions || tile.rows * tile.columns > kPositions) return false;
  if (tile.block_n != 16 && tile.block_n != 32 && tile.block_n != 64) return false;
  const Geometry g = geometry(shape, tile);
  return target.arch >= 80 && g.shared_bytes <= target.shared_bytes && g.blocks <= 0x7fffffff;
}

std::string number(std::int32_t value) { return std::to_string(value); }

std::string problem_text(const ConvShape& shape, const WinogradTile& tile, const Geometry& g) {
  ProblemText text(shape.element);
  text.define("EDGERT_ENTRY", "winograd");
  const std::pair<const char*, std::int32_t> numbers[] = {
      {"kBatch", shape.batch}, {"kHeight", shape.height}, {"kWidth", shape.width}, {"kChannels", shape.channels},
      {"kOutHeight", shape.out_height}, {"kOutWidth", shape.out_width}, {"kOutChannels", shape.out_channels},
      {"kPadTop", shape.pad[0]}, {"kPadLeft", shape.pad[1]},
      {"kInputPitch", shape.input_pitch}, {"kOutputPitch", shape.output_pitch}, {"kResidualPitch", shape.residual_pitch},
      {"kTileRows", tile.rows}, {"kTileColumns", tile.columns}, {"kBlockN", tile.block_n},
      {"kPatches", g.patches}, {"kSharedBytes", g.shared_bytes}};
  for (const auto& [name, value] : numbers) text.set(name, std::int64_t{value});
  text.set("kHasBias", shape.bias).epilogue(shape.epilogue);
  return text.text();
}

}  // namespace

bool winograd_takes(const ConvShape& s) {
  const bool plain = !s.image && !s.layer_norm && !s.scaled && !s.pre_activated && !s.plane_output && s.groups == 1 && s.shortcut.channels == 0 &&
                     s.output_image_pixels == 0;
  const bool threes = s.kernel[0] == 3 && s.kernel[1] == 3 && s.stride[0] == 1 && s.stride[1] == 1 && s.dilation[0] == 1 && s.dilation[1] == 1;
  const bool residual = s.epilogue.residual == scalar::ResidualMode::None || s.residual_at_once == 8;
  return plain && threes && s.element == ElementType::F16 && s.channels % 16 == 0 && s.out_channels % 8 == 0 && s.input_at_once == 8 &&
         s.output_at_once == 8 && residual;
}

KernelSpec make_winograd(const ConvShape& shape, const WinogradTile& tile, const ConvTarget& target) {
  const std::string name = "winograd_" + number(shape.height) + "x" + number(shape.width) + "x" + number(shape.channels) + "_" +
                           number(shape.out_channels) + "_t" + number(tile.rows) + "x" + number(tile.columns) + "_n" + number(tile.block_n);
  if (!winograd_takes(shape) || !tile_is_valid(shape, tile, target)) throw CompileError(name + ": this tile does not fit the layer or the target");
  const Geometry g = geometry(shape, tile);
  KernelSpec spec;
  spec.job = make_job(name, "kernels/winograd.cu", problem_text(shape, tile, g), target.arch);
  spec.entry = "winograd";
  spec.tile = "tile " + number(2 * tile.rows) + "x" + number(2 * tile.columns) + "x" + number(tile.block_n);
  spec.grid[0] = static_cast<std::uint32_t>(std::min<std::int64_t>(g.blocks, target.multiprocessors));
  spec.block[0] = kThreads;
  spec.shared_bytes = static_cast<std::uint32_t>(g.shared_bytes);
  return spec;
}

std::vector<std::uint16_t> pack_winograd_weights(const ConvShape& shape, const float* weights) {
  static constexpr double kG[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  const std::int64_t filters = std::int64_t{shape.out_channels} * shape.channels;
  ConvShape packed = shape;
  packed.channels = divide_up(shape.channels, kChunk) * kChunk, packed.out_channels = divide_up(shape.out_channels, 64) * 64;
  packed.kernel[0] = packed.kernel[1] = 4;
  std::vector<float> transformed(static_cast<std::size_t>(packed.out_channels) * static_cast<std::size_t>(packed.channels) * 16);
  for (std::int64_t f = 0; f < filters; ++f) {
    const float* w = weights + f * 9;
    float* to = transformed.data() + (f / shape.channels * packed.channels + f % shape.channels) * 16;
    for (int i = 0; i < 4; ++i) {
      double down[3] = {};
      for (int column = 0; column < 3; ++column) {
        for (int row = 0; row < 3; ++row) down[column] += kG[i][row] * double{w[row * 3 + column]};
      }
      for (int j = 0; j < 4; ++j) {
        const double sum = kG[j][0] * down[0] + kG[j][1] * down[1] + kG[j][2] * down[2];
        to[i * 4 + j] = scalar::narrow_to_odd(sum);
      }
    }
  }
  return pack_conv_weights(packed, transformed.data());
}

bool are_finite_halves(const std::vector<std::uint16_t>& halves) {
  return std::all_of(halves.begin(), halves.end(), [](std::uint16_t bits) { return (bits & 0x7c00u) != 0x7c00u; });
}

namespace {

/// Microseconds of the busiest multiprocessor, which has one block at a time; fitted to 40 layers on an H200, whole and
/// confined to 16 multiprocessors.
double estimate(const ConvShape& shape, const WinogradTile& tile, const ConvTarget& target) {
  const double steps = divide_up(shape.channels, kChunk), n = tile.block_n / 64.0;
  const double cycles = steps * (1130 + 760 * n) + 4200 + 1200 * n;
  return std::ceil(double(geometry(shape, tile).blocks) / target.multiprocessors) * cycles / 1900;
}

}  // namespace

std::vector<WinogradEstimate> rank_winograd_tiles(const ConvShape& shape, const ConvTarget& target, std::size_t limit) {
  std::vector<WinogradEstimate> all;
  if (!winograd_takes(shape)) return all;
  const std::int32_t columns = divide_up(shape.out_width, 2);
  for (std::int32_t wide = 1; wide <= std::min(kPositions, columns); ++wide) {
    for (const std::int32_t block_n : {32, 64}) {
      const WinogradTile tile = {kPositions / wide, wide, block_n};
      if (block_n > (shape.out_channels + 15) / 16 * 16 || !tile_is_valid(shape, tile, target)) continue;
      all.push_back({tile, estimate(shape, tile, target)});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.microseconds < b.microseconds; });
  if (all.size() > limit) all.resize(limit);
  return all;
}

}  // namespace edgert::codegen
