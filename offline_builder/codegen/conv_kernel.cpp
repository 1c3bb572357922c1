// SPDX-License-Identifier: Apache-2.0
#include "codegen/conv_kernel.h"

#include <algorithm>
#include <string>

#include "codegen/conv_geometry.h"

namespace edgert::codegen {

namespace {

std::string number(std::int32_t value) { return std::to_string(value); }

std::string tile_name(const ConvTile& t) {
  return "t" + number(t.tile_height) + "x" + number(t.tile_width) + "_n" + number(t.block_n) + "_c" + number(t.chunk) + "_b" +
         number(t.buffers) + "_w" + number(t.warps_m) + number(t.warps_n) + number(t.warps_k) + "_k" + number(t.split) +
         (t.cluster ? "c" : "") + (t.shared_weights ? "s" : "") + (t.weight_stages > 0 ? number(t.weight_stages) : "") + (t.bulk ? "_i" + number(t.share_rows) : "") + (t.groups_of_warps ? "g" : "");
}

std::string tile_text(const ConvTile& t) {
  return "tile " + number(t.tile_height) + "x" + number(t.tile_width) + "x" + number(t.block_n) + " k" + number(t.chunk) + " warps " +
         number(t.warps_m) + "x" + number(t.warps_n) + "x" + number(t.warps_k) + " buffers " + number(t.buffers) +
         (t.split > 1 ? " split " + number(t.split) : "") + (t.cluster ? " cluster" : "") + (t.shared_weights ? " shared weights" : "") +
         (t.weight_stages > 0 ? " stages " + number(t.weight_stages) : "") +
         (t.groups_of_warps ? " in groups" : "") + (t.bulk ? " bulk" : "") + (t.share_rows > 1 ? " sharing " + number(t.share_rows) : "");
}

std::string shape_name(const ConvShape& s) {
  return std::string(s.store_normalized ? "normstore_" : s.layer_norm ? "norm_" : s.scaled ? "scaled_" : s.pre_activated ? "preactivated_" : "") + (s.groups > 1 ? "grouped" + number(s.groups) + "_" : "") + "conv" + number(s.kernel[0]) + "x" + number(s.kernel[1]) + "s" + number(s.stride[0]) + "_" + number(s.height) + "x" +
         number(s.width) + "x" + number(s.channels) + (s.shortcut.channels > 0 ? "_shortcut" + number(s.shortcut.channels) : "") + "_" + number(s.out_channels);
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

/// Where a shortcut's pixels are.
void set_shortcut(ProblemText& text, const ConvShape::Shortcut& shortcut) {
  text.set("kShortcutChannels", std::int64_t{shortcut.channels}).set("kShortcutPitch", std::int64_t{shortcut.pitch});
  text.set("kShortcutHeight", std::int64_t{shortcut.height}).set("kShortcutWidth", std::int64_t{shortcut.width});
  text.set("kShortcutStrideHeight", std::int64_t{shortcut.stride[0]}).set("kShortcutStrideWidth", std::int64_t{shortcut.stride[1]});
  text.set("kShortcutOutHeight", std::int64_t{shortcut.out_height}).set("kShortcutOutWidth", std::int64_t{shortcut.out_width});
}

/// What the kernel's last parameter is, beyond those that all have.
const char* more_parameters(const ConvShape& shape) {
  if (shape.store_normalized) return ", uint16* normalized";
  if (scale_rows(shape) > 0) return ", const uint16* scale";
  return shape.shortcut.channels > 0 ? ", const void* shortcut" : "";
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
  text.define("EDGERT_CONV_GROUPED_WARPS", tile.groups_of_warps ? "1" : "0");
  text.define("EDGERT_CONV_BULK", tile.bulk ? "1" : "0").set("kBulk", tile.bulk);
  text.set("kShareRows", std::int64_t{tile.share_rows});
  text.define("EDGERT_CONV_SCALED", scale_rows(shape) > 0 ? "1" : "0").set("kScaled", shape.scaled).set("kPreActivated", shape.pre_activated);
  text.define("EDGERT_CONV_MORE_PARAMETERS", more_parameters(shape)).define("EDGERT_CONV_SHORTCUT", shape.shortcut.channels > 0 ? "1" : "0");
  text.set("kLayerNorm", shape.layer_norm).set("kRms", shape.rms).set("kEpsilon", shape.epsilon);
  text.set("kBatch", std::int64_t{shape.batch}).set("kHeight", std::int64_t{shape.height}).set("kWidth", std::int64_t{shape.width});
  text.set("kChannels", std::int64_t{g.channels}).set("kInputChannels", std::int64_t{shape.channels});
  text.set("kPixelChannels", std::int64_t{shape.image ? stem_pixel_channels(shape) : 8});
  if (shape.image) set_image(text, shape);
  if (shape.shortcut.channels > 0) set_shortcut(text, shape.shortcut);
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
  text.set("kOutImagePixels", std::int64_t{shape.output_image_pixels != 0 ? shape.output_image_pixels : shape.out_height * shape.out_width});
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

std::uint32_t launch_shared_bytes(const KernelSpec& spec, Footprint footprint, const ConvTarget& target) {
  const std::uint32_t needed = spec.shared_bytes;
  if (target.arch < 90 || spec.grid[0] * spec.grid[1] * spec.grid[2] > static_cast<std::uint32_t>(target.multiprocessors)) return needed;
  // Each block also takes 1 KiB that the driver reserves.
  const std::uint32_t half = static_cast<std::uint32_t>(target.shared_bytes) / 2;
  const bool wide = footprint == Footprint::Wide || needed > half - 4096;
  return std::max(needed, wide ? half + 2048 : half / 2 + 2048);
}

KernelSpec make_conv(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target) {
  const std::string name = shape_name(shape) + "_" + tile_name(tile);
  const auto shared = conv_shared_bytes(shape, tile, target);
  if (!shared) throw CompileError(name + ": this tile does not fit the layer or the target");
  const Geometry g = geometry(shape, tile);
  KernelSpec spec;
  const char* file = shape.element == ElementType::F32 ? "kernels/conv_exact.cu" : tile.groups_of_warps ? "kernels/conv_group.cu" : "kernels/conv.cu";
  spec.job = make_job(name, file, problem_text(shape, tile, g, target), target.arch);
  spec.job.own_features = tile.groups_of_warps;
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

}  // namespace edgert::codegen
