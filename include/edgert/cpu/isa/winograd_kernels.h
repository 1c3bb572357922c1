// SPDX-License-Identifier: Apache-2.0
// The two transforms around the products of a Winograd convolution F(t x t, 3 x 3), for every instruction set.
// Algorithm: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015; interpolation points 0, 1, -1
// (and 2, -2 for t = 4) and infinity.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/region.h"
#include "edgert/cpu/operator.h"

namespace edgert::cpu {

/// v[p * position_stride + c] = position p of B^T d B, where d is the patch of (t + 2)^2 channel vectors in `pixels`.
struct WinogradInput {
  const float* const* pixels;  ///< [(t + 2)^2], row by row
  std::int64_t channels;       ///< a multiple of 16
  float* v;
  std::int64_t position_stride;
};

/// y[(i * t + j) * y_stride + c] = init[c] + element (i, j) of A^T m A.
struct WinogradOutput {
  const float* m;
  std::int64_t position_stride;
  const float* init;
  float* y;
  std::int64_t y_stride;
  std::int64_t columns;  ///< a multiple of 16
};

}  // namespace edgert::cpu

#define EDGERT_ISA_SOURCE "edgert/cpu/isa/winograd_kernels.inc"
#include "edgert/cpu/isa/for_each_isa.h"
