// SPDX-License-Identifier: Apache-2.0
// Matrix product y = epilogue(a @ b) over any batch dimensions.
// Inputs: a [batch..., M, K], any strides (fast when stride 1 along K); b either in format PanelF32x16 with dims
//   [1 or product of batch, K, N], or strided [batch..., K, N] of a's rank, batch broadcast by stride 0, any strides;
//   bias [N] or absent; residual like y or absent.
// Outputs: y [batch..., M, N] with stride 1 along N, no two elements in one place. y may lie exactly on residual.
#pragma once

#include "edgert/cpu/isa/panel_gemm.h"
#include "edgert/cpu/operator.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

struct MatMulAttributes {
  scalar::Epilogue epilogue;
};

/// What a MatMul step is to the product driver; data pointers are null while a plan is checked.
struct MatMulProblem {
  const TensorView& a;
  const TensorView& b;
  const TensorView& y;
  std::uint32_t batch_dims;
  std::int64_t depth;
  std::int64_t columns;
  bool packed;
  bool shared_b;    ///< one right operand for the whole batch: then the batch's rows are rows of one product
  bool copied_rows;  ///< a's elements along K are not neighbours

  explicit MatMulProblem(const Operands& operands) noexcept
      : a(operands.in(0)), b(operands.in(1)), y(operands.out(0)), batch_dims(y.rank - 2u), depth(a.dims[y.rank - 1u]),
        columns(y.dims[y.rank - 1u]), packed(b.format == WeightFormat::PanelF32x16), shared_b(true),
        copied_rows(!has_unit_stride(a, y.rank - 1u)) {
    if (packed) {
      shared_b = b.dims[0] == 1;
    } else {
      for (std::uint32_t i = 0; i < batch_dims; ++i) shared_b = shared_b && (b.dims[i] == 1 || b.strides[i] == 0);
    }
  }

  std::int64_t chunk_rows() const noexcept {
    return gemm_chunk_rows(1, depth);
  }
};

/// Finds the rows of a, and packs b where the plan holds it as a plain tensor.
class MatMulSource {
 public:
  MatMulSource(const MatMulProblem& problem, const PanelGemm& gemm, ScratchPieces& pieces) noexcept
      : problem_(problem), gemm_(gemm) {
    if (problem.copied_rows) copies_ = pieces.take<float>(problem.chunk_rows() * problem.depth);
    if (!problem.packed) {
      packed_ = pieces.take<float>(kLargestGemmShape.panels * kPanelColumns * problem.depth);
    }
  }

  void begin_chunk() noexcept { next_copy_ = copies_; }

  GemmRows rows(std::int64_t problem, std::int64_t first, int count, const float** table) noexcept {
    const float* base = problem_.a.as<const float>() + gemm_.problems.offset(problem, problem_.a.strides);
    const std::int64_t* strides = problem_.a.strides + gemm_.problems.rank;
    for (int r = 0; r < count; ++r) table[r] = base + gemm_.rows.offset(first + r, strides);
    if (!problem_.copied_rows) return {table};
    const std::int64_t step = problem_.a.strides[problem_.y.rank - 1u];
    // Along K outside, so that a transposed operand is read in the order of its memory.
    for (std::int64_t k = 0; k < problem_.depth; ++k) {
      for (int r = 0; r < count; ++r) next_copy_[r * problem_.depth + k] = table[r][k * step];
    }
    for (int r = 0; r < count; ++r, next_copy_ += problem_.depth) table[r] = next_copy_;
    return {table};
  }

  const float* panels(std::int64_t problem, std::int64_t panel, int count) noexcept {
    const TensorView& b = problem_.b;
    const std::int64_t row_step = b.strides[b.rank - 2u];
    const std::int64_t column_step = b.strides[b.rank - 1u];
    float* to = packed_;
    for (int p = 0; p < count; ++p) {
      const std::int64_t column = (panel + p) * kPanelColumns;
      const std::int64_t left = problem_.columns - column;
      const std::int64_t width = left < kPanelColumns ? left : kPanelColumns;
      const float* from = b.as<const float>() + gemm_.problems.offset(problem, b.strides) + column * column_step;
      for (std::int64_t k = 0; k < problem_.depth; ++k, from += row_step, to += kPanelColumns) {
        if (column_step == 1 && width == kPanelColumns) {
          std::memcpy(to, from, sizeof(float) * kPanelColumns);
          continue;
        }
        for (std::int64_t c = 0; c < width; ++c) to[c] = from[c * column_step];
        for (std::int64_t c = width; c < kPanelColumns; ++c) to[c] = 0.0f;
      }
    }
    return packed_;
  }

 private:
  const MatMulProblem& problem_;
  const PanelGemm& gemm_;
  float* copies_ = nullptr;
  float* next_copy_ = nullptr;
  float* packed_ = nullptr;
};

struct MatMul {
  static constexpr std::uint16_t kId = 6;
  static constexpr const char* kName = "MatMul";
  using Attributes = MatMulAttributes;

