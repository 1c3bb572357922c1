// SPDX-License-Identifier: Apache-2.0
// The tile of a convolution: which outputs a block computes, which part of it a warp takes, and how many weights a stage
// holds. Constants come from problem.h.
#pragma once

#include "kernels/common/epilogue.h"
#include "kernels/common/prefetch.h"
#include "kernels/common/ptx.h"
#include "problem.h"

namespace edgert::device {

using namespace problem;

constexpr int kThreads = 32 * kWarpsM * kWarpsN * kWarpsK;
constexpr int kBlockM = (kTileHeight * kTileWidth + 16 * kWarpsM - 1) / (16 * kWarpsM) * (16 * kWarpsM);
constexpr int kWarpM = kBlockM / kWarpsM;
constexpr int kWarpN = kBlockN / kWarpsN;
constexpr int kBlocksM = kWarpM / 16;
constexpr int kBlocksN = kWarpN / 16;
static_assert(kBlockN % (16 * kWarpsN) == 0, "the tile does not divide among warps");

constexpr int kTilesH = (kOutHeight + kTileHeight - 1) / kTileHeight;
constexpr int kTilesW = (kOutWidth + kTileWidth - 1) / kTileWidth;

constexpr int kTilesN = (kOutChannels + kBlockN - 1) / kBlockN;
/// Blocks with work. A grid may be padded to one block a multiprocessor; the rest only keep theirs occupied.
constexpr int kBlocks = kBatch * kTilesH * kTilesW * kTilesN * kSplit;

struct Block {
  int image, row, column;  // of the tile's first output pixel
  int channel;             // first output channel
  int split;
  int tile;  // number of the output tile, counting channels
};

__device__ __forceinline__ Block this_block() {
  // Blocks that share something follow each other: those of a tile, then those of its rows.
  const int index = static_cast<int>(blockIdx.x);
  const int tile = index / kSplit / kTilesN;
  return {tile / (kTilesH * kTilesW), tile / kTilesW % kTilesH * kTileHeight, tile % kTilesW * kTileWidth,
          index / kSplit % kTilesN * kBlockN, index % kSplit, index / kSplit};
}

struct Warp {
  int m, n, k, lane;
};

__device__ __forceinline__ Warp this_warp() {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  return {warp % kWarpsM, warp / kWarpsM % kWarpsN, warp / (kWarpsM * kWarpsN), static_cast<int>(threadIdx.x) % 32};
}

struct Arguments {
  const void* x;
  const Vector16* weights;  // packed: for each tap and 16 input channels, for each 16 output channels, a fragment block
  const float* bias;        // kOutChannels rounded up to 16
  const uint16* residual;
  void* y;  // 16-bit elements, or float planes
  float* workspace;
  uint32* counters;  // zero before the first launch, and left so
  const char* prefetch;  // weights of a later kernel
  uint32 prefetch_bytes;
};

}  // namespace edgert::device
