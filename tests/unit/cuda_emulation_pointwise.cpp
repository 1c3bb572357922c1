// SPDX-License-Identifier: Apache-2.0
// Generated pointwise chains, casts and copies in the host emulation against the CPU's kernels.
#include "codegen/pointwise_kernel.h"
#include "edgert/cpu/ops/cast.h"
#include "edgert/cpu/ops/pointwise.h"
#include "generic_kernels.h"

using namespace edgert;
using namespace edgert::test;
using scalar::PointwiseOp;
using scalar::PointwiseProgram;

namespace {

void add_step(PointwiseProgram& program, PointwiseOp op, DType type, unsigned a, unsigned b = 0, unsigned c = 0, float alpha = 0, float beta = 0) {
  program.step[program.steps++] = {op, static_cast<unsigned char>(type), static_cast<unsigned char>(a), static_cast<unsigned char>(b),
                                   static_cast<unsigned char>(c), {}, alpha, beta};
}
PointwiseProgram program_of(unsigned inputs) {
  PointwiseProgram program = {};
  program.inputs = inputs;
  return program;
}
/// Where the CPU's vector kernels contract to fused multiply-adds and the emulation does not.
constexpr Tolerance kFloat = {1e-6, 2e-6};

TEST_CASE("a chain over broadcast and strided operands") {
  std::mt19937 random(1);
  for (const Order order : {Order::RowMajor, Order::ChannelsLast, Order::Reversed}) {
    const Dims dims = {2, 12, 3, 8};
    Tensor x(DType::F32, dims, order), bias(DType::F32, dims, Order::RowMajor, 0, 0b1101), other(DType::F32, dims, Order::RowMajor, 1);
    Tensor y(DType::F32, dims, order);
    x.fill(random, -3, 3), bias.fill(random, -1, 1), other.fill(random, -1, 1);
    PointwiseProgram program = program_of(3);
    add_step(program, PointwiseOp::Add, DType::F32, 0, 1);
    add_step(program, PointwiseOp::Silu, DType::F32, 3);
    add_step(program, PointwiseOp::Less, DType::F32, 4, 2);
    add_step(program, PointwiseOp::Where, DType::F32, 5, 4, 2);
    add_step(program, PointwiseOp::Clip, DType::F32, 6, 0, 0, -0.5f, 0.75f);
    compare<cpu::Pointwise>(codegen::make_pointwise, {&x, &bias, &other}, y, program, kFloat);
  }
}

TEST_CASE("halves and bfloat16 are computed in float and rounded after each instruction, whatever the alignment") {
  std::mt19937 random(2);
  for (const DType type : {DType::F16, DType::BF16}) {
    for (const std::uint32_t alignment : {2u, 16u}) {
      Tensor x(type, {3, 40}), z(type, {3, 40}), y(type, {3, 40});
      x.fill(random, -3, 3), z.fill(random, -3, 3);
      PointwiseProgram program = program_of(2);
      add_step(program, PointwiseOp::Mul, type, 0, 1);
      add_step(program, PointwiseOp::Gelu, type, 2);
      compare<cpu::Pointwise>(codegen::make_pointwise, {&x, &z}, y, program, {1e-6, type == DType::F16 ? 0x1p-10 : 0x1p-7}, alignment);
    }
  }
}

TEST_CASE("every operation of float and double") {
  std::mt19937 random(3);
  for (const DType type : {DType::F32, DType::F64}) {
    // As many operations a kernel as a program has room for: their results are summed, each bounded first.
    std::vector<PointwiseOp> ops;
    for (unsigned code = 0; code < 120; ++code) {
      const PointwiseOp op = static_cast<PointwiseOp>(code);
      if (scalar::is_defined(op, scalar::Arithmetic::F32) && !scalar::is_predicate(op)) ops.push_back(op);
    }
    REQUIRE(ops.size() > 50);
    for (std::size_t first = 0; first < ops.size(); first += 11) {
      PointwiseProgram program = program_of(2);
      unsigned sum = 0;
      for (std::size_t i = first; i < std::min(first + 11, ops.size()); ++i) {
        add_step(program, ops[i], type, 0, 1, 0, 0.3f, 0.9f);
        add_step(program, PointwiseOp::Add, type, sum, 1 + program.steps);
        sum = 1 + program.steps;
      }
      Tensor x(type, {37}), z(type, {37}), y(type, {37});
      x.fill(random, 0.1, 0.9), z.fill(random, 1, 2);
      x.set(0, 1.0);
      compare<cpu::Pointwise>(codegen::make_pointwise, {&x, &z}, y, program, type == DType::F32 ? Tolerance{1e-5, 1e-5} : Tolerance{1e-13, 1e-13});
    }
  }
}

TEST_CASE("integers of every width wrap after each operation; predicates and booleans") {
  std::mt19937 random(4);
  for (const DType type : {DType::I8, DType::U8, DType::I32, DType::U32, DType::I64}) {
    Tensor x(type, {5, 7}), z(type, {5, 7}), y(type, {5, 7});
    x.fill_bits(random), z.fill_bits(random);
    PointwiseProgram program = program_of(2);
    add_step(program, PointwiseOp::Mul, type, 0, 1);
    add_step(program, PointwiseOp::Div, type, 2, 1);
    add_step(program, PointwiseOp::Mod, type, 0, 3);
    add_step(program, PointwiseOp::Abs, type, 4);
    add_step(program, PointwiseOp::BitXor, type, 5, 0);
    add_step(program, PointwiseOp::Greater, type, 6, 1);
    add_step(program, PointwiseOp::Not, DType::Bool, 7);
    add_step(program, PointwiseOp::Where, type, 8, 6, 2);
    compare<cpu::Pointwise>(codegen::make_pointwise, {&x, &z}, y, program, {});
  }
  Tensor x(DType::F32, {9}), y(DType::Bool, {9});
  const double values[] = {0, 1, INFINITY, -INFINITY, NAN, -0.0, 1e30, -1, 2};
  for (int i = 0; i < 9; ++i) x.set(i, values[i]);
  PointwiseProgram program = program_of(1);
  add_step(program, PointwiseOp::IsNan, DType::F32, 0);
  add_step(program, PointwiseOp::IsInf, DType::F32, 0);
  add_step(program, PointwiseOp::Or, DType::Bool, 1, 2);
  add_step(program, PointwiseOp::Identity, DType::Bool, 3);
  compare<cpu::Pointwise>(codegen::make_pointwise, {&x}, y, program, {});
}

TEST_CASE("casts between all types") {
  std::mt19937 random(5);
  const DType types[] = {DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::U8, DType::I32, DType::U64, DType::Bool};
  for (const DType from : types) {
    for (const DType to : types) {
      if (from == to || (static_cast<int>(from) + static_cast<int>(to)) % 3 == 2) continue;  // two thirds of the pairs hold every type on both sides
      Tensor x(from, {3, 8}), y(to, {3, 8}, Order::Reversed);
      x.fill(random, -300, 300);
      for (int i = 0; i < 4; ++i) {
        const double special[] = {1e30, -1e30, 0.4, -0.6};
        if (from == DType::F32 || from == DType::F64) x.set(i, special[i]);
      }
      cpu::CastAttributes attributes = {};
      attributes.to = to;
      compare<cpu::Cast>(codegen::make_cast, {&x}, y, attributes, {});
    }
  }
}

TEST_CASE("casts from and to types that are stored only") {
  std::mt19937 random(6);
  const auto check = [&](DType from, DType to, std::uint8_t no_saturation, Order order) {
    cpu::CastAttributes attributes = {};
    attributes.to = to, attributes.no_saturation = no_saturation, attributes.rounding = scalar::PowerRounding::Nearest;
    // 15 elements: the last byte of a narrow type is not full.
    Tensor x(from, {3, 5}, bits_of(from) < 8 ? Order::RowMajor : order), y(to, {3, 5}, bits_of(to) < 8 ? Order::RowMajor : order);
    x.fill_bits(random);
    const bool floating = from == DType::F32 || from == DType::F64;
    if (floating) x.fill(random, -9, 9), x.set(2, 1e9), x.set(3, NAN), x.set(4, -INFINITY), x.set(5, 1e-3);
    Tensor expected = y.clone();
    REQUIRE(run<cpu::Cast>({x.view()}, expected.view(), attributes, cpu::Isa::Baseline, 1).ok());
    const Call call({x.view()}, {y.view()}, &attributes);
    codegen::GenericCall generic;
    generic.operands = call.operands();
    const codegen::KernelSpec spec = codegen::make_cast(generic);
    CAPTURE(spec.job.name);
    emulate(spec, {&x}, {&y});
    CHECK(y.same_bytes(expected));
  };
  for (const DType small : {DType::F8E4M3FN, DType::F8E5M2FNUZ, DType::F8E8M0, DType::F4E2M1, DType::I4, DType::U2}) {
    check(DType::F32, small, 0, Order::Reversed);
    check(small, DType::F32, 0, Order::Reversed);
  }
  check(DType::F64, DType::F8E5M2, 1, Order::RowMajor);
  check(DType::I64, DType::U4, 0, Order::RowMajor);
  check(DType::I4, DType::I8, 0, Order::RowMajor);
  check(DType::F8E4M3FNUZ, DType::F16, 0, Order::RowMajor);
}

}  // namespace
