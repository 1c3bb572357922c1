// SPDX-License-Identifier: Apache-2.0
#include "codegen/window_any_kernel.h"

#include <algorithm>

#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/pool.h"

namespace edgert::codegen {

namespace {

constexpr std::int32_t kThreads = 128;

/// Window and operands, y of rank 4; writes everything but what follows from the kind of window.
template <class Attributes>
KernelSpec make_any_window(const GenericCall& call, const Attributes& a, const std::string& name, const std::vector<std::string>& types,
                           const TensorView* residual, ProblemText& text) {
  const TensorView& x = call.operands.in(0);
  const TensorView& y = call.operands.out(0);
  std::int64_t order[4] = {0, 1, 2, 3};
  std::stable_sort(order, order + 4, [&](std::int64_t i, std::int64_t k) {
    // Dimensions of one element first: the last one counts in vectors.
    if ((y.dims[i] == 1) != (y.dims[k] == 1)) return y.dims[i] == 1;
    return y.strides[i] > y.strides[k];
  });
  cpu::Nest<3> nest;  // of y, x and the residual, all four dimensions
  nest.rank = 4;
  for (int d = 0; d < 4; ++d) {
    nest.dims[d] = y.dims[order[d]];
    nest.count *= nest.dims[d];
    nest.strides[0][d] = y.strides[order[d]];
    nest.strides[1][d] = x.strides[order[d]];
    nest.strides[2][d] = residual != nullptr ? residual->strides[order[d]] : 0;
  }
  std::int64_t vector = 1;
  if (order[3] == 1 && nest.strides[1][3] == 1) {
    const std::int64_t bytes[3] = {static_cast<std::int64_t>(cpu::bytes_of(y.dtype)), static_cast<std::int64_t>(cpu::bytes_of(x.dtype)),
                                   residual != nullptr ? static_cast<std::int64_t>(cpu::bytes_of(residual->dtype)) : 1};
    vector = vector_length(nest, bytes, call.alignment);
  }
  const std::int64_t residual_step = nest.strides[2][3];
  text.define("EDGERT_ENTRY", "window_any");
  define_parameters(text, types);
  text.code("using X = " + types.front() + ";\nusing Y = " + types.back() + ";\nusing Index = " + index_type(call.operands) + ";\n");
  text.code(nest_struct("Walk", nest, 3, vector) + index_function("dimension", std::vector<std::int64_t>(order, order + 4)));
  text.set("kThreads", std::int64_t{kThreads}).set("kVector", vector).set("kChannels", y.dims[1]);
  text.set("kResidualStep", "Index", std::to_string(residual_step));
  text.set("kHeight", "Index", std::to_string(x.dims[2])).set("kWidth", "Index", std::to_string(x.dims[3]));
  text.set("kRowStride", "Index", std::to_string(x.dims[2] > 1 ? x.strides[2] : 0)).set("kColumnStride", "Index", std::to_string(x.dims[3] > 1 ? x.strides[3] : 0));
  static constexpr const char* kAxis[2] = {"Height", "Width"};
  for (int d = 0; d < 2; ++d) {
    text.set(std::string("kKernel") + kAxis[d], std::int64_t{a.kernel[d]}).set(std::string("kStride") + kAxis[d], std::int64_t{a.stride[d]});
    text.set(std::string("kDilation") + kAxis[d], std::int64_t{a.dilation[d]});
  }
  text.set("kPadTop", std::int64_t{a.pad_begin[0]}).set("kPadLeft", std::int64_t{a.pad_begin[1]});
  text.set("kPadBottom", std::int64_t{a.pad_end[0]}).set("kPadRight", std::int64_t{a.pad_end[1]});
  // Small windows are unrolled, so that their loads do not wait for each other.
  const bool small = a.kernel[1] <= 8;
  text.set("kUnrollColumns", std::int64_t{small ? a.kernel[1] : 4}).set("kUnrollRows", std::int64_t{small && a.kernel[0] * a.kernel[1] <= 25 ? a.kernel[0] : 1});
  KernelSpec spec;
  spec.entry = "window_any";
  spec.job = make_job(name + std::to_string(a.kernel[0]) + "x" + std::to_string(a.kernel[1]) + "_" + dims_text(x) + "_" + dims_text(y),
                      "kernels/window_any.cu", text.text(), call.arch);
  set_grid(spec, ceil_div(nest.count / vector, kThreads), kThreads);
  return spec;
}

}  // namespace

KernelSpec make_pool(const GenericCall& call) {
  const cpu::PoolAttributes& a = call.operands.as<cpu::PoolAttributes>();
  ProblemText text;
  text.set("kKind", std::int64_t{a.kind == cpu::PoolKind::Max ? 0 : 1}).set("kCountPadding", a.count_include_pad != 0);
  text.set("kHasBias", false).epilogue({}).code("using Residual = type::F32;\nusing Bias = type::F32;\n").set("kBiasStride", std::int64_t{1});
  text.define("EDGERT_WEIGHTS", "x0").define("EDGERT_BIAS", "x0").define("EDGERT_RESIDUAL", "x0");
  return make_any_window(call, a, a.kind == cpu::PoolKind::Max ? "max_pool_any" : "average_pool_any",
                         {type_name(call.operands.in(0).dtype), type_name(call.operands.out(0).dtype)}, nullptr, text);
}

KernelSpec make_depthwise(const GenericCall& call) {
  const cpu::DepthwiseConvAttributes& a = call.operands.as<cpu::DepthwiseConvAttributes>();
  const bool bias = call.operands.has(2), residual = call.operands.has(3);
  std::vector<std::string> types = {type_name(call.operands.in(0).dtype), "type::F32"};
  if (bias) types.push_back(type_name(call.operands.in(2).dtype));
  if (residual) types.push_back(type_name(call.operands.in(3).dtype));
  ProblemText text;
  text.set("kKind", std::int64_t{2}).set("kCountPadding", false).set("kHasBias", bias).epilogue(a.epilogue);
  text.code("using Residual = " + (residual ? types.back() : "type::F32") + ";\nusing Bias = " + (bias ? types[2] : "type::F32") + ";\n");
  text.set("kBiasStride", bias ? call.operands.in(2).strides[0] : std::int64_t{1});
  text.define("EDGERT_WEIGHTS", "x1").define("EDGERT_BIAS", bias ? "x2" : "x0").define("EDGERT_RESIDUAL", !residual ? "x0" : bias ? "x3" : "x2");
  types.push_back(type_name(call.operands.out(0).dtype));
  return make_any_window(call, a, "depthwise_any", types, residual ? &call.operands.in(3) : nullptr, text);
}

}  // namespace edgert::codegen
