// SPDX-License-Identifier: Apache-2.0
// StemBlock against its three convolutions by their definition, in double precision.
#include "edgert/cpu/ops/stem_block.h"

#include "dense_reference.h"

using namespace dense_test;
using edgert::cpu::StemBlock;
using edgert::cpu::StemBlockAttributes;

namespace {

constexpr Epilogue kRelu6 = {PointwiseOp::Clip, ResidualMode::None, {0, 0}, 0.0f, 6.0f};
constexpr Epilogue kSilu = {PointwiseOp::Silu, ResidualMode::None, {0, 0}, 0.0f, 0.0f};

struct Window {
  std::int32_t kernel[2], stride[2], pad_begin[2], pad_end[2];
};
constexpr Window square(std::int32_t kernel, std::int32_t stride, std::int32_t pad) {
  return {{kernel, kernel}, {stride, stride}, {pad, pad}, {pad, pad}};
}

struct Case {
  std::int64_t n, c, h, w, hidden;
  std::int64_t filters;  // 0: no projection
  Window first, depthwise;
  bool biases = true;
};

std::int64_t outputs(std::int64_t size, const Window& w, int i) {
  const std::int64_t last = size + w.pad_begin[i] + w.pad_end[i] - w.kernel[i];
  return last < 0 ? 0 : last / w.stride[i] + 1;
}

/// An image as a function of image, channel, row and column.
using Image = std::function<double(std::int64_t, std::int64_t, std::int64_t, std::int64_t)>;

/// The elements of one window of `x`, of which pixels outside of height and width are zeros, times `weight(kh, kw)`.
double window_sum(const Image& x, std::int64_t height, std::int64_t width, const Window& w, std::int64_t n, std::int64_t c,
                  std::int64_t row, std::int64_t column, const std::function<double(std::int64_t, std::int64_t)>& weight) {
  double sum = 0;
  for (std::int64_t kh = 0; kh < w.kernel[0]; ++kh) {
    for (std::int64_t kw = 0; kw < w.kernel[1]; ++kw) {
      const std::int64_t h = row * w.stride[0] + kh - w.pad_begin[0], v = column * w.stride[1] + kw - w.pad_begin[1];
      if (h >= 0 && h < height && v >= 0 && v < width) sum += x(n, c, h, v) * weight(kh, kw);
    }
  }
  return sum;
}

/// `x` computed once for all its elements.
Image stored(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Image& x) {
  auto values = std::make_shared<std::vector<double>>();
  for (std::int64_t i = 0; i < n * c * h * w; ++i) values->push_back(x(i / (c * h * w), i / (h * w) % c, i / w % h, i % w));
  return [=](std::int64_t image, std::int64_t channel, std::int64_t row, std::int64_t column) {
    return (*values)[static_cast<std::size_t>(((image * c + channel) * h + row) * w + column)];
  };
}

double number(const Tensor& tensor, const Index& index) { return static_cast<double>(tensor.data[tensor.at(index)]); }

void set_window(const Window& from, std::int32_t (&kernel)[2], std::int32_t (&stride)[2], std::int32_t (&begin)[2],
                std::int32_t (&end)[2]) {
  for (int i = 0; i < 2; ++i) {
    kernel[i] = from.kernel[i];
    stride[i] = from.stride[i];
    begin[i] = from.pad_begin[i];
    end[i] = from.pad_end[i];
  }
}

StemBlockAttributes attributes_of(const Window& first, const Window& depthwise) {
  StemBlockAttributes a = {};
  set_window(first, a.kernel, a.stride, a.pad_begin, a.pad_end);
  set_window(depthwise, a.block.kernel, a.block.stride, a.block.pad_begin, a.block.pad_end);
  a.block.expand = a.block.depthwise = kRelu6;
  a.block.project = kNoEpilogue;
  return a;
}

/// First weights [hidden, c, kh, kw] in rows ordered (c, kh, kw).
Tensor first_panels(const Tensor& weights) {
  const std::int64_t kh = weights.dims[2], kw = weights.dims[3];
  return panels(1, weights.dims[1] * kh * kw, weights.dims[0], [&](std::int64_t, std::int64_t k, std::int64_t m) {
    return weights.data[weights.at({m, k / (kh * kw), k / kw % kh, k % kw})];
  });
}

void check_case(const Case& c, Epilogue first = kRelu6, Epilogue depthwise = kRelu6, Epilogue project = kNoEpilogue) {
  CAPTURE(c.w);
  CAPTURE(c.hidden);
  CAPTURE(c.filters);
  const std::int64_t filters = c.filters != 0 ? c.filters : c.hidden;
  // Planes with room between rows and between planes.
  Tensor x = strided({c.n, c.c, c.h, c.w}, {c.c * ((c.h + 1) * (c.w + 2)), (c.h + 1) * (c.w + 2), c.w + 2, 1}, 1);
  Tensor wide = dense({c.hidden, c.c, c.first.kernel[0], c.first.kernel[1]}, 2), narrow = dense({c.hidden, filters}, 3);
  Tensor window = dense({c.depthwise.kernel[0], c.depthwise.kernel[1], c.hidden}, 4);
  Tensor wide_panels = first_panels(wide);
  Tensor narrow_panels =
      panels(1, c.hidden, filters, [&](std::int64_t, std::int64_t k, std::int64_t m) { return narrow.data[narrow.at({k, m})]; });
  Tensor biases[3] = {dense({c.hidden}, 5), dense({c.hidden}, 6), dense({filters}, 7)};
  const std::int64_t height = outputs(c.h, c.first, 0), width = outputs(c.w, c.first, 1);
  const std::int64_t oh = outputs(height, c.depthwise, 0), ow = outputs(width, c.depthwise, 1);
  Tensor y = image(c.n, filters, oh, ow, filters + 2, 8), residual = image(c.n, filters, oh, ow, filters + 3, 9);

  const Image input = [&](std::int64_t n, std::int64_t k, std::int64_t row, std::int64_t column) { return number(x, {n, k, row, column}); };
  const Image between = stored(c.n, c.hidden, height, width, [&](std::int64_t n, std::int64_t m, std::int64_t row, std::int64_t column) {
    double sum = c.biases ? number(biases[0], {m}) : 0.0;
    for (std::int64_t k = 0; k < c.c; ++k) {
      sum += window_sum(input, c.h, c.w, c.first, n, k, row, column,
                        [&](std::int64_t kh, std::int64_t kw) { return number(wide, {m, k, kh, kw}); });
    }
    return finished(first, sum, 0);
  });
  const Image filtered = stored(c.n, c.hidden, oh, ow, [&](std::int64_t n, std::int64_t m, std::int64_t row, std::int64_t column) {
    const double sum = window_sum(between, height, width, c.depthwise, n, m, row, column,
                                  [&](std::int64_t kh, std::int64_t kw) { return number(window, {kh, kw, m}); });
    return finished(depthwise, sum + (c.biases ? number(biases[1], {m}) : 0.0), 0);
  });
  const auto expected = [&](const Index& i) {
    if (c.filters == 0) return filtered(i[0], i[1], i[2], i[3]);
    double sum = c.biases ? number(biases[2], {i[1]}) : 0.0;
    for (std::int64_t k = 0; k < c.hidden; ++k) sum += filtered(i[0], k, i[2], i[3]) * number(narrow, {k, i[1]});
    return finished(project, sum, number(residual, i));
  };
  StemBlockAttributes attributes = attributes_of(c.first, c.depthwise);
  attributes.block.expand = first;
  attributes.block.depthwise = depthwise;
  attributes.block.project = project;
  const double terms = static_cast<double>(c.c * c.first.kernel[0] * c.first.kernel[1] * c.depthwise.kernel[0] * c.depthwise.kernel[1]) *
                       static_cast<double>(c.filters != 0 ? c.hidden : 1);
  const bool projects = c.filters != 0;
  compare<StemBlock>({&x, &window, c.biases ? &biases[1] : nullptr, project.residual == ResidualMode::None ? nullptr : &residual,
                      &wide_panels, c.biases ? &biases[0] : nullptr, projects ? &narrow_panels : nullptr,
                      projects && c.biases ? &biases[2] : nullptr},
                     y, attributes, expected, terms);
}

}  // namespace

