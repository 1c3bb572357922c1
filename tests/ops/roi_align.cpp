// SPDX-License-Identifier: Apache-2.0
// RoiAlign against a loop over every sample of every bin, in double.
#include "edgert/cpu/ops/roi_align.h"

#include <algorithm>

#include "operator_test.h"

using namespace edgert;
using namespace edgert::test;
using cpu::RoiMode;

namespace {

struct Reference {
  const Tensor& x;
  Dims dims;
  cpu::RoiAlignAttributes a;

  /// The four weighted pixels around (y, x), or four zeros outside.
  std::vector<double> pixels(std::int64_t image, std::int64_t channel, double row, double column) const {
    const double height = static_cast<double>(dims[2]), width = static_cast<double>(dims[3]);
    if (row < -1 || row > height || column < -1 || column > width) return {0, 0, 0, 0};
    row = std::min(std::max(row, 0.0), height - 1);
    column = std::min(std::max(column, 0.0), width - 1);
    std::vector<double> values;
    for (const int i : {0, 1}) {
      for (const int j : {0, 1}) {
        const double y0 = std::floor(row), x0 = std::floor(column);
        const double weight = (i == 1 ? row - y0 : 1 - row + y0) * (j == 1 ? column - x0 : 1 - column + x0);
        const auto at = [](double p, double last) { return static_cast<std::int64_t>(std::min(p, last)); };
        values.push_back(weight * x.get(ravel({image, channel, at(y0 + i, height - 1), at(x0 + j, width - 1)}, dims)));
      }
    }
    return values;
  }

  double bin(const std::vector<double>& roi, std::int64_t image, std::int64_t channel, std::int64_t row,
             std::int64_t column) const {
    const double offset = a.half_pixel != 0 ? 0.5 : 0;
    const double scale = static_cast<double>(a.spatial_scale);
    const double left = roi[0] * scale - offset, top = roi[1] * scale - offset;
    double width = roi[2] * scale - offset - left, height = roi[3] * scale - offset - top;
    if (a.half_pixel == 0) width = std::max(width, 1.0), height = std::max(height, 1.0);
    const double bin_height = height / a.height, bin_width = width / a.width;
    const int rows = a.sampling_ratio > 0 ? a.sampling_ratio : static_cast<int>(std::ceil(bin_height));
    const int columns = a.sampling_ratio > 0 ? a.sampling_ratio : static_cast<int>(std::ceil(bin_width));
    double sum = 0, best = -INFINITY;
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) {
        const double y = top + static_cast<double>(row) * bin_height + (i + 0.5) * bin_height / rows;
        const double z = left + static_cast<double>(column) * bin_width + (j + 0.5) * bin_width / columns;
        for (const double value : pixels(image, channel, y, z)) {
          sum += value;
          best = std::max(best, value);
        }
      }
    }
    if (rows < 1 || columns < 1) return 0;
    return a.mode == RoiMode::Max ? best : sum / (rows * columns);
  }
};

}  // namespace

TEST_CASE("RoiAlign: modes, coordinates and regions inside, outside and across") {
  std::mt19937 random(411);
  for (int trial = 0; trial < 120; ++trial) {
    CAPTURE(trial);
    const auto pick = [&](int low, int high) {
      return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
    };
    cpu::RoiAlignAttributes a{};
    a.mode = static_cast<RoiMode>(trial % 2);
    a.half_pixel = static_cast<std::uint8_t>(trial / 2 % 2);
    a.sampling_ratio = pick(0, 3);
    a.spatial_scale = trial % 3 == 0 ? 0.5f : 1.0f;
    a.height = pick(1, 4);
    a.width = pick(1, 4);
    const Dims dims{pick(1, 3), pick(1, 4), pick(1, 9), pick(1, 9)};
    const std::int64_t regions = pick(1, 4);
    Tensor x(DType::F32, dims, trial % 5 == 0 ? Order::ChannelsLast : Order::RowMajor);
    Tensor rois(DType::F32, {regions, 4});
    Tensor images(trial % 4 < 2 ? DType::I64 : DType::I32, {regions});
    Tensor y(DType::F32, {regions, dims[1], a.height, a.width}, trial % 7 == 0 ? Order::ChannelsLast : Order::RowMajor);
    x.fill(random, -1, 1);
    rois.fill(random, -8, 24);
    images.fill(random, 0, static_cast<double>(dims[0]) - 0.01);
    const Reference reference{x, dims, a};
    run_everywhere<cpu::RoiAlign>({x.view(), rois.view(), images.view()}, y, a, [&] {
      for (std::int64_t i = 0; i < y.elements(); ++i) {
        const Dims at = unravel(i, {regions, dims[1], a.height, a.width});
        std::vector<double> roi;
        for (std::int64_t k = 0; k < 4; ++k) roi.push_back(rois.get(at[0] * 4 + k));
        REQUIRE(close(y.get(i), reference.bin(roi, images.get_int(at[0]), at[1], at[2], at[3]), 1e-5, 1e-5));
      }
    });
  }
}

