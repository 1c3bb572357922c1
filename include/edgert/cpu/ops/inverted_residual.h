// SPDX-License-Identifier: Apache-2.0
// A pointwise convolution that widens, a depthwise one and a pointwise one that narrows, in one step: the wide image
// between them never exists. A few rows of it are kept in a ring, which stays in the first- and second-level cache.
// The first and the last convolution may be left out: E = C without the first, M = E without the last.
// Inputs: x [N, C, H, W] with stride 1 along C; depthwise weights f32 dense [kh, kw, E]; their bias [E] or absent;
//   residual [N, M, OH, OW], stride 1 along M, or absent; weights that expand, PanelF32x16 [1, C, E], or absent; their
//   bias [E] or absent; weights that project, PanelF32x16 [1, E, M], or absent; their bias [M] or absent.
// Outputs: y [N, M, OH, OW] with stride 1 along M, no two elements in one place; y lies on no input.
// The depthwise convolution pads its input, the expanded image, with zeros. Only the projection adds the residual.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "edgert/cpu/isa/depthwise_rows.h"
#include "edgert/cpu/isa/panel_gemm.h"
#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct InvertedResidualAttributes {
  std::int32_t kernel[2];     ///< of the depthwise convolution, like all windows here
  std::int32_t stride[2];
  std::int32_t pad_begin[2];
  std::int32_t pad_end[2];  ///< rows below, columns right: only the builder's shape rule reads it
  scalar::Epilogue expand, depthwise, project;
};

/// Operands of InvertedResidual.
struct InvertedResidualInput {
  static constexpr std::size_t kX = 0, kDepthwise = 1, kDepthwiseBias = 2, kResidual = 3, kExpand = 4, kExpandBias = 5,
                               kProject = 6, kProjectBias = 7, kCount = 8;
};

/// A block's numbers; data pointers are null while a plan is checked.
struct InvertedResidualProblem {
  const InvertedResidualAttributes& attributes;
  const TensorView& x;
  const TensorView& y;
  bool expands, projects;
  std::int64_t depth;            ///< products of an element of the hidden image: C where the expansion is pointwise
  std::int64_t hidden, filters;  ///< E, M
  std::int64_t height, width;    ///< of the hidden image
  std::int64_t pitch;            ///< floats between pixels of the hidden image

  explicit InvertedResidualProblem(const Operands& operands) noexcept
      : InvertedResidualProblem(operands, operands.as<InvertedResidualAttributes>(), operands.in(0).dims[1],
                                operands.in(0).dims[2], operands.in(0).dims[3]) {}
  InvertedResidualProblem(const Operands& operands, const InvertedResidualAttributes& attributes_, std::int64_t depth_,
                          std::int64_t height_, std::int64_t width_) noexcept
      : attributes(attributes_), x(operands.in(0)), y(operands.out(0)),
        expands(operands.has(InvertedResidualInput::kExpand)), projects(operands.has(InvertedResidualInput::kProject)),
        depth(depth_), hidden(operands.in(InvertedResidualInput::kDepthwise).dims[2]), filters(y.dims[1]),
        height(height_), width(width_), pitch(hidden_pitch(hidden)) {}

  /// Whole panels. Pixels at multiples of 2048 bytes would meet in few sets of a first-level cache.
  static constexpr std::int64_t hidden_pitch(std::int64_t hidden) noexcept {
    const std::int64_t pitch = ceil_div(hidden, kPanelColumns) * kPanelColumns;
    return pitch % 512 == 0 ? pitch + kPanelColumns : pitch;
  }
  std::int64_t panel_columns() const noexcept { return ceil_div(hidden, kPanelColumns) * kPanelColumns; }
  std::int64_t ring_rows() const noexcept { return attributes.kernel[0]; }
  /// Pixels of a hidden row and its padding that the windows of an output row meet.
  std::int64_t table_pitch() const noexcept { return (y.dims[3] - 1) * attributes.stride[1] + attributes.kernel[1]; }
};

/// Rows of a product that are the pixels of an image row: of the pointwise convolutions.
struct PixelRows {
  const float* first = nullptr;
  std::int64_t pitch = 0;

  static constexpr std::int64_t taps() noexcept { return 1; }
  std::int64_t row_pitch() const noexcept { return pitch; }
  void prepare() noexcept {}
  /// The rows are from now on what row `h` of the hidden image is made of.
  void seek(const TensorView& x, std::int64_t image, std::int64_t h) noexcept {
    first = x.as<const float>() + image * x.strides[0] + h * x.strides[2];
  }

  void begin_chunk() noexcept {}
  GemmRows rows(std::int64_t, std::int64_t row, int, const float**) const noexcept {
    return {&first, pitch, row * pitch};
  }
  const float* panels(std::int64_t, std::int64_t, int) noexcept { return nullptr; }
};

