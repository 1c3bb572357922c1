// SPDX-License-Identifier: Apache-2.0
// Throughput of the dense CPU kernels on one thread: layers of common classifiers, every instruction set that this
// machine has. Prints the best of several runs, in processor time, since other programs may disturb the machine.
//   cpu_kernels [baseline|avx2|avx512]
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "edgert/cpu/isa/detect.h"
#include "edgert/cpu/ops/conv.h"
#include "edgert/cpu/ops/depthwise_conv.h"
#include "edgert/cpu/ops/inverted_residual.h"
#include "edgert/cpu/ops/matmul.h"

namespace {

using namespace edgert;
using namespace edgert::cpu;

/// Memory aligned as a session's arena, filled with small numbers.
class Buffer {
 public:
  explicit Buffer(std::int64_t floats) : bytes_((static_cast<std::size_t>(floats) * 4 + 4095) / 4096 * 4096) {
    data_ = static_cast<float*>(std::aligned_alloc(4096, bytes_));
    for (std::size_t i = 0; i < bytes_ / 4; ++i) data_[i] = static_cast<float>(i % 13) * 0.125f - 0.75f;
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* data() const { return data_; }

 private:
  std::size_t bytes_;
  float* data_;
};

TensorView view_of(float* data, std::initializer_list<std::int64_t> dims, std::initializer_list<std::int64_t> strides,
                   WeightFormat format = WeightFormat::Strided) {
  TensorView view;
  view.data = data;
  view.dtype = DType::F32;
  view.format = format;
  for (const std::int64_t dim : dims) view.dims[view.rank++] = dim;
  std::size_t i = 0;
  for (const std::int64_t stride : strides) view.strides[i++] = stride;
  return view;
}

TensorView image_of(float* data, std::int64_t channels, std::int64_t height, std::int64_t width) {
  return view_of(data, {1, channels, height, width}, {channels * height * width, 1, width * channels, channels});
}

double processor_seconds() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Seconds of the fastest of the runs that fit into about half a second.
template <class Op>
double seconds(const std::vector<const TensorView*>& inputs, const TensorView& y,
               const typename Op::Attributes& attributes, Isa isa) {
  const TensorView* output = &y;
  Work work;
  work.inputs = {inputs.data(), inputs.size()};
  work.outputs = {&output, 1};
  work.attributes = &attributes;
  work.isa = isa;
  if (const char* reason = Op::check(work)) {
    std::fprintf(stderr, "%s: %s\n", Op::kName, reason);
    std::exit(1);
  }
  const Buffer scratch(static_cast<std::int64_t>(Op::scratch_bytes(work) / 4 + 16));
  work.scratch = scratch.data();
  double best = 1e9;
  double total = 0;
  for (int run = 0; run < 5 || (total < 0.4 && run < 2000); ++run) {
    const double start = processor_seconds();
    if (!Op::run(work).ok()) std::exit(1);
    const double taken = processor_seconds() - start;
    best = taken < best ? taken : best;
    total += taken;
  }
  return best;
}

constexpr scalar::Epilogue kRelu = {scalar::PointwiseOp::Relu, scalar::ResidualMode::None, {0, 0}, 0.0f, 0.0f};

void matmul(std::int64_t m, std::int64_t n, std::int64_t k, const std::vector<Isa>& isas) {
  const Buffer a(m * k), b((n + 15) / 16 * 16 * k), bias(n), y(m * n);
  const TensorView views[] = {view_of(a.data(), {m, k}, {k, 1}),
                              view_of(b.data(), {1, k, n}, {}, WeightFormat::PanelF32x16),
                              view_of(bias.data(), {n}, {1}), view_of(y.data(), {m, n}, {n, 1})};
  std::printf("matmul %5d x %4d x %4d        ", int(m), int(n), int(k));
  for (const Isa isa : isas) {
    const double time = seconds<MatMul>({&views[0], &views[1], &views[2]}, views[3], {kRelu}, isa);
    std::printf("  %7.1f", 2e-9 * double(m) * double(n) * double(k) / time);
  }
  std::printf("   GFLOP/s\n");
}

TensorView planar_image_of(float* data, std::int64_t channels, std::int64_t height, std::int64_t width) {
  return view_of(data, {1, channels, height, width}, {channels * height * width, height * width, width, 1});
}

void conv(std::int64_t channels, std::int64_t size, std::int64_t filters, std::int32_t kernel, std::int32_t stride,
          const std::vector<Isa>& isas, bool planar = false) {
  const std::int64_t out = (size + stride - 1) / stride;
  const std::int64_t depth = kernel * kernel * channels;
  const std::int32_t pad = (kernel - 1) / 2;
  const Buffer x(size * size * channels), w((filters + 15) / 16 * 16 * depth), bias(filters), y(out * out * filters);
  const TensorView views[] = {planar ? planar_image_of(x.data(), channels, size, size)
                                     : image_of(x.data(), channels, size, size),
                              view_of(w.data(), {1, depth, filters}, {}, WeightFormat::PanelF32x16),
                              view_of(bias.data(), {filters}, {1}), image_of(y.data(), filters, out, out)};
  const ConvAttributes attributes = {{kernel, kernel}, {stride, stride}, {1, 1}, {pad, pad}, 1, planar ? 1 : 0, kRelu,
                                     {pad, pad}};
  std::printf("conv %dx%d/%d%c %4d x %3d^2 -> %4d ", kernel, kernel, stride, planar ? 'p' : ' ', int(channels),
              int(size), int(filters));
  for (const Isa isa : isas) {
    const double time = seconds<Conv>({&views[0], &views[1], &views[2]}, views[3], attributes, isa);
    std::printf("  %7.1f", 2e-9 * double(out) * double(out) * double(filters) * double(depth) / time);
  }
  std::printf("   GFLOP/s\n");
}

void depthwise(std::int64_t channels, std::int64_t size, std::int32_t kernel, std::int32_t stride,
               const std::vector<Isa>& isas, std::int32_t group = 1) {
  const std::int64_t out = (size + stride - 1) / stride;
  const std::int32_t pad = (kernel - 1) / 2;
  const Buffer x(size * size * channels), w(kernel * kernel * group * channels), bias(channels), y(out * out * channels);
  const TensorView views[] = {
      image_of(x.data(), channels, size, size),
      view_of(w.data(), {kernel, kernel * group, channels}, {kernel * group * channels, channels, 1}),
      view_of(bias.data(), {channels}, {1}), image_of(y.data(), channels, out, out)};
  const DepthwiseConvAttributes attributes = {{kernel, kernel}, {stride, stride}, {1, 1}, {pad, pad}, kRelu,
                                              {pad, pad}};
  std::printf("%s %dx%d/%d  %4d x %3d^2     ", group == 1 ? "depthwise" : group == 4 ? "groups of4" : "groups of8", kernel,
              kernel, stride, int(channels), int(size));
  double last = 1;
  for (const Isa isa : isas) {
    last = seconds<DepthwiseConv>({&views[0], &views[1], &views[2]}, views[3], attributes, isa);
    std::printf("  %7.1f", 2e-9 * double(out) * double(out) * double(channels) * kernel * kernel * group / last);
  }
  std::printf("   GFLOP/s, %5.1f GB/s of x and y\n",
              4e-9 * double(channels) * (double(size) * double(size) + double(out) * double(out)) / last);
}

/// An inverted residual block as three steps and as one; `filters` = 0: without its projection, `hidden` = 0: without its
/// expansion.
void block(std::int64_t channels, std::int64_t size, std::int64_t hidden, std::int64_t filters, std::int32_t kernel,
           std::int32_t stride, scalar::PointwiseOp activation, const std::vector<Isa>& isas) {
  const std::int64_t wide = hidden != 0 ? hidden : channels, out = (size + stride - 1) / stride;
  const std::int64_t last = filters != 0 ? filters : wide;
  const std::int32_t pad = (kernel - 1) / 2;
  const auto panels = [](std::int64_t columns) { return (columns + 15) / 16 * 16; };
  const Buffer x(size * size * channels), expanded(size * size * wide), filtered(out * out * wide), y(out * out * last);
  const Buffer w1(panels(wide) * channels), w2(kernel * kernel * wide), w3(panels(last) * wide), bias(wide + last);
  const TensorView images[] = {image_of(x.data(), channels, size, size), image_of(expanded.data(), wide, size, size),
                               image_of(filtered.data(), wide, out, out), image_of(y.data(), last, out, out)};
  const TensorView none;
  const TensorView weights[] = {view_of(w1.data(), {1, channels, wide}, {}, WeightFormat::PanelF32x16),
                                view_of(w2.data(), {kernel, kernel, wide}, {kernel * wide, wide, 1}),
                                view_of(w3.data(), {1, wide, last}, {}, WeightFormat::PanelF32x16)};
  const TensorView wide_bias = view_of(bias.data(), {wide}, {1}), last_bias = view_of(bias.data(), {last}, {1});
  const scalar::Epilogue act = {activation, scalar::ResidualMode::None, {0, 0}, 0.0f, 6.0f};
  const ConvAttributes pointwise = {{1, 1}, {1, 1}, {1, 1}, {0, 0}, 1, 0, act, {0, 0}};
  ConvAttributes linear = pointwise;
  linear.epilogue.activation = scalar::PointwiseOp::Identity;
  const DepthwiseConvAttributes window = {{kernel, kernel}, {stride, stride}, {1, 1}, {pad, pad}, act, {pad, pad}};
  const InvertedResidualAttributes fused = {{kernel, kernel}, {stride, stride}, {pad, pad}, {pad, pad}, act, act,
                                            linear.epilogue};
  const TensorView& from = hidden != 0 ? images[1] : images[0];
  const TensorView& to = filters != 0 ? images[3] : images[2];
  std::printf("block %dx%d/%d %4d x %3d^2 %4d %4d ", kernel, kernel, stride, int(channels), int(size), int(hidden),
              int(filters));
  for (const Isa isa : isas) {
    double steps = seconds<DepthwiseConv>({&from, &weights[1], &wide_bias}, images[2], window, isa);
    if (hidden != 0) steps += seconds<Conv>({&images[0], &weights[0], &wide_bias}, images[1], pointwise, isa);
    if (filters != 0) steps += seconds<Conv>({&images[2], &weights[2], &last_bias}, images[3], linear, isa);
    const double one = seconds<InvertedResidual>(
        {&images[0], &weights[1], &wide_bias, &none, hidden != 0 ? &weights[0] : &none,
         hidden != 0 ? &wide_bias : &none, filters != 0 ? &weights[2] : &none, filters != 0 ? &last_bias : &none},
        to, fused, isa);
    std::printf("  %6.0f as steps %6.0f", 1e6 * steps, 1e6 * one);
  }
  std::printf("   us\n");
}

}  // namespace

int main(int argc, char** argv) {
  const char* const names[] = {"baseline", "avx2", "avx512"};
  std::vector<Isa> isas;
  std::printf("one thread                         ");
  for (int i = 0; i <= static_cast<int>(detect_isa()); ++i) {
    if (argc > 1 && std::strcmp(argv[1], names[i]) != 0) continue;
    isas.push_back(static_cast<Isa>(i));
    std::printf(" %8s", names[i]);
  }
  std::printf("\n");
  matmul(784, 128, 1152, isas);
  matmul(1, 1000, 2048, isas);
  matmul(197, 768, 768, isas);
  matmul(128, 1024, 1024, isas);
  matmul(128, 1024, 4096, isas);
  conv(3, 224, 64, 7, 2, isas);
  conv(3, 224, 64, 7, 2, isas, true);
  conv(3, 224, 32, 3, 2, isas);
  conv(3, 224, 32, 3, 2, isas, true);
  conv(3, 224, 16, 3, 2, isas);
  conv(3, 224, 16, 3, 2, isas, true);
  conv(64, 56, 64, 3, 1, isas);
  conv(128, 28, 128, 3, 1, isas);
  conv(256, 14, 256, 3, 1, isas);
  conv(512, 7, 512, 3, 1, isas);
  conv(256, 28, 256, 3, 2, isas);
  conv(64, 56, 64, 1, 1, isas);
  conv(64, 56, 256, 1, 1, isas);
  conv(256, 56, 64, 1, 1, isas);
  conv(512, 28, 128, 1, 1, isas);
  conv(1024, 14, 256, 1, 1, isas);
  conv(256, 14, 1024, 1, 1, isas);
  conv(2048, 7, 512, 1, 1, isas);
  conv(512, 7, 2048, 1, 1, isas);
  conv(24, 56, 144, 1, 1, isas);
  conv(144, 28, 32, 1, 1, isas);
  conv(144, 56, 24, 1, 1, isas);
  conv(120, 28, 40, 1, 1, isas);
  depthwise(32, 112, 3, 1, isas);
  depthwise(144, 56, 3, 1, isas);
  depthwise(144, 56, 3, 2, isas);
  depthwise(384, 14, 3, 1, isas);
  depthwise(576, 14, 5, 1, isas);
  depthwise(960, 7, 3, 1, isas);
  depthwise(128, 56, 3, 1, isas, 4);
  depthwise(256, 28, 3, 1, isas, 8);
  using Op = scalar::PointwiseOp;
  block(32, 112, 0, 16, 3, 1, Op::Clip, isas);
  block(16, 112, 96, 24, 3, 2, Op::Clip, isas);
  block(24, 56, 144, 24, 3, 1, Op::Clip, isas);
  block(24, 56, 144, 32, 3, 2, Op::Clip, isas);
  block(32, 28, 192, 32, 3, 1, Op::Clip, isas);
  block(64, 14, 384, 64, 3, 1, Op::Clip, isas);
  block(16, 112, 96, 0, 3, 2, Op::Silu, isas);
  block(24, 56, 144, 0, 5, 2, Op::Silu, isas);
  block(40, 28, 240, 0, 5, 1, Op::Silu, isas);
  block(80, 14, 480, 0, 3, 1, Op::Silu, isas);
  return 0;
}
