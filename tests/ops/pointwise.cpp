// SPDX-License-Identifier: Apache-2.0
// Pointwise programs: every operation on every type it is defined for, against libm in double and plain integer
// arithmetic; broadcasting and layouts; chains; what check() refuses.
#include "edgert/cpu/ops/pointwise.h"

#include <algorithm>
#include <limits>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;
using cpu::arithmetic_of;
using scalar::Arithmetic;
using scalar::PointwiseOp;
using scalar::PointwiseProgram;

namespace {

PointwiseProgram program_of(PointwiseOp op, DType type, float alpha = 0, float beta = 0) {
  PointwiseProgram program{};
  program.inputs = scalar::arity(op);
  program.steps = 1;
  program.step[0].op = op;
  program.step[0].type = static_cast<unsigned char>(type);
  program.step[0].a = 0;
  program.step[0].b = 1;
  program.step[0].c = 2;
  program.step[0].alpha = alpha;
  program.step[0].beta = beta;
  return program;
}

double gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
double softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
double python_mod(double a, double b) {
  const double r = std::fmod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

double reference(PointwiseOp op, double a, double b, double alpha, double beta) {
  switch (op) {
    case PointwiseOp::Identity: return a;
    case PointwiseOp::Neg: return -a;
    case PointwiseOp::Abs: return std::abs(a);
    case PointwiseOp::Sign: return a > 0 ? 1 : a < 0 ? -1 : a;
    case PointwiseOp::Reciprocal: return 1 / a;
    case PointwiseOp::Sqrt: return std::sqrt(a);
    case PointwiseOp::Exp: return std::exp(a);
    case PointwiseOp::Log: return std::log(a);
    case PointwiseOp::Sin: return std::sin(a);
    case PointwiseOp::Cos: return std::cos(a);
    case PointwiseOp::Tan: return std::tan(a);
    case PointwiseOp::Asin: return std::asin(a);
    case PointwiseOp::Acos: return std::acos(a);
    case PointwiseOp::Atan: return std::atan(a);
    case PointwiseOp::Sinh: return std::sinh(a);
    case PointwiseOp::Cosh: return std::cosh(a);
    case PointwiseOp::Tanh: return std::tanh(a);
    case PointwiseOp::Asinh: return std::asinh(a);
    case PointwiseOp::Acosh: return std::acosh(a);
    case PointwiseOp::Atanh: return std::atanh(a);
    case PointwiseOp::Erf: return std::erf(a);
    case PointwiseOp::Floor: return std::floor(a);
    case PointwiseOp::Ceil: return std::ceil(a);
    case PointwiseOp::Round: return std::nearbyint(a);
    case PointwiseOp::Relu: return std::isnan(a) ? a : std::max(a, 0.0);
    case PointwiseOp::LeakyRelu: return a < 0 ? alpha * a : a;
    case PointwiseOp::Elu: return a < 0 ? alpha * std::expm1(a) : a;
    case PointwiseOp::Selu: return beta * (a > 0 ? a : alpha * std::expm1(a));
    case PointwiseOp::Celu: return std::max(0.0, a) + std::min(0.0, alpha * std::expm1(a / alpha));
    case PointwiseOp::ThresholdedRelu: return a > alpha ? a : 0;
    case PointwiseOp::Sigmoid: return 1 / (1 + std::exp(-a));
    case PointwiseOp::HardSigmoid: return std::max(0.0, std::min(1.0, alpha * a + beta));
    case PointwiseOp::Silu: return a / (1 + std::exp(-a));
    case PointwiseOp::HardSwish: return a * std::max(0.0, std::min(1.0, a / 6 + 0.5));
    case PointwiseOp::Softplus: return softplus(a);
    case PointwiseOp::Softsign: return a / (1 + std::abs(a));
    case PointwiseOp::Mish: return a * std::tanh(softplus(a));
    case PointwiseOp::Gelu: return gelu(a);
    case PointwiseOp::GeluTanh:
      return 0.5 * a * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (a + 0.044715 * a * a * a)));
    case PointwiseOp::Clip: return std::min(std::max(a, alpha), beta);
    case PointwiseOp::Shrink: return a < -alpha ? a + beta : a > alpha ? a - beta : 0;
    case PointwiseOp::Add: return a + b;
    case PointwiseOp::Sub: return a - b;
    case PointwiseOp::Mul: return a * b;
    case PointwiseOp::Div: return a / b;
    case PointwiseOp::Mod: return python_mod(a, b);
    case PointwiseOp::Fmod: return std::fmod(a, b);
    case PointwiseOp::Pow: return std::pow(a, b);
    case PointwiseOp::Min: return std::isnan(a) || std::isnan(b) ? std::nan("") : std::min(a, b);
    case PointwiseOp::Max: return std::isnan(a) || std::isnan(b) ? std::nan("") : std::max(a, b);
    case PointwiseOp::PRelu: return a < 0 ? a * b : a;
    case PointwiseOp::IsNan: return std::isnan(a);
    case PointwiseOp::IsInf: return std::isinf(a);
    case PointwiseOp::Equal: return a == b;
    case PointwiseOp::Less: return a < b;
    case PointwiseOp::LessOrEqual: return a <= b;
    case PointwiseOp::Greater: return a > b;
    case PointwiseOp::GreaterOrEqual: return a >= b;
    default: FAIL("no reference"); return 0;
  }
}

