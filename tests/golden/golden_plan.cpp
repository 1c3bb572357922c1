// SPDX-License-Identifier: Apache-2.0
// Plans of every released schema version load and give the results recorded with them (make_golden.sh), for ever.
#include <cmath>

#include "support/plan_file.h"

using namespace edgert;
using namespace edgert::test;

TEST_CASE("plans of version 1.0") {
  for (const std::string name : {"convolution", "op_LayerNormalization", "op_Gather"}) {
    CAPTURE(name);
    const std::string stem = EDGERT_GOLDEN "/plan-1.0/" + name;
    const LoadedPlan plan(stem + ".plan");
    const Block input = LoadedPlan::read(stem + ".input");
    const Block expected = LoadedPlan::read(stem + ".output");
    OwnSession own(plan.view);
    const TensorView x = *own.session.input(0u);
    REQUIRE(input.size() == static_cast<std::size_t>(x.elements()) * sizeof(float));
    std::memcpy(x.data, input.data(), input.size());
    REQUIRE(own.session.run().ok());
    const TensorView y = *own.session.output(0u);
    REQUIRE(expected.size() == static_cast<std::size_t>(y.elements()) * sizeof(float));
    for (std::int64_t i = 0; i < y.elements(); ++i) {
      CHECK(y.as<float>()[i] == doctest::Approx(static_cast<double>(expected.floats()[i])).epsilon(1e-4));
    }
  }
}
