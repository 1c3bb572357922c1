// SPDX-License-Identifier: Apache-2.0
// Matrix products and grouped convolutions over operands of any strides and floating-point types, in float: y = epilogue(
// A B + bias), where a convolution's A is its input seen through the window. A block computes kTileM by kTileN results of
// one problem (one matrix of a batch, one group of channels) in slabs of kDepth along K that pass through shared memory;
// a thread computes four by four, and kSplit threads share these along K, each a quarter or less of a slab. problem.h:
// offline_builder/codegen/dense_any_kernel.h.
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

constexpr int kOwners = kTileM / 4 * (kTileN / 4);  // threads that share the tile
constexpr int kThreads = kOwners * kSplit;
constexpr int kPitchA = kTileM + 4;  // floats from one k to the next
constexpr int kPitchB = kTileN + 4;
constexpr int kEachA = kTileM * kDepth / kThreads;  // elements that a thread brings
constexpr int kEachB = kTileN * kDepth / kThreads;
static_assert(kThreads % kDepth == 0 && kThreads % kTileM == 0 && kThreads % kTileN == 0, "a thread's elements share an index");
static_assert(kEachA * kThreads == kTileM * kDepth && kEachB * kThreads == kTileN * kDepth, "slabs divide among threads");

enum { kOutput = 0, kLeft = 1, kRight = 2, kOther = 3 };  // operands of Batch
enum { kOutputRow = 0, kLeftRow = 1, kOtherRow = 2 };      // operands of Rows

/// Where a row of A begins; of a convolution also the window's corner. A row outside has `valid` false.
struct Row {
  Index offset;
  Index top, left;
  bool valid;
};
__device__ __forceinline__ Row find_row(Index row) {
  Row out = {0, 0, 0, row < Rows::kCount};
  if (!out.valid) row = 0;
  Index at[3] = {};
  locate<Rows>(row, at);
  out.offset = at[kLeftRow];
  if constexpr (kConvolution) {
    out.left = row % kOutWidth * kStrideWidth - kPadLeft;
    out.top = row / kOutWidth % kOutHeight * kStrideHeight - kPadTop;
  }
  return out;
}

__device__ __forceinline__ float load_left(const A::Storage* a, const Row& row, Index k) {
  if (!row.valid || k >= kK) return 0.0f;
  if constexpr (!kConvolution) return static_cast<float>(A::load(a[row.offset + k * kLeftStride]));
  const Index tap = k / kChannels;
  const Index h = row.top + tap / kKernelWidth * kDilationHeight;
  const Index w = row.left + tap % kKernelWidth * kDilationWidth;
  if (h < 0 || h >= kHeight || w < 0 || w >= kWidth) return 0.0f;
  return static_cast<float>(A::load(a[row.offset + h * kRowStride + w * kColumnStride + k % kChannels * kLeftStride]));
}

/// The place of a thread's i-th element in a slab of `extent` rows or columns: neighbouring threads take neighbours
/// along K, or else along the other dimension.
template <bool kAlongDepth, int kExtent>
__device__ __forceinline__ void slab_place(int i, int& k, int& other) {
  const int element = static_cast<int>(threadIdx.x) + i * kThreads;
  k = kAlongDepth ? element % kDepth : element / kExtent;
  other = kAlongDepth ? element / kDepth : element % kExtent;
}

struct Slab {
  float a[kEachA];
  float b[kEachB];
};
__device__ __forceinline__ void load_slab(Slab& slab, const A::Storage* a, const B::Storage* b, const Row (&rows)[kEachA], Index first, Index column) {
  int k, other;
#pragma unroll
  for (int i = 0; i < kEachA; ++i) {
    slab_place<kLeftAlongDepth, kTileM>(i, k, other);
    slab.a[i] = load_left(a, rows[i], first + k);
  }
#pragma unroll
  for (int i = 0; i < kEachB; ++i) {
    slab_place<kRightAlongDepth, kTileN>(i, k, other);
    const bool inside = first + k < kK && column + other < kN;
    slab.b[i] = inside ? static_cast<float>(B::load(b[(first + k) * kRightStride + (column + other) * kRightColumnStride])) : 0.0f;
  }
}
__device__ __forceinline__ void keep_slab(const Slab& slab, float* tile_a, float* tile_b) {
  int k, other;
#pragma unroll
  for (int i = 0; i < kEachA; ++i) {
    slab_place<kLeftAlongDepth, kTileM>(i, k, other);
    tile_a[k * kPitchA + other] = slab.a[i];
  }
#pragma unroll
  for (int i = 0; i < kEachB; ++i) {
    slab_place<kRightAlongDepth, kTileN>(i, k, other);
    tile_b[k * kPitchB + other] = slab.b[i];
  }
}

