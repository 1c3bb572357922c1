// SPDX-License-Identifier: Apache-2.0
// Determinants against the sum over all permutations.
#include "edgert/cpu/ops/determinant.h"

#include <algorithm>
#include <numeric>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

double by_permutations(const Tensor& x, std::int64_t batch) {
  const std::int64_t size = x.view().dims[1];
  std::vector<std::int64_t> columns(static_cast<std::size_t>(size));
  std::iota(columns.begin(), columns.end(), 0);
  double sum = 0;
  do {
    double product = 1;
    int inversions = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      product *= x.get((batch * size + i) * size + columns[static_cast<std::size_t>(i)]);
      for (std::int64_t j = 0; j < i; ++j)
        inversions += columns[static_cast<std::size_t>(j)] > columns[static_cast<std::size_t>(i)] ? 1 : 0;
    }
    sum += inversions % 2 == 0 ? product : -product;
  } while (std::next_permutation(columns.begin(), columns.end()));
  return sum;
}

}  // namespace

TEST_CASE("Determinant: every size, type and layout") {
  std::mt19937 random(61);
  for (const std::int64_t size : {0, 1, 2, 3, 4, 6}) {
    for (const DType type : {DType::F32, DType::F64}) {
      for (const Order order : {Order::RowMajor, Order::Reversed}) {
        Tensor x(type, {3, size, size}, order, 1);
        x.fill(random, -2, 2);
        for (std::int64_t i = 0; i < x.elements(); i += 3) x.set(i, 0);  // pivots that must be looked for
        Tensor y(type, {3});
        run_everywhere<cpu::Determinant>({x.view()}, y, {}, [&] {
          for (std::int64_t b = 0; b < 3; ++b) REQUIRE(close(y.get(b), by_permutations(x, b), 1e-6, 1e-6));
        });
      }
    }
  }
}

TEST_CASE("Determinant: singular matrices have none but 0") {
  Tensor x(DType::F64, {1, 3, 3});
  for (std::int64_t i = 0; i < 9; ++i) x.set(i, i < 6 ? static_cast<double>(i % 3) : 0);
  Tensor y(DType::F64, {1});
  REQUIRE(run<cpu::Determinant>({x.view()}, y.view(), {}, cpu::Isa::Baseline, 1).ok());
  CHECK(y.get(0) == 0);
}

TEST_CASE("Determinant: check refuses") {
  const auto wrong = [](const Tensor& x, const Tensor& y) { return check<cpu::Determinant>({x.view()}, y.view(), {}) != nullptr; };
  CHECK_FALSE(wrong(Tensor(DType::F32, {2, 3, 3}), Tensor(DType::F32, {2})));
  CHECK(wrong(Tensor(DType::F32, {2, 3, 4}), Tensor(DType::F32, {2})));
  CHECK(wrong(Tensor(DType::F32, {2, 3, 3}), Tensor(DType::F32, {3})));
  CHECK(wrong(Tensor(DType::F32, {2, 3, 3}), Tensor(DType::F64, {2})));
  CHECK(wrong(Tensor(DType::F16, {2, 3, 3}), Tensor(DType::F16, {2})));
  CHECK(wrong(Tensor(DType::F32, {3, 3}), Tensor(DType::F32, {1})));
  CHECK(wrong(Tensor(DType::F32, {1, 5000, 5000}, Order::RowMajor, 0, 6), Tensor(DType::F32, {1})));
}

TEST_CASE("Determinant: odd layouts stay inside") {
  std::mt19937 random(62);
  for (int trial = 0; trial < 500; ++trial) {
    const std::int64_t size = static_cast<std::int64_t>(random() % 5);
    const std::int64_t batch = static_cast<std::int64_t>(random() % 4);
    Tensor x(DType::F32, {batch, size, size}, random() % 2 != 0 ? Order::Reversed : Order::RowMajor, random() % 3,
             static_cast<unsigned>(random() % 8));
    x.fill_bits(random);
    const Tensor y(DType::F32, {batch}, Order::RowMajor, random() % 2);
    REQUIRE(run<cpu::Determinant>({x.view()}, y.view(), {}, cpu::Isa::Baseline, 1 + random() % 3).ok());
  }
}
