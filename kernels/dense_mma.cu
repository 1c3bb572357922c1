// SPDX-License-Identifier: Apache-2.0
// Matrix products of two 16-bit operands and grouped 16-bit convolutions on tensor cores, for any strides; sums are float.
// As kernels/dense_any.cu, but slabs of kDepth along K lie in shared memory as rows of A and columns of B, each padded to
// an odd multiple of 16 bytes, from which ldmatrix takes fragments. Eight neighbouring elements are loaded at once where
// strides and extents allow it. problem.h: offline_builder/codegen/dense_any_kernel.h.
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

constexpr int kThreads = 128;
constexpr int kPitch = kDepth + 8;  // elements from row to row
constexpr int kRunsPerRow = kDepth / 8;
constexpr int kEachA = (kTileM * kRunsPerRow + kThreads - 1) / kThreads;  // runs of eight that a thread brings
constexpr int kEachB = kTileN * kRunsPerRow / kThreads;
constexpr int kBlocksM = kTileM / kWarpsM / 16;  // of 16x16 a warp
constexpr int kBlocksN = kTileN / kWarpsN / 16;
static_assert(kWarpsM * kWarpsN * 32 == kThreads && kEachB * kThreads == kTileN * kRunsPerRow, "the tile divides among the warps");

enum { kOutput = 0, kLeft = 1, kRight = 2, kOther = 3 };  // operands of Batch
enum { kOutputRow = 0, kLeftRow = 1, kOtherRow = 2 };      // operands of Rows

/// Where a row of A begins; of a convolution also the window's corner.
struct Row {
  Index offset;
  Index top, left;
  bool valid;
};
__device__ __forceinline__ Row find_row(Index row, bool wanted) {
  Row out = {0, 0, 0, wanted && row < Rows::kCount};
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

/// The element of A at (row, k), null outside.
__device__ __forceinline__ const uint16* left_element(const uint16* a, const Row& row, Index k) {
  if (!row.valid || k >= kK) return nullptr;
  if constexpr (!kConvolution) return a + row.offset + k * kLeftStride;
  const Index tap = k / kChannels;
  const Index h = row.top + tap / kKernelWidth * kDilationHeight;
  const Index w = row.left + tap % kKernelWidth * kDilationWidth;
  if (h < 0 || h >= kHeight || w < 0 || w >= kWidth) return nullptr;
  return a + row.offset + h * kRowStride + w * kColumnStride + k % kChannels * kLeftStride;
}
__device__ __forceinline__ const uint16* right_element(const uint16* b, Index k, Index n) {
  return k < kK && n < kN ? b + k * kRightStride + n * kRightColumnStride : nullptr;
}

/// Eight elements: at once from the first one's address, or one by one.
template <bool kAtOnce, class Element>
__device__ __forceinline__ Vector16 load_run(Element element) {
  Vector16 run = {};
  if constexpr (kAtOnce) {
    const uint16* from = element(0);
    if (from != nullptr) run = *reinterpret_cast<const Vector16*>(from);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint16* from = element(i);
      if (from != nullptr) run.word[i / 2] |= static_cast<uint32>(*from) << (i % 2 * 16);
    }
  }
  return run;
}

struct Slab {
  Vector16 a[kEachA];
  Vector16 b[kEachB];
};
__device__ __forceinline__ void load_slab(Slab& slab, const uint16* a, const uint16* b, const Row (&rows)[kEachA], Index first, Index column) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kEachA; ++i) {
    const Index k = first + (thread + i * kThreads) % kRunsPerRow * 8;
    slab.a[i] = load_run<kLeftRuns>([&](int e) { return left_element(a, rows[i], k + e); });
  }
#pragma unroll
  for (int i = 0; i < kEachB; ++i) {
    const int run = thread + i * kThreads;
    if constexpr (kRightRunsAlongN) {  // of a row of B
      const Index n = column + run % (kTileN / 8) * 8;
      slab.b[i] = load_run<true>([&](int e) { return right_element(b, first + run / (kTileN / 8), n + e); });
    } else {
      const Index n = column + run / kRunsPerRow;
      slab.b[i] = load_run<kRightRuns>([&](int e) { return right_element(b, first + run % kRunsPerRow * 8 + e, n); });
    }
  }
}
__device__ __forceinline__ void keep_slab(const Slab& slab, uint16* tile_a, uint16* tile_b) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kEachA; ++i) {
    const int run = thread + i * kThreads;
    if (run < kTileM * kRunsPerRow) store_shared_16(shared_address(tile_a + run / kRunsPerRow * kPitch + run % kRunsPerRow * 8), slab.a[i]);
  }