/// The sums of all threads that share these sixteen results, in the thread of split 0.
__device__ __forceinline__ void combine(float (&sum)[4][4], float* shared, int split, int owner) {
  if constexpr (kSplit == 1) return;
#pragma unroll
  for (int i = 0; i < 16; ++i) shared[(split * 16 + i) * kOwners + owner] = sum[i / 4][i % 4];
  __syncthreads();
  if (split != 0) return;
#pragma unroll
  for (int i = 0; i < 16; ++i) {
#pragma unroll 4
    for (int s = 1; s < kSplit; ++s) sum[i / 4][i % 4] += shared[(s * 16 + i) * kOwners + owner];
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  allow_next_grid();
  constexpr Index kTilesM = (Rows::kCount + kTileM - 1) / kTileM;
  constexpr Index kTilesN = (kN + kTileN - 1) / kTileN;
  const Index block = static_cast<Index>(blockIdx.x);
  const Index column = block % kTilesN * kTileN;
  const Index row = block / kTilesN % kTilesM * kTileM;
  const Index problem = block / (kTilesN * kTilesM);
  Index batch[4] = {};
  locate<Batch>(problem, batch);
  float* tile_a = reinterpret_cast<float*>(dynamic_shared_memory());
  float* tile_b = tile_a + kDepth * kPitchA;
  Row rows[kEachA];
#pragma unroll
  for (int i = 0; i < kEachA; ++i) {
    int k, m;
    slab_place<kLeftAlongDepth, kTileM>(i, k, m);
    rows[i] = find_row(row + m);
  }
  const int split = static_cast<int>(threadIdx.x) / kOwners;
  const int owner = static_cast<int>(threadIdx.x) % kOwners;
  const int n = owner % (kTileN / 4) * 4;
  const int m = owner / (kTileN / 4) * 4;
  wait_for_previous_grid();

  float sum[4][4] = {};
  Slab slab;
  load_slab(slab, x0 + batch[kLeft], x1 + batch[kRight], rows, 0, column);
  for (Index first = 0; first < kK; first += kDepth) {
    keep_slab(slab, tile_a, tile_b);
    __syncthreads();
    if (first + kDepth < kK) load_slab(slab, x0 + batch[kLeft], x1 + batch[kRight], rows, first + kDepth, column);
#pragma unroll
    for (int k = 0; k < kDepth / kSplit; ++k) {
      const int at = k * kSplit + split;
      const float4 a = *reinterpret_cast<const float4*>(tile_a + at * kPitchA + m);
      const float4 b = *reinterpret_cast<const float4*>(tile_b + at * kPitchB + n);
      const float left[4] = {a.x, a.y, a.z, a.w};
      const float right[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < 16; ++i) sum[i / 4][i % 4] += left[i / 4] * right[i % 4];
    }
    __syncthreads();
  }
  combine(sum, tile_a, split, owner);
  if (split != 0) return;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (row + m + i >= Rows::kCount) break;
    Index at[3] = {};
    locate<Rows>(row + m + i, at);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (column + n + j >= kN) break;
      float value = sum[i][j];
      if constexpr (kHasBias) value += static_cast<float>(Bias::load(EDGERT_BIAS[(problem * kBiasStep + column + n + j) * kBiasStride]));
      float other = 0.0f;
      if constexpr (kResidual != scalar::ResidualMode::None) {
        other = static_cast<float>(Residual::load(EDGERT_RESIDUAL[batch[kOther] + at[kOtherRow] + (column + n + j) * kResidualColumnStride]));
      }
      if constexpr (kResidual == scalar::ResidualMode::BeforeActivation) value += other;
      value = scalar::float_unary<kActivation>(value, kAlpha, kBeta);
      if constexpr (kResidual == scalar::ResidualMode::AfterActivation) value += other;
      y[batch[kOutput] + at[kOutputRow] + (column + n + j) * kOutputColumnStride] = Y::store(value);
    }
  }
}

}  // namespace edgert::device
