// SPDX-License-Identifier: Apache-2.0
// Overflow-safe arithmetic: the only place where sizes and offsets from a plan are added and multiplied.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgert {

/// out = a + b; false, and out untouched, when that does not fit.
[[nodiscard]] constexpr bool checked_add(std::uint64_t a, std::uint64_t b, std::uint64_t& out) noexcept {
  if (a > UINT64_MAX - b) return false;
  out = a + b;
  return true;
}

/// out = a * b; false, and out untouched, when that does not fit.
[[nodiscard]] constexpr bool checked_mul(std::uint64_t a, std::uint64_t b, std::uint64_t& out) noexcept {
  if (b != 0 && a > UINT64_MAX / b) return false;
  out = a * b;
  return true;
}

constexpr bool is_power_of_two(std::uint64_t value) noexcept { return value != 0 && (value & (value - 1)) == 0; }

/// out = value rounded up to a multiple of `alignment`, a power of two; false when that does not fit.
[[nodiscard]] constexpr bool checked_align(std::uint64_t value, std::uint64_t alignment, std::uint64_t& out) noexcept {
  std::uint64_t sum = 0;
  if (!is_power_of_two(alignment) || !checked_add(value, alignment - 1, sum)) return false;
  out = sum & ~(alignment - 1);
  return true;
}

/// Whether [offset, offset + size) lies inside [0, limit). Written by subtraction, so nothing can wrap.
constexpr bool in_range(std::uint64_t offset, std::uint64_t size, std::uint64_t limit) noexcept {
  return size <= limit && offset <= limit - size;
}

/// `value` rounded up to a multiple of `alignment` for values that were checked before.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) noexcept {
  return (value + alignment - 1) & ~(alignment - 1);
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }

}  // namespace edgert
