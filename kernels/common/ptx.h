// SPDX-License-Identifier: Apache-2.0
// Everything in device code that has no C++ spelling: this and warpgroup.h are the only files with inline PTX, and the host emulation in
// tests/fake_cuda replaces it, function by function, from the instructions' definitions. Addresses of shared memory are
// 32-bit numbers here, as the instructions take them.
#pragma once

#include "edgert/scalar/compiler.h"

namespace edgert::device {

using scalar::uint16;
using scalar::uint32;
using scalar::uint64;

/// 16 bytes, moved by one instruction.
struct alignas(16) Vector16 {
  uint32 word[4];
};

/// The launch's dynamic shared memory, aligned to 128 bytes. Kernels use no other.
__device__ __forceinline__ unsigned char* dynamic_shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

__device__ __forceinline__ uint32 shared_address(const void* pointer) {
  return static_cast<uint32>(__cvta_generic_to_shared(pointer));
}

// Copies from global to shared memory that run on their own. copy_async_commit() closes a group; copy_async_wait<N>()
// returns when at most the N newest groups are unfinished.

/// Makes the compiler have the value here: what was computed before a wait stays before it.
__device__ __forceinline__ void pin(int& value) { asm volatile("" : "+r"(value)); }
__device__ __forceinline__ void pin(uint32& value) { asm volatile("" : "+r"(value)); }

/// Copies `bytes` (0 to 16) and fills the rest of 16 bytes with zeros. Both addresses are aligned to 16.
__device__ __forceinline__ void copy_async_16(uint32 to, const void* from, uint32 bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void copy_async_16(uint32 to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(__cvta_generic_to_global(from)) : "memory");
}
/// The same for 4, 8 or 16 bytes, of which `bytes` are copied, through the first-level cache.
template <int kBytes>
__device__ __forceinline__ void copy_async(uint32 to, const void* from, uint32 bytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "asynchronous copies are of 4, 8 or 16 bytes");
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(__cvta_generic_to_global(from)), "n"(kBytes), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kNewest>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNewest) : "memory");
}

/// Four 8x8 matrices of 16-bit elements: lane i gives the address of row i % 8 of matrix i / 8, and gets elements
/// 2 * (lane % 4) and the next of row lane / 4 of each.
__device__ __forceinline__ void load_matrices(uint32 (&out)[4], uint32 row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row)
               : "memory");
}

/// The same four matrices, each transposed: a lane gets elements lane / 4 of rows 2 * (lane % 4) and the next.
__device__ __forceinline__ void load_matrices_transposed(uint32 (&out)[4], uint32 row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(row)
               : "memory");
}

__device__ __forceinline__ Vector16 load_shared_16(uint32 address) {
  Vector16 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "r"(address)
               : "memory");
  return v;
}
__device__ __forceinline__ uint32 load_shared_4(uint32 address) {
  uint32 v;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(address) : "memory");
  return v;
}
__device__ __forceinline__ uint2 load_shared_8(uint32 address) {
  uint2 v;
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
  return v;
}
__device__ __forceinline__ void store_shared_4(uint32 address, uint32 v) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
}
__device__ __forceinline__ void store_shared_16(uint32 address, const Vector16& v) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.word[0]), "r"(v.word[1]), "r"(v.word[2]),
               "r"(v.word[3])
               : "memory");
}
__device__ __forceinline__ void store_shared_8(uint32 address, uint32 low, uint32 high) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(address), "r"(low), "r"(high) : "memory");
}
/// Through the path for data that nobody writes during the kernel: weights.
__device__ __forceinline__ Vector16 load_constant_16(const void* pointer) {
  Vector16 v;
  asm volatile("ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
               : "l"(__cvta_generic_to_global(pointer)));
  return v;
}

/// Asks for the 128 bytes around `pointer` to be brought into the L2 cache.
__device__ __forceinline__ void prefetch_l2(const void* pointer) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(pointer)));
}

