// SPDX-License-Identifier: Apache-2.0
// MatMul against a triple loop in double precision.
#include "edgert/cpu/ops/matmul.h"

#include "dense_reference.h"

using namespace dense_test;
using edgert::cpu::MatMul;
using edgert::cpu::MatMulAttributes;

namespace {

struct Case {
  std::int64_t batch, m, k, n;
  bool packed;
  bool shared;          // one b for the whole batch
  bool transposed_a;    // stride 1 along M instead of K
  bool transposed_b;    // of a strided b
  std::int64_t pitch;   // extra floats after a row of y
};

void check_case(const Case& c, const Epilogue& epilogue = kNoEpilogue, bool with_bias = true, bool in_place = false) {
  CAPTURE(c.batch);
  CAPTURE(c.m);
  CAPTURE(c.k);
  CAPTURE(c.n);
  CAPTURE(c.packed);
  CAPTURE(static_cast<int>(epilogue.activation));
  CAPTURE(static_cast<int>(epilogue.residual));
  const Index a_strides = c.transposed_a ? Index{c.m * c.k, 1, c.m} : Index{c.m * c.k, c.k, 1};
  Tensor a = strided({c.batch, c.m, c.k}, a_strides, 1);
  const std::int64_t matrix = c.shared ? 0 : c.k * c.n;
  const Index b_strides = c.transposed_b ? Index{matrix, 1, c.k} : Index{matrix, c.n, 1};
  Tensor plain_b = strided({c.packed && c.batch == 0 ? 1 : c.batch, c.k, c.n}, b_strides, 2);
  Tensor packed_b = panels(c.shared ? 1 : c.batch, c.k, c.n, [&](std::int64_t g, std::int64_t k, std::int64_t n) {
    return plain_b.data[plain_b.at({g, k, n})];
  });
  Tensor bias = dense({c.n}, 3);
  const std::int64_t row = c.n + c.pitch;
  Tensor y = strided({c.batch, c.m, c.n}, {c.m * row, row, 1}, 4);
  Tensor residual = in_place ? y : strided({c.batch, c.m, c.n}, {c.m * (row + 3), row + 3, 1}, 5);
  Tensor* added = epilogue.residual == ResidualMode::None ? nullptr : &residual;
  const auto expected = [&](const Index& i) {
    double sum = with_bias ? static_cast<double>(bias.data[static_cast<std::size_t>(i[2])]) : 0.0;
    for (std::int64_t k = 0; k < c.k; ++k) {
      sum += static_cast<double>(a.data[a.at({i[0], i[1], k})]) *
             static_cast<double>(plain_b.data[plain_b.at({i[0], k, i[2]})]);
    }
    return finished(epilogue, sum, added == nullptr ? 0.0 : static_cast<double>(residual.data[residual.at(i)]));
  };
  compare<MatMul>({&a, c.packed ? &packed_b : &plain_b, with_bias ? &bias : nullptr, added}, y, {epilogue}, expected,
                  static_cast<double>(c.k), in_place && added != nullptr);
}

}  // namespace

TEST_CASE("MatMul: rows and columns around the tile sizes") {
  for (const std::int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 25, 49}) {
    for (const std::int64_t n : {1, 15, 16, 17, 32, 33, 48, 50}) check_case({1, m, 37, n, true, true, false, false, 0});
  }
}

TEST_CASE("MatMul: one row takes more panels at once") {
  for (const std::int64_t n : {63, 64, 65, 72, 80, 96, 113, 128, 200}) {
    check_case({1, 1, 37, n, true, true, false, false, 0});
    check_case({2, 1, 5, n, true, false, false, false, 3}, kNoEpilogue, false);
  }
}

TEST_CASE("MatMul: deep panels, which are brought ahead, and many rows") {
  for (const std::int64_t k : {63, 64, 100, 512, 513}) check_case({1, 49, k, 100, true, true, false, false, 0});
}

TEST_CASE("MatMul: depths, one being none") {
  for (const std::int64_t k : {0, 1, 2, 3, 16, 255, 1000}) {
    check_case({1, 13, k, 35, true, true, false, false, 0});
    check_case({1, 13, k, 35, false, true, true, false, 5});
  }
}

TEST_CASE("MatMul: more rows and panels than are prepared at once") {
  check_case({1, 230, 20, 40, true, true, false, false, 8});
  check_case({1, 230, 20, 40, true, true, true, false, 0});
  check_case({3, 70, 9, 130, true, true, false, false, 0});
}

TEST_CASE("MatMul: batches, transposed and strided operands") {
  for (const bool packed : {false, true}) {
    for (const bool shared : {false, true}) {
      for (const bool transposed_a : {false, true}) {
        for (const bool transposed_b : {false, true}) {
          check_case({3, 14, 19, 37, packed, shared, transposed_a, transposed_b, 3});
          check_case({4, 1, 19, 20, packed, shared, transposed_a, transposed_b, 0});
        }
      }
    }
  }
}

TEST_CASE("MatMul: every epilogue, also in place") {
  for (const Epilogue& epilogue : all_epilogues()) {
    check_case({1, 13, 21, 43, true, true, false, false, 5}, epilogue, true, false);
    check_case({1, 7, 21, 64, true, true, false, false, 0}, epilogue, false, true);
    check_case({1, 1, 21, 70, true, true, false, false, 0}, epilogue, true, true);
  }
}

