// SPDX-License-Identifier: Apache-2.0
// Scatter with every reduction and type, against doing it row by row; hostile indices.
#include "edgert/cpu/ops/scatter.h"

#include <algorithm>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;
using cpu::ScatterReduction;

namespace {

double combine(ScatterReduction reduction, double old, double update) {
  switch (reduction) {
    case ScatterReduction::Add: return old + update;
    case ScatterReduction::Mul: return old * update;
    case ScatterReduction::Max: return std::max(old, update);
    case ScatterReduction::Min: return std::min(old, update);
    default: return update;
  }
}

/// Small whole numbers, so that every type computes exactly.
Tensor small_numbers(DType type, const Dims& dims, Order order, std::mt19937& random) {
  Tensor tensor(type, dims, order, 1);
  for (std::int64_t i = 0; i < tensor.elements(); ++i) tensor.set(i, static_cast<double>(random() % 3));
  return tensor;
}

}  // namespace

TEST_CASE("Scatter: every reduction, type and layout") {
  std::mt19937 random(41);
  for (const DType type : {DType::F32, DType::F64, DType::F16, DType::BF16, DType::I8, DType::U8, DType::I16, DType::U16,
                           DType::I32, DType::U32, DType::I64, DType::U64}) {
    for (const ScatterReduction reduction : {ScatterReduction::None, ScatterReduction::Add, ScatterReduction::Mul,
                                             ScatterReduction::Max, ScatterReduction::Min}) {
      for (const Order order : {Order::RowMajor, Order::Reversed}) {
        const std::int64_t rows = 11, columns = 5, count = 17;  // some rows are met twice
        const Tensor data = small_numbers(type, {rows, columns}, order, random);
        const Tensor updates = small_numbers(type, {count, columns}, Order::RowMajor, random);
        Tensor indices(DType::I64, {count});
        for (std::int64_t i = 0; i < count; ++i) indices.set_int(i, static_cast<std::int64_t>(random() % rows));
        std::vector<double> expected;
        for (std::int64_t i = 0; i < rows * columns; ++i) expected.push_back(data.get(i));
        for (std::int64_t i = 0; i < count * columns; ++i) {
          double& element = expected[static_cast<std::size_t>(indices.get_int(i / columns) * columns + i % columns)];
          element = combine(reduction, element, updates.get(i));
        }
        Tensor y(type, {rows, columns}, Order::Reversed);
        run_everywhere<cpu::Scatter>({data.view(), indices.view(), updates.view()}, y, {reduction}, [&] {
          for (std::int64_t i = 0; i < y.elements(); ++i) REQUIRE(y.get(i) == expected[static_cast<std::size_t>(i)]);
        });
      }
    }
  }
}

TEST_CASE("Scatter: over its own data") {
  Tensor data(DType::F32, {4, 2});
  for (std::int64_t i = 0; i < 8; ++i) data.set(i, static_cast<double>(i));
  Tensor indices(DType::I64, {2});
  indices.set_int(0, 3);
  indices.set_int(1, 0);
  Tensor updates(DType::F32, {2, 2});
  for (std::int64_t i = 0; i < 4; ++i) updates.set(i, 10);
  REQUIRE(run<cpu::Scatter>({data.view(), indices.view(), updates.view()}, data.view(), {ScatterReduction::Add},
                            cpu::Isa::Baseline, 3)
              .ok());
  const double expected[] = {10, 11, 2, 3, 4, 5, 16, 17};
  for (std::int64_t i = 0; i < 8; ++i) CHECK(data.get(i) == expected[i]);
}

TEST_CASE("Scatter: integers wrap") {
  Tensor data(DType::I8, {1, 1});
  data.set_int(0, 100);
  Tensor indices(DType::I64, {1});
  indices.set_int(0, 0);
  Tensor updates(DType::I8, {1, 1});
  updates.set_int(0, 100);
  Tensor y(DType::I8, {1, 1});
  REQUIRE(run<cpu::Scatter>({data.view(), indices.view(), updates.view()}, y.view(), {ScatterReduction::Add},
                            cpu::Isa::Baseline, 1)
              .ok());
  CHECK(y.get_int(0) == -56);
}

