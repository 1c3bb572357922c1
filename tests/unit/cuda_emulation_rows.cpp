// SPDX-License-Identifier: Apache-2.0
// Sums of gathered rows and their normalisation in the host emulation, against the definition in double.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "../fake_cuda/emulate.h"
#include "codegen/rows_kernel.h"
#include "edgert/scalar/convert.h"

namespace {

using namespace edgert;
using namespace edgert::codegen;

std::size_t run(const RowsShape& s, std::int32_t rows_per_warp = 1) {
  std::mt19937 random(7);
  const auto value = [&random] { return scalar::to_half((static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f) + 2.0f).bits; };
  std::vector<std::vector<std::uint16_t>> tables(3);
  std::vector<std::vector<std::int64_t>> wide(3);
  std::vector<std::vector<std::int32_t>> narrow(3);
  std::vector<std::vector<float>> floats(3);
  const void* address[6] = {};
  for (std::size_t t = 0; t < s.tables.size(); ++t) {
    tables[t].resize(static_cast<std::size_t>(s.tables[t].rows * s.tables[t].pitch));
    for (auto& x : tables[t]) x = value();
    for (int r = 0; r < s.rows; ++r) {
      const int at = s.tables[t].index_bytes == 0 ? r : static_cast<int>(random() % static_cast<unsigned>(s.tables[t].rows));
      wide[t].push_back(r % 3 == 1 && s.tables[t].index_bytes != 0 ? at - s.tables[t].rows : at);
      narrow[t].push_back(static_cast<std::int32_t>(wide[t].back()));
    }
    for (const std::uint16_t bits : tables[t]) floats[t].push_back(scalar::to_float(scalar::Half{bits}));
    address[2 * t] = s.tables[t].is_float ? static_cast<const void*>(floats[t].data()) : tables[t].data();
    address[2 * t + 1] = s.tables[t].index_bytes == 8 ? static_cast<const void*>(wide[t].data()) : narrow[t].data();
  }
  std::vector<float> parameters(static_cast<std::size_t>(2 * s.depth));
  for (float& x : parameters) x = static_cast<float>(random() >> 8) * 0x1p-23f - 1.0f;
  std::vector<std::uint16_t> y(static_cast<std::size_t>(s.rows * s.output_pitch), 0xffff);
  std::vector<float> y_floats(y.size(), -1000.0f);
  const void* parameter_pointer = parameters.data();
  void* y_pointer = s.float_output ? static_cast<void*>(y_floats.data()) : y.data();
  void* arguments[] = {&address[0], &address[1], &address[2], &address[3], &address[4], &address[5], &parameter_pointer, &y_pointer};
  const fake_cuda::EmulatedKernel kernel(make_rows(s, 64, rows_per_warp, ConvTarget{}));
  kernel.run(arguments, {{tables[0].data(), tables[0].size() * 2}, {narrow[0].data(), narrow[0].size() * 4}, {wide[0].data(), wide[0].size() * 8}, {floats[0].data(), floats[0].size() * 4}, {y.data(), y.size() * 2}, {y_floats.data(), y_floats.size() * 4}}, 1);
  std::size_t wrong = 0;
  for (int r = 0; r < s.rows; ++r) {
    std::vector<double> x(static_cast<std::size_t>(s.depth), 0.0);
    double mean = 0, variance = 0;
    for (std::size_t t = 0; t < s.tables.size(); ++t) {
      const std::int64_t row = wide[t][static_cast<std::size_t>(r)] < 0 ? wide[t][static_cast<std::size_t>(r)] + s.tables[t].rows : wide[t][static_cast<std::size_t>(r)];
      for (int k = 0; k < s.depth; ++k) x[static_cast<std::size_t>(k)] += scalar::to_float(scalar::Half{tables[t][static_cast<std::size_t>(row * s.tables[t].pitch + k)]});
    }
    for (const double v : x) mean += s.rms ? 0 : v / s.depth;
    for (const double v : x) variance += (v - mean) * (v - mean) / s.depth;
    for (int k = 0; k < s.output_pitch; ++k) {
      const std::size_t at = static_cast<std::size_t>(r * s.output_pitch + k);
      if (k >= s.depth) {
        wrong += y[at] != 0xffff || y_floats[at] != -1000.0f;
        continue;
      }
      const double actual = s.float_output ? y_floats[at] : scalar::to_float(scalar::Half{y[at]});
      double expected = x[static_cast<std::size_t>(k)];
      if (s.normalize) {
        expected = (expected - mean) / std::sqrt(variance + s.epsilon) * parameters[static_cast<std::size_t>(k)] + parameters[static_cast<std::size_t>(s.depth + k)];
      }
      wrong += !(std::fabs(actual - expected) <= (s.float_output ? 0 : 0x1p-11 * 1.01) * std::fabs(expected) + 2e-5);
    }
  }
  return wrong;
}

TEST_CASE("rows of three tables are gathered, summed and normalised") {
  RowsShape s;
  s.rows = 5, s.depth = 280, s.output_pitch = 288, s.normalize = true;
  s.tables = {{9, 280, 8}, {5, 296, 0}, {2, 280, 4}};
  CHECK(run(s) == 0);
  s.normalize = false;
  CHECK(run(s) == 0);
  s.rows = 23, s.tables[1].rows = 23, s.normalize = true;
  for (const std::int32_t rows_per_warp : {2, 9}) CHECK(run(s, rows_per_warp) == 0);  // four at once
  s.rows = 5, s.tables = {{5, 280, 0}};
  s.normalize = true;
  CHECK(run(s) == 0);
  s.tables = {{9, 280, 4, true}, {5, 288, 0, false}};
  s.rms = s.float_output = true;
  CHECK(run(s) == 0);
  s.depth = 20;
  CHECK_THROWS_AS(make_rows(s, 64, 1, ConvTarget{}), CompileError);
}

}  // namespace
