// SPDX-License-Identifier: Apache-2.0
// The first convolution of a network together with the depthwise and the pointwise one behind it, in one step: an
// InvertedResidual whose expansion reads windows of an image that lies in planes, as the caller gives it. Of the image
// between them, the largest of most networks, only a few rows ever exist.
// Inputs: those of InvertedResidual, but x [N, C, H, W] with stride 1 along W; the weights that expand, which are never
//   absent, PanelF32x16 [1, C * kh * kw, E], rows ordered (c, kh, kw).
// Outputs: those of InvertedResidual.
#pragma once

#include "edgert/cpu/ops/inverted_residual.h"

namespace edgert::cpu {

struct StemBlockAttributes {
  std::int32_t kernel[2];  ///< of the first convolution, like the three that follow; rows, columns
  std::int32_t stride[2];
  std::int32_t pad_begin[2];
  std::int32_t pad_end[2];
  InvertedResidualAttributes block;

  /// Extent of the first convolution's result along dimension `i` (0: rows) of an image of `extent`.
  constexpr std::int64_t positions(int i, std::int64_t extent) const noexcept {
    const std::int64_t last = extent + pad_begin[i] + pad_end[i] - kernel[i];
    return last < 0 ? 0 : last / stride[i] + 1;
  }
};

/// Windows of one row after the other of an image in planes. The image rows at hand are kept with their padding, so that
/// all windows of a row lie at one distance.
class PlaneRows {
 public:
  PlaneRows(const StemBlockAttributes& attributes, const TensorView& x, ScratchPieces& pieces) noexcept
      : attributes_(attributes), planes_(x.dims[1]), line_(line_floats(attributes, x)) {
    table_ = pieces.take<const float*>(taps());
    lines_ = pieces.take<float>(taps() * line_);
  }

  /// Floats of an image row and its padding that the windows of a row meet.
  static constexpr std::int64_t line_floats(const StemBlockAttributes& attributes, const TensorView& x) noexcept {
    const std::int64_t windows = attributes.positions(1, x.dims[3]);
    return windows == 0 ? 0 : (windows - 1) * attributes.stride[1] + attributes.kernel[1];
  }

  std::int64_t taps() const noexcept { return planes_ * attributes_.kernel[0]; }
  std::int64_t row_pitch() const noexcept { return attributes_.stride[1]; }
  void prepare() noexcept {
    std::memset(lines_, 0, sizeof(float) * static_cast<std::size_t>(taps() * line_));
    image_ = -1;
  }

  void seek(const TensorView& x, std::int64_t image, std::int64_t h) noexcept {
    const std::int64_t kernel = attributes_.kernel[0];
    const std::int64_t top = h * attributes_.stride[0] - attributes_.pad_begin[0];
    const PartRange inside = rows_inside(top, x.dims[2], kernel, 1);
    if (image != image_) next_ = 0;
    image_ = image;
    for (next_ = next_ < top + inside.begin ? top + inside.begin : next_; next_ < top + inside.end; ++next_) {
      bring_line(x, next_);
    }
    for (std::int64_t tap = 0; tap < taps(); ++tap) {
      const std::int64_t i = tap % kernel;
      table_[tap] = i < inside.begin || i >= inside.end ? nullptr : line(tap / kernel, top + i);
    }
  }

  void begin_chunk() noexcept {}
  GemmRows rows(std::int64_t, std::int64_t row, int, const float**) const noexcept {
    return {table_, row_pitch(), row * row_pitch()};
  }
  const float* panels(std::int64_t, std::int64_t, int) noexcept { return nullptr; }

 private:
  float* line(std::int64_t plane, std::int64_t h) const noexcept {
    return lines_ + (plane * attributes_.kernel[0] + h % attributes_.kernel[0]) * line_;
  }
  void bring_line(const TensorView& x, std::int64_t h) noexcept {
    const std::int64_t room = line_ - attributes_.pad_begin[1];
    const std::int64_t count = room < x.dims[3] ? room : x.dims[3];
    if (count <= 0 || planes_ == 0) return;  // an image without elements has no address
    const float* from = x.as<const float>() + image_ * x.strides[0] + h * x.strides[2];
    for (std::int64_t plane = 0; plane < planes_; ++plane, from += x.strides[1]) {
      std::memcpy(line(plane, h) + attributes_.pad_begin[1], from, sizeof(float) * static_cast<std::size_t>(count));
    }
  }

  const StemBlockAttributes& attributes_;
  std::int64_t planes_;
  std::int64_t line_;
  const float** table_ = nullptr;  ///< [C][kh]: where the windows' elements lie; null outside the image
  float* lines_ = nullptr;         ///< [C][kh][line_]: row h of the image is in slot h % kh
  std::int64_t image_ = -1;
  std::int64_t next_ = 0;  ///< first row of the image that was not brought yet
};

struct StemBlock {
  static constexpr std::uint16_t kId = 17;
  static constexpr const char* kName = "StemBlock";
  using Attributes = StemBlockAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() != InvertedResidualInput::kCount || operands.outputs.size() != 1) {
      return "needs 8 inputs and 1 output";
    }
    const Attributes& attributes = operands.as<Attributes>();
    const TensorView& x = operands.in(0);
    constexpr std::int32_t kOnes[2] = {1, 1};
    if (const char* reason = check_window(x, operands.out(0), attributes.kernel, attributes.stride, kOnes,
                                          attributes.pad_begin, 3)) {
      return reason;
    }
    for (int i = 0; i < 2; ++i) {
      if (attributes.pad_end[i] < 0 || attributes.pad_end[i] > kMaxWindowParameter) return "pad_end: out of range";
    }
    const std::int64_t depth = std::int64_t{attributes.kernel[0]} * attributes.kernel[1] * x.dims[1];
    if (depth > kMaxDenseExtent) return "weights: K too large";
    if (const char* reason = check_inverted_residual(operands, attributes.block, 3, depth, false)) return reason;
    std::uint64_t floats = static_cast<std::uint64_t>(PlaneRows::line_floats(attributes, x));
    const auto lines = static_cast<std::uint64_t>(x.dims[1] * attributes.kernel[0]);
    if (!checked_mul(floats, lines, floats) || floats > std::uint64_t{kMaxDenseExtent}) return "rows: too large";
    return check_inverted_residual_rows(problem_of(operands));
  }

  static std::uint64_t scratch_bytes(const Operands& operands) {
    if (is_empty(operands.out(0))) return 0;
    ScratchPieces pieces(nullptr);
    static_cast<void>(block_of(operands, pieces));
    return pieces.used();
  }

  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    ScratchPieces pieces(work.scratch);
    block_of(work, pieces).part(work);
    return {};
  }

 private:
  static InvertedResidualProblem problem_of(const Operands& operands) noexcept {
    const Attributes& attributes = operands.as<Attributes>();
    const TensorView& x = operands.in(0);
    return {operands, attributes.block, std::int64_t{attributes.kernel[0]} * attributes.kernel[1] * x.dims[1],
            attributes.positions(0, x.dims[2]), attributes.positions(1, x.dims[3])};
  }
  static InvertedResidualRun<PlaneRows> block_of(const Operands& operands, ScratchPieces& pieces) noexcept {
    const PlaneRows expansion(operands.as<Attributes>(), operands.in(0), pieces);
    return {problem_of(operands), expansion, pieces};
  }
};

}  // namespace edgert::cpu