  static const char* check(const Operands& operands) {
    if (operands.inputs.size() < 2 || operands.inputs.size() > 4 || operands.outputs.size() != 1) {
      return "needs 2 to 4 inputs and 1 output";
    }
    const TensorView& a = operands.in(0);
    const TensorView& b = operands.in(1);
    const TensorView& y = operands.out(0);
    if (y.rank < 2 || y.rank > kMaxRank || !is_f32(y, y.rank)) return "y: not an f32 tensor of rank 2 or more";
    if (!is_f32(a, y.rank)) return "a: not an f32 tensor of y's rank";
    const std::uint32_t m = y.rank - 2u;
    const std::uint32_t n = y.rank - 1u;
    for (std::uint32_t i = 0; i < y.rank; ++i) {
      if (y.dims[i] > kMaxDenseExtent || a.dims[i] > kMaxDenseExtent) return "a, y: extent too large";
      if (i < n && a.dims[i] != y.dims[i]) return "a: batch or rows differ from y's";
    }
    if (!has_unit_stride(y, n)) return "y: stride along the columns is not 1";
    if (!elements_are_disjoint(y)) return "y: elements overlap";
    if (const char* reason = check_b(a, b, y, m)) return reason;
    if (operands.has(2) && !is_bias(operands.in(2), y.dims[n])) return "bias: not [N] with stride 1";
    return check_epilogue(operands, operands.as<Attributes>().epilogue, 3, n);
  }

  static std::uint64_t scratch_bytes(const Operands& operands) {
    if (is_empty(operands.out(0))) return 0;
    const MatMulProblem problem(operands);
    const PanelGemm gemm;
    ScratchPieces pieces(nullptr);
    static_cast<void>(PanelGemmScratch(pieces, 1, problem.chunk_rows()));
    static_cast<void>(MatMulSource(problem, gemm, pieces));
    return pieces.used();
  }

  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    const MatMulProblem problem(work);
    const PanelGemm gemm = product(work, problem);
    ScratchPieces pieces(work.scratch);
    const PanelGemmScratch scratch(pieces, 1, problem.chunk_rows());
    MatMulSource source(problem, gemm, pieces);
    PanelGemmRun<MatMulSource>(gemm, scratch, source).part(work.part, work.parts);
    return {};
  }

 private:
  static const char* check_b(const TensorView& a, const TensorView& b, const TensorView& y, std::uint32_t m) noexcept {
    if (b.dtype != DType::F32) return "b: not f32";
    if (b.format == WeightFormat::PanelF32x16) {
      std::uint64_t batch = 1;
      for (std::uint32_t i = 0; i < m; ++i) {
        if (!checked_mul(batch, static_cast<std::uint64_t>(y.dims[i]), batch)) return "y: batch too large";
      }
      if (b.rank != 3 || b.dims[0] < 1) return "b: not panels of [batch, K, N]";
      if (b.dims[0] != 1 && static_cast<std::uint64_t>(b.dims[0]) != batch) return "b: batch differs from y's";
    } else {
      if (!is_f32(b, y.rank)) return "b: neither panels nor a tensor of y's rank";
      for (std::uint32_t i = 0; i < m; ++i) {
        if (b.dims[i] != y.dims[i]) return "b: batch differs from y's";
      }
    }
    if (b.dims[b.rank - 2u] != a.dims[m + 1]) return "b: K differs from a's";
    if (b.dims[b.rank - 1u] != y.dims[m + 1]) return "b: N differs from y's";
    return nullptr;
  }

  static PanelGemm product(const Work& work, const MatMulProblem& problem) noexcept {
    PanelGemm gemm;
    gemm.isa = work.isa;
    gemm.chunk = problem.depth;
    gemm.a_pitch = problem.copied_rows ? problem.depth : problem.a.strides[problem.batch_dims];
    gemm.columns = problem.columns;
    gemm.problems.rank = problem.shared_b ? 0 : problem.batch_dims;
    gemm.rows.rank = problem.batch_dims + 1 - gemm.problems.rank;
    gemm.y = problem.y.as<float>();
    if (problem.packed) {
      gemm.panels = problem.b.as<const float>();
      gemm.problem_panels = problem.shared_b ? 0 : gemm.panel_count() * gemm.panel_floats();
    }
    if (work.has(2)) gemm.bias = work.in(2).as<const float>();
    const TensorView* residual = work.has(3) ? &work.in(3) : nullptr;
    if (residual != nullptr) gemm.residual = residual->as<const float>();
    for (std::uint32_t i = 0; i <= problem.batch_dims; ++i) {
      const bool outer = i < gemm.problems.rank;
      const std::uint32_t at = outer ? i : i - gemm.problems.rank;
      (outer ? gemm.problems : gemm.rows).extents[at] = problem.y.dims[i];
      (outer ? gemm.y_problem_strides : gemm.y_strides)[at] = problem.y.strides[i];
      if (residual != nullptr) {
        (outer ? gemm.residual_problem_strides : gemm.residual_strides)[at] = residual->strides[i];
      }
    }
    gemm.epilogue = resolve_epilogue(work.as<Attributes>().epilogue);
    return gemm;
  }
};

}  // namespace edgert::cpu