/// `Expansion` finds the operands of the first convolution, as PixelRows does.
template <class Expansion>
class InvertedResidualRun {
 public:
  InvertedResidualRun(const InvertedResidualProblem& problem, const Expansion& expansion, ScratchPieces& pieces) noexcept
      : problem_(problem), expansion_(expansion),
        rows_(problem_.attributes.kernel, problem_.attributes.stride[1], 1, problem_.hidden, 1, pieces),
        scratch_(pieces, expansion.taps(),
                 gemm_chunk_rows(expansion.taps(), problem_.depth < problem_.hidden && problem_.expands ? problem_.depth
                                                                                                     : problem_.hidden)) {
    ring_ = pieces.take<float>(problem_.ring_rows() * (problem_.expands ? problem_.width : 0) * problem_.pitch);
    row_ = pieces.take<float>(problem_.projects ? problem_.y.dims[3] * problem_.pitch : 0);
    zeros_ = pieces.take<float>(problem_.pitch);
    bias_ = pieces.take<float>(problem_.pitch);
    table_ = pieces.take<const float*>(2 * problem_.ring_rows() * problem_.table_pitch());
  }

  void part(const Work& work) noexcept {
    prepare(work);
    PixelRows filtered = {row_, problem_.pitch};
    RowProduct<Expansion> expand(problem_.expands ? expansion(work) : PanelGemm{}, scratch_, expansion_);
    RowProduct<PixelRows> project(problem_.projects ? projection(work) : PanelGemm{}, scratch_, filtered);
    const TensorView& y = problem_.y;
    const PartRange range = part_range(y.dims[0] * y.dims[2], work.part, work.parts);
    std::int64_t image = -1;
    std::int64_t next = 0;  // first row of the image that is not in the ring yet
    for (std::int64_t item = range.begin; item < range.end; ++item) {
      const std::int64_t row = item % y.dims[2];
      const std::int64_t top = row * problem_.attributes.stride[0] - problem_.attributes.pad_begin[0];
      const PartRange inside = rows_inside(top, problem_.height, problem_.attributes.kernel[0], 1);
      if (image != item / y.dims[2]) {
        image = item / y.dims[2];
        next = 0;
      }
      for (next = next < top + inside.begin ? top + inside.begin : next; next < top + inside.end; ++next) {
        bring_row(expand, image, next);
      }
      depthwise_row(image, row, top, inside);
      if (problem_.projects) project_row(project, image, row);
    }
  }

 private:
  /// A product that makes one image row after the other.
  template <class Source>
  struct RowProduct {
    PanelGemm gemm;
    PanelGemmRun<Source> run;

    RowProduct(const PanelGemm& gemm_, const PanelGemmScratch& scratch, Source& source) noexcept
        : gemm(gemm_), run(gemm, scratch, source) {}
    RowProduct(const RowProduct&) = delete;
    RowProduct& operator=(const RowProduct&) = delete;
  };

  void prepare(const Work& work) noexcept {
    using In = InvertedResidualInput;
    rows_.isa = work.isa;
    rows_.epilogue = resolve_epilogue(problem_.attributes.depthwise);
    rows_.w = work.in(In::kDepthwise).as<const float>();
    rows_.bias = work.has(In::kDepthwiseBias) ? work.in(In::kDepthwiseBias).as<const float>() : nullptr;
    residual_ = work.has(In::kResidual) ? &work.in(In::kResidual) : nullptr;
    const auto bytes = sizeof(float) * static_cast<std::size_t>(problem_.pitch);
    std::memset(zeros_, 0, bytes);
    std::memset(bias_, 0, bytes);
    if (!problem_.expands) return;
    expansion_.prepare();
    if (work.has(In::kExpandBias) && problem_.hidden != 0) {
      std::memcpy(bias_, work.in(In::kExpandBias).as<const float>(),
                  sizeof(float) * static_cast<std::size_t>(problem_.hidden));
    }
    // Where pixels lie in the ring never changes.
    for (std::int64_t slot = 0; slot < 2 * problem_.ring_rows(); ++slot) {
      fill_slot(slot, ring_row(slot % problem_.ring_rows()), problem_.pitch);
    }
  }

  float* ring_row(std::int64_t slot) const noexcept { return ring_ + slot * problem_.width * problem_.pitch; }
  const float** table_row(std::int64_t slot) const noexcept { return table_ + slot * problem_.table_pitch(); }
  void fill_slot(std::int64_t slot, const float* line, std::int64_t step) noexcept {
    fill_pixel_table(line, problem_.width, step, -std::int64_t{problem_.attributes.pad_begin[1]}, zeros_,
                     problem_.table_pitch(), table_row(slot));
  }

