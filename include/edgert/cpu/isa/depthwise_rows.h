// SPDX-License-Identifier: Apache-2.0
// A row of a depthwise convolution's outputs from a table of the pixels under it: which channels pass at once, and the
// activations that do not fit into the inner kernel. Depthwise convolutions and inverted residuals share it.
#pragma once

#include <cstdint>

#include "edgert/cpu/isa/dense_operands.h"
#include "edgert/cpu/isa/depthwise_kernels.h"
#include "edgert/cpu/isa/epilogue_kernels.h"
#include "edgert/cpu/isa/scratch_pieces.h"
#include "edgert/cpu/operator.h"

namespace edgert::cpu {

/// A near-equal share of at most `limit` channels, a multiple of every vector's length, so that no small rest remains.
constexpr std::int64_t channel_share(std::int64_t channels, std::int64_t limit) noexcept {
  if (channels <= limit) return channels;
  const std::int64_t share = ceil_div(channels, ceil_div(channels, limit));
  return static_cast<std::int64_t>(align_up(static_cast<std::uint64_t>(share), 16));
}

class DepthwiseRows {
 public:
  /// Output pixels that pass at once.
  static constexpr std::int64_t kSegment = 28;

  /// The constants of one call of the operator, after the constructor.
  Isa isa = Isa::Baseline;
  const float* w = nullptr;     ///< [kh][kw][group][channels]
  const float* bias = nullptr;  ///< null without one
  ResolvedEpilogue epilogue = {};

  DepthwiseRows(const std::int32_t (&kernel)[2], std::int64_t stride, std::int64_t dilation, std::int64_t channels,
                std::int64_t group, ScratchPieces& pieces) noexcept
      : kernel_columns_(kernel[1]), stride_(stride), dilation_(dilation), channels_(channels), group_(group) {
    constexpr std::int64_t kWeightBytes = 16 * 1024;  // a part of the first-level cache
    const std::int64_t window = std::int64_t{kernel[0]} * kernel[1] * group;
    const std::int64_t limit = kWeightBytes / (window * static_cast<std::int64_t>(sizeof(float))) / 16 * 16;
    block_channels_ = channel_share(channels, limit < 16 ? 16 : limit > 256 ? 256 : limit);
    strip_pitch_ = static_cast<std::int64_t>(align_up(static_cast<std::uint64_t>(block_channels_), 16));
    strip_ = pieces.take<float>(kSegment * strip_pitch_);
  }

  /// At most kSegment neighbouring output pixels, and what a pixel of theirs is.
  struct Segment {
    const float* const* columns;  ///< DepthwiseStrip::columns, from kernel row `begin_row` on
    std::int64_t columns_pitch;
    std::int64_t begin_row, end_row;  ///< of the kernel: the rows inside the image
    float* y;                         ///< channel 0 of the first pixel
    std::int64_t y_pitch;
    const float* residual;  ///< null, or like y
    std::int64_t residual_pitch;
    std::int64_t pixels;
  };

  /// Channels [first, last) of a segment.
  void run(const Segment& segment, std::int64_t first, std::int64_t last) const noexcept {
    const bool direct = epilogue.in_registers && segment.residual == nullptr;
    for (std::int64_t c = first; c < last; c += block_channels_) {
      const std::int64_t end = c + block_channels_ < last ? c + block_channels_ : last;
      DepthwiseStrip strip = {segment.columns, segment.columns_pitch,
                              w + segment.begin_row * kernel_columns_ * group_ * channels_, channels_,
                              segment.end_row - segment.begin_row, kernel_columns_, stride_, dilation_, bias,
                              segment.y + c, segment.y_pitch, segment.pixels, c, end, epilogue.low, epilogue.high, group_};
      if (direct) {
        EDGERT_ISA_DISPATCH(isa, depthwise_strip(strip));
        continue;
      }
      strip.y = strip_;
      strip.y_pitch = strip_pitch_;
      strip.low = -scalar::infinity_f32();
      strip.high = scalar::infinity_f32();
      EDGERT_ISA_DISPATCH(isa, depthwise_strip(strip));
      const FinishRows rest = {strip_, strip.y_pitch, segment.y + c, segment.y_pitch,
                               segment.residual == nullptr ? nullptr : segment.residual + c, segment.residual_pitch,
                               segment.pixels, end - c, epilogue.epilogue};
      EDGERT_ISA_DISPATCH(isa, finish_rows(rest));
    }
  }

 private:
  std::int64_t kernel_columns_, stride_, dilation_, channels_, group_;
  std::int64_t block_channels_;  ///< channels that pass at once, so that their weights stay in the first-level cache
  std::int64_t strip_pitch_;
  float* strip_;
};

/// table[i] = pixel `left` + i, for i < count, of an image's row of `width` pixels `step` apart, or `outside`.
inline void fill_pixel_table(const float* line, std::int64_t width, std::int64_t step, std::int64_t left,
                             const float* outside, std::int64_t count, const float** table) noexcept {
  std::int64_t i = 0;
  for (; i < count && left + i < 0; ++i) table[i] = outside;
  if (left + i < width) {
    const float* pixel = line + (left + i) * step;
    const std::int64_t inside = width - left < count ? width - left : count;
    for (; i < inside; ++i, pixel += step) table[i] = pixel;
  }
  for (; i < count; ++i) table[i] = outside;
}

/// The rows of a kernel, [begin, end), that lie inside an image of `height` rows when its first row lies at `top`.
inline PartRange rows_inside(std::int64_t top, std::int64_t height, std::int64_t kernel, std::int64_t dilation) noexcept {
  const std::int64_t skipped = top < 0 ? ceil_div(-top, dilation) : 0;
  const std::int64_t reachable = height > top ? ceil_div(height - top, dilation) : 0;
  const std::int64_t end = reachable < kernel ? reachable : kernel;
  return {skipped < end ? skipped : end, end};
}

}  // namespace edgert::cpu
