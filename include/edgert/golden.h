// SPDX-License-Identifier: Apache-2.0
// Holding an output against the golden vector of a plan.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "edgert/cpu/ordered_elements.h"
#include "edgert/types.h"

namespace edgert {

namespace golden_detail {

template <class T>
bool close(T actual, T expected, float absolute, float relative) noexcept {
  const auto a = cpu::number_of(actual);
  const auto b = cpu::number_of(expected);
  if (a == b || cpu::compare_numbers(a, b) == 0) return true;
  if constexpr (std::is_floating_point_v<decltype(a)>) {
    const double difference = static_cast<double>(a) - static_cast<double>(b);
    const double size = static_cast<double>(b < 0 ? -b : b);
    // Not so for a NaN, nor for an infinity beside a number.
    const double limit = static_cast<double>(absolute) + static_cast<double>(relative) * size;
    return limit < std::numeric_limits<double>::infinity() && difference <= limit && -difference <= limit;
  }
  return false;
}

template <class T>
bool agrees(const TensorView& actual, const TensorView& largest, const std::byte* expected, float absolute,
            float relative) noexcept {
  const std::int64_t count = largest.elements();
  for (std::int64_t i = 0; i < count; ++i) {
    bool inside = true;
    std::int64_t rest = i;
    for (std::uint32_t d = largest.rank; d-- > 0; rest /= largest.dims[d]) inside = inside && rest % largest.dims[d] < actual.dims[d];
    T golden;
    std::memcpy(&golden, expected + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    // An output is dense at its largest, so element i of it lies at i.
    if (inside && !close(actual.as<const T>()[i], golden, absolute, relative)) return false;
    for (std::size_t b = 0; !inside && b < sizeof(T); ++b) {
      if (expected[static_cast<std::size_t>(i) * sizeof(T) + b] != std::byte{0xff}) return false;
    }
  }
  return true;
}

}  // namespace golden_detail

/// Whether the output `actual`, whose extents are at most those of `largest`, is what the golden vector `expected` says:
/// floats with |a - b| <= absolute + relative * |b| (or both NaN), everything else to the bit. Elements that are outside
/// of the actual extents must be outside of the recorded ones.
inline bool agrees_with_golden(const TensorView& actual, const TensorView& largest, const std::byte* expected,
                               float absolute, float relative) noexcept {
  if (is_empty(largest)) return true;
  if (bits_of(largest.dtype) < 8) {
    std::uint64_t bytes = 0;
    return span_bytes(largest, bytes) && std::memcmp(actual.data, expected, static_cast<std::size_t>(bytes)) == 0;
  }
  return cpu::with_element_type(largest.dtype, [&](auto type) {
    return golden_detail::agrees<decltype(type)>(actual, largest, expected, absolute, relative);
  });
}

}  // namespace edgert
