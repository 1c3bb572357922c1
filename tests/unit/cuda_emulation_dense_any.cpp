// SPDX-License-Identifier: Apache-2.0
// Pooling, depthwise and dense convolutions and matrix products of any strides in the host emulation against the CPU's
// kernels.
#include "codegen/dense_any_kernel.h"
#include "codegen/window_any_kernel.h"
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/matmul.h"
#include "edgert/cpu/ops/pool.h"
#include "generic_kernels.h"

using namespace edgert;
using namespace edgert::test;

namespace {

constexpr Tolerance kSums = {2e-5, 2e-5};

TEST_CASE("pooling of any type and order") {
  std::mt19937 random(1);
  const auto check = [&](DType type, cpu::PoolKind kind, Order from, Order to, int kernel, int stride, int dilation, bool count_padding, bool ceil) {
    const Dims dims = {2, 12, 9, 7};
    const auto extent = [&](std::int64_t in) { return (in + 2 - (kernel - 1) * dilation - 1 + (ceil ? stride - 1 : 0)) / stride + 1; };
    Tensor x(type, dims, from), y(type, {2, 12, extent(9), extent(7)}, to);
    x.fill(random, -30, 30);
    cpu::PoolAttributes a = {};
    for (int d = 0; d < 2; ++d) a.kernel[d] = kernel, a.stride[d] = stride, a.dilation[d] = dilation, a.pad_begin[d] = a.pad_end[d] = 1;
    a.kind = kind, a.count_include_pad = count_padding;
    compare<cpu::Pool>(codegen::make_pool, {&x}, y, a, type == DType::F16 ? Tolerance{1e-3, 0x1p-10} : kSums);
  };
  using cpu::PoolKind;
  check(DType::F32, PoolKind::Max, Order::RowMajor, Order::RowMajor, 3, 2, 1, false, false);
  check(DType::F32, PoolKind::Average, Order::ChannelsLast, Order::ChannelsLast, 3, 2, 1, true, true);
  check(DType::F16, PoolKind::Average, Order::ChannelsLast, Order::ChannelsLast, 2, 1, 2, false, false);
  check(DType::F64, PoolKind::Average, Order::RowMajor, Order::ChannelsLast, 3, 1, 1, false, false);
  check(DType::I8, PoolKind::Max, Order::RowMajor, Order::RowMajor, 3, 1, 1, false, false);
  check(DType::U8, PoolKind::Max, Order::ChannelsLast, Order::RowMajor, 2, 3, 1, false, true);
}

TEST_CASE("depthwise convolutions with bias, residual and activation") {
  std::mt19937 random(2);
  for (const bool residual : {false, true}) {
    const Dims dims = {2, 20, 9, 7}, out = {2, 20, 5, 4};
    Tensor x(DType::F32, dims, Order::ChannelsLast), w(DType::F32, {3, 3, 20}), bias(DType::F32, {20}), other(DType::F32, out, Order::ChannelsLast),
        y(DType::F32, out, Order::ChannelsLast);
    for (Tensor* tensor : {&x, &w, &bias, &other}) tensor->fill(random, -1, 1);
    cpu::DepthwiseConvAttributes a = {};
    for (int d = 0; d < 2; ++d) a.kernel[d] = 3, a.stride[d] = 2, a.dilation[d] = 1, a.pad_begin[d] = 1;
    a.epilogue.activation = scalar::PointwiseOp::HardSwish;
    if (residual) a.epilogue.residual = scalar::ResidualMode::AfterActivation;
    compare<cpu::DepthwiseConv>(codegen::make_depthwise, {&x, &w, residual ? nullptr : &bias, residual ? &other : nullptr}, y, a, kSums);
  }
}

/// The CPU's panels of weights [groups, K, N].
Tensor panels_of(const Tensor& weights) {
  const std::int64_t groups = weights.view().dims[0], depth = weights.view().dims[1], columns = weights.view().dims[2];
  const std::int64_t panels = ceil_div(columns, 16);
  Tensor packed(DType::F32, {groups * panels * depth * 16});
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t p = 0; p < panels; ++p) {
      for (std::int64_t k = 0; k < depth; ++k) {
        for (std::int64_t c = 0; c < 16; ++c) {
          const std::int64_t n = p * 16 + c;
          packed.set(((g * panels + p) * depth + k) * 16 + c, n < columns ? weights.get((g * depth + k) * columns + n) : 0.0);
        }
      }
    }
  }
  packed.view().format = WeightFormat::PanelF32x16;
  packed.view().rank = 3;
  packed.view().dims[0] = groups, packed.view().dims[1] = depth, packed.view().dims[2] = columns;
  return packed;
}

