// SPDX-License-Identifier: Apache-2.0
// Cast between all types, against conversion by the language with the range handled by hand.
#include "edgert/cpu/ops/cast.h"

#include <limits>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

bool is_floating(DType type) {
  return type == DType::F32 || type == DType::F64 || type == DType::F16 || type == DType::BF16;
}
bool is_signed(DType type) {
  return type == DType::I8 || type == DType::I16 || type == DType::I32 || type == DType::I64;
}

std::int64_t float_to_integer(double x, DType type) {
  if (std::isnan(x)) return 0;
  const double bits = bits_of(type);
  const double low = is_signed(type) ? -std::ldexp(1.0, static_cast<int>(bits) - 1) : 0.0;
  const double high = std::ldexp(1.0, static_cast<int>(bits) - (is_signed(type) ? 1 : 0));
  x = std::trunc(x);
  if (x >= high)
    return static_cast<std::int64_t>(is_signed(type) ? (UINT64_MAX >> 1) >> (64 - bits_of(type))
                                                     : UINT64_MAX >> (64 - bits_of(type)));
  if (x <= low) return is_signed(type) ? INT64_MIN >> (64 - bits_of(type)) : 0;
  return type == DType::U64 ? static_cast<std::int64_t>(static_cast<std::uint64_t>(x)) : static_cast<std::int64_t>(x);
}

void check_element(const Tensor& x, const Tensor& y, std::int64_t i) {
  const DType from = x.view().dtype;
  const DType to = y.view().dtype;
  Tensor expected(to, {1});
  if (to == DType::Bool) {
    expected.set_int(0, is_floating(from) ? x.get(i) != 0 : x.get_int(i) != 0);
  } else if (from == DType::Bool) {
    expected.set(0, x.get_int(i) != 0);
  } else if (is_floating(to)) {
    expected.set(0, x.get(i));
    if (to == DType::F32 && from == DType::I64) expected.set(0, static_cast<double>(static_cast<float>(x.get_int(i))));
    if (to == DType::F32 && from == DType::U64)
      expected.set(0, static_cast<double>(static_cast<float>(static_cast<std::uint64_t>(x.get_int(i)))));
  } else if (is_floating(from)) {
    expected.set_int(0, float_to_integer(x.get(i), to));
  } else {
    expected.set_int(0, x.get_int(i));
  }
  const double tolerance = to == DType::F16 ? 1e-3 : to == DType::BF16 ? 8e-3 : 0;  // the test's own half rounds twice
  if (is_floating(to)) {
    REQUIRE(close(y.get(i), expected.get(0), tolerance * 1e-4, tolerance));
  } else {
    REQUIRE(y.get_int(i) == expected.get_int(0));
  }
}

}  // namespace

TEST_CASE("Cast: every pair of types") {
  std::mt19937 random(21);
  for (int a = 1; a <= 13; ++a) {
    for (int b = 1; b <= 13; ++b) {
      const DType from = static_cast<DType>(a), to = static_cast<DType>(b);
      CAPTURE(to_string(from));
      CAPTURE(to_string(to));
      Tensor x(from, {5, 121}, Order::RowMajor, 2);
      Tensor y(to, {5, 121});
      x.fill_bits(random);
      for (std::int64_t i = 0; i < 200; ++i) {
        if (is_floating(from)) x.set(i, std::uniform_real_distribution<double>(-300, 300)(random));
        if (from == DType::Bool) x.set_int(i, static_cast<std::int64_t>(random() % 2));
      }
      if (is_floating(from)) {
        const double specials[] = {NAN, INFINITY, -INFINITY,    127.5,         128,    -128.5,  -129,  255.9,
                                   256, -0.9,     2147483648.0, -2147483649.0, 9.3e18, -9.3e18, 1.9e19};
        for (std::size_t i = 0; i < std::size(specials); ++i) x.set(static_cast<std::int64_t>(i), specials[i]);
      }
      run_everywhere<cpu::Cast>({x.view()}, y, {}, [&] {
        for (std::int64_t i = 0; i < y.elements(); ++i) check_element(x, y, i);
      });
    }
  }
}

TEST_CASE("Cast: layouts") {
  std::mt19937 random(22);
  for (const Order a : {Order::RowMajor, Order::ChannelsLast, Order::Reversed}) {
    for (const Order b : {Order::RowMajor, Order::ChannelsLast, Order::Reversed}) {
      for (const DType from : {DType::U8, DType::I8, DType::F16, DType::I64}) {
        Tensor x(from, {2, 3, 17, 40}, a);
        Tensor y(DType::F32, {2, 3, 17, 40}, b, 3);
        x.fill(random, 0, 100);
        run_everywhere<cpu::Cast>({x.view()}, y, {}, [&] {
          for (std::int64_t i = 0; i < y.elements(); ++i) REQUIRE(y.get(i) == x.get(i));
        });
      }
    }
  }
}

TEST_CASE("Cast: check refuses") {
  const Tensor x(DType::F32, {2, 3});
  CHECK(check<cpu::Cast>({x.view()}, Tensor(DType::I8, {2, 3}).view(), {}) == nullptr);
  CHECK(check<cpu::Cast>({x.view()}, Tensor(DType::I8, {3, 2}).view(), {}) != nullptr);
  CHECK(check<cpu::Cast>({x.view()}, Tensor(DType::I8, {2, 3}, Order::RowMajor, 0, 2).view(), {}) != nullptr);
  CHECK(check<cpu::Cast>({absent()}, x.view(), {}) != nullptr);
  TensorView strange = x.view();
  strange.dtype = static_cast<DType>(200);
  CHECK(check<cpu::Cast>({x.view()}, strange, {}) != nullptr);
  strange.dtype = DType::I4;
  CHECK(check<cpu::Cast>({strange}, x.view(), {}) != nullptr);
}

TEST_CASE("Cast: random operands and attributes stay inside") {
  survive_random_operands<cpu::Cast>(1, {}, 20000);
}
