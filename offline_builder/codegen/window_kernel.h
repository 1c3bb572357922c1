// SPDX-License-Identifier: Apache-2.0
// Host side of kernels/window.cu (depthwise convolution, pooling) and kernels/gemv.cu (few rows times a matrix, with an
// optional global average before it).
#pragma once

#include <cstdint>
#include <vector>

#include "codegen/conv_kernel.h"

namespace edgert::codegen {

enum class WindowKind : std::uint8_t { Depthwise, Maximum, Average };

/// Arguments of the kernel: x, weights, bias, y. Pitches and what is moved at once (1 to 8) as in ConvShape.
struct WindowShape {
  WindowKind kind = WindowKind::Depthwise;
  std::int32_t batch = 1, height = 1, width = 1, channels = 8, out_height = 1, out_width = 1;
  std::int32_t kernel[2] = {3, 3}, stride[2] = {1, 1}, dilation[2] = {1, 1}, pad[2] = {1, 1};
  std::int32_t input_pitch = 0, output_pitch = 0, input_at_once = 8, output_at_once = 8;
  bool bias = true;           ///< depthwise only
  bool count_padding = false;  ///< average only
  ElementType element = ElementType::F16;
  scalar::Epilogue epilogue = {};
};

/// `strip` output pixels a thread, `threads` a block.
KernelSpec make_window(const WindowShape& shape, std::int32_t strip, std::int32_t threads, const ConvTarget& target);

/// Weights [channels][kernel] as [kernel][channels rounded up to 8].
std::vector<std::uint16_t> pack_depthwise_weights(const WindowShape& shape, const float* weights);

/// y[rows][outputs] = activation(mean over pixels of x[rows][pixels][depth] times weights[outputs][depth] + bias).
/// Arguments: x, weights, bias, y.
struct GemvShape {
  std::int32_t rows = 1, depth = 512, outputs = 1000, pixels = 1;
  std::int32_t input_pitch = 0;   ///< elements from pixel to pixel
  std::int32_t output_pitch = 0;  ///< elements from row to row
  std::int32_t residual_pitch = 0;  ///< the same, of a residual that the epilogue adds, of the input's type
  bool bias = true;
  bool float_output = false;
  bool float_input = false;   ///< x holds floats: sums over parts of an image, of `divisor` pixels together
  bool float_weights = false;
  std::int32_t divisor = 0;   ///< what sums are divided by; 0: the pixels
  ElementType element = ElementType::F16;  ///< of what is not floats; a type of 16 bits
  scalar::Epilogue epilogue = {};
};

struct GemvTile {
  std::int32_t threads = 256, rows_per_warp = 1;
  std::int32_t cluster = 1;  ///< blocks that share the averaging; sm_90 and later
  std::int32_t rounds = 1;   ///< how often a warp computes rows_per_warp outputs
  bool row_a_block = false;  ///< each row of x has blocks of its own
};

/// For blocks without a cluster: rounds so that those that form averages, each by itself, do not outnumber the multiprocessors.
GemvTile gemv_tile(const GemvShape& shape, const ConvTarget& target);

KernelSpec make_gemv(const GemvShape& shape, const GemvTile& tile, const ConvTarget& target);

}  // namespace edgert::codegen
