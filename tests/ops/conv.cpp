// SPDX-License-Identifier: Apache-2.0
// Conv against the definition, in double precision.
#include "edgert/cpu/ops/conv.h"

#include "dense_reference.h"

using namespace dense_test;
using edgert::cpu::Conv;
using edgert::cpu::ConvAttributes;

namespace {

struct Case {
  std::int64_t n, c, h, w, m, oh, ow;
  std::int32_t kernel[2], stride[2], dilation[2], pad[2], groups;
  std::int64_t x_gap, y_gap;  // floats between the channels of neighbouring pixels
  std::int64_t y_row_gap;
  std::int32_t planar = 0;
};

/// A square window with 'same'-like padding.
Case square(std::int64_t n, std::int64_t c, std::int64_t size, std::int64_t m, std::int32_t kernel, std::int32_t stride,
            std::int32_t pad, std::int32_t groups = 1, std::int32_t dilation = 1) {
  const std::int64_t out = (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
  return {n, c, size, size, m, out, out, {kernel, kernel}, {stride, stride}, {dilation, dilation}, {pad, pad}, groups,
          0, 0, 0};
}

void check_case(const Case& c, const Epilogue& epilogue = kNoEpilogue, bool in_place = false) {
  CAPTURE(c.n);
  CAPTURE(c.c);
  CAPTURE(c.h);
  CAPTURE(c.w);
  CAPTURE(c.m);
  CAPTURE(c.kernel[0]);
  CAPTURE(c.kernel[1]);
  CAPTURE(c.groups);
  CAPTURE(static_cast<int>(epilogue.activation));
  CAPTURE(static_cast<int>(epilogue.residual));
  const std::int64_t channels = c.c / c.groups, filters = c.m / c.groups;
  const std::int64_t depth = c.kernel[0] * c.kernel[1] * channels;
  const bool planar = c.planar != 0;
  Tensor x = planar ? dense({c.n, c.c, c.h, c.w}, 1) : image(c.n, c.c, c.h, c.w, c.c + c.x_gap, 1);
  Tensor weights = planar ? dense({c.groups, filters, channels, c.kernel[0], c.kernel[1]}, 2)
                          : dense({c.groups, filters, c.kernel[0], c.kernel[1], channels}, 2);
  Tensor packed = panels(c.groups, depth, filters, [&](std::int64_t g, std::int64_t k, std::int64_t f) {
    return weights.data[static_cast<std::size_t>((g * filters + f) * depth + k)];
  });
  Tensor bias = dense({c.m}, 3);
  Tensor y = image(c.n, c.m, c.oh, c.ow, c.m + c.y_gap, 4, c.y_row_gap);
  Tensor residual = in_place ? y : image(c.n, c.m, c.oh, c.ow, c.m + 1, 5);
  Tensor* added = epilogue.residual == ResidualMode::None ? nullptr : &residual;
  ConvAttributes attributes = {};
  for (int i = 0; i < 2; ++i) {
    attributes.kernel[i] = c.kernel[i];
    attributes.stride[i] = c.stride[i];
    attributes.dilation[i] = c.dilation[i];
    attributes.pad_begin[i] = c.pad[i];
  }
  attributes.groups = c.groups;
  attributes.planar = c.planar;
  attributes.epilogue = epilogue;
  const auto expected = [&](const Index& i) {
    double sum = static_cast<double>(bias.data[static_cast<std::size_t>(i[1])]);
    const std::int64_t group = i[1] / filters;
    for (std::int64_t kh = 0; kh < c.kernel[0]; ++kh) {
      for (std::int64_t kw = 0; kw < c.kernel[1]; ++kw) {
        const std::int64_t h = i[2] * c.stride[0] + kh * c.dilation[0] - c.pad[0];
        const std::int64_t w = i[3] * c.stride[1] + kw * c.dilation[1] - c.pad[1];
        if (h < 0 || h >= c.h || w < 0 || w >= c.w) continue;
        for (std::int64_t ch = 0; ch < channels; ++ch) {
          sum += static_cast<double>(x.data[x.at({i[0], group * channels + ch, h, w})]) *
                 static_cast<double>(weights.data[weights.at(planar ? Index{group, i[1] % filters, ch, kh, kw}
                                                                    : Index{group, i[1] % filters, kh, kw, ch})]);
        }
      }
    }
    return finished(epilogue, sum, added == nullptr ? 0.0 : static_cast<double>(residual.data[residual.at(i)]));
  };
  compare<Conv>({&x, &packed, &bias, added}, y, attributes, expected, static_cast<double>(depth),
                in_place && added != nullptr);
}

}  // namespace

TEST_CASE("Conv: 1x1, channels around the panel size") {
  for (const std::int64_t m : {1, 8, 15, 16, 17, 31, 32, 33, 48, 70}) {
    for (const std::int64_t c : {1, 3, 16, 33}) check_case(square(1, c, 5, m, 1, 1, 0));
  }
  check_case(square(2, 20, 9, 24, 1, 2, 0));
}

TEST_CASE("Conv: outputs around the tile sizes, rows of the image inside a tile") {
  for (std::int64_t w = 1; w <= 15; ++w) {
    check_case({1, 5, 3, w, 20, 3, w, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 0, 0, 0});
    check_case({2, 17, 3, w, 33, 3, w, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 0, 0, 0});
  }
}

TEST_CASE("Conv: windows, strides, dilations and groups") {
  for (const std::int64_t c : {6, 36}) {
    for (const std::int32_t groups : {1, 2, 3}) {
      for (const std::int32_t kernel : {1, 2, 3, 5}) {
        for (const std::int32_t stride : {1, 2, 3}) {
          for (const std::int32_t dilation : {1, 2}) {
            check_case(square(1, c, 11, 12, kernel, stride, kernel / 2, groups, dilation));
          }
        }
      }
    }
  }
}

TEST_CASE("Conv: the stem of an image classifier") {
  check_case(square(1, 3, 33, 20, 7, 2, 3));
  check_case(square(2, 3, 32, 32, 3, 2, 1));
  Case pitched = square(1, 3, 21, 24, 7, 2, 3);
  pitched.x_gap = 1;
  check_case(pitched);
}

TEST_CASE("Conv: planar images") {
  const auto planar = [](Case c) {
    c.planar = 1;
    return c;
  };
  for (std::int64_t w = 1; w <= 20; ++w) {
    check_case(planar({2, 3, 5, w, 20, 5, w, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 0, 0, 0}));
    check_case(planar({1, 2, 6, w, 33, 3, (w + 1) / 2, {5, 3}, {2, 2}, {1, 1}, {2, 1}, 1, 0, 0, 0}));
  }
  check_case(planar(square(1, 3, 33, 20, 7, 2, 3)));
  check_case(planar(square(2, 4, 30, 32, 3, 2, 1)));
  check_case(planar(square(1, 3, 70, 32, 3, 2, 0)));
  check_case(planar({1, 3, 9, 4, 18, 7, 9, {5, 6}, {1, 1}, {2, 1}, {3, 5}, 1, 0, 0, 0}));
  check_case(planar({1, 0, 5, 5, 8, 5, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 0, 0, 0}));
  for (const Epilogue& epilogue : all_epilogues()) check_case(planar(square(1, 3, 12, 24, 3, 1, 1)), epilogue);
}

TEST_CASE("Conv: what planar images do not allow is refused") {
  Tensor x = dense({1, 2, 5, 5}, 1), pixels = image(1, 2, 5, 5, 2, 1), y = image(1, 4, 5, 5, 4, 2);
  Tensor packed = panels(1, 18, 4, [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; });
  ConvAttributes attributes = {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 1, kNoEpilogue, {1, 1}};
  const auto accepted = [&](Tensor& image_of_some_order, std::int32_t planar) {
    attributes.planar = planar;
    return Conv::check(Call({&image_of_some_order, &packed}, y, false).work(attributes)) == nullptr;
  };
  CHECK(accepted(x, 1));
  CHECK(accepted(pixels, 0));
  CHECK(!accepted(pixels, 1));
  CHECK(!accepted(x, 0));
  CHECK(!accepted(x, 2));
  attributes.dilation[1] = 2;
  CHECK(!accepted(x, 1));
}

TEST_CASE("Conv: padding on one side, windows larger than the image, results past its end") {
  check_case({1, 4, 6, 7, 18, 6, 7, {3, 2}, {1, 1}, {1, 1}, {2, 0}, 1, 0, 0, 0});
  check_case({1, 20, 6, 7, 18, 5, 8, {2, 3}, {1, 1}, {1, 1}, {0, 2}, 1, 0, 0, 0});
  check_case({1, 4, 2, 2, 18, 3, 3, {5, 5}, {1, 1}, {1, 1}, {2, 2}, 1, 0, 0, 0});
  check_case({1, 20, 2, 2, 18, 9, 9, {5, 5}, {2, 2}, {3, 3}, {7, 9}, 1, 0, 0, 0});
  check_case({1, 2, 1, 40, 10, 1, 30, {1, 9}, {1, 1}, {1, 1}, {0, 0}, 1, 0, 0, 0});
  check_case({1, 2, 0, 4, 10, 2, 4, {3, 3}, {1, 1}, {1, 1}, {2, 1}, 1, 0, 0, 0});
}

TEST_CASE("Conv: slices of wider tensors, rows with gaps") {
  check_case({2, 18, 5, 6, 24, 5, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 6, 8, 0});
  check_case({2, 18, 5, 6, 24, 5, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 0, 3, 5});
  check_case({1, 3, 5, 6, 32, 5, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 2, 0, 7});
}

TEST_CASE("Conv: more pixels than are prepared at once") {
  check_case(square(1, 3, 30, 20, 3, 1, 1));
  check_case(square(3, 70, 8, 40, 3, 1, 1));
}

TEST_CASE("Conv: every epilogue, also in place") {
  for (const Epilogue& epilogue : all_epilogues()) {
    check_case(square(1, 8, 5, 40, 3, 1, 1), epilogue);
    check_case(square(1, 16, 4, 32, 1, 1, 0), epilogue, true);
    check_case(square(1, 8, 4, 12, 3, 1, 1, 2), epilogue, true);
  }
}

TEST_CASE("Conv: empty results and inputs without channels") {
  check_case({0, 4, 5, 5, 8, 5, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 0, 0, 0});
  check_case({1, 4, 5, 5, 8, 0, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 0, 0, 0});
  check_case({1, 4, 5, 5, 0, 5, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 0, 0, 0});
  check_case({1, 0, 5, 5, 8, 5, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 0, 0, 0});
}

TEST_CASE("Conv: operands that it must refuse") {
  Tensor x = image(1, 8, 5, 5, 8, 1);
  Tensor w = panels(2, 36, 6, [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; });
  Tensor bias = dense({12}, 1);
  Tensor y = image(1, 12, 5, 5, 12, 2);
  const ConvAttributes good = {{3, 3}, {1, 1}, {1, 1}, {1, 1}, 2, 0, kNoEpilogue, {1, 1}};
  ConvAttributes attributes = good;
  const auto refused = [&](const std::function<void(Call&)>& spoil) {
    Call call({&x, &w, &bias, nullptr}, y, false);
    spoil(call);
    return Conv::check(call.work(attributes)) != nullptr;
  };
  CHECK(!refused([](Call&) {}));
  CHECK(refused([](Call& c) { c.input(0).dtype = DType::I32; }));
  CHECK(refused([](Call& c) { c.input(0).rank = 3; }));
  CHECK(refused([](Call& c) { c.input(0).dims[0] = 2; }));
  CHECK(refused([](Call& c) { c.input(0).dims[1] = 9; }));
  CHECK(refused([](Call& c) { c.input(0).dims[1] = 10; }));
  CHECK(refused([](Call& c) { c.input(0).strides[1] = 2; }));
  CHECK(refused([](Call& c) { c.input(0).dims[2] = std::int64_t{1} << 40; }));
  CHECK(refused([](Call& c) { c.input(1).format = WeightFormat::Strided; }));
  CHECK(refused([](Call& c) { c.input(1).dims[0] = 1; }));
  CHECK(refused([](Call& c) { c.input(1).dims[1] = 72; }));
  CHECK(refused([](Call& c) { c.input(1).dims[2] = 12; }));
  CHECK(refused([](Call& c) { c.input(2).dims[0] = 6; }));
  CHECK(refused([](Call& c) { c.input(2).dtype = DType::F64; }));
  CHECK(refused([](Call& c) { c.output().strides[1] = 25; }));
  CHECK(refused([](Call& c) { c.output().strides[3] = 11; }));
  CHECK(refused([](Call& c) { c.output().strides[2] = 0; }));
  CHECK(refused([](Call& c) { c.output().dims[1] = 13; }));
  CHECK(refused([](Call& c) { c.output().dtype = DType::Undefined; }));
  const auto refused_with = [&](const std::function<void(ConvAttributes&)>& spoil) {
    attributes = good;
    spoil(attributes);
    return refused([](Call&) {});
  };
  for (const std::int32_t bad : {0, -1, INT32_MIN, INT32_MAX, 1 << 16}) {
    for (int i = 0; i < 2; ++i) {
      CHECK(refused_with([&](ConvAttributes& a) { a.kernel[i] = bad; }));
      CHECK(refused_with([&](ConvAttributes& a) { a.stride[i] = bad; }));
      CHECK(refused_with([&](ConvAttributes& a) { a.dilation[i] = bad; }));
      if (bad != 0) CHECK(refused_with([&](ConvAttributes& a) { a.pad_begin[i] = bad; }));
    }
    CHECK(refused_with([&](ConvAttributes& a) { a.groups = bad; }));
  }
  CHECK(refused_with([](ConvAttributes& a) { a.groups = 3; }));
  CHECK(refused_with([](ConvAttributes& a) { a.kernel[0] = 5; }));
  CHECK(refused_with([](ConvAttributes& a) { a.epilogue.activation = PointwiseOp::Add; }));
  CHECK(refused_with([](ConvAttributes& a) { a.epilogue.residual = ResidualMode::BeforeActivation; }));
}

TEST_CASE("Conv: whatever it accepts stays inside its operands") {
  Tensor x = image(2, 8, 5, 6, 8, 1);
  Tensor w = panels(2, 36, 12, [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; });
  Tensor bias = dense({24}, 1);
  Tensor y = image(2, 24, 5, 6, 24, 2);
  Tensor residual = y;
  const ConvAttributes attributes = {
      {3, 3}, {1, 1}, {1, 1}, {1, 1}, 2, 0, {PointwiseOp::Relu, ResidualMode::AfterActivation, {0, 0}, 0, 0}, {1, 1}};
  run_hostile<Conv>({&x, &w, &bias, &residual}, y, attributes,
                    [](ConvAttributes& a, const std::function<std::int64_t()>& number) {
                      std::int32_t* const fields[] = {&a.kernel[0], &a.kernel[1], &a.stride[0], &a.stride[1],
                                                      &a.dilation[0], &a.dilation[1], &a.pad_begin[0],
                                                      &a.pad_begin[1], &a.groups};
                      *fields[number() % 9] = static_cast<std::int32_t>(number());
                    });
}
