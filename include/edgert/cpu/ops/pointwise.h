// SPDX-License-Identifier: Apache-2.0
// Runs a straight-line program of scalar operations on every element; a fused chain is one step.
// Inputs: as many as the program says, each with y's rank and dims; broadcasting is stride 0.
// Outputs: y. Any strides. y may lie exactly on an input with the same strides and element size.
//
// Strips of elements go through the program one instruction at a time, so that intermediate values stay in the first
// cache. f16 and bf16 are computed in float and rounded, as integers wrap, after every instruction: fusion changes no
// result. What each operation does is said in scalar/pointwise_functions.h.
#pragma once

#include <cstdint>
#include <cstring>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/pointwise_strips.h"
#include "edgert/cpu/strip_io.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/pointwise.h"

namespace edgert::cpu {

namespace pointwise_detail {

using scalar::PointwiseProgram;
using scalar::PointwiseStep;

inline constexpr std::int64_t kLongStrip = 1 << 16;
inline constexpr std::int64_t kRepeated = 2 * kStrip;  // 4-byte values that a strip's buffer of 8-byte values holds
inline constexpr std::uint32_t kValues = scalar::kMaxPointwiseInputs + scalar::kMaxPointwiseSteps;

/// Null, and the result's type in `result`, when the instruction is defined on values of these types.
inline const char* check_step(const PointwiseStep& step, const DType* types, std::uint32_t values,
                              DType& result) noexcept {
  const unsigned arity = scalar::arity(step.op);
  const DType type = static_cast<DType>(step.type);
  if (arity == 0) return "unknown operation";
  if (!scalar::is_defined(step.op, arithmetic_of(type))) return "operation is not defined for this type";
  const unsigned char operands[3] = {step.a, step.b, step.c};
  for (unsigned k = 0; k < arity; ++k) {
    if (operands[k] >= values) return "operand of an instruction does not exist yet";
    const bool condition = step.op == PointwiseOp::Where && k == 0;
    if (types[operands[k]] != (condition ? DType::Bool : type)) return "operand of an instruction has another type";
  }
  result = scalar::is_predicate(step.op) ? DType::Bool : type;
  return nullptr;
}

/// One part's run of a program of at most kInputs inputs. Operand 0 of the nest is the output.
template <int kInputs>
class Interpreter {
  static constexpr int kOperands = 1 + kInputs;

 public:
  explicit Interpreter(const Work& work) noexcept : work_(work), program_(work.as<PointwiseProgram>()) {
    const TensorView& y = work.out(0);
    for (std::uint32_t d = 0; d < y.rank; ++d) {
      std::int64_t strides[kOperands] = {y.strides[d]};
      for (std::uint32_t i = 0; i < program_.inputs; ++i) strides[1 + i] = work.in(i).strides[d];
      nest_.append(y.dims[d], strides);
    }
    nest_.sort();
    nest_.merge();
    // Long rows are cut into strips; strips of short rows span several and are brought together in buffers.
    rows_ = nest_.inner() >= kStrip / 2;
    for (std::uint32_t k = 0; k <= program_.inputs; ++k) {
      const TensorView& view = k == 0 ? y : work.in(k - 1);
      const int operand = static_cast<int>(k);
      const bool consecutive = nest_.is_linear(operand) || (rows_ && nest_.inner_stride(operand) == 1);
      direct_[k] = consecutive && is_lane_type(view.dtype);
      if (!direct_[k]) all_direct_ = false;
    }
  }

  void run() noexcept {
    prepare_values();
    const PartRange range = part_range(nest_.count, work_.part, work_.parts, 64);
    const std::int64_t longest = all_direct_ && program_.steps == 1 ? kLongStrip : kStrip;
    Cursor<kOperands> cursor(nest_, nest_.rank, range.begin);
    for (std::int64_t at = range.begin; at < range.end;) {
      std::int64_t n = range.end - at < longest ? range.end - at : longest;
      if (rows_ && n > nest_.inner() - cursor.innermost()) n = nest_.inner() - cursor.innermost();
      run_one(cursor, n);
      at += n;
    }
  }

