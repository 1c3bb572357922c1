// SPDX-License-Identifier: Apache-2.0
// What follows from a convolution's shape and tile: the sizes of kernels/conv.cu's and conv_exact.cu's blocks, and whether
// they fit a target. For the files of this folder that make the kernels, and those that rank their tiles.
#pragma once

#include <cstdint>

#include "codegen/conv_kernel.h"

namespace edgert::codegen {

constexpr std::int32_t divide_up(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }
constexpr std::int32_t round_up(std::int32_t a, std::int32_t b) { return divide_up(a, b) * b; }

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

Geometry geometry(const ConvShape& shape, const ConvTile& tile);

/// Whether shape, tile and target go together.
bool tile_is_valid(const ConvShape& shape, const ConvTile& tile, const ConvTarget& target);

/// Rows of the patch that hold what input channels are multiplied with.
std::int32_t scale_rows(const ConvShape& shape);

/// Two blocks a multiprocessor let a kernel's blocks start, and load weights, while the previous kernel's still run.
std::int32_t blocks_per_multiprocessor(const Geometry& g, const ConvTarget& target);

/// Blocks of the kernel that a multiprocessor runs at a time.
std::int32_t resident_blocks(const Geometry& g, const ConvTarget& target);

}  // namespace edgert::codegen
