// SPDX-License-Identifier: Apache-2.0
// Reductions, softmax and normalisation in the host emulation against the CPU's kernels.
#include "codegen/reduce_kernel.h"
#include "edgert/cpu/ops/arg_reduce.h"
#include "edgert/cpu/ops/normalize.h"
#include "edgert/cpu/ops/reduce.h"
#include "edgert/cpu/ops/softmax.h"
#include "generic_kernels.h"

using namespace edgert;
using namespace edgert::test;
using cpu::ReduceKind;

namespace {

Dims reduced_dims(Dims dims, unsigned axes) {
  for (std::size_t d = 0; d < dims.size(); ++d) {
    if ((axes >> d & 1u) != 0) dims[d] = 1;
  }
  return dims;
}

void check_reduce(ReduceKind kind, DType type, const Dims& dims, unsigned axes, Order order, Tolerance tolerance) {
  std::mt19937 random(7);
  Tensor x(type, dims, order, order == Order::RowMajor ? 1 : 0), y(type, reduced_dims(dims, axes), order);
  const bool product = kind == ReduceKind::Prod, positive = kind == ReduceKind::LogSum;
  x.fill(random, product ? 0.9 : positive ? 0.5 : -3, product ? 1.1 : 3);
  compare<cpu::Reduce>(codegen::make_reduce, {&x}, y, {axes, kind, {}}, tolerance);
}

TEST_CASE("every kind of reduction, along rows, across them and over everything") {
  for (int kind = 0; kind <= 9; ++kind) {
    const ReduceKind k = static_cast<ReduceKind>(kind);
    check_reduce(k, DType::F32, {3, 5, 37}, 0b100, Order::RowMajor, {2e-5, 1e-5});
    if (kind % 2 == 0) check_reduce(k, DType::F32, {2, 70, 19}, 0b010, Order::RowMajor, {2e-5, 1e-5});
    if (kind % 3 == 0) check_reduce(k, DType::F64, {2, 70, 19}, 0b011, Order::Reversed, {1e-11, 1e-11});
    if (kind % 3 == 1) check_reduce(k, DType::I32, {5, 70}, 0b11, Order::RowMajor, {});
  }
  check_reduce(ReduceKind::Mean, DType::F16, {2, 24, 7, 7}, 0b1100, Order::ChannelsLast, {1e-6, 0x1p-10});
  check_reduce(ReduceKind::Max, DType::U8, {2, 24, 7}, 0b100, Order::RowMajor, {});
  check_reduce(ReduceKind::Min, DType::Bool, {4, 9}, 0b10, Order::RowMajor, {});
  check_reduce(ReduceKind::Sum, DType::F32, {1, 3000}, 0b10, Order::RowMajor, {1e-3, 1e-5});
}

TEST_CASE("a reduction of nothing gives the neutral element") {
  for (const ReduceKind kind : {ReduceKind::Sum, ReduceKind::Max, ReduceKind::Mean, ReduceKind::LogSumExp}) {
    check_reduce(kind, DType::F32, {3, 0}, 0b10, Order::RowMajor, {});
  }
  check_reduce(ReduceKind::Max, DType::I8, {3, 0}, 0b10, Order::RowMajor, {});
  check_reduce(ReduceKind::Min, DType::U16, {3, 0}, 0b10, Order::RowMajor, {});
}

TEST_CASE("the place of the largest and the smallest element") {
  std::mt19937 random(8);
  for (const bool minimum : {false, true}) {
    for (const bool last : {false, true}) {
      Tensor x(DType::F32, {3, 45}), y(DType::I64, {3, 1});
      x.fill(random, -3, 3);
      for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, std::round(x.get(i)));  // many equal ones
      x.set(20, NAN), x.set(30, NAN);
      cpu::ArgReduceAttributes attributes = {1, minimum, last, {}};
      compare<cpu::ArgReduce>(codegen::make_arg_reduce, {&x}, y, attributes, {});
      Tensor z(DType::I8, {2, 50, 16}), w(DType::I64, {2, 1, 16});
      z.fill(random, -3, 3);
      compare<cpu::ArgReduce>(codegen::make_arg_reduce, {&z}, w, attributes, {});
    }
  }
}

TEST_CASE("softmax and its logarithm along any axis") {
  std::mt19937 random(9);
  const auto check = [&](DType type, const Dims& dims, int axis, bool logarithm, Order order, Tolerance tolerance) {
    Tensor x(type, dims, order, order == Order::RowMajor ? 3 : 0), y(type, dims, order);
    x.fill(random, -5, 5);
    cpu::SoftmaxAttributes attributes = {};
    attributes.axis = axis, attributes.log = logarithm;
    compare<cpu::Softmax>(codegen::make_softmax, {&x}, y, attributes, tolerance);
  };
  for (const bool logarithm : {false, true}) {
    check(DType::F32, {3, 5, 37}, 2, logarithm, Order::RowMajor, {1e-6, 1e-5});
    check(DType::F32, {2, 19, 21}, 1, logarithm, Order::RowMajor, {1e-6, 1e-5});
    check(DType::F32, {2, 5, 7}, 0, logarithm, Order::Reversed, {1e-6, 1e-5});
  }
  check(DType::F16, {5, 200}, 1, false, Order::RowMajor, {1e-6, 0x1p-10});
  check(DType::F64, {2, 700}, 1, true, Order::RowMajor, {1e-12, 1e-12});
  check(DType::F32, {1, 20000}, 1, false, Order::RowMajor, {1e-7, 1e-5});  // more than registers hold
}

TEST_CASE("layer, instance, group and RMS normalisation") {
  std::mt19937 random(10);
  const auto check = [&](DType type, const Dims& dims, unsigned axes, bool rms, unsigned broadcast, Order order, bool bias, Tolerance tolerance) {
    Tensor x(type, dims, order), y(type, dims, order), scale(type, dims, Order::RowMajor, 0, broadcast), shift(type, dims, Order::RowMajor, 0, broadcast);
    x.fill(random, -1, 3), scale.fill(random, 0.5, 1.5), shift.fill(random, -1, 1);
    compare<cpu::Normalize>(codegen::make_normalize, {&x, &scale, bias ? &shift : nullptr}, y, {axes, 1e-5f, rms, {}}, tolerance);
  };
  check(DType::F32, {3, 5, 70}, 0b100, false, 0b011, Order::RowMajor, true, {2e-5, 1e-5});
  check(DType::F32, {2, 24, 5, 3}, 0b1100, false, 0b1101, Order::RowMajor, true, {2e-5, 1e-5});      // instance
  check(DType::F32, {2, 24, 5, 3}, 0b1100, false, 0b1101, Order::ChannelsLast, false, {2e-5, 1e-5});
  check(DType::F32, {2, 4, 6, 5, 3}, 0b11100, false, 0b11001, Order::ChannelsLast, true, {2e-5, 1e-5});  // group
  check(DType::F16, {9, 96}, 0b10, true, 0b01, Order::RowMajor, false, {1e-3, 0x1p-9});
  check(DType::F64, {3, 33}, 0b10, true, 0b01, Order::RowMajor, true, {1e-10, 1e-10});
  check(DType::F32, {1, 20000}, 0b10, false, 0b01, Order::RowMajor, true, {2e-5, 1e-5});
}

}  // namespace