/// Two's complement arithmetic on `bits` bits, in 128-bit integers.
__extension__ typedef __int128 Wide;
Wide wrap(Wide x, DType type) {
  const bool is_signed = type == DType::I8 || type == DType::I16 || type == DType::I32 || type == DType::I64;
  const Wide size = static_cast<Wide>(1) << bits_of(type);
  x = ((x % size) + size) % size;
  return is_signed && x >= size / 2 ? x - size : x;
}
Wide multiply(Wide a, Wide b, DType type) {
  __extension__ typedef unsigned __int128 Unsigned;
  const Unsigned size = static_cast<Unsigned>(1) << bits_of(type);
  return static_cast<Wide>(static_cast<Unsigned>(a) * static_cast<Unsigned>(b) % size);
}
Wide integer_reference(PointwiseOp op, Wide a, Wide b, DType type) {
  switch (op) {
    case PointwiseOp::Identity: return a;
    case PointwiseOp::Neg: return -a;
    case PointwiseOp::Abs: return a < 0 ? -a : a;
    case PointwiseOp::Sign: return (a > 0) - (a < 0);
    case PointwiseOp::BitNot: return -a - 1;
    case PointwiseOp::Relu: return a < 0 ? 0 : a;
    case PointwiseOp::Add: return a + b;
    case PointwiseOp::Sub: return a - b;
    case PointwiseOp::Mul: return multiply(a, b, type);
    case PointwiseOp::Div: return b == 0 ? 0 : a / b;
    case PointwiseOp::Fmod: return b == 0 ? 0 : a % b;
    case PointwiseOp::Mod: return b == 0 ? 0 : ((a % b) + b) % b;
    case PointwiseOp::Min: return a < b ? a : b;
    case PointwiseOp::Max: return a > b ? a : b;
    case PointwiseOp::BitAnd: return a & b;
    case PointwiseOp::BitOr: return a | b;
    case PointwiseOp::BitXor: return a ^ b;
    case PointwiseOp::PRelu: return a < 0 ? wrap(a * wrap(b, DType::I64), type) : a;
    case PointwiseOp::ShiftLeft: return b >= static_cast<Wide>(bits_of(type)) ? 0 : a * (static_cast<Wide>(1) << b);
    case PointwiseOp::ShiftRight: return b >= static_cast<Wide>(bits_of(type)) ? 0 : a >> b;
    case PointwiseOp::Pow: {
      if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 == 0 ? 1 : -1) : 0;
      Wide result = 1;
      for (Wide i = 0; i < b; ++i) result = wrap(multiply(result, a, type), type);
      return result;
    }
    case PointwiseOp::Equal: return a == b;
    case PointwiseOp::Less: return a < b;
    case PointwiseOp::LessOrEqual: return a <= b;
    case PointwiseOp::Greater: return a > b;
    case PointwiseOp::GreaterOrEqual: return a >= b;
    default: FAIL("no reference"); return 0;
  }
}
Wide exact(const Tensor& tensor, std::int64_t i) {
  const std::int64_t value = tensor.get_int(i);
  return tensor.view().dtype == DType::U64 ? static_cast<Wide>(static_cast<std::uint64_t>(value)) : value;
}

