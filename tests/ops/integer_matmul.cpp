// SPDX-License-Identifier: Apache-2.0
// IntegerMatMul of every type combination, against three nested loops; sums wrap.
#include "edgert/cpu/ops/integer_matmul.h"

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

/// The element of a product of row-major [.., M, K] and [.., K, N], batch dimensions in front equal.
std::uint64_t element(const Tensor& a, const Tensor& b, std::int64_t batch, std::int64_t m, std::int64_t n) {
  const TensorView& left = a.view();
  const TensorView& right = b.view();
  const std::int64_t rows = left.dims[left.rank - 2], depth = left.dims[left.rank - 1], columns = right.dims[right.rank - 1];
  std::uint64_t sum = 0;
  for (std::int64_t k = 0; k < depth; ++k) {
    sum += static_cast<std::uint64_t>(a.get_int((batch * rows + m) * depth + k)) *
           static_cast<std::uint64_t>(b.get_int((batch * depth + k) * columns + n));
  }
  return sum;
}

std::uint64_t low_bits(std::uint64_t x, DType type) { return bits_of(type) == 64 ? x : x & 0xffffffffu; }

}  // namespace

TEST_CASE("IntegerMatMul: every type, shape and layout") {
  std::mt19937 random(51);
  const Dims shapes[] = {{1, 1, 1}, {3, 4, 5}, {1, 300, 1}, {7, 1, 130}, {2, 0, 3}, {0, 4, 3}, {5, 33, 257}};
  for (const DType from : {DType::I16, DType::I32, DType::U32, DType::I64, DType::U64}) {
    const DType to = from == DType::I16 ? DType::I32 : from;
    for (const Dims& shape : shapes) {
      for (const Dims& batch : {Dims{}, Dims{3}, Dims{2, 2}}) {
        for (const Order order : {Order::RowMajor, Order::Reversed, Order::ChannelsLast}) {
          const auto with = [&](std::int64_t rows, std::int64_t columns) {
            Dims dims = batch;
            dims.insert(dims.end(), {rows, columns});
            return dims;
          };
          Tensor a(from, with(shape[0], shape[1]), order);
          Tensor b(from, with(shape[1], shape[2]), order, 1, batch.size() == 1 ? 1 : 0);
          Tensor y(to, with(shape[0], shape[2]), order == Order::Reversed ? Order::RowMajor : order);
          a.fill_bits(random);
          b.fill_bits(random);
          run_everywhere<cpu::IntegerMatMul>({a.view(), b.view()}, y, {}, [&] {
            const std::int64_t plane = shape[0] * shape[2];
            for (std::int64_t i = 0; i < y.elements(); ++i) {
              const std::uint64_t expected = element(a, b, i / plane, i % plane / shape[2], i % shape[2]);
              REQUIRE(low_bits(static_cast<std::uint64_t>(y.get_int(i)), to) == low_bits(expected, to));
            }
          });
        }
      }
    }
  }
}

TEST_CASE("IntegerMatMul: check refuses") {
  const auto wrong = [](const Tensor& a, const Tensor& b, const Tensor& y) {
    return check<cpu::IntegerMatMul>({a.view(), b.view()}, y.view(), {}) != nullptr;
  };
  const Tensor a(DType::I16, {2, 3});
  const Tensor b(DType::I16, {3, 4});
  const Tensor y(DType::I32, {2, 4});
  CHECK_FALSE(wrong(a, b, y));
  CHECK(wrong(a, b, Tensor(DType::I16, {2, 4})));
  CHECK(wrong(a, b, Tensor(DType::F32, {2, 4})));
  CHECK(wrong(a, b, Tensor(DType::I32, {2, 5})));
  CHECK(wrong(a, b, Tensor(DType::I32, {3, 4})));
  CHECK(wrong(a, b, Tensor(DType::I32, {1, 2, 4})));
  CHECK(wrong(a, Tensor(DType::I16, {4, 4}), y));
  CHECK(wrong(a, Tensor(DType::I32, {3, 4}), y));
  CHECK(wrong(Tensor(DType::I8, {2, 3}), Tensor(DType::I8, {3, 4}), y));
  CHECK(wrong(Tensor(DType::I16, {2, 2, 3}), Tensor(DType::I16, {1, 3, 4}), Tensor(DType::I32, {2, 2, 4})));
  CHECK(wrong(Tensor(DType::I16, {3}), b, Tensor(DType::I32, {4})));
  CHECK(wrong(a, b, Tensor(DType::I32, {2, 4}, Order::RowMajor, 0, 2)));
}

TEST_CASE("IntegerMatMul: random operands and attributes stay inside") {
  std::mt19937 random(6);
  for (int trial = 0; trial < 2000; ++trial) {
    const auto extent = [&] { return static_cast<std::int64_t>(random() % 4); };
    const Dims dims = {extent(), extent(), extent(), extent()};
    const Tensor a(DType::I32, {dims[0], dims[1], dims[2]}, random() % 2 != 0 ? Order::Reversed : Order::RowMajor,
                   random() % 3, static_cast<unsigned>(random() % 8));
    const Tensor b(DType::I32, {dims[0], dims[2], dims[3]}, random() % 2 != 0 ? Order::Reversed : Order::RowMajor,
                   random() % 3, static_cast<unsigned>(random() % 8));
    const Tensor y(DType::I32, {dims[0], dims[1], dims[3]}, random() % 2 != 0 ? Order::Reversed : Order::RowMajor, random() % 3);
    REQUIRE(check<cpu::IntegerMatMul>({a.view(), b.view()}, y.view(), {}) == nullptr);
    REQUIRE(run<cpu::IntegerMatMul>({a.view(), b.view()}, y.view(), {}, cpu::Isa::Baseline, 1 + random() % 3).ok());
  }
}
