// SPDX-License-Identifier: Apache-2.0
// The coordinates of elements that are not zero, in row-major order. Blocks of kThreads * kChunks elements: a first launch
// counts each block's (kCounting), the second adds up those before its own and writes; few elements need no first launch.
// Launched for the largest extents; elements beyond the actual ones count as zero. problem.h:
// offline_builder/codegen/select_kernel.h.
#include "kernels/common/element.h"
#include "kernels/common/group.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;

constexpr int kWarps = kThreads / 32;
constexpr int kSlots = kWarps * kChunks;
constexpr int kRank = Walk::kOperands - 1;

/// Operand 0 of Walk is x, the others are the coordinates.
struct Element {
  Index offset[Walk::kOperands];
  bool counts;
};

__device__ __forceinline__ int sum_of_block(int value) {
  return Group<kThreads, 1, false>().combine(value, [](int a, int b) { return a + b; });
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS EDGERT_EXTENT_PARAMETERS) {
  allow_next_grid();
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / 32;
  wait_for_previous_grid();
  const Index extent[] = EDGERT_X_EXTENTS;
  Element element[kChunks];
  uint32 ballot[kChunks];
  int own = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const Index item = (static_cast<Index>(blockIdx.x) * kChunks + c) * kThreads + thread;
    element[c] = {};
    locate<Walk>(item, element[c].offset);
    bool inside = item < Walk::kCount;
#pragma unroll
    for (int d = 0; d < kRank; ++d) inside = inside && element[c].offset[1 + d] < extent[d];
    element[c].counts = inside && x_type::load(x[element[c].offset[0]]) != x_type::Value{};
    ballot[c] = __ballot_sync(0xffffffffu, element[c].counts ? 1 : 0);
    own += element[c].counts ? 1 : 0;
  }
  if constexpr (kCounting) {
    own = sum_of_block(own);
    if (thread == 0) counts[blockIdx.x] = own;
  } else {
    int before = 0;
    for (int block = thread; block < static_cast<int>(blockIdx.x); block += kThreads) before += counts[block];
    before = sum_of_block(before);
    int* slots = reinterpret_cast<int*>(dynamic_shared_memory());
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (thread % 32 == 0) slots[c * kWarps + warp] = __popc(ballot[c]);
    }
    __syncthreads();
    int place[kChunks];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) place[c] = before + __popc(ballot[c] & ((uint32{1} << (thread % 32)) - 1));
    int total = before;
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
      const int count = slots[s];
#pragma unroll
      for (int c = 0; c < kChunks; ++c) place[c] += s < c * kWarps + warp ? count : 0;
      total += count;
    }
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int d = 0; d < kRank; ++d) {
        if (element[c].counts) indices[d * kDimStride + place[c] * kPlaceStride] = element[c].offset[1 + d];
      }
    }
    if (blockIdx.x + 1 == gridDim.x && thread == 0) *count = total;
  }
}

}  // namespace edgert::device
