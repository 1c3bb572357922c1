// SPDX-License-Identifier: Apache-2.0
// Scattered updates, products of integers and determinants in the host emulation against the CPU's kernels.
#include "codegen/scatter_kernel.h"
#include "edgert/cpu/ops/determinant.h"
#include "edgert/cpu/ops/integer_matmul.h"
#include "edgert/cpu/ops/scatter.h"
#include "generic_kernels.h"

using namespace edgert;
using namespace edgert::test;

namespace {

TEST_CASE("updates in their order, of every kind") {
  std::mt19937 random(1);
  const auto check = [&](DType type, cpu::ScatterReduction reduction, Order order) {
    Tensor data(type, {9, 5}, order), indices(DType::I64, {30}), updates(type, {30, 5}, order, order == Order::RowMajor ? 1 : 0), y(type, {9, 5});
    data.fill(random, 0, type == DType::Bool ? 1.9 : 3), updates.fill(random, 0, type == DType::Bool ? 1.9 : 3);
    for (std::int64_t i = 0; i < 30; ++i) indices.set_int(i, static_cast<std::int64_t>(random() % 9));
    compare<cpu::Scatter>(codegen::make_scatter, {&data, &indices, &updates}, y, {reduction}, {});
  };
  for (const auto reduction : {cpu::ScatterReduction::None, cpu::ScatterReduction::Add, cpu::ScatterReduction::Mul, cpu::ScatterReduction::Max, cpu::ScatterReduction::Min}) {
    check(DType::F32, reduction, Order::RowMajor);
    check(DType::F16, reduction, Order::Reversed);
    check(DType::I8, reduction, Order::RowMajor);
  }
  check(DType::Bool, cpu::ScatterReduction::None, Order::RowMajor);
}

TEST_CASE("integer products wrap") {
  std::mt19937 random(2);
  const auto check = [&](DType from, DType to, const Dims& a_dims, const Dims& b_dims, unsigned broadcast, Order order) {
    Dims out = a_dims;
    out.back() = b_dims.back();
    Tensor a(from, a_dims, order), b(from, b_dims, order, 0, broadcast), y(to, out, Order::RowMajor, 1);
    a.fill_bits(random), b.fill_bits(random);
    compare<cpu::IntegerMatMul>(codegen::make_integer_matmul, {&a, &b}, y, {}, {});
  };
  check(DType::I16, DType::I32, {2, 7, 33}, {2, 33, 19}, 1, Order::RowMajor);
  check(DType::I32, DType::I32, {7, 5}, {5, 9}, 0, Order::Reversed);
  check(DType::U64, DType::U64, {2, 3, 5}, {2, 5, 9}, 0, Order::RowMajor);
  check(DType::I32, DType::I32, {2, 0}, {0, 3}, 0, Order::RowMajor);
}

TEST_CASE("determinants, also of singular and empty matrices") {
  std::mt19937 random(3);
  for (const std::int64_t size : {0, 1, 5, 17}) {
    Tensor x(DType::F64, {3, size, size}), y(DType::F64, {3});
    x.fill(random, -1, 1);
    for (std::int64_t i = 0; i < size; ++i) x.set(i, 0.0);  // a row of zeros
    compare<cpu::Determinant>(codegen::make_determinant, {&x}, y, {}, {1e-12, 1e-11});
  }
}

}  // namespace
