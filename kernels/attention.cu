// SPDX-License-Identifier: Apache-2.0
// Attention in one launch: y = softmax(scale * Q K^T + mask) V for each image and head. Q, K, V and y are views with
// strides of their own, so that the halves of a joint projection are read in place. problem.h holds extents, strides and
// the tile (offline_builder/codegen/attention_kernel.h).
//
// A block computes kTileQ queries of one head. Keys and values pass through shared memory in chunks; warps along the
// keys take different blocks of 16 keys and keep maximum, sum and output of their own, rescaled as the maximum grows, so
// that they meet only once, at the end. Probabilities go from the accumulators of the first product straight into the
// operands of the second: the layouts agree. Sums and exponentials are in float; probabilities are rounded to the
// element type before the second product.
#include "kernels/common/epilogue.h"
#include "kernels/common/prefetch.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

enum class Mask { None = 0, Additive = 1, Keep = 2, Hide = 3, AdditiveFloat = 4, Causal = 5 };  // as codegen::AttentionMask
constexpr Mask kMask = static_cast<Mask>(kMaskKind);

constexpr int kThreads = 32 * kWarpsQ * kWarpsK;
constexpr int kTileQ = 16 * kWarpsQ;
constexpr int kTiles = (kQueries + kTileQ - 1) / kTileQ;
constexpr int kBlocks = kBatch * kHeads * kTiles;
constexpr int kDepthSteps = (kDepth + 15) / 16;
constexpr int kValueSteps = (kValueDepth + 15) / 16;
// Bytes from row to row: an odd multiple of 16, which spreads eight rows over all banks.
constexpr int kKeyPitch = kDepthSteps * 32 + 16;
constexpr int kValuePitch = kValueSteps * 32 + 16;
constexpr int kChunks = (kKeys + kChunk - 1) / kChunk;
constexpr int kStageRows = kChunks == 1 ? (kKeys + 15) / 16 * 16 : kChunk;
constexpr int kKeyBlocks = kChunk / 16 / kWarpsK;  // of a warp, in a chunk
constexpr int kAhead = kBuffers >= kChunks ? kChunks : kBuffers - 1;
constexpr int kQueryBytes = kTileQ * kKeyPitch;
constexpr int kStageBytes = kStageRows * (kKeyPitch + kValuePitch);
constexpr int kPartialPitch = kValueSteps * 16 + 8;  // floats
constexpr int kPartialBytes = kWarpsK == 1 ? 0 : kWarpsK * kTileQ * (kPartialPitch + 2) * 4;
static_assert(kChunk % (16 * kWarpsK) == 0, "the chunk does not divide among warps");
static_assert(kDepth % 8 == 0 && kValueDepth % 8 == 0, "rows are read 16 bytes at a time");
static_assert((kQueryBytes + kBuffers * kStageBytes > kPartialBytes ? kQueryBytes + kBuffers * kStageBytes : kPartialBytes) == kSharedBytes,
              "the host computes another size of shared memory");

/// Rows first .. first + kRows of a matrix with kLimit rows, zeros beyond it and beyond its kColumns columns.
template <int kRows, int kLimit, int kColumns, int kPitch>
__device__ __forceinline__ void load_rows(uint32 to, const uint16* from, int first, int stride) {
  constexpr int kParts = (kColumns + 15) / 16 * 2;
#pragma unroll
  for (int i = 0; i < (kRows * kParts + kThreads - 1) / kThreads; ++i) {
    const int piece = static_cast<int>(threadIdx.x) + i * kThreads;
    if (kRows * kParts % kThreads != 0 && piece >= kRows * kParts) break;
    const int row = piece / kParts;
    const int part = piece % kParts;
    const bool there = first + row < kLimit && (kColumns % 16 == 0 || part * 8 < kColumns);
    copy_async_16(to + static_cast<uint32>(row * kPitch + part * 16), there ? from + (first + row) * stride + part * 8 : from,
                  there ? 16u : 0u);
  }
}

