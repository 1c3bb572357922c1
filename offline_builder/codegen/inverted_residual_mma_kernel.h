// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/inverted_residual_mma.cu: as codegen/inverted_residual_kernel.h, with the window on tensor cores.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codegen/expand_mma_kernel.h"
#include "codegen/inverted_residual_kernel.h"

namespace edgert::codegen {

/// A block computes tile_height x tile_width output pixels of all channels; warps share them along pixels and hidden channels.
struct InvertedResidualMmaTile {
  std::int32_t tile_height = 4, tile_width = 4;
  std::int32_t warps_m = 1, warps_k = 8;
  std::int32_t rows = 1;    ///< outputs one below the other that a warp slides the window over at once; divides tile_height
  std::int32_t passes = 1;  ///< in which a block computes its hidden channels, equal parts of their 16-channel blocks
};

/// Bytes of dynamic shared memory, or nothing when shape, tile and target do not go together.
std::optional<std::uint32_t> inverted_residual_mma_shared_bytes(const InvertedResidualShape& shape, const InvertedResidualMmaTile& tile, const ConvTarget& target);

/// The kernel. Its arguments are x, the weights (pack_inverted_residual_weights), the words, residual, y, all addresses, and the address
/// and size in bytes of a later kernel's weights (size 0 for none). Throws CompileError when
/// inverted_residual_mma_shared_bytes() has no value.
KernelSpec make_inverted_residual_mma(const InvertedResidualShape& shape, const InvertedResidualMmaTile& tile, const ConvTarget& target);

/// What the kernel adds and slides, as words: depthwise weights [hidden][window][window], and a bias for each convolution,
/// null for none.
std::vector<std::uint32_t> pack_inverted_residual_words(const InvertedResidualShape& shape, const float* window, const float* widening_bias, const float* window_bias,
                                                 const float* narrowing_bias);

/// Tiles worth trying, the most promising first.
std::vector<InvertedResidualMmaTile> rank_inverted_residual_mma_tiles(const InvertedResidualShape& shape, const ConvTarget& target, std::size_t limit);

}  // namespace edgert::codegen
