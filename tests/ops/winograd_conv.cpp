// SPDX-License-Identifier: Apache-2.0
// WinogradConv against the definition of a convolution, in double precision. The weights are transformed here, from the
// interpolation points.
#include "edgert/cpu/ops/winograd_conv.h"

#include <array>

#include "dense_reference.h"

using namespace dense_test;
using edgert::cpu::WinogradConv;
using edgert::cpu::WinogradConvAttributes;

namespace {

struct Case {
  std::int32_t tile;
  std::int64_t n, c, h, w, m, oh, ow;
  std::int32_t pad[2];
  std::int64_t x_gap, y_gap;  // floats between the channels of neighbouring pixels
  std::int64_t y_row_gap;
};

Case same(std::int32_t tile, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t m) {
  return {tile, n, c, h, w, m, h, w, {1, 1}, 0, 0, 0};
}

/// Row i of G: the filter 1, x, x^2 at point i, divided by the product of the distances to the other finite points.
std::array<double, 3> weight_row(std::int32_t tile, int i) {
  const std::array<double, 5> points = {0, 1, -1, 2, -2};
  const int finite = tile + 1;
  if (i == finite) return {0, 0, 1};
  double scale = 1;
  for (int j = 0; j < finite; ++j) {
    if (j != i) scale *= points[static_cast<std::size_t>(i)] - points[static_cast<std::size_t>(j)];
  }
  const double x = points[static_cast<std::size_t>(i)];
  // The input transform carries the sign of the first row's factor, and for 2x2 that of the third one's.
  const double sign = tile == 2 && i == 0 ? -1 : 1;
  return {sign / scale, sign * x / scale, sign * x * x / scale};
}

void check_case(const Case& c, const Epilogue& epilogue = kNoEpilogue, bool in_place = false) {
  CAPTURE(c.tile);
  CAPTURE(c.c);
  CAPTURE(c.h);
  CAPTURE(c.w);
  CAPTURE(c.m);
  CAPTURE(static_cast<int>(epilogue.activation));
  CAPTURE(static_cast<int>(epilogue.residual));
  const int side = c.tile + 2;
  Tensor x = image(c.n, c.c, c.h, c.w, c.c + c.x_gap, 1);
  Tensor weights = dense({c.m, 3, 3, c.c}, 2);
  const auto weight = [&](std::int64_t m, std::int64_t kh, std::int64_t kw, std::int64_t ch) {
    return static_cast<double>(weights.data[weights.at({m, kh, kw, ch})]);
  };
  Tensor packed = panels(side * side, c.c, c.m, [&](std::int64_t p, std::int64_t ch, std::int64_t m) {
    const auto left = weight_row(c.tile, static_cast<int>(p) / side), right = weight_row(c.tile, static_cast<int>(p) % side);
    double sum = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < 3; ++j) {
        sum += left[i] * right[j] * weight(m, static_cast<std::int64_t>(i), static_cast<std::int64_t>(j), ch);
      }
    }
    return static_cast<float>(sum);
  });
  Tensor bias = dense({c.m}, 3);
  Tensor y = image(c.n, c.m, c.oh, c.ow, c.m + c.y_gap, 4, c.y_row_gap);
  Tensor residual = in_place ? y : image(c.n, c.m, c.oh, c.ow, c.m + 1, 5);
  Tensor* added = epilogue.residual == ResidualMode::None ? nullptr : &residual;
  const WinogradConvAttributes attributes = {c.tile, 0, {c.pad[0], c.pad[1]}, {c.pad[0], c.pad[1]}, epilogue};
  const auto expected = [&](const Index& i) {
    double sum = static_cast<double>(bias.data[static_cast<std::size_t>(i[1])]);
    for (std::int64_t kh = 0; kh < 3; ++kh) {
      for (std::int64_t kw = 0; kw < 3; ++kw) {
        const std::int64_t h = i[2] + kh - c.pad[0], w = i[3] + kw - c.pad[1];
        if (h < 0 || h >= c.h || w < 0 || w >= c.w) continue;
        for (std::int64_t ch = 0; ch < c.c; ++ch) {
          sum += static_cast<double>(x.data[x.at({i[0], ch, h, w})]) * weight(i[1], kh, kw, ch);
        }
      }
    }
    return finished(epilogue, sum, added == nullptr ? 0.0 : static_cast<double>(residual.data[residual.at(i)]));
  };
  // The transforms add and scale: their rows' absolute sums bound by how much errors may grow.
  const double growth = c.tile == 2 ? 4.0 : 40.0;
  compare<WinogradConv>({&x, &packed, &bias, added}, y, attributes, expected, growth * 9.0 * static_cast<double>(c.c),
                        in_place && added != nullptr);
}

}  // namespace