using Scores = float[kKeyBlocks][2][4];  // of 16 queries and the warp's keys, as m16n8 accumulators
constexpr bool kLoadsMask = kMask != Mask::None && kMask != Mask::Causal;
using MaskValues = float[kLoadsMask ? kKeyBlocks : 1][2][4];

constexpr float kLog2E = 1.44269504f;
/// Without a mask that adds, scores stay as they are multiplied, and the exponent's multiplication scales them as well.
constexpr bool kRawScores = kScale > 0.0f && (kMask == Mask::None || kMask == Mask::Causal);
constexpr float kExponentScale = kRawScores ? kScale * kLog2E : 1.0f;

/// What the mask adds to the score of a query's row and a key that exists, times log2(e).
__device__ __forceinline__ float mask_of(const void* mask, int row, int key) {
  const int at = row * kMaskRow + key;
  if constexpr (kMask == Mask::Additive) {
    return fmaxf(Element::to_float(static_cast<const uint16*>(mask)[at]), kHidden) * kLog2E;
  } else if constexpr (kMask == Mask::AdditiveFloat) {
    return fmaxf(static_cast<const float*>(mask)[at], kHidden) * kLog2E;
  } else if constexpr (kMask == Mask::Keep) {
    return static_cast<const unsigned char*>(mask)[at] == 0 ? kHidden * kLog2E : 0.0f;
  } else if constexpr (kMask == Mask::Hide) {
    return static_cast<const unsigned char*>(mask)[at] != 0 ? kHidden * kLog2E : 0.0f;
  } else {
    return 0.0f;
  }
}

/// mask_of() for a warp's scores; minus infinity where there is no key.
__device__ __forceinline__ void load_mask(MaskValues& to, const void* mask, int query, int first_key) {
  if constexpr (kLoadsMask) {
#pragma unroll
    for (int b = 0; b < kKeyBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int key = first_key + b * 16 * kWarpsK + i / 4 * 8 + i % 2;
        const int row = query + i / 2 % 2 * 8;
        float add = 0.0f;
        if (key >= kKeys) add = -scalar::infinity_f32();
        else if (row < kQueries) add = mask_of(mask, row, key);
        to[b][i / 4][i % 4] = add;
      }
    }
  }
}

/// Minus infinity for the keys of a block, `first_key` its first, that do not exist, or lie ahead of a query.
__device__ __forceinline__ void hide_keys(float (&score)[2][4], int first_query, int first_key) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool all_seen = first_key + 16 <= kKeys && (kMask != Mask::Causal || first_key + 15 <= first_query + kCausalOffset);
  if (all_seen) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int key = first_key + lane % 4 * 2 + i / 4 * 8 + i % 2;
    const int row = first_query + lane / 4 + i / 2 % 2 * 8;
    if (key >= kKeys || (kMask == Mask::Causal && key > row + kCausalOffset)) score[i / 4][i % 4] = -scalar::infinity_f32();
  }
}

/// A warp's 16 queries: running maximum (of scores, times log2(e) if not kRawScores) and sum of rows lane / 4 and lane / 4 + 8,
/// and output.
struct State {
  float maximum[2] = {-scalar::infinity_f32(), -scalar::infinity_f32()};
  float sum[2] = {};
  float output[2 * kValueSteps][4] = {};
};

/// Whether all keys of a warp's block number b of a chunk are there and seen, as far as that is known beforehand: what does not
/// depend on it lets the products of several blocks overlap. kWhole: the chunk has all its keys.
template <bool kWhole>
__device__ constexpr bool is_whole(int b) {
  return kWhole || (kMask != Mask::Causal && kChunks == 1 && (b + 1) * kWarpsK * 16 <= kKeys);
}

