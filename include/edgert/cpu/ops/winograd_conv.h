// SPDX-License-Identifier: Apache-2.0
// 3x3 convolution of stride 1 by Winograd's algorithm F(t x t, 3 x 3): a patch of (t + 2)^2 pixels is transformed, each
// position of the result is a matrix product over the channels, and t x t outputs come back. 4 multiplications an output
// with t = 2 and 2.25 with t = 4, where the definition has 9. Rounding errors grow: about twofold and tenfold.
// Inputs: x [N, C, H, W] with stride 1 along C, C a multiple of 16; w in format PanelF32x16, dims [(t + 2)^2, C, M], the
//   transformed weights G g G^T; bias [M] or absent; residual [N, M, OH, OW], stride 1 along M, or absent.
// Outputs: y [N, M, OH, OW] with stride 1 along M, no two elements in one place. y may lie on residual.
#pragma once

#include "edgert/cpu/isa/dense_operands.h"
#include "edgert/cpu/isa/epilogue_kernels.h"
#include "edgert/cpu/isa/gemm_kernels.h"
#include "edgert/cpu/isa/scratch_pieces.h"
#include "edgert/cpu/isa/winograd_kernels.h"
#include "edgert/cpu/operator.h"

namespace edgert::cpu {

struct WinogradConvAttributes {
  std::int32_t tile;          ///< t: 2 or 4
  std::int32_t reserved;
  std::int32_t pad_begin[2];  ///< rows above, columns left
  std::int32_t pad_end[2];    ///< rows below, columns right: only the builder's shape rule reads it
  scalar::Epilogue epilogue;
};

/// A convolution's numbers; data pointers are null while a plan is checked.
struct WinogradProblem {
  static constexpr std::int64_t kBlockColumns = 64;

  const WinogradConvAttributes& attributes;
  const TensorView& x;
  const TensorView& y;
  int tile;
  std::int64_t side, positions;
  std::int64_t channels, columns;
  std::int64_t tiles_down, tiles_across, tiles;

  explicit WinogradProblem(const Operands& operands) noexcept
      : attributes(operands.as<WinogradConvAttributes>()), x(operands.in(0)), y(operands.out(0)), tile(attributes.tile),
        side(tile + 2), positions(side * side), channels(x.dims[1]), columns(y.dims[1]),
        tiles_down(ceil_div(y.dims[2], tile)), tiles_across(ceil_div(y.dims[3], tile)),
        tiles(x.dims[0] * tiles_down * tiles_across) {}

  /// Rows of the transformed image are a little apart from a power of two, so that they do not meet in few cache sets.
  std::int64_t v_pitch() const noexcept { return channels + 16; }
  /// Tiles that are transformed at once: more of them mean fewer passes over the weights, but patches and products
  /// should stay in the second-level cache.
  std::int64_t chunk_tiles() const noexcept {
    constexpr std::int64_t kFloats = 192 * 1024;
    constexpr std::int64_t kRows = kLargestGemmShape.rows;
    const std::int64_t fit = kFloats / (positions * (v_pitch() + kBlockColumns)) / kRows * kRows;
    const std::int64_t wanted = ceil_div(tiles, kRows) * kRows;
    const std::int64_t count = fit < kRows ? kRows : fit;
    return count < wanted ? count : wanted;
  }
};

class WinogradRun {
 public:
  WinogradRun(const WinogradProblem& problem, ScratchPieces& pieces) noexcept
      : problem_(problem), chunk_(problem.chunk_tiles()) {
    v_ = pieces.take<float>(problem.positions * chunk_ * problem.v_pitch());
    m_ = pieces.take<float>(problem.positions * chunk_ * WinogradProblem::kBlockColumns);
    sums_ = pieces.take<float>(std::int64_t{problem.tile} * problem.tile * WinogradProblem::kBlockColumns);
    zeros_ = pieces.take<float>(problem.channels);
    init_ = pieces.take<float>(WinogradProblem::kBlockColumns);
  }

