// SPDX-License-Identifier: Apache-2.0
#include "codegen/conv_kernel.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "edgert/scalar/convert.h"

namespace edgert::codegen {

namespace {

std::int32_t divide_up(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }
std::int32_t round_up(std::int32_t a, std::int32_t b) { return divide_up(a, b) * b; }

/// The sizes that follow from a shape and a tile; the kernel computes the same and compares the total.
struct Geometry {
  std::int32_t threads, taps, channels, chunks, chunks_per_split;
  std::int32_t items, held, registers;  // of a thread; an estimate that decides how many blocks may share a multiprocessor
  std::int32_t stages, weight_slots;    // of a chunk; and how many stages' weights lie in shared memory
  bool ring;                            // in turns
  std::int32_t block_m, patch_pixels, patch_bytes, buffers, units;
  std::int32_t tiles;   // rectangles of the output, over all images
  std::int32_t blocks;  // with work
  std::int32_t shared_bytes;
};

/// Rows of the patch that hold what input channels are multiplied with.
std::int32_t scale_rows(const ConvShape& shape) { return shape.pre_activated ? 2 : shape.scaled ? 1 : 0; }

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

Geometry geometry(const ConvShape& shape, const ConvTile& tile) {
  Geometry g = {};
  g.threads = 32 * tile.warps_m * tile.warps_n * tile.warps_k;
  g.taps = shape.image ? shape.kernel[0] : shape.kernel[0] * shape.kernel[1];
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

/// Two blocks a multiprocessor let a kernel's blocks start, and load weights, while the previous kernel's still run.
std::int32_t blocks_per_multiprocessor(const Geometry& g, const ConvTarget& target) {
  for (std::int32_t blocks = 4; g.ring && blocks > 2; --blocks) {
    if (g.registers * g.threads * blocks <= 65536 && g.shared_bytes * blocks <= target.shared_bytes) return blocks;
  }
  return g.registers * g.threads * 2 <= 65536 && g.shared_bytes * 2 <= target.shared_bytes ? 2 : 1;
}

/// Vectors of 1, 2, 4 or 8 elements that lie where they may be moved at once.
bool moves_at_once(std::int32_t count, std::int32_t pitch) { return (count == 1 || count == 2 || count == 4 || count == 8) && pitch % count == 0; }

bool tile_is_valid(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) {
  if (!shape.image && (shape.input_at_once < 2 || !moves_at_once(shape.input_at_once, shape.input_pitch))) return false;
  if (!moves_at_once(shape.output_at_once, shape.output_pitch) || !moves_at_once(shape.residual_at_once, shape.residual_pitch)) return false;
  if (tile.block_n % (16 * tile.warps_n) != 0 || tile.chunk % (16 * tile.warps_k) != 0) return false;
  const Geometry g = geometry(shape, tile);
  if (g.threads > 1024 || g.threads % (tile.block_n / 8) != 0) return false;
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

std::string number(std::int32_t value) { return std::to_string(value); }

std::string tile_name(const ConvTile& t) {
  return "t" + number(t.tile_height) + "x" + number(t.tile_width) + "_n" + number(t.block_n) + "_c" + number(t.chunk) + "_b" +
         number(t.buffers) + "_w" + number(t.warps_m) + number(t.warps_n) + number(t.warps_k) + "_k" + number(t.split) +
         (t.cluster ? "c" : "") + (t.shared_weights ? "s" : "") + (t.weight_stages > 0 ? number(t.weight_stages) : "") + (t.bulk ? "_i" + number(t.share_rows) : "");
}

std::string tile_text(const ConvTile& t) {
  return "tile " + number(t.tile_height) + "x" + number(t.tile_width) + "x" + number(t.block_n) + " k" + number(t.chunk) + " warps " +
         number(t.warps_m) + "x" + number(t.warps_n) + "x" + number(t.warps_k) + " buffers " + number(t.buffers) +
         (t.split > 1 ? " split " + number(t.split) : "") + (t.cluster ? " cluster" : "") + (t.shared_weights ? " shared weights" : "") +
         (t.weight_stages > 0 ? " stages " + number(t.weight_stages) : "") +
         (t.bulk ? " bulk" : "") + (t.share_rows > 1 ? " sharing " + number(t.share_rows) : "");
}

std::string shape_name(const ConvShape& s) {
  return std::string(s.store_normalized ? "normstore_" : s.layer_norm ? "norm_" : s.scaled ? "scaled_" : s.pre_activated ? "preactivated_" : "") + (s.groups > 1 ? "grouped" + number(s.groups) + "_" : "") + "conv" + number(s.kernel[0]) + "x" + number(s.kernel[1]) + "s" + number(s.stride[0]) + "_" + number(s.height) + "x" +
         number(s.width) + "x" + number(s.channels) + "_" + number(s.out_channels);
}

/// How a first layer finds and normalises its image.
void set_image(ProblemText& text, const ConvShape& shape) {
  static constexpr const char* kStrides[4] = {"kImageStride", "kChannelStride", "kRowStride", "kColumnStride"};
  const std::int32_t plane = shape.height * shape.width;
  const std::int32_t planes[4] = {shape.channels * plane, plane, shape.width, 1};
  const bool dense = std::all_of(shape.image_stride, shape.image_stride + 4, [](std::int32_t stride) { return stride == 0; });
  for (int d = 0; d < 4; ++d) text.set(kStrides[d], std::int64_t{dense ? planes[d] : shape.image_stride[d]});
  text.set("kImageBytes", shape.image_bytes).set("kImageNormalized", shape.image_normalized);
  for (int c = 0; c < 8; ++c) text.set("kImageScale" + number(c), shape.image_scale[c]).set("kImageShift" + number(c), shape.image_shift[c]);
}

/// "conv_tf32" says that floats are rounded (rounds_to_tf32()).
const char* entry_of(const ConvShape& shape) {
  return shape.element == ElementType::TF32 ? "conv_tf32" : shape.element == ElementType::F32 ? "conv_exact" : "conv";
}

std::string problem_text(const ConvShape& shape, const ConvTile& tile, const Geometry& g, const ConvTarget& target) {
  ProblemText text(shape.element);
  text.define("EDGERT_ENTRY", entry_of(shape)).define("EDGERT_CONV_STEM", shape.image ? "1" : "0");
  text.define("EDGERT_CONV_LAYER_NORM", shape.layer_norm ? "1" : "0");
  text.define("EDGERT_CONV_STORE_NORMALIZED", shape.store_normalized ? "1" : "0");
  text.define("EDGERT_CONV_BULK", tile.bulk ? "1" : "0").set("kBulk", tile.bulk);
  text.set("kShareRows", std::int64_t{tile.share_rows});
  text.define("EDGERT_CONV_SCALED", scale_rows(shape) > 0 ? "1" : "0").set("kScaled", shape.scaled).set("kPreActivated", shape.pre_activated);
  text.define("EDGERT_CONV_MORE_PARAMETERS", shape.store_normalized ? ", uint16* normalized" : scale_rows(shape) > 0 ? ", const uint16* scale" : "");
  text.set("kLayerNorm", shape.layer_norm).set("kRms", shape.rms).set("kEpsilon", shape.epsilon);
  text.set("kBatch", std::int64_t{shape.batch}).set("kHeight", std::int64_t{shape.height}).set("kWidth", std::int64_t{shape.width});
  text.set("kChannels", std::int64_t{g.channels}).set("kInputChannels", std::int64_t{shape.channels});
  text.set("kPixelChannels", std::int64_t{shape.image ? stem_pixel_channels(shape) : 8});
  if (shape.image) set_image(text, shape);
  text.set("kOutHeight", std::int64_t{shape.out_height}).set("kOutWidth", std::int64_t{shape.out_width});
  text.set("kOutChannels", std::int64_t{shape.out_channels});
  static constexpr const char* kAxis[2] = {"Height", "Width"};
  for (int d = 0; d < 2; ++d) {
    text.set(std::string("kKernel") + kAxis[d], std::int64_t{shape.kernel[d]});
    text.set(std::string("kStride") + kAxis[d], std::int64_t{shape.stride[d]});
    text.set(std::string("kDilation") + kAxis[d], std::int64_t{shape.dilation[d]});
  }
  text.set("kPadTop", std::int64_t{shape.pad[0]}).set("kPadLeft", std::int64_t{shape.pad[1]});
  text.set("kInputPitch", std::int64_t{shape.input_pitch}).set("kOutputPitch", std::int64_t{shape.output_pitch});
  text.set("kGroups", std::int64_t{shape.groups}).set("kInputAtOnce", std::int64_t{shape.input_at_once}).set("kOutputAtOnce", std::int64_t{shape.output_at_once});
  text.set("kFloatOutput", is_wide(shape.element)).set("kResidualAtOnce", std::int64_t{shape.residual_at_once}).set("kPlaneOutput", shape.plane_output);
  text.set("kResidualPitch", std::int64_t{shape.residual_pitch}).set("kHasBias", shape.bias).epilogue(shape.epilogue);
  text.set("kTileHeight", std::int64_t{tile.tile_height}).set("kTileWidth", std::int64_t{tile.tile_width});
  text.set("kBlockN", std::int64_t{tile.block_n}).set("kChunk", std::int64_t{tile.chunk});
  text.set("kPatchBuffers", std::int64_t{g.buffers}).set("kHeld", std::int64_t{g.held});
  text.set("kWarpsM", std::int64_t{tile.warps_m}).set("kWarpsN", std::int64_t{tile.warps_n}).set("kWarpsK", std::int64_t{tile.warps_k});
  text.set("kSharedWeights", tile.shared_weights).define("EDGERT_CONV_COPIED_WEIGHTS", tile.shared_weights && !tile.bulk ? "1" : "0");
  text.set("kStageItems", std::int64_t{g.items / g.stages}).set("kWeightSlots", std::int64_t{g.weight_slots});
  text.set("kSplit", std::int64_t{tile.split}).set("kCluster", tile.cluster);
  text.set("kBlocksPerMultiprocessor", std::int64_t{blocks_per_multiprocessor(g, target)});
  text.set("kSharedBytes", std::int64_t{g.shared_bytes});
  return text.text();
}

}  // namespace

std::int32_t stem_pixel_channels(const ConvShape& shape) { return shape.channels <= 4 && (shape.stride[1] % 2 == 0 || is_wide(shape.element)) ? 4 : 8; }
std::int32_t stem_chunk(const ConvShape& shape) { return round_up(shape.kernel[1] * stem_pixel_channels(shape) * (is_wide(shape.element) ? 2 : 1), 16); }

std::uint32_t launch_shared_bytes(const KernelSpec& spec, Footprint footprint, const ConvTarget& target) {
  const std::uint32_t needed = spec.shared_bytes;
  if (target.arch < 90 || spec.grid[0] * spec.grid[1] * spec.grid[2] > static_cast<std::uint32_t>(target.multiprocessors)) return needed;
  // Each block also takes 1 KiB that the driver reserves.
  const std::uint32_t half = static_cast<std::uint32_t>(target.shared_bytes) / 2;
  const bool wide = footprint == Footprint::Wide || needed > half - 4096;
  return std::max(needed, wide ? half + 2048 : half / 2 + 2048);
}

std::optional<std::uint32_t> conv_shared_bytes(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) {
  if (!tile_is_valid(shape, tile, target)) return std::nullopt;
  return static_cast<std::uint32_t>(geometry(shape, tile).shared_bytes);
}

KernelSpec make_conv(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) {
  const std::string name = shape_name(shape) + "_" + tile_name(tile);
  const auto shared = conv_shared_bytes(shape, tile, target);
  if (!shared) throw CompileError(name + ": this tile does not fit the layer or the target");
  const Geometry g = geometry(shape, tile);
  KernelSpec spec;
  const char* file = shape.element == ElementType::F32 ? "kernels/conv_exact.cu" : "kernels/conv.cu";
  spec.job = make_job(name, file, problem_text(shape, tile, g, target), target.arch);
  spec.entry = entry_of(shape);
  spec.tile = tile_text(tile);
  // With a block on every multiprocessor, the next kernel's blocks find each equally free and spread evenly.
  const std::int32_t cluster = (tile.cluster ? tile.split : 1) * tile.share_rows;
  const std::int32_t together = std::max(cluster, tile.split);
  const std::int32_t filled = target.multiprocessors / together * together;
  spec.grid[0] = static_cast<std::uint32_t>(std::max(g.blocks, target.arch >= 90 ? filled : 0));
  spec.block[0] = static_cast<std::uint32_t>(g.threads);
  spec.cluster = static_cast<std::uint32_t>(cluster);
  spec.shared_bytes = *shared;
  if (tile.split > 1 && !tile.cluster) {
    spec.counters = static_cast<std::uint32_t>(g.blocks / tile.split);
    spec.workspace_bytes = static_cast<std::uint64_t>(g.blocks) * static_cast<std::uint64_t>(g.units) * 32;
  }
  return spec;
}

namespace {

/// A float's two halves, the lower one first.
void append_halves(std::vector<std::uint16_t>& to, float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  to.push_back(static_cast<std::uint16_t>(bits));
  to.push_back(static_cast<std::uint16_t>(bits >> 16));
}

}  // namespace

std::vector<std::uint16_t> pack_conv_weights(const ConvShape& shape, const float* weights) {
  const bool stem = shape.image;
  const std::int32_t taps = stem ? shape.kernel[0] : shape.kernel[0] * shape.kernel[1];
  const std::int32_t channels = shape.channels / shape.groups;
  const std::int32_t depth = stem ? stem_chunk(shape) : channels;
  const std::int32_t pixel = stem ? stem_pixel_channels(shape) : 0;
  const std::int32_t k_blocks = divide_up(depth, 16);
  const std::int32_t n_blocks = divide_up(shape.out_channels, 16);
  const bool wide = is_wide(shape.element);
  const std::int32_t elements = wide && !stem ? channels / 2 : channels;
  const auto weight = [&](std::int32_t n, std::int32_t tap, std::int32_t k) {
    std::int32_t channel = k;
    std::int32_t position = tap;
    if (stem) {
      channel = k % pixel;
      if (k / pixel >= shape.kernel[1]) return 0.0f;
      position = tap * shape.kernel[1] + k / pixel;
    }
    if (n >= shape.out_channels || channel >= elements) return 0.0f;
    const std::int64_t all_taps = std::int64_t{shape.kernel[0]} * shape.kernel[1];
    return weights[(std::int64_t{n} * elements + channel) * all_taps + position];
  };
  std::vector<std::uint16_t> packed;
  packed.reserve(static_cast<std::size_t>(taps) * static_cast<std::size_t>(k_blocks) * static_cast<std::size_t>(n_blocks) * 256);
  if (shape.element == ElementType::F32) {
    for (std::int32_t row = 0; row < taps * (depth / 2); ++row) {
      for (std::int32_t n = 0; n < n_blocks * 16; ++n) append_halves(packed, weight(n, row / (depth / 2), row % (depth / 2)));
    }
    return packed;
  }
  for (std::int32_t tap = 0; tap < taps; ++tap) {
    for (std::int32_t block = 0; block < k_blocks * n_blocks; ++block) {
      const std::int32_t k0 = block / n_blocks * 16;
      const std::int32_t n0 = block % n_blocks * 16;
      for (std::int32_t i = 0; i < 256; ++i) {  // lane, half of the 16 columns, register, element of the pair
        const std::int32_t lane = i / 8;
        const std::int32_t n = n0 + i / 4 % 2 * 8 + lane / 4;
        const std::int32_t k = k0 + i / 2 % 2 * 8 + lane % 4 * 2 + i % 2;
        if (wide) {
          const float value = weight(n, tap, k / 2);
          std::uint32_t bits = 0;
          std::memcpy(&bits, &value, sizeof(bits));
          bits = (bits + 0x1000u) & 0xffffe000u;  // 11 bits, halves away from zero
          packed.push_back(static_cast<std::uint16_t>(i % 2 == 0 ? bits : bits >> 16));
          continue;
        }
        const float value = weight(n, tap, k);
        packed.push_back(shape.element == ElementType::F16 ? scalar::to_half(value).bits : scalar::to_bfloat16(value).bits);
      }
    }
  }
  return packed;
}

FoldedNorm fold_layer_norm(const ConvShape& shape, const float* weights, const float* bias, const float* gamma, const float* beta) {
  const std::size_t outputs = static_cast<std::size_t>(shape.out_channels), depth = static_cast<std::size_t>(shape.channels);
  const std::size_t padded = (outputs + 15) / 16 * 16;
  FoldedNorm out;
  out.weights.resize(outputs * depth);
  out.bias.assign(2 * padded, 0.0f);
  for (std::size_t n = 0; n < outputs; ++n) {
    double constant = bias == nullptr ? 0 : double{bias[n]};
    double sum = 0;
    for (std::size_t k = 0; k < depth; ++k) {
      const float w = weights[n * depth + k];
      const float folded = w * gamma[k];
      const float rounded = shape.element == ElementType::F16 ? scalar::to_float(scalar::to_half(folded)) : scalar::to_float(scalar::to_bfloat16(folded));
      out.weights[n * depth + k] = rounded;
      sum += double{rounded};
      constant += double{w} * beta[k];
    }
    out.bias[n] = static_cast<float>(constant);
    out.bias[padded + n] = static_cast<float>(sum);
  }
  if (shape.store_normalized) {
    out.bias.insert(out.bias.end(), gamma, gamma + depth);
    out.bias.insert(out.bias.end(), beta, beta + depth);
  }
  return out;
}

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

/// Blocks of the kernel that a multiprocessor runs at a time.
std::int32_t resident_blocks(const Geometry& g, const ConvTarget& target) {
  const std::int32_t by_registers = 65536 / (std::max(g.registers, 32) * g.threads);
  const std::int32_t by_shared = (target.shared_bytes + 1024) / (g.shared_bytes + 1024);
  return std::max(1, std::min({by_registers, by_shared, 4}));
}

/// Cycles that `at_once` blocks of a multiprocessor take beside each other: those that keep its units busy, and those in which
/// a block waits for its first input or its last stores.
struct Round {
  double busy, waiting;
};
Round round_of(const ConvShape& shape, const ConvTile& tile, const Geometry& g, double at_once, bool several) {
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
  const double late = late_weights * at_once / bandwidth;
  const double prefetch = 0.25 * weight_bytes * tile.warps_m / bandwidth * at_once;  // hidden behind the previous kernel in part
  const double end = 250 + units * (60 + 25 * tile.warps_k);
  const double combine = tile.split == 1 ? 0 : tile.cluster ? 1400 + 300 * tile.split + units * 60 : 2800 + units * tile.split * 40;
  const double statistics = shape.layer_norm ? 0.03 * tile.tile_width * g.channels : 0;  // of the rows
  // Where blocks take turns, what they finish costs time beside others' products; and sums that meet in memory go there and back.
  const double finished = (several ? 0.9 * g.units : 0) + (tile.split > 1 && !tile.cluster && (several || g.ring) ? 64.0 * g.units / bandwidth : 0);
  if (!g.ring) return {std::max(main_loop, late) + statistics + input + prefetch + at_once * finished, 500 + end + combine};
  // Copies run beside the products, but for the first ones. A block alone waits for its slowest warp at each stage.
  const double copies = (input_bytes + weight_bytes) / bandwidth * at_once;
  const double stages = double(g.chunks_per_split) * g.stages;
  const double apart = stages * (at_once > 1 ? 10 : 120) * std::max(1.0, g.threads / 256.0);
  return {std::max(main_loop, copies) + apart + 2.2 * statistics * at_once + at_once * finished, 800 + end + combine};
}

/// Microseconds, roughly, from the wait on, as measured on a large GPU. Only the order matters.
double estimate(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) {
  const Geometry g = geometry(shape, tile);
  if (shape.element == ElementType::F32) return estimate_exact(tile, g, target);
  const double cycles_per_us = 1900;
  const std::int32_t each = divide_up(g.blocks, target.multiprocessors);  // blocks of the busiest multiprocessor
  const std::int32_t at_once = std::min(each, resident_blocks(g, target));
  const Round full = round_of(shape, tile, g, at_once, each > 1);
  const std::int32_t rounds = each / at_once, rest = each % at_once;
  double cycles = full.busy * rounds + full.waiting;
  if (rest > 0) cycles += round_of(shape, tile, g, rest, true).busy;
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

/// Blocks that run at the same time, one a multiprocessor. Clusters lie within a group of multiprocessors, so large ones
/// leave some idle: of the 132 of an H200, 128 blocks in clusters of 4 take twice as long as 112, or as 128 in clusters of 2.
std::int32_t blocks_at_once(const ConvTile& tile, const ConvTarget& target) {
  const std::int32_t cluster = (tile.cluster ? tile.split : 1) * tile.share_rows;
  return cluster > 2 ? target.multiprocessors * 7 / 8 : target.multiprocessors;
}

/// Gives the tile as many buffers as leave room for two blocks a multiprocessor, two at least; nothing where none fit.
std::optional<double> estimate_with_buffers(const ConvShape& shape, ConvTile& tile, const ConvTarget& target) {
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
  if (shape.image) chunks = {stem_chunk(shape)};
  ConvTile tile;
  tile.shared_weights = true;
  const auto consider = [&] {
    for (const std::int32_t split : {1, 2, 4}) {
      tile.split = split;
      for (const std::int32_t stages : {4, 3}) {
        tile.weight_stages = stages;
        tile.buffers = 2;
        if (!tile_is_valid(shape, tile, target)) tile.buffers = stages;  // where a chunk is one stage
        if (!tile_is_valid(shape, tile, target)) continue;
        if (resident_blocks(geometry(shape, tile), target) < 2 && stages > 3) continue;
        all.emplace_back(estimate(shape, tile, target), tile);
        break;
      }
    }
  };
  for (const auto& [height, width] : tile_extents(shape, 256)) {
    const std::int32_t blocks_m = divide_up(height * width, 16);
    for (const std::int32_t block_n : {32, 48, 64, 96, 128, 192, 256}) {
      if (blocks_m * block_n < 192 || block_n > round_up(shape.out_channels, 16)) continue;
      for (const std::int32_t chunk : chunks) {
        if (!shape.image && chunk > round_up(shape.channels / shape.groups, 16)) continue;
        for (const std::int32_t warps_m : {1, 2, 4}) {
          if (blocks_m % warps_m != 0 || blocks_m / warps_m > 7) continue;
          for (const std::int32_t warps_n : {1, 2, 3, 4}) {
            const std::int32_t warp_blocks = blocks_m / warps_m * (block_n / 16) / warps_n;
            if (block_n % (16 * warps_n) != 0 || block_n / warps_n > 64 || warp_blocks > 16 || warp_blocks < 4) continue;
            if (warps_m * warps_n < 2 || warps_m * warps_n > 12) continue;
            tile.tile_height = height, tile.tile_width = width, tile.block_n = block_n, tile.chunk = chunk;
            tile.warps_m = warps_m, tile.warps_n = warps_n;
            consider();
          }
        }
      }
    }
  }
}

}  // namespace

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
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ConvTile> out;
  for (std::size_t i = 0; i < all.size() && out.size() < limit; ++i) out.push_back(all[i].second);
  return out;
}

}  // namespace edgert::codegen
