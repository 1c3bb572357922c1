// SPDX-License-Identifier: Apache-2.0
// Unique against a search for each slice among those before it.
#include "edgert/cpu/ops/unique.h"

#include <algorithm>
#include <map>

#include "several_outputs.h"

using namespace edgert;
using namespace edgert::test;

namespace {

/// Slice k along the axis, row-major, with NaN as something that is equal to itself and last.
std::vector<std::pair<bool, double>> slice_of(const Tensor& x, const Dims& dims, std::size_t axis, std::int64_t k) {
  std::vector<std::pair<bool, double>> out;
  for (std::int64_t i = 0; i < x.elements(); ++i) {
    if (unravel(i, dims)[axis] != k) continue;
    const double value = x.get(i);
    out.emplace_back(std::isnan(value), std::isnan(value) ? 0 : value);
  }
  return out;
}

void compare(const Tensor& x, const Dims& dims, std::int32_t axis, bool sorted) {
  const auto a = static_cast<std::size_t>(axis);
  const std::int64_t n = dims[a];
  Tensor y(x.view().dtype, dims);
  Tensor first(DType::I64, {n}), inverse(DType::I64, {n}), counts(DType::I64, {n}), count(DType::I64, {});
  REQUIRE(run_several<cpu::Unique>({x.view()}, {y.view(), first.view(), inverse.view(), counts.view(), count.view()},
                                   {axis, sorted ? 1u : 0u}, 2)
              .ok());
  std::vector<std::vector<std::pair<bool, double>>> different;
  for (std::int64_t k = 0; k < n; ++k) {
    const auto slice = slice_of(x, dims, a, k);
    if (std::find(different.begin(), different.end(), slice) == different.end()) different.push_back(slice);
  }
  if (sorted) std::sort(different.begin(), different.end());
  REQUIRE(count.get_int(0) == static_cast<std::int64_t>(different.size()));
  for (std::int64_t g = 0; g < count.get_int(0); ++g) {
    const auto& expected = different[static_cast<std::size_t>(g)];
    CHECK(slice_of(y, dims, a, g) == expected);
    std::int64_t times = 0;
    for (std::int64_t k = n; k-- > 0;) {
      if (slice_of(x, dims, a, k) != expected) continue;
      ++times;
      CHECK(inverse.get_int(k) == g);
      if (times == counts.get_int(g)) CHECK(first.get_int(g) == k);
    }
    CHECK(counts.get_int(g) == times);
  }
}

}  // namespace

TEST_CASE("Unique: every axis, type and layout, sorted or not") {
  std::mt19937 random(7);
  const Dims dims = {3, 6, 2};
  for (const DType type : {DType::I8, DType::U64, DType::F32, DType::F64, DType::BF16, DType::Bool}) {
    for (std::int32_t axis = 0; axis < 3; ++axis) {
      for (const bool sorted : {true, false}) {
        Tensor x(type, dims, axis == 1 ? Order::Reversed : Order::RowMajor, 1);
        for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, random() % 2);
        compare(x, dims, axis, sorted);
      }
    }
  }
  Tensor line(DType::F32, {40});
  for (std::int64_t i = 0; i < 40; ++i) line.set(i, random() % 5 == 0 ? NAN : static_cast<double>(random() % 7) - 3);
  compare(line, {40}, 0, true);
  compare(line, {40}, 0, false);
}

TEST_CASE("Unique: check refuses, nothing gives nothing") {
  const Tensor x(DType::F32, {4});
  const Tensor v(DType::I64, {4});
  const Tensor count(DType::I64, {});
  CHECK(check_several<cpu::Unique>({x.view()}, {x.view(), v.view(), v.view(), v.view(), count.view()}, {0, 1}) == nullptr);
  CHECK(check_several<cpu::Unique>({x.view()}, {x.view(), v.view(), v.view(), v.view(), count.view()}, {1, 1}) != nullptr);
  CHECK(check_several<cpu::Unique>({x.view()}, {x.view(), v.view(), v.view(), v.view(), v.view()}, {0, 1}) != nullptr);
  const Tensor shorter(DType::I64, {3});
  CHECK(check_several<cpu::Unique>({x.view()}, {x.view(), v.view(), shorter.view(), v.view(), count.view()}, {0, 1}) != nullptr);
  CHECK(check_several<cpu::Unique>({x.view()}, {x.view(), v.view(), v.view(), v.view()}, {0, 1}) != nullptr);
  const Tensor none(DType::F32, {0});
  const Tensor no(DType::I64, {0});
  REQUIRE(run_several<cpu::Unique>({none.view()}, {none.view(), no.view(), no.view(), no.view(), count.view()}, {0, 1}).ok());
  CHECK(count.get_int(0) == 0);
}

TEST_CASE("Unique: random operands stay inside") {
  const Tensor x(DType::F32, {3, 2});
  const Tensor v(DType::I64, {3});
  survive_random<cpu::Unique>({x.view()}, {x.view(), v.view(), v.view(), v.view(), Tensor(DType::I64, {}).view()}, {0, 1}, 10000);
}
