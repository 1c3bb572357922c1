// SPDX-License-Identifier: Apache-2.0
#include "codegen/attention_kernel.h"

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
  std::int32_t threads, tile_q, chunks, stage_rows, buffers, registers;
  std::int64_t stage_bytes, shared_bytes, blocks;
};

Geometry geometry(const AttentionShape& s, const AttentionTile& t) {
  Geometry g = {};
  g.threads = 32 * t.warps_q * t.warps_k;
  g.tile_q = 16 * t.warps_q;
  g.chunks = divide_up(s.keys, t.chunk);
  g.stage_rows = g.chunks == 1 ? round_up(s.keys, 16) : t.chunk;
  g.buffers = std::min(t.buffers, g.chunks);
  const std::int64_t key_pitch = 2 * round_up(s.depth, 16) + 16;
  const std::int64_t value_pitch = 2 * round_up(s.value_depth, 16) + 16;
  g.stage_bytes = g.stage_rows * (key_pitch + value_pitch);
  const std::int64_t partial = t.warps_k == 1 ? 0 : std::int64_t{t.warps_k} * g.tile_q * (round_up(s.value_depth, 16) + 8 + 2) * 4;
  g.shared_bytes = std::max(g.tile_q * key_pitch + g.buffers * g.stage_bytes, partial);
  g.blocks = std::int64_t{s.batch} * s.heads * divide_up(s.queries, g.tile_q);
  const bool loads_mask = s.mask != AttentionMask::None && s.mask != AttentionMask::Causal;
  const std::int32_t scores = std::min(t.chunk, round_up(s.keys, 16 * t.warps_k)) / 16 / t.warps_k * 8;
  g.registers = 60 + scores * (loads_mask ? 7 : 5) / 2 + round_up(s.depth, 16) / 4 + round_up(s.value_depth, 16) / 2;
  return g;
}

/// Elements that a view reaches, counted from its first.
std::int64_t reach(const AttentionShape& s, const AttentionView& v, std::int64_t rows, std::int64_t columns) {
  return (s.batch - 1) * v.batch + (rows - 1) * v.row + (s.heads - 1) * v.head + columns;
}

bool view_is_valid(const AttentionShape& s, const AttentionView& v, std::int64_t rows, std::int64_t columns) {
  for (const std::int64_t stride : {v.batch, v.row, v.head}) {
    if (stride < 0 || stride % 8 != 0 || stride > std::numeric_limits<std::int32_t>::max()) return false;
  }
  return reach(s, v, rows, columns) <= std::numeric_limits<std::int32_t>::max();
}

bool shape_is_valid(const AttentionShape& s) {
  if (s.batch < 1 || s.heads < 1 || s.queries < 1 || s.keys < 1 || s.keys > (1 << 20) || s.queries > (1 << 20)) return false;
  for (const std::int32_t depth : {s.depth, s.value_depth}) {
    if (depth < 8 || depth > 256 || depth % 8 != 0) return false;
  }
  // A finite score for what is hidden stays finite times log2(e); its keys weigh nothing beside one that is seen.
  if (s.hidden > -1e4f || (std::isfinite(s.hidden) && s.hidden < -1e38f) || std::isnan(s.hidden)) return false;
  if (s.causal_offset < 0 || s.causal_offset > (1 << 20)) return false;
  const AttentionView& m = s.mask_view;
  if (m.batch < 0 || m.row < 0 || m.head < 0 || std::max({m.batch, m.row, m.head}) > std::numeric_limits<std::int32_t>::max() ||
      reach(s, m, s.queries, s.keys) > std::numeric_limits<std::int32_t>::max() / 2) {
    return false;
  }
  return view_is_valid(s, s.q, s.queries, s.depth) && view_is_valid(s, s.k, s.keys, s.depth) &&
         view_is_valid(s, s.v, s.keys, s.value_depth) && view_is_valid(s, s.y, s.queries, s.value_depth);
}

std::string number(std::int64_t value) { return std::to_string(value); }