  PanelGemm pixel_gemm(const Work& work, std::size_t weights, std::int64_t pixels,
                       const scalar::Epilogue& epilogue) const noexcept {
    PanelGemm gemm;
    gemm.isa = work.isa;
    gemm.panels = work.in(weights).as<const float>();
    gemm.rows.rank = 1;
    gemm.rows.extents[0] = pixels;
    gemm.epilogue = resolve_epilogue(epilogue);
    return gemm;
  }
  /// A row of the hidden image, as whole panels in the ring.
  PanelGemm expansion(const Work& work) const noexcept {
    PanelGemm gemm = pixel_gemm(work, InvertedResidualInput::kExpand, problem_.width, problem_.attributes.expand);
    gemm.columns = problem_.panel_columns();
    gemm.taps = expansion_.taps();
    gemm.chunk = gemm.taps == 0 ? 0 : problem_.depth / gemm.taps;
    gemm.a_pitch = expansion_.row_pitch();
    gemm.bias = bias_;
    gemm.y_strides[0] = problem_.pitch;
    return gemm;
  }
  /// Pixels of the row of depthwise results to a row of y.
  PanelGemm projection(const Work& work) const noexcept {
    using In = InvertedResidualInput;
    PanelGemm gemm = pixel_gemm(work, In::kProject, problem_.y.dims[3], problem_.attributes.project);
    gemm.columns = problem_.filters;
    gemm.chunk = problem_.hidden;
    gemm.a_pitch = problem_.pitch;
    gemm.bias = work.has(In::kProjectBias) ? work.in(In::kProjectBias).as<const float>() : nullptr;
    gemm.y_strides[0] = problem_.y.strides[3];
    if (residual_ != nullptr) {
      gemm.residual = residual_->as<const float>();
      gemm.residual_strides[0] = residual_->strides[3];
    }
    return gemm;
  }

  /// Makes row `h` of the hidden image, or says where it lies.
  void bring_row(RowProduct<Expansion>& expand, std::int64_t image, std::int64_t h) noexcept {
    const TensorView& x = problem_.x;
    const std::int64_t slot = h % problem_.ring_rows();
    if (!problem_.expands) {
      const float* line = x.as<const float>() + image * x.strides[0] + h * x.strides[2];
      fill_slot(slot, line, x.strides[3]);
      fill_slot(slot + problem_.ring_rows(), line, x.strides[3]);
      return;
    }
    expand.gemm.y = ring_row(slot);
    expansion_.seek(x, image, h);
    expand.run.part(0, 1);
  }

  void depthwise_row(std::int64_t image, std::int64_t row, std::int64_t top, PartRange inside) noexcept {
    const TensorView& y = problem_.y;
    const std::int64_t slot = inside.begin < inside.end ? (top + inside.begin) % problem_.ring_rows() : 0;
    float* const to = problem_.projects ? row_ : y.as<float>() + image * y.strides[0] + row * y.strides[2];
    const std::int64_t to_pitch = problem_.projects ? problem_.pitch : y.strides[3];
    for (std::int64_t column = 0; column < y.dims[3]; column += DepthwiseRows::kSegment) {
      const std::int64_t left = y.dims[3] - column;
      rows_.run({table_row(slot) + column * problem_.attributes.stride[1], problem_.table_pitch(), inside.begin,
                 inside.end, to + column * to_pitch, to_pitch, nullptr, 0,
                 left < DepthwiseRows::kSegment ? left : DepthwiseRows::kSegment},
                0, problem_.hidden);
    }
  }

  void project_row(RowProduct<PixelRows>& project, std::int64_t image, std::int64_t row) noexcept {
    const TensorView& y = problem_.y;
    project.gemm.y = y.as<float>() + image * y.strides[0] + row * y.strides[2];
    if (residual_ != nullptr) {
      project.gemm.residual = residual_->as<const float>() + image * residual_->strides[0] + row * residual_->strides[2];
    }
    project.run.part(0, 1);
  }

  InvertedResidualProblem problem_;
  Expansion expansion_;
  DepthwiseRows rows_;
  PanelGemmScratch scratch_;
  float* ring_ = nullptr;         ///< [kernel rows][W][pitch]: row h of the hidden image is in slot h % kernel rows
  float* row_ = nullptr;          ///< [OW][pitch]: a row of depthwise results
  float* zeros_ = nullptr;        ///< a pixel outside the image
  float* bias_ = nullptr;         ///< of the expansion, padded to whole panels
  const float** table_ = nullptr;  ///< the ring's pixels and their padding, twice, so that every window is one run of rows
  const TensorView* residual_ = nullptr;
};

