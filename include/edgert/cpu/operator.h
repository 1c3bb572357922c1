// SPDX-License-Identifier: Apache-2.0
// What an operator of the CPU backend is, and the set of operators that a program carries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "edgert/span.h"
#include "edgert/status.h"
#include "edgert/types.h"

namespace edgert::cpu {

/// Instruction sets that kernels are specialised for; chosen once, when a session is prepared. Baseline is what the
/// compiler targets by default (SSE2 on x86-64, NEON on aarch64) without fused multiply-add.
enum class Isa : std::uint8_t { Baseline = 0, Avx2 = 1, Avx512 = 2 };

/// The operands of one step. `inputs[i]` and `outputs[i]` are never null; an absent optional input has dtype Undefined.
struct Operands {
  Span<const TensorView* const> inputs;
  Span<const TensorView* const> outputs;
  const void* attributes = nullptr;  ///< the operator's Attributes struct, aligned to 16
  std::uint32_t attribute_bytes = 0;

  const TensorView& in(std::size_t i) const noexcept { return *inputs[i]; }
  const TensorView& out(std::size_t i) const noexcept { return *outputs[i]; }
  bool has(std::size_t i) const noexcept { return i < inputs.size() && inputs[i]->present(); }
  template <class Attributes>
  const Attributes& as() const noexcept {
    return *static_cast<const Attributes*>(attributes);
  }
};

/// One call of a kernel: part `part` of `parts`. Every part writes its own elements of the outputs, computed the same
/// way whatever thread runs it, so results do not depend on the number of threads.
struct Work : Operands {
  std::uint32_t part = 0;
  std::uint32_t parts = 1;
  Isa isa = Isa::Baseline;
  void* scratch = nullptr;  ///< this thread's own, aligned to 64, of the size that scratch_bytes() asked for

  /// Runs one of the step's bodies: body < the operator's kBodies. The body uses the same scratch.
  Status (*run_body)(void* context, std::uint32_t body) = nullptr;
  void* body_context = nullptr;
};

/// The half-open range of `items` that part `part` of `parts` owns; ranges are multiples of `grain` but for the last.
struct PartRange {
  std::int64_t begin;
  std::int64_t end;
};
constexpr PartRange part_range(std::int64_t items, std::uint32_t part, std::uint32_t parts,
                               std::int64_t grain = 1) noexcept {
  const std::int64_t grains = ceil_div(items, grain);
  const std::int64_t share = grains / parts;
  const std::int64_t extra = grains % parts;
  const auto first = [&](std::int64_t p) { return (share * p + (p < extra ? p : extra)) * grain; };
  const std::int64_t end = first(static_cast<std::int64_t>(part) + 1);
  return {first(part), end < items ? end : items};
}

inline constexpr std::uint32_t kMaxBodies = 2;

/// An operator is a struct with these static members; Attributes is a trivially copyable struct without padding, with
/// the same layout on every supported target (little-endian, fixed-width members).
///
///   struct Softmax {
///     static constexpr std::uint16_t kId;        // from operators.def
///     static constexpr const char* kName;
///     using Attributes = ...;
///     // Null when the kernel can run these operands without leaving them; else what is wrong. Data pointers are
///     // null here. The views themselves were checked before (inside their storage, extents >= 0, rank <= 8).
///     static const char* check(const Operands&);
///     // Bytes of scratch that one thread needs; the maximum over instruction sets.
///     static std::uint64_t scratch_bytes(const Operands&);
///     static Status run(const Work&);
///     static constexpr std::uint32_t kBodies;    // optional: how many bodies the step owns; 0 when left out
///   };
struct OperatorEntry {
  std::uint16_t id;
  std::uint32_t attribute_bytes;
  std::uint32_t bodies;
  const char* name;
  const char* (*check)(const Operands&);
  std::uint64_t (*scratch_bytes)(const Operands&);
  Status (*run)(const Work&);
};

template <class Op, class = void>
inline constexpr std::uint32_t kBodiesOf = 0;
template <class Op>
inline constexpr std::uint32_t kBodiesOf<Op, std::void_t<decltype(Op::kBodies)>> = Op::kBodies;

template <class Op>
constexpr OperatorEntry entry_of() noexcept {
  using Attributes = typename Op::Attributes;
  static_assert(std::is_trivially_copyable_v<Attributes> && alignof(Attributes) <= 16);
  static_assert(kBodiesOf<Op> <= kMaxBodies);
  return {Op::kId,   static_cast<std::uint32_t>(sizeof(Attributes)), kBodiesOf<Op>, Op::kName, &Op::check,
          &Op::scratch_bytes, &Op::run};
}

/// For operators without attributes.
struct NoAttributes {
  std::uint32_t reserved = 0;
};

/// The operators that a program carries: firmware names those that its plan needs, others take AllOperators.
template <class... Ops>
struct OperatorSet {
  static constexpr std::size_t kCount = sizeof...(Ops);
  static const OperatorEntry* find(std::uint16_t id) noexcept {
    static constexpr OperatorEntry kEntries[] = {entry_of<Ops>()...};
    for (const OperatorEntry& entry : kEntries) {
      if (entry.id == id) return &entry;
    }
    return nullptr;
  }
};

}  // namespace edgert::cpu
