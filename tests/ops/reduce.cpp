// SPDX-License-Identifier: Apache-2.0
// Reduce of every kind over every set of axes, against sums in long double and plain integers.
#include "edgert/cpu/ops/reduce.h"

#include <algorithm>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;
using cpu::ReduceKind;

namespace {

const ReduceKind kKinds[] = {ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod,
                             ReduceKind::L1, ReduceKind::L2, ReduceKind::LogSum, ReduceKind::LogSumExp,
                             ReduceKind::SumSquare};

double reference(ReduceKind kind, const std::vector<double>& values) {
  long double sum = 0, absolute = 0, square = 0, product = 1, exponential = 0;
  double high = -INFINITY, low = INFINITY;
  for (const double x : values) {
    sum += x;
    absolute += std::abs(x);
    square += static_cast<long double>(x) * x;
    product *= x;
    exponential += std::exp(static_cast<long double>(x));
    high = std::max(high, x);
    low = std::min(low, x);
  }
  switch (kind) {
    case ReduceKind::Sum: return static_cast<double>(sum);
    case ReduceKind::Mean: return static_cast<double>(sum / static_cast<long double>(values.size()));
    case ReduceKind::Max: return high;
    case ReduceKind::Min: return low;
    case ReduceKind::Prod: return static_cast<double>(product);
    case ReduceKind::L1: return static_cast<double>(absolute);
    case ReduceKind::L2: return static_cast<double>(std::sqrt(square));
    case ReduceKind::LogSum: return static_cast<double>(std::log(sum));
    case ReduceKind::LogSumExp: return static_cast<double>(std::log(exponential));
    case ReduceKind::SumSquare: return static_cast<double>(square);
  }
  return 0;
}

Dims reduced_dims(Dims dims, unsigned axes) {
  for (std::size_t d = 0; d < dims.size(); ++d) {
    if ((axes >> d & 1u) != 0) dims[d] = 1;
  }
  return dims;
}

/// The input's elements that each output element is made of.
std::vector<std::vector<std::int64_t>> groups_of(const Dims& dims, unsigned axes, std::int64_t elements) {
  const Dims out = reduced_dims(dims, axes);
  std::int64_t outputs = 1;
  for (const std::int64_t extent : out) outputs *= extent;
  std::vector<std::vector<std::int64_t>> groups(static_cast<std::size_t>(outputs));
  for (std::int64_t i = 0; i < elements; ++i) {
    Dims at = unravel(i, dims);
    for (std::size_t d = 0; d < dims.size(); ++d) {
      if ((axes >> d & 1u) != 0) at[d] = 0;
    }
    groups[static_cast<std::size_t>(ravel(at, out))].push_back(i);
  }
  return groups;
}

void check_reduction(ReduceKind kind, DType type, const Dims& dims, unsigned axes, Order order, double tolerance) {
  std::mt19937 random(51);
  Tensor x(type, dims, order, order == Order::RowMajor ? 1 : 0);
  Tensor y(type, reduced_dims(dims, axes), order);
  x.fill(random,
         kind == ReduceKind::LogSum ? 0.5
         : kind == ReduceKind::Prod ? 0.9
                                    : -3.0,
         kind == ReduceKind::Prod ? 1.1 : 3.0);
  const auto groups = groups_of(dims, axes, x.elements());
  CAPTURE(static_cast<int>(kind));
  CAPTURE(axes);
  cpu::ReduceAttributes attributes{axes, kind, {}};
  run_everywhere<cpu::Reduce>({x.view()}, y, attributes, [&] {
    for (std::int64_t i = 0; i < y.elements(); ++i) {
      std::vector<double> values;
      double magnitude = 0;
      for (const std::int64_t k : groups[static_cast<std::size_t>(i)]) {
        values.push_back(x.get(k));
        magnitude += std::abs(x.get(k));
      }
      const bool cancels = kind == ReduceKind::Sum;
      const double absolute = cancels ? tolerance * magnitude : kind == ReduceKind::Mean ? tolerance * 3 : tolerance;
      REQUIRE(close(y.get(i), reference(kind, values), absolute, tolerance));
    }
  });
}

}  // namespace

