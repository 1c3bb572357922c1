// SPDX-License-Identifier: Apache-2.0
// Profiles and weights to the bytes of a plan file.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "plan/lower.h"

namespace edgert::plan {

/// An input or output of the plan.
struct BindingSpec {
  std::string name;
  DType dtype = DType::Undefined;
  ir::Dims dims;  ///< -1 where profiles differ
  std::vector<std::string> dim_names;
};

/// A recorded run: inputs and expected outputs of one profile, dense, in binding order.
struct GoldenSpec {
  std::uint16_t profile = 0;
  std::vector<ir::Bytes> inputs;
  std::vector<ir::Bytes> outputs;
  float abs_tolerance = 0;
  float rel_tolerance = 0;
};

/// Machine code of one kernel.
struct ModuleSpec {
  std::uint32_t arch = 0;
  std::string entry;
  std::vector<std::byte> cubin;
};

struct PlanSpec {
  std::string target = "cpu";
  std::string model_name;
  std::vector<BindingSpec> inputs;
  std::vector<BindingSpec> outputs;
  std::vector<ProfileSpec> profiles;
  WeightStore weights;
  std::vector<ModuleSpec> modules;
  std::vector<GoldenSpec> golden;
  std::vector<std::pair<std::string, std::string>> metadata;
};

/// The plan file's bytes: the same for the same PlanSpec, on every host. Weights that nobody else holds are released one by
/// one as they are written, so that memory never holds them twice.
std::vector<std::byte> write(PlanSpec spec);

}  // namespace edgert::plan
