// SPDX-License-Identifier: Apache-2.0
// Plain CPU references of the kernels, in double, from the same 16-bit inputs. Beside each value stands the sum of the
// magnitudes that went into it, from which the allowed error follows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
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
    case scalar::PointwiseOp::Gelu: return 0.5 * x * std::erfc(-x * 0.70710678118654752);
    case scalar::PointwiseOp::Sigmoid: return 1 / (1 + std::exp(-x));
    case scalar::PointwiseOp::HardSigmoid: return std::min(std::max(x * double(e.alpha) + double(e.beta), 0.0), 1.0);
    case scalar::PointwiseOp::HardSwish: return x * std::min(std::max(x / 6 + 0.5, 0.0), 1.0);
    case scalar::PointwiseOp::Tanh: return std::tanh(x);
    default: return x;
  }
}

/// Mean and reciprocal deviation of `count` numbers.
inline std::pair<double, double> statistics(const float* x, int count, double epsilon) {
  double mean = 0, variance = 0;
  for (int k = 0; k < count; ++k) mean += double(x[k]) / count;
  for (int k = 0; k < count; ++k) variance += (x[k] - mean) * (x[k] - mean) / count;
  return {mean, 1 / std::sqrt(variance + epsilon)};
}

/// x: channels last with the shape's pitch (or float planes already rounded to half); w: [M][C][kh][kw] as rounded.
inline Reference conv_reference(const codegen::ConvShape& s, const std::vector<float>& x, const std::vector<float>& w,
                                const std::vector<float>& bias, const std::vector<float>& residual, const std::vector<float>& scale) {
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
    std::pair<double, double> row = {0, 1};  // with layer_norm, weights and bias are those of fold_layer_norm()
    if (s.layer_norm) row = statistics(&x[std::size_t(p) * s.input_pitch], s.channels, s.epsilon);
    for (int t = 0; t < taps; ++t) {
      const int h = oh * s.stride[0] - s.pad[0] + t / s.kernel[1] * s.dilation[0];
      const int v = ow * s.stride[1] - s.pad[1] + t % s.kernel[1] * s.dilation[1];
      if (h < 0 || h >= s.height || v < 0 || v >= s.width) continue;
      for (int c = 0; c < s.channels; ++c) {
        const std::size_t at = s.image ? ((std::size_t(image) * s.channels + c) * s.height + h) * s.width + v
                                              : ((std::size_t(image) * s.height + h) * s.width + v) * s.input_pitch + c;
        const double factor = s.scaled ? double(scale[std::size_t(image) * s.channels + c]) : row.second;
        const double value = (x[at] - row.first) * factor;
        if (value == 0) continue;
        // A product with a factor is rounded before it is multiplied and added.
        const double magnitude = (std::fabs(x[at]) + std::fabs(row.first)) * std::fabs(factor) * (s.scaled ? 0x1p8 * 1.01 : 1.0);
        const float* weights = &by_tap[(std::size_t(t) * s.channels + c) * s.out_channels];
        for (int m = 0; m < s.out_channels; ++m) {
          sum[m] += value * weights[m];
          size[m] += magnitude * std::fabs(weights[m]);
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
        const double value = x[(std::size_t(m) * s.pixels + p) * s.input_pitch + k] / double(s.divisor == 0 ? s.pixels : s.divisor);
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

/// The normalised input of a product with store_normalized; gamma and beta follow bias and sums.
inline Reference normalized_reference(const codegen::ConvShape& s, const std::vector<float>& x, const std::vector<float>& bias) {
  Reference out;
  const float* gamma = &bias[std::size_t(s.out_channels + 15) / 16 * 32];
  for (int p = 0; p < s.width; ++p) {
    const float* row = &x[std::size_t(p) * s.input_pitch];
    const auto [mean, scale] = statistics(row, s.channels, s.epsilon);
    double largest = 0;  // the mean's error is one of a sum over the row
    for (int k = 0; k < s.channels; ++k) largest = std::max(largest, std::fabs(double(row[k])));
    for (int k = 0; k < s.channels; ++k) {
      out.value.push_back((row[k] - mean) * scale * gamma[k] + gamma[s.channels + k]);
      out.magnitude.push_back((largest + std::fabs(mean)) * scale * std::fabs(gamma[k]) + std::fabs(gamma[s.channels + k]));
    }
  }
  return out;
}

/// qkv holds all three, at `part`; the mask, if any, is the same for all queries and heads.
inline Reference attention_reference(const codegen::AttentionShape& s, const std::size_t (&part)[3], const std::vector<float>& qkv,
                                     const std::vector<float>& mask) {
  Reference out;
  const std::size_t width = std::size_t(s.heads) * s.value_depth;
  out.value.resize(s.queries * width);
  out.magnitude.resize(s.queries * width);
  parallel(s.heads * s.queries, [&](int item) {
    const int h = item / s.queries, i = item % s.queries;
    const float* q = &qkv[part[0] + std::size_t(i * s.q.row + h * s.q.head)];
    std::vector<double> p(static_cast<std::size_t>(s.keys));
    double best = -1e300, largest = 0, total = 0;
    for (int j = 0; j < s.keys; ++j) {
      const float* k = &qkv[part[1] + std::size_t(j * s.k.row + h * s.k.head)];
      double dot = 0, size = 0;
      for (int c = 0; c < s.depth; ++c) dot += double(q[c]) * k[c], size += std::fabs(double(q[c]) * k[c]);
      p[j] = dot * s.scale + (mask.empty() ? 0 : double(mask[j]));
      best = std::max(best, p[j]);
      largest = std::max(largest, size * s.scale);
    }
    for (double& x : p) total += x = std::exp(x - best);
    for (int c = 0; c < s.value_depth; ++c) {
      double value = 0, size = 0;
      for (int j = 0; j < s.keys; ++j) {
        const double v = qkv[part[2] + std::size_t(j * s.v.row + h * s.v.head + c)];
        value += p[j] / total * v;
        size += p[j] / total * std::fabs(v);
      }
      out.value[std::size_t(i) * width + h * s.value_depth + c] = value;
      // Probabilities are rounded before the second product; exponents carry the error of float sums.
      out.magnitude[std::size_t(i) * width + h * s.value_depth + c] = size * (0x1p8 * 1.01 + largest * 0.5);
    }
  });
  return out;
}

/// y and the sums of all its pixels. Weights and bias: of the 1x1, then of the depthwise convolution, biases padded to 16.
inline std::pair<Reference, Reference> expand_reference(const codegen::ExpandShape& s, const std::vector<float>& x, const std::vector<float>& w,
                                                        const std::vector<float>& bias) {
  const std::size_t pixels = std::size_t(s.height) * s.width, out_pixels = std::size_t(s.out_height) * s.out_width;
  Reference y, sums;
  y.value.resize(out_pixels * s.hidden), y.magnitude.resize(y.value.size());
  sums.value.resize(s.hidden), sums.magnitude.resize(s.hidden);
  const std::size_t outer_weights = std::size_t(s.hidden) * s.channels, outer_bias = std::size_t(s.hidden + 15) / 16 * 16;
  parallel(s.hidden, [&](int c) {
    std::vector<double> hidden(pixels), error(pixels);
    for (std::size_t p = 0; p < pixels; ++p) {
      double sum = bias[c], size = std::fabs(sum);
      for (int k = 0; k < s.channels; ++k) {
        const double product = double(x[p * s.input_pitch + k]) * w[std::size_t(c) * s.channels + k];
        sum += product, size += std::fabs(product);
      }
      hidden[p] = activate(s.expand, sum);
      error[p] = 0x1p-11 * 1.01 * std::fabs(hidden[p]) + 0x1p-19 * size;  // rounded before the window slides over it
    }
    for (std::size_t p = 0; p < out_pixels; ++p) {
      double sum = bias[outer_bias + c], bound = 0x1p-19 * std::fabs(sum);
      for (int t = 0; t < s.window * s.window; ++t) {
        const int h = int(p) / s.out_width * s.stride - s.pad[0] + t / s.window, q = int(p) % s.out_width * s.stride - s.pad[1] + t % s.window;
        if (h < 0 || h >= s.height || q < 0 || q >= s.width) continue;
        const double weight = w[outer_weights + std::size_t(c) * s.window * s.window + t];
        sum += hidden[std::size_t(h) * s.width + q] * weight;
        bound += std::fabs(weight) * (1.5 * error[std::size_t(h) * s.width + q]);  // activations have slopes up to 1.5
      }
      const double value = activate(s.epilogue, sum);
      y.value[p * s.hidden + c] = value;
      y.magnitude[p * s.hidden + c] = 1.5 * bound * 0x1p19;
      sums.value[c] += value;
      sums.magnitude[c] += 1.5 * bound * 0x1p19 + std::fabs(value) * 0x1p8;
    }
  });
  return {y, sums};
}

/// `tables` one after the other; numbers[t] names the rows of table t, empty for their own order.
inline Reference rows_reference(const codegen::RowsShape& s, const std::vector<float>& tables, const std::vector<std::vector<int>>& numbers,
                                const std::vector<float>& parameters) {
  Reference out;
  for (int r = 0; r < s.rows; ++r) {
    std::vector<float> sum(static_cast<std::size_t>(s.depth), 0.0f);
    std::size_t table = 0;
    for (std::size_t t = 0; t < s.tables.size(); ++t) {
      const std::size_t row = static_cast<std::size_t>(numbers[t].empty() ? r : numbers[t][r]);
      for (int k = 0; k < s.depth; ++k) sum[k] += tables[table + row * s.tables[t].pitch + k];
      table += std::size_t(s.tables[t].rows) * s.tables[t].pitch;
    }
    const auto [mean, scale] = statistics(sum.data(), s.depth, s.epsilon);
    double largest = 0;
    for (const float x : sum) largest = std::max(largest, std::fabs(double(x)));
    for (int k = 0; k < s.depth; ++k) {
      out.value.push_back(s.normalize ? (sum[k] - mean) * scale * parameters[k] + parameters[s.depth + k] : double(sum[k]));
      out.magnitude.push_back(s.normalize ? (largest + std::fabs(mean)) * scale * std::fabs(parameters[k]) + std::fabs(parameters[s.depth + k])
                                          : std::fabs(double(sum[k])));
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
    if (std::fabs(actual(i) - reference.value[i]) <= bound) continue;
    if (wrong++ == 0) std::printf("element %zu: %.9g instead of %.9g, bound %.3g\n", i, actual(i), reference.value[i], bound);
  }
  return wrong;
}

}  // namespace edgert::bench