/// The CPU's convolution beside the kernel, which takes the weights unpacked.
void check_conv(const Dims& dims, std::int64_t outputs, int groups, int kernel, int stride, int dilation, bool residual, std::int32_t multiprocessors) {
  std::mt19937 random(3);
  const auto extent = [&](std::int64_t in) { return (in + 2 - (kernel - 1) * dilation - 1) / stride + 1; };
  const Dims out = {dims[0], outputs, extent(dims[2]), extent(dims[3])};
  Tensor x(DType::F32, dims, Order::ChannelsLast), w(DType::F32, {groups, kernel * kernel * dims[1] / groups, outputs / groups}), bias(DType::F32, {outputs});
  Tensor other(DType::F32, out, Order::ChannelsLast), y(DType::F32, out, Order::ChannelsLast);
  for (Tensor* tensor : {&x, &w, &bias, &other}) tensor->fill(random, -1, 1);
  cpu::ConvAttributes a = {};
  for (int d = 0; d < 2; ++d) a.kernel[d] = kernel, a.stride[d] = stride, a.dilation[d] = dilation, a.pad_begin[d] = 1;
  a.groups = groups;
  a.epilogue.activation = scalar::PointwiseOp::Relu;
  if (residual) a.epilogue.residual = scalar::ResidualMode::BeforeActivation;
  Tensor expected = y.clone();
  const Tensor panels = panels_of(w);
  const TensorView last = residual ? other.view() : absent();
  REQUIRE(run<cpu::Conv>({x.view(), panels.view(), bias.view(), last}, expected.view(), a, cpu::Isa::Baseline, 1).ok());
  const Call call({x.view(), w.view(), bias.view(), last}, {y.view()}, &a);
  codegen::GenericCall generic;
  generic.operands = call.operands();
  generic.multiprocessors = multiprocessors;
  std::vector<const Tensor*> inputs = {&x, &w, &bias};
  if (residual) inputs.push_back(&other);
  emulate(codegen::make_conv_any(generic), inputs, {&y});
  check_equal(y, expected, kSums);
}

TEST_CASE("convolutions with groups, strides, dilations and residuals") {
  check_conv({2, 12, 7, 6}, 18, 3, 3, 1, 1, false, 1);
  check_conv({1, 5, 9, 9}, 40, 1, 3, 2, 1, true, 1);
  check_conv({1, 24, 9, 9}, 7, 1, 3, 1, 2, false, 16);
  check_conv({2, 16, 3, 3}, 8, 4, 1, 1, 1, true, 16);
}

TEST_CASE("products of batches, of transposed and broadcast operands, of few rows and of many") {
  std::mt19937 random(4);
  const auto check = [&](const Dims& a_dims, const Dims& b_dims, Order a_order, Order b_order, unsigned b_broadcast, bool bias, bool residual) {
    Dims out = a_dims;
    out.back() = b_dims.back();
    Tensor a(DType::F32, a_dims, a_order), b(DType::F32, b_dims, b_order, 0, b_broadcast), shift(DType::F32, {out.back()}), other(DType::F32, out, Order::RowMajor, 3),
        y(DType::F32, out, Order::RowMajor, 1);
    for (Tensor* tensor : {&a, &b, &shift, &other}) tensor->fill(random, -1, 1);
    cpu::MatMulAttributes attributes = {};
    attributes.epilogue.activation = scalar::PointwiseOp::Gelu;
    if (residual) attributes.epilogue.residual = scalar::ResidualMode::AfterActivation;
    compare<cpu::MatMul>(codegen::make_matmul, {&a, &b, bias ? &shift : nullptr, residual ? &other : nullptr}, y, attributes, kSums);
  };
  check({2, 3, 37, 19}, {2, 3, 19, 45}, Order::RowMajor, Order::RowMajor, 0, true, false);
  check({2, 37, 50}, {2, 50, 21}, Order::Reversed, Order::Reversed, 0, false, true);
  check({2, 3, 9, 40}, {2, 3, 40, 33}, Order::RowMajor, Order::RowMajor, 0b11, true, true);
  check({3, 300}, {300, 41}, Order::RowMajor, Order::RowMajor, 0, true, false);
  check({150, 70}, {70, 130}, Order::RowMajor, Order::RowMajor, 0, false, false);
}

