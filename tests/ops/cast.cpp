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

namespace {

/// The numbers of the ONNX documents on float8 and float4, written down once more.
struct SmallFloat {
  DType type;
  int bits, mantissa, bias;
  double largest;
  bool infinite;  // has infinities
  bool fnuz;      // "finite, NaN, unsigned zero"
};
const SmallFloat kSmallFloats[] = {
    {DType::F8E4M3FN, 8, 3, 7, 448, false, false},    {DType::F8E4M3FNUZ, 8, 3, 8, 240, false, true},
    {DType::F8E5M2, 8, 2, 15, 57344, true, false},    {DType::F8E5M2FNUZ, 8, 2, 16, 57344, false, true},
    {DType::F4E2M1, 4, 1, 1, 6, false, false},
};

/// What a code stands for; beyond the largest number NaN or infinity.
double value_of(const SmallFloat& f, unsigned code) {
  const unsigned sign = code >> (f.bits - 1);
  const unsigned magnitude = code & ((1u << (f.bits - 1)) - 1);
  if (f.fnuz && sign != 0 && magnitude == 0) return NAN;
  const int exponent = static_cast<int>(magnitude >> f.mantissa);
  const int fraction = static_cast<int>(magnitude & ((1u << f.mantissa) - 1));
  double value = exponent == 0 ? std::ldexp(fraction, 1 - f.bias - f.mantissa)
                               : std::ldexp((1 << f.mantissa) + fraction, exponent - f.bias - f.mantissa);
  if (value > f.largest) value = f.infinite && fraction == 0 ? INFINITY : NAN;
  return sign != 0 ? -value : value;
}

/// The nearest finite number by trying all; the even code of two that are as near.
double rounded(const SmallFloat& f, double x, bool saturate) {
  if (std::isnan(x)) return f.bits == 4 ? 0.0 : NAN;
  const double half_a_unit = std::ldexp(1.0, std::ilogb(f.largest) - f.mantissa - 1);
  const bool even = (static_cast<unsigned>(f.largest / (2 * half_a_unit)) & 1u) == 0;
  const double limit = f.largest + half_a_unit;
  if (std::abs(x) > limit || (std::abs(x) == limit && !even)) {
    if (saturate || f.bits == 4) return std::copysign(f.largest, x);
    return f.infinite ? std::copysign(INFINITY, x) : NAN;
  }
  double best = 0;
  double distance = INFINITY;
  for (unsigned code = 0; code < 1u << (f.bits - 1); ++code) {
    const double value = value_of(f, code);
    if (!std::isfinite(value)) continue;
    const double d = std::abs(value - std::abs(x));
    if (d < distance || (d == distance && code % 2 == 0)) best = value, distance = d;
  }
  return std::copysign(best, x);
}

}  // namespace

TEST_CASE("Cast: floating point of 8 and 4 bits, every code") {
  for (const SmallFloat& f : kSmallFloats) {
    CAPTURE(to_string(f.type));
    const std::int64_t codes = std::int64_t{1} << f.bits;
    Tensor x(f.type, {codes});
    for (std::int64_t i = 0; i < 256; i += 8 / f.bits) {
      const std::int64_t byte = f.bits == 8 ? i : (i % 16) | (i % 16 + 1) << 4;
      if (i < codes) x.view().as<std::uint8_t>()[i * f.bits / 8] = static_cast<std::uint8_t>(byte);
    }
    Tensor y(DType::F32, {codes});
    run_everywhere<cpu::Cast>({x.view()}, y, {}, [&] {
      for (std::int64_t i = 0; i < codes; ++i) REQUIRE(close(y.get(i), value_of(f, static_cast<unsigned>(i)), 0, 0));
    });
  }
}

TEST_CASE("Cast: to floating point of 8 and 4 bits rounds to the nearest even") {
  std::mt19937 random(77);
  for (const SmallFloat& f : kSmallFloats) {
    CAPTURE(to_string(f.type));
    std::vector<double> values = {0, 1e-30, 1e30, NAN, INFINITY, -INFINITY, f.largest};
    for (unsigned code = 0; code + 1 < 1u << (f.bits - 1); ++code) {  // halfway between neighbours, and beside that
      const double half = (value_of(f, code) + value_of(f, code + 1)) / 2;
      if (!std::isfinite(half)) continue;
      for (const double x : {half, half * (1 - 1e-6), half * (1 + 1e-6)}) values.push_back(x);
    }
    for (const double factor : {1.01, 1.03, 1.034, 1.0625, 1.1, 1.125, 1.2, 1.3}) values.push_back(f.largest * factor);
    while (values.size() % 150 != 0) values.push_back(std::ldexp(1.0 + random() % 1000 * 1e-3, static_cast<int>(random() % 40) - 22));
    for (const DType from : {DType::F32, DType::F64}) {
      for (const bool saturate : {true, false}) {
        const Dims dims = {static_cast<std::int64_t>(values.size()) / 5, 5};
        Tensor x(from, dims, Order::RowMajor, 2);
        for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, (i % 3 == 1 ? -1 : 1) * values[static_cast<std::size_t>(i)]);
        Tensor small(f.type, dims);
        cpu::CastAttributes attributes{};
        attributes.no_saturation = saturate ? 0 : 1;
        run_everywhere<cpu::Cast>({x.view()}, small, attributes, [&] {
          Tensor back(DType::F32, dims);
          REQUIRE(run<cpu::Cast>({small.view()}, back.view(), {}, cpu::Isa::Baseline, 1).ok());
          for (std::int64_t i = 0; i < x.elements(); ++i) {
            CAPTURE(x.get(i));
            REQUIRE(close(back.get(i), rounded(f, x.get(i), saturate), 0, 0));
          }
        });
      }
    }
  }
}