TEST_CASE("Reduce: every kind, axes and layout in float") {
  for (const ReduceKind kind : kKinds) {
    for (const Dims& dims : {Dims{3, 5, 7, 6}, Dims{2, 40, 3, 3}}) {
      for (unsigned axes = 0; axes < 16; ++axes) {
        for (const Order order : {Order::RowMajor, Order::ChannelsLast, Order::Reversed}) {
          check_reduction(kind, DType::F32, dims, axes, order, 2e-6);
        }
      }
    }
    check_reduction(kind, DType::F32, {}, 0, Order::RowMajor, 2e-6);
    check_reduction(kind, DType::F32, {3000}, 1, Order::RowMajor, 2e-6);
    check_reduction(kind, DType::F32, {2, 3000}, 2, Order::Reversed, 2e-6);
    check_reduction(kind, DType::F32, {1, 300, 20, 20}, 12, Order::ChannelsLast, 2e-6);
    for (const unsigned axes : {1u, 2u, 6u, 7u}) {
      check_reduction(kind, DType::F64, {4, 5, 300}, axes, Order::RowMajor, 1e-13);
      check_reduction(kind, DType::F16, {4, 5, 30}, axes, Order::ChannelsLast, 2e-3);
      check_reduction(kind, DType::BF16, {4, 5, 30}, axes, Order::RowMajor, 1e-2);
    }
  }
}

TEST_CASE("Reduce: a long sum stays accurate") {
  Tensor x(DType::F32, {1 << 20});
  for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, 0.1);
  Tensor y(DType::F32, {1});
  run_everywhere<cpu::Reduce>({x.view()}, y, {1, ReduceKind::Sum, {}}, [&] {
    CHECK(close(y.get(0), static_cast<double>(0.1f) * (1 << 20), 0, 1e-6));
  });
}

TEST_CASE("Reduce: integers are exact and wrap") {
  std::mt19937 random(52);
  for (const DType type :
       {DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::U32, DType::I64, DType::U64}) {
    for (const ReduceKind kind : {ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max, ReduceKind::Min, ReduceKind::Prod,
                                  ReduceKind::L1, ReduceKind::SumSquare}) {
      const Dims dims = {4, 33, 3};
      Tensor x(type, dims);
      x.fill(random, type == DType::I8 || type == DType::I32 || type == DType::I64 ? -50 : 0, 90);
      for (unsigned axes = 0; axes < 8; ++axes) {
        Tensor y(type, reduced_dims(dims, axes));
        const auto groups = groups_of(dims, axes, x.elements());
        run_everywhere<cpu::Reduce>({x.view()}, y, {axes, kind, {}}, [&] {
          for (std::int64_t i = 0; i < y.elements(); ++i) {
            const auto& group = groups[static_cast<std::size_t>(i)];
            std::uint64_t sum = 0, product = 1, square = 0, absolute = 0;
            std::int64_t high = INT64_MIN, low = INT64_MAX;
            for (const std::int64_t k : group) {
              const std::int64_t v = x.get_int(k);
              sum += static_cast<std::uint64_t>(v);
              product *= static_cast<std::uint64_t>(v);
              square += static_cast<std::uint64_t>(v * v);
              absolute += static_cast<std::uint64_t>(std::abs(v));
              high = std::max(high, v);
              low = std::min(low, v);
            }
            Tensor expected(type, {1});
            const std::int64_t mean = static_cast<std::int64_t>(sum) / static_cast<std::int64_t>(group.size());
            expected.set_int(
                0, static_cast<std::int64_t>(kind == ReduceKind::Sum         ? sum
                                             : kind == ReduceKind::Prod      ? product
                                             : kind == ReduceKind::SumSquare ? square
                                             : kind == ReduceKind::L1
                                                 ? absolute
                                                 : static_cast<std::uint64_t>(kind == ReduceKind::Max   ? high
                                                                              : kind == ReduceKind::Min ? low
                                                                                                        : mean)));
            REQUIRE(y.get_int(i) == expected.get_int(0));
          }
        });
      }
    }
  }
}

