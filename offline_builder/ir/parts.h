// SPDX-License-Identifier: Apache-2.0
// How large a piece of a step is worth a thread's attention.
#pragma once

#include <cstdint>

namespace edgert::ir {

/// Some three microseconds of one thread. A step has as many parts as it has work of this size (OperatorDef::work).
inline constexpr std::uint64_t kMultiplyAddsPerPart = 1u << 17;
inline constexpr std::uint64_t kElementsPerPart = 1u << 14;

}  // namespace edgert::ir
