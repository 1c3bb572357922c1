// SPDX-License-Identifier: Apache-2.0
// Groups of threads that reduce together: kLanes threads share the elements of one result, kGroups groups make a block.
// Where neighbouring results are neighbours in memory, threads of different groups are neighbours (kAcross). Sums are
// formed in an order that only kLanes decides. All threads of the block call combine() together.
#pragma once

#include "kernels/common/ptx.h"

namespace edgert::device {

template <class T>
__device__ __forceinline__ T exchange(const T& value, int distance) {
  static_assert(sizeof(T) % 4 == 0, "values are whole words");
  union Words {
    T value;
    uint32 word[sizeof(T) / 4];
    __device__ Words(const T& from) : value(from) {}
  } words(value);
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(T) / 4); ++i) words.word[i] = __shfl_xor_sync(0xffffffffu, words.word[i], distance);
  return words.value;
}

template <int kLanes, int kGroups, bool kAcross>
struct Group {
  int lane, group;

  __device__ __forceinline__ Group() {
    const int thread = static_cast<int>(threadIdx.x);
    lane = kAcross ? thread / kGroups : thread % kLanes;
    group = kAcross ? thread % kGroups : thread / kLanes;
  }

  /// All lanes' values combined, the same in every lane. `fold` is commutative.
  template <class T, class Fold>
  __device__ __forceinline__ T combine(T value, Fold fold) const {
    if constexpr (kLanes == 1) return value;
    T* slots = reinterpret_cast<T*>(dynamic_shared_memory());
    if constexpr (kAcross) {
      slots[lane * kGroups + group] = value;
      __syncthreads();
      value = slots[group];
#pragma unroll
      for (int i = 1; i < kLanes; ++i) value = fold(value, slots[i * kGroups + group]);
      __syncthreads();
    } else {
#pragma unroll
      for (int distance = 1; distance < (kLanes < 32 ? kLanes : 32); distance *= 2) value = fold(value, exchange(value, distance));
      if constexpr (kLanes > 32) {
        constexpr int kWarps = kLanes / 32;
        slots[group * kWarps + lane / 32] = value;
        __syncthreads();
        value = slots[group * kWarps];
#pragma unroll
        for (int i = 1; i < kWarps; ++i) value = fold(value, slots[group * kWarps + i]);
        __syncthreads();
      }
    }
    return value;
  }
};

}  // namespace edgert::device
