// SPDX-License-Identifier: Apache-2.0
// InvertedResidual against its three convolutions by their definition, in double precision.
#include "edgert/cpu/ops/inverted_residual.h"

#include "dense_reference.h"

using namespace dense_test;
using edgert::cpu::InvertedResidual;
using edgert::cpu::InvertedResidualAttributes;

namespace {

struct Case {
  std::int64_t n, c, h, w;
  std::int64_t hidden;   // 0: no expansion
  std::int64_t filters;  // 0: no projection
  std::int32_t kernel[2], stride[2], pad[2];
  bool biases = true;
  std::int64_t x_gap = 0, y_gap = 0;
  std::int32_t pad_end = 0;  // more rows and columns of results past the end
};

constexpr Epilogue kRelu6 = {PointwiseOp::Clip, ResidualMode::None, {0, 0}, 0.0f, 6.0f};
constexpr Epilogue kSilu = {PointwiseOp::Silu, ResidualMode::None, {0, 0}, 0.0f, 0.0f};

std::int64_t outputs(std::int64_t size, std::int32_t kernel, std::int32_t stride, std::int32_t pad, std::int32_t end) {
  return (size + 2 * pad + end - kernel) / stride + 1;
}

/// y[n, m, oh, ow] of a pointwise convolution and its epilogue, for tensors of doubles.
struct Image {
  std::int64_t n, c, h, w;
  std::vector<double> data;
  Image(std::int64_t n_, std::int64_t c_, std::int64_t h_, std::int64_t w_)
      : n(n_), c(c_), h(h_), w(w_), data(static_cast<std::size_t>(n_ * c_ * h_ * w_)) {}
  double& at(std::int64_t i, std::int64_t channel, std::int64_t row, std::int64_t column) {
    return data[static_cast<std::size_t>(((i * h + row) * w + column) * c + channel)];
  }
};

template <class Value>
void fill(Image& image, Value value) {
  for (std::int64_t i = 0; i < image.n; ++i) {
    for (std::int64_t row = 0; row < image.h; ++row) {
      for (std::int64_t column = 0; column < image.w; ++column) {
        for (std::int64_t c = 0; c < image.c; ++c) image.at(i, c, row, column) = value(i, c, row, column);
      }
    }
  }
}

double number(const Tensor* tensor, const Index& index) {
  return tensor == nullptr ? 0.0 : static_cast<double>(tensor->data[tensor->at(index)]);
}

void check_case(const Case& c, Epilogue expand = kRelu6, Epilogue depthwise = kRelu6, Epilogue project = kNoEpilogue) {
  CAPTURE(c.c);
  CAPTURE(c.h);
  CAPTURE(c.w);
  CAPTURE(c.hidden);
  CAPTURE(c.filters);
  CAPTURE(c.kernel[0]);
  CAPTURE(c.stride[0]);
  const std::int64_t hidden = c.hidden != 0 ? c.hidden : c.c;
  const std::int64_t filters = c.filters != 0 ? c.filters : hidden;
  Tensor x = image(c.n, c.c, c.h, c.w, c.c + c.x_gap, 1);
  Tensor wide = dense({c.c, hidden}, 2), narrow = dense({hidden, filters}, 3);
  Tensor window = dense({c.kernel[0], c.kernel[1], hidden}, 4);
  Tensor wide_panels = panels(1, c.c, hidden, [&](std::int64_t, std::int64_t k, std::int64_t m) { return wide.data[wide.at({k, m})]; });
  Tensor narrow_panels =
      panels(1, hidden, filters, [&](std::int64_t, std::int64_t k, std::int64_t m) { return narrow.data[narrow.at({k, m})]; });
  Tensor biases[3] = {dense({hidden}, 5), dense({hidden}, 6), dense({filters}, 7)};
  const std::int64_t oh = outputs(c.h, c.kernel[0], c.stride[0], c.pad[0], c.pad_end);
  const std::int64_t ow = outputs(c.w, c.kernel[1], c.stride[1], c.pad[1], c.pad_end);
  Tensor y = image(c.n, filters, oh, ow, filters + c.y_gap, 8);
  Tensor residual = image(c.n, filters, oh, ow, filters + 3, 9);
  Tensor* const bias = c.biases ? biases : nullptr;
  Tensor* const expand_bias = c.biases && c.hidden != 0 ? bias : nullptr;
  Tensor* const project_bias = c.biases && c.filters != 0 ? bias + 2 : nullptr;
  Tensor* const added = project.residual == ResidualMode::None ? nullptr : &residual;

  Image between(c.n, hidden, c.h, c.w);
  fill(between, [&](std::int64_t i, std::int64_t m, std::int64_t row, std::int64_t column) {
    if (c.hidden == 0) return number(&x, {i, m, row, column});
    double sum = number(expand_bias, {m});
    for (std::int64_t k = 0; k < c.c; ++k) sum += number(&x, {i, k, row, column}) * number(&wide, {k, m});
    return finished(expand, sum, 0);
  });
  Image filtered(c.n, hidden, oh, ow);
  fill(filtered, [&](std::int64_t i, std::int64_t m, std::int64_t row, std::int64_t column) {
    double sum = bias == nullptr ? 0.0 : number(bias + 1, {m});
    for (std::int64_t kh = 0; kh < c.kernel[0]; ++kh) {
      for (std::int64_t kw = 0; kw < c.kernel[1]; ++kw) {
        const std::int64_t h = row * c.stride[0] + kh - c.pad[0];
        const std::int64_t w = column * c.stride[1] + kw - c.pad[1];
        if (h >= 0 && h < c.h && w >= 0 && w < c.w) sum += between.at(i, m, h, w) * number(&window, {kh, kw, m});
      }
    }
    return finished(depthwise, sum, 0);
  });
  const auto expected = [&](const Index& i) {
    if (c.filters == 0) return filtered.at(i[0], i[1], i[2], i[3]);
    double sum = number(project_bias, {i[1]});
    for (std::int64_t k = 0; k < hidden; ++k) sum += filtered.at(i[0], k, i[2], i[3]) * number(&narrow, {k, i[1]});
    return finished(project, sum, number(added, i));
  };
  InvertedResidualAttributes attributes = {};
  for (int i = 0; i < 2; ++i) {
    attributes.kernel[i] = c.kernel[i];
    attributes.stride[i] = c.stride[i];
    attributes.pad_begin[i] = c.pad[i];
  }
  attributes.expand = expand;
  attributes.depthwise = depthwise;
  attributes.project = project;
  const double terms = static_cast<double>((c.hidden != 0 ? c.c : 1) * c.kernel[0] * c.kernel[1]) *
                       static_cast<double>(c.filters != 0 ? hidden : 1);
  compare<InvertedResidual>({&x, &window, bias == nullptr ? nullptr : bias + 1, added,
                             c.hidden != 0 ? &wide_panels : nullptr, expand_bias,
                             c.filters != 0 ? &narrow_panels : nullptr, project_bias},
                            y, attributes, expected, terms);
}

}  // namespace

