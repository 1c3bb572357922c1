// SPDX-License-Identifier: Apache-2.0
// A copy between tensors that are contiguous along different dimensions: squares of kTile by kTile elements pass through
// shared memory, so that both sides are read and written in runs. problem.h holds the outer dimensions as a nest of
// output and input, and the extents and far strides of the two inner ones (offline_builder/codegen/pointwise_kernel.h).
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {

extern "C" __global__ void __launch_bounds__(problem::kThreads) EDGERT_ENTRY(const problem::From::Storage* x, problem::To::Storage* y) {
  using namespace problem;
  using Storage = From::Storage;
  constexpr int kPitch = kTile + 1;
  Storage* tile = reinterpret_cast<Storage*>(dynamic_shared_memory());
  allow_next_grid();
  const Index block = static_cast<Index>(blockIdx.x);
  const Index row = block % kRowTiles * kTile;                  // along the dimension in which the input is contiguous
  const Index column = block / kRowTiles % kColumnTiles * kTile;  // and the output
  Index offset[2] = {};
  locate<Outer>(block / (kRowTiles * kColumnTiles), offset);
  const int fast = static_cast<int>(threadIdx.x) % kTile;
  const int slow = static_cast<int>(threadIdx.x) / kTile;
  wait_for_previous_grid();
#pragma unroll
  for (int i = slow; i < kTile; i += kThreads / kTile) {
    if (row + fast < kRows && column + i < kColumns) tile[i * kPitch + fast] = x[offset[1] + row + fast + (column + i) * kInputPitch];
  }
  __syncthreads();
#pragma unroll
  for (int i = slow; i < kTile; i += kThreads / kTile) {
    if (row + i < kRows && column + fast < kColumns) {
      y[offset[0] + (row + i) * kOutputPitch + column + fast] = To::store(convert<To, From>(From::load(tile[fast * kPitch + i])));
    }
  }
}

}  // namespace edgert::device
