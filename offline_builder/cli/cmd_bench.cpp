// SPDX-License-Identifier: Apache-2.0
// edgert bench: latency of a plan, and the proof that running it allocates nothing.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/allocation_counter.h"
#include "cli/command.h"
#include "cli/loaded_plan.h"

namespace edgert::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string plan;
  std::uint32_t threads = 1;
  std::uint32_t profile = 0;
  double warmup = 0.5;
  double duration = 3;
  std::uint64_t iterations = 0;
  bool json = false;
};

struct Samples {
  std::vector<double> us;  ///< sorted
  double seconds = 0;      ///< of all runs together
  std::optional<std::uint64_t> allocations;

  double at(double quantile) const {
    const auto index = static_cast<std::size_t>(quantile * static_cast<double>(us.size() - 1) + 0.5);
    return us[index];
  }
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Samples measure(HostSession& session, const Options& options) {
  const Clock::time_point warm = Clock::now();
  std::uint64_t warm_runs = 0;
  do {
    session.require(session.run(), "run");
    ++warm_runs;
  } while (seconds_since(warm) < options.warmup);
  // Room for every sample beforehand: the loop below must not allocate on its own account.
  const double expected = static_cast<double>(warm_runs) / std::max(seconds_since(warm), 1e-9) * options.duration;
  Samples samples;
  samples.us.reserve(options.iterations != 0 ? options.iterations : static_cast<std::size_t>(expected * 4) + 1000);
  const std::optional<std::uint64_t> before = allocation_count();
  const Clock::time_point start = Clock::now();
  while (options.iterations != 0 ? samples.us.size() < options.iterations
                                 : seconds_since(start) < options.duration && samples.us.size() < samples.us.capacity()) {
    const Clock::time_point begin = Clock::now();
    const Status status = session.run();
    samples.us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    if (!status.ok()) session.require(status, "run");
  }
  samples.seconds = seconds_since(start);
  const std::optional<std::uint64_t> after = allocation_count();
  if (before && after) samples.allocations = *after - *before;
  std::sort(samples.us.begin(), samples.us.end());
  return samples;
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos) return line.substr(line.find(": ") + 2);
  }
  return "CPU";
}

int bench(const Options& options) {
  if (options.threads < 1 || options.threads > 64) throw UsageError("--threads must be between 1 and 64");
  const LoadedPlan plan(options.plan);
  if (options.profile >= plan.view().profile_count()) {
    throw UsageError("--profile " + std::to_string(options.profile) + ": the plan has " +
                     std::to_string(plan.view().profile_count()));
  }
  HostSession session(plan, options.threads);
  session.require(session.set_profile(options.profile), "profile");
  session.set_random_inputs(1);
  const Samples samples = measure(session, options);
  const std::string device = cpu_name() + " (" + session.isa_name() + ")";
  const auto arena = plan.view().profile(options.profile).arena_bytes();
  const double throughput = static_cast<double>(samples.us.size()) / samples.seconds;
  if (options.json) {
    nlohmann::json json;
    json["latency_us"] = {{"median", samples.at(0.5)}, {"p90", samples.at(0.9)}, {"p99", samples.at(0.99)}, {"min", samples.us.front()}};
    json["throughput_per_s"] = throughput;
    json["iterations"] = samples.us.size();
    json["arena_bytes"] = arena;
    json["arena_lower_bound"] = plan.view().profile(options.profile).arena_lower_bound();
    json["session_bytes"] = session.memory_bytes();
    json["plan_bytes"] = plan.view().bytes().size();
    json["allocations_after_prepare"] = samples.allocations ? nlohmann::json(*samples.allocations) : nlohmann::json();
    json["threads"] = options.threads;
    json["profile"] = options.profile;
    json["device"] = device;
    std::printf("%s\n", json.dump(2).c_str());
    return kOk;
  }
  std::printf("%s on %s, %u thread%s, %zu runs\n", options.plan.c_str(), device.c_str(), options.threads,
              options.threads == 1 ? "" : "s", samples.us.size());
  std::printf("  latency     median %.1f us, p90 %.1f, p99 %.1f, min %.1f\n", samples.at(0.5), samples.at(0.9), samples.at(0.99),
              samples.us.front());
  std::printf("  throughput  %.1f /s\n", throughput);
  std::printf("  memory      plan %zu bytes, arena %llu, session in all %llu\n", plan.view().bytes().size(),
              static_cast<unsigned long long>(arena), static_cast<unsigned long long>(session.memory_bytes()));
  if (samples.allocations) {
    std::printf("  allocations after prepare: %llu\n", static_cast<unsigned long long>(*samples.allocations));
  } else {
    std::printf("  allocations after prepare: not counted in this build\n");
  }
  return kOk;
}

}  // namespace

void add_bench(CLI::App& program, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("bench", "Measure the latency of a plan on random inputs");
  command->footer("Examples:\n  edgert bench net.plan\n  edgert bench net.plan --threads 2 --duration 10 --json");
  command->add_option("plan", options->plan, "Plan file")->required();
  command->add_option("--threads", options->threads, "Threads, the calling one included")->capture_default_str();
  command->add_option("--profile", options->profile, "Which shape profile")->capture_default_str();
  command->add_option("--warmup", options->warmup, "Seconds of runs before measuring")->capture_default_str()->check(CLI::Range(0.0, 3600.0));
  CLI::Option* duration = command->add_option("--duration", options->duration, "Seconds of measuring")
                              ->capture_default_str()
                              ->check(CLI::Range(0.001, 86400.0));
  command->add_option("--iterations", options->iterations, "Number of runs instead of a duration")
      ->excludes(duration)
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1000000000}));
  command->add_flag("--json", options->json, "Print the figures as JSON");
  command->callback([options, &run] { run = [options] { return bench(*options); }; });
}

}  // namespace edgert::cli
