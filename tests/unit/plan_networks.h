// SPDX-License-Identifier: Apache-2.0
// Small convolutional networks for tests of plans for GPUs.
#pragma once

#include <cmath>

#include "pass_net.h"
#include "plan_runs.h"

namespace edgert::test {

/// Convolutions whose results are about as large as their inputs.
struct Network : Net {
  ValueId convolve(ValueId x, std::int64_t filters, int kernel, int stride = 1, std::int64_t groups = 1) {
    const std::int64_t depth = dims(x)[1] / groups * kernel * kernel;
    std::vector<float> weights = numbers.floats(filters * depth), bias = numbers.floats(filters);
    for (float& w : weights) w *= 0.8f / std::sqrt(static_cast<float>(depth));
    for (float& b : bias) b *= 0.1f;
    const ValueId w = constant({filters, dims(x)[1] / groups, kernel, kernel}, weights);
    const ValueId b = constant({filters}, bias);
    if (groups == filters) return node(ops::kDepthwiseConv, {x, w, b, kNone}, attributes<cpu::DepthwiseConvAttributes>(kernel, stride));
    auto a = attributes<cpu::ConvAttributes>(kernel, stride);
    a.groups = static_cast<std::int32_t>(groups);
    return node(ops::kConv, {x, w, b, kNone}, a);
  }
  ValueId slide(ValueId x, int kernel, int stride = 1) { return convolve(x, dims(x)[1], kernel, stride, dims(x)[1]); }
  ValueId squeeze(ValueId x, std::int64_t squeezed, PointwiseOp gate) {
    const ValueId small = unary(PointwiseOp::Silu, convolve(mean(x, 12), squeezed, 1));
    const ValueId factors = unary(gate, convolve(small, dims(x)[1], 1), gate == PointwiseOp::HardSigmoid ? 1.0f / 6 : 0.0f, 0.5f);
    return binary(PointwiseOp::Mul, factors, x);
  }

 private:
  template <class Attributes>
  static Attributes attributes(int kernel, int stride) {
    Attributes a{};
    for (std::size_t i = 0; i < 2; ++i) {
      a.kernel[i] = kernel;
      a.stride[i] = stride;
      a.dilation[i] = 1;
      a.pad_begin[i] = a.pad_end[i] = kernel / 2;
    }
    return a;
  }
};

/// Steps of the plan for a GPU, whose results are within f16's rounding of the CPU's.
inline std::size_t check_plan(const Network& net, std::uint32_t arch = 90, double least_db = 60) {
  const auto build = [&](const plan::BuildOptions& options) {
    std::vector<ir::Graph> graphs;
    graphs.push_back(net.graph);
    return plan::build(std::move(graphs), options);
  };
  const std::vector<float> x = input_of(static_cast<std::size_t>(ir::element_count(net.dims(net.graph.inputs()[0]))));
  const plan::BuildResult built = build(options_for(arch));
  CHECK(sqnr_db(run_on_fake_gpu(built.bytes, arch, x), run_on_cpu(build({}).bytes, x)) > least_db);
  return built.profiles[0].steps;
}

}  // namespace edgert::test