 private:
  void* buffer(std::uint32_t value) const noexcept {
    return static_cast<unsigned char*>(work_.scratch) + value * static_cast<std::uint32_t>(kStrip) * 8u;
  }

  /// Points every value at its buffer and fills those that are the same everywhere.
  void prepare_values() noexcept {
    for (std::uint32_t v = 0; v < program_.inputs + program_.steps; ++v) values_[v] = buffer(v);
    for (std::uint32_t i = 0; i < program_.inputs; ++i) {
      const TensorView& view = work_.in(i);
      constant_[i] = nest_.is_constant(static_cast<int>(i) + 1) && !direct_[i + 1];
      if (constant_[i]) load_strip(view.dtype, values_[i], view.data, 0, kStrip, work_.isa);
      periodic_[i] = !constant_[i] && !direct_[i + 1] && is_periodic(i);
      if (periodic_[i]) fill_periodic(view, static_cast<int>(i) + 1, buffer(i));
    }
  }

  /// Whether an input repeats from row to row, as a bias per channel does, and a strip may start anywhere in a row
  /// that is repeated in the input's buffer.
  bool is_periodic(std::uint32_t input) const noexcept {
    if (rows_ || lane_bytes(arithmetic_of(work_.in(input).dtype)) > 4) return false;
    for (std::uint32_t d = 0; d + 1 < nest_.rank; ++d) {
      if (nest_.strides[input + 1][d] != 0) return false;
    }
    return true;
  }
  void fill_periodic(const TensorView& view, int operand, void* to) const noexcept {
    const std::int64_t lane = static_cast<std::int64_t>(lane_bytes(arithmetic_of(view.dtype)));
    for (std::int64_t at = 0; at < kStrip + nest_.inner(); at += nest_.inner()) {
      const std::int64_t room = kRepeated - at;
      load_strip(view.dtype, static_cast<unsigned char*>(to) + at * lane, view.data, nest_.inner_stride(operand),
                 nest_.inner() < room ? nest_.inner() : room, work_.isa);
    }
  }

  /// The strip of `n` elements at the cursor, which moves to its end.
  void run_one(Cursor<kOperands>& cursor, std::int64_t n) noexcept {
    const TensorView& y = work_.out(0);
    for (std::uint32_t i = 0; i < program_.inputs; ++i) {
      const TensorView& view = work_.in(i);
      if (direct_[i + 1]) values_[i] = element_at(view.data, cursor.offset(static_cast<int>(i) + 1), view.dtype);
      if (periodic_[i]) {
        values_[i] = static_cast<unsigned char*>(buffer(i)) +
                     cursor.innermost() * static_cast<std::int64_t>(lane_bytes(arithmetic_of(view.dtype)));
      }
    }
    const std::uint32_t last = program_.inputs + program_.steps - 1;
    void* const result = direct_[0] ? element_at(y.data, cursor.offset(0), y.dtype) : buffer(last);
    const Cursor<kOperands> start = cursor;
    gather(cursor, n);
    for (std::uint32_t s = 0; s < program_.steps; ++s) {
      const PointwiseStep& step = program_.step[s];
      const unsigned arity = scalar::arity(step.op);
      const std::uint32_t v = program_.inputs + s;
      run_strip(step, v == last ? result : values_[v], values_[step.a], arity > 1 ? values_[step.b] : nullptr,
                arity > 2 ? values_[step.c] : nullptr, n, work_.isa);
      if (v != last && !scalar::is_predicate(step.op)) round_strip(static_cast<DType>(step.type), values_[v], n);
    }
    if (!direct_[0]) scatter(start, n);
  }

  /// An intermediate strip as if it had been stored; programs of several instructions work on strips of kStrip.
  void round_strip(DType type, void* values, std::int64_t n) const noexcept {
    if (type != DType::F16 && type != DType::BF16) return;
    const bool brain = type == DType::BF16;
    std::uint16_t stored[kStrip];
    float* const strip = static_cast<float*>(values);
    EDGERT_ISA_DISPATCH(work_.isa, strip_narrow(stored, strip, n, brain));
    EDGERT_ISA_DISPATCH(work_.isa, strip_widen(strip, stored, n, brain));
  }

