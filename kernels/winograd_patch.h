// SPDX-License-Identifier: Apache-2.0
// The input side of kernels/winograd.cu: which positions a block has, the input pixels under them in shared memory, and
// their transformation B x B^T.
//
// A block's positions are a rectangle of kTileRows x kTileColumns, at most 32. Its rows are counted through all images, so
// that one block may end an image and begin the next: where 14 rows of positions have no good divisor, 8 x 14 of them have.
#pragma once

#include "kernels/common/epilogue.h"
#include "kernels/common/prefetch.h"
#include "kernels/common/ptx.h"
#include "problem.h"

namespace edgert::device {

using namespace problem;

constexpr int kThreads = 512;
constexpr int kFrequencies = 16;
constexpr int kPositions = 32;
constexpr int kChunk = 32;  // channels a step: two for each thread and position
constexpr int kChunks = (kChannels + kChunk - 1) / kChunk;
static_assert(kPositions * kChunk == 2 * kThreads && kThreads == 32 * kFrequencies, "a thread transforms two channels of a position");

constexpr int kRowsOfImage = (kOutHeight + 1) / 2, kColumnsOfImage = (kOutWidth + 1) / 2;  // positions
constexpr int kRows = kBatch * kRowsOfImage;
constexpr int kTilesW = (kColumnsOfImage + kTileColumns - 1) / kTileColumns;
constexpr int kTilesH = (kRows + kTileRows - 1) / kTileRows;
constexpr int kTilesN = (kOutChannels + kBlockN - 1) / kBlockN;
constexpr int kBlocks = kTilesH * kTilesW * kTilesN;  // of work: a block of the grid does several
static_assert(kTileRows * kTileColumns <= kPositions, "too many positions for a block");

struct Block {
  int row, column;  // first position
  int channel;      // first output channel
};
__device__ __forceinline__ Block block_at(int index) {
  return {index / (kTilesN * kTilesW) * kTileRows, index / kTilesN % kTilesW * kTileColumns, index % kTilesN * kBlockN};
}
struct Warp {
  int frequency, lane;
};
__device__ __forceinline__ Warp this_warp() { return {static_cast<int>(threadIdx.x) / 32, static_cast<int>(threadIdx.x) % 32}; }

// Input rows lie in the patch as if the images, with what is above and below them, were stacked: of an image those that
// its windows cover, two for each row of positions and two more.
constexpr int kImageRows = 2 * kRowsOfImage + 2;
__device__ __forceinline__ int stacked_row(int row_of_positions) {
  return row_of_positions / kRowsOfImage * kImageRows + row_of_positions % kRowsOfImage * 2;
}
constexpr int kMostSeams = (kTileRows - 1 + kRowsOfImage - 1) / kRowsOfImage;  // between images
constexpr int kPatchRows = 2 * kTileRows + 2 + 2 * kMostSeams;
constexpr int kPatchPairs = kTileColumns + 1;  // of columns
// Two neighbouring pixels have a line of 128 bytes. In every other line they change places, so that the same one of two
// neighbouring pairs lies on other banks.
constexpr int kPatchBytes = kPatchRows * kPatchPairs * 128;

/// Where output pixels of a position begin.
struct Position {
  int image, row, column;
  bool exists;
};
__device__ __forceinline__ Position locate(const Block& block, int position) {
  const int row = block.row + position / kTileColumns, column = block.column + position % kTileColumns;
  const bool exists = position < kTileRows * kTileColumns && row < kRows && column < kColumnsOfImage;
  return {row / kRowsOfImage, row % kRowsOfImage * 2, column * 2, exists};
}

/// Copies the part of each step's input that one thread is responsible for.
class Patch {
 public:
  __device__ __forceinline__ explicit Patch(const Block& block) {
    const int first = stacked_row(block.row);
#pragma unroll
    for (int i = 0; i < kPiecesPerThread; ++i) {
      const int pixel = piece(i) / kParts, row = first + pixel / (2 * kPatchPairs), column = pixel % (2 * kPatchPairs);
      const int image = row / kImageRows, h = row % kImageRows - kPadTop, w = block.column * 2 + column - kPadLeft;
      const bool inside = is_piece(i) && image < kBatch && h >= 0 && h < kHeight && w >= 0 && w < kWidth;
      offset_[i] = inside ? ((image * kHeight + h) * kWidth + w) * kInputPitch + piece(i) % kParts * 8 : -1;
      pin(offset_[i]);
    }
  }