TEST_CASE("StemBlock: first layers of networks") {
  check_case({1, 3, 20, 34, 32, 16, square(3, 2, 1), square(3, 1, 1)});
  check_case({2, 3, 9, 23, 24, 0, square(3, 2, 0), square(3, 2, 1), false});
  check_case({1, 4, 15, 70, 40, 8, {{3, 3}, {2, 2}, {0, 0}, {1, 1}}, square(5, 2, 2)}, kSilu, kSilu);
}

TEST_CASE("StemBlock: windows that leave the image, skip rows, or see none of it") {
  check_case({1, 2, 6, 9, 17, 9, {{2, 5}, {3, 4}, {0, 2}, {2, 0}}, square(3, 1, 1)});
  check_case({1, 1, 3, 3, 16, 0, square(3, 1, 4), square(3, 1, 1)});
  check_case({2, 3, 4, 2, 8, 8, {{1, 3}, {2, 1}, {1, 6}, {1, 0}}, square(3, 1, 1)});
  check_case({1, 3, 2, 2, 8, 4, square(5, 1, 0), square(3, 1, 2)});  // no row between the convolutions
}

TEST_CASE("StemBlock: residual, and nothing to compute from") {
  check_case({1, 3, 8, 8, 16, 12, square(3, 1, 1), square(3, 1, 1)}, kRelu6, kSilu,
             {PointwiseOp::Relu, ResidualMode::BeforeActivation, {0, 0}, 0, 0});
  check_case({0, 3, 8, 8, 16, 12, square(3, 1, 1), square(3, 1, 1)});
  check_case({1, 0, 8, 8, 16, 12, square(3, 1, 1), square(3, 1, 1)});
  check_case({1, 3, 8, 0, 16, 12, square(3, 1, 2), square(3, 1, 1)});
}