TEST_CASE("Scatter: an index out of range is an error") {
  const Tensor data(DType::F32, {3, 4});
  const Tensor updates(DType::F32, {1, 4});
  Tensor y(DType::F32, {3, 4});
  Tensor indices(DType::I64, {1});
  for (const std::int64_t bad : {std::int64_t{3}, std::int64_t{-1}, INT64_MAX, INT64_MIN}) {
    indices.set_int(0, bad);
    CHECK(run<cpu::Scatter>({data.view(), indices.view(), updates.view()}, y.view(), {}, cpu::Isa::Baseline, 2).error() ==
          Error::IndexOutOfRange);
  }
}

TEST_CASE("Scatter: check refuses") {
  const Tensor data(DType::F32, {3, 4});
  const Tensor indices(DType::I64, {2});
  const Tensor updates(DType::F32, {2, 4});
  const auto wrong = [](const Tensor& d, const Tensor& i, const Tensor& u, const Tensor& y, std::uint32_t reduction = 0) {
    return check<cpu::Scatter>({d.view(), i.view(), u.view()}, y.view(), {static_cast<ScatterReduction>(reduction)}) !=
           nullptr;
  };
  CHECK_FALSE(wrong(data, indices, updates, data));
  CHECK_FALSE(wrong(data, indices, updates, data, 4));
  CHECK(wrong(data, indices, updates, data, 5));
  CHECK(wrong(data, Tensor(DType::I32, {2}), updates, data));
  CHECK(wrong(data, Tensor(DType::I64, {3}), updates, data));
  CHECK(wrong(data, Tensor(DType::I64, {2, 1}), updates, data));
  CHECK(wrong(data, indices, Tensor(DType::F32, {2, 5}), data));
  CHECK(wrong(data, indices, Tensor(DType::I32, {2, 4}), data));
  CHECK(wrong(data, indices, updates, Tensor(DType::F32, {4, 4})));
  CHECK(wrong(data, indices, updates, Tensor(DType::F32, {3, 4}, Order::RowMajor, 0, 1)));
  const Tensor flags(DType::Bool, {3, 4});
  CHECK_FALSE(wrong(flags, indices, Tensor(DType::Bool, {2, 4}), flags));
  CHECK(wrong(flags, indices, Tensor(DType::Bool, {2, 4}), flags, 1));
  CHECK(check<cpu::Scatter>({data.view(), indices.view(), absent()}, data.view(), {}) != nullptr);
  CHECK(check<cpu::Scatter>({data.view(), indices.view()}, data.view(), {}) != nullptr);
}

TEST_CASE("Scatter: random operands and attributes stay inside") {
  std::mt19937 random(5);
  int ran = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    const auto extent = [&] { return static_cast<std::int64_t>(random() % 4); };
    const Dims dims = {extent(), extent()};
    const DType type = static_cast<DType>(1 + random() % 13);
    const Tensor data(type, dims, random() % 2 != 0 ? Order::Reversed : Order::RowMajor, random() % 2);
    Tensor indices(DType::I64, {extent()}, Order::RowMajor, 0, static_cast<unsigned>(random() % 2));
    indices.fill_bits(random);
    for (std::int64_t i = 0; i < indices.elements(); ++i) {
      if (random() % 4 != 0) indices.set_int(i, extent());
    }
    const Tensor updates(type, {indices.elements(), dims[1]}, Order::RowMajor, random() % 2, static_cast<unsigned>(random() % 4));
    const Tensor y(type, dims, Order::Reversed);
    const cpu::ScatterAttributes attributes{static_cast<ScatterReduction>(random() % 6)};
    if (check<cpu::Scatter>({data.view(), indices.view(), updates.view()}, y.view(), attributes) != nullptr) continue;
    ++ran;
    static_cast<void>(run<cpu::Scatter>({data.view(), indices.view(), updates.view()}, y.view(), attributes,
                                        cpu::Isa::Baseline, 1 + random() % 3));
  }
  CHECK(ran > 1500);
}
