// SPDX-License-Identifier: Apache-2.0
// Depthwise 2-D convolution (groups = C = M), channels last.
// Inputs: x [N, C, H, W] with stride 1 along C; w f32 dense [kh, kw, C]; bias [C] or absent; residual like y or absent.
// Outputs: y [N, C, OH, OW] with stride 1 along C, no two elements in one place. y may lie on residual.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "edgert/cpu/isa/dense_operands.h"
#include "edgert/cpu/isa/depthwise_kernels.h"
#include "edgert/cpu/isa/epilogue_kernels.h"
#include "edgert/cpu/isa/scratch_pieces.h"
#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct DepthwiseConvAttributes {
  std::int32_t kernel[2];
  std::int32_t stride[2];
  std::int32_t dilation[2];
  std::int32_t pad_begin[2];
  scalar::Epilogue epilogue;
  std::int32_t pad_end[2];  ///< rows below, columns right: only the builder's shape rule reads it
};

/// A near-equal share of at most `limit` channels, a multiple of every vector's length, so that no small rest remains.
constexpr std::int64_t channel_share(std::int64_t channels, std::int64_t limit) noexcept {
  if (channels <= limit) return channels;
  const std::int64_t share = ceil_div(channels, ceil_div(channels, limit));
  return static_cast<std::int64_t>(align_up(static_cast<std::uint64_t>(share), 16));
}

/// A depthwise convolution's numbers and how its work is cut; data pointers are null while a plan is checked.
struct DepthwiseProblem {
  /// Output pixels of a row for which pointers are prepared at once.
  static constexpr std::int64_t kSegment = 28;

  const DepthwiseConvAttributes& attributes;
  const TensorView& x;
  const TensorView& y;
  std::int64_t channels;
  std::int64_t columns_pitch;   ///< pixels of the image under a row of a segment's windows
  std::int64_t block_channels;  ///< channels that pass at once, so that their weights stay in the first-level cache
  std::int64_t strip_pitch;

  explicit DepthwiseProblem(const Operands& operands) noexcept
      : attributes(operands.as<DepthwiseConvAttributes>()), x(operands.in(0)), y(operands.out(0)),
        channels(x.dims[1]) {
    const std::int64_t width = y.dims[3] < kSegment ? y.dims[3] : kSegment;
    columns_pitch = (width - 1) * attributes.stride[1] +
                    std::int64_t{attributes.kernel[1] - 1} * attributes.dilation[1] + 1;
    constexpr std::int64_t kWeightBytes = 16 * 1024;
    const std::int64_t window = std::int64_t{attributes.kernel[0]} * attributes.kernel[1];
    const std::int64_t limit = kWeightBytes / (window * static_cast<std::int64_t>(sizeof(float))) / 16 * 16;
    block_channels = channel_share(channels, limit < 16 ? 16 : limit > 256 ? 256 : limit);
    strip_pitch = static_cast<std::int64_t>(align_up(static_cast<std::uint64_t>(block_channels), 16));
  }
};

/// Runs the parts of a depthwise convolution.
class DepthwiseRun {
 public:
  DepthwiseRun(const DepthwiseProblem& problem, ScratchPieces& pieces) noexcept : problem_(problem) {
    zeros_ = pieces.take<float>(problem.channels);
    table_ = pieces.take<const float*>(problem.attributes.kernel[0] * problem.columns_pitch);
    strip_ = pieces.take<float>(DepthwiseProblem::kSegment * problem.strip_pitch);
  }

  void part(const Work& work) noexcept {
    std::memset(zeros_, 0, sizeof(float) * static_cast<std::size_t>(problem_.channels));
    isa_ = work.isa;
    epilogue_ = resolve_epilogue(problem_.attributes.epilogue);
    w_ = work.in(1).as<const float>();
    bias_ = work.has(2) ? work.in(2).as<const float>() : nullptr;
    residual_ = work.has(3) ? &work.in(3) : nullptr;
    // Few rows: channels are shared out as well, in groups that are multiples of every vector's length.
    const std::int64_t rows = problem_.y.dims[0] * problem_.y.dims[2];
    const std::int64_t group = rows >= std::int64_t{4} * work.parts ? problem_.channels
                                                                  : channel_share(problem_.channels, 64);
    const std::int64_t groups = ceil_div(problem_.channels, group);
    const PartRange range = part_range(rows * groups, work.part, work.parts);
    for (std::int64_t item = range.begin; item < range.end; ++item) {
      const std::int64_t first = item % groups * group;
      const std::int64_t last = first + group < problem_.channels ? first + group : problem_.channels;
      const std::int64_t row = item / groups;
      row_of(row / problem_.y.dims[2], row % problem_.y.dims[2], first, last);
    }
  }

 private:
  void row_of(std::int64_t image, std::int64_t row, std::int64_t first, std::int64_t last) noexcept {
    const DepthwiseConvAttributes& at = problem_.attributes;
    const std::int64_t top = row * at.stride[0] - at.pad_begin[0];
    // Kernel rows inside the image: begin_row .. end_row.
    const std::int64_t step = at.dilation[0];
    const std::int64_t skipped = top < 0 ? ceil_div(-top, step) : 0;
    const std::int64_t reachable = problem_.x.dims[2] > top ? ceil_div(problem_.x.dims[2] - top, step) : 0;
    const std::int64_t end_row = reachable < at.kernel[0] ? reachable : at.kernel[0];
    const std::int64_t begin_row = skipped < end_row ? skipped : end_row;
    const float* base = problem_.x.as<const float>() + image * problem_.x.strides[0];
    for (std::int64_t column = 0; column < problem_.y.dims[3]; column += DepthwiseProblem::kSegment) {
      const std::int64_t left = problem_.y.dims[3] - column;
      const std::int64_t pixels = left < DepthwiseProblem::kSegment ? left : DepthwiseProblem::kSegment;
      for (std::int64_t i = begin_row; i < end_row; ++i) {
        fill_table(base + (top + i * step) * problem_.x.strides[2], column * at.stride[1] - at.pad_begin[1],
                   table_ + (i - begin_row) * problem_.columns_pitch);
      }
      segment(image, row, column, pixels, begin_row, end_row, first, last);
    }
  }