TEST_CASE("MatMul: attention heads written side by side") {
  // y[b, h, s, d] in memory ordered (b, s, h, d): batch strides between the row stride and the column stride.
  const std::int64_t batch = 2, heads = 3, length = 9, depth = 11, width = 20;
  Tensor a = dense({batch, heads, length, depth}, 1);
  Tensor b = strided({batch, heads, depth, width},
                     {depth * heads * width, width, heads * width, 1}, 2);
  Tensor y = strided({batch, heads, length, width}, {length * heads * width, width, heads * width, 1}, 3);
  compare<MatMul>({&a, &b}, y, {kNoEpilogue},
                  [&](const Index& i) {
                    double sum = 0;
                    for (std::int64_t k = 0; k < depth; ++k) {
                      sum += static_cast<double>(a.data[a.at({i[0], i[1], i[2], k})]) *
                             static_cast<double>(b.data[b.at({i[0], i[1], k, i[3]})]);
                    }
                    return sum;
                  },
                  double(depth));
}

TEST_CASE("MatMul: empty results and NaN") {
  check_case({1, 0, 5, 7, true, true, false, false, 0});
  check_case({1, 5, 5, 0, true, true, false, false, 0});
  check_case({0, 5, 5, 7, true, true, false, false, 0});
  Tensor a = dense({2, 4}, 1);
  a.data[1] = std::nanf("");
  Tensor b = panels(1, 4, 20, [](std::int64_t, std::int64_t k, std::int64_t c) { return static_cast<float>(k + c); });
  for (const Isa isa : isas()) {
    Tensor y = dense({2, 20}, 2);
    run<MatMul>({&a, &b}, y, {{PointwiseOp::Relu, ResidualMode::None, {0, 0}, 0.0f, 0.0f}}, isa, 1);
    for (std::size_t i = 0; i < 20; ++i) {
      CHECK(std::isnan(y.data[i]));
      CHECK(!std::isnan(y.data[20 + i]));
    }
  }
}

TEST_CASE("MatMul: operands that it must refuse") {
  Tensor a = dense({2, 6, 8}, 1);
  Tensor b = panels(1, 8, 20, [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; });
  Tensor bias = dense({20}, 1);
  Tensor residual = dense({2, 6, 20}, 2);
  Tensor y = dense({2, 6, 20}, 3);
  MatMulAttributes attributes = {kNoEpilogue};
  const auto refused = [&](const std::function<void(Call&)>& spoil) {
    Call call({&a, &b, &bias, attributes.epilogue.residual == ResidualMode::None ? nullptr : &residual}, y, false);
    spoil(call);
    return MatMul::check(call.work(attributes)) != nullptr;
  };
  CHECK(!refused([](Call&) {}));
  CHECK(refused([](Call& c) { c.input(0).dtype = DType::F16; }));
  CHECK(refused([](Call& c) { c.input(0).rank = 2; }));
  CHECK(refused([](Call& c) { c.input(0).dims[1] = 7; }));
  CHECK(refused([](Call& c) { c.input(0).dims[2] = 9; }));
  CHECK(refused([](Call& c) { c.input(0).format = WeightFormat::PanelF32x16; }));
  CHECK(refused([](Call& c) { c.input(1).dims[1] = 9; }));
  CHECK(refused([](Call& c) { c.input(1).dims[2] = 21; }));
  CHECK(refused([](Call& c) { c.input(1).dims[0] = 3; }));
  CHECK(refused([](Call& c) { c.input(1).dims[0] = 0; }));
  CHECK(refused([](Call& c) { c.input(1).format = WeightFormat::Strided; }));
  CHECK(refused([](Call& c) { c.input(1).dtype = DType::I8; }));
  CHECK(refused([](Call& c) { c.input(2).dims[0] = 19; }));
  CHECK(refused([](Call& c) { c.input(2).strides[0] = 2; }));
  CHECK(refused([](Call& c) { c.input(3) = c.output(); }));
  CHECK(refused([](Call& c) { c.output().strides[2] = 2; }));
  CHECK(refused([](Call& c) { c.output().strides[1] = 19; }));
  CHECK(refused([](Call& c) { c.output().strides[0] = 0; }));
  CHECK(refused([](Call& c) { c.output().dtype = DType::Undefined; }));
  CHECK(refused([](Call& c) { c.output().rank = 1; }));
  for (const int code : {12, 24, 28, 39, 57, 80, 120, 200, 255}) {  // not scalar, not an activation, or no number
    attributes.epilogue.activation = static_cast<PointwiseOp>(code);
    CHECK(refused([](Call&) {}));
  }
  attributes.epilogue.activation = PointwiseOp::Relu;
  attributes.epilogue.residual = static_cast<ResidualMode>(3);
  CHECK(refused([](Call&) {}));
  attributes.epilogue.residual = ResidualMode::AfterActivation;
  CHECK(!refused([](Call&) {}));
  CHECK(refused([](Call& c) { c.input(3) = TensorView{}; }));
  CHECK(refused([](Call& c) { c.input(3).strides[2] = 0; }));
  CHECK(refused([](Call& c) { c.input(3).dims[0] = 1; }));
}

TEST_CASE("MatMul: whatever it accepts stays inside its operands") {
  Tensor a = dense({2, 3, 17, 12}, 1);
  Tensor plain_b = dense({2, 3, 12, 24}, 2);
  Tensor packed_b = panels(6, 12, 24, [](std::int64_t, std::int64_t, std::int64_t) { return 1.0f; });
  Tensor bias = dense({24}, 1);
  Tensor y = dense({2, 3, 17, 24}, 3);
  Tensor residual = y;
  const MatMulAttributes attributes = {{PointwiseOp::Clip, ResidualMode::BeforeActivation, {0, 0}, -1.0f, 1.0f}};
  const auto spoil = [](MatMulAttributes& at, const std::function<std::int64_t()>& number) {
    at.epilogue.activation = static_cast<PointwiseOp>(number());
  };
  run_hostile<MatMul>({&a, &plain_b, &bias, &residual}, y, attributes, spoil);
  run_hostile<MatMul>({&a, &packed_b, &bias, &residual}, y, attributes, spoil);
}