const PointwiseOp kAllOps[] = {
    PointwiseOp::Identity, PointwiseOp::Neg, PointwiseOp::Abs, PointwiseOp::Sign, PointwiseOp::Reciprocal,
    PointwiseOp::Sqrt, PointwiseOp::Exp, PointwiseOp::Log, PointwiseOp::Sin, PointwiseOp::Cos, PointwiseOp::Tan,
    PointwiseOp::Asin, PointwiseOp::Acos, PointwiseOp::Atan, PointwiseOp::Sinh, PointwiseOp::Cosh, PointwiseOp::Tanh,
    PointwiseOp::Asinh, PointwiseOp::Acosh, PointwiseOp::Atanh, PointwiseOp::Erf, PointwiseOp::Floor, PointwiseOp::Ceil,
    PointwiseOp::Round, PointwiseOp::BitNot, PointwiseOp::IsNan, PointwiseOp::IsInf, PointwiseOp::Relu,
    PointwiseOp::LeakyRelu, PointwiseOp::Elu, PointwiseOp::Selu, PointwiseOp::Celu, PointwiseOp::ThresholdedRelu,
    PointwiseOp::Sigmoid, PointwiseOp::HardSigmoid, PointwiseOp::Silu, PointwiseOp::HardSwish, PointwiseOp::Softplus,
    PointwiseOp::Softsign, PointwiseOp::Mish, PointwiseOp::Gelu, PointwiseOp::GeluTanh, PointwiseOp::Clip,
    PointwiseOp::Shrink, PointwiseOp::Add, PointwiseOp::Sub, PointwiseOp::Mul, PointwiseOp::Div, PointwiseOp::Mod,
    PointwiseOp::Fmod, PointwiseOp::Pow, PointwiseOp::Min, PointwiseOp::Max, PointwiseOp::BitAnd, PointwiseOp::BitOr,
    PointwiseOp::BitXor, PointwiseOp::ShiftLeft, PointwiseOp::ShiftRight, PointwiseOp::PRelu, PointwiseOp::Equal,
    PointwiseOp::Less, PointwiseOp::LessOrEqual, PointwiseOp::Greater, PointwiseOp::GreaterOrEqual};

}  // namespace

