// SPDX-License-Identifier: Apache-2.0
// Gather along every axis with indices of several ranks, against indexing element by element; hostile indices.
#include "edgert/cpu/ops/gather.h"

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

Dims result_dims(const Dims& data, const Dims& indices, std::int32_t axis) {
  Dims dims(data.begin(), data.begin() + axis);
  dims.insert(dims.end(), indices.begin(), indices.end());
  dims.insert(dims.end(), data.begin() + axis + 1, data.end());
  return dims;
}

}  // namespace

TEST_CASE("Gather: every axis, layout and type") {
  std::mt19937 random(31);
  const Dims data_dims = {4, 6, 5, 7};
  for (std::int32_t axis = 0; axis < 4; ++axis) {
    for (const Dims& index_dims : {Dims{}, Dims{1}, Dims{9}, Dims{2, 3}, Dims{0}}) {
      for (const DType type : {DType::U8, DType::F16, DType::F32, DType::I64}) {
        for (const Order order : {Order::RowMajor, Order::ChannelsLast, Order::Reversed}) {
          Tensor data(type, data_dims, order, 1);
          data.fill_bits(random);
          Tensor indices(axis % 2 == 0 ? DType::I64 : DType::I32, index_dims, Order::Reversed);
          const std::int64_t extent = data_dims[static_cast<std::size_t>(axis)];
          for (std::int64_t i = 0; i < indices.elements(); ++i) {
            indices.set_int(i, static_cast<std::int64_t>(random() % static_cast<unsigned>(2 * extent)) - extent);
          }
          const Dims dims = result_dims(data_dims, index_dims, axis);
          Tensor y(type, dims, order == Order::Reversed ? Order::RowMajor : order);
          run_everywhere<cpu::Gather>({data.view(), indices.view()}, y, {axis, 0}, [&] {
            for (std::int64_t i = 0; i < y.elements(); ++i) {
              const Dims at = unravel(i, dims);
              Dims from(at.begin(), at.begin() + axis);
              const Dims where(at.begin() + axis, at.begin() + axis + static_cast<std::ptrdiff_t>(index_dims.size()));
              std::int64_t index = indices.get_int(ravel(where, index_dims));
              if (index < 0) index += extent;
              from.push_back(index);
              from.insert(from.end(), at.begin() + axis + static_cast<std::ptrdiff_t>(index_dims.size()), at.end());
              REQUIRE(y.get_int(i) == data.get_int(ravel(from, data_dims)));
            }
          });
        }
      }
    }
  }
}

TEST_CASE("Gather: an index out of range is an error") {
  Tensor data(DType::F32, {3, 4});
  Tensor y(DType::F32, {2, 4});
  Tensor indices(DType::I64, {2});
  for (const std::int64_t bad : {std::int64_t{3}, std::int64_t{-4}, INT64_MAX, INT64_MIN}) {
    indices.set_int(0, 1);
    indices.set_int(1, bad);
    const Status status = run<cpu::Gather>({data.view(), indices.view()}, y.view(), {0, 0}, cpu::Isa::Baseline, 1);
    CHECK(status.error() == Error::IndexOutOfRange);
  }
  Tensor empty(DType::F32, {0, 4});
  indices.set_int(1, 0);
  CHECK(run<cpu::Gather>({empty.view(), indices.view()}, y.view(), {0, 0}, cpu::Isa::Baseline, 1).error() ==
        Error::IndexOutOfRange);
}

TEST_CASE("Gather: check refuses") {
  const Tensor data(DType::F32, {3, 4});
  const Tensor indices(DType::I64, {2});
  const Tensor y(DType::F32, {2, 4});
  const auto wrong = [](const Tensor& d, const Tensor& i, const Tensor& out, std::int32_t axis) {
    return check<cpu::Gather>({d.view(), i.view()}, out.view(), {axis, 0}) != nullptr;
  };
  CHECK_FALSE(wrong(data, indices, y, 0));
  CHECK(wrong(data, indices, y, 1));
  CHECK(wrong(data, indices, y, -1));
  CHECK(wrong(data, indices, y, 2));
  CHECK(wrong(data, indices, y, INT32_MAX));
  CHECK(wrong(data, indices, y, INT32_MIN));
  CHECK(wrong(data, Tensor(DType::U8, {2}), y, 0));
  CHECK(wrong(data, Tensor(DType::F32, {2}), y, 0));
  CHECK(wrong(data, Tensor(DType::I64, {3}), y, 0));
  CHECK(wrong(data, Tensor(DType::I64, {2, 1}), y, 0));
  CHECK(wrong(data, indices, Tensor(DType::I32, {2, 4}), 0));
  CHECK(wrong(data, indices, Tensor(DType::F32, {2, 5}), 0));
  CHECK(wrong(data, indices, Tensor(DType::F32, {2, 4}, Order::RowMajor, 0, 1), 0));
  CHECK(wrong(Tensor(DType::F32, {}), indices, Tensor(DType::F32, {2}), 0));
  CHECK(check<cpu::Gather>({data.view(), absent()}, y.view(), {0, 0}) != nullptr);
  CHECK(check<cpu::Gather>({data.view()}, y.view(), {0, 0}) != nullptr);
}

TEST_CASE("Gather: random operands and attributes stay inside") {
  survive_random_operands<cpu::Gather>(2, {0, 0}, 20000);
}
