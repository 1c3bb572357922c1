// SPDX-License-Identifier: Apache-2.0
// What the commands of `edgert` share: exit codes, usage errors, and how a command announces itself.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace CLI {
class App;
}

namespace edgert::cli {

enum ExitCode : int {
  kOk = 0,
  kComparisonFailed = 1,
  kUsage = 2,
  kBadInput = 3,
  kIo = 4,
  kInternal = 5,
};

/// Options that parse but make no sense together.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Adds the command to the program; when the user chose it, `run` is set to what does it and returns an exit code.
using AddCommand = void (*)(CLI::App& program, std::function<int()>& run);

void add_build(CLI::App& program, std::function<int()>& run);
void add_run(CLI::App& program, std::function<int()>& run);
void add_bench(CLI::App& program, std::function<int()>& run);
void add_inspect(CLI::App& program, std::function<int()>& run);
void add_compare(CLI::App& program, std::function<int()>& run);
void add_doctor(CLI::App& program, std::function<int()>& run);

}  // namespace edgert::cli
