// SPDX-License-Identifier: Apache-2.0
// Brings a later kernel's weights nearer: they may have to come from the device's memory, which takes longer than the
// kernels between. All blocks of the grid share the work, idle ones too.
#pragma once

#include "kernels/common/ptx.h"

namespace edgert::device {

__device__ __forceinline__ void prefetch_weights(const char* data, uint32 bytes, uint32 threads) {
  for (uint32 at = (blockIdx.x * threads + threadIdx.x) * 128; at < bytes; at += gridDim.x * threads * 128) prefetch_l2(data + at);
}

}  // namespace edgert::device
