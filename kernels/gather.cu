// SPDX-License-Identifier: Apache-2.0
// y[i..., j..., k...] = data[i..., indices[j...], k...]; a negative index counts from the end. Where an index is out of
// range nothing is read and the result is zero: a kernel cannot return an error. problem.h holds the nest of y, data and
// indices (offline_builder/codegen/move_kernel.h).
#include "kernels/common/element.h"
#include "kernels/common/nest.h"
#include "problem.h"

namespace edgert::device {

extern "C" __global__ void __launch_bounds__(problem::kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS EDGERT_EXTENT_PARAMETERS) {
  using namespace problem;
  allow_next_grid();
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  Index offset[3] = {};
  locate<Walk>(item, offset);
  wait_for_previous_grid();
  if (item >= Walk::kCount) return;
  const Index extent = EDGERT_AXIS_EXTENT;
  int64 index = static_cast<int64>(x1[offset[2]]);
  if (index < 0) index += extent;
  Values<From, kVector> in = {};
  if (index >= 0 && index < extent) {
    const From::Storage* from = x0 + offset[1] + static_cast<Index>(index) * kAxisStride;
    in = load_values<From, kVector>(from);
  }
  Values<To, kVector> out;
#pragma unroll
  for (int i = 0; i < kVector; ++i) out.value[i] = convert<To, From>(in.value[i]);
  store_values(y + offset[0], out);
}

}  // namespace edgert::device
