// SPDX-License-Identifier: Apache-2.0
// Copy between every pair of layouts, against element-by-element copying.
#include "edgert/cpu/ops/copy.h"

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

void check_copy(Tensor& from, Tensor& to) {
  run_everywhere<cpu::Copy>({from.view()}, to, {}, [&] {
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < to.elements(); ++i) wrong += to.get_int(i) != from.get_int(i);
    CHECK(wrong == 0);
  });
}

}  // namespace

TEST_CASE("Copy: every pair of layouts and element size") {
  std::mt19937 random(1);
  const Dims shapes[] = {
      {}, {1}, {7}, {0, 3}, {5, 33}, {33, 5}, {2, 3, 17, 19}, {1, 64, 16, 20}, {2, 37, 5, 4}, {3, 1, 4, 1, 5}};
  for (const Dims& dims : shapes) {
    for (const DType dtype : {DType::U8, DType::I16, DType::I32, DType::I64}) {
      for (const Order a : {Order::RowMajor, Order::ChannelsLast, Order::Reversed}) {
        for (const Order b : {Order::RowMajor, Order::ChannelsLast, Order::Reversed}) {
          for (const std::int64_t gap : {0, 3}) {
            Tensor from(dtype, dims, a, 3 - gap);
            Tensor to(dtype, dims, b, gap);
            from.fill_bits(random);
            check_copy(from, to);
          }
        }
      }
    }
  }
}

TEST_CASE("Copy: a broadcast input, and gaps stay untouched") {
  std::mt19937 random(2);
  for (const unsigned broadcast : {1u, 2u, 4u, 5u, 7u}) {
    Tensor from(DType::F32, {4, 9, 11}, Order::RowMajor, 0, broadcast);
    from.fill(random, -5, 5);
    Tensor to(DType::F32, {4, 9, 11}, Order::RowMajor, 5);
    check_copy(from, to);
    const unsigned char* bytes = to.view().as<unsigned char>();
    for (int i = 11 * 4; i < 16 * 4; ++i) CHECK(bytes[i] == 0x5a);
  }
}

TEST_CASE("Copy: check refuses") {
  const Tensor x(DType::F32, {2, 3});
  const Tensor y(DType::F32, {2, 3});
  CHECK(check<cpu::Copy>({x.view()}, y.view(), {}) == nullptr);
  CHECK(check<cpu::Copy>({x.view()}, Tensor(DType::I32, {2, 3}).view(), {}) == nullptr);
  CHECK(check<cpu::Copy>({x.view()}, Tensor(DType::F64, {2, 3}).view(), {}) != nullptr);
  CHECK(check<cpu::Copy>({x.view()}, Tensor(DType::F32, {3, 2}).view(), {}) != nullptr);
  CHECK(check<cpu::Copy>({x.view()}, Tensor(DType::F32, {2, 3, 1}).view(), {}) != nullptr);
  CHECK(check<cpu::Copy>({x.view()}, Tensor(DType::F32, {2, 3}, Order::RowMajor, 0, 1).view(), {}) != nullptr);
  CHECK(check<cpu::Copy>({}, y.view(), {}) != nullptr);
  CHECK(check<cpu::Copy>({x.view(), x.view()}, y.view(), {}) != nullptr);
  CHECK(check<cpu::Copy>({absent()}, y.view(), {}) != nullptr);
  TensorView strange = x.view();
  strange.dtype = static_cast<DType>(77);
  CHECK(check<cpu::Copy>({strange}, y.view(), {}) != nullptr);
  strange.dtype = DType::I4;
  CHECK(check<cpu::Copy>({strange}, strange, {}) != nullptr);
  strange = x.view();
  strange.format = WeightFormat::PanelF32x16;
  CHECK(check<cpu::Copy>({strange}, y.view(), {}) != nullptr);
}

TEST_CASE("Copy: random operands and attributes stay inside") {
  survive_random_operands<cpu::Copy>(1, {}, 20000);
}