TEST_CASE("RoiAlign: huge regions and corners that are no numbers end soon; a missing image is an error") {
  const double corners[] = {NAN, INFINITY, -INFINITY, 1e30, -1e30, 1e9, -1e9, 0};
  Tensor x(DType::F32, {1, 1, 3, 3});
  std::mt19937 random(412);
  x.fill(random, -1, 1);
  Tensor rois(DType::F32, {64, 4});
  Tensor images(DType::I32, {64});
  for (std::int64_t i = 0; i < 64; ++i) {
    images.set_int(i, 0);
    for (std::int64_t k = 0; k < 4; ++k) rois.set(i * 4 + k, corners[(i >> (k % 2 * 3) & 7) ^ (k / 2)]);
  }
  Tensor y(DType::F32, {64, 1, 2, 2});
  for (int mode = 0; mode < 4; ++mode) {
    const cpu::RoiAlignAttributes a{2, 2, mode % 2, 1.0f, RoiMode::Average, static_cast<std::uint8_t>(mode / 2), {}};
    CHECK(run<cpu::RoiAlign>({x.view(), rois.view(), images.view()}, y.view(), a, cpu::Isa::Baseline, 1).ok());
  }
  for (const std::int64_t image : {-1, 1}) {
    images.set_int(7, image);
    const Status status = run<cpu::RoiAlign>({x.view(), rois.view(), images.view()}, y.view(),
                                             {2, 2, 1, 1.0f, {}, 0, {}}, cpu::Isa::Baseline, 1);
    CHECK(status.error() == Error::IndexOutOfRange);
  }
}

TEST_CASE("RoiAlign: check refuses") {
  const Tensor x(DType::F32, {1, 2, 3, 4}), rois(DType::F32, {5, 4}), images(DType::I64, {5});
  const Tensor y(DType::F32, {5, 2, 2, 2});
  const cpu::RoiAlignAttributes a{2, 2, 0, 1.0f, {}, 0, {}};
  const auto verdict = [&](const Tensor& b, const Tensor& c, const Tensor& d, const cpu::RoiAlignAttributes& with) {
    return check<cpu::RoiAlign>({x.view(), b.view(), c.view()}, d.view(), with);
  };
  CHECK(verdict(rois, images, y, a) == nullptr);
  CHECK(verdict(Tensor(DType::F32, {5, 5}), images, y, a) != nullptr);
  CHECK(verdict(Tensor(DType::F32, {4, 4}), images, y, a) != nullptr);
  CHECK(verdict(rois, Tensor(DType::F32, {5}), y, a) != nullptr);
  CHECK(verdict(rois, Tensor(DType::I64, {6}), y, a) != nullptr);
  CHECK(verdict(rois, images, Tensor(DType::F32, {5, 3, 2, 2}), a) != nullptr);
  CHECK(verdict(rois, images, y, {2, 2, -1, 1.0f, {}, 0, {}}) != nullptr);
  CHECK(verdict(rois, images, y, {2, 2, 1 << 20, 1.0f, {}, 0, {}}) != nullptr);
  CHECK(verdict(rois, images, y, {2, 2, 0, 1.0f, static_cast<RoiMode>(2), 0, {}}) != nullptr);
}

TEST_CASE("RoiAlign: changed operands and attributes stay inside") {
  std::mt19937 random(413);
  const Tensor x(DType::F32, {3, 2, 3, 4}), rois(DType::F32, {5, 4}), images(DType::I64, {5});
  const Tensor y(DType::F32, {5, 2, 2, 2});
  const int ran = survive_changed_operands<cpu::RoiAlign>(random, {x.view(), rois.view(), images.view()}, {y.view()},
                                                          {2, 2, 1, 1.0f, {}, 0, {}}, 3000);
  CHECK(ran > 300);
}