TEST_CASE("Reduce: no elements give the neutral element") {
  const double expected[] = {0, NAN, -INFINITY, INFINITY, 1, 0, 0, -INFINITY, -INFINITY, 0};
  for (const ReduceKind kind : kKinds) {
    Tensor x(DType::F32, {3, 0, 2});
    Tensor y(DType::F32, {3, 1, 2});
    run_everywhere<cpu::Reduce>({x.view()}, y, {2, kind, {}}, [&] {
      for (std::int64_t i = 0; i < 6; ++i) CHECK(close(y.get(i), expected[static_cast<int>(kind)], 0, 0));
    });
  }
  Tensor x(DType::I8, {0});
  Tensor y(DType::I8, {1});
  run_everywhere<cpu::Reduce>({x.view()}, y, {1, ReduceKind::Max, {}}, [&] { CHECK(y.get_int(0) == -128); });
  run_everywhere<cpu::Reduce>({x.view()}, y, {1, ReduceKind::Min, {}}, [&] { CHECK(y.get_int(0) == 127); });
  run_everywhere<cpu::Reduce>({x.view()}, y, {1, ReduceKind::Mean, {}}, [&] { CHECK(y.get_int(0) == 0); });
  Tensor u(DType::U16, {0});
  Tensor v(DType::U16, {1});
  run_everywhere<cpu::Reduce>({u.view()}, v, {1, ReduceKind::Min, {}}, [&] { CHECK(v.get_int(0) == 65535); });
}

TEST_CASE("Reduce: check refuses") {
  const Tensor x(DType::F32, {2, 3});
  const Tensor y(DType::F32, {2, 1});
  CHECK(check<cpu::Reduce>({x.view()}, y.view(), {2, ReduceKind::Sum, {}}) == nullptr);
  CHECK(check<cpu::Reduce>({x.view()}, y.view(), {1, ReduceKind::Sum, {}}) != nullptr);
  CHECK(check<cpu::Reduce>({x.view()}, y.view(), {6, ReduceKind::Sum, {}}) != nullptr);
  CHECK(check<cpu::Reduce>({x.view()}, y.view(), {0x80000002u, ReduceKind::Sum, {}}) != nullptr);
  CHECK(check<cpu::Reduce>({x.view()}, y.view(), {2, static_cast<ReduceKind>(10), {}}) != nullptr);
  CHECK(check<cpu::Reduce>({x.view()}, Tensor(DType::I32, {2, 1}).view(), {2, ReduceKind::Sum, {}}) != nullptr);
  CHECK(check<cpu::Reduce>({x.view()}, Tensor(DType::F32, {2}).view(), {2, ReduceKind::Sum, {}}) != nullptr);
  CHECK(check<cpu::Reduce>({x.view()}, Tensor(DType::F32, {2, 1}, Order::RowMajor, 0, 1).view(),
                           {2, ReduceKind::Sum, {}}) != nullptr);
  const Tensor b(DType::Bool, {2, 3});
  const Tensor c(DType::Bool, {2, 1});
  CHECK(check<cpu::Reduce>({b.view()}, c.view(), {2, ReduceKind::Sum, {}}) != nullptr);
  CHECK(check<cpu::Reduce>({b.view()}, c.view(), {2, ReduceKind::Max, {}}) == nullptr);
  const Tensor n(DType::I32, {2, 3});
  CHECK(check<cpu::Reduce>({n.view()}, Tensor(DType::I32, {2, 1}).view(), {2, ReduceKind::LogSumExp, {}}) != nullptr);
  CHECK(check<cpu::Reduce>({absent()}, y.view(), {2, ReduceKind::Sum, {}}) != nullptr);
}

TEST_CASE("Reduce: random operands and attributes stay inside") {
  survive_random_operands<cpu::Reduce>(1, {1, ReduceKind::Sum, {}}, 20000);
}