TEST_CASE("Pointwise: every operation in floating point") {
  std::mt19937 random(3);
  const std::pair<DType, double> kTypes[] = {
      {DType::F32, 4e-7}, {DType::F64, 4e-15}, {DType::F16, 1e-3}, {DType::BF16, 8e-3}};
  for (const std::pair<DType, double>& entry : kTypes) {
    const DType type = entry.first;
    const double relative = entry.second;
    for (const PointwiseOp op : kAllOps) {
      if (!scalar::is_defined(op, arithmetic_of(type))) continue;
      Tensor a(type, {613});
      Tensor b(type, {613});
      a.fill(random, -6, 6);
      b.fill(random, -4, 4);
      const double specials[] = {0.0, -0.0, 0.5, -0.5, 1.5, 2.5, 1, -1, INFINITY, -INFINITY, NAN, 30, -30, 1e-7};
      std::int64_t at = 0;
      for (const double x : specials) {
        for (const double y : {1.0, -2.0, static_cast<double>(NAN), static_cast<double>(INFINITY)}) {
          a.set(at, x);
          b.set(at++, y);
        }
      }
      const float alpha = 1.25f;
      const float beta = 1.75f;
      Tensor y(scalar::is_predicate(op) ? DType::Bool : type, {613});
      CAPTURE(static_cast<int>(op));
      CAPTURE(to_string(type));
      std::vector<TensorView> inputs = {a.view()};
      if (scalar::arity(op) == 2) inputs.push_back(b.view());
      run_everywhere<cpu::Pointwise>(inputs, y, program_of(op, type, alpha, beta), [&] {
        for (std::int64_t i = 0; i < y.elements(); ++i) {
          const double x = a.get(i);
          // A sum of opposite terms keeps the absolute error of the terms.
          const bool scaled = op == PointwiseOp::Gelu || op == PointwiseOp::GeluTanh || op == PointwiseOp::HardSwish;
          double absolute = 1e-30 + (scaled ? relative * std::abs(x) : 0);
          if (op == PointwiseOp::HardSigmoid || op == PointwiseOp::Shrink) absolute = relative * 8;
          if (type == DType::F16) absolute = std::max(absolute, 6e-8);
          Tensor rounded(y.view().dtype, {1});  // overflow of the narrow types
          rounded.set(0, reference(op, x, b.get(i), alpha, beta));
          const bool narrow = type == DType::F16 || type == DType::BF16;
          const double expected = narrow ? rounded.get(0) : reference(op, x, b.get(i), alpha, beta);
          if (std::isnan(x) && (op == PointwiseOp::HardSigmoid || op == PointwiseOp::ThresholdedRelu ||
                                op == PointwiseOp::Celu || op == PointwiseOp::HardSwish || op == PointwiseOp::Clip ||
                                op == PointwiseOp::Shrink)) {
            continue;  // std::max in the reference drops NaN
          }
          const bool undefined = op == PointwiseOp::Mish || op == PointwiseOp::GeluTanh || op == PointwiseOp::Gelu;
          if (std::isinf(x) && undefined) continue;  // infinity times zero, or its limit
          if (!close(y.get(i), expected, absolute, relative)) {
            CAPTURE(x);
            CAPTURE(b.get(i));
            CHECK(y.get(i) == expected);
          }
        }
      });
    }
  }
}

TEST_CASE("Pointwise: every operation on integers") {
  std::mt19937 random(4);
  for (const DType type :
       {DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::U32, DType::I64, DType::U64}) {
    for (const PointwiseOp op : kAllOps) {
      if (!scalar::is_defined(op, arithmetic_of(type))) continue;
      Tensor a(type, {403});
      Tensor b(type, {403});
      a.fill_bits(random);
      b.fill_bits(random);
      const bool small = op == PointwiseOp::Pow || op == PointwiseOp::ShiftLeft || op == PointwiseOp::ShiftRight;
      for (std::int64_t i = 0; i < 403; ++i) {
        if (small || i % 3 == 0)
          b.set_int(i, static_cast<std::int64_t>(random() % 12) - (op == PointwiseOp::Pow ? 3 : 0));
        if (i % 5 == 0) a.set_int(i, static_cast<std::int64_t>(random() % 5) - 2);
        if (op == PointwiseOp::Pow && arithmetic_of(type) == Arithmetic::Unsigned) {
          b.set_int(i, static_cast<std::int64_t>(random() % 70));
        }
      }
      if (small && op != PointwiseOp::Pow) b.set_int(7, static_cast<std::int64_t>(bits_of(type)));
      a.set_int(0, INT64_MIN >> (64 - bits_of(type)));
      b.set_int(0, arithmetic_of(type) == Arithmetic::Signed ? -1 : 1);
      b.set_int(1, 0);
      Tensor y(scalar::is_predicate(op) ? DType::Bool : type, {403});
      CAPTURE(static_cast<int>(op));
      CAPTURE(to_string(type));
      std::vector<TensorView> inputs = {a.view()};
      if (scalar::arity(op) == 2) inputs.push_back(b.view());
      run_everywhere<cpu::Pointwise>(inputs, y, program_of(op, type), [&] {
        std::int64_t wrong = 0;
        for (std::int64_t i = 0; i < y.elements(); ++i) {
          const DType result = y.view().dtype == DType::Bool ? DType::U8 : type;
          wrong += exact(y, i) != wrap(integer_reference(op, exact(a, i), exact(b, i), type), result);
        }
        CHECK(wrong == 0);
      });
    }
  }
}

