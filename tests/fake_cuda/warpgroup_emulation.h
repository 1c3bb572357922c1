// SPDX-License-Identifier: Apache-2.0
// kernels/common/warpgroup.h for the host. A product reads its operands when it is asked for and again when it is waited for:
// that they are the same is what the program has to see to. Until then its sums are NaN.
#pragma once

#include "ptx_emulation.h"

namespace edgert::device {

constexpr int kMatrixRowBytes = 128;

inline constexpr uint32 swizzled(int row, int vector) {
  return static_cast<uint32>(row * kMatrixRowBytes + ((vector ^ row) & 7) * 16);
}
inline uint64 matrix_at(uint32 address) { return address; }

inline void publish_matrices() {}
inline void begin_products() {}
inline void commit_products() { emulation::close_products(); }
template <int kNewest>
inline void wait_for_products() {
  emulation::finish_products(kNewest);
}
template <int kBlocks>
inline void finish_products(float (&)[kBlocks][4]) {
  emulation::finish_products(0);
}
template <class Element, int kBlocks>
inline void multiply_group(float (&sum)[kBlocks][4], uint64 a, uint64 b) {
  const auto to_float = [](std::uint16_t bits) { return Element::to_float(bits); };
  emulation::multiply_group(&sum[0][0], 8 * kBlocks, static_cast<unsigned>(a), static_cast<unsigned>(b), to_float);
}

}  // namespace edgert::device
