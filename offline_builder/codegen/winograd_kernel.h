// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/winograd.cu: which convolutions and tiles it takes, the kernel that results, and the transformed
// weights that it reads.
#pragma once

#include "codegen/conv_kernel.h"

namespace edgert::codegen {

/// A block computes a rectangle of rows x columns positions, squares of 2x2 outputs, at most 32 (rows are counted through
/// all images), times block_n channels: 16, 32 or 64.
struct WinogradTile {
  std::int32_t rows = 4, columns = 8, block_n = 64;
};

/// Whether the kernel computes the convolution: 3x3, stride 1, f16, channels multiples of 16 inputs and 8 outputs, everything
/// moved eight channels at a time.
bool winograd_takes(const ConvShape& shape);

/// The kernel. Its arguments are x, packed weights, bias, residual, y, all addresses, and the address and size in bytes of a
/// later kernel's weights to bring into the L2 cache (size 0 for none). Throws CompileError when shape, tile and target do
/// not go together.
KernelSpec make_winograd(const ConvShape& shape, const WinogradTile& tile, const ConvTarget& target);

/// G w G^T of weights [out_channels][channels][3][3], computed in double and rounded once, in the order of pack_conv_weights()
/// for 16 taps, inputs rounded up to a multiple of 32 and outputs to one of 64. Values beyond the range of f16 become infinite.
std::vector<std::uint16_t> pack_winograd_weights(const ConvShape& shape, const float* weights);

/// Whether all of these f16 numbers are finite: weights that are not have no Winograd form.
bool are_finite_halves(const std::vector<std::uint16_t>& halves);

/// Tiles worth trying, the most promising first, and the microseconds that they take on a large GPU, roughly, as
/// rank_conv_tiles() estimates them. None where winograd_takes() says no.
struct WinogradEstimate {
  WinogradTile tile;
  double microseconds;
};
std::vector<WinogradEstimate> rank_winograd_tiles(const ConvShape& shape, const ConvTarget& target, std::size_t limit);

}  // namespace edgert::codegen
