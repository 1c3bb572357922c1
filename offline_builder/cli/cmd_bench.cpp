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
#include "plan/launch_work.h"

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
  int multiprocessors = 0;
  bool cold_l2 = false;
  bool check_bits = false;
  bool profile = false;
  bool json = false;
};

/// `sorted` must not be empty.
double quantile(const std::vector<double>& sorted, double which) {
  return sorted[static_cast<std::size_t>(which * static_cast<double>(sorted.size() - 1) + 0.5)];
}

nlohmann::json spread(const std::vector<double>& us) {
  const double median = quantile(us, 0.5), p99 = quantile(us, 0.99);
  return {{"median", median}, {"p90", quantile(us, 0.9)}, {"p99", p99}, {"p99_over_median", median > 0 ? p99 / median : 0.0}, {"min", us.front()}};
}

struct Samples {
  std::vector<double> us;  ///< sorted
  double seconds = 0;      ///< of all runs together
  std::optional<AllocationCount> allocations;

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
  start_counting_allocations();
  const Clock::time_point start = Clock::now();
  while (options.iterations != 0 ? samples.us.size() < options.iterations
                                 : seconds_since(start) < options.duration && samples.us.size() < samples.us.capacity()) {
    const Clock::time_point begin = Clock::now();
    const Status status = session.run();
    samples.us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    if (!status.ok()) session.require(status, "run");
  }
  samples.seconds = seconds_since(start);
  samples.allocations = stop_counting_allocations();
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

/// What the GPU's clock and the driver say.
struct DeviceFigures {
  std::vector<double> gpu, cold;  ///< sorted; cold only if asked for
  DeviceTiming::Host host;
  std::size_t nodes = 0;
  std::uint64_t allocations = 0;        ///< of device memory, while measuring
  DeviceRates rates;
  std::vector<double> steps;
};

DeviceFigures measure_device(DeviceSession& session, const Options& options, std::size_t runs) {
  DeviceFigures figures;
  const std::unique_ptr<DeviceTiming> timing = session.timing();
  figures.gpu = timing->gpu(runs, CacheState::Warm);
  if (options.cold_l2) figures.cold = timing->gpu(std::min<std::size_t>(runs, 300), CacheState::Cold);
  figures.host = timing->host(std::min<std::size_t>(runs, 300));
  figures.nodes = timing->graph_nodes(session.step_count());
  figures.rates = session.rates();
  if (!options.profile) return figures;
  figures.steps = timing->steps(session.step_count(), 60, options.cold_l2 ? CacheState::Cold : CacheState::Warm);
  return figures;
}

/// Whether what the plan reads and writes stays in the cache from run to run.
bool fits_cache(const PlanView& plan, const schema::Profile& profile, const DeviceRates& rates) {
  return plan.weights().size() + profile.arena_bytes() < rates.cache_bytes;
}

/// The floors of all steps together, of which none can begin before the one before it has ended.
double floor_us(const PlanView& plan, const schema::Profile& profile, const DeviceRates& rates, bool cold) {
  double sum = 0;
  const auto* steps = profile.lists()->Get(0)->steps();
  for (std::uint32_t i = 0; i < rules::count(steps); ++i) {
    const plan::LaunchWork work = plan::work_of(*steps->Get(i));
    sum += rates.floor_us(work.bytes, work.multiply_adds, static_cast<DType>(steps->Get(i)->compute()), cold || !fits_cache(plan, profile, rates));
  }
  return sum;
}

/// What the plan's launches take if they have nothing to do.
double launches_us(const schema::Profile& profile, const DeviceRates& rates) {
  double sum = 0;
  const auto* steps = profile.lists()->Get(0)->steps();
  for (std::uint32_t i = 0; i < rules::count(steps); ++i) {
    const schema::Launch* launch = steps->Get(i)->launch();
    if (launch != nullptr) sum += launch->programmatic() ? rates.early_step : rates.step;
  }
  return sum;
}

/// The slowest step first; with what the device's rates allow at best where they are known.
nlohmann::json to_json(const PlanView& plan, std::uint32_t shape_profile, const std::vector<double>& times, const DeviceRates* rates, bool cold) {
  const schema::Profile& profile = plan.profile(shape_profile);
  const double total = std::accumulate(times.begin(), times.end(), 0.0);
  std::vector<std::uint32_t> order(times.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&times](std::uint32_t a, std::uint32_t b) { return times[a] > times[b]; });
  cold = cold || (rates != nullptr && !fits_cache(plan, profile, *rates));
  nlohmann::json rows = nlohmann::json::array();
  for (const std::uint32_t i : order) {
    const schema::Step& step = *profile.lists()->Get(0)->steps()->Get(i);
    const StepText text = describe_step(plan, step);
    nlohmann::json row = {{"step", i},
                          {"us", times[i]},
                          {"share", total > 0 ? times[i] / total : 0.0},
                          {"operator", text.name},
                          {"attributes", text.attributes},
                          {"output", output_text(plan, shape_profile, step)},
                          {"nodes", text.nodes}};
    if (rates != nullptr) {
      const plan::LaunchWork work = plan::work_of(step);
      const double floor = rates->floor_us(work.bytes, work.multiply_adds, static_cast<DType>(step.compute()), cold);
      row["bytes"] = work.bytes;
      row["multiply_adds"] = work.multiply_adds;
      row["floor_us"] = floor;
      row["ratio"] = floor > 0 ? times[i] / floor : 0.0;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

nlohmann::json to_json(const DeviceRates& rates) {
  return {{"memory_gb_per_s", rates.memory * 1e-3},    {"cache_gb_per_s", rates.cache * 1e-3}, {"tensor_tera_multiply_adds_per_s", rates.tensor * 1e-6},
          {"f32_tera_multiply_adds_per_s", rates.scalar * 1e-6}, {"step_us", rates.step}, {"early_step_us", rates.early_step}, {"source", rates.source}};
}

double sum_of(const nlohmann::json& rows, const char* key) {
  double sum = 0;
  for (const nlohmann::json& row : rows) sum += row[key].get<double>();
  return sum;
}

void print_steps(const nlohmann::json& rows, const DeviceRates* rates, double launches) {
  std::printf("%5s %12s %8s  ", "step", "median us", "share");
  if (rates != nullptr) std::printf("%10s %7s  ", "floor us", "ratio");
  std::printf("%-14s %-22s %s\n", "operator", "output", "ONNX nodes");
  for (const nlohmann::json& row : rows) {
    std::printf("%5u %12.2f %6.2f %%  ", row["step"].get<unsigned>(), row["us"].get<double>(), 100 * row["share"].get<double>());
    if (rates != nullptr) std::printf("%10.2f %7.1f  ", row["floor_us"].get<double>(), row["ratio"].get<double>());
    std::printf("%-14s %-22s %s\n", row["operator"].get<std::string>().c_str(), row["output"].get<std::string>().c_str(),
                joined(row["nodes"].get<std::vector<std::string>>()).c_str());
  }
  if (rates == nullptr) return;
  std::printf("  all steps: %.1f us, floor %.1f us, and %.1f us for launches that do nothing. Reading %.0f GB/s from memory, %.0f from the cache; %.0f tera multiply-adds/s on tensor cores, %.1f in f32: %s\n",
              sum_of(rows, "us"), sum_of(rows, "floor_us"), launches, rates->memory * 1e-3, rates->cache * 1e-3, rates->tensor * 1e-6, rates->scalar * 1e-6,
              rates->source.c_str());
}

/// Runs, and compares every output with that of the first run. Returns the number of the first run that differs, 0 for none.
std::uint64_t first_different_run(PlanSession& session, std::uint64_t runs) {
  session.require(session.run(), "run");
  const io::Arrays first = session.outputs();
  for (std::uint64_t run = 2; run <= runs; ++run) {
    session.require(session.run(), "run");
    for (const auto& [name, array] : session.outputs()) {
      if (array.bytes != first.at(name).bytes) return run;
    }
  }
  return 0;
}

int check_bits(PlanSession& session, const Options& options) {
  const std::uint64_t runs = options.iterations != 0 ? options.iterations : 1000;
  const std::uint64_t different = first_different_run(session, runs);
  if (different != 0) {
    std::printf("run %llu of %llu gives other bits than the first\n", static_cast<unsigned long long>(different), static_cast<unsigned long long>(runs));
    return kComparisonFailed;
  }
  std::printf("%llu runs give the same bits\n", static_cast<unsigned long long>(runs));
  return kOk;
}

int bench(const Options& options) {
  if (options.threads < 1 || options.threads > 64) throw UsageError("--threads must be between 1 and 64");
  const LoadedPlan plan(options.plan);
  if (options.shape_profile >= plan.view().profile_count()) {
    throw UsageError("--shape-profile " + std::to_string(options.shape_profile) + ": the plan has " +
                     std::to_string(plan.view().profile_count()) + ", counted from 0");
  }
  const bool on_gpu = plan.view().is_cuda();
  if (!on_gpu && (options.multiprocessors != 0 || options.cold_l2)) throw UsageError("--multiprocessors and --cold-l2 are for plans for GPUs");
  const std::unique_ptr<PlanSession> opened =
      on_gpu ? std::make_unique<DeviceSession>(plan, options.multiprocessors) : open_session(plan, options.threads);
  PlanSession& session = *opened;
  if (options.inputs.empty()) {
    session.require(session.set_profile(options.shape_profile), "profile");
    session.set_random_inputs(1);
  } else {
    session.set_inputs(io::read_npz(options.inputs));
  }
  const std::uint32_t profile = session.profile();
  if (options.check_bits) return check_bits(session, options);
  auto* gpu = dynamic_cast<DeviceSession*>(&session);
  if (options.cold_l2 && gpu->has_host_steps()) throw UsageError("--cold-l2 needs a plan without CPU steps, which is one graph");
  const std::uint64_t device_allocations = gpu != nullptr ? gpu->device_allocations() : 0;
  const Samples samples = measure(session, options);
  std::optional<DeviceFigures> figures;
  if (gpu != nullptr && !gpu->has_host_steps()) {
    const std::uint64_t during = gpu->device_allocations() - device_allocations;
    figures = measure_device(*gpu, options, std::clamp<std::size_t>(samples.us.size(), 20, 1000));
    figures->allocations = during;
  }
  const std::vector<double> step_times = !options.profile ? std::vector<double>() : figures ? figures->steps : measure_steps(session, options);
  const DeviceRates* rates = figures ? &figures->rates : nullptr;
  const schema::Profile& table = plan.view().profile(profile);
  const std::string device = session.device_name();
  const auto arena = plan.view().profile(profile).arena_bytes();
  const double throughput = static_cast<double>(samples.us.size()) / samples.seconds;
  if (options.json) {
    nlohmann::json json;
    json["latency_us"] = spread(samples.us);
    if (figures) {
      json["gpu_latency_us"] = spread(figures->gpu);
      if (!figures->cold.empty()) json["gpu_latency_cold_us"] = spread(figures->cold);
      json["floor_us"] = floor_us(plan.view(), table, *rates, false);
      json["floor_cold_us"] = floor_us(plan.view(), table, *rates, true);
      json["floor_launches_us"] = launches_us(table, *rates);
      json["host_us"] = spread(figures->host.session);
      json["driver_host_us"] = spread(figures->host.driver);
      json["graph_nodes"] = figures->nodes;
      json["device_allocations_after_prepare"] = figures->allocations;
    }
    json["throughput_per_s"] = throughput;
    json["iterations"] = samples.us.size();
    json["arena_bytes"] = arena;
    json["arena_lower_bound"] = plan.view().profile(profile).arena_lower_bound();
    json["session_bytes"] = session.memory_bytes();
    json["plan_bytes"] = plan.view().bytes().size();
    json["allocations_after_prepare"] = samples.allocations ? nlohmann::json(samples.allocations->own) : nlohmann::json();
    json["library_allocations"] = samples.allocations ? nlohmann::json(samples.allocations->libraries) : nlohmann::json();
    json["threads"] = options.threads;
    json["shape_profile"] = profile;
    json["device"] = device;
    if (options.profile) json["steps"] = to_json(plan.view(), profile, step_times, rates, options.cold_l2);
    if (rates != nullptr) json["device_rates"] = to_json(*rates);
    std::printf("%s\n", json.dump(2).c_str());
    return kOk;
  }
  std::printf("%s on %s, %u thread%s, %zu runs\n", options.plan.c_str(), device.c_str(), options.threads,
              options.threads == 1 ? "" : "s", samples.us.size());
  std::printf("  latency     median %.1f us, p90 %.1f, p99 %.1f, min %.1f\n", samples.at(0.5), samples.at(0.9), samples.at(0.99),
              samples.us.front());
  if (figures) {
    std::printf("  on the GPU  median %.1f us, p99 %.1f, min %.1f, one graph of %zu nodes\n", quantile(figures->gpu, 0.5),
                quantile(figures->gpu, 0.99), figures->gpu.front(), figures->nodes);
    if (!figures->cold.empty()) {
      std::printf("  cold cache  median %.1f us, p99 %.1f, min %.1f\n", quantile(figures->cold, 0.5), quantile(figures->cold, 0.99), figures->cold.front());
    }
    std::printf("  on the host median %.2f us to queue a run; %.2f for the driver's call alone\n", quantile(figures->host.session, 0.5),
                quantile(figures->host.driver, 0.5));
  }
  std::printf("  throughput  %.1f /s\n", throughput);
  std::printf("  memory      plan %zu bytes, arena %llu, session in all %llu\n", plan.view().bytes().size(),
              static_cast<unsigned long long>(arena), static_cast<unsigned long long>(session.memory_bytes()));
  if (samples.allocations) {
    std::printf("  allocations after prepare: %llu", static_cast<unsigned long long>(samples.allocations->own));
    if (figures) {
      std::printf(" on the host, %llu on the device; the driver's own: %llu on the host", static_cast<unsigned long long>(figures->allocations),
                  static_cast<unsigned long long>(samples.allocations->libraries));
    }
    std::printf("\n");
  } else {
    std::printf("  allocations after prepare: not counted in this build\n");
  }
  if (options.profile) print_steps(to_json(plan.view(), profile, step_times, rates, options.cold_l2), rates, rates != nullptr ? launches_us(table, *rates) : 0.0);
  return kOk;
}

}  // namespace

void add_bench(CLI::App& program, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("bench", "Measure the latency of a plan");
  command->footer("Examples:\n  edgert bench net.plan\n  edgert bench net.plan --threads 2 --duration 10 --json\n  edgert bench net.plan --profile\n"
                  "  edgert bench net.plan --shape-profile 1\n  edgert bench net.plan --cold-l2 --multiprocessors 16\n"
                  "  edgert bench net.plan --check-bits --iterations 100000\n  edgert bench bert.plan --inputs in.npz");
  command->add_option("plan", options->plan, "Plan file")->required();
  command->add_option("--threads", options->threads, "Threads, the calling one included")->capture_default_str();
  CLI::Option* shape_profile =
      command->add_option("--shape-profile", options->shape_profile, "Which shape profile, counted from 0")->capture_default_str();
  command->add_option("--inputs", options->inputs, "Inputs by name, npz, whose shapes choose the profile; default: random ones")
      ->excludes(shape_profile);
  command->add_flag("--profile", options->profile, "Also the time of each step, in passes of their own; on a GPU what each step adds to the graph");
  command->add_option("--multiprocessors", options->multiprocessors, "On a GPU: confined to that many, as a smaller one would have")
      ->check(CLI::Range(1, 1024));
  command->add_flag("--cold-l2", options->cold_l2, "On a GPU: also with the L2 cache overwritten before each run; with --profile the steps so");
  command->add_flag("--check-bits", options->check_bits, "Instead of measuring: compare the outputs of every run with the first one's (--iterations, 1000)");
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
