// SPDX-License-Identifier: Apache-2.0
// Products of matrices that lie in shared memory by groups of four warps (wgmma; sm_90a alone). With ptx.h the only inline
// PTX; tests/fake_cuda/warpgroup_emulation.h takes this file's place on the host.
//
// A matrix is rows of 64 16-bit elements, 128 bytes, one after the other from an address that is a multiple of 1024 on; the
// 16 bytes with number v of row r lie where those with number v ^ (r % 8) would.
#pragma once

#include "kernels/common/ptx.h"

namespace edgert::device {

constexpr int kMatrixRowBytes = 128;

/// Where the 16 bytes with number `vector` of a row lie, from the matrix's address.
__device__ __forceinline__ constexpr uint32 swizzled(int row, int vector) {
  return static_cast<uint32>(row * kMatrixRowBytes + ((vector ^ row) & 7) * 16);
}

/// What multiply_group() takes for the 16 columns at `address`, which is that of 16 * i elements into a matrix's first row,
/// whose number is a multiple of 8.
__device__ __forceinline__ uint64 matrix_at(uint32 address) {
  constexpr uint64 kEightRows = 8 * kMatrixRowBytes / 16;
  return (1ull << 62) | (kEightRows << 32) | (1ull << 16) | ((address & 0x3ffffu) >> 4);
}

/// What threads of the block wrote to shared memory, or copied and waited for, is there for products after a barrier.
__device__ __forceinline__ void publish_matrices() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Before a group's first product, and after its threads touched the sums otherwise.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// Closes a batch of products.
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Returns when all batches but the newest kNewest are done: their operands may be overwritten.
template <int kNewest>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kNewest) : "memory");
}
/// The same for all; the sums may be read.
template <int kBlocks>
__device__ __forceinline__ void finish_products(float (&sum)[kBlocks][4]) {
  wait_for_products<0>();
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(sum[j][i])::"memory");
  }
}

// The registers of sums as operands, 16 columns more each line.
#define EDGERT_SUMS_OF(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3]), "+f"(d[(j) + 1][0]), "+f"(d[(j) + 1][1]), "+f"(d[(j) + 1][2]), "+f"(d[(j) + 1][3])
#define EDGERT_NAMES_1 "%0, %1, %2, %3, %4, %5, %6, %7"
#define EDGERT_NAMES_2 EDGERT_NAMES_1 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define EDGERT_NAMES_3 EDGERT_NAMES_2 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define EDGERT_NAMES_4 EDGERT_NAMES_3 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define EDGERT_NAMES_5 EDGERT_NAMES_4 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define EDGERT_NAMES_6 EDGERT_NAMES_5 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define EDGERT_NAMES_7 EDGERT_NAMES_6 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define EDGERT_NAMES_8 EDGERT_NAMES_7 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define EDGERT_NAMES_9 EDGERT_NAMES_8 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define EDGERT_NAMES_10 EDGERT_NAMES_9 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define EDGERT_NAMES_11 EDGERT_NAMES_10 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define EDGERT_NAMES_12 EDGERT_NAMES_11 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define EDGERT_NAMES_13 EDGERT_NAMES_12 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define EDGERT_NAMES_14 EDGERT_NAMES_13 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define EDGERT_NAMES_15 EDGERT_NAMES_14 ", %112, %113, %114, %115, %116, %117, %118, %119"
#define EDGERT_NAMES_16 EDGERT_NAMES_15 ", %120, %121, %122, %123, %124, %125, %126, %127"
#define EDGERT_SUMS_1 EDGERT_SUMS_OF(0)
#define EDGERT_SUMS_2 EDGERT_SUMS_1, EDGERT_SUMS_OF(2)
#define EDGERT_SUMS_3 EDGERT_SUMS_2, EDGERT_SUMS_OF(4)
#define EDGERT_SUMS_4 EDGERT_SUMS_3, EDGERT_SUMS_OF(6)
#define EDGERT_SUMS_5 EDGERT_SUMS_4, EDGERT_SUMS_OF(8)
#define EDGERT_SUMS_6 EDGERT_SUMS_5, EDGERT_SUMS_OF(10)
#define EDGERT_SUMS_7 EDGERT_SUMS_6, EDGERT_SUMS_OF(12)
#define EDGERT_SUMS_8 EDGERT_SUMS_7, EDGERT_SUMS_OF(14)
#define EDGERT_SUMS_9 EDGERT_SUMS_8, EDGERT_SUMS_OF(16)
#define EDGERT_SUMS_10 EDGERT_SUMS_9, EDGERT_SUMS_OF(18)
#define EDGERT_SUMS_11 EDGERT_SUMS_10, EDGERT_SUMS_OF(20)
#define EDGERT_SUMS_12 EDGERT_SUMS_11, EDGERT_SUMS_OF(22)
#define EDGERT_SUMS_13 EDGERT_SUMS_12, EDGERT_SUMS_OF(24)
#define EDGERT_SUMS_14 EDGERT_SUMS_13, EDGERT_SUMS_OF(26)
#define EDGERT_SUMS_15 EDGERT_SUMS_14, EDGERT_SUMS_OF(28)
#define EDGERT_SUMS_16 EDGERT_SUMS_15, EDGERT_SUMS_OF(30)
#define EDGERT_MULTIPLY(blocks, columns, a_name, b_name, type)                                                               \
  asm volatile("{.reg .pred add; setp.ne.b32 add, 1, 0; wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type \
               " {" EDGERT_NAMES_##blocks "}, %" #a_name ", %" #b_name ", add, 1, 1, 0, 0;}"                                 \
               : EDGERT_SUMS_##blocks                                                                                        \
               : "l"(a), "l"(b))