/// 2 to the power x, to 2^-22 of the result; results below the normal range are zero.
__device__ __forceinline__ float exp2_approximate(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

/// 1 / x to 2^-23 of the result.
__device__ __forceinline__ float reciprocal_approximate(float x) {
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

/// a * b + c between 0 and 1; 0 for what is not a number.
__device__ __forceinline__ float multiply_add_saturated(float a, float b, float c) {
  float out;
  asm("fma.rn.sat.f32 %0, %1, %2, %3;" : "=f"(out) : "f"(a), "f"(b), "f"(c));
  return out;
}

/// IEEE half: 16 bits.
struct F16 {
  /// Numbers from fragments of the left operand as multiply() wants them.
  __device__ static __forceinline__ void round(uint32 (&)[4]) {}
  static constexpr uint32 kLowestPair = 0xfc00fc00u;  // minus infinity, twice
  __device__ static __forceinline__ uint32 pack(float low, float high) {
    uint32 out;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
  }
  /// What is negative becomes zero.
  __device__ static __forceinline__ uint32 pack_relu(float low, float high) {
    uint32 out;
    asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
  }
  __device__ static __forceinline__ void unpack(uint32 in, float& low, float& high) {
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(low), "=f"(high) : "r"(in));
  }
  __device__ static __forceinline__ uint16 from_float(float x) {
    uint16 out;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
    return out;
  }
  __device__ static __forceinline__ float to_float(uint16 x) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x));
    return out;
  }
  /// Products of two pairs, rounded.
  __device__ static __forceinline__ uint32 multiply_pairs(uint32 a, uint32 b) {
    uint32 out;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
    return out;
  }
  /// Sums and differences of two pairs, rounded.
  __device__ static __forceinline__ uint32 add_pairs(uint32 a, uint32 b) {
    uint32 out;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
    return out;
  }
  __device__ static __forceinline__ uint32 subtract_pairs(uint32 a, uint32 b) {
    uint32 out;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
    return out;
  }
  /// Products of two pairs plus a third, rounded once; negative ones become zero.
  __device__ static __forceinline__ uint32 multiply_add_relu_pairs(uint32 a, uint32 b, uint32 c) {
    uint32 out;
    asm("fma.rn.relu.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
    return out;
  }
  /// d += a * b: a is 16x16 by rows, b 16x8 by columns. Lane i holds d at rows i / 4 and i / 4 + 8, columns
  /// 2 * (i % 4) and the next.
  __device__ static __forceinline__ void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
  /// The same for a of eight columns, the first two registers of load_matrices() or the last two, and b of eight rows.
  __device__ static __forceinline__ void multiply_narrow(float (&d)[4], uint32 a0, uint32 a1, uint32 b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a0), "r"(a1), "r"(b));
  }
  /// The larger, or smaller, of each two; not a number if one of them is none.
  __device__ static __forceinline__ uint32 maximum_pairs(uint32 a, uint32 b) {
    uint32 out;
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
    return out;
  }
  __device__ static __forceinline__ uint32 minimum_pairs(uint32 a, uint32 b) {
    uint32 out;
    asm("min.NaN.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
    return out;
  }
};

/// bfloat16: the upper half of a float.
struct BF16 {
  __device__ static __forceinline__ void round(uint32 (&)[4]) {}
  static constexpr uint32 kLowestPair = 0xff80ff80u;
  __device__ static __forceinline__ uint32 pack(float low, float high) {
    uint32 out;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
  }
  /// What is negative becomes zero.
  __device__ static __forceinline__ uint32 pack_relu(float low, float high) {
    uint32 out;
    asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
    return out;
  }
  __device__ static __forceinline__ void unpack(uint32 in, float& low, float& high) {
    low = scalar::bit_cast<float>(in << 16);
    high = scalar::bit_cast<float>(in & 0xffff0000u);
  }
  __device__ static __forceinline__ uint16 from_float(float x) {
    uint16 out;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out) : "f"(x));
    return out;
  }
  __device__ static __forceinline__ float to_float(uint16 x) { return scalar::bit_cast<float>(static_cast<uint32>(x) << 16); }
  __device__ static __forceinline__ uint32 multiply_pairs(uint32 a, uint32 b) {  // below sm_90 there is only the sum with -0
    uint32 out;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(0x80008000u));
    return out;
  }
  __device__ static __forceinline__ uint32 multiply_add_relu_pairs(uint32 a, uint32 b, uint32 c) {
    uint32 out;
    asm("fma.rn.relu.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
    return out;
  }
  __device__ static __forceinline__ void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
  __device__ static __forceinline__ void multiply_narrow(float (&d)[4], uint32 a0, uint32 a1, uint32 b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a0), "r"(a1), "r"(b));
  }
  __device__ static __forceinline__ uint32 maximum_pairs(uint32 a, uint32 b) {
    uint32 out;
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
    return out;
  }
  __device__ static __forceinline__ uint32 minimum_pairs(uint32 a, uint32 b) {
    uint32 out;
    asm("min.NaN.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
    return out;
  }
};