TEST_CASE("Cast: powers of two") {
  const std::vector<double> values = {1, 1.1, 1.5, 1.9, 2, 3, 1e-45, 0x1p-127, 0x1.8p-127, 0x1.4p-127, 0x1p127, 0x1.8p127, INFINITY, 0, NAN};
  struct Expected {
    scalar::PowerRounding rounding;
    bool saturate;
    std::vector<int> codes;
  };
  const Expected all[] = {
      {scalar::PowerRounding::Up, true, {127, 128, 128, 128, 128, 129, 0, 0, 1, 1, 254, 254, 254, 0, 255}},
      {scalar::PowerRounding::Down, true, {127, 127, 127, 127, 128, 128, 0, 0, 0, 0, 254, 254, 254, 0, 255}},
      {scalar::PowerRounding::Nearest, true, {127, 127, 128, 128, 128, 129, 0, 0, 1, 0, 254, 254, 254, 0, 255}},
      {scalar::PowerRounding::Nearest, false, {127, 127, 128, 128, 128, 129, 255, 0, 1, 0, 254, 255, 255, 255, 255}},
  };
  Tensor x(DType::F32, {static_cast<std::int64_t>(values.size())});
  for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, values[static_cast<std::size_t>(i)]);
  for (const Expected& expected : all) {
    Tensor y(DType::F8E8M0, {x.elements()});
    cpu::CastAttributes attributes{};
    attributes.rounding = expected.rounding;
    attributes.no_saturation = expected.saturate ? 0 : 1;
    REQUIRE(run<cpu::Cast>({x.view()}, y.view(), attributes, cpu::Isa::Baseline, 1).ok());
    for (std::int64_t i = 0; i < x.elements(); ++i) {
      CAPTURE(values[static_cast<std::size_t>(i)]);
      CHECK(static_cast<int>(y.view().as<std::uint8_t>()[i]) == expected.codes[static_cast<std::size_t>(i)]);
    }
    Tensor back(DType::F64, {x.elements()});
    REQUIRE(run<cpu::Cast>({y.view()}, back.view(), {}, cpu::Isa::Baseline, 1).ok());
    for (std::int64_t i = 0; i < x.elements(); ++i) {
      const int code = expected.codes[static_cast<std::size_t>(i)];
      CHECK(close(back.get(i), code == 255 ? NAN : std::ldexp(1.0, code - 127), 0, 0));
    }
  }
}

TEST_CASE("Cast: integers of 4 and 2 bits") {
  for (const DType type : {DType::I4, DType::U4, DType::I2, DType::U2}) {
    CAPTURE(to_string(type));
    const unsigned bits = bits_of(type);
    const bool with_sign = type == DType::I4 || type == DType::I2;
    for (const std::int64_t count : {1, 3, 7, 64, 257, 1001}) {
      Tensor x(DType::I16, {count, 1}, Order::Reversed, 3);
      for (std::int64_t i = 0; i < count; ++i) x.set_int(i, i * 7 - 300);
      Tensor small(type, {count, 1});
      run_everywhere<cpu::Cast>({x.view()}, small, {}, [&] {
        for (std::int64_t i = 0; i < count; ++i) {
          const std::uint8_t byte = small.view().as<std::uint8_t>()[i * bits / 8];
          const std::int64_t code = byte >> (i * bits % 8) & ((1 << bits) - 1);
          const std::int64_t expected = (i * 7 - 300) & ((1 << bits) - 1);
          REQUIRE(code == expected);
        }
        const std::int64_t used = count * bits % 8;
        const int rest = used == 0 ? 0 : small.view().as<std::uint8_t>()[small.bytes() - 1] >> used;
        REQUIRE(rest == 0);
      });
      Tensor back(DType::F16, {count, 1}, Order::RowMajor, 1);
      run_everywhere<cpu::Cast>({small.view()}, back, {}, [&] {
        for (std::int64_t i = 0; i < count; ++i) {
          std::int64_t value = (i * 7 - 300) & ((1 << bits) - 1);
          if (with_sign && value >= 1 << (bits - 1)) value -= 1 << bits;
          REQUIRE(back.get(i) == static_cast<double>(value));
        }
      });
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
  CHECK(check<cpu::Cast>({strange}, x.view(), {}) == nullptr);
  strange.strides[0] = 4;  // packed elements have no gaps
  CHECK(check<cpu::Cast>({strange}, x.view(), {}) != nullptr);
  CHECK(check<cpu::Cast>({x.view()}, strange, {}) != nullptr);
  cpu::CastAttributes rounding{};
  rounding.rounding = static_cast<scalar::PowerRounding>(3);
  CHECK(check<cpu::Cast>({x.view()}, x.view(), rounding) != nullptr);
}

TEST_CASE("Cast: random operands and attributes stay inside") {
  survive_random_operands<cpu::Cast>(1, {}, 20000);
}
