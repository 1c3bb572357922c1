// SPDX-License-Identifier: Apache-2.0
// 2-D convolution, channels last, without im2col; one-dimensional convolutions have H = 1.
// Inputs: x [N, C, H, W] with stride 1 along C, or along W if planar (the first layer reads an image as it comes); w in
//   format PanelF32x16, dims [groups, kh * kw * C / groups, M / groups], rows ordered (kh, kw, c), if planar (c, kh, kw);
//   bias [M] or absent; residual [N, M, OH, OW], stride 1 along M, or absent.
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
  std::int32_t planar;  ///< 1: x has stride 1 along W; then groups and dilation[1] are 1
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

  bool planar() const noexcept { return attributes.planar != 0; }
  /// Whether the elements under a row of the kernel are one run of memory, in the order of the weights.
  bool window_row_is_contiguous() const noexcept {
    if (planar()) return true;
    return attributes.groups == 1 && (attributes.dilation[1] == 1 || attributes.kernel[1] == 1) &&
           (x.strides[3] == channels || attributes.kernel[1] == 1);
  }
  /// One tap per kernel row instead of one per kernel element: a tap has a fixed cost, and few channels make it dear.
  /// Windows that are not one run of memory are copied.
  bool by_window_rows() const noexcept {
    if (planar()) return true;
    const std::int64_t row = channels * attributes.kernel[1];
    return attributes.kernel[1] > 1 && (channels < 16 || (window_row_is_contiguous() && row <= 128));
  }
  std::int64_t planes() const noexcept { return planar() ? channels : 1; }
  /// Elements of a pixel that lie side by side.
  std::int64_t pixel_elements() const noexcept { return planar() ? 1 : channels; }
  std::int64_t product_taps() const noexcept {
    return planes() * (by_window_rows() ? attributes.kernel[0] : taps);
  }
  std::int64_t product_chunk() const noexcept {
    return pixel_elements() * (by_window_rows() ? attributes.kernel[1] : 1);
  }

  std::int64_t chunk_rows() const noexcept {
    // Windows overlap: the image rows under them are not as much memory as K times the rows.
    const std::int64_t share = by_window_rows() && !window_row_is_contiguous() ? taps : attributes.kernel[0];
    return gemm_chunk_rows(product_taps(), share * channels);
  }
  /// Output columns whose windows lie between the image's left and right edge.
  PartRange inside_columns() const noexcept {
    const std::int64_t step = attributes.stride[1];
    const std::int64_t span = std::int64_t{attributes.kernel[1] - 1} * attributes.dilation[1] + 1;
    const std::int64_t last = width - span + attributes.pad_begin[1];  // last first column, padded
    const std::int64_t begin = ceil_div(attributes.pad_begin[1], step);
    const std::int64_t end = last < 0 ? 0 : last / step + 1;
    const std::int64_t first = begin < out_width ? begin : out_width;
    return {first, end < first ? first : end < out_width ? end : out_width};
  }
  /// How many windows of a chunk are copied at most, when whole kernel rows are taps.
  std::int64_t copied_windows() const noexcept {
    const std::int64_t rows = chunk_rows();
    if (!by_window_rows()) return 0;
    if (!window_row_is_contiguous()) return rows;
    const PartRange inside = inside_columns();
    const std::int64_t image_rows = rows / out_width + 2;
    const std::int64_t windows = (out_width - (inside.end - inside.begin)) * image_rows;
    return windows < rows ? windows : rows;
  }
};

/// Finds the windows of output pixels in the image.
class ConvSource {
 public:
  ConvSource(const ConvProblem& problem, ScratchPieces& pieces) noexcept
      : problem_(problem), by_window_rows_(problem.by_window_rows()),
        direct_(!by_window_rows_ || problem.window_row_is_contiguous()), inside_(problem.inside_columns()) {
    zeros_ = pieces.take<float>(problem.product_chunk());
    if (by_window_rows_) {
      copies_ = pieces.take<float>(problem.copied_windows() * problem.taps * problem.channels);
    }
  }

  /// Before the first chunk.
  void clear_zeros() noexcept {
    std::memset(zeros_, 0, sizeof(float) * static_cast<std::size_t>(problem_.product_chunk()));
  }
  void begin_chunk() noexcept {
    next_copy_ = copies_;
    line_ = nullptr;
  }

  GemmRows rows(std::int64_t group, std::int64_t first, int count, const float** table) noexcept {
    if (first != next_) seek(first);
    next_ = first + count;
    if (direct_ && column_ >= inside_.begin && column_ + count <= inside_.end) return neighbours(group, count, table);
    for (int r = 0; r < count; ++r) {
      const Corner corner = corner_of_window(group);
      if (by_window_rows_ && !(direct_ && column_ >= inside_.begin && column_ < inside_.end)) {
        copied_window(corner, count, table + r);
      } else {
        window(corner, count, table + r);
      }
      advance(1);
    }
    skip_outside(count, table);
    return {table};
  }

  const float* panels(std::int64_t, std::int64_t, int) noexcept { return nullptr; }

 private:
  /// Where a window begins: row and column may lie outside of the image.
  struct Corner {
    const float* image;  ///< first element of the image's group
    std::int64_t top, left;
  };