/// A float that is rounded to 11 bits before it is multiplied. load_matrices() gives fragments of eight columns of these
/// where it gives 16 of 16-bit elements: the same bytes.
struct TF32 {
  __device__ static __forceinline__ void round(uint32 (&a)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(a[i]) : "f"(scalar::bit_cast<float>(a[i])));
  }
  __device__ static __forceinline__ uint32 multiply_pairs(uint32 a, uint32 b) {
    return scalar::bit_cast<uint32>(scalar::bit_cast<float>(a) * scalar::bit_cast<float>(b));
  }
  __device__ static __forceinline__ uint32 multiply_add_relu_pairs(uint32 a, uint32 b, uint32 c) {
    return scalar::bit_cast<uint32>(fmaxf(scalar::bit_cast<float>(a) * scalar::bit_cast<float>(b) + scalar::bit_cast<float>(c), 0.0f));
  }
  /// d += a * b: a is 16x8 by rows, b 8x8 by columns; d as for 16-bit elements.
  __device__ static __forceinline__ void multiply(float (&d)[4], const uint32 (&a)[4], uint32 b0, uint32 b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

/// A float that is multiplied as it is, which no tensor core does.
struct F32 {};

/// Tells the compiler what it does not know: that indices are small, so that signed divisions of them are shifts.
__device__ __forceinline__ void assume_indices(unsigned threads, unsigned blocks) {
  __builtin_assume(threadIdx.x < threads);
  __builtin_assume(blockIdx.x < blocks);
}

// Programmatic dependent launch. A kernel so launched starts while the one before it still runs: it may touch nothing
// but weights until wait_for_previous_grid() returns, and every thread must call that before it ends, or a later kernel
// would not wait for the earlier one. Without hardware for it (below sm_90) the launch is an ordinary one.

__device__ __forceinline__ void wait_for_previous_grid() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// The next kernel may start as soon as all blocks have called this or ended.
__device__ __forceinline__ void allow_next_grid() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Keeps this warp, and so its block's place on the multiprocessor, for about that many cycles.
__device__ __forceinline__ void hold_place(int cycles) {
  uint32 begin, now;
  asm volatile("mov.u32 %0, %%clock;" : "=r"(begin));
  do asm volatile("mov.u32 %0, %%clock;" : "=r"(now));
  while (now - begin < static_cast<uint32>(cycles));
}

/// Adds to a counter in global memory and returns its old value; orders this thread's earlier writes before, and its
/// later reads after, for all blocks.
__device__ __forceinline__ uint32 fetch_add_ordered(uint32* counter, uint32 value) {
  uint32 old;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(old)
               : "l"(__cvta_generic_to_global(counter)), "r"(value)
               : "memory");
  return old;
}

#if __CUDA_ARCH__ >= 900
// Thread block clusters: blocks that run at the same time and reach each other's shared memory.

__device__ __forceinline__ uint32 cluster_rank() {
  uint32 rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
/// The address in block `rank`'s shared memory that corresponds to `address` in this block's.
__device__ __forceinline__ uint32 cluster_address(uint32 address, uint32 rank) {
  uint32 out;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(out) : "r"(address), "r"(rank));
  return out;
}
/// Two halves of a barrier among all threads of the cluster. The first half orders nothing by itself.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// A transaction barrier in shared memory counts bytes that other blocks send: no fence is needed on either side.

/// One thread, before the cluster's first barrier: the barrier will expect `bytes`.
__device__ __forceinline__ void receive_begin(uint32 barrier, uint32 bytes) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/// Sends 16 bytes to `address` in another block and counts them at `barrier` of the same block (cluster addresses).
__device__ __forceinline__ void send_16(uint32 address, const Vector16& v, uint32 barrier) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(address),
               "r"(v.word[0]), "r"(v.word[1]), "r"(v.word[2]), "r"(v.word[3]), "r"(barrier)
               : "memory");
}
__device__ __forceinline__ void send_4(uint32 address, uint32 v, uint32 barrier) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address), "r"(v), "r"(barrier) : "memory");
}
/// Copies `bytes` (a multiple of 16) on its own to `to` in this block's shared memory, and counts them at `barrier`.
__device__ __forceinline__ void copy_bulk(uint32 to, const void* from, uint32 bytes, uint32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
               : "memory");
}
/// Copies `bytes` (a multiple of 16) on its own to `to` in each block of the cluster whose bit is set in `blocks`, and
/// counts them at `barrier` of that block. Both are addresses in this block; the same places are meant in the others.
__device__ __forceinline__ void copy_bulk_to(uint32 blocks, uint32 to, const void* from, uint32 bytes, uint32 barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(to),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier), "h"(static_cast<uint16>(blocks))
      : "memory");
}
/// Returns when all expected bytes have arrived. `parity`: of how often the barrier has been waited for before.
__device__ __forceinline__ void receive_wait(uint32 barrier, uint32 parity = 0) {
  uint32 done = 0;
  while (done == 0) {
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
  }
}
/// One thread, when what was expected has arrived and before anything more is sent: the barrier will expect `bytes` again.
__device__ __forceinline__ void receive_again(uint32 barrier, uint32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
#endif

}  // namespace edgert::device
