// SPDX-License-Identifier: Apache-2.0
#include "codegen/target.h"

namespace edgert::codegen {
namespace {

// SM, multiprocessors, shared memory that one block can have (CUDA C++ Programming Guide, "Compute Capabilities").
constexpr ConvTarget kTargets[] = {
    {80, 108, 163 * 1024}, {86, 84, 99 * 1024},  {87, 16, 163 * 1024},  {89, 128, 99 * 1024}, {90, 132, 227 * 1024},
    {100, 148, 227 * 1024}, {103, 148, 227 * 1024}, {110, 20, 227 * 1024}, {120, 170, 99 * 1024}, {121, 48, 99 * 1024},
};

}  // namespace

std::optional<ConvTarget> target_named(const std::string& name) {
  for (const ConvTarget& target : kTargets) {
    if (name == "sm_" + std::to_string(target.arch)) return target;
  }
  return std::nullopt;
}

std::string target_names() {
  std::string names;
  for (const ConvTarget& target : kTargets) names += (names.empty() ? "sm_" : ", sm_") + std::to_string(target.arch);
  return names;
}

}  // namespace edgert::codegen
