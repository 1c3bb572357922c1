// SPDX-License-Identifier: Apache-2.0
// Sums of rows gathered from up to three tables, normalised or not: the embeddings at the start of a transformer, or with
// one table in its own order, layer or RMS normalisation. A warp computes a row at a time, or a few, which stay in its registers, so that the
// variance is that of the differences to the mean. problem.h holds the extents (offline_builder/codegen/rows_kernel.h).
#include "kernels/common/epilogue.h"
#include "kernels/common/ptx.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

constexpr int kVectors = kDepth / 8;
constexpr int kVectorsPerLane = (kVectors + 31) / 32;
static_assert(kDepth % 8 == 0, "rows are read 16 bytes at a time");

/// Where the table's row for output row `row` lies. kIndex: 0 for the rows in their own order, else the width in bytes of
/// the numbers at `index`. Numbers outside the table, which no valid input has, give its last row.
template <int kIndex, int kTableRows>
__device__ __forceinline__ int table_row(const void* index, int row) {
  if constexpr (kIndex == 0) return row;
  long long number = kIndex == 8 ? static_cast<const long long*>(index)[row] : static_cast<const int*>(index)[row];
  if (number < 0) number += kTableRows;
  return number < 0 || number >= kTableRows ? kTableRows - 1 : static_cast<int>(number);
}

/// Adds elements from `first` on, floats or 16-bit ones.
template <bool kFloat>
__device__ __forceinline__ void add_row(float (&sum)[kVectorsPerLane][8], const void* table, int first, int lane) {
#pragma unroll
  for (int i = 0; i < kVectorsPerLane; ++i) {
    if (kVectors % 32 != 0 && i * 32 + lane >= kVectors) break;
    const int at = first + (i * 32 + lane) * 8;
    float x[8];
    if constexpr (kFloat) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float4 four = *reinterpret_cast<const float4*>(static_cast<const float*>(table) + at + half * 4);
        x[half * 4] = four.x, x[half * 4 + 1] = four.y, x[half * 4 + 2] = four.z, x[half * 4 + 3] = four.w;
      }
    } else {
      unpack8<Element>(*reinterpret_cast<const Vector16*>(static_cast<const uint16*>(table) + at), x);
    }
#pragma unroll
    for (int c = 0; c < 8; ++c) sum[i][c] += x[c];
  }
}

__device__ __forceinline__ void store8(void* to, int at, const float (&x)[8]) {
  if constexpr (kFloatOutput) {
    float4* floats = reinterpret_cast<float4*>(static_cast<float*>(to) + at);
    floats[0] = make_float4(x[0], x[1], x[2], x[3]);
    floats[1] = make_float4(x[4], x[5], x[6], x[7]);
  } else {
    *reinterpret_cast<Vector16*>(static_cast<uint16*>(to) + at) = pack8<Element>(x);
  }
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

/// Eight floats for each of the lane's vectors.
__device__ __forceinline__ void load_parameters(float (&to)[kVectorsPerLane][8], const float* from, int lane) {
#pragma unroll
  for (int i = 0; i < kVectorsPerLane; ++i) {
    if (kVectors % 32 != 0 && i * 32 + lane >= kVectors) break;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 four = reinterpret_cast<const float4*>(from)[(i * 32 + lane) * 2 + half];
      to[i][half * 4] = four.x, to[i][half * 4 + 1] = four.y, to[i][half * 4 + 2] = four.z, to[i][half * 4 + 3] = four.w;
    }
  }
}

__device__ __forceinline__ void normalize(float (&x)[kVectorsPerLane][8], const float (&gamma)[kVectorsPerLane][8],
                                          const float (&beta)[kVectorsPerLane][8], int lane) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kVectorsPerLane; ++i) {
#pragma unroll
    for (int c = 0; c < 8; ++c) sum += x[i][c];
  }
  const float mean = kRms ? 0.0f : warp_sum(sum) * (1.0f / kDepth);
  float squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kVectorsPerLane; ++i) {
    if (kVectors % 32 != 0 && i * 32 + lane >= kVectors) break;
#pragma unroll
    for (int c = 0; c < 8; ++c) squares += (x[i][c] - mean) * (x[i][c] - mean);
  }
  const float scale = 1.0f / scalar::sqrt(warp_sum(squares) * (1.0f / kDepth) + kEpsilon);
#pragma unroll
  for (int i = 0; i < kVectorsPerLane; ++i) {
#pragma unroll
    for (int c = 0; c < 8; ++c) x[i][c] = (x[i][c] - mean) * scale * gamma[i][c] + beta[i][c];
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, 1)
    EDGERT_ENTRY(const void* table0, const void* index0, const void* table1, const void* index1, const void* table2,
                 const void* index2, const float* parameters, void* y) {
  allow_next_grid();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first = static_cast<int>(blockIdx.x * (kThreads / 32) + threadIdx.x / 32);
  // Warps take rows in turns, several at once where registers allow, so that their loads are under way together.
  constexpr int kWarps = kBlocks * (kThreads / 32);
  constexpr int kMostAtOnce = kVectorsPerLane > 4 ? 1 : 8 / kVectorsPerLane;
  constexpr int kAtOnce = kRowsPerWarp < kMostAtOnce ? kRowsPerWarp : kMostAtOnce;
  float gamma[kVectorsPerLane][8] = {}, beta[kVectorsPerLane][8] = {};
  if constexpr (kNormalize) {
    load_parameters(gamma, parameters, lane);
    load_parameters(beta, parameters + kDepth, lane);
  }
  wait_for_previous_grid();
#pragma unroll 1
  for (int turn = 0; turn < kRowsPerWarp; turn += kAtOnce) {
    float x[kAtOnce][kVectorsPerLane][8] = {};
#pragma unroll
    for (int r = 0; r < kAtOnce; ++r) {
      const int row = first + (turn + r) * kWarps;
      if (row >= kRows) break;
      add_row<kFloat0>(x[r], table0, table_row<kIndex0, kTableRows0>(index0, row) * kPitch0, lane);
      if constexpr (kTables > 1) add_row<kFloat1>(x[r], table1, table_row<kIndex1, kTableRows1>(index1, row) * kPitch1, lane);
      if constexpr (kTables > 2) add_row<kFloat2>(x[r], table2, table_row<kIndex2, kTableRows2>(index2, row) * kPitch2, lane);
    }
#pragma unroll
    for (int r = 0; r < kAtOnce; ++r) {
      const int row = first + (turn + r) * kWarps;
      if (row >= kRows) break;
      if constexpr (kNormalize) normalize(x[r], gamma, beta, lane);
#pragma unroll
      for (int i = 0; i < kVectorsPerLane; ++i) {
        if (kVectors % 32 != 0 && i * 32 + lane >= kVectors) break;
        store8(y, row * kOutputPitch + (i * 32 + lane) * 8, x[r][i]);
      }
    }
  }
}

}  // namespace edgert::device