TEST_CASE("InvertedResidual: with and without each of the pointwise convolutions") {
  for (const std::int64_t hidden : {0, 20, 48, 72}) {
    for (const std::int64_t filters : {0, 8, 24, 40}) {
      for (const std::int32_t stride : {1, 2}) {
        for (const std::int32_t kernel : {3, 5}) {
          check_case({1, 12, 9, 13, hidden, filters, {kernel, kernel}, {stride, stride}, {kernel / 2, kernel / 2}});
        }
      }
    }
  }
}

TEST_CASE("InvertedResidual: rows longer than a segment, several images, gaps between pixels") {
  check_case({2, 16, 6, 61, 32, 16, {3, 3}, {1, 1}, {1, 1}, true, 5, 7});
  check_case({2, 5, 7, 64, 17, 0, {3, 3}, {2, 2}, {1, 1}, false, 1, 2});
  check_case({3, 33, 3, 30, 0, 18, {3, 3}, {1, 1}, {1, 1}, false, 0, 1});
  check_case({1, 3, 1, 40, 600, 0, {1, 5}, {1, 1}, {0, 2}});
  check_case({1, 4, 5, 6, 512, 9, {3, 3}, {1, 1}, {1, 1}});
}

TEST_CASE("InvertedResidual: windows that leave the image, skip rows, or see none of it") {
  check_case({1, 8, 9, 9, 24, 8, {2, 3}, {3, 4}, {0, 0}});
  check_case({1, 8, 9, 9, 24, 8, {4, 1}, {1, 1}, {3, 0}});
  check_case({1, 8, 3, 3, 24, 8, {3, 3}, {1, 1}, {4, 4}});
  check_case({1, 8, 3, 4, 24, 8, {3, 3}, {2, 2}, {1, 1}, true, 0, 0, 5});
  check_case({1, 8, 3, 4, 0, 8, {3, 3}, {1, 1}, {1, 1}, true, 0, 0, 6});
  check_case({2, 8, 5, 4, 0, 0, {7, 7}, {1, 1}, {3, 3}});
}

