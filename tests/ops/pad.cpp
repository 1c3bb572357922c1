// SPDX-License-Identifier: Apache-2.0
// Pad in every mode, against an index computed by walking back and forth.
#include "edgert/cpu/ops/pad.h"

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

/// Walks from the nearest element outwards, one step at a time.
std::int64_t walk(std::int64_t index, std::int64_t extent, cpu::PadMode mode) {
  if (mode == cpu::PadMode::Constant) return index < 0 || index >= extent ? -1 : index;
  if (mode == cpu::PadMode::Edge) return index < 0 ? 0 : index >= extent ? extent - 1 : index;
  if (mode == cpu::PadMode::Wrap) {
    while (index < 0) index += extent;
    while (index >= extent) index -= extent;
    return index;
  }
  if (extent == 1) return 0;
  while (index < 0 || index >= extent) index = index < 0 ? -index : 2 * (extent - 1) - index;
  return index;
}

}  // namespace

TEST_CASE("Pad: every mode, type and layout") {
  std::mt19937 random(41);
  const struct Case { Dims x, before, after; } cases[] = {
      {{}, {}, {}}, {{5}, {3}, {4}}, {{5}, {0}, {0}}, {{3}, {8}, {13}}, {{1}, {2}, {2}},
      {{2, 3, 9, 8}, {0, 0, 1, 2}, {0, 0, 3, 1}}, {{2, 3, 4, 5}, {1, 2, 0, 4}, {1, 0, 3, 0}}};
  for (const Case& c : cases) {
    for (const auto mode : {cpu::PadMode::Constant, cpu::PadMode::Reflect, cpu::PadMode::Edge, cpu::PadMode::Wrap}) {
      for (const DType type : {DType::I8, DType::F16, DType::F32, DType::F64}) {
        for (const Order order : {Order::RowMajor, Order::ChannelsLast}) {
          cpu::PadAttributes attributes{};
          Dims dims = c.x;
          for (std::size_t d = 0; d < dims.size(); ++d) {
            dims[d] += c.before[d] + c.after[d];
            attributes.before[d] = c.before[d];
          }
          attributes.mode = mode;
          for (int i = 0; i < 8; ++i) attributes.value[i] = static_cast<std::uint8_t>(17 + i);
          std::int64_t constant = 0;
          std::memcpy(&constant, attributes.value, bits_of(type) / 8);
          Tensor x(type, c.x, order == Order::RowMajor ? Order::Reversed : order, 1);
          Tensor y(type, dims, order);
          x.fill_bits(random);
          run_everywhere<cpu::Pad>({x.view()}, y, attributes, [&] {
            for (std::int64_t i = 0; i < y.elements(); ++i) {
              Dims at = unravel(i, dims);
              bool outside = false;
              for (std::size_t d = 0; d < at.size(); ++d) {
                at[d] = walk(at[d] - c.before[d], c.x[d], mode);
                outside = outside || at[d] < 0;
              }
              const std::uint64_t mask = ~std::uint64_t{0} >> (64 - bits_of(type));
              const std::int64_t expected = outside ? constant : x.get_int(ravel(at, c.x));
              REQUIRE((static_cast<std::uint64_t>(y.get_int(i)) & mask) ==
                      (static_cast<std::uint64_t>(expected) & mask));
            }
          });
        }
      }
    }
  }
}

TEST_CASE("Pad: an empty input gives the constant") {
  Tensor x(DType::F32, {2, 0});
  Tensor y(DType::F32, {2, 3});
  cpu::PadAttributes attributes{};
  attributes.before[1] = 1;
  run_everywhere<cpu::Pad>({x.view()}, y, attributes, [&] {
    for (std::int64_t i = 0; i < 6; ++i) CHECK(y.get(i) == 0.0);
  });
}

TEST_CASE("Pad: check refuses") {
  const Tensor x(DType::F32, {2, 3});
  const Tensor y(DType::F32, {4, 5});
  cpu::PadAttributes attributes{};
  attributes.before[0] = 2;
  CHECK(check<cpu::Pad>({x.view()}, y.view(), attributes) == nullptr);
  attributes.before[0] = 3;
  CHECK(check<cpu::Pad>({x.view()}, y.view(), attributes) != nullptr);
  attributes.before[0] = -1;
  CHECK(check<cpu::Pad>({x.view()}, y.view(), attributes) != nullptr);
  attributes.before[0] = INT64_MAX;
  CHECK(check<cpu::Pad>({x.view()}, y.view(), attributes) != nullptr);
  attributes.before[0] = 0;
  CHECK(check<cpu::Pad>({y.view()}, x.view(), attributes) != nullptr);
  CHECK(check<cpu::Pad>({x.view()}, Tensor(DType::I32, {4, 5}).view(), attributes) != nullptr);
  CHECK(check<cpu::Pad>({x.view()}, Tensor(DType::F32, {4, 5, 1}).view(), attributes) != nullptr);
  CHECK(check<cpu::Pad>({x.view()}, Tensor(DType::F32, {4, 5}, Order::RowMajor, 0, 1).view(), attributes) != nullptr);
  attributes.mode = static_cast<cpu::PadMode>(4);
  CHECK(check<cpu::Pad>({x.view()}, y.view(), attributes) != nullptr);
  attributes.mode = cpu::PadMode::Edge;
  CHECK(check<cpu::Pad>({Tensor(DType::F32, {0, 3}).view()}, y.view(), attributes) != nullptr);
}

TEST_CASE("Pad: random operands and attributes stay inside") {
  survive_random_operands<cpu::Pad>(1, {}, 20000);
}
