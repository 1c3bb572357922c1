// SPDX-License-Identifier: Apache-2.0
// Large matrix products on sm_90, multiplied by groups of four warps (wgmma): the same arguments, blocks and ends as
// kernels/conv.cu, but both operands lie in shared memory, in a ring of kWeightSlots stages of 64 input channels. Rows come in
// pieces of 16 bytes, each where the multiplication looks for it; a stage's weights, which are packed as they are to lie there,
// in one bulk copy. Tensor cores work on one stage while the block waits for the next, and nobody holds fragments in registers.
#include "kernels/common/warpgroup.h"
#include "kernels/conv_finish.h"
#if EDGERT_CONV_LAYER_NORM
#include "kernels/conv_norm.h"
#endif

namespace edgert::device {
namespace {

static_assert(kChunk == 64 && kWarpsM % 4 == 0 && kWarpsK == 1 && kBlocksM == 1, "a group has 64 rows, a stage rows of 128 bytes");

constexpr int kChunks = (kChannels + kChunk - 1) / kChunk;
constexpr int kChunksPerSplit = (kChunks + kSplit - 1) / kSplit;
constexpr int kStages = kWeightSlots;
constexpr int kAhead = kStages - 2;  // one stage is multiplied, the one before it perhaps still
constexpr int kRowsBytes = kBlockM * kMatrixRowBytes;
constexpr int kStageBytes = kRowsBytes + kBlockN * kMatrixRowBytes;
constexpr int kOutRows = (kOutChannels + 15) / 16 * 16;  // of the weights
// Matrices begin at multiples of 1024.
constexpr int kRingBytes = 1024 + kStages * kStageBytes;
// Parts from other blocks of the cluster, which come when all have done their products, take the ring's place beside this
// block's sums; the barrier behind them does not.
constexpr int kRingWithoutParts = kRingBytes - (kCluster ? kUnits * 32 : 0);
constexpr int kReceiveOffset = kRingWithoutParts > kAccumulatorBytes ? kRingWithoutParts : kAccumulatorBytes;
constexpr int kRowsOffset = kReceiveOffset + (kCluster ? kUnits * 32 + 16 : 0);
constexpr int kBarriersOffset = kRowsOffset + (kLayerNorm ? kBlockM * 8 : 0);
static_assert(kBarriersOffset + kStages * 8 == kSharedBytes, "the host computes another size of shared memory");

/// The pieces of each stage's rows that one thread copies: one of every kThreads / 8 rows.
class Rows {
 public:
  __device__ __forceinline__ Rows(const void* x, const Block& block)
      : x_(static_cast<const uint16*>(x)), vector_(static_cast<int>(threadIdx.x) % 8), first_(static_cast<int>(threadIdx.x) / 8) {
    from_ = (block.image * kWidth + block.column + first_) * kInputPitch + vector_ * 8;
    exist_ = kWidth - block.column - first_;
  }

  /// Zeros stand for rows and channels that do not exist.
  __device__ __forceinline__ void load(uint32 to, int chunk) const {
    const int left = kChannels - chunk * kChunk - vector_ * 8;
    const uint32 bytes = kChannels % kChunk == 0 || left >= 8 ? 16u : left > 0 ? static_cast<uint32>(left * 2) : 0u;
    const uint16* from = x_ + from_ + chunk * kChunk;
    const uint32 at = to + swizzled(first_, vector_);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const bool there = i * kStep < exist_ && bytes > 0;
      copy_async_16(at + static_cast<uint32>(i * kStep * kMatrixRowBytes), there ? from + i * kStep * kInputPitch : x_, there ? bytes : 0u);
    }
  }

 private:
  static constexpr int kStep = kThreads / 8;
  static constexpr int kPerThread = kBlockM / kStep;
  static_assert(kBlockM % kStep == 0, "threads copy whole rounds of rows");

