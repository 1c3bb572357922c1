// SPDX-License-Identifier: Apache-2.0
// Plain CPU references of the kernels, in double, from the same 16-bit inputs. Beside each value stands the sum of the
// magnitudes that went into it, from which the allowed error follows.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "bench/gpu_networks.h"
#include "edgert/scalar/convert.h"

namespace edgert::bench {

struct Reference {
  std::vector<double> value, magnitude;  // before the epilogue's rounding; channels last, dense
};

inline void parallel(int count, const std::function<void(int)>& body) {
  const unsigned threads = std::max(1u, std::min(16u, std::thread::hardware_concurrency()));
  std::vector<std::thread> pool;
  for (unsigned t = 0; t < threads; ++t) {
    pool.emplace_back([=, &body] {
      for (int i = static_cast<int>(t); i < count; i += static_cast<int>(threads)) body(i);
    });
  }
  for (std::thread& thread : pool) thread.join();
}

inline double activate(const scalar::Epilogue& e, double x) {
  switch (e.activation) {
    case scalar::PointwiseOp::Relu: return x < 0 ? 0 : x;
    case scalar::PointwiseOp::Clip: return std::min(std::max(x, double(e.alpha)), double(e.beta));
    case scalar::PointwiseOp::Silu: return x / (1 + std::exp(-x));
    default: return x;
  }
}

/// x: channels last with the shape's pitch (or float planes already rounded to half); w: [M][C][kh][kw] as rounded.
inline Reference conv_reference(const codegen::ConvShape& s, const std::vector<float>& x, const std::vector<float>& w,
                                const std::vector<float>& bias, const std::vector<float>& residual) {
  Reference out;
  const std::size_t total = static_cast<std::size_t>(s.batch) * s.out_height * s.out_width * s.out_channels;
  out.value.assign(total, 0);
  out.magnitude.assign(total, 0);
  // [tap][channel][output], so that the inner loop runs along outputs.
  const int taps = s.kernel[0] * s.kernel[1];
  std::vector<float> by_tap(w.size());
  for (int m = 0; m < s.out_channels; ++m)
    for (int c = 0; c < s.channels; ++c)
      for (int t = 0; t < taps; ++t) by_tap[(std::size_t(t) * s.channels + c) * s.out_channels + m] = w[(std::size_t(m) * s.channels + c) * taps + t];
  const int pixels = s.out_height * s.out_width;
  parallel(s.batch * pixels, [&](int p) {
    const int image = p / pixels, oh = p % pixels / s.out_width, ow = p % s.out_width;
    std::vector<double> sum(static_cast<std::size_t>(s.out_channels), 0.0), size(sum);
    for (int t = 0; t < taps; ++t) {
      const int h = oh * s.stride[0] - s.pad[0] + t / s.kernel[1] * s.dilation[0];
      const int v = ow * s.stride[1] - s.pad[1] + t % s.kernel[1] * s.dilation[1];
      if (h < 0 || h >= s.height || v < 0 || v >= s.width) continue;
      for (int c = 0; c < s.channels; ++c) {
        const std::size_t at = s.float_planes ? ((std::size_t(image) * s.channels + c) * s.height + h) * s.width + v
                                              : ((std::size_t(image) * s.height + h) * s.width + v) * s.input_pitch + c;
        const double value = x[at];
        if (value == 0) continue;
        const float* row = &by_tap[(std::size_t(t) * s.channels + c) * s.out_channels];
        for (int m = 0; m < s.out_channels; ++m) {
          sum[m] += value * row[m];
          size[m] += std::fabs(value * row[m]);
        }
      }
    }
    for (int m = 0; m < s.out_channels; ++m) {
      double y = sum[m] + (s.bias ? bias[m] : 0);
      double r = 0;
      if (s.epilogue.residual != scalar::ResidualMode::None) r = residual[std::size_t(p) * s.residual_pitch + m];
      y = s.epilogue.residual == scalar::ResidualMode::BeforeActivation ? activate(s.epilogue, y + r) : activate(s.epilogue, y) + r;
      out.value[std::size_t(p) * s.out_channels + m] = y;
      out.magnitude[std::size_t(p) * s.out_channels + m] = size[m] + std::fabs(r) + (s.bias ? std::fabs(bias[m]) : 0);
    }
  });
  return out;
}

inline Reference window_reference(const codegen::WindowShape& s, const std::vector<float>& x, const std::vector<float>& w,
                                  const std::vector<float>& bias) {
  Reference out;
  const int pixels = s.out_height * s.out_width;
  const int taps = s.kernel[0] * s.kernel[1];
  for (int p = 0; p < s.batch * pixels; ++p) {
    const int image = p / pixels, oh = p % pixels / s.out_width, ow = p % s.out_width;
    for (int c = 0; c < s.channels; ++c) {
      double sum = s.kind == codegen::WindowKind::Maximum ? -1e30 : 0, size = 0;
      int count = 0;
      for (int t = 0; t < taps; ++t) {
        const int h = oh * s.stride[0] - s.pad[0] + t / s.kernel[1] * s.dilation[0];
        const int v = ow * s.stride[1] - s.pad[1] + t % s.kernel[1] * s.dilation[1];
        if (h < 0 || h >= s.height || v < 0 || v >= s.width) continue;
        const double value = x[((std::size_t(image) * s.height + h) * s.width + v) * s.input_pitch + c];
        ++count;
        if (s.kind == codegen::WindowKind::Maximum) sum = std::max(sum, value);
        else sum += value * (s.kind == codegen::WindowKind::Depthwise ? w[std::size_t(c) * taps + t] : 1.0);
        size += std::fabs(value) * (s.kind == codegen::WindowKind::Depthwise ? std::fabs(w[std::size_t(c) * taps + t]) : 1.0);
      }
      if (s.kind == codegen::WindowKind::Average) sum /= s.count_padding ? taps : count;
      if (s.kind == codegen::WindowKind::Depthwise && s.bias) sum += bias[c], size += std::fabs(bias[c]);
      out.value.push_back(activate(s.epilogue, sum));
      out.magnitude.push_back(size);
    }
  }
  return out;
}

inline Reference gemv_reference(const codegen::GemvShape& s, const std::vector<float>& x, const std::vector<float>& w,
                                const std::vector<float>& bias) {
  Reference out;
  for (int m = 0; m < s.rows; ++m) {
    std::vector<double> mean(static_cast<std::size_t>(s.depth)), size(mean);
    for (int p = 0; p < s.pixels; ++p)
      for (int k = 0; k < s.depth; ++k) {
        const double value = x[(std::size_t(m) * s.pixels + p) * s.input_pitch + k] / double(s.pixels);
        mean[k] += value;
        size[k] += std::fabs(value);
      }
    for (int n = 0; n < s.outputs; ++n) {
      double sum = s.bias ? bias[n] : 0, all = std::fabs(sum);
      for (int k = 0; k < s.depth; ++k) {
        sum += mean[k] * w[std::size_t(n) * s.depth + k];
        all += size[k] * std::fabs(w[std::size_t(n) * s.depth + k]);
      }
      out.value.push_back(activate(s.epilogue, sum));
      out.magnitude.push_back(all);
    }
  }
  return out;
}

/// Elements outside the bound. Products of 16-bit numbers are exact in float; their sum loses at most about 2^-19 of the
/// magnitudes in the tensor cores' float accumulators, and the result is rounded once to 11 (half) or 8 bits.
inline std::size_t count_wrong(const Reference& reference, const std::function<double(std::size_t)>& actual, double rounding) {
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < reference.value.size(); ++i) {
    const double bound = rounding * std::fabs(reference.value[i]) + 0x1p-19 * reference.magnitude[i] + 1e-7;
    wrong += !(std::fabs(actual(i) - reference.value[i]) <= bound);
  }
  return wrong;
}

}  // namespace edgert::bench
