// SPDX-License-Identifier: Apache-2.0
// Drives the tile kernel over a whole product: which part computes what, in which order, and where the operands of a
// tile come from. Convolution and matrix product differ only in their RowSource. Compiled for the baseline; all vector
// code is behind gemm_tile and finish_rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "edgert/cpu/isa/dense_operands.h"
#include "edgert/cpu/isa/epilogue_kernels.h"
#include "edgert/cpu/isa/gemm_kernels.h"
#include "edgert/cpu/isa/scratch_pieces.h"
#include "edgert/cpu/operator.h"

namespace edgert::cpu {

/// The rows of a product are numbered in row-major order over these extents (for a convolution: image, row, column).
struct RowSpace {
  std::uint32_t rank = 0;
  std::int64_t extents[kMaxRank] = {};

  constexpr std::int64_t count() const noexcept {
    std::int64_t rows = 1;
    for (std::uint32_t i = 0; i < rank; ++i) rows *= extents[i];
    return rows;
  }
  /// Elements from the first row to row `row` in a tensor whose row dimensions have these strides.
  constexpr std::int64_t offset(std::int64_t row, const std::int64_t* strides) const noexcept {
    std::int64_t elements = 0;
    for (std::uint32_t i = rank; i-- > 0;) {
      elements += row % extents[i] * strides[i];
      row /= extents[i];
    }
    return elements;
  }
  /// Elements from a row to the next one of the same run.
  constexpr std::int64_t pitch(const std::int64_t* strides) const noexcept {
    for (std::uint32_t i = rank; i-- > 0;) {
      if (extents[i] != 1) return strides[i];
    }
    return 0;
  }
  /// Rows of a run: aligned groups of that many rows lie at a constant pitch.
  constexpr std::int64_t run(const std::int64_t* strides) const noexcept {
    std::int64_t rows = 1;
    for (std::uint32_t i = rank; i-- > 0;) {
      if (extents[i] == 1) continue;
      if (rows != 1 && strides[i] != rows * pitch(strides)) break;
      rows *= extents[i];
    }
    return rows;
  }
};

/// One step's product: as many problems (groups, batch) of rows x columns x K, K = taps * chunk.
struct PanelGemm {
  Isa isa = Isa::Baseline;
  RowSpace rows;
  RowSpace problems;
  std::int64_t columns = 0;
  std::int64_t taps = 1;
  std::int64_t chunk = 0;
  std::int64_t a_pitch = 0;  ///< floats between neighbouring rows of the left operand, as far as that is one number
  const float* panels = nullptr;  ///< null when the source packs them
  std::int64_t problem_panels = 0;  ///< floats from one problem's panels to the next one's; 0 when shared
  const float* bias = nullptr;
  std::int64_t problem_bias = 0;
  float* y = nullptr;
  std::int64_t y_strides[kMaxRank] = {};          ///< of the row dimensions
  std::int64_t y_problem_strides[kMaxRank] = {};  ///< of the problem dimensions
  const float* residual = nullptr;
  std::int64_t residual_strides[kMaxRank] = {};
  std::int64_t residual_problem_strides[kMaxRank] = {};
  ResolvedEpilogue epilogue = {};

  constexpr std::int64_t depth() const noexcept { return taps * chunk; }
  constexpr std::int64_t panel_floats() const noexcept { return depth() * kPanelColumns; }
  constexpr std::int64_t panel_count() const noexcept { return ceil_div(columns, kPanelColumns); }
};

/// Rows whose pointers are prepared at once; then each group of panels meets all of them. More rows mean fewer passes
/// over the panels, but the rows should stay in the second-level cache. `row_floats`: of the left operand, per row.
inline constexpr std::int64_t kMaxChunkRows = 96;
inline constexpr std::int64_t kMaxGemmTiles = kMaxChunkRows / kSmallestTileRows + 1;
constexpr std::int64_t gemm_chunk_rows(std::int64_t taps, std::int64_t row_floats) noexcept {
  constexpr std::int64_t kTableEntries = 4096;
  constexpr std::int64_t kOperandFloats = 96 * 1024;
  const std::int64_t by_table = kTableEntries / (taps + 1);
  const std::int64_t by_operand = kOperandFloats / (row_floats + 1);
  std::int64_t rows = by_table < by_operand ? by_table : by_operand;
  rows = rows < kMaxChunkRows ? rows / kLargestGemmShape.rows * kLargestGemmShape.rows : kMaxChunkRows;
  return rows < kLargestGemmShape.rows ? kLargestGemmShape.rows : rows;
}

/// What the driver itself needs of a thread's scratch.
struct PanelGemmScratch {
  const float** table = nullptr;  ///< [chunk rows][taps]
  float* tile = nullptr;          ///< results on their way to finish_rows
  float* init = nullptr;          ///< the bias of the panels at hand, padded
  std::int64_t chunk_rows = 0;

