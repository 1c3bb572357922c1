// SPDX-License-Identifier: Apache-2.0
// Runs plans that node_runner --plans has left in folders of cases, on a machine that has no builder.
//
//   plan_runner FOLDER...      each with model.plan and case.bin
//
// Output: as node_runner's.
#include "test_case.h"

namespace {

using namespace edgert;
using namespace edgert::conformance;

Outcome run_case(const std::string& folder) {
  try {
    const Case test = read_case(folder + "/case.bin");
    std::ifstream file(folder + "/model.plan", std::ios::binary | std::ios::ate);
    if (!file) return {"error", "no model.plan"};
    AlignedBytes plan(static_cast<std::uint64_t>(file.tellg()));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(plan.span().data()), static_cast<std::streamsize>(plan.span().size()));
    return run_on_cpu({plan.span().data(), plan.span().size()}, test, [](const std::string&) { return true; });
  } catch (const std::exception& error) {
    return {"error", error.what()};
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) print(run_isolated(argv[i], &run_case), argv[i]);
  return 0;
}