TEST_CASE("InvertedResidual: activations and residual") {
  for (const Epilogue& epilogue : all_epilogues()) {
    check_case({1, 8, 6, 7, 40, 12, {3, 3}, {1, 1}, {1, 1}}, kRelu6, kSilu, epilogue);
    if (epilogue.residual != ResidualMode::None) continue;
    check_case({1, 8, 6, 7, 40, 12, {3, 3}, {2, 2}, {1, 1}}, epilogue, kRelu6);
    check_case({1, 8, 6, 7, 40, 0, {3, 3}, {1, 1}, {1, 1}}, kSilu, epilogue);
  }
}

TEST_CASE("InvertedResidual: nothing to compute, nothing to compute it from") {
  check_case({0, 8, 6, 7, 40, 12, {3, 3}, {1, 1}, {1, 1}});
  check_case({1, 0, 6, 7, 16, 12, {3, 3}, {1, 1}, {1, 1}});
  check_case({1, 8, 0, 7, 16, 12, {3, 3}, {1, 1}, {2, 1}});
  check_case({1, 8, 6, 0, 16, 12, {3, 3}, {1, 1}, {1, 2}});
}

TEST_CASE("InvertedResidual: operands that do not fit are refused") {
  Tensor x = image(1, 4, 5, 5, 4, 1), y = image(1, 6, 5, 5, 6, 2), residual = image(1, 6, 5, 5, 6, 3);
  Tensor window = dense({3, 3, 20}, 4), hidden_bias = dense({20}, 5), bias = dense({6}, 6);
  const auto ones = [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; };
  Tensor wide = panels(1, 4, 20, ones), narrow = panels(1, 20, 6, ones);
  InvertedResidualAttributes good = {};
  for (int i = 0; i < 2; ++i) {
    good.kernel[i] = 3;
    good.stride[i] = good.pad_begin[i] = 1;
  }
  good.expand = good.depthwise = kRelu6;
  good.project = kNoEpilogue;
  const auto refused = [&](std::vector<Tensor*> inputs, const InvertedResidualAttributes& attributes) {
    return InvertedResidual::check(Call(inputs, y, false).work(attributes)) != nullptr;
  };
  const std::vector<Tensor*> all = {&x, &window, &hidden_bias, nullptr, &wide, &hidden_bias, &narrow, &bias};
  CHECK(!refused(all, good));
  // Operands of another size, missing, or too many.
  const std::vector<std::pair<std::size_t, Tensor*>> wrong = {
      {0, &residual}, {1, &wide},   {1, nullptr}, {2, &bias}, {3, &residual},
      {4, &narrow},   {4, nullptr}, {5, &bias},   {6, &wide}, {6, nullptr}, {7, &hidden_bias}};
  for (const auto& each : wrong) {
    const auto index = each.first;  // CAPTURE takes no structured binding under clang
    const auto& tensor = each.second;
    CAPTURE(index);
    std::vector<Tensor*> inputs = all;
    inputs[index] = tensor;
    CHECK(refused(inputs, good));
  }
  CHECK(refused({&x, &window, nullptr}, good));
  InvertedResidualAttributes bad = good;
  bad.depthwise.residual = ResidualMode::BeforeActivation;
  CHECK(refused(all, bad));
  bad = good;
  bad.expand.activation = PointwiseOp::Add;
  CHECK(refused(all, bad));
  bad = good;
  bad.kernel[0] = 2;
  CHECK(refused(all, bad));
  bad = good;
  bad.stride[1] = 0;
  CHECK(refused(all, bad));
}

TEST_CASE("InvertedResidual: hostile operands stay inside their memory") {
  Tensor x = image(2, 7, 5, 8, 7, 1), y = image(2, 12, 5, 8, 12, 2), residual = y;
  Tensor window = dense({3, 3, 17}, 3), hidden_bias = dense({17}, 4), bias = dense({12}, 5);
  const auto ones = [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; };
  Tensor wide = panels(1, 7, 17, ones), narrow = panels(1, 17, 12, ones);
  InvertedResidualAttributes attributes = {};
  for (int i = 0; i < 2; ++i) attributes.kernel[i] = 3;
  for (int i = 0; i < 2; ++i) attributes.stride[i] = attributes.pad_begin[i] = 1;
  attributes.expand = attributes.depthwise = kSilu;
  attributes.project = {PointwiseOp::Clip, ResidualMode::BeforeActivation, {0, 0}, 0, 6};
  run_hostile<InvertedResidual>({&x, &window, &hidden_bias, &residual, &wide, &hidden_bias, &narrow, &bias}, y, attributes,
                                [](InvertedResidualAttributes& a, const std::function<std::int64_t()>& number) {
                                  std::int32_t* const fields[] = {&a.kernel[0], &a.kernel[1], &a.stride[0],
                                                                  &a.stride[1], &a.pad_begin[0], &a.pad_begin[1]};
                                  *fields[number() % 6] = static_cast<std::int32_t>(number());
                                });
}
