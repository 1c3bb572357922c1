// SPDX-License-Identifier: Apache-2.0
// DepthwiseConv against the definition, in double precision.
#include "edgert/cpu/ops/depthwise_conv.h"

#include "dense_reference.h"

using namespace dense_test;
using edgert::cpu::DepthwiseConv;
using edgert::cpu::DepthwiseConvAttributes;

namespace {

struct Case {
  std::int64_t n, c, h, w, oh, ow;
  std::int32_t kernel[2], stride[2], dilation[2], pad[2];
  std::int64_t x_gap, y_gap;
  std::int64_t group = 1;
};

Case square(std::int64_t n, std::int64_t c, std::int64_t size, std::int32_t kernel, std::int32_t stride,
            std::int32_t pad, std::int32_t dilation = 1) {
  const std::int64_t out = (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
  return {n, c, size, size, out, out, {kernel, kernel}, {stride, stride}, {dilation, dilation}, {pad, pad}, 0, 0};
}

void check_case(const Case& c, const Epilogue& epilogue = kNoEpilogue, bool with_bias = true, bool in_place = false) {
  CAPTURE(c.n);
  CAPTURE(c.c);
  CAPTURE(c.h);
  CAPTURE(c.w);
  CAPTURE(c.kernel[0]);
  CAPTURE(c.kernel[1]);
  CAPTURE(c.stride[1]);
  CAPTURE(static_cast<int>(epilogue.activation));
  CAPTURE(static_cast<int>(epilogue.residual));
  Tensor x = image(c.n, c.c, c.h, c.w, c.c + c.x_gap, 1);
  Tensor weights = dense({c.kernel[0], c.kernel[1] * c.group, c.c}, 2);
  Tensor bias = dense({c.c}, 3);
  Tensor y = image(c.n, c.c, c.oh, c.ow, c.c + c.y_gap, 4);
  Tensor residual = in_place ? y : image(c.n, c.c, c.oh, c.ow, c.c + 1, 5);
  Tensor* added = epilogue.residual == ResidualMode::None ? nullptr : &residual;
  DepthwiseConvAttributes attributes = {};
  for (int i = 0; i < 2; ++i) {
    attributes.kernel[i] = c.kernel[i];
    attributes.stride[i] = c.stride[i];
    attributes.dilation[i] = c.dilation[i];
    attributes.pad_begin[i] = c.pad[i];
  }
  attributes.epilogue = epilogue;
  const auto expected = [&](const Index& i) {
    double sum = with_bias ? static_cast<double>(bias.data[static_cast<std::size_t>(i[1])]) : 0.0;
    for (std::int64_t kh = 0; kh < c.kernel[0]; ++kh) {
      for (std::int64_t kw = 0; kw < c.kernel[1]; ++kw) {
        const std::int64_t h = i[2] * c.stride[0] + kh * c.dilation[0] - c.pad[0];
        const std::int64_t w = i[3] * c.stride[1] + kw * c.dilation[1] - c.pad[1];
        if (h < 0 || h >= c.h || w < 0 || w >= c.w) continue;
        for (std::int64_t g = 0; g < c.group; ++g) {
          sum += static_cast<double>(x.data[x.at({i[0], i[1] / c.group * c.group + g, h, w})]) *
                 static_cast<double>(weights.data[weights.at({kh, kw * c.group + g, i[1]})]);
        }
      }
    }
    return finished(epilogue, sum, added == nullptr ? 0.0 : static_cast<double>(residual.data[residual.at(i)]));
  };
  compare<DepthwiseConv>({&x, &weights, with_bias ? &bias : nullptr, added}, y, attributes, expected,
                         static_cast<double>(c.kernel[0] * c.kernel[1] * c.group), in_place && added != nullptr);
}

}  // namespace

TEST_CASE("DepthwiseConv: channels around every vector's length") {
  for (const std::int64_t c : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 58, 260, 272}) {
    check_case(square(1, c, 6, 3, 1, 1));
  }
}

