// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/expand_mma.cu: as codegen/expand_kernel.h, with the window on tensor cores.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codegen/expand_kernel.h"

namespace edgert::codegen {

/// A block computes tile_height x tile_width output pixels of block_n hidden channels; a warp slides the window over `rows`
/// outputs one below the other at once, which divide tile_height.
struct ExpandMmaTile {
  std::int32_t tile_height = 7, tile_width = 7, block_n = 32, warps_m = 4, warps_n = 2, rows = 1;
};

/// Tiles of an image: slices of the sums that `pool` writes.
std::int32_t expand_mma_tiles(const ExpandShape& shape, const ExpandMmaTile& tile);

/// Bytes of dynamic shared memory, or nothing when shape, tile and target do not go together.
std::optional<std::uint32_t> expand_mma_shared_bytes(const ExpandShape& shape, const ExpandMmaTile& tile, const ConvTarget& target);

/// The kernel. Its arguments are x, packed weights of the 1x1 convolution (pack_conv_weights), its bias, the window's words, y,
/// the sums (null without pool), all addresses, and the address and size in bytes of a later kernel's weights (size 0 for
/// none). Throws CompileError when expand_mma_shared_bytes() has no value.
KernelSpec make_expand_mma(const ExpandShape& shape, const ExpandMmaTile& tile, const ConvTarget& target);

/// Depthwise weights [hidden][window][window] and their bias, null for none, as kernels/depthwise_mma.h wants them.
std::vector<std::uint32_t> pack_window_words(const ExpandShape& shape, const float* weights, const float* bias);

/// How warps share `blocks_m` times `blocks_n` products of 16 pixels and 16 hidden channels: how many of them along pixels, and the
/// blocks along channels of each; evenly, and with few weights to hold.
struct WideningWarps {
  std::int32_t warps_m = 1, blocks_n = 1;
};
WideningWarps share_widening(std::int32_t warps, std::int32_t blocks_m, std::int32_t blocks_n, std::int32_t chunk);

/// Tiles worth trying, the most promising first.
std::vector<ExpandMmaTile> rank_expand_mma_tiles(const ExpandShape& shape, const ConvTarget& target, std::size_t limit);

}  // namespace edgert::codegen
