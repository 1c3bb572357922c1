// SPDX-License-Identifier: Apache-2.0
// ONNX Loop: runs its body until the trip count is reached or the condition is false, carries values from one turn to
// the next and collects others.
// Inputs: trip count int64 (absent: no limit); condition bool (absent: true); `carried` initial values; and what the
// body made in the last turn: condition bool (absent: true), `carried` values, `collected` values.
// Outputs: the `carried` values, which the body reads; the `collected` ones, one more leading dimension each, of which as
// many elements are written as there were turns; number of turns int64; the turn's number int64, which the body reads.
// More turns than `most_turns` are Error::ExtentMismatch. All operands are row-major. Runs in one part.
#pragma once

#include <cstdint>
#include <cstring>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/ordered_elements.h"
#include "edgert/cpu/strided.h"

namespace edgert::cpu {

struct LoopAttributes {
  std::int64_t most_turns;  ///< 0 or more; at most the leading extent of every collected value
  std::uint32_t carried;
  std::uint32_t collected;
  std::uint32_t tests_condition;  ///< 1: the body makes a condition
  std::uint32_t exact;            ///< 1: always most_turns turns; fewer are Error::ExtentMismatch
};

namespace loop_detail {

inline bool is_row_major(const TensorView& view) noexcept { return is_plain(view) && is_dense(view); }

inline bool is_condition(const TensorView& view) noexcept {
  return is_plain(view) && view.dtype == DType::Bool && !is_empty(view) && view.elements() == 1;
}

/// Whether `from` has the type and dims of one of `to`'s elements along its first dimension, or with skip = 0 of `to`.
inline bool fits(const TensorView& from, const TensorView& to, std::uint32_t skip) noexcept {
  if (!is_row_major(from) || !is_row_major(to) || from.dtype != to.dtype || from.rank + skip != to.rank) return false;
  for (std::uint32_t d = 0; d < from.rank; ++d) {
    if (from.dims[d] != to.dims[d + skip]) return false;
  }
  return true;
}

/// Copies a row-major tensor to element `index` of the other's first dimension.
inline void copy(const TensorView& from, const TensorView& to, std::int64_t index) noexcept {
  if (is_empty(from)) return;
  const std::size_t bytes = static_cast<std::size_t>(from.elements()) * bytes_of(from.dtype);
  std::byte* const target = static_cast<std::byte*>(to.data) + static_cast<std::size_t>(index) * bytes;
  if (target != from.data) std::memmove(target, from.data, bytes);
}

}  // namespace loop_detail

struct Loop {
  static constexpr std::uint16_t kId = 46;
  static constexpr const char* kName = "Loop";
  static constexpr std::uint32_t kBodies = 1;
  using Attributes = LoopAttributes;

  static const char* check(const Operands& operands) {
    const LoopAttributes& attributes = operands.as<LoopAttributes>();
    const std::uint64_t carried = attributes.carried;
    const std::uint64_t collected = attributes.collected;
    if (operands.inputs.size() != 3 + 2 * carried + collected) return "the inputs are not as many as the attributes say";
    if (operands.outputs.size() != 2 + carried + collected) return "the outputs are not as many as the attributes say";
    if (attributes.most_turns < 0) return "the number of turns is negative";
    if (attributes.tests_condition != (operands.has(2 + carried) ? 1u : 0u)) return "the body's condition does not fit the attributes";
    if (operands.has(0) && !is_int64_scalar(operands.in(0))) return "the trip count is no int64 of one element";
    for (const std::size_t i : {std::size_t{1}, std::size_t{2 + carried}}) {
      if (operands.has(i) && !loop_detail::is_condition(operands.in(i))) return "a condition is no bool of one element";
    }
    for (std::size_t i = 0; i < carried; ++i) {
      if (!loop_detail::fits(operands.in(2 + i), operands.out(i), 0) ||
          !loop_detail::fits(operands.in(3 + carried + i), operands.out(i), 0)) {
        return "a carried value changes its type or dims, or is not row-major";
      }
    }
    for (std::size_t i = 0; i < collected; ++i) {
      const TensorView& all = operands.out(carried + i);
      if (!loop_detail::fits(operands.in(3 + 2 * carried + i), all, 1)) return "a collected value does not fit its output";
      if (all.dims[0] < attributes.most_turns) return "an output has no place for every turn";
    }
    for (std::size_t i = carried + collected; i < operands.outputs.size(); ++i) {
      if (!is_int64_scalar(operands.out(i))) return "the number of turns is no int64 of one element";
    }
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands&) { return 0; }

  static Status run(const Work& work) {
    const LoopAttributes& attributes = work.as<LoopAttributes>();
    const std::size_t carried = attributes.carried;
    const std::size_t collected = attributes.collected;
    std::int64_t& turns = *work.out(carried + collected).as<std::int64_t>();
    for (std::size_t i = 0; i < carried; ++i) loop_detail::copy(work.in(2 + i), work.out(i), 0);
    const std::int64_t limit = work.has(0) ? *work.in(0).as<const std::int64_t>() : INT64_MAX;
    bool going = is_true(work, 1);
    std::int64_t turn = 0;
    for (; going && turn < limit; ++turn) {
      if (turn >= attributes.most_turns) return Error::ExtentMismatch;
      *work.out(carried + collected + 1).as<std::int64_t>() = turn;
      EDGERT_RETURN_IF_ERROR(work.run_body(work.body_context, 0));
      for (std::size_t i = 0; i < collected; ++i) {
        loop_detail::copy(work.in(3 + 2 * carried + i), work.out(carried + i), turn);
      }
      for (std::size_t i = 0; i < carried; ++i) loop_detail::copy(work.in(3 + carried + i), work.out(i), 0);
      going = is_true(work, 2 + carried);
    }
    turns = turn;
    return attributes.exact != 0 && turn != attributes.most_turns ? Error::ExtentMismatch : Error::Ok;
  }

 private:
  static bool is_true(const Work& work, std::size_t i) noexcept {
    return !work.has(i) || *work.in(i).as<const std::uint8_t>() != 0;
  }
};

}  // namespace edgert::cpu
