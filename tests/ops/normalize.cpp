// SPDX-License-Identifier: Apache-2.0
// Layer, instance, group and root-mean-square normalisation, against long double.
#include "edgert/cpu/ops/normalize.h"

#include <map>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;

namespace {

struct Case {
  DType type;
  Dims dims;
  unsigned axes;
  unsigned scale_broadcast;
  Order order;
  double tolerance;
};

void check_normalize(const Case& c, bool rms, bool has_scale, bool has_bias) {
  std::mt19937 random(81);
  Tensor x(c.type, c.dims, c.order, 1);
  Tensor scale(c.type, c.dims, Order::RowMajor, 0, c.scale_broadcast);
  Tensor bias(c.type, c.dims, Order::RowMajor, 0, c.scale_broadcast);
  Tensor y(c.type, c.dims, c.order);
  x.fill(random, 2, 7);
  scale.fill(random, 0.5, 2);
  bias.fill(random, -1, 1);
  const float epsilon = 1e-5f;
  const auto group_of = [&](std::int64_t i) {
    Dims at = unravel(i, c.dims);
    for (std::size_t d = 0; d < at.size(); ++d) {
      if ((c.axes >> d & 1u) != 0) at[d] = 0;
    }
    return at;
  };
  std::map<Dims, std::vector<std::int64_t>> groups;
  for (std::int64_t i = 0; i < x.elements(); ++i) groups[group_of(i)].push_back(i);
  const std::vector<TensorView> inputs = {x.view(), has_scale ? scale.view() : absent(),
                                          has_bias ? bias.view() : absent()};
  run_everywhere<cpu::Normalize>(inputs, y, {c.axes, epsilon, rms, {}}, [&] {
    for (const auto& [at, elements] : groups) {
      const long double count = static_cast<long double>(elements.size());
      long double mean = 0, variance = 0;
      for (const std::int64_t i : elements) mean += x.get(i) / count;
      if (rms) mean = 0;
      for (const std::int64_t i : elements) variance += (x.get(i) - mean) * (x.get(i) - mean) / count;
      for (const std::int64_t i : elements) {
        long double expected = (x.get(i) - mean) / std::sqrt(variance + static_cast<long double>(epsilon));
        if (has_scale) expected *= scale.get(i);
        if (has_bias) expected += bias.get(i);
        REQUIRE(close(y.get(i), static_cast<double>(expected), 8 * c.tolerance, c.tolerance));
      }
    }
  });
}

}  // namespace

TEST_CASE("Normalize: layer, instance, group; every layout and type") {
  const Case cases[] = {
      {DType::F32, {6, 5, 96}, 4, 3, Order::RowMajor, 1e-6},           // layer normalisation over the last axis
      {DType::F32, {6, 5, 9}, 6, 1, Order::RowMajor, 1e-6},            // over the last two
      {DType::F32, {2, 3, 8, 9}, 12, 13, Order::RowMajor, 1e-6},       // instance normalisation
      {DType::F32, {2, 20, 8, 9}, 12, 13, Order::ChannelsLast, 1e-6},  // channels last
      {DType::F32, {2, 4, 5, 6, 7}, 28, 25, Order::RowMajor, 1e-6},    // group normalisation by its view
      {DType::F32, {2, 40}, 1, 0, Order::Reversed, 1e-6},
      {DType::F32, {3, 2100}, 2, 1, Order::RowMajor, 1e-6},
      {DType::F32, {7}, 0, 0, Order::RowMajor, 1e-2},                  // groups of one: the variance is 0
      {DType::F64, {4, 5, 33}, 4, 3, Order::RowMajor, 1e-13},
      {DType::F16, {4, 5, 33}, 4, 3, Order::RowMajor, 2e-3},
      {DType::BF16, {4, 33, 5}, 2, 5, Order::RowMajor, 1e-2},
  };
  for (const Case& c : cases) {
    for (const bool rms : {false, true}) {
      for (int present = 0; present < 4; ++present) check_normalize(c, rms, (present & 1) != 0, (present & 2) != 0);
    }
  }
}

TEST_CASE("Normalize: a large mean does not spoil the variance") {
  Tensor x(DType::F32, {1, 512});
  for (std::int64_t i = 0; i < 512; ++i) x.set(i, 10000.0 + static_cast<double>(i % 2));
  Tensor y(DType::F32, {1, 512});
  run_everywhere<cpu::Normalize>({x.view(), absent(), absent()}, y, {2, 1e-5f, 0, {}}, [&] {
    for (std::int64_t i = 0; i < 512; ++i) CHECK(close(y.get(i), i % 2 == 0 ? -1.0 : 1.0, 1e-4, 0));
  });
}

TEST_CASE("Normalize: in place") {
  std::mt19937 random(82);
  for (const DType type : {DType::F32, DType::F16}) {
    Tensor x(type, {8, 300});
    x.fill(random, -2, 2);
    Tensor apart(type, {8, 300});
    const cpu::NormalizeAttributes attributes{2, 1e-5f, 0, {}};
    REQUIRE(run<cpu::Normalize>({x.view(), absent(), absent()}, apart.view(), attributes, cpu::Isa::Baseline, 1).ok());
    REQUIRE(run<cpu::Normalize>({x.view(), absent(), absent()}, x.view(), attributes, cpu::Isa::Baseline, 3).ok());
    CHECK(x.same_bytes(apart));
  }
}

TEST_CASE("Normalize: check refuses") {
  const Tensor x(DType::F32, {2, 3});
  const Tensor y(DType::F32, {2, 3});
  const cpu::NormalizeAttributes good{2, 1e-5f, 0, {}};
  CHECK(check<cpu::Normalize>({x.view(), absent(), absent()}, y.view(), good) == nullptr);
  CHECK(check<cpu::Normalize>({x.view(), x.view(), x.view()}, y.view(), good) == nullptr);
  CHECK(check<cpu::Normalize>({x.view()}, y.view(), good) != nullptr);
  CHECK(check<cpu::Normalize>({absent(), x.view(), x.view()}, y.view(), good) != nullptr);
  CHECK(check<cpu::Normalize>({x.view(), Tensor(DType::F32, {3}).view(), absent()}, y.view(), good) != nullptr);
  CHECK(check<cpu::Normalize>({x.view(), Tensor(DType::F64, {2, 3}).view(), absent()}, y.view(), good) != nullptr);
  CHECK(check<cpu::Normalize>({x.view(), absent(), absent()}, Tensor(DType::F32, {3, 2}).view(), good) != nullptr);
  CHECK(check<cpu::Normalize>({x.view(), absent(), absent()}, y.view(), {4, 1e-5f, 0, {}}) != nullptr);
  const Tensor n(DType::I32, {2, 3});
  CHECK(check<cpu::Normalize>({n.view(), absent(), absent()}, n.view(), good) != nullptr);
  CHECK(check<cpu::Normalize>({x.view(), absent(), absent()}, Tensor(DType::F32, {2, 3}, Order::RowMajor, 0, 1).view(),
                              good) != nullptr);
}

TEST_CASE("Normalize: random operands and attributes stay inside") {
  survive_random_operands<cpu::Normalize>(3, {1, 1e-5f, 0, {}}, 20000);
}