  void part(const Work& work) noexcept {
    std::memset(zeros_, 0, sizeof(float) * static_cast<std::size_t>(problem_.channels));
    const PartRange range = part_range(problem_.tiles, work.part, work.parts);
    for (std::int64_t first = range.begin; first < range.end;) {
      // Chunks of nearly equal size, so that the last one is no remainder.
      const std::int64_t left = range.end - first;
      const std::int64_t count = ceil_div(left, ceil_div(left, chunk_));
      for (std::int64_t t = 0; t < count; ++t) transform_patch(work, first + t, t);
      for (std::int64_t c = 0; c < problem_.columns; c += WinogradProblem::kBlockColumns) {
        const std::int64_t rest = problem_.columns - c;
        const std::int64_t width = rest < WinogradProblem::kBlockColumns ? rest : WinogradProblem::kBlockColumns;
        multiply(work, count, c, width);
        set_init(work, c, width);
        for (std::int64_t t = 0; t < count; ++t) finish_tile(work, first + t, t, c, width);
      }
      first += count;
    }
  }

 private:
  struct Place {
    std::int64_t image, row, column;  ///< of the tile's first output
  };
  Place place_of(std::int64_t tile) const noexcept {
    const std::int64_t across = tile % problem_.tiles_across;
    const std::int64_t down = tile / problem_.tiles_across % problem_.tiles_down;
    return {tile / problem_.tiles_across / problem_.tiles_down, down * problem_.tile, across * problem_.tile};
  }

  void transform_patch(const Work& work, std::int64_t tile, std::int64_t slot) noexcept {
    const TensorView& x = problem_.x;
    if (problem_.channels == 0) return;  // then x and the weights have no elements, and may have no address
    const Place place = place_of(tile);
    const float* base = x.as<const float>() + place.image * x.strides[0];
    const float* pixels[36];
    std::int64_t at = 0;
    for (std::int64_t i = 0; i < problem_.side; ++i) {
      const std::int64_t h = place.row - problem_.attributes.pad_begin[0] + i;
      for (std::int64_t j = 0; j < problem_.side; ++j) {
        const std::int64_t w = place.column - problem_.attributes.pad_begin[1] + j;
        const bool inside = h >= 0 && h < x.dims[2] && w >= 0 && w < x.dims[3];
        pixels[at++] = inside ? base + h * x.strides[2] + w * x.strides[3] : zeros_;
      }
    }
    const WinogradInput job = {pixels, problem_.channels, v_ + slot * problem_.v_pitch(), chunk_ * problem_.v_pitch()};
    EDGERT_ISA_DISPATCH(work.isa, winograd_input(problem_.tile, job));
  }

  /// m[position][slot] = v[position][slot] times columns [c, c + width) of the weights, padded to whole panels.
  void multiply(const Work& work, std::int64_t count, std::int64_t c, std::int64_t width) noexcept {
    static constexpr float kZeros[kLargestGemmShape.panels * kPanelColumns] = {};
    const GemmShape shape = gemm_shape(work.isa);
    const std::int64_t pitch = problem_.v_pitch();
    const std::int64_t panel_floats = problem_.channels * kPanelColumns;
    const std::int64_t all_panels = ceil_div(problem_.columns, kPanelColumns);
    const std::int64_t first = c / kPanelColumns;
    const std::int64_t last = first + ceil_div(width, kPanelColumns);
    const std::int64_t steps = ceil_div(count, shape.rows);
    for (std::int64_t p = 0; p < problem_.positions; ++p) {
      const float* weights = panel_floats == 0 ? init_ : work.in(1).as<const float>() + p * all_panels * panel_floats;
      for (std::int64_t panel = first; panel < last; panel += shape.panels) {
        const int panels = static_cast<int>(last - panel < shape.panels ? last - panel : shape.panels);
        // Tiles of nearly equal heights.
        std::int64_t t = 0;
        for (std::int64_t step = 0; step < steps; ++step) {
          const int height = static_cast<int>(count / steps + (step < count % steps ? 1 : 0));
          const float* rows[kLargestGemmShape.rows];
          for (int r = 0; r < height; ++r) rows[r] = v_ + (p * chunk_ + t + r) * pitch;
          const GemmTile tile = {rows, 1, problem_.channels, weights + panel * panel_floats, panel_floats, kZeros,
                                 m_ + (p * chunk_ + t) * WinogradProblem::kBlockColumns + (panel - first) * kPanelColumns,
                                 WinogradProblem::kBlockColumns, nullptr, 0, -scalar::infinity_f32(),
                                 scalar::infinity_f32()};
          EDGERT_ISA_DISPATCH(work.isa, gemm_tile(height, panels, false, tile));
          t += height;
        }
      }
    }
  }

