// SPDX-License-Identifier: Apache-2.0
// The order of a convolution's tiles: an estimate of each one's time.
#include <algorithm>
#include <cmath>
#include <utility>

#include "codegen/conv_geometry.h"

namespace edgert::codegen {

namespace {

/// The same as estimate() for multiply-adds of floats, of which a multiprocessor makes 128 a cycle. The numbers are fitted to
/// 351 tiles of ResNet-50's layers on an H200.
double estimate_exact(const ConvTile& tile, const Geometry& g, const ConvTarget& target) {
  const double per_sm = std::ceil(double(g.blocks) / target.multiprocessors);
  const double warps = g.threads / 32.0 * per_sm;
  const double depth = double(g.chunks_per_split) * g.items * 8;  // of one warp
  const double thread_m = g.block_m / tile.warps_m / 8, thread_n = tile.block_n / tile.warps_n / 4;
  // Per input channel a warp takes (m + n) / 4 loads of two passes, and turns of its scheduler for the rest.
  const double issued = thread_m * thread_n + (thread_m + thread_n) / 4 + 20;
  const double arithmetic = depth * issued * std::max(warps / 4, 1.5);
  const double shared = 0.8 * depth * (thread_m + thread_n) / 2 * warps;
  const double input_bytes = double(g.chunks_per_split) * g.patch_bytes, weight_bytes = double(g.chunks_per_split) * g.taps * tile.chunk * 2.0 * tile.block_n;
  const double bandwidth = std::min(60.0, 24.0 * 132 / std::min(double(g.blocks), 132.0));  // bytes a cycle and block
  const double copies = 1.4 * (input_bytes + weight_bytes) * per_sm / bandwidth;
  const double asked = (input_bytes + weight_bytes) / 16 / g.threads * 22 * per_sm;  // instructions beside those that multiply
  const double first = 600 + 0.3 * (input_bytes + weight_bytes) / g.chunks_per_split / bandwidth;
  const double units = double(g.units) / g.threads;
  const double end = 300 + units * (780 + 325 * tile.warps_k);
  const double combine = tile.split == 1 ? 0 : tile.cluster ? 250 + 1100 * tile.split + units * 300 : 4600 + units * tile.split * 80;
  return (std::max({arithmetic + asked, shared, copies}) + 0.9 * std::min(arithmetic, shared) + first + end + combine) / 1900;
}

/// Of a GPU with so few multiprocessors blocks have much work each, which may wait for memory more often than once.
constexpr std::int32_t kFew = 32;
constexpr double kLatency = 1300;  // cycles, of weights that the L2 cache of such a GPU does not keep

/// Cycles that `at_once` blocks of a multiprocessor take beside each other: those that keep its units busy, and those in which
/// a block waits for its first input or its last stores.
struct Round {
  double busy, waiting;
};
Round round_of(const ConvShape& shape, const ConvTile& tile, const Geometry& g, double at_once, bool several, bool few) {
  const double steps = double(g.chunks_per_split) * g.items;  // of one warp
  const std::int32_t blocks_m = g.block_m / tile.warps_m / 16;
  const std::int32_t blocks_n = tile.block_n / tile.warps_n / 16;
  const double warps = g.threads / 32.0 * at_once;
  const double input_bytes = double(g.chunks_per_split) * g.patch_pixels * tile.chunk * 2.0;
  const double weight_bytes = double(g.chunks_per_split) * g.taps * tile.chunk * tile.block_n * 2.0;
  // Four tensor cores take 8 cycles a product of 16x8x16; one warp alone gets one every 18 or so.
  const double products = steps * blocks_m * blocks_n * 2;
  const double tensor = std::max(products * warps / 4 * 8, products * 18);
  const double units = double(g.units) / g.threads;
  // Fragments, at 128 bytes a cycle; where blocks run beside each other also what is copied, and sums there and back.
  const double fragments = steps * warps * (blocks_m + (tile.shared_weights || several ? blocks_n : 0)) * 4;
  const double copied = input_bytes + (tile.shared_weights ? weight_bytes : 0) + double(g.units) * 32 * (2 * tile.warps_k + 0.5);
  const double shared = fragments + (g.ring || several ? at_once * copied / 128 : 0);
  const double latency = steps * 30 + (g.ring ? double(g.chunks_per_split) * g.stages * 80 : 0);
  const double main_loop = std::max({tensor, shared, latency}) + 0.3 * std::min(tensor, shared);
  const double late_weights = tile.shared_weights ? 0 : weight_bytes * (1.0 - double(g.held) / (double(g.chunks_per_split) * g.items));
  const double bandwidth = std::min(60.0, 24.0 * 132 / std::min(double(g.blocks), 132.0));  // bytes a cycle and block
  // A bulk copy, of a row's part of a chunk, takes about 45 cycles to ask for.
  const double asked = tile.bulk ? 300 + 45.0 * g.chunks_per_split * tile.tile_width / tile.share_rows : input_bytes / 16 / g.threads * 12;
  const double input = std::max(input_bytes / tile.share_rows / bandwidth, asked) * at_once;
  // Weights on their way to registers: each thread's are as many as it holds.
  const double loads = tile.shared_weights || !few ? 0 : std::ceil(steps / g.held) - 1;
  const double late = std::max(late_weights * at_once / bandwidth, loads * kLatency);
  const double prefetch = 0.25 * weight_bytes * tile.warps_m / bandwidth * at_once;  // hidden behind the previous kernel in part
  const double end = 250 + units * (few ? 30 + 20 * tile.warps_k : 60 + 25 * tile.warps_k);
  const double combine = tile.split == 1 ? 0 : tile.cluster ? 1400 + 300 * tile.split + units * 60 : 2800 + (few ? 2800 * tile.split : 0) + units * tile.split * 40;
  const double statistics = shape.layer_norm ? 0.03 * tile.tile_width * g.channels : 0;  // of the rows
  // Where blocks take turns, what they finish costs time beside others' products; and sums that meet in memory go there and back.
  const double finished = (several ? (few ? 0.5 : 0.9) * g.units : 0) + (tile.split > 1 && !tile.cluster && (several || g.ring) ? 64.0 * g.units / bandwidth : 0);
  const double start = few ? 2400 : 0;
  if (!g.ring) return {std::max(main_loop, late) + statistics + input + prefetch + at_once * finished, start + 500 + end + combine};
  // Copies run beside the products, but for the first ones. A block alone waits for its slowest warp at each stage.
  const double ahead = (g.weight_slots - 1) * weight_bytes / (double(g.chunks_per_split) * g.stages) + (g.buffers - 1.0) * input_bytes / g.chunks_per_split;
  const double copies = std::max((input_bytes + weight_bytes) / bandwidth * at_once, few ? (input_bytes + weight_bytes) / std::max(ahead, 1.0) * kLatency : 0);
  const double stages = double(g.chunks_per_split) * g.stages;
  const double stage_items = double(g.items) / g.stages;
  const double wait = few ? (several ? 125 : 360) / stage_items : at_once > 1 ? 10 : 120;
  const double apart = stages * wait * std::max(1.0, g.threads / 256.0);
  return {std::max(main_loop, copies) + apart + 2.2 * statistics * at_once + at_once * finished, start + 800 + end + combine};
}

/// Blocks that run at the same time, one a multiprocessor. Clusters lie within a group of multiprocessors, so large ones
/// leave some idle: of the 132 of an H200, 128 blocks in clusters of 4 take twice as long as 112, or as 128 in clusters of 2.
std::int32_t blocks_at_once(const ConvTile& tile, const ConvTarget& target) {
  const std::int32_t cluster = (tile.cluster ? tile.split : 1) * tile.share_rows;
  return cluster > 2 ? target.multiprocessors * 7 / 8 : target.multiprocessors;
}

/// The same as estimate() for products by groups of warps. The numbers are fitted to the products of transformers at batch 8 on an
/// H200.
double estimate_group(const ConvShape& shape, const ConvTile& tile, const Geometry& g, const ConvTarget& target) {
  // Of a stage of 64 input channels: what comes from the L2 cache, 40 bytes a cycle to a multiprocessor and 36 each to all of
  // them; 2048 multiply-adds a cycle, for which operands leave shared memory at 128 bytes a cycle.
  const double bytes = (g.block_m + tile.block_n) * 128.0;
  const double copied = std::max(bytes / 40, bytes * g.blocks / (36.0 * target.multiprocessors));
  const double tensor = g.block_m * tile.block_n * 64.0 / 2048;
  const double shared = 2.0 * (g.block_m + tile.block_n) + g.block_m * (tile.warps_n - 1) + tile.block_n * (tile.warps_m / 4 - 1);
  const double statistics = shape.layer_norm ? 7.0 * g.block_m : 0;
  const double stage = std::max({copied, tensor, shared}) + 0.25 * tensor + statistics + 30;
  const bool function = shape.epilogue.activation != scalar::PointwiseOp::Identity && shape.epilogue.activation != scalar::PointwiseOp::Relu;
  // More than two groups gain nothing at the end, and lose where several read the same rows.
  const double crowded = tile.warps_n > 1 && g.threads > 256 ? 1200 : 0;
  const double end = 1800 + crowded + 128.0 * g.units / std::min(g.threads, 256) + (function ? g.units : 0) + (shape.store_normalized ? 4000 : 0);
  const double combine = tile.split == 1 ? 0 : tile.cluster ? 3.0 * g.units * (tile.split - 1) : 1.85 * g.units * tile.split;
  return (g.chunks_per_split * stage + end + combine) / 1870;
}

/// Microseconds, roughly, from the wait on, as measured on a large GPU. Only the order matters.
double estimate(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) {
  const Geometry g = geometry(shape, tile);
  if (shape.element == ElementType::F32) return estimate_exact(tile, g, target);
  if (tile.groups_of_warps) return estimate_group(shape, tile, g, target);
  const double cycles_per_us = 1900;
  const std::int32_t each = divide_up(g.blocks, target.multiprocessors);  // blocks of the busiest multiprocessor
  const std::int32_t at_once = std::min(each, resident_blocks(g, target));
  const bool few = target.multiprocessors <= kFew;
  const Round full = round_of(shape, tile, g, at_once, each > 1, few);
  const std::int32_t rounds = each / at_once, rest = each % at_once;
  double cycles = full.busy * rounds + full.waiting;
  if (rest > 0) cycles += round_of(shape, tile, g, rest, true, few).busy;
  // Blocks that take the places of others wait while those beside them are busy.
  cycles += full.waiting * (at_once > 1 ? 0.3 : 1.0) * (rounds + (rest > 0 ? 1 : 0) - 1);
  // A launch whose blocks find each multiprocessor half empty begins before the one before it ends.
  if (target.arch >= 90 && (blocks_per_multiprocessor(g, target) < 2 || each != 1)) cycles += 1500;
  return cycles / cycles_per_us;
}

/// Rectangles of output pixels, at most `most` of them, that cover the output without many to spare.
std::vector<std::pair<std::int32_t, std::int32_t>> tile_extents(const ConvShape& shape, std::int32_t most) {
  std::vector<std::pair<std::int32_t, std::int32_t>> out;
  if (shape.out_height == 1) {
    for (const std::int32_t width : {16, 32, 48, 64, 96, 128}) out.emplace_back(1, width);
    for (const std::int32_t width : {80, 112, 160, 192, 208, 224, 256}) {
      if (width <= most && most > 128 && width < shape.out_width + 32) out.emplace_back(1, width);
    }
    return out;
  }
  for (std::int32_t h = 1; h <= std::min(16, shape.out_height); ++h) {
    for (std::int32_t w = 2; w <= std::min(64, shape.out_width); ++w) {
      const std::int32_t pixels = h * w;
      const std::int32_t rows = round_up(pixels, 16);
      if (rows > most || pixels < 12 || (most > 128 && pixels < 48)) continue;
      const double covered = double(divide_up(shape.out_height, h) * divide_up(shape.out_width, w)) * rows;
      if (covered > 1.35 * shape.out_height * shape.out_width + 16) continue;
      out.emplace_back(h, w);
    }
  }
  return out;
}

/// Whether threads have nothing to do at the end of a tile, which pays only where blocks have much work: choosing such tiles, a vision
/// transformer took 239 us on a whole H200 instead of 228.
bool leaves_threads_over(const ConvTile& tile, const ConvTarget& target) {
  return target.multiprocessors > kFew && 32 * tile.warps_m * tile.warps_n * tile.warps_k % (tile.block_n / 8) != 0;
}

/// Gives the tile as many buffers as leave room for two blocks a multiprocessor, two at least; nothing where none fit.
std::optional<double> estimate_with_buffers(const ConvShape& shape, ConvTile& tile, const ConvTarget& target) {
  if (leaves_threads_over(tile, target)) return std::nullopt;
  for (const std::int32_t buffers : {8, 4, 2}) {
    tile.buffers = buffers;
    if (!tile_is_valid(shape, tile, target)) continue;
    const bool fits_twice = geometry(shape, tile).shared_bytes * 2 <= target.shared_bytes;
    if (tile.bulk && geometry(shape, tile).blocks > blocks_at_once(tile, target)) return std::nullopt;
    if (fits_twice || tile.bulk || (buffers == 2 && !tile.shared_weights)) return estimate(shape, tile, target);
  }
  return std::nullopt;
}

/// Tiles of products that are bound by arithmetic: large ones, whose weights come through a ring.
void add_ring_tiles(const ConvShape& shape, const ConvTarget& target, std::vector<std::pair<double, ConvTile>>& all) {
  if (is_wide(shape.element)) return;
  std::vector<std::int32_t> chunks = {16, 32, 64};
  if (target.multiprocessors <= kFew) chunks.push_back(128);
  if (shape.image) chunks = {stem_chunk(shape)};
  ConvTile tile;
  tile.shared_weights = true;
  const auto consider = [&] {
    if (leaves_threads_over(tile, target)) return;
    for (const std::int32_t split : {1, 2, 4}) {
      tile.split = split;
      // The deepest ring that leaves room for two blocks; a block that is alone on its multiprocessor has all the room, but
      // for what the next launch's blocks take early.
      for (const std::int32_t stages : {8, 6, 4, 3}) {
        tile.weight_stages = stages;
        tile.buffers = 2;
        if (!tile_is_valid(shape, tile, target)) tile.buffers = stages;  // where a chunk is one stage
        if (!tile_is_valid(shape, tile, target)) continue;
        const Geometry g = geometry(shape, tile);
        const bool alone = target.arch < 90 && g.blocks <= target.multiprocessors;
        if (stages > 4 ? !alone : stages > 3 && !alone && resident_blocks(g, target) < 2) continue;
        all.emplace_back(estimate(shape, tile, target), tile);
        break;
      }
    }
  };
  for (const auto& [height, width] : tile_extents(shape, 256)) {
    const std::int32_t blocks_m = divide_up(height * width, 16);
    for (const std::int32_t block_n : {32, 48, 64, 96, 128, 144, 192, 256}) {
      if (blocks_m * block_n < 192 || block_n > round_up(shape.out_channels, 16)) continue;
      for (const std::int32_t chunk : chunks) {
        if (!shape.image && chunk > round_up(shape.channels / shape.groups, 16)) continue;
        for (const std::int32_t warps_m : {1, 2, 4}) {
          if (blocks_m % warps_m != 0 || blocks_m / warps_m > 7) continue;
          for (const std::int32_t warps_n : {1, 2, 3, 4}) {
            const std::int32_t warp_blocks = blocks_m / warps_m * (block_n / 16) / warps_n;
            if (block_n % (16 * warps_n) != 0 || block_n / warps_n > 64 || warp_blocks > 16 || warp_blocks < 4) continue;
            tile.tile_height = height, tile.tile_width = width, tile.block_n = block_n, tile.chunk = chunk;
            tile.warps_m = warps_m, tile.warps_n = warps_n;
            // Where a block has few warps' work and a multiprocessor to itself, warps along K read the fewest fragments.
            for (const std::int32_t warps_k : {1, 2, 4}) {
              const std::int32_t warps = warps_m * warps_n * warps_k;
              if (warps < 2 || warps > 12 || chunk % (16 * warps_k) != 0 || (warps_k > 1 && (shape.image || target.multiprocessors > kFew))) continue;
              tile.warps_k = warps_k;
              consider();
            }
          }
        }
      }
    }
  }
}

/// Tiles of large products for groups of warps, no more blocks than run at a time.
void add_group_tiles(const ConvShape& shape, const ConvTarget& target, std::vector<std::pair<double, ConvTile>>& all) {
  if (target.arch != 90 || shape.out_height != 1 || shape.out_width < 256) return;
  ConvTile tile;
  tile.groups_of_warps = true;
  tile.chunk = 64;
  const auto consider = [&] {
    for (const std::int32_t stages : {6, 5, 4}) {
      tile.weight_stages = stages;
      if (!tile_is_valid(shape, tile, target)) continue;
      if (geometry(shape, tile).blocks <= blocks_at_once(tile, target)) all.emplace_back(estimate(shape, tile, target), tile);
      return;
    }
  };
  for (const std::int32_t groups_m : {1, 2, 3, 4}) {
    for (const std::int32_t warps_n : {1, 2}) {
      for (std::int32_t block_n = 32 * warps_n; block_n <= 256; block_n += 16) {
        tile.warps_m = 4 * groups_m, tile.tile_width = 64 * groups_m;
        tile.warps_n = warps_n, tile.block_n = block_n;
        for (const std::int32_t split : {1, 2, 3, 4}) {
          tile.split = split;
          for (const bool cluster : {false, true}) {
            tile.cluster = cluster;
            if (split > 1 || !cluster) consider();
          }
        }
      }
    }
  }
}

}  // namespace

double estimate_conv(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) { return estimate(shape, tile, target); }

std::vector<ConvTile> rank_conv_tiles(const ConvShape& shape, const ConvTarget& target, std::size_t limit) {
  std::vector<std::pair<double, ConvTile>> all;
  std::vector<std::int32_t> chunks = {16, 32, 64, 128, 256, 384, 768};
  if (shape.image) chunks = {stem_chunk(shape)};
  std::vector<std::int32_t> sharings = {0};  // 0: no bulk copies
  // Where a block reads little, asking one by one is faster than meeting.
  const bool large = shape.out_height == 1 && shape.channels >= 256 && std::int64_t{shape.width} * shape.out_channels >= 65536;
  if (target.arch >= 90 && large && shape.element != ElementType::F32) sharings.insert(sharings.end(), {1, 2, 4});
  for (const auto& [height, width] : tile_extents(shape, 128)) {
    const std::int32_t blocks_m = divide_up(height * width, 16);
    for (const std::int32_t block_n : {16, 32, 48, 64, 96, 128}) {
      if (block_n > round_up(shape.out_channels, 16) && block_n > 16) continue;
      for (const std::int32_t chunk : chunks) {
        if (!shape.image && chunk > round_up(shape.channels / shape.groups, 16)) continue;
        for (const std::int32_t warps_m : {1, 2, 4}) {
          if (blocks_m % warps_m != 0 || blocks_m / warps_m > 4) continue;
          for (const std::int32_t warps_n : {1, 2, 3, 4}) {
            if (block_n % (16 * warps_n) != 0 || block_n / warps_n > 64) continue;
            for (const std::int32_t warps_k : {1, 2, 4, 8}) {
              const std::int32_t warps = warps_m * warps_n * warps_k;
              if (chunk % (16 * warps_k) != 0 || warps < std::min(4, blocks_m * block_n / 16 * chunk / 16) || warps > 8) continue;
              for (const std::int32_t split : {1, 2, 4, 8, 16}) {
                for (const bool cluster : {false, true}) {
                  if (split == 1 && cluster) continue;
                  ConvTile tile;
                  tile.tile_height = height, tile.tile_width = width, tile.block_n = block_n, tile.chunk = chunk;
                  tile.warps_m = warps_m, tile.warps_n = warps_n, tile.warps_k = warps_k;
                  tile.split = split, tile.cluster = cluster;
                  for (const bool shared_weights : {false, true}) {
                    if (shared_weights && shape.element == ElementType::F32) continue;
                    tile.shared_weights = shared_weights;
                    for (const std::int32_t rows : sharings) {
                      tile.bulk = rows > 0;
                      tile.share_rows = std::max(rows, 1);
                      if (tile.bulk ? chunk < 128 || warps < 4 || (split > 1 && !cluster) : chunk > 128) continue;
                      if (const auto time = estimate_with_buffers(shape, tile, target)) all.emplace_back(*time, tile);
                    }
                  }
                }
              }
            }
          }
        }
      }
    }
  }
  add_ring_tiles(shape, target, all);
  add_group_tiles(shape, target, all);
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ConvTile> out;
  for (std::size_t i = 0; i < all.size() && out.size() < limit; ++i) out.push_back(all[i].second);
  return out;
}

}  // namespace edgert::codegen
