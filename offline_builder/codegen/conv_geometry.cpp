// SPDX-License-Identifier: Apache-2.0
#include "codegen/conv_geometry.h"

#include <algorithm>

namespace edgert::codegen {

std::int32_t stem_pixel_channels(const ConvShape& shape) { return shape.channels <= 4 && (shape.stride[1] % 2 == 0 || is_wide(shape.element)) ? 4 : 8; }
std::int32_t stem_chunk(const ConvShape& shape) { return round_up(shape.kernel[1] * stem_pixel_channels(shape) * (is_wide(shape.element) ? 2 : 1), 16); }

std::int32_t shortcut_taps(const ConvShape& shape) { return divide_up(shape.shortcut.channels, shape.channels); }

std::int32_t scale_rows(const ConvShape& shape) { return shape.pre_activated ? 2 : shape.scaled ? 1 : 0; }

namespace {

void add_patch(const ConvShape& shape, const ConvTile& tile, Geometry& g) {
  if (shape.image) {
    const std::int32_t pixel = stem_pixel_channels(shape);
    const std::int32_t height = (tile.tile_height - 1) * shape.stride[0] + shape.kernel[0];
    const std::int32_t bytes = (is_wide(shape.element) ? 4 : 2) * pixel;
    const bool apart = shape.kernel[1] <= shape.stride[1] && shape.stride[1] * bytes % 32 == 0;
    const std::int32_t group = shape.stride[1] + (apart ? 16 / bytes : 0);
    const std::int32_t columns = round_up((tile.tile_width - 1) * group + shape.kernel[1], 8);
    g.patch_pixels = height * columns + divide_up(2 * tile.chunk, bytes);
    g.patch_bytes = round_up(g.patch_pixels * bytes, 16);
    return;
  }
  std::int32_t extent[2];
  for (int d = 0; d < 2; ++d) {
    const std::int32_t inner = shape.kernel[d] == 1 ? 1 : shape.stride[d];
    const std::int32_t outputs = d == 0 ? tile.tile_height : tile.tile_width;
    extent[d] = (outputs - 1) * inner + (shape.kernel[d] - 1) * shape.dilation[d] + 1;
    if (d == 1) extent[d] = round_up(extent[d], inner);
  }
  g.patch_pixels = extent[0] * extent[1];
  g.patch_bytes = (g.patch_pixels + scale_rows(shape)) * (2 * tile.chunk + 16);
  // A shortcut's pixels lie at the distances of the patch's.
  const std::int32_t inner = shape.kernel[0] == 1 ? 1 : shape.stride[0];
  g.patch_bytes += shortcut_taps(shape) * ((tile.tile_height - 1) * inner * extent[1] + tile.tile_width) * (2 * tile.chunk + 16);
  g.patch_pixels += shortcut_taps(shape) * tile.tile_height * tile.tile_width;
}

/// Registers beside sums and weights: addresses, bias, residual, a fragment of the input or two for each 16 rows.
std::int32_t other_registers(const ConvShape& shape, const ConvTile& tile, const Geometry& g) {
  const std::int32_t pieces = divide_up(shape.image ? g.patch_pixels : g.patch_pixels * tile.chunk / 8, g.threads);
  std::int32_t units = divide_up(g.units / (tile.cluster ? tile.split : 1), g.threads);
  if (units > 8) units = 0;  // found when registers are free again
  const bool residual = shape.epilogue.residual != scalar::ResidualMode::None;
  const std::int32_t norm = shape.layer_norm ? 12 + 3 * divide_up(g.block_m * std::min(8, tile.chunk / 8), g.threads) : 0;
  const std::int32_t rows = 4 * (g.block_m / tile.warps_m / 16);
  const std::int32_t own = 40 + norm + 4 * scale_rows(shape) + (shape.image ? 2 : 1) * pieces + units * (residual ? (is_wide(shape.element) ? 9 : 5) : 1) + rows;
  return own + (shape.element == ElementType::TF32 ? 64 : shape.element == ElementType::F32 ? 2 * rows : 0);
}

/// Stages that a chunk's items are multiplied in, where weights go through a ring: of up to four items, whole taps or
/// parts of one.
std::int32_t stages_of_chunk(const ConvTile& tile, const Geometry& g) {
  const std::int32_t steps = tile.chunk / 16 / tile.warps_k;
  for (std::int32_t items = std::min(4, g.items); items > 1; --items) {
    if (g.items % items == 0 && (items % steps == 0 || steps % items == 0)) return g.items / items;
  }
  return g.items;
}

/// Vectors of 1, 2, 4 or 8 elements that lie where they may be moved at once.
bool moves_at_once(std::int32_t count, std::int32_t pitch) { return (count == 1 || count == 2 || count == 4 || count == 8) && pitch % count == 0; }

/// Of kernels/conv_group.cu.
Geometry group_geometry(const ConvShape& shape, const ConvTile& tile) {
  Geometry g = {};
  g.threads = 32 * tile.warps_m * tile.warps_n;
  g.taps = g.stages = g.held = 1;
  g.channels = shape.channels;
  g.chunks = divide_up(g.channels, 64);
  g.chunks_per_split = divide_up(g.chunks, tile.split);
  g.block_m = g.patch_pixels = tile.tile_width;
  g.items = 4;
  g.units = g.block_m * tile.block_n / 8;
  g.patch_bytes = g.block_m * 128;
  g.weight_slots = tile.weight_stages;
  g.buffers = 2;
  const bool residual = shape.epilogue.residual != scalar::ResidualMode::None;
  const std::int32_t units = divide_up(g.units / (tile.cluster ? tile.split : 1), g.threads);
  g.registers = 64 + tile.block_n / tile.warps_n / 2 + (units > 8 ? 0 : units * (residual ? 5 : 1)) + (shape.layer_norm ? 12 + 3 * divide_up(g.block_m * 8, g.threads) : 0);
  g.tiles = divide_up(shape.out_width, tile.tile_width);
  g.blocks = g.tiles * divide_up(shape.out_channels, tile.block_n) * tile.split;
  const std::int32_t ring = 1024 + tile.weight_stages * (g.block_m + tile.block_n) * 128;
  const std::int32_t planes = g.block_m * (tile.block_n + 8) * 4;
  const std::int32_t parts = tile.cluster ? g.units * 32 : 0;
  g.shared_bytes = std::max(ring - parts, planes) + parts + (tile.cluster ? 16 : 0) + (shape.layer_norm ? g.block_m * 8 : 0) + tile.weight_stages * 8;
  return g;
}

bool group_tile_is_valid(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) {
  const bool product = shape.out_height == 1 && shape.height == 1 && shape.kernel[0] == 1 && shape.kernel[1] == 1 && shape.stride[1] == 1 && shape.pad[1] == 0 &&
                       shape.width == shape.out_width && shape.batch == 1 && shape.groups == 1 && shape.shortcut.channels == 0;
  if (target.arch != 90 || !target.own_features || !product || shape.image || shape.plane_output || scale_rows(shape) > 0 || is_wide(shape.element)) return false;
  if (shape.input_at_once < 8 || shape.input_pitch % 8 != 0 || shape.channels < 192 || shape.channels % 8 != 0) return false;
  if (shape.layer_norm && (tile.split != 1 || !shape.bias)) return false;
  if (tile.tile_height != 1 || tile.chunk != 64 || tile.warps_k != 1 || tile.warps_m % 4 != 0 || tile.tile_width != 16 * tile.warps_m) return false;
  if (tile.block_n % (16 * tile.warps_n) != 0 || tile.block_n / tile.warps_n < 32 || tile.block_n / tile.warps_n > 256) return false;
  if (tile.bulk || tile.share_rows != 1 || tile.shared_weights || tile.weight_stages < 3) return false;
  const Geometry g = group_geometry(shape, tile);
  if (g.threads > 512 || g.threads < tile.block_n / 8 || tile.tile_width % (g.threads / 8) != 0 || g.registers * g.threads > 65536 || g.registers > 240) return false;
  if (tile.cluster && (tile.split < 2 || tile.split > 8 || g.units % tile.split != 0)) return false;
  // A thread's units share their channels among splits too.
  if (tile.cluster && g.units / tile.split % (tile.block_n / 8) != 0) return false;
  return (tile.split - 1) * g.chunks_per_split < g.chunks && g.shared_bytes <= target.shared_bytes;
}

}  // namespace

Geometry geometry(const ConvShape& shape, const ConvTile& tile) {
  if (tile.groups_of_warps) return group_geometry(shape, tile);
  Geometry g = {};
  g.threads = 32 * tile.warps_m * tile.warps_n * tile.warps_k;
  g.taps = shape.image ? shape.kernel[0] : shape.kernel[0] * shape.kernel[1] + shortcut_taps(shape);
  g.channels = shape.image ? stem_chunk(shape) : shape.channels / shape.groups;
  g.chunks = divide_up(g.channels, tile.chunk);
  g.chunks_per_split = divide_up(g.chunks, tile.split);
  g.block_m = round_up(tile.tile_height * tile.tile_width, 16 * tile.warps_m);
  g.items = g.taps * (tile.chunk / 16 / tile.warps_k);
  g.units = g.block_m * tile.block_n / 8;
  add_patch(shape, tile, g);
  const std::int32_t blocks_n = tile.block_n / tile.warps_n / 16;
  const std::int32_t fixed = other_registers(shape, tile, g) + g.block_m / tile.warps_m / 16 * blocks_n * 8;
  // As many items' weights as leave room for two blocks a multiprocessor, or as a thread may have; in equal rounds where
  // there is more than one chunk.
  std::int32_t room = std::min(65536 / (2 * g.threads), 204) - fixed;
  if (room < 24) room = std::min(65536 / g.threads, 204) - fixed;
  g.held = std::max(1, std::min(g.items, room / (4 * blocks_n)));
  while (g.chunks_per_split > 1 && g.items % g.held != 0) --g.held;
  if (shape.element == ElementType::F32) g.held = 1;
  g.stages = 1;
  g.ring = tile.weight_stages > 0;
  if (tile.shared_weights) {
    if (g.ring) g.stages = stages_of_chunk(tile, g);
    if (tile.weight_stages >= g.chunks_per_split * g.stages) g.stages = 1;
    g.weight_slots = g.ring ? std::min(tile.weight_stages, g.chunks_per_split * g.stages) : g.chunks_per_split;
    g.held = g.items / g.stages > 1 ? 2 : 1;
  }
  g.registers = fixed + 4 * blocks_n * g.held;
  // Unrolled taps keep addresses, but no more than there is room for.
  if (g.ring && g.taps > 1) g.registers = std::max(g.registers, std::min(g.registers + 40, 255));
  g.buffers = std::min(tile.buffers, g.chunks_per_split);
  g.tiles = shape.batch * divide_up(shape.out_height, tile.tile_height) * divide_up(shape.out_width, tile.tile_width);
  g.blocks = g.tiles * divide_up(shape.out_channels, tile.block_n) * tile.split;
  // Exact kernels bring a chunk's weights with its patch.
  const std::int32_t weights_bytes = shape.element == ElementType::F32 ? g.taps * tile.chunk / 2 * tile.block_n * 4 : 0;
  std::int64_t ring = round_up(g.buffers * (g.patch_bytes + weights_bytes), 16);
  if (tile.shared_weights) ring += std::int64_t{g.weight_slots} * (g.items / g.stages) * tile.warps_k * tile.block_n * 32;
  const std::int32_t planes = tile.warps_k * g.block_m * (tile.block_n + 8) * 4;
  g.shared_bytes = round_up(std::max(static_cast<std::int32_t>(std::min<std::int64_t>(ring, 1 << 30)), planes), 16) + (tile.cluster ? g.units * 32 + 16 : 0) +
                   (shape.layer_norm ? g.block_m * 8 : 0);
  if (tile.bulk) g.shared_bytes += g.buffers * 8;
  return g;
}

std::int32_t blocks_per_multiprocessor(const Geometry& g, const ConvTarget& target) {
  for (std::int32_t blocks = 4; g.ring && blocks > 2; --blocks) {
    if (g.registers * g.threads * blocks <= 65536 && g.shared_bytes * blocks <= target.shared_bytes) return blocks;
  }
  return g.registers * g.threads * 2 <= 65536 && g.shared_bytes * 2 <= target.shared_bytes ? 2 : 1;
}

std::int32_t resident_blocks(const Geometry& g, const ConvTarget& target) {
  const std::int32_t by_registers = 65536 / (std::max(g.registers, 32) * g.threads);
  const std::int32_t by_shared = (target.shared_bytes + 1024) / (g.shared_bytes + 1024);
  return std::max(1, std::min({by_registers, by_shared, 4}));
}

bool tile_is_valid(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) {
  if (!shape.image && (shape.input_at_once < 2 || !moves_at_once(shape.input_at_once, shape.input_pitch))) return false;
  if (!moves_at_once(shape.output_at_once, shape.output_pitch) || !moves_at_once(shape.residual_at_once, shape.residual_pitch)) return false;
  if (shape.output_image_pixels != 0 && (shape.plane_output || shape.epilogue.residual != scalar::ResidualMode::None)) return false;
  if (tile.groups_of_warps) return group_tile_is_valid(shape, tile, target);
  if (tile.block_n % (16 * tile.warps_n) != 0 || tile.chunk % (16 * tile.warps_k) != 0) return false;
  const Geometry g = geometry(shape, tile);
  const std::int32_t idle = g.threads % (tile.block_n / 8);  // at the end
  if (g.threads > 1024 || idle * 4 > g.threads) return false;
  if (tile.buffers < 2 && g.chunks_per_split > 1) return false;
  if (tile.weight_stages != 0) {
    if (!tile.shared_weights || tile.bulk || tile.weight_stages < 2) return false;
    const bool refilled = g.weight_slots < g.chunks_per_split * g.stages;
    if (refilled && g.buffers < g.chunks_per_split && (g.buffers - 1) * g.stages < g.weight_slots - 1) return false;
  }
  if (g.registers * g.threads > 65536 || g.registers > (g.ring ? (g.taps > 1 ? 255 : 232) : 204)) return false;
  if (shape.image && (tile.chunk != stem_chunk(shape) || tile.split != 1)) return false;
  if (tile.cluster && (target.arch < 90 || tile.split < 2 || tile.split > 8 || g.units % tile.split != 0)) return false;
  if (shape.groups > 1) {
    if (shape.channels % (16 * shape.groups) != 0 || shape.out_channels % (tile.block_n * shape.groups) != 0) return false;
    if (shape.image || shape.layer_norm || scale_rows(shape) > 0 || tile.bulk) return false;
  }
  if (scale_rows(shape) > 0) {
    if (shape.layer_norm || shape.image || g.taps != 1 || shape.channels % 8 != 0 || g.threads < scale_rows(shape) * tile.chunk / 8) return false;
    if (shape.pre_activated && (shape.scaled || shape.pad[0] != 0 || shape.pad[1] != 0)) return false;
  }
  if (shape.layer_norm) {
    const bool product = shape.height == 1 && g.taps == 1 && shape.stride[1] == 1 && shape.pad[1] == 0 && shape.width == shape.out_width;
    if (!product || shape.image || tile.tile_height != 1 || tile.split != 1 || shape.channels % 8 != 0 || !shape.bias || shape.input_at_once < 8) return false;
    if (shape.store_normalized && !g.ring && g.buffers < g.chunks) return false;  // the rows are read again when all is known
  }
  if (shape.shortcut.channels > 0) {
    if (shape.groups > 1 || shape.image || shape.layer_norm || scale_rows(shape) > 0 || tile.bulk || shape.element == ElementType::F32) return false;
    if (shape.channels % 8 != 0 || shape.shortcut.channels % 8 != 0 || shape.shortcut.pitch % 8 != 0 || shape.input_at_once < 8) return false;
  }
  if (!tile.bulk && tile.share_rows > 1) return false;
  if (tile.bulk) {
    const bool product = shape.out_height == 1 && shape.height == 1 && g.taps == 1 && shape.stride[1] == 1 && shape.pad[1] == 0 && shape.width == shape.out_width;
    if (target.arch < 90 || !product || shape.image || scale_rows(shape) > 0 || shape.input_at_once < 8 || shape.channels % tile.chunk != 0) return false;
    if (g.buffers < g.chunks_per_split || g.chunks % tile.split != 0 || round_up(shape.out_channels, 16) % (tile.block_n * tile.share_rows) != 0) return false;
    if ((tile.split > 1 && !tile.cluster) || tile.share_rows * tile.split > 8) return false;
  }
  if (is_wide(shape.element)) {
    if (shape.layer_norm || scale_rows(shape) > 0 || (!shape.image && shape.channels % 2 != 0)) return false;
    if (shape.output_at_once > 4 || shape.residual_at_once > 4) return false;
  }
  if (shape.element == ElementType::F32) {
    const std::int32_t thread_m = g.block_m / tile.warps_m / 8, thread_n = tile.block_n / tile.warps_n / 4;
    if (tile.shared_weights || tile.bulk || thread_m > 8 || thread_m * thread_n > 64) return false;
  }
  // Every split has work: an empty one would still be launched and waited for.
  if ((tile.split - 1) * g.chunks_per_split >= g.chunks) return false;
  return g.shared_bytes <= target.shared_bytes;
}

std::optional<std::uint32_t> conv_shared_bytes(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) {
  if (!tile_is_valid(shape, tile, target)) return std::nullopt;
  return static_cast<std::uint32_t>(geometry(shape, tile).shared_bytes);
}

}  // namespace edgert::codegen
