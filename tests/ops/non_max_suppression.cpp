// SPDX-License-Identifier: Apache-2.0
// NonMaxSuppression against the same rule written in double precision with full sorts, on boxes at quarter places so
// that no ratio is near a threshold by rounding alone.
#include "edgert/cpu/ops/non_max_suppression.h"

#include <algorithm>
#include <array>

#include "several_outputs.h"

using namespace edgert;
using namespace edgert::test;

namespace {

double overlap(const std::array<double, 4>& a, const std::array<double, 4>& b) {
  const double height = std::max(0.0, std::min(a[2], b[2]) - std::max(a[0], b[0]));
  const double width = std::max(0.0, std::min(a[3], b[3]) - std::max(a[1], b[1]));
  const double common = height * width;
  return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common);
}

}  // namespace

TEST_CASE("NonMaxSuppression: corners, flipped corners and centres") {
  std::mt19937 random(9);
  const std::int64_t batches = 2, classes = 3, count = 25;
  for (int trial = 0; trial < 60; ++trial) {
    const bool center = trial % 2 == 1;
    Tensor boxes(DType::F32, {batches, count, 4}, trial % 3 == 0 ? Order::Reversed : Order::RowMajor);
    Tensor scores(DType::F32, {batches, classes, count});
    std::vector<std::array<double, 4>> corners;
    for (std::int64_t i = 0; i < batches * count; ++i) {
      const double y = static_cast<double>(random() % 16), x = static_cast<double>(random() % 16);
      const double h = 4 + static_cast<double>(random() % 8), w = 4 + static_cast<double>(random() % 8);
      corners.push_back({y, x, y + h, x + w});
      // As centres the first coordinate of the box and its extents go together whatever they are called.
      const double forms[3][4] = {{y, x, y + h, x + w}, {y + h, x + w, y, x}, {y + h / 2, x + w / 2, h, w}};
      for (int k = 0; k < 4; ++k) boxes.set(i * 4 + k, forms[center ? 2 : trial % 4 == 0 ? 1 : 0][k]);
    }
    for (std::int64_t i = 0; i < scores.elements(); ++i) scores.set(i, static_cast<double>(random() % 12) / 12);
    const std::int64_t most = 1 + static_cast<std::int64_t>(random() % 10);
    Tensor limit(DType::I64, {1}), iou(DType::F32, {}), threshold(DType::F32, {1});
    limit.set_int(0, most);
    iou.set(0, 0.37);
    threshold.set(0, 0.3);
    Tensor selected(DType::I64, {batches * classes * most, 3}), number(DType::I64, {});
    REQUIRE(run_several<cpu::NonMaxSuppression>({boxes.view(), scores.view(), limit.view(), iou.view(), threshold.view()},
                                                {selected.view(), number.view()}, {center, 0, most})
                .ok());
    std::int64_t row = 0;
    for (std::int64_t b = 0; b < batches; ++b) {
      for (std::int64_t c = 0; c < classes; ++c) {
        std::vector<std::int64_t> order;
        const auto score = [&](std::int64_t i) { return scores.get((b * classes + c) * count + i); };
        for (std::int64_t i = 0; i < count; ++i) {
          if (score(i) > 0.3) order.push_back(i);
        }
        std::stable_sort(order.begin(), order.end(), [&](std::int64_t p, std::int64_t q) { return score(p) > score(q); });
        std::vector<std::int64_t> kept;
        for (const std::int64_t i : order) {
          const auto& box = corners[static_cast<std::size_t>(b * count + i)];
          const bool hidden = std::any_of(kept.begin(), kept.end(), [&](std::int64_t k) {
            return overlap(box, corners[static_cast<std::size_t>(b * count + k)]) > 0.37;
          });
          if (!hidden && static_cast<std::int64_t>(kept.size()) < most) kept.push_back(i);
        }
        for (const std::int64_t i : kept) {
          REQUIRE(row < number.get_int(0));
          CHECK(selected.get_int(row * 3) == b);
          CHECK(selected.get_int(row * 3 + 1) == c);
          CHECK(selected.get_int(row * 3 + 2) == i);
          ++row;
        }
      }
    }
    CHECK(number.get_int(0) == row);
  }
}

TEST_CASE("NonMaxSuppression: more than the output has room for is an error; no limit selects nothing") {
  Tensor boxes(DType::F32, {1, 2, 4}), scores(DType::F32, {1, 1, 2}), limit(DType::I64, {});
  for (std::int64_t i = 0; i < 8; ++i) boxes.set(i, static_cast<double>(i));
  for (std::int64_t i = 0; i < 2; ++i) scores.set(i, 1);
  limit.set_int(0, 5);
  Tensor one(DType::I64, {1, 3}), number(DType::I64, {});
  CHECK(run_several<cpu::NonMaxSuppression>({boxes.view(), scores.view(), limit.view()}, {one.view(), number.view()}, {0, 0, 1}).error() ==
        Error::ExtentMismatch);
  REQUIRE(run_several<cpu::NonMaxSuppression>({boxes.view(), scores.view()}, {one.view(), number.view()}, {0, 0, 1}).ok());
  CHECK(number.get_int(0) == 0);
}

TEST_CASE("NonMaxSuppression: check refuses") {
  const Tensor boxes(DType::F32, {1, 2, 4}), scores(DType::F32, {1, 3, 2}), selected(DType::I64, {6, 3}), number(DType::I64, {});
  const auto wrong = [&](const TensorView& a, const TensorView& b, const TensorView& c, const TensorView& d) {
    return check_several<cpu::NonMaxSuppression>({a, b}, {c, d}, {0, 0, 2}) != nullptr;
  };
  CHECK_FALSE(wrong(boxes.view(), scores.view(), selected.view(), number.view()));
  CHECK(wrong(Tensor(DType::F32, {1, 2, 3}).view(), scores.view(), selected.view(), number.view()));
  CHECK(wrong(Tensor(DType::F64, {1, 2, 4}).view(), scores.view(), selected.view(), number.view()));
  CHECK(wrong(boxes.view(), Tensor(DType::F32, {2, 3, 2}).view(), selected.view(), number.view()));
  CHECK(wrong(boxes.view(), Tensor(DType::F32, {1, 3, 3}).view(), selected.view(), number.view()));
  CHECK(wrong(boxes.view(), scores.view(), Tensor(DType::I64, {6, 2}).view(), number.view()));
  CHECK(wrong(boxes.view(), scores.view(), selected.view(), selected.view()));
  CHECK(check_several<cpu::NonMaxSuppression>({boxes.view(), scores.view(), Tensor(DType::I32, {}).view()},
                                              {selected.view(), number.view()}, {0, 0, 2}) != nullptr);
}

TEST_CASE("NonMaxSuppression: random operands stay inside") {
  const Tensor limit(DType::I64, {1}), iou(DType::F32, {1});
  survive_random<cpu::NonMaxSuppression>(
      {Tensor(DType::F32, {2, 3, 4}).view(), Tensor(DType::F32, {2, 2, 3}).view(), limit.view(), iou.view(), iou.view()},
      {Tensor(DType::I64, {5, 3}).view(), Tensor(DType::I64, {}).view()}, {0, 0, 2}, 10000);
}