  PanelGemmScratch(ScratchPieces& pieces, std::int64_t taps, std::int64_t rows) noexcept : chunk_rows(rows) {
    table = pieces.take<const float*>(rows * taps);
    tile = pieces.take<float>(kTilePitch * kLargestGemmShape.rows);
    init = pieces.take<float>(kMostColumns);
  }
  static constexpr std::int64_t kTilePitch = kLargestGemmShape.panels * kPanelColumns;
  static constexpr std::int64_t kMostColumns = kRowPanels * kPanelColumns;
};

/// The left operand of a tile: GemmTile's rows, row_pitch and row_offset.
struct GemmRows {
  const float* const* table = nullptr;
  std::int64_t pitch = kNoRowPitch;
  std::int64_t offset = 0;
};

/// Runs the part of a product that `work` asks for. A RowSource has
///   void begin_chunk()                  the table's rows are about to be made anew: scratch of the last ones is free
///   GemmRows rows(std::int64_t problem, std::int64_t first, int count, const float** table)
///                                       table[tap * count + r] = where the K elements of row first + r start, or
///                                       table[tap * count] = null when those of all rows are zero. If rows lie at one
///                                       distance the result may say so, and its table may be an earlier tile's
///   const float* panels(std::int64_t problem, std::int64_t panel, int count)
///                                       packs panels of the right operand; called when PanelGemm::panels is null
template <class RowSource>
class PanelGemmRun {
 public:
  PanelGemmRun(const PanelGemm& gemm, const PanelGemmScratch& scratch, RowSource& source) noexcept
      : gemm_(gemm), scratch_(scratch), source_(source), shape_(gemm_shape(gemm.isa)) {
    // Rows at multiples of 2048 bytes meet in few sets of a first-level cache, which have 8 ways or so.
    if (shape_.rows > 6 && gemm.a_pitch != 0 && gemm.a_pitch % 512 == 0) shape_.rows = 6;
    row_count_ = gemm.rows.count();
    problem_count_ = gemm.problems.count();
    wide_ = row_count_ == 1 && gemm.isa == Isa::Avx512 && gemm.panels != nullptr;
    y_pitch_ = gemm.rows.pitch(gemm.y_strides);
    residual_pitch_ = gemm.rows.pitch(gemm.residual_strides);
    run_ = gemm.rows.run(gemm.y_strides);
    if (gemm.residual != nullptr) {
      // Both lengths are products of the innermost extents, so that the shorter one divides the longer one.
      const std::int64_t other = gemm.rows.run(gemm.residual_strides);
      run_ = other < run_ ? other : run_;
    }
  }

  void part(std::uint32_t part, std::uint32_t parts) noexcept {
    const std::int64_t panels = gemm_.panel_count();
    if (row_count_ == 0 || panels == 0) return;
    const bool by_panels = split_by_panels(parts);
    const std::int64_t extent = by_panels ? panels : row_count_;
    const PartRange range = part_range(problem_count_ * extent, part, parts);
    for (std::int64_t at = range.begin; at < range.end;) {
      const std::int64_t problem = at / extent;
      const std::int64_t first = at % extent;
      const std::int64_t left = range.end - problem * extent;
      const std::int64_t last = left < extent ? left : extent;
      if (by_panels) {
        block(problem, 0, row_count_, first, last);
      } else {
        block(problem, first, last, 0, panels);
      }
      at = problem * extent + last;
    }
  }

 private:
  /// Few rows or much weight: each part takes columns, so that it reads its own panels only.
  bool split_by_panels(std::uint32_t parts) const noexcept {
    const std::int64_t panels = problem_count_ * gemm_.panel_count();
    const std::int64_t rows = problem_count_ * row_count_;
    const std::int64_t pieces = static_cast<std::int64_t>(parts);
    if (pieces == 1) return false;
    if (rows < pieces * shape_.rows) return panels > 1;
    return gemm_.columns > row_count_ && panels >= pieces * 4;
  }

