// SPDX-License-Identifier: Apache-2.0
// Index maps over strided operands. A nest, printed into problem.h, is a struct with
//   static constexpr int kRank, kOperands;  static constexpr Index kCount;     its positions
//   static Index extent(int dim), stride(int operand, int dim);                outermost dimension first
// whose values are constants once loops over its dimensions are unrolled, so that divisions become multiplications.
#pragma once

#include "kernels/common/ptx.h"

namespace edgert::device {

/// Adds to each operand's offset, in elements, that of position `item` in row-major order.
template <class Nest, class Index>
__device__ __forceinline__ void locate(Index item, Index (&offset)[Nest::kOperands]) {
#pragma unroll
  for (int d = Nest::kRank - 1; d >= 0; --d) {
    const Index index = d == 0 ? item : item % Nest::extent(d);
    item /= Nest::extent(d);
#pragma unroll
    for (int k = 0; k < Nest::kOperands; ++k) offset[k] += index * Nest::stride(k, d);
  }
}

/// An extent that only a run knows, 0 to `most`.
template <class Index>
__device__ __forceinline__ Index extent_at(const scalar::int64* extent, Index most) {
  const scalar::int64 actual = *extent;
  return actual < 0 ? Index{0} : actual > most ? most : static_cast<Index>(actual);
}

}  // namespace edgert::device
