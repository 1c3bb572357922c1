// SPDX-License-Identifier: Apache-2.0
// NonZero against a search element by element, in several layouts and types.
#include "edgert/cpu/ops/non_zero.h"

#include "several_outputs.h"

using namespace edgert;
using namespace edgert::test;

TEST_CASE("NonZero: every type and layout") {
  std::mt19937 random(5);
  for (const DType type : {DType::Bool, DType::I8, DType::U16, DType::I32, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64}) {
    for (const Dims& dims : {Dims{}, Dims{7}, Dims{3, 1, 5}, Dims{2, 3, 4, 2}, Dims{0, 3}}) {
      for (const Order order : {Order::RowMajor, Order::Reversed}) {
        Tensor x(type, dims, order, 1);
        for (std::int64_t i = 0; i < x.elements(); ++i) x.set(i, static_cast<double>(random() % 3 == 0 ? 1 + random() % 5 : 0));
        Tensor indices(DType::I64, {static_cast<std::int64_t>(dims.size()), x.elements()}, order);
        Tensor count(DType::I64, {});
        REQUIRE(run_several<cpu::NonZero>({x.view()}, {indices.view(), count.view()}, {}, 3).ok());
        std::int64_t found = 0;
        for (std::int64_t i = 0; i < x.elements(); ++i) {
          if (x.get(i) == 0) continue;
          const Dims at = unravel(i, dims);
          for (std::size_t d = 0; d < dims.size(); ++d) {
            REQUIRE(indices.get_int(static_cast<std::int64_t>(d) * x.elements() + found) == at[d]);
          }
          ++found;
        }
        CHECK(count.get_int(0) == found);
      }
    }
  }
}

TEST_CASE("NonZero: NaN is not zero, minus zero is") {
  Tensor x(DType::F32, {4});
  const double values[] = {-0.0, NAN, 0, 1};
  for (int i = 0; i < 4; ++i) x.set(i, values[i]);
  Tensor indices(DType::I64, {1, 4});
  Tensor count(DType::I64, {1});
  REQUIRE(run_several<cpu::NonZero>({x.view()}, {indices.view(), count.view()}, {}).ok());
  CHECK(count.get_int(0) == 2);
  CHECK(indices.get_int(0) == 1);
  CHECK(indices.get_int(1) == 3);
}

TEST_CASE("NonZero: check refuses") {
  const Tensor x(DType::F32, {2, 3});
  const Tensor indices(DType::I64, {2, 6});
  const Tensor count(DType::I64, {});
  CHECK(check_several<cpu::NonZero>({x.view()}, {indices.view(), count.view()}, {}) == nullptr);
  CHECK(check_several<cpu::NonZero>({x.view()}, {Tensor(DType::I64, {2, 5}).view(), count.view()}, {}) != nullptr);
  CHECK(check_several<cpu::NonZero>({x.view()}, {Tensor(DType::I64, {1, 6}).view(), count.view()}, {}) != nullptr);
  CHECK(check_several<cpu::NonZero>({x.view()}, {Tensor(DType::I32, {2, 6}).view(), count.view()}, {}) != nullptr);
  CHECK(check_several<cpu::NonZero>({x.view()}, {indices.view(), Tensor(DType::I64, {2}).view()}, {}) != nullptr);
  CHECK(check_several<cpu::NonZero>({x.view()}, {indices.view()}, {}) != nullptr);
  CHECK(check_several<cpu::NonZero>({absent()}, {indices.view(), count.view()}, {}) != nullptr);
}

TEST_CASE("NonZero: random operands stay inside") {
  const Tensor x(DType::F32, {2, 3});
  survive_random<cpu::NonZero>({x.view()}, {Tensor(DType::I64, {2, 6}).view(), Tensor(DType::I64, {}).view()}, {}, 5000);
}