  /// Fills the buffers of inputs that are read piece by piece, a row at a time.
  void gather(Cursor<kOperands>& cursor, std::int64_t n) noexcept {
    for (std::int64_t done = 0; done < n;) {
      const std::int64_t count = row_piece(cursor, n - done);
      for (std::uint32_t i = 0; i < program_.inputs; ++i) {
        if (direct_[i + 1] || constant_[i] || periodic_[i]) continue;
        const TensorView& view = work_.in(i);
        const int operand = static_cast<int>(i) + 1;
        void* const to = static_cast<unsigned char*>(values_[i]) +
                         done * static_cast<std::int64_t>(lane_bytes(arithmetic_of(view.dtype)));
        const void* const from = element_at(view.data, cursor.offset(operand), view.dtype);
        load_strip(view.dtype, to, from, nest_.inner_stride(operand), count, work_.isa);
      }
      cursor.advance(count);
      done += count;
    }
  }

  void scatter(Cursor<kOperands> cursor, std::int64_t n) noexcept {
    const TensorView& y = work_.out(0);
    const unsigned char* from = static_cast<const unsigned char*>(buffer(program_.inputs + program_.steps - 1));
    for (std::int64_t done = 0; done < n;) {
      const std::int64_t count = row_piece(cursor, n - done);
      void* const to = element_at(y.data, cursor.offset(0), y.dtype);
      store_strip(y.dtype, to, nest_.inner_stride(0), from, count, work_.isa);
      from += count * static_cast<std::int64_t>(lane_bytes(arithmetic_of(y.dtype)));
      cursor.advance(count);
      done += count;
    }
  }

  /// How many of the next `n` elements lie in the cursor's row.
  std::int64_t row_piece(const Cursor<kOperands>& cursor, std::int64_t n) const noexcept {
    const std::int64_t row = nest_.inner() - cursor.innermost();
    return row < n ? row : n;
  }

  const Work& work_;
  const PointwiseProgram& program_;
  Nest<kOperands> nest_;
  bool rows_ = false;
  bool all_direct_ = true;
  bool direct_[kOperands] = {};
  bool constant_[kOperands] = {};
  bool periodic_[kOperands] = {};
  void* values_[kValues] = {};
};

}  // namespace pointwise_detail

struct Pointwise {
  static constexpr std::uint16_t kId = 3;
  static constexpr const char* kName = "Pointwise";
  using Attributes = scalar::PointwiseProgram;

  static const char* check(const Operands& operands) {
    const scalar::PointwiseProgram& program = operands.as<scalar::PointwiseProgram>();
    if (program.inputs > scalar::kMaxPointwiseInputs) return "too many inputs";
    if (program.steps == 0 || program.steps > scalar::kMaxPointwiseSteps) return "too many instructions, or none";
    if (const char* wrong = check_operands(operands, program.inputs)) return wrong;
    DType types[pointwise_detail::kValues] = {};
    for (std::uint32_t i = 0; i < program.inputs; ++i) {
      types[i] = operands.in(i).dtype;
      if (!same_dims(operands.in(i), operands.out(0))) return "input and output differ in dims";
      if (arithmetic_of(types[i]) == Arithmetic::None) return "type of an input is not supported";
    }
    for (std::uint32_t s = 0; s < program.steps; ++s) {
      const std::uint32_t value = program.inputs + s;
      if (const char* wrong = pointwise_detail::check_step(program.step[s], types, value, types[value])) return wrong;
    }
    if (types[program.inputs + program.steps - 1] != operands.out(0).dtype) return "output has another type";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands& operands) {
    const scalar::PointwiseProgram& program = operands.as<scalar::PointwiseProgram>();
    return static_cast<std::uint64_t>(kStrip) * 8 * (program.inputs + program.steps);
  }
  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    if (work.inputs.size() <= 3) {  // fewer offsets to keep
      pointwise_detail::Interpreter<3>(work).run();
    } else {
      pointwise_detail::Interpreter<scalar::kMaxPointwiseInputs>(work).run();
    }
    return {};
  }
};

}  // namespace edgert::cpu
