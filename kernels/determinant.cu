// SPDX-License-Identifier: Apache-2.0
// Determinants by Gaussian elimination with partial pivoting, in double: a block a matrix, which lies in shared memory.
// problem.h: offline_builder/codegen/scatter_kernel.h.
#include "kernels/common/element.h"
#include "problem.h"

namespace edgert::device {

extern "C" __global__ void __launch_bounds__(problem::kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  using namespace problem;
  allow_next_grid();
  double* m = reinterpret_cast<double*>(dynamic_shared_memory());
  const int thread = static_cast<int>(threadIdx.x);
  const Index batch = static_cast<Index>(blockIdx.x);
  wait_for_previous_grid();
  for (int i = thread; i < kSize * kSize; i += kThreads) {
    m[i] = static_cast<double>(x_type::load(x[batch * x_stride(0) + i / kSize * x_stride(1) + i % kSize * x_stride(2)]));
  }
  __syncthreads();
  double product = 1.0;
  for (int k = 0; k < kSize; ++k) {
    // Every thread finds the same pivot.
    int pivot = k;
    for (int i = k + 1; i < kSize; ++i) {
      if (scalar::abs(m[i * kSize + k]) > scalar::abs(m[pivot * kSize + k])) pivot = i;
    }
    const double divisor = m[pivot * kSize + k];
    product *= pivot != k ? -divisor : divisor;
    if (divisor == 0.0) {
      product = 0.0;
      break;
    }
    __syncthreads();
    for (int j = k + thread; pivot != k && j < kSize; j += kThreads) {
      const double kept = m[k * kSize + j];
      m[k * kSize + j] = m[pivot * kSize + j];
      m[pivot * kSize + j] = kept;
    }
    __syncthreads();
    // A thread's elements of a row below: the first column is read by all and not written.
    const int rest = kSize - k - 1;
    for (int e = thread; e < rest * rest; e += kThreads) {
      const int i = k + 1 + e / rest;
      const int j = k + 1 + e % rest;
      m[i * kSize + j] -= m[i * kSize + k] / divisor * m[k * kSize + j];
    }
    __syncthreads();
  }
  if (thread == 0) y[batch * y_stride(0)] = y_type::store(static_cast<y_type::Value>(product));
}

}  // namespace edgert::device