template <bool kWhole>
__device__ __forceinline__ void score_keys(Scores& score, const uint32 (&query)[kDepthSteps][4], uint32 keys, const MaskValues& mask, int first_query,
                                           int first_block, int chunk, int keys_end) {
#pragma unroll
  for (int b = 0; b < kKeyBlocks; ++b) {
    const int block = first_block + b * kWarpsK;
    float product[2][4] = {};
    if (is_whole<kWhole>(b) || chunk * kChunk + block * 16 < keys_end) {
      const int lane = static_cast<int>(threadIdx.x) % 32;
      const uint32 row = keys + static_cast<uint32>((block * 16 + lane % 8 + lane / 16 * 8) * kKeyPitch + lane / 8 % 2 * 16);
#pragma unroll
      for (int d = 0; d < kDepthSteps; ++d) {
        uint32 key[4];
        load_matrices(key, row + static_cast<uint32>(d * 32));
        Element::multiply(product[0], query[d], key[0], key[1]);
        Element::multiply(product[1], query[d], key[2], key[3]);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float& x = score[b][i / 4][i % 4];
      x = product[i / 4][i % 4];
      if constexpr (!kRawScores) x *= kScale * kLog2E;
      if constexpr (kLoadsMask) x += mask[b][i / 4][i % 4];
    }
    if (!kLoadsMask && !is_whole<kWhole>(b)) hide_keys(score[b], first_query, chunk * kChunk + block * 16);
  }
}

/// Scores become probabilities relative to the new maximum; what was summed before is brought to it.
__device__ __forceinline__ void take_exponentials(Scores& score, State& state) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float maximum = state.maximum[r];
#pragma unroll
    for (int b = 0; b < kKeyBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) maximum = fmaxf(maximum, score[b][i / 2][r * 2 + i % 2]);
    }
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
    const float base = maximum == -scalar::infinity_f32() ? 0.0f : maximum * kExponentScale;  // all keys forbidden so far
    if constexpr (kChunks > 1) {
      const float scale = exp2_approximate(state.maximum[r] * kExponentScale - base);
      state.sum[r] *= scale;
#pragma unroll
      for (int d = 0; d < 2 * kValueSteps; ++d) state.output[d][r * 2] *= scale, state.output[d][r * 2 + 1] *= scale;
    }
    state.maximum[r] = maximum;
#pragma unroll
    for (int b = 0; b < kKeyBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& x = score[b][i / 2][r * 2 + i % 2];
        x = exp2_approximate(x * kExponentScale - base);
        state.sum[r] += x;
      }
    }
  }
}

template <bool kWhole>
__device__ __forceinline__ void add_values(State& state, const Scores& probability, uint32 values, int first_block, int chunk,
                                           int keys_end) {
#pragma unroll
  for (int b = 0; b < kKeyBlocks; ++b) {
    const int block = first_block + b * kWarpsK;
    if (!is_whole<kWhole>(b) && chunk * kChunk + block * 16 >= keys_end) break;
    const auto& p = probability[b];
    const uint32 a[4] = {Element::pack(p[0][0], p[0][1]), Element::pack(p[0][2], p[0][3]), Element::pack(p[1][0], p[1][1]),
                         Element::pack(p[1][2], p[1][3])};
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint32 row = values + static_cast<uint32>((block * 16 + lane % 16) * kValuePitch + lane / 16 * 16);
#pragma unroll
    for (int d = 0; d < kValueSteps; ++d) {
      uint32 value[4];
      load_matrices_transposed(value, row + static_cast<uint32>(d * 32));
      Element::multiply(state.output[2 * d], a, value[0], value[1]);
      Element::multiply(state.output[2 * d + 1], a, value[2], value[3]);
    }
  }
}

/// The warps' parts in shared memory: outputs, then maximum and sum of each row.
__device__ __forceinline__ void spill(float* partial, State& state, int warp_q, int warp_k) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = warp_k * kTileQ + warp_q * 16 + lane / 4;
#pragma unroll
  for (int d = 0; d < 2 * kValueSteps; ++d) {
    float* to = partial + row * kPartialPitch + d * 8 + lane % 4 * 2;
    *reinterpret_cast<float2*>(to) = make_float2(state.output[d][0], state.output[d][1]);
    *reinterpret_cast<float2*>(to + 8 * kPartialPitch) = make_float2(state.output[d][2], state.output[d][3]);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    float2* to = reinterpret_cast<float2*>(partial + kWarpsK * kTileQ * kPartialPitch) + row + r * 8;
    if (lane % 4 == 0) *to = make_float2(state.maximum[r] * kExponentScale, sum);
  }
}

