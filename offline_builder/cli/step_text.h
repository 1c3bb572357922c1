// SPDX-License-Identifier: Apache-2.0
// Steps of a plan in words, for people who read `inspect`, `bench --profile` and `compare --layers`.
#pragma once

#include <string>
#include <vector>

#include "edgert/plan.h"

namespace edgert::cli {

struct StepText {
  std::string name;                ///< the operator's; "Determinant (CPU)" in a plan for a GPU
  std::string attributes;          ///< as the builder describes them; empty when this builder does not know the operator
  std::vector<std::string> nodes;  ///< ONNX nodes that the step computes
};

StepText describe_step(const PlanView& plan, const schema::Step& step);

/// What the step multiplies and adds in: "f16", or "tf32" for floats that are rounded before they are multiplied, which the
/// name of the kernel's entry says.
std::string compute_text(const PlanView& plan, const schema::Step& step);

/// "f32[1,3,224,224]" of the step's first output, empty when it has none.
std::string output_text(const PlanView& plan, std::uint32_t profile, const schema::Step& step);

/// "a, b, c"
std::string joined(const std::vector<std::string>& parts);

}  // namespace edgert::cli
