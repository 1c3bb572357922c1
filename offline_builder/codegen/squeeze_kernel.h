// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/squeeze.cu: squeeze-and-excitation's factors in one launch.
#pragma once

#include <cstdint>
#include <optional>

#include "codegen/conv_kernel.h"

namespace edgert::codegen {

/// y[images][outputs] = epilogue(second weights [outputs][squeezed] times first(first weights [squeezed][depth] times the mean
/// over pixels of x[images][pixels][depth], plus bias), plus bias). depth and squeezed are multiples of 8.
struct SqueezeShape {
  std::int32_t images = 1, depth = 8, squeezed = 8, outputs = 8;
  std::int32_t pixels = 1, input_pitch = 0;  ///< elements from pixel to pixel, a multiple of 8; from image to image pixels times that
  std::int32_t output_pitch = 0;             ///< elements from image to image
  bool float_input = false;                  ///< x holds floats: sums over parts of an image
  std::int32_t divisor = 1;                  ///< what the sums over `pixels` are divided by
  ElementType element = ElementType::F16;
  scalar::Epilogue first = {}, epilogue = {};  ///< no residuals
};

/// Bytes of dynamic shared memory with `cluster` blocks an image, or nothing when shape, blocks and target do not go together.
std::optional<std::uint32_t> squeeze_shared_bytes(const SqueezeShape& shape, std::int32_t cluster, const ConvTarget& target);

/// The kernel. Its arguments are the addresses of x, the first weights and bias, the second weights and bias, y. Throws
/// CompileError when squeeze_shared_bytes() has no value.
KernelSpec make_squeeze(const SqueezeShape& shape, std::int32_t cluster, const ConvTarget& target);

}  // namespace edgert::codegen