  void block(std::int64_t problem, std::int64_t row, std::int64_t row_end, std::int64_t panel,
             std::int64_t panel_end) noexcept {
    if (gemm_.depth() == 0) {  // no operand has elements, and their addresses may be null
      rows_by_panels(problem, row, row_end, panel, panel_end, scratch_.init);
      return;
    }
    if (gemm_.panels != nullptr) {
      rows_by_panels(problem, row, row_end, panel, panel_end,
                     gemm_.panels + problem * gemm_.problem_panels + panel * gemm_.panel_floats());
      return;
    }
    for (std::int64_t next; panel < panel_end; panel = next) {
      next = panel + shape_.panels < panel_end ? panel + shape_.panels : panel_end;
      rows_by_panels(problem, row, row_end, panel, next,
                     source_.panels(problem, panel, static_cast<int>(next - panel)));
    }
  }

  void rows_by_panels(std::int64_t problem, std::int64_t row, std::int64_t row_end, std::int64_t panel,
                      std::int64_t panel_end, const float* b) noexcept {
    bool first = true;
    while (row < row_end) {
      std::int64_t count = row_end - row;
      const std::int64_t run_left = run_ - row % run_;
      count = count < run_left ? count : run_left;
      const std::int64_t chunks = ceil_div(count, scratch_.chunk_rows);
      count = ceil_div(count, chunks);
      chunk(problem, row, count, panel, panel_end, b, first);
      row += count;
      first = false;
    }
  }

  /// `count` rows of one run against all panels, in tiles of nearly equal heights; the `first` rows that meet these panels
  /// find them far away in memory.
  void chunk(std::int64_t problem, std::int64_t row, std::int64_t count, std::int64_t panel, std::int64_t panel_end,
             const float* b, bool first) noexcept {
    const std::int64_t tiles = ceil_div(count, shape_.rows);
    const std::int64_t runs = find_rows(problem, row, count, tiles);
    float* const y = gemm_.y + gemm_.problems.offset(problem, gemm_.y_problem_strides) +
                     gemm_.rows.offset(row, gemm_.y_strides);
    const float* const residual =
        gemm_.residual == nullptr ? nullptr
                                  : gemm_.residual + gemm_.problems.offset(problem, gemm_.residual_problem_strides) +
                                        gemm_.rows.offset(row, gemm_.residual_strides);
    for (std::int64_t next; panel < panel_end; panel = next) {
      next = panel + group_of(panel, panel_end);
      const std::int64_t column = panel * kPanelColumns;
      GemmTile job = {nullptr, gemm_.chunk == 0 ? 0 : gemm_.taps, gemm_.chunk, b, gemm_.panel_floats(),
                      init_of(problem, panel, next), y + column, y_pitch_,
                      residual == nullptr ? nullptr : residual + column, residual_pitch_, gemm_.epilogue.low,
                      gemm_.epilogue.high};
      const float* const ahead = b + (next - panel) * gemm_.panel_floats();
      job.ahead = ahead;
      job.ahead_lines = first ? lines_ahead(tiles, panel_end - next) : 0;
      const std::int64_t ahead_step = job.ahead_lines == 0 ? 0 : job.ahead_lines * ahead_intervals() * kLineFloats;
      for (std::int64_t i = 0; i < runs; ++i) {
        const TileRun& run = tile_runs_[i];
        job.rows = run.rows.table;
        job.row_pitch = run.rows.pitch;
        job.row_offset = run.rows.offset;
        job.count = run.count;
        tile(job, run.height, static_cast<int>(next - panel), gemm_.columns - column);
        const std::int64_t rows = run.count * run.height;
        job.y += rows * y_pitch_;
        job.ahead += run.count * ahead_step;
        if (job.residual != nullptr) job.residual += rows * residual_pitch_;
      }
      b = ahead;
    }
  }

  /// Tiles of one height whose rows lie one below the other.
  struct TileRun {
    GemmRows rows;  ///< of the first one
    int height;
    std::int64_t count;
  };

  /// Asks the source for the rows of a chunk's tiles and says how many runs of tiles they make.
  std::int64_t find_rows(std::int64_t problem, std::int64_t row, std::int64_t count, std::int64_t tiles) noexcept {
    const std::int64_t low_height = count / tiles;
    const std::int64_t higher_tiles = count % tiles;  // the first ones are a row higher
    std::int64_t runs = 0;
    source_.begin_chunk();
    for (std::int64_t t = 0, above = 0; t < tiles; ++t) {
      const int height = static_cast<int>(low_height + (t < higher_tiles ? 1 : 0));
      const GemmRows rows =
          gemm_.depth() == 0 ? GemmRows{} : source_.rows(problem, row + above, height, scratch_.table + above * gemm_.taps);
      above += height;
      if (runs != 0) {
        TileRun& last = tile_runs_[runs - 1];
        if (last.height == height && rows.pitch != kNoRowPitch && last.rows.pitch == rows.pitch &&
            last.rows.table == rows.table && last.rows.offset + last.count * height * rows.pitch == rows.offset) {
          ++last.count;
          continue;
        }
      }
      tile_runs_[runs++] = {rows, height, 1};
    }
    return runs;
  }