/// Adds the warps' parts, in order, relative to the maximum of all, and stores four channels at a time.
__device__ __forceinline__ void finish(const float* partial, uint16* y, int first_query) {
  constexpr int kUnits = kValueDepth / 4;
  const float2* rows = reinterpret_cast<const float2*>(partial + kWarpsK * kTileQ * kPartialPitch);
#pragma unroll
  for (int i = 0; i < (kTileQ * kUnits + kThreads - 1) / kThreads; ++i) {
    const int unit = static_cast<int>(threadIdx.x) + i * kThreads;
    const int row = unit / kUnits;
    if (unit >= kTileQ * kUnits || first_query + row >= kQueries) break;
    float maximum = -scalar::infinity_f32();
#pragma unroll
    for (int k = 0; k < kWarpsK; ++k) maximum = fmaxf(maximum, rows[k * kTileQ + row].x);
    if (maximum == -scalar::infinity_f32()) maximum = 0.0f;
    float x[4] = {};
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < kWarpsK; ++k) {
      const float2 part = rows[k * kTileQ + row];
      const float scale = exp2_approximate(part.x - maximum);
      const float4 value = *reinterpret_cast<const float4*>(partial + (k * kTileQ + row) * kPartialPitch + unit % kUnits * 4);
      sum += part.y * scale;
      x[0] += value.x * scale, x[1] += value.y * scale, x[2] += value.z * scale, x[3] += value.w * scale;
    }
    // Without a key that may be seen: NaN, as softmax defines it, or zeros where the graph says so.
    const float inverse = kZeroHidden && sum == 0.0f ? 0.0f : 1.0f / sum;
    uint32* to = reinterpret_cast<uint32*>(y + (first_query + row) * kYRow + unit % kUnits * 4);
    to[0] = Element::pack(x[0] * inverse, x[1] * inverse);
    to[1] = Element::pack(x[2] * inverse, x[3] * inverse);
  }
}

/// The only warp of its queries stores what it has.
__device__ __forceinline__ void store_alone(State& state, uint16* y, int first_query) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float inverse = kZeroHidden && sum == 0.0f ? 0.0f : 1.0f / sum;  // as in finish()
    const int row = first_query + lane / 4 + r * 8;
    if (row >= kQueries) continue;
