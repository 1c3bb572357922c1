// SPDX-License-Identifier: Apache-2.0
// The inner kernel of depthwise convolution, and of grouped convolution with few channels a group: neighbouring output
// pixels of one image row, vectors along the channels.
// Pixels of the image are found through a table of pointers, which points at zeros outside the image, so that pixels at
// the border cost no more than the others.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/region.h"
#include "edgert/cpu/operator.h"

namespace edgert::cpu {

/// y[p][c] = min(max(bias[c] + sum over i, j, g of columns[i][p * stride + j * dilation][c / group * group + g] *
/// w[i][j][g][c], low), high) for p < pixels, g < group and first <= c < last. Elements may be written more than once, always with the same value, so y must
/// not lie on an operand.
struct DepthwiseStrip {
  const float* const* columns;  ///< [kernel_rows][columns_pitch]: channel 0 of a pixel of the image
  std::int64_t columns_pitch;
  const float* w;  ///< [kernel_rows][kernel_columns][group][w_pitch]
  std::int64_t w_pitch;
  std::int64_t kernel_rows, kernel_columns;
  std::int64_t stride, dilation;
  const float* bias;  ///< null without one
  float* y;           ///< channel `first` of the first pixel
  std::int64_t y_pitch;
  std::int64_t pixels;
  std::int64_t first, last;
  float low, high;
  std::int64_t group = 1;  ///< 1, 4 or 8; if not 1, `first` and `last` are multiples of 16
};

}  // namespace edgert::cpu

#define EDGERT_ISA_SOURCE "edgert/cpu/isa/depthwise_kernels.inc"
#include "edgert/cpu/isa/for_each_isa.h"