TEST_CASE("StemBlock: operands that do not fit are refused") {
  Tensor x = dense({1, 3, 8, 8}, 1), pixels = image(1, 3, 8, 8, 3, 1), y = image(1, 6, 8, 8, 6, 2);
  Tensor window = dense({3, 3, 20}, 3), hidden_bias = dense({20}, 4), bias = dense({6}, 5);
  const auto ones = [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; };
  Tensor wide = panels(1, 27, 20, ones), narrow = panels(1, 20, 6, ones);
  const StemBlockAttributes good = attributes_of(square(3, 1, 1), square(3, 1, 1));
  const auto refused = [&](std::vector<Tensor*> inputs, const StemBlockAttributes& attributes) {
    return StemBlock::check(Call(inputs, y, false).work(attributes)) != nullptr;
  };
  const std::vector<Tensor*> all = {&x, &window, &hidden_bias, nullptr, &wide, &hidden_bias, &narrow, &bias};
  CHECK(!refused(all, good));
  const std::vector<std::pair<std::size_t, Tensor*>> wrong = {{0, &pixels}, {1, &wide}, {4, &narrow}, {4, nullptr}, {5, &bias}, {6, nullptr}};
  for (const auto& each : wrong) {
    const auto index = each.first;
    CAPTURE(index);
    std::vector<Tensor*> inputs = all;
    inputs[index] = each.second;
    CHECK(refused(inputs, good));
  }
  CHECK(refused({&x, &window, nullptr}, good));
  StemBlockAttributes bad = good;
  bad.kernel[1] = 2;
  CHECK(refused(all, bad));
  bad = good;
  bad.stride[0] = 0;
  CHECK(refused(all, bad));
  bad = good;
  bad.pad_end[1] = -1;
  CHECK(refused(all, bad));
  bad = good;
  bad.block.expand.residual = ResidualMode::BeforeActivation;
  CHECK(refused(all, bad));
}

TEST_CASE("StemBlock: hostile operands stay inside their memory") {
  Tensor x = dense({2, 3, 7, 12}, 1), y = image(2, 12, 4, 6, 12, 2), residual = y;
  Tensor window = dense({3, 3, 17}, 3), hidden_bias = dense({17}, 4), bias = dense({12}, 5);
  const auto ones = [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; };
  Tensor wide = panels(1, 27, 17, ones), narrow = panels(1, 17, 12, ones);
  StemBlockAttributes attributes = attributes_of(square(3, 2, 1), square(3, 1, 1));
  attributes.block.project = {PointwiseOp::Clip, ResidualMode::BeforeActivation, {0, 0}, 0, 6};
  run_hostile<StemBlock>({&x, &window, &hidden_bias, &residual, &wide, &hidden_bias, &narrow, &bias}, y, attributes,
                         [](StemBlockAttributes& a, const std::function<std::int64_t()>& number) {
                           std::int32_t* const fields[] = {&a.kernel[0],       &a.kernel[1],       &a.stride[0],
                                                           &a.stride[1],       &a.pad_begin[0],    &a.pad_begin[1],
                                                           &a.pad_end[0],      &a.pad_end[1],      &a.block.kernel[0],
                                                           &a.block.stride[1], &a.block.pad_begin[0], &a.block.pad_begin[1]};
                           *fields[number() % 12] = static_cast<std::int32_t>(number());
                         });
}