TEST_CASE("Pointwise: booleans and Where on every type") {
  std::mt19937 random(5);
  Tensor a(DType::Bool, {333});
  Tensor b(DType::Bool, {333});
  for (std::int64_t i = 0; i < 333; ++i) {  // any byte but 0 is true
    a.set_int(i, static_cast<std::int64_t>(random() % 3 * 100));
    b.set_int(i, static_cast<std::int64_t>(random() % 3));
  }
  for (const PointwiseOp op : {PointwiseOp::And, PointwiseOp::Or, PointwiseOp::Xor, PointwiseOp::Equal}) {
    Tensor y(DType::Bool, {333});
    run_everywhere<cpu::Pointwise>({a.view(), b.view()}, y, program_of(op, DType::Bool), [&] {
      for (std::int64_t i = 0; i < 333; ++i) {
        const bool p = a.get_int(i) != 0, q = b.get_int(i) != 0;
        const bool same = op == PointwiseOp::Xor ? p != q : p == q;
        const bool expected = op == PointwiseOp::And ? p && q : op == PointwiseOp::Or ? p || q : same;
        REQUIRE(y.get_int(i) == static_cast<std::int64_t>(expected));
      }
    });
  }
  Tensor y(DType::Bool, {333});
  run_everywhere<cpu::Pointwise>({a.view()}, y, program_of(PointwiseOp::Not, DType::Bool), [&] {
    for (std::int64_t i = 0; i < 333; ++i) REQUIRE(y.get_int(i) == static_cast<std::int64_t>(a.get_int(i) == 0));
  });
  for (int type = 1; type <= 13; ++type) {
    const DType dtype = static_cast<DType>(type);
    Tensor p(dtype, {333});
    Tensor q(dtype, {333});
    Tensor chosen(dtype, {333});
    p.fill(random, 0, 1.99);
    q.fill(random, 0, 1.99);
    run_everywhere<cpu::Pointwise>({a.view(), p.view(), q.view()}, chosen, program_of(PointwiseOp::Where, dtype), [&] {
      for (std::int64_t i = 0; i < 333; ++i) REQUIRE(chosen.get(i) == (a.get_int(i) != 0 ? p : q).get(i));
    });
  }
}

TEST_CASE("Pointwise: layouts, broadcasting and types in memory") {
  std::mt19937 random(6);
  const Dims shapes[] = {
      {},       {1},      {300}, {2, 0, 3}, {3, 5, 7}, {2, 16, 9, 11}, {1, 3, 40, 41}, {2, 2, 2, 2, 2, 2, 2, 3},
      {700, 3}, {5, 1000}};
  for (const Dims& dims : shapes) {
    for (const DType type : {DType::F32, DType::F16, DType::I32, DType::F64}) {
      for (int variant = 0; variant < 24; ++variant) {
        const Order orders[] = {Order::RowMajor, Order::ChannelsLast, Order::Reversed};
        const unsigned broadcast = static_cast<unsigned>(random()) & (variant % 3 == 0   ? 0u
                                                                      : variant % 3 == 1 ? 0xffu
                                                                                         : 0x2u);
        Tensor a(type, dims, orders[random() % 3], static_cast<std::int64_t>(random() % 2));
        Tensor b(type, dims, orders[random() % 3], 0, broadcast);
        Tensor y(type, dims, orders[random() % 3], static_cast<std::int64_t>(random() % 2 * 3));
        a.fill(random, -100, 100);
        b.fill(random, -100, 100);
        run_everywhere<cpu::Pointwise>({a.view(), b.view()}, y, program_of(PointwiseOp::Sub, type), [&] {
          Tensor rounded(type, {1});
          std::int64_t wrong = 0;
          for (std::int64_t i = 0; i < y.elements(); ++i) {
            rounded.set(0, a.get(i) - b.get(i));
            wrong += y.get(i) != rounded.get(0);
          }
          CHECK(wrong == 0);
        });
      }
    }
  }
}