/// What all blocks check: window and epilogues, the weights of the depthwise convolution and of the pointwise ones. The
/// first convolution, `depth` products to an element, may be absent where `may_start_depthwise`. x has stride 1 along
/// dimension `x_dense_dim`.
inline const char* check_inverted_residual(const Operands& operands, const InvertedResidualAttributes& attributes,
                                           std::uint32_t x_dense_dim, std::int64_t depth,
                                           bool may_start_depthwise) noexcept {
  using In = InvertedResidualInput;
  constexpr std::int32_t kOnes[2] = {1, 1};
  const TensorView& y = operands.out(0);
  if (const char* reason = check_window(operands.in(0), y, attributes.kernel, attributes.stride, kOnes,
                                        attributes.pad_begin, x_dense_dim)) {
    return reason;
  }
  const TensorView& w = operands.in(In::kDepthwise);
  if (!is_f32(w, 3) || !is_dense(w)) return "depthwise weights: not a dense f32 tensor of rank 3";
  if (w.dims[0] != attributes.kernel[0] || w.dims[1] != attributes.kernel[1]) {
    return "depthwise weights: dims are not [kh, kw, E]";
  }
  const std::int64_t hidden = w.dims[2];
  if (hidden > kMaxDenseExtent) return "depthwise weights: E too large";
  if (operands.has(In::kDepthwiseBias) && !is_bias(operands.in(In::kDepthwiseBias), hidden)) {
    return "depthwise bias: not [E] with stride 1";
  }
  // The product from `from` to `to` channels whose weights are operand `weights`, their bias the next.
  const auto check_product = [&operands](std::size_t weights, std::int64_t from, std::int64_t to, bool may_be_absent) {
    if (!operands.has(weights)) {
      if (operands.has(weights + 1)) return "bias: without its weights";
      return may_be_absent && from == to ? nullptr : "weights: absent, but the numbers of channels differ";
    }
    const TensorView& panels = operands.in(weights);
    if (panels.dtype != DType::F32 || panels.format != WeightFormat::PanelF32x16 || panels.rank != 3) {
      return "weights: not f32 panels";
    }
    if (panels.dims[0] != 1 || panels.dims[1] != from || panels.dims[2] != to) return "weights: dims are not [1, from, to]";
    if (operands.has(weights + 1) && !is_bias(operands.in(weights + 1), to)) return "bias: not [to] with stride 1";
    return static_cast<const char*>(nullptr);
  };
  if (const char* reason = check_product(In::kExpand, depth, hidden, may_start_depthwise)) return reason;
  if (const char* reason = check_product(In::kProject, hidden, y.dims[1], true)) return reason;
  const auto is_activation = [](const scalar::Epilogue& epilogue) {
    return scalar::arity(epilogue.activation) == 1 && scalar::has_float_form(epilogue.activation) &&
           epilogue.residual == scalar::ResidualMode::None;
  };
  if (!is_activation(attributes.expand) || !is_activation(attributes.depthwise)) return "epilogue: not an activation";
  if (!operands.has(In::kProject) && operands.has(In::kResidual)) return "residual: without a projection";
  return check_epilogue(operands, attributes.project, In::kResidual, 1);
}

/// The scratch is a few rows of images that fit into memory, or could; nothing overflows.
inline const char* check_inverted_residual_rows(const InvertedResidualProblem& problem) noexcept {
  std::uint64_t floats = static_cast<std::uint64_t>(problem.pitch);
  const auto width = static_cast<std::uint64_t>(problem.width + problem.y.dims[3] + 1);
  if (!checked_mul(floats, width, floats) || floats > std::uint64_t{kMaxDenseExtent}) return "rows: too large";
  const auto ring_rows = static_cast<std::uint64_t>(problem.ring_rows());
  if (!checked_mul(floats, ring_rows, floats) || floats > std::uint64_t{kMaxDenseExtent}) return "rows: too large";
  std::uint64_t entries = static_cast<std::uint64_t>(problem.table_pitch());
  if (!checked_mul(entries, 2 * ring_rows, entries) || entries > std::uint64_t{kMaxDenseExtent}) {
    return "rows: too large";
  }
  return nullptr;
}

struct InvertedResidual {
  static constexpr std::uint16_t kId = 16;
  static constexpr const char* kName = "InvertedResidual";
  using Attributes = InvertedResidualAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() != InvertedResidualInput::kCount || operands.outputs.size() != 1) {
      return "needs 8 inputs and 1 output";
    }
    const char* reason = check_inverted_residual(operands, operands.as<Attributes>(), 1, operands.in(0).dims[1], true);
    return reason != nullptr ? reason : check_inverted_residual_rows(InvertedResidualProblem(operands));
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
  static InvertedResidualRun<PixelRows> block_of(const Operands& operands, ScratchPieces& pieces) noexcept {
    return {InvertedResidualProblem(operands), PixelRows{nullptr, operands.in(0).strides[3]}, pieces};
  }
};

}  // namespace edgert::cpu
