// SPDX-License-Identifier: Apache-2.0
// Instructions that work on the matrices of a warp, from the tables that say which lane holds which element.
#include <cstring>

#include "edgert/scalar/convert.h"
#include "machine.h"

namespace emulation {
namespace {

using edgert::scalar::bit_cast;

/// Rows and columns of a and b as numbers; kDepth is how long the products' sums are.
template <int kDepth>
struct Operands {
  double a[16][kDepth], b[8][kDepth];
};

template <int kDepth>
void multiply(WarpSlot& slot, const Operands<kDepth>& operands) {
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      // Lane 4 * (row % 8) + column / 2 holds this element of d in register 2 * (row / 8) + column % 2.
      const int owner = row % 8 * 4 + column / 2;
      const int reg = row / 8 * 2 + column % 2;
      double sum = bit_cast<float>(static_cast<unsigned>(slot.in[owner][6 + reg / 2] >> (reg % 2 * 32)));
      for (int k = 0; k < kDepth; ++k) sum += operands.a[row][k] * operands.b[column][k];
      slot.out[owner][reg] = bit_cast<unsigned>(static_cast<float>(sum));
    }
  }
}

template <class Half>
void multiply_halves(WarpSlot& slot) {
  const auto number = [](std::uint64_t word, int which) {
    return static_cast<double>(edgert::scalar::to_float(Half{static_cast<unsigned short>(word >> (which * 16))}));
  };
  Operands<16> operands;
  for (int k = 0; k < 16; ++k) {
    for (int row = 0; row < 16; ++row) operands.a[row][k] = number(slot.in[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k % 2);
    for (int column = 0; column < 8; ++column) operands.b[column][k] = number(slot.in[column * 4 + k % 8 / 2][4 + k / 8], k % 2);
  }
  multiply(slot, operands);
}

void multiply_tf32_warp(WarpSlot& slot) {
  // The lowest 13 bits of an operand are not looked at.
  const auto number = [](std::uint64_t word) { return static_cast<double>(bit_cast<float>(static_cast<unsigned>(word) & 0xffffe000u)); };
  Operands<8> operands;
  for (int k = 0; k < 8; ++k) {
    for (int row = 0; row < 16; ++row) operands.a[row][k] = number(slot.in[row % 8 * 4 + k % 4][row / 8 + k / 4 * 2]);
    for (int column = 0; column < 8; ++column) operands.b[column][k] = number(slot.in[column * 4 + k % 4][4 + k / 4]);
  }
  multiply(slot, operands);
}

void multiply_together(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, void (*compute)(WarpSlot&)) {
  std::uint64_t operands[8] = {a[0], a[1], a[2], a[3], b0, b1, 0, 0};
  for (int i = 0; i < 4; ++i) operands[6 + i / 2] |= std::uint64_t{bit_cast<unsigned>(d[i])} << (i % 2 * 32);
  const std::uint64_t* out = together(operands, 8, compute);
  for (int i = 0; i < 4; ++i) d[i] = bit_cast<float>(static_cast<unsigned>(out[i]));
}

template <bool kTransposed>
void load_matrices_of(WarpSlot& slot) {
  const auto element = [&](int matrix, int line, int column) {
    std::uint16_t value;
    std::memcpy(&value, reinterpret_cast<const unsigned char*>(static_cast<std::uintptr_t>(slot.in[matrix * 8 + line][0])) + column * 2, 2);
    return std::uint32_t{value};
  };
  for (int lane = 0; lane < 32; ++lane) {
    const int pair = lane % 4 * 2;
    for (int matrix = 0; matrix < 4; ++matrix) {
      const std::uint32_t low = kTransposed ? element(matrix, pair, lane / 4) : element(matrix, lane / 4, pair);
      const std::uint32_t high = kTransposed ? element(matrix, pair + 1, lane / 4) : element(matrix, lane / 4, pair + 1);
      slot.out[lane][matrix] = low | high << 16;
    }
  }
}

}  // namespace

void multiply_f16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  multiply_together(d, a, b0, b1, multiply_halves<edgert::scalar::Half>);
}
void multiply_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  multiply_together(d, a, b0, b1, multiply_halves<edgert::scalar::BFloat16>);
}
void multiply_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { multiply_together(d, a, b0, b1, multiply_tf32_warp); }

void load_matrices(unsigned (&out)[4], unsigned row, bool transposed) {
  const std::uint64_t pointer = reinterpret_cast<std::uintptr_t>(at(row, 16, 16));
  const std::uint64_t* result = together(&pointer, 1, transposed ? load_matrices_of<true> : load_matrices_of<false>);
  for (int i = 0; i < 4; ++i) out[i] = static_cast<unsigned>(result[i]);
}

}  // namespace emulation