  /// How many panels the next tiles take, of those before `panel_end`.
  std::int64_t group_of(std::int64_t panel, std::int64_t panel_end) const noexcept {
    const std::int64_t left = panel_end - panel;
    if (wide_ && left >= kRowPanels && (panel + kRowPanels) * kPanelColumns <= gemm_.columns) return kRowPanels;
    return left < shape_.panels ? left : shape_.panels;
  }

  /// Of the panels behind those at hand, of which `panels` are left, how many cache lines a tile brings ahead in each
  /// interval. Shallow panels are not worth the instructions; in deep ones the processor itself finds out what comes next.
  std::int64_t lines_ahead(std::int64_t tiles, std::int64_t panels) const noexcept {
    constexpr std::int64_t kFewestTiles = 4, kFewestDepth = 64, kMostDepth = 512;
    const std::int64_t depth = gemm_.depth();
    if (tiles < kFewestTiles || depth < kFewestDepth || depth > kMostDepth) return 0;
    const std::int64_t lines = (panels < shape_.panels ? panels : shape_.panels) * gemm_.panel_floats() / kLineFloats;
    return ceil_div(lines, tiles * ahead_intervals());
  }
  std::int64_t ahead_intervals() const noexcept { return gemm_.taps * ceil_div(gemm_.chunk, kAheadInterval); }

  /// What the sums of these panels start from: the bias, padded with zeros where the last panel has no column.
  const float* init_of(std::int64_t problem, std::int64_t panel, std::int64_t panel_end) noexcept {
    const std::int64_t column = panel * kPanelColumns;
    const std::int64_t end = panel_end * kPanelColumns;
    const float* bias = gemm_.bias == nullptr ? nullptr : gemm_.bias + problem * gemm_.problem_bias + column;
    if (bias != nullptr && end <= gemm_.columns) return bias;
    std::memset(scratch_.init, 0, sizeof(float) * static_cast<std::size_t>(PanelGemmScratch::kMostColumns));
    if (bias != nullptr) {
      std::memcpy(scratch_.init, bias, sizeof(float) * static_cast<std::size_t>(gemm_.columns - column));
    }
    return scratch_.init;
  }

  /// `direct.count` tiles. `columns_left`: columns of the product from their first one on.
  void tile(const GemmTile& direct, int height, int panels, std::int64_t columns_left) noexcept {
    const std::int64_t panel_columns = panels * kPanelColumns;
    const bool whole = panel_columns <= columns_left;
    const bool half = panel_columns - columns_left >= kPanelColumns / 2;
    if (gemm_.epilogue.in_registers && (whole || panel_columns - columns_left == kPanelColumns / 2)) {
      EDGERT_ISA_DISPATCH(gemm_.isa, gemm_tile(height, panels, half, direct));
      return;
    }
    GemmTile sums = direct;
    sums.y = scratch_.tile;
    sums.y_stride = PanelGemmScratch::kTilePitch;
    sums.residual = nullptr;
    sums.low = -scalar::infinity_f32();
    sums.high = scalar::infinity_f32();
    sums.count = 1;
    FinishRows rest = {sums.y, sums.y_stride, direct.y, direct.y_stride, direct.residual, direct.residual_stride,
                       height, whole ? panels * kPanelColumns : columns_left, gemm_.epilogue.epilogue};
    for (std::int64_t t = 0; t < direct.count; ++t) {
      EDGERT_ISA_DISPATCH(gemm_.isa, gemm_tile(height, panels, half, sums));
      EDGERT_ISA_DISPATCH(gemm_.isa, finish_rows(rest));
      if (direct.count == 1) break;
      sums.row_offset += height * direct.row_pitch;
      sums.ahead += direct.ahead_lines * ahead_intervals() * kLineFloats;
      rest.y += height * direct.y_stride;
      if (rest.residual != nullptr) rest.residual += height * direct.residual_stride;
    }
  }

  const PanelGemm& gemm_;
  const PanelGemmScratch& scratch_;
  RowSource& source_;
  GemmShape shape_;
  std::int64_t row_count_ = 0;
  std::int64_t problem_count_ = 0;
  std::int64_t run_ = 1;  ///< tiles do not cross its multiples
  bool wide_ = false;     ///< tiles of kRowPanels panels
  std::int64_t y_pitch_ = 0;
  std::int64_t residual_pitch_ = 0;
  TileRun tile_runs_[kMaxGemmTiles] = {};  ///< of the chunk
};

}  // namespace edgert::cpu