TEST_CASE("WinogradConv: outputs around the tile, filters around the panels and the column blocks") {
  for (const std::int32_t tile : {2, 4}) {
    for (std::int64_t size = 1; size <= 9; ++size) check_case(same(tile, 1, 16, size, 10 - size, 20));
    for (const std::int64_t m : {1, 15, 16, 17, 48, 63, 64, 65, 130}) check_case(same(tile, 1, 16, 5, 6, m));
  }
}

TEST_CASE("WinogradConv: many tiles, several images") {
  for (const std::int32_t tile : {2, 4}) {
    check_case(same(tile, 2, 32, 19, 23, 40));
    check_case(same(tile, 1, 208, 12, 13, 24));
    check_case(same(tile, 3, 512, 5, 6, 16));
  }
}

TEST_CASE("WinogradConv: padding on one side, none, and more than the window; slices of wider tensors") {
  for (const std::int32_t tile : {2, 4}) {
    check_case({tile, 1, 16, 7, 8, 18, 5, 6, {0, 0}, 0, 0, 0});
    check_case({tile, 1, 16, 7, 8, 18, 6, 8, {0, 1}, 0, 0, 0});
    check_case({tile, 1, 16, 3, 3, 18, 11, 12, {5, 4}, 0, 0, 0});
    check_case({tile, 2, 16, 5, 6, 24, 5, 6, {1, 1}, 6, 8, 0});
    check_case({tile, 2, 16, 5, 6, 24, 5, 6, {1, 1}, 0, 3, 5});
    check_case({tile, 0, 16, 5, 6, 24, 5, 6, {1, 1}, 0, 0, 0});
    check_case({tile, 1, 0, 5, 6, 24, 5, 6, {1, 1}, 0, 0, 0});
  }
}

TEST_CASE("WinogradConv: every epilogue, also in place") {
  for (const Epilogue& epilogue : all_epilogues()) {
    check_case(same(2, 1, 16, 5, 6, 20), epilogue);
    check_case(same(4, 1, 16, 5, 6, 32), epilogue, true);
  }
}

TEST_CASE("WinogradConv: operands that it must refuse") {
  Tensor x = image(1, 16, 5, 5, 16, 1);
  Tensor w = panels(16, 16, 12, [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; });
  Tensor bias = dense({12}, 1);
  Tensor y = image(1, 12, 5, 5, 12, 2);
  const WinogradConvAttributes good = {2, 0, {1, 1}, {1, 1}, kNoEpilogue};
  const auto refused = [&](const std::function<void(Call&)>& spoil, WinogradConvAttributes attributes) {
    Call call({&x, &w, &bias, nullptr}, y, false);
    spoil(call);
    return WinogradConv::check(call.work(attributes)) != nullptr;
  };
  const auto nothing = [](Call&) {};
  CHECK(!refused(nothing, good));
  CHECK(refused([](Call& c) { c.input(0).dtype = DType::I32; }, good));
  CHECK(refused([](Call& c) { c.input(0).rank = 3; }, good));
  CHECK(refused([](Call& c) { c.input(0).dims[1] = 15; }, good));
  CHECK(refused([](Call& c) { c.input(0).dims[1] = 32; }, good));
  CHECK(refused([](Call& c) { c.input(0).strides[1] = 2; }, good));
  CHECK(refused([](Call& c) { c.input(1).format = WeightFormat::Strided; }, good));
  CHECK(refused([](Call& c) { c.input(1).dims[0] = 36; }, good));
  CHECK(refused([](Call& c) { c.input(1).dims[2] = 16; }, good));
  CHECK(refused([](Call& c) { c.input(2).dims[0] = 16; }, good));
  CHECK(refused([](Call& c) { c.output().strides[2] = 1; }, good));
  CHECK(refused([](Call& c) { c.output().dims[0] = 2; }, good));
  WinogradConvAttributes bad = good;
  bad.tile = 3;
  CHECK(refused(nothing, bad));
  bad = good;
  bad.tile = 4;
  CHECK(refused(nothing, bad));
  bad = good;
  bad.pad_begin[1] = -1;
  CHECK(refused(nothing, bad));
  bad = good;
  bad.epilogue.residual = ResidualMode::BeforeActivation;
  CHECK(refused(nothing, bad));
}
