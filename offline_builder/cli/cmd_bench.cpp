// SPDX-License-Identifier: Apache-2.0
// edgert bench: latency of a plan, and the proof that running it allocates nothing.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "cli/allocation_counter.h"
#include "cli/command.h"
#include "cli/device_session.h"
#include "cli/loaded_plan.h"
#include "cli/step_text.h"
#include "io/npz.h"

namespace edgert::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string plan;
  std::string inputs;
  std::uint32_t threads = 1;
  std::uint32_t shape_profile = 0;
  double warmup = 0.5;
  double duration = 3;
  std::uint64_t iterations = 0;
  bool profile = false;
  bool json = false;
};

/// `sorted` must not be empty.
double quantile(const std::vector<double>& sorted, double which) {
  return sorted[static_cast<std::size_t>(which * static_cast<double>(sorted.size() - 1) + 0.5)];
}

nlohmann::json spread(const std::vector<double>& us) {
  return {{"median", quantile(us, 0.5)}, {"p90", quantile(us, 0.9)}, {"p99", quantile(us, 0.99)}, {"min", us.front()}};
}

struct Samples {
  std::vector<double> us;  ///< sorted
  double seconds = 0;      ///< of all runs together
  std::optional<std::uint64_t> allocations;

  double at(double which) const { return quantile(us, which); }
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Samples measure(PlanSession& session, const Options& options) {
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

/// Median microseconds of each step, from passes over the plan step by step.
std::vector<double> measure_steps(PlanSession& session, const Options& options) {
  std::vector<std::vector<double>> us(session.step_count());
  const Clock::time_point start = Clock::now();
  do {
    for (std::uint32_t i = 0; i < session.step_count(); ++i) {
      const Clock::time_point begin = Clock::now();
      const Status status = session.run_step(i);
      us[i].push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
      session.require(status, "step " + std::to_string(i));
    }
  } while (!us.empty() && (options.iterations != 0 ? us[0].size() < options.iterations : seconds_since(start) < options.duration));
  std::vector<double> medians;
  for (std::vector<double>& times : us) {
    std::sort(times.begin(), times.end());
    medians.push_back(times[times.size() / 2]);
  }
  return medians;
}

/// The slowest step first.
nlohmann::json to_json(const PlanView& plan, std::uint32_t shape_profile, const std::vector<double>& times) {
  const schema::Profile& profile = plan.profile(shape_profile);
  const double total = std::accumulate(times.begin(), times.end(), 0.0);
  std::vector<std::uint32_t> order(times.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&times](std::uint32_t a, std::uint32_t b) { return times[a] > times[b]; });
  nlohmann::json rows = nlohmann::json::array();
  for (const std::uint32_t i : order) {
    const schema::Step& step = *profile.lists()->Get(0)->steps()->Get(i);
    const StepText text = describe_step(plan, step);
    rows.push_back({{"step", i},
                    {"us", times[i]},
                    {"share", total > 0 ? times[i] / total : 0.0},
                    {"operator", text.name},
                    {"attributes", text.attributes},
                    {"output", output_text(plan, shape_profile, step)},
                    {"nodes", text.nodes}});
  }
  return rows;
}

void print_steps(const nlohmann::json& rows) {
  std::printf("%5s %12s %8s  %-14s %-22s %s\n", "step", "median us", "share", "operator", "output", "ONNX nodes");
  for (const nlohmann::json& row : rows) {
    std::printf("%5u %12.1f %6.2f %%  %-14s %-22s %s\n", row["step"].get<unsigned>(), row["us"].get<double>(),
                100 * row["share"].get<double>(), row["operator"].get<std::string>().c_str(),
                row["output"].get<std::string>().c_str(), joined(row["nodes"].get<std::vector<std::string>>()).c_str());
  }
}

int bench(const Options& options) {
  if (options.threads < 1 || options.threads > 64) throw UsageError("--threads must be between 1 and 64");
  const LoadedPlan plan(options.plan);
  if (options.shape_profile >= plan.view().profile_count()) {
    throw UsageError("--shape-profile " + std::to_string(options.shape_profile) + ": the plan has " +
                     std::to_string(plan.view().profile_count()) + ", counted from 0");
  }
  const std::unique_ptr<PlanSession> opened = open_session(plan, options.threads);
  PlanSession& session = *opened;
  if (options.inputs.empty()) {
    session.require(session.set_profile(options.shape_profile), "profile");
    session.set_random_inputs(1);
  } else {
    session.set_inputs(io::read_npz(options.inputs));
  }
  const std::uint32_t profile = session.profile();
  const Samples samples = measure(session, options);
  auto* gpu = dynamic_cast<DeviceSession*>(&session);
  std::optional<DeviceTimes> gpu_times;
  if (gpu != nullptr) gpu_times = gpu->time_runs(std::clamp<std::size_t>(samples.us.size(), 20, 1000));
  std::vector<double> step_times;
  if (options.profile) step_times = gpu != nullptr ? gpu->time_steps(100) : measure_steps(session, options);
  const std::string device = session.device_name();
  const auto arena = plan.view().profile(profile).arena_bytes();
  const double throughput = static_cast<double>(samples.us.size()) / samples.seconds;
  if (options.json) {
    nlohmann::json json;
    json["latency_us"] = spread(samples.us);
    if (gpu_times) {
      json["gpu_latency_us"] = spread(gpu_times->gpu);
      json["host_us"] = spread(gpu_times->host);
      json["graph_nodes"] = session.step_count();
    }
    json["throughput_per_s"] = throughput;
    json["iterations"] = samples.us.size();
    json["arena_bytes"] = arena;
    json["arena_lower_bound"] = plan.view().profile(profile).arena_lower_bound();
    json["session_bytes"] = session.memory_bytes();
    json["plan_bytes"] = plan.view().bytes().size();
    json["allocations_after_prepare"] = samples.allocations ? nlohmann::json(*samples.allocations) : nlohmann::json();
    json["threads"] = options.threads;
    json["shape_profile"] = profile;
    json["device"] = device;
    if (options.profile) json["steps"] = to_json(plan.view(), profile, step_times);
    std::printf("%s\n", json.dump(2).c_str());
    return kOk;
  }
  std::printf("%s on %s, %u thread%s, %zu runs\n", options.plan.c_str(), device.c_str(), options.threads,
              options.threads == 1 ? "" : "s", samples.us.size());
  std::printf("  latency     median %.1f us, p90 %.1f, p99 %.1f, min %.1f\n", samples.at(0.5), samples.at(0.9), samples.at(0.99),
              samples.us.front());
  if (gpu_times) {
    std::printf("  on the GPU  median %.1f us, p99 %.1f, min %.1f, one graph of %u nodes\n", quantile(gpu_times->gpu, 0.5),
                quantile(gpu_times->gpu, 0.99), gpu_times->gpu.front(), session.step_count());
    std::printf("  on the host median %.2f us to queue a run\n", quantile(gpu_times->host, 0.5));
  }
  std::printf("  throughput  %.1f /s\n", throughput);
  std::printf("  memory      plan %zu bytes, arena %llu, session in all %llu\n", plan.view().bytes().size(),
              static_cast<unsigned long long>(arena), static_cast<unsigned long long>(session.memory_bytes()));
  if (samples.allocations) {
    std::printf("  allocations after prepare: %llu\n", static_cast<unsigned long long>(*samples.allocations));
  } else {
    std::printf("  allocations after prepare: not counted in this build\n");
  }
  if (options.profile) print_steps(to_json(plan.view(), profile, step_times));
  return kOk;
}

}  // namespace

void add_bench(CLI::App& program, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("bench", "Measure the latency of a plan");
  command->footer("Examples:\n  edgert bench net.plan\n  edgert bench net.plan --threads 2 --duration 10 --json\n  edgert bench net.plan --profile\n"
                  "  edgert bench net.plan --shape-profile 1\n  edgert bench bert.plan --inputs in.npz");
  command->add_option("plan", options->plan, "Plan file")->required();
  command->add_option("--threads", options->threads, "Threads, the calling one included")->capture_default_str();
  CLI::Option* shape_profile =
      command->add_option("--shape-profile", options->shape_profile, "Which shape profile, counted from 0")->capture_default_str();
  command->add_option("--inputs", options->inputs, "Inputs by name, npz, whose shapes choose the profile; default: random ones")
      ->excludes(shape_profile);
  command->add_flag("--profile", options->profile, "Also the time of each step, in passes of their own; on a GPU what each step adds to the graph");
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