  void seek(std::int64_t first) noexcept {
    column_ = first % problem_.out_width;
    row_ = first / problem_.out_width % problem_.out_height;
    image_ = first / problem_.out_width / problem_.out_height;
    line_ = nullptr;
  }
  void advance(int columns) noexcept {
    column_ += columns;
    if (column_ != problem_.out_width) return;
    column_ = 0;
    line_ = nullptr;
    if (++row_ != problem_.out_height) return;
    row_ = 0;
    ++image_;
  }
  Corner corner_of_window(std::int64_t group) const noexcept {
    const ConvAttributes& at = problem_.attributes;
    return {problem_.x.as<const float>() + image_ * problem_.x.strides[0] + group * problem_.channels,
            row_ * at.stride[0] - at.pad_begin[0], column_ * at.stride[1] - at.pad_begin[1]};
  }

  /// Windows of one image row, none of which reaches over its left or right end: those of a tile are told by those of
  /// the row's first such tile.
  GemmRows neighbours(std::int64_t group, int count, const float** table) noexcept {
    const std::int64_t pitch = problem_.attributes.stride[1] * problem_.x.strides[3];
    if (line_ == nullptr || line_group_ != group) {
      window(corner_of_window(group), 1, table);
      skip_outside(1, table);
      line_ = table;
      line_group_ = group;
      line_column_ = column_;
    }
    const GemmRows rows = {line_, pitch, (column_ - line_column_) * pitch};
    advance(count);
    return rows;
  }

  /// Taps that lie outside the image for all rows need no product: most of them when the dilation is large.
  void skip_outside(int count, const float** table) const noexcept {
    for (std::int64_t tap = problem_.product_taps(); tap > 0; --tap, table += count) {
      int outside = 0;
      while (outside < count && table[outside] == zeros_) ++outside;
      if (outside == count) *table = nullptr;
    }
  }

  /// Of a window that lies where it is in the image, the taps, `step` apart in the table.
  void window(const Corner& corner, int step, const float** table) const noexcept {
    const TensorView& x = problem_.x;
    const ConvAttributes& at = problem_.attributes;
    const std::int32_t row_taps = by_window_rows_ ? 1 : at.kernel[1];
    const float* plane = corner.image;
    const std::int64_t to_next = plane == nullptr ? 0 : x.strides[1];  // an image without pixels has no address
    for (std::int64_t planes = problem_.planes(); planes > 0; --planes, plane += to_next) {
      std::int64_t h = corner.top;
      for (std::int32_t i = 0; i < at.kernel[0]; ++i, h += at.dilation[0]) {
        const bool outside = h < 0 || h >= problem_.height;
        std::int64_t w = corner.left;
        for (std::int32_t j = 0; j < row_taps; ++j, table += step, w += at.dilation[1]) {
          *table = outside || w < 0 || w >= problem_.width ? zeros_ : plane + h * x.strides[2] + w * x.strides[3];
        }
      }
    }
  }

  void copied_window(const Corner& corner, int step, const float** table) noexcept {
    const ConvAttributes& at = problem_.attributes;
    const float* plane = corner.image;
    const std::int64_t to_next = plane == nullptr ? 0 : problem_.x.strides[1];  // an image without pixels has no address
    for (std::int64_t planes = problem_.planes(); planes > 0; --planes, plane += to_next) {
      std::int64_t h = corner.top;
      for (std::int32_t i = 0; i < at.kernel[0]; ++i, h += at.dilation[0], table += step) {
        *table = zeros_;
        if (h < 0 || h >= problem_.height) continue;
        *table = next_copy_;
        copy_window_row(plane + h * problem_.x.strides[2], corner.left);
      }
    }
  }

  void copy_window_row(const float* line, std::int64_t left) noexcept {
    const ConvAttributes& at = problem_.attributes;
    const std::int64_t elements = problem_.pixel_elements();
    std::int64_t w = left;
    for (std::int32_t j = 0; j < at.kernel[1]; ++j, w += at.dilation[1], next_copy_ += elements) {
      const float* pixel = w < 0 || w >= problem_.width ? zeros_ : line + w * problem_.x.strides[3];
      for (std::int64_t c = 0; c < elements; ++c) next_copy_[c] = pixel[c];
    }
  }

  const ConvProblem& problem_;
  bool by_window_rows_;
  bool direct_;  ///< windows between the edges are read where they lie
  PartRange inside_;
  std::int64_t next_ = -1;  ///< the output pixel whose place the next three say
  std::int64_t column_ = 0, row_ = 0, image_ = 0;
  const float** line_ = nullptr;  ///< taps of the window at line_column_ of this row, for line_group_
  std::int64_t line_column_ = 0, line_group_ = 0;
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
    const bool planar = attributes.planar == 1;
    if (const char* reason = check_window(x, y, attributes.kernel, attributes.stride, attributes.dilation,
                                          attributes.pad_begin, planar ? 3 : 1)) {
      return reason;
    }
    const std::int32_t groups = attributes.groups;
    if (attributes.planar != 0 && !(planar && groups == 1 && attributes.dilation[1] == 1)) {
      return "planar: neither 0 nor, without groups and dilation along W, 1";
    }
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
