// SPDX-License-Identifier: Apache-2.0
// 2-D convolution, channels last, without im2col; one-dimensional convolutions have H = 1.
// Inputs: x [N, C, H, W] with stride 1 along C; w in format PanelF32x16, dims [groups, kh * kw * C / groups,
//   M / groups], rows ordered (kh, kw, c); bias [M] or absent; residual [N, M, OH, OW], stride 1 along M, or absent.
// Outputs: y [N, M, OH, OW] with stride 1 along M, no two elements in one place. y may lie on residual.
// y[n, m, oh, ow] = epilogue(sum x[n, c, oh * stride + kh * dilation - pad, ...] * w); padding reads zeros.
#pragma once

#include "edgert/cpu/isa/panel_gemm.h"
#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct ConvAttributes {
  std::int32_t kernel[2];    ///< kh, kw
  std::int32_t stride[2];
  std::int32_t dilation[2];
  std::int32_t pad_begin[2];  ///< rows above, columns left; how far the window reaches past the end follows from y
  std::int32_t groups;
  std::int32_t reserved;
  scalar::Epilogue epilogue;
  std::int32_t pad_end[2];  ///< rows below, columns right: only the builder's shape rule reads it
};

/// A convolution's numbers; data pointers are null while a plan is checked.
struct ConvProblem {
  const ConvAttributes& attributes;
  const TensorView& x;
  const TensorView& y;
  std::int64_t channels;  ///< of x, in one group
  std::int64_t taps;      ///< kernel rows times columns
  std::int64_t height, width;
  std::int64_t out_height, out_width;

  explicit ConvProblem(const Operands& operands) noexcept
      : attributes(operands.as<ConvAttributes>()), x(operands.in(0)), y(operands.out(0)),
        channels(x.dims[1] / attributes.groups),
        taps(static_cast<std::int64_t>(attributes.kernel[0]) * attributes.kernel[1]), height(x.dims[2]),
        width(x.dims[3]), out_height(y.dims[2]), out_width(y.dims[3]) {}

  /// Whether the elements under a row of the kernel are one run of memory, in the order of the weights.
  bool window_row_is_contiguous() const noexcept {
    return attributes.groups == 1 && (attributes.dilation[1] == 1 || attributes.kernel[1] == 1) &&
           (x.strides[3] == channels || attributes.kernel[1] == 1);
  }
  /// One tap per kernel row instead of one per kernel element: a tap has a fixed cost, and few channels make it dear.
  /// Windows that are not one run of memory are copied.
  bool by_window_rows() const noexcept {
    const std::int64_t row = channels * attributes.kernel[1];
    return attributes.kernel[1] > 1 && (channels < 16 || (window_row_is_contiguous() && row <= 128));
  }
  std::int64_t product_taps() const noexcept { return by_window_rows() ? attributes.kernel[0] : taps; }
  std::int64_t product_chunk() const noexcept { return by_window_rows() ? channels * attributes.kernel[1] : channels; }

  std::int64_t chunk_rows() const noexcept {
    // Windows overlap: the image rows under them are not as much memory as K times the rows.
    const std::int64_t share = by_window_rows() && !window_row_is_contiguous() ? taps : attributes.kernel[0];
    return gemm_chunk_rows(product_taps(), share * channels);
  }
  /// How many windows of a chunk are copied at most, when whole kernel rows are taps.
  std::int64_t copied_windows() const noexcept {
    const std::int64_t rows = chunk_rows();
    if (!by_window_rows()) return 0;
    if (!window_row_is_contiguous()) return rows;
    // Only windows that reach over the left or right edge: those whose first column is negative or too large.
    const std::int64_t step = attributes.stride[1];
    const std::int64_t left = ceil_div(attributes.pad_begin[1], step);
    const std::int64_t last = width - attributes.kernel[1] + attributes.pad_begin[1];  // last first column, padded
    const std::int64_t inside = last < 0 ? 0 : last / step + 1;
    const std::int64_t right = out_width > inside ? out_width - inside : 0;
    const std::int64_t image_rows = rows / out_width + 2;
    const std::int64_t windows = (left + right < out_width ? left + right : out_width) * image_rows;
    return windows < rows ? windows : rows;
  }
};