void set_view(ProblemText& text, const std::string& name, const AttentionView& view) {
  text.set("k" + name + "Batch", view.batch).set("k" + name + "Row", view.row).set("k" + name + "Head", view.head);
}

/// Blocks that a multiprocessor has to compute, and how many of them it runs at a time.
std::int32_t blocks_for_each(const Geometry& g, const ConvTarget& target) {
  return static_cast<std::int32_t>((g.blocks + target.multiprocessors - 1) / target.multiprocessors);
}
std::int32_t resident_blocks(const Geometry& g, const ConvTarget& target) {
  const std::int32_t by_shared = static_cast<std::int32_t>((target.shared_bytes + 1024) / (g.shared_bytes + 1024));
  return std::max(1, std::min({65536 / (g.registers * g.threads), by_shared, 1536 / g.threads, 8}));
}

/// Cycles, roughly; only the order matters.
double estimate(const AttentionShape& s, const AttentionTile& t, const ConvTarget& target) {
  const Geometry g = geometry(s, t);
  const std::int32_t each = blocks_for_each(g, target), at_once = std::min(each, resident_blocks(g, target));
  const double key_blocks = divide_up(s.keys, 16), steps = (round_up(s.depth, 16) + round_up(s.value_depth, 16)) / 16;
  const bool loads_mask = s.mask != AttentionMask::None && s.mask != AttentionMask::Causal;
  // Of 16 queries and 16 keys: two products and a load of a fragment for each 16 channels, a softmax.
  const double products = steps * 4, loads = steps * 4, instructions = steps * 3 + (loads_mask ? 75 : 50);
  const double all_blocks = t.warps_q * key_blocks;  // of 16 by 16
  const double bandwidth = std::min(60.0, 24.0 * 132 / std::min<double>(double(g.blocks), target.multiprocessors));  // bytes a cycle and multiprocessor
  const double input = (key_blocks * 16 + g.tile_q) * (s.depth + s.value_depth) * 2 / bandwidth;
  const double end = t.warps_k == 1 ? 0 : 20.0 * g.tile_q * s.value_depth / 4 / 32 * t.warps_k;  // instructions
  const double chunk_end = s.value_depth / 2 + 100;  // instructions of a warp for each chunk: sums rescaled, loads, waits
  const double compute = all_blocks * std::max({products, loads, instructions / 1.5}) + (t.warps_q * t.warps_k * g.chunks * chunk_end + end) / 4;
  const double busy = std::max(compute, input) + 0.3 * std::min(compute, input);
  const double chain = divide_up(divide_up(s.keys, 16), t.warps_k) * (instructions * 6 + 200);
  const double first = g.chunks == 1 ? input : input / g.chunks;
  const double alone = 800 + first + std::max(chain + g.chunks * (100 + chunk_end * 2), input - first) + (t.warps_k == 1 ? 150 : 300 + end / (g.threads / 32) * 4);
  const auto together = [&](std::int32_t blocks) { return std::max(alone, busy * blocks) + 0.2 * busy * (blocks - 1); };
  const double cycles = each / at_once * together(at_once) + (each % at_once > 0 ? together(each % at_once) : 0);
  // No place for the next kernel's blocks: every other one asks for more than half of the shared memory (launch_shared_bytes()).
  const bool crowded = target.arch >= 90 && each == 1 && (resident_blocks(g, target) < 2 || g.shared_bytes > target.shared_bytes / 4 + 2048);
  return cycles + (crowded ? 2000 : 0);
}

}  // namespace

std::optional<std::uint32_t> attention_shared_bytes(const AttentionShape& shape, const AttentionTile& tile, const ConvTarget& target) {
  if (!shape_is_valid(shape) || tile.warps_q < 1 || tile.warps_k < 1 || tile.warps_q * tile.warps_k > 16) return std::nullopt;
  if (tile.chunk < 16 || tile.chunk % (16 * tile.warps_k) != 0 || tile.chunk > 1024) return std::nullopt;
  const Geometry g = geometry(shape, tile);
  if (tile.buffers < (g.chunks > 1 ? 2 : 1)) return std::nullopt;
  if (g.shared_bytes > target.shared_bytes || g.registers > 250 || g.registers * g.threads > 65536) return std::nullopt;
  if (g.blocks > std::numeric_limits<std::int32_t>::max()) return std::nullopt;
  return static_cast<std::uint32_t>(g.shared_bytes);
}

