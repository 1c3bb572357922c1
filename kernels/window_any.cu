// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution, maximum and average pooling over tensors of any strides and types; kernels/window.cu is made for
// 16-bit channels-last ones. A thread computes one output, or kVector neighbouring channels of one. Depthwise weights lie
// as floats [tap][channel]. problem.h holds the nest of y, x and residual over y's dimensions in the order of y's memory
// (offline_builder/codegen/window_any_kernel.h).
#include "kernels/common/element.h"
#include "problem.h"

namespace edgert::device {
namespace {

using namespace problem;
using Value = X::Value;

enum Kind { kMaximum = 0, kAverage = 1, kDepthwise = 2 };

__device__ __forceinline__ Value start() {
  if constexpr (kKind != kMaximum) return Value{0};
  else if constexpr (kIsFloating<Value>) return -static_cast<Value>(scalar::infinity_f32());
  else return kIsSigned<Value> ? static_cast<Value>(uint64{1} << 63) : Value{0};
}

/// How many of `kernel` elements from `first` on, `dilation` apart, lie in [begin, end).
__device__ __forceinline__ int inside(Index first, int kernel, int dilation, Index begin, Index end) {
  int count = 0;
#pragma unroll 8
  for (int k = 0; k < kernel; ++k) {
    const Index at = first + k * dilation;
    count += at >= begin && at < end;
  }
  return count;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads) EDGERT_ENTRY(EDGERT_PARAMETERS) {
  allow_next_grid();
  const Index item = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  Index rest = item;
  Index at[4] = {};  // image, channel, row, column
  Index to = 0;
  Index from = 0;
  Index other = 0;
#pragma unroll
  for (int d = 3; d >= 0; --d) {
    const Index position = d == 0 ? rest : rest % Walk::extent(d);
    rest /= Walk::extent(d);
    at[dimension(d)] = position * (d == 3 ? kVector : 1);
    to += position * Walk::stride(0, d);
    if (dimension(d) < 2) from += position * Walk::stride(1, d);
    other += position * Walk::stride(2, d);
  }
  const Index top = at[2] * kStrideHeight - kPadTop;
  const Index left = at[3] * kStrideWidth - kPadLeft;
  wait_for_previous_grid();
  if (item >= Walk::kCount) return;

  Value sum[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum[i] = start();
#pragma unroll kUnrollRows
  for (int r = 0; r < kKernelHeight; ++r) {
#pragma unroll kUnrollColumns
    for (int s = 0; s < kKernelWidth; ++s) {
      const Index h = top + r * kDilationHeight;
      const Index w = left + s * kDilationWidth;
      if (h < 0 || h >= kHeight || w < 0 || w >= kWidth) continue;
      const Values<X, kVector> in = load_values<X, kVector>(x0 + from + h * kRowStride + w * kColumnStride);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const Value x = in.value[i];
        if constexpr (kKind == kMaximum) sum[i] = x > sum[i] ? x : sum[i];
        else if constexpr (kKind == kAverage) sum[i] += x;
        else sum[i] += x * EDGERT_WEIGHTS[(r * kKernelWidth + s) * kChannels + at[1] + i];
      }
    }
  }
  Values<Y, kVector> out;
  Value divisor = Value{1};
  if constexpr (kKind == kAverage) {
    const int rows = inside(top, kKernelHeight, kDilationHeight, kCountPadding ? -kPadTop : 0, kHeight + (kCountPadding ? kPadBottom : 0));
    const int columns = inside(left, kKernelWidth, kDilationWidth, kCountPadding ? -kPadLeft : 0, kWidth + (kCountPadding ? kPadRight : 0));
    divisor = static_cast<Value>(rows * columns == 0 ? 1 : rows * columns);
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    Value value = sum[i];
    if constexpr (kKind == kAverage) value /= divisor;
    if constexpr (kKind == kDepthwise) {
      if constexpr (kHasBias) value += static_cast<Value>(Bias::load(EDGERT_BIAS[(at[1] + i) * kBiasStride]));
      float residual = 0.0f;
      if constexpr (kResidual != scalar::ResidualMode::None) residual = static_cast<float>(Residual::load(EDGERT_RESIDUAL[other + i * kResidualStep]));
      if constexpr (kResidual == scalar::ResidualMode::BeforeActivation) value += residual;
      value = scalar::float_unary<kActivation>(static_cast<float>(value), kAlpha, kBeta);
      if constexpr (kResidual == scalar::ResidualMode::AfterActivation) value += residual;
    }
    out.value[i] = static_cast<Y::Value>(value);
  }
  store_values(y + to, out);
}

}  // namespace edgert::device