  /// Zeros where padding is, and beyond the last channel.
  __device__ __forceinline__ void load(uint32 to, const uint16* x, int chunk) const {
#pragma unroll
    for (int i = 0; i < kPiecesPerThread; ++i) {
      const int line = piece(i) / (2 * kParts), half = piece(i) / kParts % 2;
      const uint32 at = to + static_cast<uint32>(line * 128 + (half ^ line % 2) * 64 + piece(i) % kParts * 16);
      const bool there = offset_[i] >= 0 && (kChannels % kChunk == 0 || chunk * kChunk + piece(i) % kParts * 8 < kChannels);
      if (is_piece(i)) copy_async_16(at, there ? x + offset_[i] + chunk * kChunk : x, there ? 16u : 0u);
    }
  }

  /// The first steps, a group of copies each; nothing where there are no more.
  __device__ __forceinline__ void load_first(uint32 to, const uint16* x) const {
#pragma unroll
    for (int chunk = 0; chunk < kPatches; ++chunk) {
      if (chunk < kChunks) load(to + static_cast<uint32>(chunk * kPatchBytes), x, chunk);
      copy_async_commit();
    }
  }

 private:
  static constexpr int kParts = kChunk / 8;
  static constexpr int kPieces = kPatchRows * kPatchPairs * 2 * kParts;
  static constexpr int kPiecesPerThread = (kPieces + kThreads - 1) / kThreads;

  __device__ static __forceinline__ int piece(int i) { return static_cast<int>(threadIdx.x) + i * kThreads; }
  __device__ static __forceinline__ bool is_piece(int i) { return kPieces % kThreads == 0 || piece(i) < kPieces; }

  int offset_[kPiecesPerThread];  // element offset of a piece in the first step; -1 where padding is
};

// Transformed input: for each frequency a row of kChunk channels for each position, two rows a line. Pieces of 16 bytes
// have changed places within a line, so that eight rows of one piece lie on all banks.
constexpr int kFrequencyBytes = kPositions * kChunk * 2;
constexpr int kTransformedBytes = kFrequencies * kFrequencyBytes;
__device__ __forceinline__ uint32 transformed_bytes(int position, int piece) {
  const int line = position / 2;
  return static_cast<uint32>(line * 128 + ((position % 2 * 4 + piece) ^ line % 4) * 16);
}

/// Two channels of one position: B x B^T in 16-bit sums.
class Transform {
 public:
  __device__ __forceinline__ explicit Transform(const Block& block) {
    const int position = static_cast<int>(threadIdx.x) / 16, pair = static_cast<int>(threadIdx.x) % 16;
    // What no position stands for is computed like the first one.
    const int real = position < kTileRows * kTileColumns ? position : 0;
    const int slot = stacked_row(block.row + real / kTileColumns) - stacked_row(block.row);
    const int line = slot * kPatchPairs + real % kTileColumns;
    from_ = static_cast<uint32>(line * 128 + line % 2 * 64 + pair * 4);
    to_ = transformed_bytes(position, pair / 4) + static_cast<uint32>(pair % 4 * 4);
    pin(from_), pin(to_);
  }

  __device__ __forceinline__ void run(uint32 to, uint32 patch) const {
    const uint32 same = patch + from_, other = patch + (from_ ^ 64u);  // lines in which pixels have the places of the first, or the other's
    uint32 t[4][4];
#pragma unroll
    for (int column = 0; column < 4; ++column) {
      uint32 x[4];
#pragma unroll
      for (int row = 0; row < 4; ++row) {
        const int lines = row * kPatchPairs + column / 2;
        x[row] = load_shared_4((lines % 2 == column % 2 ? same : other) + static_cast<uint32>(lines * 128));
      }
      transform_four(x, t[0][column], t[1][column], t[2][column], t[3][column]);
    }
#pragma unroll
    for (int row = 0; row < 4; ++row) {
      uint32 out[4];
      transform_four(t[row], out[0], out[1], out[2], out[3]);
#pragma unroll
      for (int i = 0; i < 4; ++i) store_shared_4(to + to_ + static_cast<uint32>((row * 4 + i) * kFrequencyBytes), out[i]);
    }
  }

 private:
  __device__ static __forceinline__ void transform_four(const uint32 (&x)[4], uint32& a, uint32& b, uint32& c, uint32& d) {
    a = Element::subtract_pairs(x[0], x[2]), b = Element::add_pairs(x[1], x[2]);
    c = Element::subtract_pairs(x[2], x[1]), d = Element::subtract_pairs(x[1], x[3]);
  }

  uint32 from_;  // of the window's first pixel
  uint32 to_;
};

}  // namespace edgert::device