TEST_CASE("Pointwise: a chain with shared values, in place") {
  // y = (x > t ? x * s : x + t), all from one program, over x itself.
  PointwiseProgram program{};
  program.inputs = 3;
  program.steps = 4;
  const auto step = [](PointwiseOp op, int a, int b, int c) {
    scalar::PointwiseStep result{};
    result.op = op;
    result.type = static_cast<unsigned char>(DType::F32);
    result.a = static_cast<unsigned char>(a);
    result.b = static_cast<unsigned char>(b);
    result.c = static_cast<unsigned char>(c);
    return result;
  };
  program.step[0] = step(PointwiseOp::Greater, 0, 1, 0);
  program.step[1] = step(PointwiseOp::Mul, 0, 2, 0);
  program.step[2] = step(PointwiseOp::Add, 0, 1, 0);
  program.step[3] = step(PointwiseOp::Where, 3, 4, 5);
  std::mt19937 random(7);
  for (const Order order : {Order::RowMajor, Order::ChannelsLast}) {
    Tensor x(DType::F32, {2, 20, 7, 9}, order);
    Tensor t(DType::F32, {2, 20, 7, 9}, Order::RowMajor, 0, 0xd);  // per channel
    Tensor s(DType::F32, {2, 20, 7, 9}, Order::RowMajor, 0, 0xf);  // one number
    x.fill(random, -2, 2);
    t.fill(random, -1, 1);
    s.fill(random, 2, 3);
    for (const cpu::Isa isa : supported_isas()) {
      Tensor y = x.clone();
      REQUIRE(run<cpu::Pointwise>({y.view(), t.view(), s.view()}, y.view(), program, isa, 3).ok());
      for (std::int64_t i = 0; i < y.elements(); ++i) {
        const float a = static_cast<float>(x.get(i)), b = static_cast<float>(t.get(i)),
                    c = static_cast<float>(s.get(i));
        REQUIRE(static_cast<float>(y.get(i)) == (a > b ? a * c : a + b));
      }
    }
  }
}

TEST_CASE("Pointwise: 16-bit floats are rounded after every instruction") {
  for (const DType type : {DType::F16, DType::BF16}) {
    const double large = type == DType::F16 ? 2048 : 256;  // its neighbour is two further
    Tensor x(type, {700});
    Tensor one(type, {700}, Order::RowMajor, 0, 1);
    Tensor y(type, {700});
    for (std::int64_t i = 0; i < 700; ++i) x.set(i, large);
    one.set(0, 1);
    PointwiseProgram program = program_of(PointwiseOp::Add, type);
    program.steps = 2;
    program.step[1] = program.step[0];
    program.step[1].op = PointwiseOp::Sub;
    program.step[1].a = 2;
    program.step[1].b = 0;
    run_everywhere<cpu::Pointwise>({x.view(), one.view()}, y, program, [&] {
      for (std::int64_t i = 0; i < 700; ++i) REQUIRE(y.get(i) == 0);
    });
  }
}

