// SPDX-License-Identifier: Apache-2.0
// Eight neighbouring channels of 16 bits to and from memory whose alignment allows fewer at once, and the last channels of
// a pixel, which may be fewer than eight.
#pragma once

#include "kernels/common/ptx.h"

namespace edgert::device {

/// Channels [0, count) at `from`, zeros beyond; kAtOnce (1, 2, 4 or 8) of them are loaded together where all exist, for
/// which the address must be aligned.
template <int kAtOnce>
__device__ __forceinline__ Vector16 load_channels(const uint16* from, int count) {
  Vector16 value = {};
  if constexpr (kAtOnce == 8) {
    if (count >= 8) return *reinterpret_cast<const Vector16*>(from);
  } else if constexpr (kAtOnce == 4) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (count < i * 4 + 4) continue;
      const uint2 pair = reinterpret_cast<const uint2*>(from)[i];
      value.word[i * 2] = pair.x, value.word[i * 2 + 1] = pair.y;
    }
  } else if constexpr (kAtOnce == 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (count >= i * 2 + 2) value.word[i] = reinterpret_cast<const uint32*>(from)[i];
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const bool loaded = kAtOnce > 1 && count >= (i / kAtOnce + 1) * kAtOnce;
    if (!loaded && i < count) value.word[i / 2] |= static_cast<uint32>(from[i]) << (i % 2 * 16);
  }
  return value;
}

/// The same to memory; nothing beyond `count`.
template <int kAtOnce>
__device__ __forceinline__ void store_channels(uint16* to, const Vector16& value, int count) {
  if constexpr (kAtOnce == 8) {
    if (count >= 8) {
      *reinterpret_cast<Vector16*>(to) = value;
      return;
    }
  } else if constexpr (kAtOnce == 4) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (count >= i * 4 + 4) reinterpret_cast<uint2*>(to)[i] = make_uint2(value.word[i * 2], value.word[i * 2 + 1]);
    }
  } else if constexpr (kAtOnce == 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (count >= i * 2 + 2) reinterpret_cast<uint32*>(to)[i] = value.word[i];
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const bool stored = kAtOnce > 1 && count >= (i / kAtOnce + 1) * kAtOnce;
    if (!stored && i < count) to[i] = static_cast<uint16>(value.word[i / 2] >> (i % 2 * 16));
  }
}

}  // namespace edgert::device