KernelSpec make_attention(const AttentionShape& shape, const AttentionTile& tile, const ConvTarget& target) {
  const std::string name = "attention" + number(shape.queries) + "x" + number(shape.keys) + "x" + number(shape.depth) + "_h" +
                           number(shape.heads) + "_w" + number(tile.warps_q) + number(tile.warps_k) + "_c" + number(tile.chunk) +
                           "_b" + number(tile.buffers);
  const auto shared = attention_shared_bytes(shape, tile, target);
  if (!shared) throw CompileError(name + ": this tile does not fit the layer or the target");
  const Geometry g = geometry(shape, tile);
  ProblemText text(shape.element);
  text.define("EDGERT_ENTRY", "attention");
  text.set("kBatch", std::int64_t{shape.batch}).set("kHeads", std::int64_t{shape.heads}).set("kQueries", std::int64_t{shape.queries});
  text.set("kKeys", std::int64_t{shape.keys}).set("kDepth", std::int64_t{shape.depth}).set("kValueDepth", std::int64_t{shape.value_depth});
  set_view(text, "Q", shape.q);
  set_view(text, "K", shape.k);
  set_view(text, "V", shape.v);
  set_view(text, "Y", shape.y);
  set_view(text, "Mask", shape.mask_view);
  text.set("kMaskKind", static_cast<std::int64_t>(shape.mask)).set("kScale", shape.scale).set("kHidden", shape.hidden);
  text.set("kCausalOffset", std::int64_t{shape.causal_offset}).set("kZeroHidden", shape.zero_hidden);
  text.set("kWarpsQ", std::int64_t{tile.warps_q}).set("kWarpsK", std::int64_t{tile.warps_k}).set("kChunk", std::int64_t{tile.chunk});
  text.set("kBuffers", std::int64_t{g.buffers}).set("kSharedBytes", g.shared_bytes);
  text.set("kBlocksPerMultiprocessor", std::int64_t{std::min(resident_blocks(g, target), std::max(2, blocks_for_each(g, target)))});
  KernelSpec spec;
  spec.job = make_job(name, "kernels/attention.cu", text.text(), target.arch);
  spec.entry = "attention";
  spec.tile = "warps " + number(tile.warps_q) + "x" + number(tile.warps_k) + " keys " + number(tile.chunk) + " buffers " + number(tile.buffers);
  spec.grid[0] = static_cast<std::uint32_t>(std::max<std::int64_t>(g.blocks, target.arch >= 90 ? target.multiprocessors : 0));
  spec.block[0] = static_cast<std::uint32_t>(g.threads);
  spec.shared_bytes = *shared;
  return spec;
}

std::vector<AttentionTile> rank_attention_tiles(const AttentionShape& shape, const ConvTarget& target, std::size_t limit) {
  std::vector<std::pair<double, AttentionTile>> all;
  for (const std::int32_t warps_q : {1, 2, 3, 4, 6, 8}) {
    for (const std::int32_t warps_k : {1, 2, 4, 8}) {
      if (warps_q * warps_k > 16 || warps_q * warps_k < 4) continue;
      for (const std::int32_t chunk : {32, 64, 128, 256, 512}) {
        if (chunk / 2 >= round_up(shape.keys, 16 * warps_k)) continue;  // the next smaller one holds all keys
        const std::int32_t buffers = chunk >= shape.keys ? 1 : 2;
        const AttentionTile tile = {warps_q, warps_k, chunk, buffers};
        if (attention_shared_bytes(shape, tile, target)) all.emplace_back(estimate(shape, tile, target), tile);
      }
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<AttentionTile> out;
  for (std::size_t i = 0; i < all.size() && out.size() < limit; ++i) out.push_back(all[i].second);
  return out;
}

}  // namespace edgert::codegen