/// Finds the windows of output pixels in the image.
class ConvSource {
 public:
  ConvSource(const ConvProblem& problem, ScratchPieces& pieces) noexcept
      : problem_(problem), by_window_rows_(problem.by_window_rows()), contiguous_(problem.window_row_is_contiguous()) {
    zeros_ = pieces.take<float>(problem.product_chunk());
    if (by_window_rows_) {
      copies_ = pieces.take<float>(problem.copied_windows() * problem.taps * problem.channels);
    }
  }

  /// Before the first chunk.
  void clear_zeros() noexcept {
    std::memset(zeros_, 0, sizeof(float) * static_cast<std::size_t>(problem_.product_chunk()));
  }
  void begin_chunk() noexcept { next_copy_ = copies_; }

  void rows(std::int64_t group, std::int64_t first, int count, const float** table) noexcept {
    const TensorView& x = problem_.x;
    const ConvAttributes& at = problem_.attributes;
    std::int64_t column = first % problem_.out_width;
    std::int64_t row = first / problem_.out_width % problem_.out_height;
    std::int64_t image = first / problem_.out_width / problem_.out_height;
    for (int r = 0; r < count; ++r) {
      const float* base = x.as<const float>() + image * x.strides[0] + group * problem_.channels;
      const std::int64_t top = row * at.stride[0] - at.pad_begin[0];
      const std::int64_t left = column * at.stride[1] - at.pad_begin[1];
      if (by_window_rows_) {
        window_rows(base, top, left, count, table + r);
      } else {
        window_elements(base, top, left, count, table + r);
      }
      if (++column == problem_.out_width) {
        column = 0;
        if (++row == problem_.out_height) {
          row = 0;
          ++image;
        }
      }
    }
    skip_outside(count, table);
  }

  const float* panels(std::int64_t, std::int64_t, int) noexcept { return nullptr; }

 private:
  /// Taps that lie outside the image for all rows need no product: most of them when the dilation is large.
  void skip_outside(int count, const float** table) const noexcept {
    for (std::int64_t tap = problem_.product_taps(); tap > 0; --tap, table += count) {
      int outside = 0;
      while (outside < count && table[outside] == zeros_) ++outside;
      if (outside == count) *table = nullptr;
    }
  }

  void window_elements(const float* base, std::int64_t top, std::int64_t left, int step, const float** table) noexcept {
    const TensorView& x = problem_.x;
    const ConvAttributes& at = problem_.attributes;
    const bool inside = left >= 0 && left + std::int64_t{at.kernel[1] - 1} * at.dilation[1] < problem_.width;
    const std::int64_t pixel_step = at.dilation[1] * x.strides[3];
    std::int64_t h = top;
    for (std::int32_t i = 0; i < at.kernel[0]; ++i, h += at.dilation[0]) {
      if (h < 0 || h >= problem_.height) {
        for (std::int32_t j = 0; j < at.kernel[1]; ++j, table += step) *table = zeros_;
      } else if (inside) {
        const float* pixel = base + h * x.strides[2] + left * x.strides[3];
        for (std::int32_t j = 0; j < at.kernel[1]; ++j, table += step) *table = pixel + j * pixel_step;
      } else {
        const float* line = base + h * x.strides[2];
        std::int64_t w = left;
        for (std::int32_t j = 0; j < at.kernel[1]; ++j, table += step, w += at.dilation[1]) {
          *table = w < 0 || w >= problem_.width ? zeros_ : line + w * x.strides[3];
        }
      }
    }
  }

  void window_rows(const float* base, std::int64_t top, std::int64_t left, int step, const float** table) noexcept {
    const TensorView& x = problem_.x;
    const ConvAttributes& at = problem_.attributes;
    const bool direct = contiguous_ && left >= 0 && left + at.kernel[1] <= problem_.width;
    const std::int64_t row_floats = at.kernel[1] * problem_.channels;
    std::int64_t h = top;
    for (std::int32_t i = 0; i < at.kernel[0]; ++i, h += at.dilation[0], table += step) {
      if (h < 0 || h >= problem_.height) {
        *table = zeros_;
      } else if (direct) {
        *table = base + h * x.strides[2] + left * x.strides[3];
      } else {
        copy_window_row(base + h * x.strides[2], left, next_copy_ + i * row_floats);
        *table = next_copy_ + i * row_floats;
      }
    }
    if (!direct) next_copy_ += at.kernel[0] * row_floats;
  }