TEST_CASE("DepthwiseConv: groups of several channels") {
  const auto grouped = [](Case c, std::int64_t group) {
    c.group = group;
    return c;
  };
  for (const std::int64_t group : {4, 8}) {
    for (const std::int64_t c : {16, 32, 48, 80, 272}) check_case(grouped(square(1, c, 6, 3, 1, 1), group));
    for (std::int64_t w = 1; w <= 10; ++w) {
      check_case(grouped({2, 48, 4, w, 4, w, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 3, 5}, group));
    }
    check_case(grouped(square(1, 32, 33, 3, 2, 1), group));
    check_case(grouped(square(2, 32, 9, 5, 1, 4, 2), group));
    check_case(grouped(square(1, 16, 5, 1, 1, 0), group), kNoEpilogue, false);
    for (const Epilogue& epilogue : all_epilogues()) check_case(grouped(square(1, 32, 8, 3, 1, 1), group), epilogue);
  }
}

TEST_CASE("DepthwiseConv: groups that the kernel does not have are refused") {
  const auto accepted = [&](std::int64_t channels, std::int64_t group) {
    Tensor x = image(1, channels, 5, 5, channels, 1), y = image(1, channels, 5, 5, channels, 2);
    Tensor w = dense({3, 3 * group, channels}, 3);
    DepthwiseConvAttributes attributes = {{3, 3}, {1, 1}, {1, 1}, {1, 1}, kNoEpilogue, {1, 1}};
    return DepthwiseConv::check(Call({&x, &w}, y, false).work(attributes)) == nullptr;
  };
  CHECK(accepted(48, 1));
  CHECK(accepted(48, 4));
  CHECK(accepted(48, 8));
  CHECK(!accepted(48, 0));
  CHECK(!accepted(48, 2));
  CHECK(!accepted(48, 16));
  CHECK(!accepted(40, 8));
  CHECK(!accepted(8, 4));
}

TEST_CASE("DepthwiseConv: widths around the tile and the segment") {
  for (const std::int64_t w : {1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 15, 16, 17, 18, 20, 33}) {
    check_case({2, 20, 4, w, 4, w, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 0, 0});
    check_case({1, 20, 4, w, 2, (w + 1) / 2, {5, 5}, {2, 2}, {1, 1}, {2, 2}, 0, 0});
  }
}

TEST_CASE("DepthwiseConv: windows, strides and dilations") {
  for (const std::int32_t kernel : {1, 2, 3, 4, 5, 7}) {
    for (const std::int32_t stride : {1, 2, 3}) {
      for (const std::int32_t dilation : {1, 2}) check_case(square(1, 24, 13, kernel, stride, kernel / 2, dilation));
    }
  }
  check_case({1, 40, 1, 50, 1, 50, {1, 31}, {1, 1}, {1, 1}, {0, 15}, 0, 0});
  check_case(square(1, 40, 20, 25, 1, 12));
}

TEST_CASE("DepthwiseConv: padding on one side, windows larger than the image, results past its end") {
  check_case({1, 17, 6, 7, 6, 7, {3, 3}, {1, 1}, {1, 1}, {2, 0}, 0, 0});
  check_case({1, 17, 2, 2, 9, 9, {5, 5}, {2, 2}, {3, 3}, {7, 9}, 0, 0});
  check_case({1, 17, 2, 3, 5, 9, {3, 3}, {2, 2}, {1, 1}, {0, 0}, 0, 0});
  check_case({1, 17, 0, 4, 2, 4, {3, 3}, {1, 1}, {1, 1}, {2, 1}, 0, 0});
}

TEST_CASE("DepthwiseConv: slices of wider tensors") {
  check_case({2, 18, 5, 6, 5, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 6, 8});
  check_case({2, 130, 2, 6, 2, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 0, 3}, kNoEpilogue, false);
}

TEST_CASE("DepthwiseConv: every epilogue, also in place") {
  for (const Epilogue& epilogue : all_epilogues()) {
    check_case(square(1, 21, 5, 3, 1, 1), epilogue);
    check_case(square(1, 32, 4, 3, 1, 1), epilogue, false, true);
    check_case(square(1, 3, 4, 3, 1, 1), epilogue, true, true);
  }
}

TEST_CASE("DepthwiseConv: empty results") {
  check_case({0, 4, 5, 5, 5, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 0, 0});
  check_case({1, 4, 5, 5, 0, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 0, 0});
  check_case({1, 0, 5, 5, 5, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 0, 0});
}

