// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/inverted_residual.cu: a whole inverted-residual block, or a depthwise-separable one, in one launch.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codegen/expand_kernel.h"

namespace edgert::codegen {

/// x -> [1x1 convolution to `hidden` channels] -> depthwise convolution -> 1x1 convolution to `out_channels`, `epilogue`.
/// Channels last, pitches as in ConvShape; out_channels, too, is a multiple of 8.
struct InvertedResidualShape {
  ExpandShape first;  ///< up to the depthwise convolution; output_pitch and pool are of no account
  bool widens = true;  ///< else first.channels are the hidden ones and there is no first product
  std::int32_t out_channels = 8, output_pitch = 0, residual_pitch = 0;
  scalar::Epilogue epilogue = {};
};

/// Whether the kernels for it, this one and that of codegen/inverted_residual_mma_kernel.h, can compute it.
bool inverted_residual_shape_is_valid(const InvertedResidualShape& shape);

/// A block computes tile_height x tile_width output pixels of all channels from its share of the hidden ones; warps share
/// the last product along pixels, output channels and hidden channels.
struct InvertedResidualTile {
  std::int32_t tile_height = 4, tile_width = 4;
  std::int32_t warps_m = 1, warps_n = 2, warps_k = 4;
  std::int32_t split = 1;  ///< blocks that share the hidden channels of a tile
  bool cluster = false;    ///< they form a cluster (sm_90 and later) instead of meeting in a workspace
  std::int32_t strip = 1;  ///< output pixels in a row that a thread slides the window over at once; divides tile_width
  std::int32_t vector = 8;  ///< channels that it does this for: 4 or 8
};

/// Bytes of dynamic shared memory, or nothing when shape, tile and target do not go together.
std::optional<std::uint32_t> inverted_residual_shared_bytes(const InvertedResidualShape& shape, const InvertedResidualTile& tile, const ConvTarget& target);

/// The kernel. Its arguments are x, the weights, the floats, residual, y, workspace, counters, all addresses, and the address
/// and size in bytes of a later kernel's weights (size 0 for none). Throws CompileError when
/// inverted_residual_shared_bytes() has no value.
KernelSpec make_inverted_residual(const InvertedResidualShape& shape, const InvertedResidualTile& tile, const ConvTarget& target);

/// Weights of the products, [hidden][channels] and [out_channels][hidden], rounded to the shape's type in the order that the
/// kernel reads. `widening` is null without a first product.
std::vector<std::uint16_t> pack_inverted_residual_weights(const InvertedResidualShape& shape, const float* widening, const float* narrowing);

/// What the kernel adds and slides: depthwise weights [hidden][window][window], and a bias for each convolution, null for
/// none.
std::vector<float> pack_inverted_residual_floats(const InvertedResidualShape& shape, const float* window, const float* widening_bias, const float* window_bias,
                                                 const float* narrowing_bias);

/// Tiles worth trying, the most promising first.
std::vector<InvertedResidualTile> rank_inverted_residual_tiles(const InvertedResidualShape& shape, const ConvTarget& target, std::size_t limit);

}  // namespace edgert::codegen
