// SPDX-License-Identifier: Apache-2.0
// How fast the device is at what kernels cannot do without: reading, multiplying on tensor cores, multiplying in f32, and
// following another kernel.
// For floors of measured times (offline_builder/cli/device_rates.h); no plan contains these.
#include "kernels/common/ptx.h"

namespace edgert::device {

/// Reads all vectors `rounds` times, past the first-level cache.
extern "C" __global__ void __launch_bounds__(512) read_rate(const uint4* data, int vectors, int rounds, uint4* out) {
  uint4 sum = {0, 0, 0, 0};
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  for (int round = 0; round < rounds; ++round) {
#pragma unroll 8
    for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < vectors; i += stride) {
      const uint4 v = __ldcg(data + i);
      sum.x ^= v.x, sum.y ^= v.y, sum.z ^= v.z, sum.w ^= v.w;
    }
  }
  if (sum.x == 0x12345678u) *out = sum;  // never, but the compiler cannot know
}

/// 8 products of 16x8x16 a warp and round.
extern "C" __global__ void __launch_bounds__(256) tensor_rate(int rounds, float* out) {
  float d[8][4] = {};
  const uint32 a[4] = {threadIdx.x, threadIdx.x, threadIdx.x, threadIdx.x};
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < 8; ++i) F16::multiply(d[i], a, threadIdx.x, static_cast<uint32>(i));
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum += d[i][0] + d[i][1] + d[i][2] + d[i][3];
  if (sum == 12345.0f) *out = sum;
}

/// 64 multiply-adds a thread and round.
extern "C" __global__ void __launch_bounds__(256) float_rate(int rounds, float factor, float* out) {
  float d[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) d[i] = static_cast<float>(i + static_cast<int>(threadIdx.x));
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < 64; ++i) d[i % 16] = d[i % 16] * factor + 1.0f;
  }
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 16; ++i) sum += d[i];
  if (sum == 12345.0f) *out = sum;
}

/// Waits for the kernel before it, and nothing else.
extern "C" __global__ void __launch_bounds__(32) empty_step() {
  allow_next_grid();
  wait_for_previous_grid();
}

}  // namespace edgert::device
