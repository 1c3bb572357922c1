// SPDX-License-Identifier: Apache-2.0
// Determinants of square matrices by Gaussian elimination with partial pivoting, in double.
// Inputs: x [B, M, M] float or double, any strides. Outputs: y [B] of x's type, any stride.
#pragma once

#include <cstdint>

#include "edgert/cpu/operator.h"
#include "edgert/cpu/strided.h"
#include "edgert/scalar/math.h"

namespace edgert::cpu {

namespace determinant_detail {

/// Of the row-major matrix at `m`, which is overwritten.
inline double determinant(double* m, std::int64_t size) noexcept {
  double product = 1.0;
  for (std::int64_t k = 0; k < size; ++k) {
    std::int64_t pivot = k;
    for (std::int64_t i = k + 1; i < size; ++i) {
      if (scalar::abs(m[i * size + k]) > scalar::abs(m[pivot * size + k])) pivot = i;
    }
    const double divisor = m[pivot * size + k];
    if (divisor == 0.0) return 0.0;
    for (std::int64_t j = k; j < size && pivot != k; ++j) {
      const double kept = m[k * size + j];
      m[k * size + j] = m[pivot * size + j];
      m[pivot * size + j] = kept;
    }
    product *= pivot != k ? -divisor : divisor;
    for (std::int64_t i = k + 1; i < size; ++i) {
      const double factor = m[i * size + k] / divisor;
      for (std::int64_t j = k + 1; j < size; ++j) m[i * size + j] -= factor * m[k * size + j];
    }
  }
  return product;
}

template <class T>
void run(const Work& work) noexcept {
  const TensorView& x = work.in(0);
  const TensorView& y = work.out(0);
  const std::int64_t size = x.dims[1];
  double* const matrix = static_cast<double*>(work.scratch);
  const PartRange range = part_range(y.dims[0], work.part, work.parts);
  for (std::int64_t b = range.begin; b < range.end; ++b) {
    const T* const from = static_cast<const T*>(x.data) + (size == 0 ? 0 : b * x.strides[0]);
    for (std::int64_t i = 0; i < size; ++i) {
      for (std::int64_t j = 0; j < size; ++j) {
        matrix[i * size + j] = static_cast<double>(from[i * x.strides[1] + j * x.strides[2]]);
      }
    }
    static_cast<T*>(y.data)[b * y.strides[0]] = static_cast<T>(determinant(matrix, size));
  }
}

}  // namespace determinant_detail

struct Determinant {
  static constexpr std::uint16_t kId = 62;
  static constexpr const char* kName = "Determinant";
  using Attributes = NoAttributes;

  static const char* check(const Operands& operands) {
    if (const char* wrong = check_operands(operands, 1)) return wrong;
    const TensorView& x = operands.in(0);
    const TensorView& y = operands.out(0);
    if (x.dtype != y.dtype || (x.dtype != DType::F32 && x.dtype != DType::F64)) return "types are not float or double";
    if (x.rank != 3 || x.dims[1] != x.dims[2]) return "the input is no batch of square matrices";
    if (x.dims[1] > 4096) return "matrices of more than 4096 rows";  // which take more scratch than there may be
    if (y.rank != 1 || y.dims[0] != x.dims[0]) return "output's dims do not follow from the input's";
    return nullptr;
  }
  static std::uint64_t scratch_bytes(const Operands& operands) {
    return static_cast<std::uint64_t>(operands.in(0).dims[1] * operands.in(0).dims[1]) * sizeof(double);
  }
  static Status run(const Work& work) {
    if (is_empty(work.out(0))) return {};
    if (work.in(0).dtype == DType::F32) {
      determinant_detail::run<float>(work);
    } else {
      determinant_detail::run<double>(work);
    }
    return {};
  }
};

}  // namespace edgert::cpu