  void copy_window_row(const float* line, std::int64_t left, float* to) const noexcept {
    const ConvAttributes& at = problem_.attributes;
    std::int64_t w = left;
    for (std::int32_t j = 0; j < at.kernel[1]; ++j, w += at.dilation[1], to += problem_.channels) {
      const float* pixel = w < 0 || w >= problem_.width ? zeros_ : line + w * problem_.x.strides[3];
      for (std::int64_t c = 0; c < problem_.channels; ++c) to[c] = pixel[c];
    }
  }

  const ConvProblem& problem_;
  bool by_window_rows_;
  bool contiguous_;
  float* zeros_ = nullptr;
  float* copies_ = nullptr;
  float* next_copy_ = nullptr;
};

struct Conv {
  static constexpr std::uint16_t kId = 4;
  static constexpr const char* kName = "Conv";
  using Attributes = ConvAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() < 2 || operands.inputs.size() > 4 || operands.outputs.size() != 1) {
      return "needs 2 to 4 inputs and 1 output";
    }
    const Attributes& attributes = operands.as<Attributes>();
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    if (const char* reason = check_window(x, y, attributes.kernel, attributes.stride, attributes.dilation,
                                          attributes.pad_begin)) {
      return reason;
    }
    const std::int32_t groups = attributes.groups;
    if (groups < 1 || x.dims[1] % groups != 0 || y.dims[1] % groups != 0) return "groups: do not divide the channels";
    const TensorView& w = operands.in(1);
    if (w.dtype != DType::F32 || w.format != WeightFormat::PanelF32x16 || w.rank != 3) return "w: not f32 panels";
    const std::int64_t depth =
        std::int64_t{attributes.kernel[0]} * attributes.kernel[1] * (x.dims[1] / groups);
    if (depth > kMaxDenseExtent) return "w: K too large";
    if (w.dims[0] != groups || w.dims[1] != depth || w.dims[2] != y.dims[1] / groups) {
      return "w: dims are not [groups, kh * kw * C / groups, M / groups]";
    }
    if (operands.has(2) && !is_bias(operands.in(2), y.dims[1])) return "bias: not [M] with stride 1";
    return check_epilogue(operands, attributes.epilogue, 3, 1);
  }

  static std::uint64_t scratch_bytes(const Operands& operands) {
    if (is_empty(operands.out(0))) return 0;
    const ConvProblem problem(operands);
    ScratchPieces pieces(nullptr);
    static_cast<void>(PanelGemmScratch(pieces, problem.product_taps(), problem.chunk_rows()));
    static_cast<void>(ConvSource(problem, pieces));
    return pieces.used();
  }

  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    const ConvProblem problem(work);
    const PanelGemm gemm = product(work, problem);
    ScratchPieces pieces(work.scratch);
    const PanelGemmScratch scratch(pieces, gemm.taps, problem.chunk_rows());
    ConvSource source(problem, pieces);
    source.clear_zeros();
    PanelGemmRun<ConvSource>(gemm, scratch, source).part(work.part, work.parts);
    return {};
  }

 private:
  static PanelGemm product(const Work& work, const ConvProblem& problem) noexcept {
    constexpr std::uint32_t kRowDims[3] = {0, 2, 3};
    PanelGemm gemm;
    gemm.isa = work.isa;
    gemm.taps = problem.product_taps();
    gemm.chunk = problem.product_chunk();
    gemm.a_pitch = problem.x.strides[3] * problem.attributes.stride[1];
    gemm.columns = problem.y.dims[1] / problem.attributes.groups;
    gemm.panels = work.in(1).as<const float>();
    gemm.problem_panels = gemm.panel_count() * gemm.panel_floats();
    gemm.problem_bias = gemm.columns;
    gemm.y = problem.y.as<float>();
    const TensorView* residual = work.has(3) ? &work.in(3) : nullptr;
    if (work.has(2)) gemm.bias = work.in(2).as<const float>();
    if (residual != nullptr) gemm.residual = residual->as<const float>();
    gemm.problems.rank = 1;
    gemm.problems.extents[0] = problem.attributes.groups;
    gemm.y_problem_strides[0] = gemm.residual_problem_strides[0] = gemm.columns;
    gemm.rows.rank = 3;
    for (std::uint32_t i = 0; i < 3; ++i) {
      gemm.rows.extents[i] = problem.y.dims[kRowDims[i]];
      gemm.y_strides[i] = problem.y.strides[kRowDims[i]];
      if (residual != nullptr) gemm.residual_strides[i] = residual->strides[kRowDims[i]];
    }
    gemm.epilogue = resolve_epilogue(problem.attributes.epilogue);
    return gemm;
  }
};

}  // namespace edgert::cpu