#pragma unroll
  for (int i = 0; i < kEachB; ++i) {
    const int run = thread + i * kThreads;
    if constexpr (kRightRunsAlongN) {
      const int k = run / (kTileN / 8);
      const int n = run % (kTileN / 8) * 8;
#pragma unroll
      for (int e = 0; e < 8; ++e) tile_b[(n + e) * kPitch + k] = static_cast<uint16>(slab.b[i].word[e / 2] >> (e % 2 * 16));
    } else {
      store_shared_16(shared_address(tile_b + run / kRunsPerRow * kPitch + run % kRunsPerRow * 8), slab.b[i]);
    }
  }
}

/// This warp's products of a slab.
__device__ __forceinline__ void multiply_slab(float (&sum)[kBlocksM][kBlocksN][2][4], uint32 tile_a, uint32 tile_b, int lane, int warp_m, int warp_n) {
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    uint32 a[kBlocksM][4];
#pragma unroll
    for (int i = 0; i < kBlocksM; ++i) {
      const int row = (warp_m * kBlocksM + i) * 16 + lane % 16;
      load_matrices(a[i], tile_a + static_cast<uint32>((row * kPitch + k + lane / 16 * 8) * 2));
    }
#pragma unroll
    for (int j = 0; j < kBlocksN; ++j) {
      const int column = (warp_n * kBlocksN + j) * 16 + lane / 16 * 8 + lane % 8;
      uint32 b[4];
      load_matrices(b, tile_b + static_cast<uint32>((column * kPitch + k + lane / 8 % 2 * 8) * 2));
#pragma unroll
      for (int i = 0; i < kBlocksM; ++i) {
        Element::multiply(sum[i][j][0], a[i], b[0], b[1]);
        Element::multiply(sum[i][j][1], a[i], b[2], b[3]);
      }
    }
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
  uint16* tile_a = reinterpret_cast<uint16*>(dynamic_shared_memory());
  uint16* tile_b = tile_a + kTileM * kPitch;
  const int thread = static_cast<int>(threadIdx.x);
  Row rows[kEachA];
#pragma unroll
  for (int i = 0; i < kEachA; ++i) {
    const int run = thread + i * kThreads;
    rows[i] = find_row(row + run / kRunsPerRow, run < kTileM * kRunsPerRow);
  }
  const int lane = thread % 32;
  const int warp_m = thread / 32 % kWarpsM;
  const int warp_n = thread / 32 / kWarpsM;
  wait_for_previous_grid();

  float sum[kBlocksM][kBlocksN][2][4] = {};
  Slab slab;
  load_slab(slab, x0 + batch[kLeft], x1 + batch[kRight], rows, 0, column);
  for (Index first = 0; first < kK; first += kDepth) {
    keep_slab(slab, tile_a, tile_b);
    __syncthreads();
    if (first + kDepth < kK) load_slab(slab, x0 + batch[kLeft], x1 + batch[kRight], rows, first + kDepth, column);
    multiply_slab(sum, shared_address(tile_a), shared_address(tile_b), lane, warp_m, warp_n);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kBlocksM * 2; ++i) {
    const Index m = row + (warp_m * kBlocksM + i / 2) * 16 + i % 2 * 8 + lane / 4;
    if (m >= Rows::kCount) continue;
    Index at[3] = {};
    locate<Rows>(m, at);
#pragma unroll
    for (int j = 0; j < kBlocksN * 4; ++j) {
      const Index n = column + (warp_n * kBlocksN + j / 4) * 16 + j / 2 % 2 * 8 + lane % 4 * 2 + j % 2;
      if (n >= kN) continue;
      float value = sum[i / 2][j / 4][j / 2 % 2][i % 2 * 2 + j % 2];
      if constexpr (kHasBias) value += static_cast<float>(Bias::load(EDGERT_BIAS[(problem * kBiasStep + n) * kBiasStride]));
      float other = 0.0f;
      if constexpr (kResidual != scalar::ResidualMode::None) {
        other = static_cast<float>(Residual::load(EDGERT_RESIDUAL[batch[kOther] + at[kOtherRow] + n * kResidualColumnStride]));
      }
      if constexpr (kResidual == scalar::ResidualMode::BeforeActivation) value += other;
      value = scalar::float_unary<kActivation>(value, kAlpha, kBeta);
      if constexpr (kResidual == scalar::ResidualMode::AfterActivation) value += other;
      y[batch[kOutput] + at[kOutputRow] + n * kOutputColumnStride] = Y::store(value);
    }
  }
}

}  // namespace edgert::device
