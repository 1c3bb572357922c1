// SPDX-License-Identifier: Apache-2.0
// The largest and smallest elements in the host emulation against the CPU's kernel.
#include "codegen/top_k_kernel.h"
#include "edgert/cpu/ops/top_k.h"
#include "generic_kernels.h"

using namespace edgert;
using namespace edgert::test;

namespace {

TEST_CASE("the largest and the smallest elements, of equal ones the first") {
  std::mt19937 random(1);
  const auto check = [&](DType type, const Dims& dims, int axis, std::int64_t k, bool smallest, Order order) {
    Dims out = dims;
    out[static_cast<std::size_t>(axis)] = k;
    Tensor x(type, dims, order), values(type, out), indices(DType::I64, out, order);
    x.fill(random, -9, 9);
    for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, std::round(x.get(i)));  // many equal ones
    if (type == DType::F32) x.set(3, NAN), x.set(5, NAN), x.set(7, -INFINITY);
    compare_all<cpu::TopK>(codegen::make_top_k, {&x}, {&values, &indices}, {axis, smallest, k}, {});
  };
  check(DType::F32, {3, 150}, 1, 20, false, Order::RowMajor);
  check(DType::F32, {3, 40, 5}, 1, 40, true, Order::Reversed);
  check(DType::F16, {30, 4}, 0, 1, false, Order::RowMajor);
  check(DType::I8, {2, 37}, 1, 5, true, Order::RowMajor);
}

}  // namespace