TEST_CASE("DepthwiseConv: operands that it must refuse") {
  Tensor x = image(1, 12, 5, 5, 12, 1);
  Tensor w = dense({3, 3, 12}, 1);
  Tensor bias = dense({12}, 1);
  Tensor y = image(1, 12, 5, 5, 12, 2);
  const DepthwiseConvAttributes good = {{3, 3}, {1, 1}, {1, 1}, {1, 1}, kNoEpilogue, {1, 1}};
  DepthwiseConvAttributes attributes = good;
  const auto refused = [&](const std::function<void(Call&)>& spoil) {
    Call call({&x, &w, &bias, nullptr}, y, false);
    spoil(call);
    return DepthwiseConv::check(call.work(attributes)) != nullptr;
  };
  CHECK(!refused([](Call&) {}));
  CHECK(refused([](Call& c) { c.input(0).dtype = DType::BF16; }));
  CHECK(refused([](Call& c) { c.input(0).dims[1] = 11; }));
  CHECK(refused([](Call& c) { c.input(0).dims[0] = 2; }));
  CHECK(refused([](Call& c) { c.input(0).strides[1] = 25; }));
  CHECK(refused([](Call& c) { c.input(1).dims[0] = 2; }));
  CHECK(refused([](Call& c) { c.input(1).dims[1] = 5; }));
  CHECK(refused([](Call& c) { c.input(1).dims[2] = 11; }));
  CHECK(refused([](Call& c) { c.input(1).strides[0] = 0; }));
  CHECK(refused([](Call& c) { c.input(1).format = WeightFormat::PanelF32x16; }));
  CHECK(refused([](Call& c) { c.input(2).dims[0] = 11; }));
  CHECK(refused([](Call& c) { c.output().dims[1] = 13; }));
  CHECK(refused([](Call& c) { c.output().strides[1] = 25; }));
  CHECK(refused([](Call& c) { c.output().strides[3] = 4; }));
  const auto refused_with = [&](const std::function<void(DepthwiseConvAttributes&)>& spoil) {
    attributes = good;
    spoil(attributes);
    return refused([](Call&) {});
  };
  for (const std::int32_t bad : {0, -1, INT32_MIN, INT32_MAX, 1 << 16}) {
    for (int i = 0; i < 2; ++i) {
      CHECK(refused_with([&](DepthwiseConvAttributes& a) { a.kernel[i] = bad; }));
      CHECK(refused_with([&](DepthwiseConvAttributes& a) { a.stride[i] = bad; }));
      CHECK(refused_with([&](DepthwiseConvAttributes& a) { a.dilation[i] = bad; }));
      if (bad != 0) CHECK(refused_with([&](DepthwiseConvAttributes& a) { a.pad_begin[i] = bad; }));
    }
  }
  CHECK(refused_with([](DepthwiseConvAttributes& a) { a.epilogue.activation = PointwiseOp::Sin; }));
  CHECK(refused_with([](DepthwiseConvAttributes& a) { a.epilogue.residual = ResidualMode::AfterActivation; }));
}

/// Operands of `channels` channels and weights of these dims, under attributes that lie.
void run_hostile_geometry(std::int64_t channels, const Index& weights) {
  Tensor x = image(2, channels, 5, 8, channels, 1);
  Tensor w = dense(weights, 1);
  Tensor bias = dense({channels}, 1);
  Tensor y = image(2, channels, 5, 8, channels, 2);
  Tensor residual = y;
  const DepthwiseConvAttributes attributes = {
      {3, 3}, {1, 1}, {1, 1}, {1, 1}, {PointwiseOp::Silu, ResidualMode::BeforeActivation, {0, 0}, 0, 0}, {1, 1}};
  run_hostile<DepthwiseConv>({&x, &w, &bias, &residual}, y, attributes,
                             [](DepthwiseConvAttributes& a, const std::function<std::int64_t()>& number) {
                               std::int32_t* const fields[] = {&a.kernel[0], &a.kernel[1], &a.stride[0],
                                                               &a.stride[1], &a.dilation[0], &a.dilation[1],
                                                               &a.pad_begin[0], &a.pad_begin[1]};
                               *fields[number() % 8] = static_cast<std::int32_t>(number());
                             });
}

TEST_CASE("DepthwiseConv: whatever it accepts stays inside its operands") { run_hostile_geometry(17, {3, 3, 17}); }

TEST_CASE("DepthwiseConv: hostile groups stay inside their memory") { run_hostile_geometry(48, {3, 12, 48}); }