/// Products on tensor cores against sums in double.
void check_narrow_product(DType type, const Dims& a_dims, const Dims& b_dims, Order a_order, Order b_order, std::uint32_t alignment, std::int32_t multiprocessors) {
  std::mt19937 random(5);
  Dims out = a_dims;
  out.back() = b_dims.back();
  Tensor a(type, a_dims, a_order), b(type, b_dims, b_order), bias(DType::F32, {out.back()}), y(DType::F32, out);
  a.fill(random, -1, 1), b.fill(random, -1, 1), bias.fill(random, -1, 1);
  const cpu::MatMulAttributes attributes = {};
  const Call call({a.view(), b.view(), bias.view()}, {y.view()}, &attributes);
  codegen::GenericCall generic;
  generic.operands = call.operands();
  generic.alignment = alignment;
  generic.multiprocessors = multiprocessors;
  const codegen::KernelSpec spec = codegen::make_matmul(generic);
  CAPTURE(spec.job.name);
  emulate(spec, {&a, &b, &bias}, {&y});
  const std::int64_t m = out[out.size() - 2], n = out.back(), depth = a_dims.back();
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < y.elements(); ++i) {
    const std::int64_t batch = b_dims.size() == 2 ? 0 : i / (m * n);
    double sum = bias.get(i % n);
    for (std::int64_t k = 0; k < depth; ++k) sum += a.get(i / n * depth + k) * b.get((batch * depth + k) * n + i % n);
    wrong += !close(y.get(i), sum, 1e-4, 1e-5);
  }
  CHECK(wrong == 0);
}

TEST_CASE("products of 16-bit operands on tensor cores, of every layout") {
  check_narrow_product(DType::F16, {2, 33, 40}, {2, 40, 24}, Order::RowMajor, Order::RowMajor, 16, 1);   // eight at once, B along N
  check_narrow_product(DType::F16, {2, 70, 40}, {2, 40, 72}, Order::RowMajor, Order::RowMajor, 16, 16);
  check_narrow_product(DType::BF16, {2, 33, 37}, {2, 37, 19}, Order::RowMajor, Order::RowMajor, 16, 1);  // one by one
  check_narrow_product(DType::F16, {2, 33, 40}, {2, 40, 24}, Order::Reversed, Order::Reversed, 2, 1);
  check_narrow_product(DType::F16, {100, 40}, {40, 70}, Order::RowMajor, Order::Reversed, 16, 1);         // B along K
  check_narrow_product(DType::BF16, {3, 5, 64}, {64, 8}, Order::RowMajor, Order::RowMajor, 16, 16);
}

TEST_CASE("grouped convolutions on tensor cores") {
  for (const int groups : {1, 2, 4}) {
    std::mt19937 random(6);
    const std::int64_t channels = groups == 4 ? 20 : 32, outputs = 24, depth = 9 * channels / groups, columns = outputs / groups;
    Tensor x(DType::F16, {2, channels, 6, 5}, Order::ChannelsLast), w(DType::F16, {groups, columns, depth}), y(DType::F16, {2, outputs, 6, 5}, Order::ChannelsLast);
    x.fill(random, -1, 1), w.fill(random, -1, 1);
    TensorView by_depth = w.view();  // as [groups, K, N]
    std::swap(by_depth.dims[1], by_depth.dims[2]);
    std::swap(by_depth.strides[1], by_depth.strides[2]);
    cpu::ConvAttributes a = {};
    for (int d = 0; d < 2; ++d) a.kernel[d] = 3, a.stride[d] = a.dilation[d] = a.pad_begin[d] = 1;
    a.groups = groups;
    a.epilogue.activation = scalar::PointwiseOp::Relu;
    const Call call({x.view(), by_depth}, {y.view()}, &a);
    codegen::GenericCall generic;
    generic.operands = call.operands();
    emulate(codegen::make_conv_any(generic), {&x, &w}, {&y});
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < y.elements(); ++i) {
      const std::int64_t image = i / (outputs * 30), m = i / 30 % outputs, row = i / 5 % 6, column = i % 5;
      double sum = 0;
      for (std::int64_t k = 0; k < depth; ++k) {
        const std::int64_t c = k % (channels / groups) + m / columns * (channels / groups), tap = k / (channels / groups);
        const std::int64_t h = row + tap / 3 - 1, v = column + tap % 3 - 1;
        if (h < 0 || h >= 6 || v < 0 || v >= 5) continue;
        sum += x.get(((image * channels + c) * 6 + h) * 5 + v) * w.get(m * depth + k);
      }
      wrong += !close(y.get(i), std::max(sum, 0.0), 1e-4, 0x1.02p-11);
    }
    CHECK(wrong == 0);
  }
}

}  // namespace