  const uint16* x_;
  int vector_, first_;
  int from_;   // element of the first piece in chunk 0
  int exist_;  // rows from the first on
};

/// A stage's weights, asked for by one thread. Columns beyond the last stay as they are: nobody stores their results.
__device__ __forceinline__ void load_weights(uint32 to, const Vector16* weights, const Block& block, int chunk, uint32 barrier) {
  const int rows = kOutRows - block.channel < kBlockN ? kOutRows - block.channel : kBlockN;
  copy_bulk(to + kRowsBytes, weights + (chunk * kOutRows + block.channel) * (kMatrixRowBytes / 16), static_cast<uint32>(rows * kMatrixRowBytes), barrier);
}
__device__ __forceinline__ uint32 weight_bytes(const Block& block) {
  return static_cast<uint32>((kOutRows - block.channel < kBlockN ? kOutRows - block.channel : kBlockN) * kMatrixRowBytes);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) EDGERT_ENTRY(
    const void* x, const Vector16* packed_weights, const float* bias, const uint16* residual, void* y, float* workspace,
    uint32* counters, const char* prefetch, uint32 prefetch_bytes EDGERT_CONV_MORE_PARAMETERS) {
  allow_next_grid();
  if (static_cast<int>(blockIdx.x) >= kBlocks) {
    prefetch_weights(prefetch, prefetch_bytes, kThreads);
    wait_for_previous_grid();
    hold_place(1500);  // as in kernels/conv.cu
    return;
  }
  const Arguments arguments = {x, packed_weights, bias, residual, y, workspace, counters, prefetch, prefetch_bytes};
  unsigned char* memory = dynamic_shared_memory();
  const uint32 base = shared_address(memory);
  const uint32 ring = (base + 1023) / 1024 * 1024;
  const uint32 barriers = base + kBarriersOffset;
  const Block block = this_block();
  const Warp warp = this_warp();
  const int begin = block.split * kChunksPerSplit;
  const int end = begin + kChunksPerSplit < kChunks ? begin + kChunksPerSplit : kChunks;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) receive_begin(barriers + static_cast<uint32>(i * 8), weight_bytes(block));
    for (int i = 0; i < kAhead && begin + i < end; ++i) {
      load_weights(ring + static_cast<uint32>(i * kStageBytes), packed_weights, block, begin + i, barriers + static_cast<uint32>(i * 8));
    }
  }
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) {
    if (threadIdx.x == 0) receive_begin(base + kReceiveOffset + kUnits * 32, kUnits * 32);
  }
#endif
  prefetch_weights(arguments.prefetch, arguments.prefetch_bytes, kThreads);
  Finish units(arguments, block);
  const Rows rows(x, block);
#if EDGERT_CONV_LAYER_NORM
  RowStatistics statistics;
#endif
  wait_for_previous_grid();
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (begin + i < end) rows.load(ring + static_cast<uint32>(i * kStageBytes), begin + i);
    copy_async_commit();
  }
  if constexpr (kResidual != scalar::ResidualMode::None) units.load_residual(arguments);

  float sum[1][2 * kBlocksN][4] = {};
  const uint32 own_rows = static_cast<uint32>(warp.m / 4 * 64 * kMatrixRowBytes);
  const uint32 own_columns = static_cast<uint32>(kRowsBytes + warp.n * kWarpN * kMatrixRowBytes);
  int slot = 0;
  uint32 parity = 0;
#pragma unroll 1
  for (int chunk = begin; chunk < end; ++chunk) {
    copy_async_wait<kAhead - 1>();
    publish_matrices();
    __syncthreads();  // the stage's rows are there, and nobody multiplies what is two stages older
    const int later = chunk + kAhead, free_slot = slot + kAhead < kStages ? slot + kAhead : slot + kAhead - kStages;
    const uint32 free_stage = ring + static_cast<uint32>(free_slot * kStageBytes), stage = ring + static_cast<uint32>(slot * kStageBytes);
    if (threadIdx.x == 0 && later < end) {
      const uint32 barrier = barriers + static_cast<uint32>(free_slot * 8);
      if (later - begin >= kStages) receive_again(barrier, weight_bytes(block));
      load_weights(free_stage, packed_weights, block, later, barrier);
    }
    receive_wait(barriers + static_cast<uint32>(slot * 8), parity);
    begin_products();
#pragma unroll
    for (int step = 0; step < kChunk / 16; ++step) {
      const uint32 within = static_cast<uint32>(step * 32);
      multiply_group<Element>(sum[0], matrix_at(stage + own_rows + within), matrix_at(stage + own_columns + within));
    }
    commit_products();
    // Tensor cores are busy by now.
    if (later < end) rows.load(free_stage, later);
    copy_async_commit();
#if EDGERT_CONV_LAYER_NORM
    statistics.add(stage, chunk);
#endif
    wait_for_products<1>();
    slot = slot + 1 == kStages ? 0 : slot + 1;
    if (slot == 0) parity ^= 1;
  }
  finish_products(sum[0]);
  copy_async_wait<0>();
#if __CUDA_ARCH__ >= 900
  if constexpr (kCluster) cluster_arrive();
#endif
#if EDGERT_CONV_LAYER_NORM
  float2* row_values = reinterpret_cast<float2*>(memory + kRowsOffset);
  statistics.finish(row_values);
#if EDGERT_CONV_STORE_NORMALIZED
  statistics.store(normalized, static_cast<const uint16*>(arguments.x), 0, block, arguments.bias);
#endif
  units.set_rows(row_values);
#endif
  __syncthreads();
  float* plane = reinterpret_cast<float*>(memory);
  spill_sums(plane, sum, warp);
  __syncthreads();
  if constexpr (kSplit > 1 && !kCluster) {
    if (!arrive_last(arguments, plane, block)) return;
  }
  finish(arguments, block, plane, kReceiveOffset, units);
}

}  // namespace edgert::device
