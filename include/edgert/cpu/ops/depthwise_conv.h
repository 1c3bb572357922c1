// SPDX-License-Identifier: Apache-2.0
// Depthwise 2-D convolution (groups = C = M), channels last; and grouped convolution with G = 4 or 8 channels a group, in
// and out, which would leave most of a panel of Conv empty.
// Inputs: x [N, C, H, W] with stride 1 along C; w f32 dense [kh, kw * G, C], rows ordered (kh, kw, g): what channel g of
//   its group contributes to each output channel; bias [C] or absent; residual like y or absent. Unless G = 1, C is a multiple of 16.
// Outputs: y [N, C, OH, OW] with stride 1 along C, no two elements in one place. y may lie on residual.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "edgert/cpu/isa/depthwise_rows.h"
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

/// Runs the parts of a depthwise convolution. Data pointers are null while a plan is checked.
class DepthwiseRun {
 public:
  DepthwiseRun(const Operands& operands, ScratchPieces& pieces) noexcept
      : attributes_(operands.as<DepthwiseConvAttributes>()), x_(operands.in(0)), y_(operands.out(0)),
        channels_(x_.dims[1]),
        rows_(attributes_.kernel, attributes_.stride[1], attributes_.dilation[1], channels_,
              operands.in(1).dims[1] / attributes_.kernel[1], pieces) {
    const std::int64_t width = y_.dims[3] < DepthwiseRows::kSegment ? y_.dims[3] : DepthwiseRows::kSegment;
    columns_pitch_ = (width - 1) * attributes_.stride[1] +
                     std::int64_t{attributes_.kernel[1] - 1} * attributes_.dilation[1] + 1;
    zeros_ = pieces.take<float>(channels_);
    table_ = pieces.take<const float*>(attributes_.kernel[0] * columns_pitch_);
  }

  void part(const Work& work) noexcept {
    std::memset(zeros_, 0, sizeof(float) * static_cast<std::size_t>(channels_));
    rows_.isa = work.isa;
    rows_.epilogue = resolve_epilogue(attributes_.epilogue);
    rows_.w = work.in(1).as<const float>();
    rows_.bias = work.has(2) ? work.in(2).as<const float>() : nullptr;
    residual_ = work.has(3) ? &work.in(3) : nullptr;
    // Few rows: channels are shared out as well, in groups that are multiples of every vector's length.
    const std::int64_t rows = y_.dims[0] * y_.dims[2];
    const std::int64_t group = rows >= std::int64_t{4} * work.parts ? channels_ : channel_share(channels_, 64);
    const std::int64_t groups = ceil_div(channels_, group);
    const PartRange range = part_range(rows * groups, work.part, work.parts);
    for (std::int64_t item = range.begin; item < range.end; ++item) {
      const std::int64_t first = item % groups * group;
      const std::int64_t last = first + group < channels_ ? first + group : channels_;
      const std::int64_t row = item / groups;
      row_of(row / y_.dims[2], row % y_.dims[2], first, last);
    }
  }

 private:
  void row_of(std::int64_t image, std::int64_t row, std::int64_t first, std::int64_t last) noexcept {
    const DepthwiseConvAttributes& at = attributes_;
    const std::int64_t top = row * at.stride[0] - at.pad_begin[0];
    const PartRange inside = rows_inside(top, x_.dims[2], at.kernel[0], at.dilation[0]);
    const float* base = x_.as<const float>() + image * x_.strides[0];
    for (std::int64_t column = 0; column < y_.dims[3]; column += DepthwiseRows::kSegment) {
      for (std::int64_t i = inside.begin; i < inside.end; ++i) {
        fill_pixel_table(base + (top + i * at.dilation[0]) * x_.strides[2], x_.dims[3], x_.strides[3],
                         column * at.stride[1] - at.pad_begin[1], zeros_, columns_pitch_,
                         table_ + (i - inside.begin) * columns_pitch_);
      }
      const std::int64_t left = y_.dims[3] - column;
      const auto pixel_offset = [&](const TensorView& view) {
        return image * view.strides[0] + row * view.strides[2] + column * view.strides[3];
      };
      rows_.run({table_, columns_pitch_, inside.begin, inside.end, y_.as<float>() + pixel_offset(y_), y_.strides[3],
                 residual_ == nullptr ? nullptr : residual_->as<const float>() + pixel_offset(*residual_),
                 residual_ == nullptr ? 0 : residual_->strides[3],
                 left < DepthwiseRows::kSegment ? left : DepthwiseRows::kSegment},
                first, last);
    }
  }

  const DepthwiseConvAttributes& attributes_;
  const TensorView& x_;
  const TensorView& y_;
  std::int64_t channels_;
  DepthwiseRows rows_;
  std::int64_t columns_pitch_ = 0;  ///< pixels of the image under a row of a segment's windows
  float* zeros_ = nullptr;
  const float** table_ = nullptr;
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
    if (w.dims[0] != attributes.kernel[0] || w.dims[1] % attributes.kernel[1] != 0 || w.dims[2] != x.dims[1]) {
      return "w: dims are not [kh, kw * G, C]";
    }
    const std::int64_t group = w.dims[1] / attributes.kernel[1];
    if (group != 1 && !((group == 4 || group == 8) && x.dims[1] % 16 == 0)) {
      return "w: channels a group are neither 1 nor, of a multiple of 16 channels, 4 or 8";
    }
    if (operands.has(2) && !is_bias(operands.in(2), y.dims[1])) return "bias: not [C] with stride 1";
    return check_epilogue(operands, attributes.epilogue, 3, 1);
  }

  static std::uint64_t scratch_bytes(const Operands& operands) {
    if (is_empty(operands.out(0))) return 0;
    ScratchPieces pieces(nullptr);
    static_cast<void>(DepthwiseRun(operands, pieces));
    return pieces.used();
  }

  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    ScratchPieces pieces(work.scratch);
    DepthwiseRun(work, pieces).part(work);
    return {};
  }
};

}  // namespace edgert::cpu