#pragma unroll
    for (int d = 0; d < 2 * kValueSteps; ++d) {
      const int channel = d * 8 + lane % 4 * 2;
      if (kValueDepth % 16 != 0 && channel >= kValueDepth) break;
      *reinterpret_cast<uint32*>(y + row * kYRow + channel) = Element::pack(state.output[d][r * 2] * inverse, state.output[d][r * 2 + 1] * inverse);
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    EDGERT_ENTRY(const uint16* q, const uint16* k, const uint16* v, const void* mask, uint16* y, const char* prefetch, uint32 prefetch_bytes) {
  allow_next_grid();
  prefetch_weights(prefetch, prefetch_bytes, kThreads);
  const int index = static_cast<int>(blockIdx.x);
  if (index >= kBlocks) {  // as in conv.cu
    wait_for_previous_grid();
    hold_place(1500);
    return;
  }
  const int head = index / kTiles % kHeads;
  const int image = index / (kTiles * kHeads);
  const int first_query = index % kTiles * kTileQ;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_q = warp % kWarpsQ;
  const int warp_k = warp / kWarpsQ;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  q += image * kQBatch + head * kQHead;
  k += image * kKBatch + head * kKHead;
  v += image * kVBatch + head * kVHead;
  y += image * kYBatch + head * kYHead;
  unsigned char* memory = dynamic_shared_memory();
  const uint32 queries = shared_address(memory);
  const uint32 stages = queries + kQueryBytes;
  constexpr int kMaskBytes = kMask == Mask::Additive ? 2 : kMask == Mask::AdditiveFloat ? 4 : 1;
  const int mask_at = (image * kMaskBatch + head * kMaskHead) * kMaskBytes;
  const char* mask_here = static_cast<const char*>(mask) + mask_at;
  // Keys that some query of the tile may see, and the chunks that hold them.
  const int last = first_query + kTileQ + kCausalOffset;
  const int keys_end = kMask == Mask::Causal && last < kKeys ? last : kKeys;
  const int chunks = kMask == Mask::Causal ? (keys_end + kChunk - 1) / kChunk : kChunks;
  wait_for_previous_grid();

  load_rows<kTileQ, kQueries, kDepth, kKeyPitch>(queries, q, first_query, kQRow);
  const auto load_chunk = [&](int chunk, int buffer) {  // keys and values are a group each
    const uint32 stage = stages + static_cast<uint32>(buffer * kStageBytes);
    if (chunk < chunks) load_rows<kStageRows, kKeys, kDepth, kKeyPitch>(stage, k, chunk * kChunk, kKRow);
    copy_async_commit();
    if (chunk < chunks) load_rows<kStageRows, kKeys, kValueDepth, kValuePitch>(stage + kStageRows * kKeyPitch, v, chunk * kChunk, kVRow);
    copy_async_commit();
  };
#pragma unroll
  for (int i = 0; i < kAhead; ++i) load_chunk(i, i);

  State state;
  uint32 query[kDepthSteps][4];
  int buffer = 0;
#pragma unroll 1
  for (int chunk = 0; chunk < chunks; ++chunk) {
    Scores score;
    MaskValues mask_value;
    load_mask(mask_value, mask_here, first_query + warp_q * 16 + lane / 4, chunk * kChunk + warp_k * 16 + lane % 4 * 2);
    // The only chunk's values come while its keys are multiplied; of several they have had the time of a chunk.
    copy_async_wait<2 * kAhead - (kChunks == 1 ? 1 : 2)>();
    __syncthreads();
    if (chunk == 0) {
      const uint32 row = queries + static_cast<uint32>((warp_q * 16 + lane % 16) * kKeyPitch + lane / 16 * 16);
#pragma unroll
      for (int d = 0; d < kDepthSteps; ++d) load_matrices(query[d], row + static_cast<uint32>(d * 32));
    }
    load_chunk(kAhead < kChunks ? chunk + kAhead : kChunks, buffer == 0 ? kBuffers - 1 : buffer - 1);
    const uint32 keys = stages + static_cast<uint32>(buffer * kStageBytes);
    // All chunks but the last one, which may lack keys.
    const bool whole = kMask != Mask::Causal && (chunk + 1) * kChunk <= kKeys;
    if (whole) score_keys<true>(score, query, keys, mask_value, first_query + warp_q * 16, warp_k, chunk, keys_end);
    else score_keys<false>(score, query, keys, mask_value, first_query + warp_q * 16, warp_k, chunk, keys_end);
    take_exponentials(score, state);
    if constexpr (kChunks == 1) {
      copy_async_wait<2 * kAhead>();
      __syncthreads();
    }
    if (whole) add_values<true>(state, score, keys + kStageRows * kKeyPitch, warp_k, chunk, keys_end);
    else add_values<false>(state, score, keys + kStageRows * kKeyPitch, warp_k, chunk, keys_end);
    buffer = buffer + 1 == kBuffers ? 0 : buffer + 1;
  }
  copy_async_wait<0>();
  if constexpr (kWarpsK == 1) return store_alone(state, y, first_query + warp_q * 16);
  __syncthreads();
  float* partial = reinterpret_cast<float*>(memory);
  spill(partial, state, warp_q, warp_k);
  __syncthreads();
  finish(partial, y, first_query);
}

}  // namespace edgert::device
