// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/expand.cu: the 1x1 and the depthwise convolution of an inverted-residual block in one launch.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codegen/conv_kernel.h"
#include "codegen/window_kernel.h"

namespace edgert::codegen {

/// x [batch][height][width][channels], 1x1 convolution to `hidden` channels, `expand` epilogue, square depthwise window,
/// `epilogue`. Channels last, pitches as in ConvShape; channels and hidden are multiples of 8.
struct ExpandShape {
  std::int32_t batch = 1, height = 1, width = 1, channels = 8, hidden = 8;
  std::int32_t out_height = 1, out_width = 1;
  std::int32_t window = 3, stride = 1, pad[2] = {1, 1};  ///< window of 3 or 5; top and left
  std::int32_t input_pitch = 0, output_pitch = 0;
  bool pool = false;  ///< sums over each tile's pixels are written as floats [batch][tiles][hidden]
  ElementType element = ElementType::F16;
  scalar::Epilogue expand = {}, epilogue = {};  ///< no residuals
};

/// Whether the kernels for it, this one and that of codegen/expand_mma_kernel.h, can compute it.
bool expand_shape_is_valid(const ExpandShape& shape);

/// A block computes tile_height x tile_width output pixels of block_n hidden channels, a thread `strip` pixels at a time.
struct ExpandTile {
  std::int32_t tile_height = 7, tile_width = 7, block_n = 32, warps_m = 4, warps_n = 2, strip = 1;
};

/// Tiles of an image: slices of the sums that `pool` writes.
std::int32_t expand_tiles(const ExpandShape& shape, const ExpandTile& tile);

/// Bytes of dynamic shared memory, or nothing when shape, tile and target do not go together.
std::optional<std::uint32_t> expand_shared_bytes(const ExpandShape& shape, const ExpandTile& tile, const ConvTarget& target);

/// The kernel. Its arguments are x, packed weights of the 1x1 convolution (pack_conv_weights), its bias, the depthwise
/// weights (pack_depthwise_weights), their bias, y, the sums (null without pool), all addresses, and the address and size
/// in bytes of a later kernel's weights (size 0 for none). Throws CompileError when expand_shared_bytes() has no value.
KernelSpec make_expand(const ExpandShape& shape, const ExpandTile& tile, const ConvTarget& target);

/// The two convolutions of the shape, as pack_conv_weights() and pack_depthwise_weights() want them.
ConvShape expand_conv_shape(const ExpandShape& shape);
WindowShape expand_window_shape(const ExpandShape& shape);

/// Tiles worth trying, the most promising first.
std::vector<ExpandTile> rank_expand_tiles(const ExpandShape& shape, const ConvTarget& target, std::size_t limit);

}  // namespace edgert::codegen
