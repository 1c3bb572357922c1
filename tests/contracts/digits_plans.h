// SPDX-License-Identifier: Apache-2.0
// Plans of the trained networks, made while building (CMakeLists.txt).
#pragma once

#include "support/plan_file.h"

namespace edgert::test {

inline const std::vector<std::string>& digits_plans() {
  static const std::vector<std::string> names{"digits_resnet", "digits_mobilenet", "digits_vit"};
  return names;
}

inline LoadedPlan digits_plan(const std::string& name) { return LoadedPlan(EDGERT_TEST_PLANS "/" + name + ".plan"); }

}  // namespace edgert::test