TEST_CASE("Pointwise: check refuses") {
  const Tensor f(DType::F32, {4, 5});
  const Tensor h(DType::Bool, {4, 5});
  const Tensor n(DType::I32, {4, 5});
  const auto refused = [](const std::vector<TensorView>& inputs, const Tensor& y, const PointwiseProgram& program) {
    return check<cpu::Pointwise>(inputs, y.view(), program) != nullptr;
  };
  const PointwiseProgram add = program_of(PointwiseOp::Add, DType::F32);
  CHECK_FALSE(refused({f.view(), f.view()}, f, add));
  CHECK(refused({f.view()}, f, add));
  CHECK(refused({f.view(), n.view()}, f, add));
  CHECK(refused({f.view(), f.view()}, h, add));
  CHECK(refused({f.view(), Tensor(DType::F32, {5, 4}).view()}, f, add));
  CHECK(refused({f.view(), absent()}, f, add));
  PointwiseProgram bad = add;
  bad.inputs = 13;
  CHECK(refused({f.view(), f.view()}, f, bad));
  bad.inputs = 0xffffffff;
  CHECK(refused({f.view(), f.view()}, f, bad));
  bad = add;
  bad.steps = 0;
  CHECK(refused({f.view(), f.view()}, f, bad));
  bad.steps = 25;
  CHECK(refused({f.view(), f.view()}, f, bad));
  bad = add;
  bad.step[0].b = 2;
  CHECK(refused({f.view(), f.view()}, f, bad));
  bad.step[0].b = 255;
  CHECK(refused({f.view(), f.view()}, f, bad));
  bad = add;
  bad.step[0].op = static_cast<PointwiseOp>(38);
  CHECK(refused({f.view(), f.view()}, f, bad));
  bad.step[0].op = static_cast<PointwiseOp>(255);
  CHECK(refused({f.view(), f.view()}, f, bad));
  for (const int type : {0, 14, 15, 16, 255}) {
    bad = add;
    bad.step[0].type = static_cast<unsigned char>(type);
    CHECK(refused({f.view(), f.view()}, f, bad));
  }
  CHECK(refused({n.view(), n.view()}, n, program_of(PointwiseOp::ShiftLeft, DType::I32)));
  CHECK(refused({n.view()}, n, program_of(PointwiseOp::Exp, DType::I32)));
  CHECK(refused({h.view(), h.view()}, h, program_of(PointwiseOp::Add, DType::Bool)));
  CHECK(refused({f.view(), f.view()}, f, program_of(PointwiseOp::BitAnd, DType::F32)));
  CHECK(refused({f.view(), f.view(), f.view()}, f, program_of(PointwiseOp::Where, DType::F32)));
  CHECK(refused({f.view(), f.view()}, Tensor(DType::F32, {4, 5}, Order::RowMajor, 0, 1), add));
}

TEST_CASE("Pointwise: as many inputs as a program may have") {
  std::mt19937 random(8);
  PointwiseProgram program{};
  program.inputs = scalar::kMaxPointwiseInputs;
  program.steps = program.inputs - 1;
  std::vector<Tensor> tensors;
  std::vector<TensorView> inputs;
  for (unsigned i = 0; i < program.inputs; ++i) {
    // Full tensors, rows that repeat, columns that repeat, single numbers.
    tensors.emplace_back(DType::F32, Dims{9, 37, 60}, Order::RowMajor, 0,
                         i % 4 == 0   ? 0u
                         : i % 4 == 1 ? 3u
                         : i % 4 == 2 ? 4u
                                      : 7u);
    tensors.back().fill(random, -8, 8);
    inputs.push_back(tensors.back().view());
    if (i == 0) continue;
    program.step[i - 1].op = PointwiseOp::Add;
    program.step[i - 1].type = static_cast<unsigned char>(DType::F32);
    program.step[i - 1].a = static_cast<unsigned char>(i == 1 ? 0 : program.inputs + i - 2);
    program.step[i - 1].b = static_cast<unsigned char>(i);
  }
  for (const Order order : {Order::RowMajor, Order::ChannelsLast}) {
    Tensor y(DType::F32, {9, 37, 60}, order);
    run_everywhere<cpu::Pointwise>(inputs, y, program, [&] {
      for (std::int64_t i = 0; i < y.elements(); ++i) {
        float sum = static_cast<float>(tensors[0].get(i));
        for (std::size_t k = 1; k < tensors.size(); ++k) sum += static_cast<float>(tensors[k].get(i));
        REQUIRE(static_cast<float>(y.get(i)) == sum);
      }
    });
  }
}

TEST_CASE("Pointwise: random operands and attributes stay inside") {
  survive_random_operands<cpu::Pointwise>(2, program_of(PointwiseOp::Add, DType::F32, 1, 2), 20000);
}