  void set_init(const Work& work, std::int64_t c, std::int64_t width) noexcept {
    std::memset(init_, 0, sizeof(float) * WinogradProblem::kBlockColumns);
    if (!work.has(2)) return;
    std::memcpy(init_, work.in(2).as<const float>() + c, sizeof(float) * static_cast<std::size_t>(width));
  }

  void finish_tile(const Work& work, std::int64_t tile, std::int64_t slot, std::int64_t c, std::int64_t width) noexcept {
    constexpr std::int64_t kPitch = WinogradProblem::kBlockColumns;
    const WinogradOutput job = {m_ + slot * kPitch, chunk_ * kPitch, init_, sums_, kPitch,
                                ceil_div(width, kPanelColumns) * kPanelColumns};
    EDGERT_ISA_DISPATCH(work.isa, winograd_output(problem_.tile, job));
    const TensorView& y = problem_.y;
    const TensorView* residual = work.has(3) ? &work.in(3) : nullptr;
    const Place place = place_of(tile);
    const std::int64_t rows = y.dims[2] - place.row < problem_.tile ? y.dims[2] - place.row : problem_.tile;
    const std::int64_t pixels = y.dims[3] - place.column < problem_.tile ? y.dims[3] - place.column : problem_.tile;
    const auto at = [&](const TensorView& view, std::int64_t i) {
      return view.as<float>() + place.image * view.strides[0] + (place.row + i) * view.strides[2] +
             place.column * view.strides[3] + c;
    };
    for (std::int64_t i = 0; i < rows; ++i) {
      const FinishRows rest = {sums_ + i * problem_.tile * kPitch, kPitch, at(y, i), y.strides[3],
                               residual == nullptr ? nullptr : at(*residual, i),
                               residual == nullptr ? 0 : residual->strides[3], pixels, width,
                               problem_.attributes.epilogue};
      EDGERT_ISA_DISPATCH(work.isa, finish_rows(rest));
    }
  }

  const WinogradProblem& problem_;
  std::int64_t chunk_;
  float* v_ = nullptr;      ///< [positions][chunk][v_pitch]
  float* m_ = nullptr;      ///< [positions][chunk][kBlockColumns]
  float* sums_ = nullptr;   ///< [tile * tile][kBlockColumns]
  float* zeros_ = nullptr;  ///< a pixel outside the image
  float* init_ = nullptr;
};

struct WinogradConv {
  static constexpr std::uint16_t kId = 15;
  static constexpr const char* kName = "WinogradConv";
  using Attributes = WinogradConvAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() < 2 || operands.inputs.size() > 4 || operands.outputs.size() != 1) {
      return "needs 2 to 4 inputs and 1 output";
    }
    constexpr std::int32_t kKernel[2] = {3, 3};
    constexpr std::int32_t kOnes[2] = {1, 1};
    const Attributes& attributes = operands.as<Attributes>();
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    if (const char* reason = check_window(x, y, kKernel, kOnes, kOnes, attributes.pad_begin)) return reason;
    if (attributes.tile != 2 && attributes.tile != 4) return "tile: neither 2 nor 4";
    if (x.dims[1] % 16 != 0) return "x: channels are no multiple of 16";
    const std::int64_t side = attributes.tile + 2;
    const TensorView& w = operands.in(1);
    if (w.dtype != DType::F32 || w.format != WeightFormat::PanelF32x16 || w.rank != 3) return "w: not f32 panels";
    if (w.dims[0] != side * side || w.dims[1] != x.dims[1] || w.dims[2] != y.dims[1]) {
      return "w: dims are not [(tile + 2)^2, C, M]";
    }
    if (operands.has(2) && !is_bias(operands.in(2), y.dims[1])) return "bias: not [M] with stride 1";
    return check_epilogue(operands, attributes.epilogue, 3, 1);
  }

  static std::uint64_t scratch_bytes(const Operands& operands) {
    if (is_empty(operands.out(0))) return 0;
    const WinogradProblem problem(operands);
    ScratchPieces pieces(nullptr);
    static_cast<void>(WinogradRun(problem, pieces));
    return pieces.used();
  }

  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    const WinogradProblem problem(work);
    ScratchPieces pieces(work.scratch);
    WinogradRun(problem, pieces).part(work);
    return {};
  }
};

}  // namespace edgert::cpu
