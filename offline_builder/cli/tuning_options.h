// SPDX-License-Identifier: Apache-2.0
// --tune, --tuning-records and what else a build is told about tactics.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cli/cuda_options.h"

namespace edgert::cli {

class Progress;

struct TuningArguments {
  bool tune = false;
  double seconds = 60;
  std::string records;
  std::string profile;
  bool error_on_miss = false;
  std::string worker;
};

void add_tuning_options(CLI::App& command, TuningArguments& arguments);

/// The worker where something is to be measured, which --target local asks for too; null otherwise. Throws UsageError for
/// what does not go together.
std::shared_ptr<tune::Worker> open_worker(const TuningArguments& arguments, const CudaArguments& cuda);

/// Reads the records, if any are named; new ones are appended to them as they are measured. Nothing when tactics are the
/// model's alone.
std::optional<plan::TuningOptions> tuning_options(const TuningArguments& arguments, std::shared_ptr<tune::Worker> worker, Progress& progress);

/// One line for people, and one a tactic that was not right.
void print_tuning(const plan::TuningReport& report);

}  // namespace edgert::cli