/// sum += a * transposed b, asynchronously, by all four warps of a group: a is 64 rows, b 8 * kBlocks. A lane holds of rows
/// 16 * (warp % 4) + lane / 4 and, in the upper half, 8 more what it holds of mma.sync's result for each 8 columns.
template <class Element, int kBlocks>
__device__ __forceinline__ void multiply_group(float (&d)[kBlocks][4], uint64 a, uint64 b);

#define EDGERT_MULTIPLY_GROUP(blocks, columns, a_name, b_name)                                                   \
  template <>                                                                                                    \
  __device__ __forceinline__ void multiply_group<F16, 2 * blocks>(float(&d)[2 * blocks][4], uint64 a, uint64 b) { \
    EDGERT_MULTIPLY(blocks, columns, a_name, b_name, "f16");                                                     \
  }                                                                                                              \
  template <>                                                                                                    \
  __device__ __forceinline__ void multiply_group<BF16, 2 * blocks>(float(&d)[2 * blocks][4], uint64 a, uint64 b) { \
    EDGERT_MULTIPLY(blocks, columns, a_name, b_name, "bf16");                                                    \
  }
EDGERT_MULTIPLY_GROUP(2, 32, 16, 17)
EDGERT_MULTIPLY_GROUP(3, 48, 24, 25)
EDGERT_MULTIPLY_GROUP(4, 64, 32, 33)
EDGERT_MULTIPLY_GROUP(5, 80, 40, 41)
EDGERT_MULTIPLY_GROUP(6, 96, 48, 49)
EDGERT_MULTIPLY_GROUP(7, 112, 56, 57)
EDGERT_MULTIPLY_GROUP(8, 128, 64, 65)
EDGERT_MULTIPLY_GROUP(9, 144, 72, 73)
EDGERT_MULTIPLY_GROUP(10, 160, 80, 81)
EDGERT_MULTIPLY_GROUP(11, 176, 88, 89)
EDGERT_MULTIPLY_GROUP(12, 192, 96, 97)
EDGERT_MULTIPLY_GROUP(13, 208, 104, 105)
EDGERT_MULTIPLY_GROUP(14, 224, 112, 113)
EDGERT_MULTIPLY_GROUP(15, 240, 120, 121)
EDGERT_MULTIPLY_GROUP(16, 256, 128, 129)

}  // namespace edgert::device
