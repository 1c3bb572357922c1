// SPDX-License-Identifier: Apache-2.0
// How much memory a session needs and what for: known before anything runs, constexpr for one plan.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"

namespace edgert {

/// What a session's memory is made of. For one plan these are constants: `edgert build --emit-header` writes them down.
struct SessionNeeds {
  std::uint32_t tensors = 0;   ///< of the largest profile, as are the following
  std::uint32_t operands = 0;
  std::uint32_t steps = 0;
  std::uint32_t lists = 0;
  std::uint32_t bindings = 0;
  std::uint64_t arena_bytes = 0;
  std::uint64_t state_bytes = 0;
  std::uint64_t io_bytes = 0;       ///< buffers of all inputs and outputs, each rounded up to 64
  std::uint64_t scratch_bytes = 0;  ///< of one thread, rounded up to 64
};

/// What prepare() makes of a plan's steps.
namespace detail {

struct PreparedStep {
  const cpu::OperatorEntry* entry;
  const void* attributes;
  std::uint32_t attribute_bytes;
  std::uint32_t first_operand;
  std::uint32_t inputs;
  std::uint32_t outputs;
  std::uint32_t parts;
  bool bounded;  ///< an operand has an extent that only a run knows
  std::uint16_t bodies[cpu::kMaxBodies];
};
struct PreparedList {
  std::uint32_t first_step;
  std::uint32_t steps;
};

}  // namespace detail

/// Bytes of memory, aligned to 64, that prepare() needs with that many threads: fixed + threads * scratch, exactly.
constexpr std::uint64_t session_bytes(const SessionNeeds& needs, std::uint32_t threads, bool external_io = false) noexcept {
  std::uint64_t bytes = align_up(std::uint64_t{needs.tensors} * sizeof(TensorView), 64);
  bytes += align_up(std::uint64_t{needs.operands} * sizeof(const TensorView*), 64);
  bytes += align_up(std::uint64_t{needs.steps} * sizeof(detail::PreparedStep), 64);
  bytes += align_up(std::uint64_t{needs.lists} * sizeof(detail::PreparedList), 64);
  bytes += align_up(2 * std::uint64_t{needs.bindings} * sizeof(void*), 64);
  bytes += align_up(needs.arena_bytes, 64) + align_up(needs.state_bytes, 64);
  bytes += external_io ? 0 : needs.io_bytes;
  return bytes + std::uint64_t{threads} * needs.scratch_bytes;
}

}  // namespace edgert