  /// table[i] = pixel `left` + i of the image's row `line`, or zeros.
  void fill_table(const float* line, std::int64_t left, const float** table) const noexcept {
    const std::int64_t count = problem_.columns_pitch;
    const std::int64_t step = problem_.x.strides[3];
    const std::int64_t width = problem_.x.dims[3];
    std::int64_t i = 0;
    for (; i < count && left + i < 0; ++i) table[i] = zeros_;
    if (left + i < width) {
      const float* pixel = line + (left + i) * step;
      const std::int64_t inside = width - left < count ? width - left : count;
      for (; i < inside; ++i, pixel += step) table[i] = pixel;
    }
    for (; i < count; ++i) table[i] = zeros_;
  }

  void segment(std::int64_t image, std::int64_t row, std::int64_t column, std::int64_t pixels, std::int64_t begin_row,
               std::int64_t end_row, std::int64_t first, std::int64_t last) noexcept {
    const DepthwiseConvAttributes& at = problem_.attributes;
    const bool direct = epilogue_.in_registers && residual_ == nullptr;
    float* const y = problem_.y.as<float>() + pixel_offset(problem_.y, image, row, column);
    const float* residual = residual_ == nullptr
                                ? nullptr
                                : residual_->as<const float>() + pixel_offset(*residual_, image, row, column);
    for (std::int64_t c = first; c < last; c += problem_.block_channels) {
      const std::int64_t end = c + problem_.block_channels < last ? c + problem_.block_channels : last;
      DepthwiseStrip strip = {table_, problem_.columns_pitch, w_ + begin_row * at.kernel[1] * problem_.channels,
                              problem_.channels, end_row - begin_row, at.kernel[1], at.stride[1], at.dilation[1], bias_,
                              y + c, problem_.y.strides[3], pixels, c, end, epilogue_.low, epilogue_.high};
      if (direct) {
        EDGERT_ISA_DISPATCH(isa_, depthwise_strip(strip));
        continue;
      }
      strip.y = strip_;
      strip.y_pitch = problem_.strip_pitch;
      strip.low = -scalar::infinity_f32();
      strip.high = scalar::infinity_f32();
      EDGERT_ISA_DISPATCH(isa_, depthwise_strip(strip));
      const FinishRows rest = {strip_, strip.y_pitch, y + c, problem_.y.strides[3],
                               residual == nullptr ? nullptr : residual + c,
                               residual == nullptr ? 0 : residual_->strides[3], pixels, end - c, epilogue_.epilogue};
      EDGERT_ISA_DISPATCH(isa_, finish_rows(rest));
    }
  }

  static std::int64_t pixel_offset(const TensorView& view, std::int64_t image, std::int64_t row,
                                   std::int64_t column) noexcept {
    return image * view.strides[0] + row * view.strides[2] + column * view.strides[3];
  }

  const DepthwiseProblem& problem_;
  float* zeros_ = nullptr;
  const float** table_ = nullptr;
  float* strip_ = nullptr;
  Isa isa_ = Isa::Baseline;
  ResolvedEpilogue epilogue_ = {};
  const float* w_ = nullptr;
  const float* bias_ = nullptr;
  const TensorView* residual_ = nullptr;
};

struct DepthwiseConv {
  static constexpr std::uint16_t kId = 5;
  static constexpr const char* kName = "DepthwiseConv";
  using Attributes = DepthwiseConvAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() < 2 || operands.inputs.size() > 4 || operands.outputs.size() != 1) {
      return "needs 2 to 4 inputs and 1 output";
    }
    const Attributes& attributes = operands.as<Attributes>();
    const TensorView& x = operands.in(0);
    const TensorView& w = operands.in(1);
    const TensorView& y = operands.out(0);
    if (const char* reason = check_window(x, y, attributes.kernel, attributes.stride, attributes.dilation,
                                          attributes.pad_begin)) {
      return reason;
    }
    if (x.dims[1] != y.dims[1]) return "x, y: different numbers of channels";
    if (!is_f32(w, 3) || !is_dense(w)) return "w: not a dense f32 tensor of rank 3";
    if (w.dims[0] != attributes.kernel[0] || w.dims[1] != attributes.kernel[1] || w.dims[2] != x.dims[1]) {
      return "w: dims are not [kh, kw, C]";
    }
    if (operands.has(2) && !is_bias(operands.in(2), y.dims[1])) return "bias: not [C] with stride 1";
    return check_epilogue(operands, attributes.epilogue, 3, 1);
  }

  static std::uint64_t scratch_bytes(const Operands& operands) {
    if (is_empty(operands.out(0))) return 0;
    const DepthwiseProblem problem(operands);
    ScratchPieces pieces(nullptr);
    static_cast<void>(DepthwiseRun(problem, pieces));
    return pieces.used();
  }

  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    const DepthwiseProblem problem(work);
    ScratchPieces pieces(work.scratch);
    DepthwiseRun(problem, pieces).part(work);
    return {};
  }
};

}  // namespace edgert::cpu
